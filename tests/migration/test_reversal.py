"""Migrations that go back, and forward again."""

from __future__ import annotations

import pytest

from tests.combinations import in_turn
from tests.migration.conftest import Make
from tests.migration.library import (
    BOOK,
    CHURN,
    HEADER,
    NUM_BOOKS,
    NUM_PUBLISHED,
    PAGES_TOTAL,
    ROWS,
    Kept,
    library,
    model,
)

UNPUBLISHED = Kept(NUM_PUBLISHED.field, NUM_PUBLISHED.rule.replace("True", "False"))
RAISING = Kept(NUM_BOOKS.field, 'Denormalize("num_books", Count("books"), guard=Guard.RAISE)')
ESSAY = (
    '\nclass Essay(models.Model):\n    author = models.ForeignKey("Author", models.CASCADE, related_name="essays")\n'
)
NUM_ESSAYS = Kept(NUM_BOOKS.field, 'Denormalize("num_books", Count("essays"))')
PLAIN = NUM_BOOKS.replace("default=0", "default=0, db_default=0")
SWAPPED = (
    Kept(NUM_BOOKS.field, NUM_PUBLISHED.rule.replace("num_published", "num_books")),
    Kept(NUM_PUBLISHED.field, NUM_BOOKS.rule.replace("num_books", "num_published")),
)

STEPS = {
    "rules come": (library(), library(NUM_BOOKS, PAGES_TOTAL)),
    "a rule comes to a field": (library(PLAIN.without_rule), library(PLAIN)),
    "a rule comes beside another": (library(NUM_BOOKS), library(NUM_BOOKS, PAGES_TOTAL)),
    "a filter changes": (library(NUM_BOOKS, NUM_PUBLISHED), library(NUM_BOOKS, UNPUBLISHED)),
    "a guard changes": (library(NUM_BOOKS, PAGES_TOTAL), library(RAISING, PAGES_TOTAL)),
    "a rule goes": (library(NUM_BOOKS, PAGES_TOTAL), library(NUM_BOOKS, PAGES_TOTAL.without_rule)),
    "a rule goes with its field": (library(NUM_BOOKS, PAGES_TOTAL), library(PAGES_TOTAL)),
    "every rule goes": (library(NUM_BOOKS, PAGES_TOTAL), library(NUM_BOOKS.without_rule, PAGES_TOTAL.without_rule)),
    "one comes, one goes": (library(NUM_BOOKS), library(PAGES_TOTAL)),
    "two swap": (library(NUM_BOOKS, NUM_PUBLISHED), library(*SWAPPED)),
    "a rule moves": (library(NUM_BOOKS, book=BOOK + ESSAY), library(NUM_ESSAYS, book=BOOK + ESSAY)),
}

# Books change hands while a rule is not there, or another one is.
MEANWHILE = """
UPDATE books_book SET author_id = 3 WHERE id = 1;
INSERT INTO books_book (id, author_id, pages, published) VALUES (6, 3, 320, true), (7, 1, 640, false);
"""


@pytest.mark.parametrize("step", in_turn(STEPS))
def test_back_and_forward_again(inplace: Make, anew: Make, step: str) -> None:
    before, after = STEPS[step]
    project = inplace(books=before, rows=ROWS)
    project.makemigrations(books=after)
    project.manage("migrate")
    project.sql(CHURN)

    project.manage("migrate books 0001")
    project.write_models(books=before)
    project.assert_in_sync()
    project.assert_like(anew(books=before))
    project.sql(MEANWHILE)
    project.assert_in_sync()
    assert set(project.statuses().values()) <= {"installed"}

    project.write_models(books=after)
    project.manage("migrate")
    project.assert_in_sync()
    project.assert_like(anew(books=after))


def test_nothing_of_ours_is_left_at_zero(make: Make) -> None:
    project = make(books=library(NUM_BOOKS), rows=ROWS)
    project.deploy(books=library(NUM_BOOKS, PAGES_TOTAL))
    project.manage("migrate books zero")
    assert project.objects() == {"functions": [], "triggers": []}
    tables = project.sql("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
    empty = {"tk_commit", "tk_state", "tk_touched", "tk_waiting"}
    assert {name for (name,) in tables} <= {"django_migrations", "django_content_type", *empty}
    project.manage("migrate")
    project.sql(ROWS)
    project.assert_settled()


def test_steps_go_back_one_by_one_through_every_state(inplace: Make, anew: Make) -> None:
    states = [
        library(NUM_BOOKS),
        library(NUM_BOOKS, NUM_PUBLISHED),
        library(NUM_BOOKS, UNPUBLISHED),
        library(UNPUBLISHED),
    ]
    project = inplace(books=states[0], rows=ROWS)
    for models in states[1:]:
        project.makemigrations(books=models)
    project.manage("migrate")
    for number in (3, 2, 1):
        project.write_models(books=states[number - 1])
        project.manage(f"migrate books 000{number}")
        project.assert_in_sync()
        project.assert_like(anew(books=states[number - 1]))


def two_apps(author: Kept, column: str = "pages") -> dict[str, str]:
    """Return an app of authors, whose rule reads books of another app."""
    book = BOOK.replace('"Author"', '"authors.Author"').replace("pages", column)
    return {
        "authors": HEADER + model("Author", author).replace("books__pages", f"books__{column}"),
        "books": HEADER + book,
    }


def test_another_app_keeps_what_it_has_applied_later(inplace: Make) -> None:
    """Django hands the state of a migration's ancestors, in which books have the names of before."""
    raising = PAGES_TOTAL.replace("default=0))", "default=0), guard=Guard.RAISE)")
    project = inplace(**two_apps(PAGES_TOTAL), rows=ROWS.replace("books_author", "authors_author"))
    assert project.deploy(**two_apps(raising)) == {"authors": ["AlterRule author.pages_total"]}
    rename = 'migrations.RenameField("book", "pages", "length")'
    project.write_migration("books", "0002_rename", "0001_initial", rename)
    assert project.deploy(**two_apps(raising, "length")) == {}

    project.manage("migrate authors 0002")
    project.write_models(**two_apps(PAGES_TOTAL, "length"))
    assert set(project.statuses().values()) == {"installed"}
    project.sql("UPDATE books_book SET length = length + 1")
    project.assert_in_sync()
    project.manage("migrate authors 0001")
    assert project.objects() == {"functions": [], "triggers": []}
    project.sql("UPDATE books_book SET length = length + 1")
