"""A project with every way of keeping a value at once, some of it pending, for what happens to a whole database."""

from __future__ import annotations

__all__ = ["CHURN", "MODELS", "RULES", "TABLES_OF_OURS"]

MODELS = """
from django.db import models
from django.db.models import Count, F, Max, Sum
from trigger_kit import Denormalize, First, Timing


class Publisher(models.Model):
    name = models.CharField(max_length=50)
    num_authors = models.IntegerField(default=0, editable=False)
    num_books = models.IntegerField(default=0, editable=False)

    class Meta:
        denormalizations = [
            Denormalize("num_authors", Count("authors"), timing=Timing.DEFERRED),
            Denormalize("num_books", Sum("authors__num_books", default=0)),
        ]


class Author(models.Model):
    publisher = models.ForeignKey(Publisher, models.CASCADE, related_name="authors", null=True)
    name = models.CharField(max_length=50)
    num_books = models.IntegerField(default=0, editable=False)
    most_pages = models.IntegerField(null=True, editable=False)
    first_title = models.CharField(max_length=50, default="", editable=False)
    num_sales = models.IntegerField(default=0, editable=False)

    class Meta:
        denormalizations = [
            Denormalize("num_books", Count("books")),
            Denormalize("most_pages", Max("books__pages")),
            Denormalize("first_title", First("books__title", order_by=["books__id"], default="")),
            Denormalize("num_sales", Sum("sales__copies", default=0), timing=Timing.QUEUED),
        ]


class Book(models.Model):
    author = models.ForeignKey(Author, models.CASCADE, related_name="books")
    title = models.CharField(max_length=50)
    pages = models.IntegerField(default=0)
    author_name = models.CharField(max_length=50, default="", editable=False)

    class Meta:
        denormalizations = [Denormalize("author_name", F("author__name"))]


class Sale(models.Model):
    author = models.ForeignKey(Author, models.CASCADE, related_name="sales")
    copies = models.IntegerField()


class Folder(models.Model):
    parent = models.ForeignKey("self", models.CASCADE, related_name="children", null=True)
    own = models.IntegerField()
    total = models.IntegerField(default=0, editable=False)

    class Meta:
        denormalizations = [Denormalize("total", F("own") + Sum("children__total", default=0))]
"""

# What is pending for authors is folded once, then more comes.
ROWS = """
INSERT INTO shop_publisher (id, name) VALUES (1, 'North'), (2, 'South'), (3, 'Nobody');
INSERT INTO shop_author (id, publisher_id, name) SELECT n, n % 2 + 1, 'Author ' || n FROM generate_series(1, 20) AS n;
INSERT INTO shop_book (author_id, title, pages) SELECT n % 19 + 1, 'Title ' || n, n FROM generate_series(1, 200) AS n;
INSERT INTO shop_sale (author_id, copies) SELECT n % 20 + 1, n FROM generate_series(1, 100) AS n;
SELECT tk_flush_shop_author();
INSERT INTO shop_sale (author_id, copies) SELECT n % 5 + 1, 10 * n FROM generate_series(1, 10) AS n;
-- The root has the highest number, so that in any order of rows a child comes before its parent.
INSERT INTO shop_folder (id, parent_id, own) SELECT n, CASE WHEN n < 30 THEN (n + 31) / 2 END, n
FROM generate_series(30, 1, -1) AS n;
SELECT setval('shop_publisher_id_seq', 100), setval('shop_author_id_seq', 100), setval('shop_folder_id_seq', 100);
"""

# Rows come, move, change and go at every level.
CHURN = """
INSERT INTO shop_author (publisher_id, name) VALUES (1, 'New'), (NULL, 'Free');
INSERT INTO shop_book (author_id, title, pages) SELECT max(id), 'New', 999 FROM shop_author;
UPDATE shop_book SET author_id = 3 WHERE id % 7 = 0;
DELETE FROM shop_book WHERE id % 5 = 0;
UPDATE shop_author SET name = name || '!', publisher_id = 2 WHERE id < 5;
INSERT INTO shop_sale (author_id, copies) VALUES (1, 1), (2, 2);
DELETE FROM shop_sale WHERE copies > 90;
UPDATE shop_folder SET parent_id = 1 WHERE id = 2;
"""

RULES = 8
TABLES_OF_OURS = (
    "tk_commit",
    "tk_deferred_shop_publisher",
    "tk_pending_shop_author",
    "tk_state",
    "tk_touched",
    "tk_waiting",
)
