"""Apps without migrations: run_syncdb, and what pytest's --nomigrations does."""

from __future__ import annotations

import shutil

import pytest

from tests.migration.conftest import Make
from tests.migration.library import BOOK, CHURN, HEADER, NUM_BOOKS, NUM_PUBLISHED, ROWS, library, model
from tests.migration.project import Project

VALUES = "SELECT num_books FROM books_author ORDER BY id"
WAYS = pytest.mark.parametrize("way", ["no migrations folder", "MIGRATION_MODULES"])


def without_migrations(project: Project, way: str, **sources: str) -> None:
    """Write models; take the migrations away, or switch them off."""
    project.write_models(**sources)
    if way == "MIGRATION_MODULES":
        project.write_settings(extra=f"MIGRATION_MODULES = {dict.fromkeys(sources)!r}\n")
        return
    for app in sources:
        shutil.rmtree(project.path / app / "migrations")


@WAYS
def test_run_syncdb_installs_the_rules(blank: Make, scratch: Make, way: str) -> None:
    models = library(NUM_BOOKS, NUM_PUBLISHED)
    project = blank("books")
    without_migrations(project, way, books=models)
    project.manage("migrate --run-syncdb")
    project.sql(ROWS + CHURN)
    assert project.sql(VALUES) == [(2,), (2,), (0,)]
    project.assert_settled()
    project.assert_like(scratch(books=models))


def test_run_syncdb_brings_changed_rules_up_to_date(blank: Make, scratch: Make) -> None:
    project = blank("books")
    without_migrations(project, "no migrations folder", books=library(NUM_BOOKS))
    project.manage("migrate --run-syncdb")
    project.sql(ROWS)
    changed = NUM_BOOKS.replace('Count("books")', 'Count("books", filter=Q(books__published=True))')
    without_migrations(project, "no migrations folder", books=library(changed))
    project.manage("migrate --run-syncdb")
    assert project.sql(VALUES) == [(2,), (0,), (0,)]
    project.assert_settled()
    project.assert_like(scratch(books=library(changed)))


def test_migrate_alone_brings_changed_rules_up_to_date(blank: Make) -> None:
    project = blank("books")
    without_migrations(project, "no migrations folder", books=library(NUM_BOOKS))
    project.manage("migrate --run-syncdb")
    project.sql(ROWS)
    without_migrations(
        project,
        "no migrations folder",
        books=library(NUM_BOOKS.replace('"books")', '"books", filter=Q(books__published=True))')),
    )
    assert "Triggers of books.Author brought over" in project.manage("migrate").stdout
    assert project.sql(VALUES) == [(2,), (0,), (0,)]
    project.assert_settled()
    assert "brought over" not in project.manage("migrate").stdout


def test_run_syncdb_twice_changes_nothing(blank: Make) -> None:
    project = blank("books")
    without_migrations(project, "no migrations folder", books=library(NUM_BOOKS))
    project.manage("migrate --run-syncdb")
    before = project.sql("SELECT oid, xmin FROM pg_proc WHERE proname ~ '^~?tk_' ORDER BY oid")
    project.manage("migrate --run-syncdb")
    assert project.sql("SELECT oid, xmin FROM pg_proc WHERE proname ~ '^~?tk_' ORDER BY oid") == before


@pytest.mark.parametrize(
    "order",
    [("people", "books"), pytest.param(("books", "people"), marks=pytest.mark.thorough)],
    ids="-".join,
)
def test_source_and_target_in_two_apps_without_migrations(blank: Make, order: tuple[str, str]) -> None:
    project = blank(*order)
    people = HEADER + model("Author", NUM_BOOKS)
    books = HEADER + BOOK.replace('"Author"', '"people.Author"')
    without_migrations(project, "no migrations folder", people=people, books=books)
    project.manage("migrate --run-syncdb")
    project.sql(ROWS.replace("books_author", "people_author"))
    assert project.sql("SELECT num_books FROM people_author ORDER BY id") == [(3,), (1,), (0,)]
    project.assert_settled()


def test_the_target_has_migrations_and_its_source_has_none(blank: Make) -> None:
    project = blank("people", "books")
    book = HEADER + BOOK.replace(
        'models.ForeignKey("Author", models.CASCADE, ',
        'models.ForeignKey("people.Author", models.CASCADE, db_constraint=False, ',
    )
    project.write_models(people=HEADER + model("Author", NUM_BOOKS), books=book)
    shutil.rmtree(project.path / "books" / "migrations")
    project.manage("makemigrations --noinput")
    project.manage("migrate --run-syncdb")
    project.sql(ROWS.replace("books_author", "people_author"))
    project.assert_settled()


MAKERS = """
class Maker(models.Model):
    name = models.CharField(max_length=50)
    num_authors = models.IntegerField(default=0, editable=False)

    class Meta:
        denormalizations = [Denormalize("num_authors", Count("authors", filter=Q(authors__active=True)))]
"""
AUTHORS = """
class Author(models.Model):
    maker = models.ForeignKey("makers.Maker", models.CASCADE, related_name="authors")
    active = models.BooleanField(default=True)
    maker_name = models.CharField(max_length=50, default="", editable=False)

    class Meta:
        denormalizations = [Denormalize("maker_name", models.F("maker__name"))]
"""


def test_a_path_leads_over_an_app_without_migrations_and_back(blank: Make) -> None:
    """Its models and rules are those of today in every state, also before a rename of what they read."""
    project = blank("people", "makers")
    project.write_models(people=HEADER + AUTHORS, makers=HEADER + MAKERS)
    shutil.rmtree(project.path / "makers" / "migrations")
    project.makemigrations()
    project.manage("migrate --run-syncdb")
    project.sql("INSERT INTO makers_maker (id, name) VALUES (1, 'a'), (2, 'b')")
    project.sql("INSERT INTO people_author (id, maker_id, active) VALUES (1, 1, true), (2, 1, false)")
    project.sql("UPDATE makers_maker SET name = 'c' WHERE id = 1")
    assert project.sql("SELECT num_authors FROM makers_maker ORDER BY id") == [(1,), (0,)]
    project.assert_settled()

    project.write_models(people=HEADER + AUTHORS.replace("active", "alive"))
    project.write_models(makers=HEADER + MAKERS.replace("active", "alive"))
    shutil.rmtree(project.path / "makers" / "migrations")
    assert project.makemigrations(answers="y\n") == {"people": ["RenameField author.active.alive"]}
    project.manage("migrate")
    project.sql("UPDATE people_author SET alive = true, maker_id = 2 WHERE id = 2")
    assert project.sql("SELECT num_authors FROM makers_maker ORDER BY id") == [(1,), (1,)]
    project.assert_settled()
