"""A project whose models have rules from the start."""

from __future__ import annotations

from tests.migration.conftest import Make
from tests.migration.library import CHURN, NUM_BOOKS, NUM_PUBLISHED, PAGES_TOTAL, ROWS, library
from tests.migration.written import operations

MODELS = library(NUM_BOOKS, NUM_PUBLISHED, PAGES_TOTAL)
VALUES = "SELECT num_books, num_published, pages_total FROM books_author ORDER BY id"


def test_every_command_of_a_new_project_works_in_a_process_of_its_own(blank: Make) -> None:
    project = blank("books")
    project.write_models(books=MODELS)
    project.manage_alone("check")
    assert "Add rule num_books to author" in project.manage_alone("makemigrations").stdout
    project.manage_alone("migrate")
    assert "No changes detected" in project.manage_alone("makemigrations --check --dry-run").stdout
    project.sql(ROWS)
    project.manage_alone("trigger_kit verify")
    project.sql("ALTER TABLE books_author DISABLE TRIGGER USER; UPDATE books_author SET num_books = 7 WHERE id = 3")
    assert "1 drifted" in project.manage_alone("trigger_kit verify", code=1).stdout


def test_makemigrations_writes_models_then_rules_and_no_backfill(make: Make) -> None:
    project = make(books=MODELS)
    (first,) = project.files()
    assert operations(first) == [
        "CreateModel Author",
        "CreateModel Book",
        "AddRule author.num_books",
        "AddRule author.num_published",
        "AddRule author.pages_total",
    ]
    assert "denormalizations" not in first.read_text()


def test_raw_writes_keep_values_right(make: Make) -> None:
    project = make(books=MODELS, rows=ROWS)
    assert project.sql(VALUES) == [(3, 2, 70), (1, 0, 80), (0, 0, 0)]
    project.sql(CHURN)
    assert project.sql(VALUES) == [(2, 2, 31), (2, 1, 200), (0, 0, 0)]
    project.assert_settled()


def test_migrate_does_not_say_that_changes_are_missing_from_migrations(make: Make) -> None:
    assert "changes that are not yet reflected" not in make(books=MODELS).manage("migrate").stdout
