"""Databases that Django makes without running the migrations, or by half: triggers are there, or ls says what is not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.migration.conftest import Make
from tests.migration.library import CHURN, NUM_BOOKS, ROWS, library
from tests.migration.project import Project
from tests.migration.worker import environment

RULE = "books.Author:num_books"
MODELS = library(NUM_BOOKS.replace("default=0,", "default=0, db_default=0,"))
CHANGED = MODELS.replace('Count("books")', 'Count("books", filter=Q(books__published=True))')


OFF = 'TRIGGER_KIT = {"UPGRADE": False}\n'


def test_an_initial_migration_that_is_faked_has_its_triggers_all_the_same(make: Make, scratch: Make) -> None:
    """The same run of migrate installs and fills; where that is turned off, check tells what is missing."""
    project = make(books=MODELS, rows=ROWS)
    project.manage("trigger_kit uninstall")
    project.sql("DELETE FROM django_migrations WHERE app = 'books'; UPDATE books_author SET num_books = 9 WHERE id = 3")
    project.write_settings(extra=OFF)
    assert "FAKED" in project.manage("migrate --fake-initial").stdout
    assert project.statuses() == {RULE: "missing"}
    printed = project.manage("check --database default")
    assert "trigger_kit.W" in printed.stderr
    assert RULE in printed.stderr
    project.write_settings()
    project.sql("DELETE FROM django_migrations WHERE app = 'books'")
    printed = project.manage("migrate --fake-initial")
    assert "FAKED" in printed.stdout
    assert "Triggers of books.Author brought over" in printed.stdout
    project.assert_settled()
    project.sql(CHURN)
    project.assert_in_sync()
    project.assert_like(scratch(books=MODELS))


def test_a_change_that_is_faked_is_made_all_the_same(inplace: Make, anew: Make) -> None:
    project = inplace(books=MODELS, rows=ROWS)
    project.makemigrations(books=CHANGED)
    project.write_settings(extra=OFF)
    project.manage("migrate --fake")
    assert project.statuses() == {RULE: "outdated"}
    project.write_settings()
    assert project.manage("migrate").stdout == "  Triggers of books.Author brought over to this version of its rules."
    project.assert_settled()
    project.assert_like(anew(books=CHANGED))


def test_a_faked_rule_then_another_one(inplace: Make, anew: Make) -> None:
    """What the state before says is not there: the catalog counts."""
    project = inplace(books=MODELS.replace("denormalizations", "verbose_name_plural = ''  # "), rows=ROWS)
    project.write_settings(extra=OFF)
    project.makemigrations(books=MODELS)
    project.manage("migrate --fake")
    assert project.objects() == {"functions": [], "triggers": []}
    project.makemigrations(books=CHANGED)
    project.manage("migrate")
    project.assert_settled()
    project.assert_like(anew(books=CHANGED))


def test_a_migration_that_is_deleted_is_noticed(inplace: Make) -> None:
    """Code that does not know what is applied leaves triggers as they are, and says so."""
    project = inplace(books=MODELS, rows=ROWS)
    project.deploy(books=CHANGED)
    before = project.objects()
    project.last("books").unlink()
    project.write_models(books=MODELS)
    assert "does not know books.0002" in project.manage("migrate").stdout
    assert project.objects() == before
    assert project.statuses() == {RULE: "outdated"}


def test_a_faked_way_back_leaves_the_triggers_in_place(inplace: Make) -> None:
    project = inplace(books=library(), rows=ROWS)
    project.deploy(books=MODELS)
    project.manage("migrate --fake books 0001")
    project.write_models(books=library())
    assert set(project.statuses().values()) == {"orphaned"}
    project.write_models(books=MODELS)
    project.manage("migrate --fake")
    project.sql(CHURN)
    project.assert_settled()


TESTS = """
import pytest
from books.models import Author, Book
from django.db import connection
from django.test import TestCase, TransactionTestCase


def check(expected):
    author = Author.objects.create(name="a")
    Book.objects.create(author=author, published=True)
    Book.objects.create(author=author)
    with connection.cursor() as cursor:
        cursor.execute("SELECT num_books FROM books_author")
        assert cursor.fetchall() == [(expected,)]


class InTransactionTest(TestCase):
    def test_counts(self):
        check({expected})


class FlushedTest(TransactionTestCase):
    def test_counts(self):
        check({expected})

    def test_counts_after_a_flush(self):
        check({expected})


@pytest.mark.django_db
def test_in_a_transaction():
    check({expected})


@pytest.mark.django_db(transaction=True)
def test_flushed():
    check({expected})
"""


@pytest.fixture
def project(make: Make) -> Iterator[Project]:
    made = make(books=MODELS)
    yield made
    made.sql(f'DROP DATABASE IF EXISTS "test_{made.database}"')


def run_pytest(project: Project, *options: str, expected: int = 2, other: str = "") -> None:
    """Run the project's own tests, as its author does."""
    project.write_settings(extra=other)
    (project.path / "test_books.py").write_text(TESTS.replace("{expected}", str(expected)))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", *options, "."],
        capture_output=True,
        text=True,
        cwd=project.path,
        env=environment(project.path),
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 passed" in done.stdout


def test_pytest_with_migrations_and_a_database_that_is_kept(project: Project) -> None:
    run_pytest(project, "--reuse-db")
    project.makemigrations(books=CHANGED)
    run_pytest(project, "--reuse-db", expected=1)


def test_pytest_without_migrations_and_a_database_that_is_kept(project: Project) -> None:
    run_pytest(project, "--nomigrations", "--reuse-db")
    project.write_models(books=CHANGED)
    run_pytest(project, "--nomigrations", "--reuse-db", expected=1)


def test_the_test_database_is_made_without_migrations(project: Project) -> None:
    project.write_models(books=CHANGED)
    run_pytest(project, expected=1, other='DATABASES["default"]["TEST"] = {"MIGRATE": False}\n')
    (project.path / "test_books.py").write_text(TESTS.replace("{expected}", "1"))
    assert "Ran 3 tests" in project.manage_alone("test --parallel 2").stderr
