"""The checks of a database: what is missing, outdated, disabled or paused, and that they break nothing."""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from django.core.checks import CheckMessage, run_checks
from django.core.management import call_command
from django.db import OperationalError, connection

from trigger_kit.checks.database import check_database
from trigger_kit.exceptions import RuleError
from trigger_kit.maintenance.long_pauses import pause
from trigger_kit.maintenance.switch import disable, uninstall
from trigger_kit.sql.trigger import Comment

Sql = Callable[..., list[tuple[Any, ...]]]

# What the COMMENT of a trigger says that was made from another text.
OTHER_TEXT = Comment(1, "library_author", "0" * 40).write()


@pytest.fixture(autouse=True)
def all_is_migrated(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trigger_kit.checks.database._is_migration_pending", lambda connection: False)


def found() -> list[CheckMessage]:
    return run_checks(tags=["database"], databases=["default"])


def test_nothing_to_say() -> None:
    assert found() == []
    assert check_database(None, databases=None) == []


def test_w010_missing() -> None:
    list(uninstall(["library.Author"]))
    (message,) = found()
    assert message.id == "trigger_kit.W010"
    assert message.msg.startswith("library.Author:num_books, library.Author:num_published, ")
    assert "nothing keeps these columns" in message.msg
    assert "manage.py trigger_kit install library.Author" in str(message.hint)


def test_w011_outdated(sql: Sql) -> None:
    name = sql("SELECT tgname FROM pg_trigger WHERE tgname LIKE 'tk_%%library_book_insert%%'")[0][0]
    sql(f"COMMENT ON TRIGGER \"{name}\" ON library_book IS '{OTHER_TEXT}'")
    assert [message.id for message in found()] == ["trigger_kit.W011"]


def test_w012_disabled() -> None:
    list(disable(["library.Shelf"]))
    (message,) = found()
    assert message.id == "trigger_kit.W012"
    assert message.hint == "Run manage.py trigger_kit enable library.Shelf."


def test_w013_paused(sql: Sql) -> None:
    list(pause(["library.Author"]))
    sql("INSERT INTO tk_touched (target, key_column, key) VALUES ('library_shelf', 'id', '1')")
    messages = found()
    assert [message.id for message in messages] == ["trigger_kit.W013"] * 2
    assert "paused since " in messages[0].msg
    assert "touched by a session that had set trigger_kit.paused" in messages[1].msg


def test_what_a_migration_will_bring_is_no_news(monkeypatch: pytest.MonkeyPatch) -> None:
    list(uninstall(["library.Author"]))
    list(disable(["library.Shelf"]))
    monkeypatch.setattr("trigger_kit.checks.database._is_migration_pending", lambda connection: True)
    assert [message.id for message in found()] == ["trigger_kit.W012"]


def test_tables_that_are_not_there_yet(sql: Sql) -> None:
    sql("DROP TABLE library_author CASCADE")
    assert found() == []


@pytest.mark.parametrize("error", [OperationalError("down"), RuleError("trigger_kit.E005", "bad", "mend it")])
def test_a_database_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(alias: str) -> None:
        raise error

    monkeypatch.setattr("trigger_kit.maintenance.status.rule_statuses", fail)
    assert found() == []


def test_a_database_that_is_not_postgresql(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "vendor", "sqlite")
    assert found() == []


def test_the_command_tells() -> None:
    list(disable(["library.Shelf"]))
    out = StringIO()
    call_command("check", databases=["default"], stderr=out, stdout=out)
    assert "(trigger_kit.W012)" in out.getvalue()
