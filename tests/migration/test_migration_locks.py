"""A migration of rules meets transactions that hold some of its tables and want others: it is the one that lets go."""

from __future__ import annotations

import threading
import time

import psycopg
import pytest

from tests.migration.conftest import Make
from tests.migration.library import NUM_PUBLISHED, PAGES_TOTAL, ROWS, library
from tests.migration.project import Project
from tests.migration.worker import Outcome

RENAMED = library(PAGES_TOTAL).replace("    pages = ", "    length = ").replace("books__pages", "books__length")
MIGRATIONS = {
    "a field and its rule": (library(), library(PAGES_TOTAL)),
    "another guard": (library(PAGES_TOTAL), library(PAGES_TOTAL.replace("=0))", "=0), guard=Guard.RAISE)"))),
    "a rule goes, its field too": (library(PAGES_TOTAL, NUM_PUBLISHED), library(PAGES_TOTAL)),
    "a rename": (library(PAGES_TOTAL), RENAMED),
}
# The target first, which the migration locks last.
FIRST = {
    "writes": "UPDATE books_author SET name = 'w' WHERE id = 1",
    "reads": "SELECT FROM books_author WHERE id = 1",
    "locks": "SELECT FROM books_author WHERE id = 1 FOR UPDATE",
}
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


def wait_for_lock(project: Project, thread: threading.Thread) -> None:
    """Wait until somebody waits for a lock, or the migration has ended."""
    while thread.is_alive() and not project.value(WAITING):
        time.sleep(0.01)


@pytest.mark.parametrize("first", FIRST)
@pytest.mark.parametrize("what", MIGRATIONS)
def test_a_migration_lets_go(inplace: Make, what: str, first: str) -> None:
    before, after = MIGRATIONS[what]
    project = inplace(books=before, rows=ROWS)
    project.sql("CREATE VIEW w_book AS SELECT id, author_id, pages, published FROM books_book")
    project.makemigrations(answers="y\n", books=after)
    outcomes: list[Outcome] = []
    thread = threading.Thread(target=lambda: outcomes.append(project.manage("migrate", code=None)))
    try:
        with psycopg.connect(project.url) as writer:
            writer.execute("SET lock_timeout = '30s'")
            writer.execute(FIRST[first])
            thread.start()
            wait_for_lock(project, thread)
            writer.execute("INSERT INTO w_book (id, author_id, pages, published) VALUES (8, 1, 5, true)")
    finally:
        thread.join()
    assert [outcome.code for outcome in outcomes] == [0], outcomes[0]
    project.assert_settled()
