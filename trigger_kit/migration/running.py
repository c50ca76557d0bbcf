"""MIGRATE: bring a database from the rules of one state to those of another, or write down how."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.state import ProjectState

from trigger_kit.database.catalog import Placement
from trigger_kit.database.changes import Change
from trigger_kit.database.converge import Run, converge
from trigger_kit.database.filling import Filling
from trigger_kit.database.installation import backfill
from trigger_kit.database.routing import is_at_home
from trigger_kit.database.script import converge_script
from trigger_kit.database.wanted import Wanted
from trigger_kit.exceptions import TriggerKitError
from trigger_kit.migration.compiled import Compiled, Contents, changes_between, compiled, unresolved_and_gone
from trigger_kit.migration.first_fill import batches_script, fill_in_batches, require_few_rows
from trigger_kit.migration.states import ModelKey

__all__ = [
    "bring",
    "bring_states",
    "bring_target",
    "drop_all",
    "executor",
    "fill_again",
    "home_changes",
    "in_transaction",
]


def bring(
    schema_editor: BaseDatabaseSchemaEditor,
    before: Compiled,
    after: Compiled,
    change: Callable[[], None] | None = None,
) -> None:
    """Bring a database from the rules of one state to those of another, both ways alike.

    ``change`` is what happens to the schema in between: values are then what they were before, but of targets whose
    rules could not be resolved in the state before, which are filled. Without it, every field is filled whose value
    means something else than what its rows were filled with.
    """
    changes = home_changes(schema_editor.connection, before, after, may_ask=change is None)
    if change is None:
        changes = [replace(item, refill=_new_fields(item)) for item in changes]
    else:
        changes = [replace(item, keeps_values=True, fills=item.before is None) for item in changes]
    if not changes:
        if change is not None:
            change()
        return
    _run(schema_editor, changes, change)


def bring_states(schema_editor: BaseDatabaseSchemaEditor, before: ProjectState, after: ProjectState) -> None:
    """Bring a database from the rules of one state to those of another."""
    bring(schema_editor, compiled(before), compiled(after))


def drop_all(schema_editor: BaseDatabaseSchemaEditor, table: str) -> None:
    """Drop whatever the catalog says is a table's."""
    if executor(schema_editor) is None:
        converge(schema_editor.connection, [Change(table=table)])


def fill_again(
    schema_editor: BaseDatabaseSchemaEditor,
    key: ModelKey,
    fields: Sequence[str],
    from_state: ProjectState,
    to_state: ProjectState,
    *,
    batched: bool,
) -> None:
    """Write the full values of some fields of a target where they differ, and bring its triggers.

    ``batched`` does so in batches first, each a transaction of its own.
    """
    change = _filled(schema_editor, key, fields, from_state, to_state)
    if change is None or change.after is None:
        return
    if not batched:
        bring_target(schema_editor, change)
        return
    connection = schema_editor.connection
    filling = Filling.of(change.after.plan, change.after.columns(fields))
    filled = Change(change.before, change.after, filled=frozenset(fields))
    collect = executor(schema_editor)
    if collect is None:
        fill_in_batches(connection, filling, lambda: converge(connection, [filled]))
        return
    batches_script(filling, Placement(connection, filling.target), collect)
    bring_target(schema_editor, filled)


def _filled(
    schema_editor: BaseDatabaseSchemaEditor,
    key: ModelKey,
    fields: Sequence[str],
    from_state: ProjectState,
    to_state: ProjectState,
) -> Change | None:
    """Return what becomes of a target that is filled, where it belongs into this database."""
    before, after = compiled(from_state), compiled(to_state)
    target = after.targets.get(key)
    if target is None:
        raise TriggerKitError(f"{'.'.join(key)} has no rules that could be filled: {', '.join(fields)}.")
    only = Contents({key: target}, {}, after.origins, after.apps)
    is_home = bool(home_changes(schema_editor.connection, Compiled(), Compiled(lambda: only), may_ask=True))
    return Change(before.targets.get(key), target, refill=frozenset(fields)) if is_home else None


def _new_fields(change: Change) -> frozenset[str]:
    """Return the fields whose rules come with this change: whatever the catalog says, nobody has kept them."""
    before = change.before.values if change.before else {}
    after = change.after.values if change.after else {}
    return frozenset(name for name, value in after.items() if value and name not in before)


def bring_target(schema_editor: BaseDatabaseSchemaEditor, change: Change) -> None:
    """Bring one target to what is wanted."""
    _run(schema_editor, [change], None)


def home_changes(connection: BaseDatabaseWrapper, before: Compiled, after: Compiled, *, may_ask: bool) -> list[Change]:
    """Return the changes between two states that belong into a database."""
    if connection.vendor != "postgresql":
        return []
    found = []
    for key, item in changes_between(before, after):
        old_key = (
            key if key in before.targets else next((k for k, w in before.targets.items() if w is item.before), key)
        )
        old = item.before if item.before and _is_home(connection, before, old_key, item.before, may_ask=True) else None
        # Tables have their old names yet: only these may be asked for.
        new = item.after if item.after and _is_home(connection, after, key, item.after, may_ask=may_ask) else None
        if old or new:
            found.append(Change(old, new))
    for key, table in unresolved_and_gone(before, after):
        assert before.apps is not None
        if is_at_home(connection, before.apps, key, ()):
            found.append(Change(table=table))
    return found


def _is_home(connection: BaseDatabaseWrapper, state: Compiled, key: ModelKey, wanted: Wanted, *, may_ask: bool) -> bool:
    tables = {trigger.on for trigger in wanted.triggers}
    assert state.apps is not None
    return is_at_home(connection, state.apps, key, tables, may_ask=may_ask)


def _run(schema_editor: BaseDatabaseSchemaEditor, changes: Sequence[Change], change: Callable[[], None] | None) -> None:
    connection = schema_editor.connection
    with in_transaction(schema_editor) as collect:
        if collect is None:
            converge(connection, changes, change, lambda wanted, fields: _fill(connection, wanted, fields))
            return

        def fill(wanted: Wanted, fields: Iterable[str]) -> None:
            backfill(wanted.plan, connection, wanted.columns(fields), collect)

        converge_script(connection, changes, collect, change, fill)


def _fill(connection: BaseDatabaseWrapper, wanted: Wanted, fields: Sequence[str]) -> None:
    """Fill fields of a target in the transaction of the migration; it holds everybody up, so it must not take long."""
    columns = wanted.columns(fields)
    if not _has_rows(connection, wanted.table):
        return
    require_few_rows(connection, Filling.of(wanted.plan, columns), is_batched=False)
    backfill(wanted.plan, connection, columns)


def _has_rows(connection: BaseDatabaseWrapper, table: str) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT EXISTS (SELECT FROM {Placement(connection, table)(table)})", None)
        (found,) = cursor.fetchone()
    return bool(found)


# Scripts ------------------------------------------------------------------------------------------------------------


def executor(schema_editor: BaseDatabaseSchemaEditor) -> Run | None:
    """Return what collects SQL for sqlmigrate; None where it shall be run."""

    def collect(sql: str) -> None:
        schema_editor.execute(sql, params=None)

    return collect if schema_editor.collect_sql else None


@contextmanager
def in_transaction(schema_editor: BaseDatabaseSchemaEditor) -> Iterator[Any]:
    """Do everything in one transaction, also where the migration is none; yield the executor.

    Locks are held until its end, and so long the guard knows who writes.
    """
    collect = executor(schema_editor)
    if collect is None:
        with transaction.atomic(using=schema_editor.connection.alias):
            yield None
    elif schema_editor.atomic_migration:
        yield collect
    else:
        collect("BEGIN;")
        yield collect
        collect("COMMIT;")
