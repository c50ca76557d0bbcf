"""Whether a database has what the rules want, told without compiling them: by what was written down when it was seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.db.migrations.state import ProjectState
from django.db.models import Count, Func

from trigger_kit import Denormalize
from trigger_kit.checks.database import check_blind_spots, check_database
from trigger_kit.maintenance import current
from trigger_kit.maintenance.current import is_current, live_state, seen
from trigger_kit.maintenance.status import note_current
from trigger_kit.migration.states import StateRule

Sql = Callable[..., list[tuple[Any, ...]]]
TRIGGER = "SELECT tgname, tgrelid::regclass FROM pg_trigger WHERE tgname LIKE 'tk!_library!_author!_from!_%' ESCAPE '!'"
FUNCTION = "CREATE OR REPLACE FUNCTION {}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$"
RECORD = "SELECT obj_description('tk_commit()'::regprocedure, 'pg_proc') IS NOT NULL"
FORGET = "COMMENT ON FUNCTION tk_commit() IS NULL"


@pytest.fixture
def state(db: None) -> ProjectState:
    """The state of today's models, seen to be current."""
    state = live_state()
    note_current(connection, state)
    assert is_current(connection, state)
    return state


def compiles(*args: object) -> None:
    raise AssertionError("The rules were compiled.")


def test_checks_compile_nothing_where_all_is_current(state: ProjectState, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trigger_kit.sql.compilation.compile_plan", compiles)
    monkeypatch.setattr("trigger_kit.maintenance.status.compile_plan", compiles)
    assert check_database(None, databases=["default"]) == []
    assert check_blind_spots(None, databases=["default"]) == []


@pytest.mark.parametrize(
    "change",
    [
        "DROP TRIGGER {trigger} ON {table}",
        "ALTER TABLE {table} DISABLE TRIGGER {trigger}",
        "COMMENT ON TRIGGER {trigger} ON {table} IS 'mine'",
        "ALTER TABLE {table} RENAME TO other",
        FUNCTION.format("{trigger}"),
        "ALTER FUNCTION {trigger}() SECURITY INVOKER",
        "CREATE FUNCTION tk_more() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "INSERT INTO tk_state (name, kind, value) VALUES ('library.Author', 'pause', '{{}}')",
        "INSERT INTO tk_touched (target, key_column, key) VALUES ('library_author', 'id', '1')",
        "COMMENT ON FUNCTION tk_commit() IS NULL",
        "CREATE SCHEMA first; SET search_path = first, public",
    ],
)
def test_whatever_changes_is_looked_at_again(state: ProjectState, sql: Sql, change: str) -> None:
    trigger, table = sql(TRIGGER)[0]
    sql("SET CONSTRAINTS ALL IMMEDIATE")
    sql(change.format(trigger=f'"{trigger}"', table=table))
    assert not is_current(connection, state)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("settings.TIME_ZONE", "Asia/Tokyo"),
        ("TEMPLATE_VERSION", 99),
        ("VERSION", "99"),
        ("django.get_version", lambda: "99"),
        ("router.allow_migrate_model", lambda using, model: False),
    ],
)
def test_so_is_what_decides_what_is_compiled(
    state: ProjectState, monkeypatch: pytest.MonkeyPatch, name: str, value: object
) -> None:
    monkeypatch.setattr(f"trigger_kit.maintenance.current.{name}", value)
    assert not is_current(connection, state)


def test_so_is_a_rule_that_comes_or_waits_for_its_fill(state: ProjectState, monkeypatch: pytest.MonkeyPatch) -> None:
    before = current.all_rules(state)
    key = ("library", "author")
    another = StateRule(Denormalize("num_books", Count("books", distinct=True)))
    for rules in ([*before[key], another], [replace(before[key][0], is_filled=False), *before[key][1:]]):
        monkeypatch.setattr(current, "all_rules", lambda state, rules=rules: {**before, key: tuple(rules)})
        assert not is_current(connection, state)


class Mine(Func):
    """An expression of a project's own: its SQL is in its code, and no digest sees that."""

    function = "upper"


def test_expressions_of_ones_own_are_compiled_each_time(state: ProjectState, monkeypatch: pytest.MonkeyPatch) -> None:
    rules = {("library", "author"): (StateRule(Denormalize("num_books", Count(Mine("books__title")))),)}
    monkeypatch.setattr(current, "all_rules", lambda state: rules)
    assert seen(connection, state) is None


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE {table} DISABLE TRIGGER {trigger}",
        FUNCTION.format("{trigger}"),
        "DROP TRIGGER {trigger} ON {table}",
    ],
)
def test_nothing_is_written_down_of_what_is_not_right(db: None, sql: Sql, change: str) -> None:
    sql(FORGET)
    trigger, table = sql(TRIGGER)[0]
    sql("SET CONSTRAINTS ALL IMMEDIATE")
    sql(change.format(trigger=f'"{trigger}"', table=table))
    note_current(connection, live_state())
    assert sql(RECORD) == [(False,)]


def test_migrate_writes_it_down_and_goes_by_it(db: None, sql: Sql, monkeypatch: pytest.MonkeyPatch) -> None:
    sql(FORGET)
    call_command("migrate", verbosity=0, stdout=StringIO())
    assert sql(RECORD) == [(True,)]
    monkeypatch.setattr("trigger_kit.migration.upgrade.upgrade", compiles)
    call_command("migrate", verbosity=0, stdout=StringIO())


def test_a_table_of_its_name_in_another_schema_says_nothing(state: ProjectState, sql: Sql) -> None:
    """A hostile role may create temporary tables: they come before others where a name has no schema."""
    sql("CREATE TEMPORARY TABLE tk_state (name text, kind text, value jsonb)")
    sql("CREATE TEMPORARY TABLE tk_touched (key text)")
    sql("INSERT INTO tk_touched VALUES ('1')")
    assert is_current(connection, state)
