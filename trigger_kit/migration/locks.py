"""INSTALL: the locks of a whole migration, before its first operation.

An operation that waits for a lock while the migration holds those of an earlier one would wait for writers who wait for
the migration. So all tables that change, and all tables of the rules concerned, are locked at once, sources before
targets; while somebody has one of them, the migration lets go of all and tries again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from django.db import router
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations import Migration
from django.db.migrations.operations import SeparateDatabaseAndState
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState

from trigger_kit.database.catalog import OWN_TABLES, Placement, has_table
from trigger_kit.database.changeover import READ_COMMITTED_ONLY, lock_order
from trigger_kit.database.table_locks import lock_statement, patiently
from trigger_kit.migration.following import rules_concerned, tables_of
from trigger_kit.migration.operations import RuleOperation, triggers_in

__all__ = ["patch_migrations"]


def patch_migrations() -> None:
    """Let atomic migrations that concern rules lock all their tables first."""
    for method in ("apply", "unapply"):
        original = vars(Migration)[method]
        if original.__module__ != __name__:
            setattr(Migration, method, _locking(original))


def _locking(original: Any) -> Any:
    def run(self: Migration, project_state: ProjectState, schema_editor: Any, collect_sql: bool = False) -> Any:
        connection = schema_editor.connection
        if not collect_sql and connection.vendor == "postgresql" and connection.in_atomic_block:
            _lock(connection, list(_flat(self.operations)), self.app_label, project_state)
        return original(self, project_state, schema_editor, collect_sql)

    return run


def _flat(operations: Iterable[Operation]) -> Iterator[Operation]:
    for operation in operations:
        if isinstance(operation, SeparateDatabaseAndState):
            yield from _flat([*operation.database_operations, *operation.state_operations])
        else:
            yield operation


def _lock(connection: BaseDatabaseWrapper, operations: list[Operation], app_label: str, state: ProjectState) -> None:
    """Lock the tables of a migration; ``state`` is that before it, whichever way it goes."""
    renamed = {key for operation in operations for key in rules_concerned(operation, app_label, state)}
    ruled = {
        (app_label, operation.model_name.lower()) for operation in operations if isinstance(operation, RuleOperation)
    }
    if not any(router.allow_migrate(connection.alias, key[0]) for key in renamed | ruled):
        return
    triggers = [trigger for key in renamed | ruled for trigger in triggers_in(state.models.get(key))]
    triggers += [trigger for operation in operations for trigger in getattr(operation, "triggers", ())]
    altered = set(_altered(operations, app_label, state))
    are_dropped = bool(renamed) or any(getattr(operation, "removed", ()) for operation in operations)
    order = lock_order(triggers)
    order |= {table: (False, True, table) for table in altered if table not in order}
    tables = [table for table in sorted(order, key=order.__getitem__) if has_table(connection, table)]
    if not tables:
        return
    place = Placement(connection, next((trigger.owner for trigger in triggers), tables[0]))

    def lock() -> None:
        with connection.cursor() as cursor:
            cursor.execute(READ_COMMITTED_ONLY, None)
            for table in tables:
                is_strong = table not in OWN_TABLES and (are_dropped or table in altered)
                mode = "ACCESS EXCLUSIVE" if is_strong else "SHARE ROW EXCLUSIVE"
                cursor.execute(lock_statement([place(table)], mode), None)

    patiently(connection, lock, [place(table) for table in tables])


def _altered(operations: Iterable[Any], app_label: str, state: ProjectState) -> Iterator[str]:
    """Yield the tables that operations alter, and those that a foreign key among their fields leads to."""
    for operation in operations:
        name = getattr(operation, "model_name_lower", None) or getattr(operation, "old_name_lower", None)
        model_state = state.models.get((app_label, name or getattr(operation, "name_lower", "")))
        if isinstance(operation, RuleOperation) or model_state is None:
            continue
        yield from tables_of(app_label, model_state)
        field = model_state.fields.get(getattr(operation, "old_name", None) or getattr(operation, "name", ""))
        if field is not None and field.is_relation and field.related_model != "self":
            label = field.related_model if isinstance(field.related_model, str) else field.related_model._meta.label
            remote = state.models.get(tuple(label.lower().split(".")))  # type: ignore[arg-type]
            if remote is not None:
                yield tables_of(remote.app_label, remote)[0]
