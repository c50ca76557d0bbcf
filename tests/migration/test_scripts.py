"""SQL that somebody else runs: sqlmigrate, and the script of ``trigger_kit sql``."""

from __future__ import annotations

from tests.migration.conftest import Make
from tests.migration.library import CHURN, NUM_BOOKS, NUM_PUBLISHED, PAGES_TOTAL, ROWS, library

LEFT = 'TRIGGER_KIT = {"UPGRADE": False}\n'
PLAIN = NUM_BOOKS.replace("default=0", "default=0, db_default=0")


def test_sqlmigrate_prints_a_script_that_makes_the_same_database(blank: Make, scratch: Make) -> None:
    models = library(NUM_BOOKS, NUM_PUBLISHED, PAGES_TOTAL)
    project = blank("books")
    project.makemigrations(books=models)
    script = project.manage("sqlmigrate books 0001").stdout
    assert 'UPDATE "public"."books_author" AS target' in script
    assert "{books_author}" not in script
    assert "{:schema}" not in script
    project.psql(script)
    project.manage("migrate --fake")
    project.sql(ROWS + CHURN)
    project.assert_settled()
    project.assert_like(scratch(books=models))


def test_sqlmigrate_of_a_change_forwards_and_backwards(inplace: Make, anew: Make) -> None:
    before, after = library(NUM_BOOKS, NUM_PUBLISHED), library(PAGES_TOTAL, NUM_PUBLISHED)
    project = inplace(books=before, rows=ROWS)
    project.makemigrations(books=after)
    project.psql(project.manage("sqlmigrate books 0002").stdout)
    project.manage("migrate --fake")
    project.assert_settled()
    project.assert_like(anew(books=after))

    project.sql(CHURN)
    project.psql(project.manage("sqlmigrate --backwards books 0002").stdout)
    project.manage("migrate --fake books 0001")
    project.write_models(books=before)
    project.assert_in_sync()
    project.assert_like(anew(books=before))


def test_sqlmigrate_changes_nothing(inplace: Make) -> None:
    project = inplace(books=library(NUM_BOOKS), rows=ROWS)
    project.makemigrations(books=library(NUM_PUBLISHED))
    before = project.objects()
    project.manage("sqlmigrate books 0002")
    assert project.objects() == before


def test_the_script_installs_and_fills_what_a_faked_migration_left_out(inplace: Make, anew: Make) -> None:
    project = inplace(books=library(PLAIN.without_rule), rows=ROWS)
    project.write_settings(extra=LEFT)
    project.makemigrations(books=library(PLAIN))
    project.manage("migrate --fake")
    assert project.statuses() == {"books.Author:num_books": "missing"}
    assert "2 drifted" in project.manage("trigger_kit verify", code=1).stdout
    project.psql(project.manage("trigger_kit sql").stdout)
    project.assert_settled()
    project.sql(CHURN)
    project.assert_in_sync()
    project.assert_like(anew(books=library(PLAIN)))


def test_the_script_runs_twice(inplace: Make, anew: Make) -> None:
    models = library(NUM_BOOKS, PAGES_TOTAL)
    project = inplace(books=models, rows=ROWS)
    script = project.manage("trigger_kit sql").stdout
    project.psql(script)
    project.psql(script)
    project.assert_settled()
    project.assert_like(anew(books=models))
