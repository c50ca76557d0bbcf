"""``manage.py trigger_kit``: what it prints and how it exits."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from tests.library.models import Author, Book
from trigger_kit.maintenance.status import rule_statuses

Sql = Callable[..., list[tuple[Any, ...]]]


def run(*arguments: str) -> str:
    out = StringIO()
    call_command("trigger_kit", *arguments, stdout=out, no_color=True)
    return out.getvalue()


@pytest.fixture
def drift(db: None, sql: Sql) -> Author:
    """An author whose count somebody has spoilt behind the guard's back."""
    author = Author.objects.create()
    Book.objects.create(author=author)
    sql("ALTER TABLE library_author DISABLE TRIGGER USER")
    sql("UPDATE library_author SET num_books = 5, revenue = 2")
    sql("ALTER TABLE library_author ENABLE TRIGGER USER")
    return author


@pytest.fixture(autouse=True)
def no_pending_checks(db: None, sql: Sql) -> None:
    sql("SET CONSTRAINTS ALL IMMEDIATE")


def test_ls_lists_every_rule_as_installed(db: None) -> None:
    printed = run("ls")
    assert "library.Author:num_books       installed    Denormalize('num_books', Count(\"books\"))" in printed
    assert "missing" not in printed
    assert {status.status for status in rule_statuses()} == {"installed"}


def test_ls_of_some_rules(db: None) -> None:
    assert [line.split()[0] for line in run("ls", "library.Person").splitlines()] == [
        "library.Person:karma",
        "library.Person:num_profiles",
    ]


def test_an_unknown_rule_is_an_error_with_a_suggestion(db: None) -> None:
    with pytest.raises(CommandError, match="There is no rule library.Autor. Did you mean library.Author:"):
        run("verify", "library.Autor")


def test_verify_in_sync(db: None) -> None:
    Author.objects.create()
    lines = run("verify", "library.Author:num_books", "library.Port").splitlines()
    assert lines[0].split() == ["library.Author:num_books", "1", "rows", "in", "sync"]
    assert len(lines) == 4


def test_verify_prints_key_stored_and_true_value_and_exits_with_1(drift: Author) -> None:
    out = StringIO()
    with pytest.raises(SystemExit) as stopped:
        call_command("trigger_kit", "verify", stdout=out, no_color=True)
    assert stopped.value.code == 1
    rows = [line.split() for line in out.getvalue().splitlines()]
    assert ["library.Author:num_books", "1", "rows", "1", "drifted"] in rows
    assert ["library.Author:num_books", str(drift.pk), "5", "1"] in rows
    assert ["library.Author:revenue", str(drift.pk), "2.00", "NULL"] in rows
    assert Author.objects.get().num_books == 5


def test_verify_as_json(drift: Author) -> None:
    out = StringIO()
    with pytest.raises(SystemExit):
        call_command("trigger_kit", "verify", "library.Author:num_books", "--json", stdout=out)
    assert json.loads(out.getvalue()) == {
        "drifts": [{"rule": "library.Author:num_books", "key": drift.pk, "stored": 5, "true": 1}],
        "in_sync": False,
        "sample": False,
        "rows": {"library.Author:num_books": 1},
        "drifted": {"library.Author:num_books": 1},
    }


def test_ls_as_json_names_the_triggers_that_are_not_as_they_should(db: None, sql: Sql) -> None:
    sql('ALTER TABLE library_shelf DISABLE TRIGGER "tk_library_shelf_fill_3c1fcd"')
    statuses = {item["rule"]: item for item in json.loads(run("ls", "--json"))}
    assert statuses["library.Author:num_books"]["status"] == "installed"
    assert statuses["library.Shelf:num_categories"]["status"] == "disabled"
    assert statuses["library.Shelf:num_categories"]["triggers"] == {"tk_library_shelf_fill_3c1fcd": "disabled"}


def test_plan_explains_cost_and_locks(db: None) -> None:
    printed = run("plan", "library.Author")
    assert "library.Author (table library_author, rank 1)" in printed
    assert "after DELETE on library_book (library_book.author_id = library_author.id):" in printed
    assert "revenue: delta, O(1), and one index look-up when rows leave" in printed
    assert "wants an index on library_book (author_id)" in printed
    assert "locks library_author: the touched rows, FOR NO KEY UPDATE, in key order" in printed


def test_sql_prints_one_transaction(db: None) -> None:
    printed = run("sql", "library.Author")
    assert printed.startswith("BEGIN;\n\n-- library.Author: library.Author:num_books, ")
    assert printed.rstrip().endswith("COMMIT;")
    assert """LOCK TABLE "public"."library_book", "public"."library_author", "public"."tk_waiting" IN """ in printed
    assert "library_shelf" not in printed
