"""squashmigrations and optimizemigration over the operations of rules."""

from __future__ import annotations

import re

import pytest

from tests.migration.conftest import Make
from tests.migration.library import BOOK, CHURN, NUM_BOOKS, NUM_PUBLISHED, PAGES_TOTAL, ROWS, Kept, library
from tests.migration.project import Project
from tests.migration.written import operations

UNPUBLISHED = NUM_PUBLISHED.replace("True", "False")
RAISING = NUM_BOOKS.replace('Count("books")', 'Count("books"), guard=Guard.RAISE')
QUEUED = NUM_BOOKS.replace('Count("books")', 'Count("books"), timing=Timing.QUEUED')
LENT_BOOK = BOOK + "    lent = models.BooleanField(default=True, db_default=True)\n"
NUM_LENT = NUM_PUBLISHED.replace("published=True", "lent=True")
HEADER = library(book="").partition("\nclass ")[0] + "from trigger_kit import Timing\n"


def history(*steps: tuple[Kept, ...], **kwargs: str) -> list[str]:
    """Return models.py with one set of fields and rules after the other; raw SQL need not name the fields."""
    sources = [library(*kept, header=HEADER, **kwargs) for kept in steps]
    return [source.replace("default=0, editable", "default=0, db_default=0, editable") for source in sources]


# What each history does, and the operations on rules that are left of it.
HISTORIES: dict[str, tuple[list[str], list[str]]] = {
    "a rule comes and changes twice": (
        history((), (NUM_PUBLISHED,), (UNPUBLISHED,), (NUM_PUBLISHED,)),
        ["AddRule author.num_published"],
    ),
    "one of two rules comes and goes": (
        history((NUM_BOOKS,), (NUM_BOOKS, PAGES_TOTAL), (NUM_BOOKS, PAGES_TOTAL.without_rule)),
        ["AddRule author.num_books"],
    ),
    "a rule comes to a new column": (
        [*history((NUM_PUBLISHED,)), *history((NUM_LENT,), book=LENT_BOOK)],
        ["AddRule author.num_published"],
    ),
    "a timing changes": (
        history((), (NUM_BOOKS,), (QUEUED,), (NUM_BOOKS,)),
        ["AddRule author.num_books"],
    ),
}


@pytest.mark.parametrize(
    "what", [next(iter(HISTORIES)), *(pytest.param(what, marks=pytest.mark.thorough) for what in list(HISTORIES)[1:])]
)
def test_a_squashed_history_makes_the_same_database(make: Make, blank: Make, scratch: Make, what: str) -> None:
    steps, expected = HISTORIES[what]
    project = make(books=steps[0], rows=ROWS)
    for models in steps[1:]:
        project.makemigrations(books=models)
    replaced = project.files()
    project.manage(f"squashmigrations books {replaced[0].stem} {replaced[-1].stem} --noinput")
    (squashed,) = (file for file in project.files() if file not in replaced)
    assert [name for name in operations(squashed) if re.match(r"\w+Rule ", name)] == expected
    project.manage("migrate")
    project.assert_settled()
    project.sql(CHURN)
    project.assert_in_sync()

    fresh = blank("books")
    fresh.write_models(books=steps[-1])
    for file in project.files():
        (fresh.path / "books" / "migrations" / file.name).write_text(file.read_text())
    fresh.manage("migrate")
    assert fresh.value("SELECT count(*) FROM django_migrations WHERE name LIKE '%squashed%'") == 1
    fresh.sql(ROWS + CHURN)
    fresh.assert_settled()
    fresh.assert_like(scratch(books=steps[-1]))
    assert fresh.objects() == project.objects()

    # Once every database has it, the squashed migration takes the place of the others.
    for file in replaced:
        file.unlink()
    squashed.write_text(re.sub(r"    replaces = \[.*?\]\n", "", squashed.read_text(), flags=re.DOTALL))
    project.close()
    assert "No migrations to apply" in project.manage("migrate").stdout
    project.assert_settled()
    project.manage("migrate books zero")
    assert project.objects() == {"functions": [], "triggers": []}


def squashed_copy(project: Project, blank: Make, models: str) -> Project:
    """Squash all migrations of a project, and migrate a fresh database with the result."""
    replaced = project.files()
    project.manage(f"squashmigrations books {replaced[0].stem} {replaced[-1].stem} --noinput")
    fresh = blank("books")
    fresh.write_models(books=models)
    for file in project.files():
        if file not in replaced:
            text = re.sub(r"    replaces = \[.*?\]\n", "", file.read_text(), flags=re.DOTALL)
            (fresh.path / "books" / "migrations" / file.name).write_text(text)
    fresh.manage("migrate")
    fresh.sql(ROWS + CHURN)
    return fresh


def test_a_rename_stays_between_the_rules_that_it_changes(make: Make, blank: Make, scratch: Make) -> None:
    before = history((PAGES_TOTAL, NUM_BOOKS))[0]
    after = before.replace("books__pages", "books__length").replace(
        "    pages = models.IntegerField", '    length = models.IntegerField(db_column="pages"'
    )
    after = after.replace('db_column="pages"(', 'db_column="pages", ')
    changed = after.replace('Count("books")', 'Count("books", filter=Q(books__length__gt=10))')
    project = make(books=before, rows=ROWS)
    project.deploy(books=after, answers="y\n")
    project.deploy(books=changed)
    fresh = squashed_copy(project, blank, changed)
    fresh.assert_settled()
    fresh.assert_like(scratch(books=changed))


def test_a_fill_in_batches_is_squashed(make: Make, blank: Make, scratch: Make) -> None:
    bare, models = history((), (NUM_BOOKS,))
    batched = 'TRIGGER_KIT = {"BATCHED_BACKFILL": ["books.Author:num_books"]}\n'
    project = make(books=bare, rows=ROWS)
    project.write_settings(extra=batched)
    project.deploy(books=models)
    assert "batched=True" in project.last("books").read_text()
    fresh = squashed_copy(project, blank, models)
    fresh.assert_settled()
    fresh.assert_like(scratch(books=models))
    project.assert_settled()
    assert project.objects() == fresh.objects()
