"""A rule whose text stays, though what it means changes: its field is filled again, and not without need."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.migration.conftest import Make
from tests.migration.project import OURS, Project

INSTALLED = [*OURS, "django.contrib.contenttypes", "django.contrib.postgres"]
HEADER = """
from django.contrib.contenttypes.fields import GenericForeignKey, GenericRelation
from django.contrib.contenttypes.models import ContentType
from tests.archive.aggregates import StringAgg
from django.db import models
from django.db.models import Avg, Count, F, Q, Sum
from django.db.models.functions import Cast, Upper
from trigger_kit import Denormalize
"""
AUTHOR = """
class Author(models.Model):
    name = models.CharField(max_length=20, default="")
    kept = models.IntegerField({options}, editable=False)

    class Meta:
        denormalizations = [Denormalize("kept", {rule})]
"""
BOOK = """
class Book(models.Model):
    author = models.ForeignKey("Author", models.CASCADE, related_name="books")
    editor = models.ForeignKey("Author", models.CASCADE, null=True, related_name="edited")
    pages = models.DecimalField(max_digits=9, decimal_places=2, default=0)
    at = models.DateTimeField(null=True)
"""
NOTE = """
class Note(models.Model):
    content_type = models.ForeignKey(ContentType, models.CASCADE, related_name="+")
    object_id = models.BigIntegerField(db_index=True)
    other_type = models.ForeignKey(ContentType, models.CASCADE, null=True, related_name="+")
    other_id = models.BigIntegerField(null=True, db_index=True)
"""
AUTHORS = "INSERT INTO books_author (id, name) VALUES (1, 'a'), (2, 'b');"
BOOKS = (
    AUTHORS
    + """
INSERT INTO books_book (id, author_id, editor_id, pages, at) VALUES
    (1, 1, 2, 1.40, '2025-01-01 08:00+00'), (2, 1, 2, 2.40, '2025-01-01 14:00+00'), (3, 2, 1, 3.50, '2025-01-01 15:00+00');
"""
)
VALUES = "SELECT kept FROM books_author ORDER BY id"


def library(rule: str, *more: str, options: str = "null=True") -> str:
    return HEADER + AUTHOR.format(rule=rule, options=options) + "".join(more or [BOOK])


@dataclass(frozen=True)
class Change:
    """Models, what to replace in them (``|`` where a line goes), rows, and the values before and after."""

    before: str
    rows: str
    replace: tuple[tuple[str, str], ...]
    values: str
    stored: list[object]
    filled: list[object]
    written: str = "BackfillRule author.kept"

    @property
    def after(self) -> str:
        source = self.before
        for old, new in self.replace:
            assert old in source
            source = source.replace(old, new)
        return source


COUNT = library('Count("books")')
GENERIC = "generic relation by other fields"
TEXTS = 'StringAgg(Cast("books__pages", models.TextField()), ",", order_by="books__id")'
CHANGES = {
    "related names change places": Change(
        COUNT, BOOKS, (('"books"', '"x"'), ('"edited"', '"books"'), ('="x"', '="edited"'), ('Count("x")', 'Count("books")')),
        VALUES, [2, 1], [1, 2], "AlterRule author.kept",
    ),
    "foreign key to another model": Change(
        library('Count("books")', "\nclass Poet(models.Model):\n    name = models.TextField()\n    kept = models.IntegerField(null=True, editable=False)\n", BOOK)
        + "\nclass Copy(models.Model):\n    person = models.ForeignKey(Author, models.CASCADE)\n    kept_name = models.TextField(null=True, editable=False)\n\n"
        '    class Meta:\n        denormalizations = [Denormalize("kept_name", F("person__name"))]\n',
        AUTHORS + "INSERT INTO books_poet (id, name) VALUES (1, 'x'), (2, 'y'); INSERT INTO books_copy (person_id) VALUES (1), (2)",
        (("ForeignKey(Author, ", "ForeignKey(Poet, "),),
        "SELECT kept_name FROM books_copy ORDER BY id", ["a", "b"], ["x", "y"], "BackfillRule copy.kept_name",
    ),
    "foreign key becomes many-to-many": Change(
        COUNT, BOOKS, (('models.ForeignKey("Author", models.CASCADE, related_name="books")', 'models.ManyToManyField("Author", related_name="books")'),),
        VALUES, [2, 1], [0, 0],
    ),
    "foreign key becomes many-to-many of another name": Change(
        COUNT, BOOKS, (('author = models.ForeignKey("Author", models.CASCADE, related_name="books")', 'authors = models.ManyToManyField("Author", related_name="books")'),),
        VALUES, [2, 1], [0, 0],
    ),
    "many-to-many gets a through model": Change(
        library('Count("books")', '\nclass Book(models.Model):\n    authors = models.ManyToManyField("Author", related_name="books")\n'),
        AUTHORS + "INSERT INTO books_book (id) VALUES (1); INSERT INTO books_book_authors (book_id, author_id) VALUES (1, 1), (1, 2)",
        (
            ("    authors = ", "    writers = "),
            ('related_name="books")\n', 'related_name="books", through="Credit")\n\n\nclass Credit(models.Model):\n    book = models.ForeignKey(Book, models.CASCADE)\n    author = models.ForeignKey(Author, models.CASCADE)\n'),
        ),
        VALUES, [1, 1], [0, 0],
    ),
    GENERIC: Change(
        library('Count("notes")', NOTE).replace("    kept =", '    notes = GenericRelation("Note")\n    kept ='),
        AUTHORS + "INSERT INTO books_note (content_type_id, object_id, other_type_id, other_id) "
        "SELECT id, 1, id, 2 FROM django_content_type WHERE app_label = 'books' AND model = 'author'",
        (('GenericRelation("Note")', 'GenericRelation("Note", content_type_field="other_type", object_id_field="other_id")'),),
        VALUES, [1, 0], [0, 1], "AlterRule author.kept",
    ),
    "type of a source": Change(
        library('Sum("books__pages")').replace("kept = models.IntegerField(", "kept = models.DecimalField(max_digits=9, decimal_places=2, "),
        BOOKS, (("pages = models.DecimalField(max_digits=9, decimal_places=2, ", "pages = models.IntegerField("),),
        "SELECT kept::float FROM books_author ORDER BY id", [3.8, 3.5], [3, 4],
    ),
    "scale of a source in a text": Change(
        library(TEXTS).replace("kept = models.IntegerField(", "kept = models.TextField("),
        BOOKS, (("pages = models.DecimalField(max_digits=9, decimal_places=2", "pages = models.DecimalField(max_digits=9, decimal_places=4"),),
        VALUES, ["1.40,2.40", "3.50"], ["1.4000,2.4000", "3.5000"],
    ),
    "scale of an average": Change(
        library('Avg("books__pages")').replace("kept = models.IntegerField(", "kept = models.DecimalField(max_digits=9, decimal_places=1, "),
        BOOKS + "UPDATE books_book SET pages = pages + 0.13 WHERE id = 1",
        (("kept = models.DecimalField(max_digits=9, decimal_places=1", "kept = models.DecimalField(max_digits=9, decimal_places=3"),),
        "SELECT kept::float FROM books_author ORDER BY id", [2.0, 3.5], [1.965, 3.5],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", [name for name in CHANGES if name != GENERIC])
def test_an_unchanged_rule_is_filled_again(inplace: Make, name: str) -> None:
    assert_filled_again(inplace(books=CHANGES[name].before, rows=CHANGES[name].rows), CHANGES[name])


def test_a_rule_over_generic_relations_is_filled_again(make: Make) -> None:
    assert_filled_again(
        make(books=CHANGES[GENERIC].before, rows=CHANGES[GENERIC].rows, installed=INSTALLED), CHANGES[GENERIC]
    )


def assert_filled_again(project: Project, change: Change) -> None:
    assert [value for (value,) in project.sql(change.values)] == change.stored
    written = project.deploy(books=change.after)["books"]
    assert change.written in written
    assert [value for (value,) in project.sql(change.values)] == change.filled


HOURS = library('Count("books", filter=Q(books__at__hour__lt=12))')
PLACE = "\nclass Place(models.Model):\n    kept = models.IntegerField(null=True, editable=False)\n"
ELSEWHERE = 'TIME_ZONE = "Pacific/Kiritimati"\n'


def test_a_changed_time_zone_is_no_migration_and_fills_what_reads_parts_of_times(make: Make) -> None:
    """The migration says ``time_zone=settings.TIME_ZONE``: what changes with the setting is up to the next migrate."""
    project = make(books=HOURS + PLACE, rows=BOOKS, installed=INSTALLED)
    assert "time_zone=settings.TIME_ZONE" in project.last("books").read_text()
    assert project.sql(VALUES) == [(2,), (1,)]
    project.write_settings(extra=ELSEWHERE)
    assert project.makemigrations() == {}
    assert project.statuses() == {"books.Author:kept": "outdated"}
    assert "books.Author:kept" in project.manage("check --database default").stderr
    assert "Triggers of books.Author brought over" in project.manage("migrate").stdout
    assert project.sql(VALUES) == [(1,), (1,)]
    project.assert_settled()
    assert "trigger_kit" not in project.manage("check --database default").stderr
    assert "Triggers" not in project.manage("migrate").stdout


def test_a_fresh_database_of_another_time_zone(inplace: Make, anew: Make) -> None:
    """Old migrations mean the setting of now, at every step."""
    project = inplace(books=HOURS)
    project.write_settings(extra=ELSEWHERE)
    project.empty()
    project.manage("migrate")
    project.sql(BOOKS)
    assert project.sql(VALUES) == [(1,), (1,)]
    project.assert_settled()


def test_a_changed_time_zone_means_nothing_to_other_rules(inplace: Make) -> None:
    project = inplace(books=COUNT, rows=BOOKS)
    assert "time_zone" not in project.last("books").read_text()
    before = project.objects()
    project.write_settings(extra=ELSEWHERE)
    assert project.makemigrations() == {}
    assert project.manage("migrate").stdout == ""
    assert project.objects() == before


def test_related_names_change_places_and_a_rule_goes_along(inplace: Make) -> None:
    """Halfway both relations have one name: only AlterRule says which of them is meant."""
    change = CHANGES["related names change places"]
    project = inplace(books=change.before, rows=change.rows)
    after = change.after.replace('Count("books")', 'Count("edited")')
    written = project.makemigrations(books=after)["books"]
    assert written == ["AlterField book.author", "AlterField book.editor", "AlterRule author.kept"]
    project.manage("migrate")
    assert [value for (value,) in project.sql(change.values)] == change.stored
    project.sql("DELETE FROM books_book WHERE id = 1")
    project.assert_settled()
    project.manage("migrate books 0001")
    project.write_models(books=change.before)
    project.assert_in_sync()


def test_related_names_that_change_places_alone_lose_the_rule(inplace: Make) -> None:
    change = CHANGES["related names change places"]
    project = inplace(books=change.before, rows=change.rows)
    before = project.objects()
    project.makemigrations(books=change.after)
    text = project.last("books").read_text()
    start = text.index("        trigger_kit.migration.operations.AlterRule")
    project.last("books").write_text(text[:start] + "    ]\n")
    printed = project.manage("migrate", code=1).stderr
    assert "books.Author:kept: two relations have had one name on its path" in printed
    assert "AlterRule" in printed
    assert project.objects() == before


# What does not change the meaning -----------------------------------------------------------------------------------

SUM = library('Sum("books__pages")', options="null=True").replace(
    "kept = models.IntegerField(", "kept = models.DecimalField(max_digits=9, decimal_places=2, "
)
NEEDLESS = {
    "renamed source column": ((("pages = ", "length = "), ('"books__pages"', '"books__length"')), 'migrations.RenameField("book", "pages", "length")'),
    "renamed foreign key": ((("    author = ", "    writer = "),), 'migrations.RenameField("book", "author", "writer")'),
    "renamed target": ((("    kept = ", "    total = "), ('"kept"', '"total"')), 'migrations.RenameField("author", "kept", "total")'),
    "renamed source model": ((("class Book(", "class Work("),), 'migrations.RenameModel("Book", "Work")'),
    "renamed target model": ((("class Author(", "class Writer("), ('"Author"', '"Writer"')), 'migrations.RenameModel("Author", "Writer")'),
}  # fmt: skip


# A value that is wrong: a fill would put it right.
DRIFT = (
    "BEGIN; SELECT set_config('trigger_kit.depth', '0', true); UPDATE books_author SET kept = 7 WHERE id = 2; COMMIT"
)


@pytest.mark.parametrize("asks", [True, False], ids=["asked about", "by hand"])
@pytest.mark.parametrize("name", NEEDLESS)
def test_a_renamed_thing_is_not_filled_again(inplace: Make, name: str, asks: bool) -> None:
    replaced, operation = NEEDLESS[name]
    after = SUM
    for old, new in replaced:
        assert old in after
        after = after.replace(old, new)
    project = inplace(books=SUM, rows=BOOKS)
    if not asks:
        project.write_migration("books", "0002_rename", project.last("books").stem, operation)
    target = after.partition("class ")[2].partition("(")[0].lower(), "total" if name == "renamed target" else "kept"
    project.sql(DRIFT)
    written = project.makemigrations(answers="y\ny\n" if asks else "", books=after).get("books", [])
    assert not [operation for operation in written if "Rule" in operation]
    project.manage("migrate")
    assert project.value("SELECT {1} FROM books_{0} WHERE id = 2".format(*target)) == 7
    project.manage("trigger_kit repair")
    project.assert_settled()


LEFT_ALONE = {
    "name of a source column": ("pages = models.DecimalField(", 'pages = models.DecimalField(verbose_name="length", '),
    "name of the target": ("kept = models.DecimalField(", 'kept = models.DecimalField(verbose_name="total", '),
    "default of a source column": ("decimal_places=2, default=0", "decimal_places=2, default=7"),
    "null in a source column": ("decimal_places=2, default=0", "decimal_places=2, default=0, null=True"),
    "type of another column": ("name = models.CharField(max_length=20", "name = models.CharField(max_length=30"),
    "another column": ("    at = ", "    seen = models.BooleanField(default=False)\n    at = "),
    "on_delete": ("models.CASCADE, related", "models.PROTECT, related"),
}


@pytest.mark.parametrize("name", LEFT_ALONE)
def test_an_unrelated_alteration_fills_nothing(inplace: Make, name: str) -> None:
    old, new = LEFT_ALONE[name]
    assert old in SUM
    project = inplace(books=SUM, rows=BOOKS)
    project.sql(DRIFT)
    written = project.makemigrations(books=SUM.replace(old, new))["books"]
    assert not [operation for operation in written if "Rule" in operation]
    project.manage("migrate")
    assert project.value("SELECT kept FROM books_author WHERE id = 2") == 7
    project.manage("trigger_kit repair")
    project.assert_settled()


def test_a_rule_elsewhere_on_the_model_is_filled_alone(inplace: Make) -> None:
    """The one that stays, and one whose meaning changes with a column's type, beside a new one."""
    label = 'Denormalize("label", Upper("name"))'
    before = SUM.replace("    kept =", "    label = models.TextField(db_default='', editable=False)\n    kept =")
    project = inplace(books=before, rows=BOOKS)
    after = before.replace("denormalizations = [", f"denormalizations = [{label}, ")
    assert project.deploy(books=after) == {"books": ["AddRule author.label"]}
    changed = after.replace(
        "pages = models.DecimalField(max_digits=9, decimal_places=2, ", "pages = models.IntegerField("
    )
    written = project.deploy(books=changed)["books"]
    assert [name for name in written if name.startswith("BackfillRule")] == ["BackfillRule author.kept"]
