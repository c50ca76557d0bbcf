"""MIGRATE: the locks of a whole migration, before its first operation.

An operation that waits for a lock while the migration holds those of an earlier one would wait for writers who wait for
the migration. So all tables that change, and all tables of the rules concerned, are locked at once, sources before
targets; while somebody has one of them, the migration lets go of all and tries again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.operations import RenameField
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ModelState, ProjectState
from django.db.models import ManyToManyField

from trigger_kit.database.catalog import OWN_TABLES, Placement
from trigger_kit.database.changes import Change, Places, tables_of
from trigger_kit.database.converge import READ_COMMITTED_ONLY
from trigger_kit.database.table_locks import lock_statement, patiently
from trigger_kit.migration.compiled import Compiled, compiled
from trigger_kit.migration.operations import RuleOperation, flat
from trigger_kit.migration.running import home_changes

__all__ = ["lock_ahead"]


def lock_ahead(
    connection: BaseDatabaseWrapper,
    operations: Sequence[Operation],
    app_label: str,
    state: ProjectState,
    before: Compiled,
) -> None:
    """Lock the tables of a migration; ``state`` is that before it, whichever way it goes, which wants ``before``.

    What happens to tables and what happens to the state may stand apart in SeparateDatabaseAndState.
    """
    end = _ahead(state, operations, app_label)
    changes = home_changes(connection, before, compiled(end), may_ask=True)
    if not changes:
        return
    both = [wanted for item in changes for wanted in (item.before, item.after) if wanted]
    owner = min(owner for item in changes for owner in item.owners)
    order = tables_of(Places(connection), [trigger for wanted in both for trigger in wanted.triggers])
    altered = _altered_tables(connection, list(flat(operations)), app_label, (state, end), owner)
    order |= {table: (False, True, table) for table in altered if table not in order}
    are_dropped = any(_drops(item) for item in changes)

    def lock() -> None:
        with connection.cursor() as cursor:
            cursor.execute(READ_COMMITTED_ONLY, None)
            for table in sorted(order, key=order.__getitem__):
                is_own = any(table.endswith(f'"{own}"') for own in OWN_TABLES)
                is_strong = not is_own and (are_dropped or table in altered)
                mode = "ACCESS EXCLUSIVE" if is_strong else "SHARE ROW EXCLUSIVE"
                cursor.execute(lock_statement([table], mode), None)

    patiently(connection, lock, sorted(order))


def _drops(change: Change) -> bool:
    """Whether triggers go, which takes the strongest lock."""
    after = {trigger.name for trigger in change.after.triggers} if change.after else set()
    return any(trigger.name not in after for trigger in (change.before.triggers if change.before else ()))


def _ahead(state: ProjectState, operations: Sequence[Operation], app_label: str) -> ProjectState:
    """Return the state after some operations."""
    ahead = ProjectState({key: model.clone() for key, model in state.models.items()}, state.real_apps)
    if any(isinstance(operation, RenameField) for operation in flat(operations)):
        # Django changes the foreign keys to a renamed field where they are, in every state that shares them.
        for model_state in ahead.models.values():
            model_state.fields = {name: field.clone() for name, field in model_state.fields.items()}
    for operation in operations:
        operation.state_forwards(app_label, ahead)
    return ahead


def _altered_tables(
    connection: BaseDatabaseWrapper,
    operations: Iterable[Operation],
    app_label: str,
    states: Sequence[ProjectState],
    owner: str,
) -> set[str]:
    """Return the tables that operations alter and that are there, as SQL."""
    place = Placement(connection, owner)
    names = {table for state in states for table in _altered(operations, app_label, state)}
    return {place(name) for name in names if place.has(name)}


def _altered(operations: Iterable[Any], app_label: str, state: ProjectState) -> Iterator[str]:
    """Yield the tables that operations alter, and those that a foreign key among their fields leads to."""
    for operation in operations:
        name = getattr(operation, "model_name_lower", None) or getattr(operation, "old_name_lower", None)
        model_state = state.models.get((app_label, name or getattr(operation, "name_lower", "")))
        if isinstance(operation, RuleOperation) or model_state is None:
            continue
        yield from tables_of_model(app_label, model_state)
        field = model_state.fields.get(getattr(operation, "old_name", None) or getattr(operation, "name", ""))
        if field is not None and field.is_relation and field.related_model != "self":
            label = field.related_model if isinstance(field.related_model, str) else field.related_model._meta.label
            remote = state.models.get(tuple(label.lower().split(".")))  # type: ignore[arg-type]
            if remote is not None:
                yield tables_of_model(remote.app_label, remote)[0]


def tables_of_model(app_label: str, model_state: ModelState) -> list[str]:
    """Return the table of a model in a migration's state, and those of its many-to-many fields."""
    own = str(model_state.options.get("db_table") or f"{app_label}_{model_state.name_lower}")
    many = [(name, field) for name, field in model_state.fields.items() if isinstance(field, ManyToManyField)]
    return [own, *(str(vars(field)["db_table"] or f"{own}_{name}") for name, field in many)]
