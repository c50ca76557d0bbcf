"""Migrations of another app that change what a rule reads: the graph must say which of the two comes first."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.migration.conftest import Make
from tests.migration.library import HEADER, NUM_PUBLISHED, ROWS, model
from tests.migration.project import Project

BOOK = """
class Book(models.Model):
    author = models.ForeignKey("people.Author", models.CASCADE, related_name="books")
    pages = models.IntegerField(default=0)
    published = models.BooleanField(default=False)
"""
# Author is in people, whose rule reads books.
PEOPLE = HEADER + model("Author", NUM_PUBLISHED)
BOOKS = HEADER + BOOK
PEOPLE_ROWS = ROWS.replace("books_author", "people_author")
VALUES = "SELECT num_published FROM people_author ORDER BY id"

CHANGES = {
    "rename": (
        'migrations.RenameField("book", "published", "public")',
        ("published = ", "public = "),
        ("books__published", "books__public"),
    ),
    "retype": (
        'migrations.AlterField("book", "published", models.IntegerField(default=0))',
        ("BooleanField(default=False)", "IntegerField(default=0)"),
        ("books__published=True", "books__published=1"),
    ),
}
ROWS_AFTERWARDS = {
    "rename": PEOPLE_ROWS.replace("published)", "public)"),
    "retype": PEOPLE_ROWS.replace("true", "1").replace("false", "0"),
}
HARMLESS = {
    "longer": 'migrations.AlterField("book", "published", models.BooleanField(default=True, help_text="Read it."))',
    "another column": 'migrations.AlterField("book", "pages", models.BigIntegerField(default=0))',
    "a table": 'migrations.AlterModelTable("book", "volumes")',
}


def unordered(
    make: Make, operation: str, book: tuple[str, str] = ("", ""), rule: tuple[str, str] = ("", "")
) -> Project:
    """Return a project with a rule of people over books, and then a migration of books that nothing orders."""
    project = make(people=PEOPLE, books=BOOKS, rows=PEOPLE_ROWS)
    project.write_migration("books", "0099_change", project.last("books").stem, operation)
    project.write_models(
        people=PEOPLE.replace(*rule) if rule[0] else PEOPLE, books=BOOKS.replace(*book) if book[0] else BOOKS
    )
    return project


def holder(project: Project) -> Path:
    """Return the migration that holds the rule."""
    return next(file for file in project.files() if "AddRule" in file.read_text())


@pytest.mark.parametrize("name", CHANGES)
def test_e035_a_change_without_an_order_is_refused_and_the_line_that_it_prints_mends_it(make: Make, name: str) -> None:
    project = unordered(make, *CHANGES[name])
    before = [file for file in project.files() if file.parents[1].name == "books"][-2].stem
    outcome = project.manage("check", code=1)
    assert "(trigger_kit.E035) people." in outcome.stderr
    line = 'run_before = [("books", "0099_change")]'
    assert f"HINT: Add to the migration people.{holder(project).stem}: {line}, or to books." in outcome.stderr
    assert "(trigger_kit.E035)" in project.manage("makemigrations", code=1).stderr
    file = holder(project)
    project.close()
    file.write_text(file.read_text().replace("    operations = [", f"    {line}\n\n    operations = ["))
    project.manage("check")
    project.manage("migrate")  # the database that has grown
    project.assert_in_sync()
    project.manage(f"migrate books {before}")
    assert project.sql(VALUES) == [(2,), (0,), (0,)]
    project.new_database()
    project.manage("migrate")  # a fresh one
    project.sql(ROWS_AFTERWARDS[name])
    project.assert_in_sync()


@pytest.mark.parametrize("name", HARMLESS)
def test_what_does_not_concern_a_rule_needs_no_order(make: Make, name: str) -> None:
    project = make(people=PEOPLE, books=BOOKS, rows=PEOPLE_ROWS)
    project.write_migration("books", "0099_change", project.last("books").stem, HARMLESS[name])
    assert "E035" not in project.manage("check", code=None).stderr


def test_makemigrations_writes_the_order_itself(make: Make) -> None:
    _, book, rule = CHANGES["rename"]
    project = make(people=PEOPLE, books=BOOKS, rows=PEOPLE_ROWS)
    project.deploy(people=PEOPLE.replace(*rule), books=BOOKS.replace(*book), answers="y\n")
    project.manage("check")
