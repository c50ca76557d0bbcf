"""Rules of every kind in migrations: what the SQL reads must be there, and nothing is left to do afterwards."""

from __future__ import annotations

import pytest

from tests.migration.conftest import Make
from tests.migration.project import OURS
from tests.migration.written import operations

MODELS = """
from django.contrib.contenttypes.fields import GenericForeignKey, GenericRelation
from django.contrib.contenttypes.models import ContentType
from tests.archive.aggregates import StringAgg
from django.db import models
from django.db.models import Avg, Count, F, Max, OuterRef, Q, Subquery, Sum, Value
from django.db.models.functions import Concat
from trigger_kit import Denormalize, Exists, First, Rows


BOOKS = Rows("books.Book").filter(author=OuterRef("pk")).order_by("-pages", "-pk")


class Tag(models.Model):
    name = models.CharField(max_length=20)
    num_pages = models.IntegerField(db_default=0, editable=False)

    class Meta:
        denormalizations = [Denormalize("num_pages", Sum("books__pages", default=0))]


class Author(models.Model):
    parent = models.ForeignKey("self", models.SET_NULL, null=True, related_name="children")
    name = models.CharField(max_length=20)
    tree_pages = models.IntegerField(db_default=0, editable=False)
    num_pages = models.IntegerField(db_default=0, editable=False)
    num_notes = models.IntegerField(db_default=0, editable=False)
    longest = models.IntegerField(null=True, editable=False)
    title = models.CharField(max_length=20, null=True, editable=False)
    book = models.ForeignKey("Book", models.SET_NULL, null=True, related_name="+", editable=False)
    has_tags = models.BooleanField(db_default=False, editable=False)
    notes = GenericRelation("Note", related_query_name="author")

    class Meta:
        denormalizations = [
            Denormalize("tree_pages", F("num_pages") + Sum("children__tree_pages", default=0)),
            Denormalize("num_pages", Sum("books__pages", default=0)),
            Denormalize("num_notes", Count("notes", filter=Q(notes__shown=True))),
            Denormalize("longest", Max("books__pages")),
            Denormalize("title", Subquery(BOOKS.values("title")[:1])),
            Denormalize("book", First("books", order_by="-books__pages")),
            Denormalize("has_tags", Exists("books__tags")),
        ]


class Book(models.Model):
    author = models.ForeignKey(Author, models.CASCADE, related_name="books")
    title = models.CharField(max_length=20)
    pages = models.IntegerField(default=0)
    tags = models.ManyToManyField(Tag, related_name="books")
    label = models.TextField(db_default="", editable=False)
    tag_names = models.TextField(null=True, editable=False)

    class Meta:
        denormalizations = [
            Denormalize("label", Concat("author__name", Value(": "), "title", output_field=models.TextField())),
            Denormalize("tag_names", StringAgg("tags__name", ", ", order_by="tags__name")),
        ]


class Note(models.Model):
    content_type = models.ForeignKey(ContentType, models.CASCADE)
    object_id = models.BigIntegerField(db_index=True)
    subject = GenericForeignKey()
    shown = models.BooleanField(default=True)
"""
ROWS = """
INSERT INTO books_tag (id, name) VALUES (1, 'x'), (2, 'y');
INSERT INTO books_author (id, name, parent_id) VALUES (1, 'a', NULL), (2, 'b', 1), (3, 'c', 2);
INSERT INTO books_book (id, author_id, title, pages) VALUES (1, 1, 'p', 10), (2, 3, 'q', 20), (3, 3, 'r', 40);
INSERT INTO books_book_tags (id, book_id, tag_id) VALUES (1, 1, 1), (2, 2, 1), (3, 2, 2);
INSERT INTO books_note (content_type_id, object_id, shown)
SELECT id, 3, true FROM django_content_type WHERE app_label = 'books' AND model = 'author';
"""
CHURN = """
UPDATE books_book SET author_id = 2, pages = 50 WHERE id = 3;
UPDATE books_tag SET name = 'z' WHERE id = 1;
DELETE FROM books_book_tags WHERE id = 3;
UPDATE books_author SET parent_id = NULL, name = 'cc' WHERE id = 3;
UPDATE books_note SET object_id = 1;
"""
INSTALLED = [*OURS, "django.contrib.contenttypes", "django.contrib.postgres"]
AUTHORS = "SELECT tree_pages, num_pages, num_notes, longest, title, book_id, has_tags FROM books_author ORDER BY id"


def without_rules(source: str) -> str:
    """Return the models with their columns, but no rules."""
    lines, inside = [], False
    for line in source.splitlines():
        inside = line == "    class Meta:" or (inside and (line.startswith("        ") or not line))
        if not inside:
            lines.append(line)
    return "\n".join(lines) + "\n"


@pytest.fixture
def installed() -> list[str]:
    return list(dict.fromkeys(INSTALLED))


def test_rules_of_every_kind_start_with_their_tables(make: Make, installed: list[str]) -> None:
    project = make(books=MODELS, rows=ROWS, installed=installed)
    project.assert_settled()
    assert project.sql(AUTHORS) == [
        (70, 10, 0, 10, "p", 1, True),
        (60, 0, 0, None, None, None, False),
        (60, 60, 1, 40, "r", 3, True),
    ]
    project.sql(CHURN)
    project.assert_in_sync()


def test_rules_of_every_kind_come_to_tables_with_rows(make: Make, scratch: Make, installed: list[str]) -> None:
    project = make(books=without_rules(MODELS), rows=ROWS, installed=installed)
    project.deploy(books=MODELS)
    names = operations(project.last("books"))
    assert {name.split()[0] for name in names} == {"AddRule"}
    project.sql(CHURN)
    project.assert_in_sync()
    project.assert_like(scratch(books=MODELS, installed=installed))


def test_rules_of_every_kind_go_and_come_back(make: Make, installed: list[str]) -> None:
    project = make(books=MODELS, rows=ROWS, installed=installed)
    project.deploy(books=without_rules(MODELS))
    assert project.objects() == {"functions": [], "triggers": []}
    project.sql(CHURN)
    project.manage("migrate books 0001" if len(project.files()) == 2 else f"migrate books {project.files()[-2].stem}")
    project.assert_in_sync()


# Django's serializer writes keyword arguments in an order of its own.
KEYWORDS = """
from django.contrib.postgres.aggregates import ArrayAgg
from tests.archive.aggregates import StringAgg
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Avg, Count, F, Q, Sum, Value
from trigger_kit import Denormalize, First


class Author(models.Model):
    names = ArrayField(models.TextField(), null=True, editable=False)
    text = models.TextField(null=True, editable=False)
    label = models.TextField(db_default="", editable=False)
    number = models.IntegerField(null=True, editable=False)
    total = models.IntegerField(db_default=0, editable=False)
    mean = models.FloatField(null=True, editable=False)

    class Meta:
        denormalizations = [
            Denormalize("names", ArrayAgg("books__title", order_by="books__title", filter=Q(books__pages=1), distinct=True)),
            Denormalize("text", StringAgg("books__title", ",", order_by="books__title", distinct=True)),
            Denormalize(
                "label",
                StringAgg("books__title", delimiter=",", order_by="books__id", filter=Q(books__pages__gt=1), default=Value("-")),
            ),
            Denormalize("number", First("books__pages", order_by=F("books__title").desc(nulls_last=True), filter=Q(books__pages=1))),
            Denormalize("total", Sum("books__pages", output_field=models.IntegerField(), default=0, filter=Q(books__pages=1))),
            Denormalize("mean", Avg("books__pages", output_field=models.FloatField(), filter=Q(books__pages=1), distinct=True)),
        ]


class Book(models.Model):
    author = models.ForeignKey(Author, models.CASCADE, related_name="books")
    title = models.CharField(max_length=20)
    pages = models.IntegerField(default=0)
"""


def test_the_order_of_keyword_arguments_is_no_change(make: Make, installed: list[str]) -> None:
    project = make(books=KEYWORDS, rows="INSERT INTO books_author (id) VALUES (1)", installed=installed)
    project.assert_settled()
    project.sql("INSERT INTO books_book (author_id, title, pages) VALUES (1, 'b', 1), (1, 'a', 2), (1, 'b', 3)")
    assert project.sql("SELECT names, text, label, number, total, mean FROM books_author") == [
        (["b"], "a,b", "a,b", 1, 1, 1.0)
    ]
    project.assert_in_sync()
