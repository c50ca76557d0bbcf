"""Rules that come to tables which have rows."""

from __future__ import annotations

from tests.migration.conftest import Make
from tests.migration.library import CHURN, NUM_BOOKS, NUM_PUBLISHED, PAGES_TOTAL, ROWS, Kept, library
from tests.migration.written import operations


def test_fields_and_rules_come_in_one_migration_and_are_filled(inplace: Make, anew: Make) -> None:
    project = inplace(books=library(), rows=ROWS)
    models = library(NUM_BOOKS, PAGES_TOTAL)
    assert project.deploy(books=models) == {
        "books": [
            "AddField author.num_books",
            "AddField author.pages_total",
            "AddRule author.num_books",
            "AddRule author.pages_total",
        ]
    }
    assert project.sql("SELECT num_books, pages_total FROM books_author ORDER BY id") == [(3, 70), (1, 80), (0, 0)]
    project.sql(CHURN)
    assert project.sql("SELECT num_books, pages_total FROM books_author ORDER BY id") == [(2, 31), (2, 200), (0, 0)]
    project.assert_like(anew(books=models))


def test_field_and_rule_come_in_two_migrations(inplace: Make, anew: Make) -> None:
    project = inplace(books=library(), rows=ROWS)
    assert project.deploy(books=library(NUM_BOOKS.without_rule)) == {"books": ["AddField author.num_books"]}
    project.sql("UPDATE books_author SET num_books = 99")
    models = library(NUM_BOOKS)
    written = project.deploy(books=models)
    assert written == {"books": ["AddRule author.num_books"]}
    assert project.sql("SELECT num_books FROM books_author ORDER BY id") == [(3,), (1,), (0,)]
    project.assert_like(anew(books=models))


def test_both_migrations_run_at_once(inplace: Make, anew: Make) -> None:
    project = inplace(books=library(), rows=ROWS)
    project.makemigrations(books=library(NUM_BOOKS.without_rule))
    project.makemigrations(books=library(NUM_BOOKS))
    project.manage("migrate")
    project.assert_settled()
    project.assert_like(anew(books=library(NUM_BOOKS)))


def test_a_rule_beside_others_fills_its_own_field_only(inplace: Make, anew: Make) -> None:
    project = inplace(books=library(NUM_BOOKS), rows=ROWS)
    first = project.last("books").read_text()
    models = library(NUM_BOOKS, NUM_PUBLISHED)
    assert project.deploy(books=models) == {"books": ["AddField author.num_published", "AddRule author.num_published"]}
    assert project.sql("SELECT num_books, num_published FROM books_author ORDER BY id") == [(3, 2), (1, 0), (0, 0)]
    assert project.files()[0].read_text() == first
    project.sql(CHURN)
    project.assert_in_sync()
    project.assert_like(anew(books=models))


def test_a_rule_and_its_source_model_come_together(inplace: Make, anew: Make) -> None:
    project = inplace(books=library(book=""), rows="INSERT INTO books_author (id, name) VALUES (1, 'a')")
    models = library(NUM_BOOKS)
    assert project.deploy(books=models) == {
        "books": [
            "AddField author.num_books",
            "CreateModel Book",
            "AddRule author.num_books",
        ]
    }
    project.sql("INSERT INTO books_book (id, author_id, pages, published) VALUES (1, 1, 1, true)")
    assert project.value("SELECT num_books FROM books_author") == 1
    project.assert_like(anew(books=models))


def test_the_column_that_a_filter_reads_comes_together_with_its_rule(inplace: Make, anew: Make) -> None:
    project = inplace(books=library(NUM_BOOKS), rows=ROWS)
    book = """
class Book(models.Model):
    author = models.ForeignKey("Author", models.CASCADE, related_name="books")
    pages = models.IntegerField(default=0)
    published = models.BooleanField(default=False)
    lent = models.BooleanField(default=True, db_default=True)
"""
    lent = Kept(
        "num_lent = models.IntegerField(default=0, editable=False)",
        'Denormalize("num_lent", Count("books", filter=Q(books__lent=True)))',
    )
    models = library(NUM_BOOKS, lent, book=book)
    written = project.deploy(books=models)["books"]
    assert written.index("AddField book.lent") < written.index("AddRule author.num_lent")
    assert project.sql("SELECT num_lent FROM books_author ORDER BY id") == [(3,), (1,), (0,)]
    project.assert_like(anew(books=models))


def test_rules_that_build_on_rules_are_filled_bottom_up(inplace: Make, anew: Make) -> None:
    publisher = """
class Publisher(models.Model):
    {fields}
    class Meta:
        denormalizations = [{rules}]
"""
    author = Kept("publisher = models.ForeignKey(Publisher, models.CASCADE, null=True, related_name='authors')")
    before = publisher.format(fields="name = models.CharField(max_length=9)", rules="")
    total = "num_books = models.IntegerField(default=0, editable=False)"
    after = publisher.format(
        fields=f"name = models.CharField(max_length=9)\n    {total}",
        rules='Denormalize("num_books", Sum("authors__num_books", default=0))',
    )
    header = library(book="").partition("\nclass ")[0]
    rows = (
        "INSERT INTO books_publisher VALUES (1, 'p');" + ROWS + "UPDATE books_author SET publisher_id = 1 WHERE id < 3"
    )
    project = inplace(books=library(author, header=header + before), rows=rows)
    models = library(author, NUM_BOOKS, header=header + after)
    written = project.deploy(books=models)["books"]
    assert "AddRule publisher.num_books" in written
    assert project.value("SELECT num_books FROM books_publisher") == 4
    project.sql(CHURN)
    assert project.value("SELECT num_books FROM books_publisher") == 4
    project.sql("UPDATE books_author SET publisher_id = NULL WHERE id = 2")
    assert project.value("SELECT num_books FROM books_publisher") == 2
    project.assert_in_sync()
    project.assert_like(anew(books=models))


INHERITED = """
from django.db import models
from django.db.models import Count
from trigger_kit import Denormalize


class Counted(models.Model):
    num_books = models.IntegerField(default=0, editable=False)

    class Meta:
        abstract = True
        denormalizations = [Denormalize("num_books", Count("books"))]


class Author(Counted):
    name = models.CharField(max_length=50)


class Poet(Author):
    metre = models.CharField(max_length=50)


class Book(models.Model):
    author = models.ForeignKey(Author, models.CASCADE, related_name="books")
"""


def test_the_rule_of_an_abstract_model_is_kept_once_by_the_table_that_has_the_column(inplace: Make) -> None:
    rows = (
        "INSERT INTO books_author (id, name, num_books) VALUES (1, 'a', 0); INSERT INTO books_poet VALUES (1, 'iamb')"
    )
    project = inplace(books=INHERITED, rows=rows)
    written = [name for file in project.files() for name in operations(file)]
    assert [name for name in written if "Rule" in name] == ["AddRule author.num_books"]
    assert project.statuses() == {"books.Author:num_books": "installed"}
    project.sql("INSERT INTO books_book (author_id) VALUES (1)")
    assert project.value("SELECT num_books FROM books_author") == 1
    project.assert_settled()


ORDERED = """
import datetime
from zoneinfo import ZoneInfo
from django.db import models
from django.db.models import Count, F, Q, Value
from django.db.models.functions import JSONObject
from trigger_kit import Denormalize, First


class Kind(models.TextChoices):
    NOVEL = "n"
    POEM = "p"


class Author(models.Model):
    name = models.CharField(max_length=50)
    first = models.CharField(max_length=50, editable=False)
    label = models.JSONField(null=True, editable=False)
    num_poems = models.IntegerField(default=0, editable=False)
    num_new = models.IntegerField(default=0, editable=False)

    class Meta:
        denormalizations = [
            Denormalize("first", First("books__kind", order_by=["books__id"], default=Kind.NOVEL)),
            Denormalize("label", JSONObject(name=F("name"), kind=Value(Kind.POEM), also=F("id"))),
            Denormalize("num_poems", Count("books", filter=Q(books__kind=Kind.POEM) | Q(books__kind__in=["x", Kind.POEM]))),
            Denormalize("num_new", Count("books", filter=Q(books__at__gt=datetime.datetime(2025, 1, 1, tzinfo=ZoneInfo("Asia/Tokyo"))))),
        ]


class Book(models.Model):
    author = models.ForeignKey(Author, models.CASCADE, related_name="books")
    kind = models.CharField(max_length=1, choices=Kind)
    at = models.DateTimeField(null=True)
"""  # fmt: skip


def test_what_a_migration_writes_otherwise_than_models_do_is_one_text(inplace: Make) -> None:
    """Keyword arguments in another order, choices, times of another zone: installed is what models compile to."""
    project = inplace(books=ORDERED)
    project.assert_settled()
    project.sql(
        "INSERT INTO books_author (id, name, first, num_poems, num_new) VALUES (1, 'a', '', 0, 0);"
        "INSERT INTO books_book (id, author_id, kind, at) VALUES (1, 1, 'p', '2024-12-31 15:00+00'), (2, 1, 'n', now())"
    )
    assert project.sql("SELECT first, num_poems, num_new FROM books_author") == [("p", 1, 1)]
    project.assert_in_sync()
