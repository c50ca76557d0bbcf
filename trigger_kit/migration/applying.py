"""MIGRATE: migrations take rules along.

Whatever operation a migration has, Django's, ours or somebody else's: around each, the triggers of the targets that it
concerns are brought from what the state before wants to what the state after wants. Operations of rules that follow
each other are one step, compiled once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations import Migration
from django.db.migrations.operations import SeparateDatabaseAndState
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState

from trigger_kit.exceptions import TriggerKitError
from trigger_kit.migration.compiled import Compiled, compiled
from trigger_kit.migration.locks import lock_ahead
from trigger_kit.migration.operations import BackfillRule, RuleOperation, flat
from trigger_kit.migration.running import bring
from trigger_kit.migration.states import all_rules

__all__ = ["apply", "unapply"]


def apply(
    original: Any, migration: Migration, project_state: ProjectState, schema_editor: Any, collect_sql: bool = False
) -> Any:
    """Apply a migration, rules taken along."""
    return _take_rules_along(original, migration, project_state, schema_editor, collect_sql, is_forwards=True)


def unapply(
    original: Any, migration: Migration, project_state: ProjectState, schema_editor: Any, collect_sql: bool = False
) -> Any:
    """Take a migration back, rules taken along."""
    return _take_rules_along(original, migration, project_state, schema_editor, collect_sql, is_forwards=False)


def _take_rules_along(
    original: Any,
    migration: Migration,
    project_state: ProjectState,
    schema_editor: Any,
    collect_sql: bool,
    *,
    is_forwards: bool,
) -> Any:
    operations = list(migration.operations)
    if schema_editor.connection.vendor != "postgresql" or not _concerns_rules(operations, project_state):
        return original(migration, project_state, schema_editor, collect_sql)
    _refuse_half(operations, migration)
    course = Course(project_state)
    if not collect_sql and schema_editor.connection.in_atomic_block:
        lock_ahead(schema_editor.connection, operations, migration.app_label, project_state, course.start)
    migration.operations = list(_steps(operations, course))  # type: ignore[misc]
    try:
        state = original(migration, project_state, schema_editor, collect_sql)
    finally:
        migration.operations = operations  # type: ignore[misc]
    course.require_resolved(migration, is_forwards=is_forwards)
    return state


def _concerns_rules(operations: Sequence[Operation], state: ProjectState) -> bool:
    return bool(all_rules(state)) or any(isinstance(operation, RuleOperation) for operation in flat(operations))


def _refuse_half(operations: Sequence[Operation], migration: Migration) -> None:
    """Refuse operations of rules that the state would not know of."""
    for operation in operations:
        if isinstance(operation, SeparateDatabaseAndState):
            for inner in flat(operation.database_operations):
                if isinstance(inner, (RuleOperation, BackfillRule)):
                    raise TriggerKitError(
                        f"{migration}: {inner.describe()} stands in database_operations of SeparateDatabaseAndState, "
                        "so that the state would not know of it. Write it among the operations of the migration "
                        "itself, or in state_operations: the triggers follow the state."
                    )


class Course:
    """The rules of the states that a migration runs through, one after the other."""

    def __init__(self, state: ProjectState) -> None:
        self.start = self.now = compiled(state)

    def move(self, state: ProjectState) -> tuple[Compiled, Compiled]:
        """Return what the state before and the one that has come want."""
        before, self.now = self.now, compiled(state)
        return before, self.now

    def require_resolved(self, migration: Migration, *, is_forwards: bool) -> None:
        """Raise TriggerKitError where a migration leaves rules that cannot be resolved.

        One that is taken back may end with such rules: another app has renamed since what they read.
        """
        if self.start is self.now:
            return
        before, after = (self.start, self.now) if is_forwards else (self.now, self.start)
        for key, error in after.errors.items():
            if key not in before.errors:
                raise TriggerKitError(
                    f"{migration} leaves a rule that cannot be kept: {error.reason} Change the rule in the same "
                    "migration (AlterRule), or remove it before (RemoveRule) and add it afterwards (AddRule fills it)."
                )


def _steps(operations: Sequence[Operation], course: Course) -> Iterator[Operation]:
    for are_rules, group in groupby(operations, lambda operation: isinstance(operation, RuleOperation)):
        if are_rules:
            yield RuleStep(list(group), course)
        else:
            yield from (SchemaStep(item, course) for item in group)


class Step(Operation):
    """Stands for an operation, or for several of rules, while a migration runs."""

    operation: Operation
    states: tuple[Compiled, Compiled]

    @property
    def atomic(self) -> bool:  # type: ignore[override]
        """Whether it is a transaction of its own where the migration is none."""
        return bool(self.operation.atomic)

    @property
    def reversible(self) -> bool:  # type: ignore[override]
        """Whether it can be taken back."""
        return bool(self.operation.reversible)

    @property
    def reduces_to_sql(self) -> bool:  # type: ignore[override]
        """Whether it can be written as SQL."""
        return bool(self.operation.reduces_to_sql)


class SchemaStep(Step):
    """An operation that may change what rules read, and the triggers before and after it."""

    def __init__(self, operation: Operation, course: Course) -> None:
        self.operation = operation
        self.course = course

    def state_forwards(self, app_label: str, state: ProjectState) -> None:
        """Note what the states before and after want."""
        self.operation.state_forwards(app_label, state)
        self.states = self.course.move(state)

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        """Run the operation between the old triggers and the new ones."""

        def change() -> None:
            self.operation.database_forwards(app_label, schema_editor, from_state, to_state)

        self._run(schema_editor, *self.states, change)

    def database_backwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        """Take it back between the new triggers and the old ones."""

        def change() -> None:
            self.operation.database_backwards(app_label, schema_editor, from_state, to_state)

        self._run(schema_editor, *self.states[::-1], change)

    def _run(self, schema_editor: BaseDatabaseSchemaEditor, before: Compiled, after: Compiled, change: Any) -> None:
        if isinstance(self.operation, BackfillRule):
            change()
        else:
            bring(schema_editor, before, after, change)

    def describe(self) -> str:
        """Say what happens."""
        return self.operation.describe()


class RuleStep(Step):
    """Operations of rules that follow each other: one change of triggers."""

    def __init__(self, operations: Sequence[Operation], course: Course) -> None:
        self.operation = operations[0]
        self.operations = operations
        self.course = course

    def state_forwards(self, app_label: str, state: ProjectState) -> None:
        """Note what the states before the first and after the last want."""
        for operation in self.operations:
            operation.state_forwards(app_label, state)
        self.states = self.course.move(state)

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        """Bring the database from one state's rules to the other's."""
        bring(schema_editor, *self.states)

    def database_backwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        """Do so the other way round."""
        bring(schema_editor, *self.states[::-1])

    def describe(self) -> str:
        """Say what happens."""
        return "\n-- ".join(operation.describe() for operation in self.operations)
