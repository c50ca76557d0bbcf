"""INSTALL: the migration operations.

A rule's operation changes the state of its model: which rules it has, and the frozen text of every trigger that keeps
them. What happens in the database follows from the two states, forwards and backwards alike: triggers that are gone
are dropped, those that are new or different are installed.

Several operations of one migration on one model share their triggers: the first of them carries the text for all, so
that on the way back the rules are what they were when the triggers are changed and their values filled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.operations.base import Operation, OperationCategory
from django.db.migrations.state import ModelState, ProjectState

from trigger_kit.catalog import Placement
from trigger_kit.compiler import CompiledTrigger, Sql
from trigger_kit.installation import backfill, change_triggers, run_backfill
from trigger_kit.planner import plan
from trigger_kit.registry import complete
from trigger_kit.rules import Denormalize

__all__ = ["AddRule", "AlterRule", "BackfillRule", "RemoveRule", "rules_in", "triggers_in"]

RULES = "denormalizations"
# Django leaves private Meta attributes alone, so the texts travel in the model's options.
TRIGGERS = "_trigger_kit_triggers"


def rules_in(model_state: ModelState | None) -> list[Denormalize]:
    """Return the rules that a model has in a migration's state."""
    return list(model_state.options.get(RULES, ())) if model_state else []


def triggers_in(model_state: ModelState | None) -> list[CompiledTrigger]:
    """Return the frozen triggers that keep a model's rules in a migration's state."""
    return list(model_state.options.get(TRIGGERS, ())) if model_state else []


class RuleOperation(Operation):
    """What AddRule, AlterRule and RemoveRule share."""

    reduces_to_sql = True
    reversible = True
    serialization_expand_args = ["triggers", "removed"]

    model_name: str
    triggers: list[CompiledTrigger]
    removed: list[str]

    def new_rules(self, rules: list[Denormalize]) -> list[Denormalize]:
        """Return the model's rules after this operation."""
        raise NotImplementedError

    def state_forwards(self, app_label: str, state: ProjectState) -> None:
        """Change the model's rules and the frozen text of its triggers."""
        model_state = state.models[app_label, self.model_name.lower()]
        model_state.options[RULES] = self.new_rules(rules_in(model_state))
        gone = {*self.removed, *(str(trigger.name) for trigger in self.triggers)}
        kept = [trigger for trigger in triggers_in(model_state) if trigger.name not in gone]
        model_state.options[TRIGGERS] = [*kept, *self.triggers]
        state.reload_model(app_label, self.model_name.lower(), delay=True)

    def database_forwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: ProjectState, to_state: ProjectState
    ) -> None:
        """Bring the database's triggers from one state's to the other's."""
        if not _is_allowed(self, app_label, schema_editor, to_state):
            return
        key = app_label, self.model_name.lower()
        before, after = triggers_in(from_state.models.get(key)), triggers_in(to_state.models.get(key))
        changed = [trigger for trigger in after if trigger not in before]
        names = {trigger.name for trigger in after}
        dropped = [trigger for trigger in before if trigger.name not in names]
        replaced = [trigger for trigger in before if trigger.name in {item.name for item in changed}]
        change_triggers(schema_editor.connection, [*dropped, *replaced], changed, _executor(schema_editor))

    def database_backwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: ProjectState, to_state: ProjectState
    ) -> None:
        """Do the same the other way round; what the rules kept meanwhile is not known, so it is filled again."""
        self.database_forwards(app_label, schema_editor, from_state, to_state)
        if (self.triggers or self.removed) and triggers_in(to_state.models.get((app_label, self.model_name.lower()))):
            _fill(app_label, self.model_name, schema_editor, to_state)


class AddRule(RuleOperation):
    """Keep a field from now on: ``triggers`` is the text of every trigger that this changes."""

    category = OperationCategory.ADDITION

    def __init__(
        self,
        model_name: str,
        rule: Denormalize,
        triggers: Sequence[CompiledTrigger] = (),
        removed: Sequence[str] = (),
    ) -> None:
        self.model_name = model_name
        self.rule = rule
        self.triggers = list(triggers)
        self.removed = list(removed)

    def deconstruct(self) -> tuple[str, Sequence[Any], dict[str, Any]]:
        """Return what a migration writes."""
        return (
            type(self).__name__,
            [],
            _without_empty(model_name=self.model_name, rule=self.rule, triggers=self.triggers, removed=self.removed),
        )

    def new_rules(self, rules: list[Denormalize]) -> list[Denormalize]:
        """Return the rules with this one at the end."""
        return [*rules, self.rule]

    def describe(self) -> str:
        """Say what happens, for ``migrate`` and ``makemigrations``."""
        return f"Add rule {self.rule.field} to {self.model_name}"

    @property
    def migration_name_fragment(self) -> str:
        """The part of a migration's file name."""
        return f"{self.model_name.lower()}_{self.rule.field.lower()}_rule"


class AlterRule(AddRule):
    """Replace the rule of a field, or the text of the triggers that keep it."""

    category = OperationCategory.ALTERATION

    def new_rules(self, rules: list[Denormalize]) -> list[Denormalize]:
        """Return the rules with this one in the place of its field's."""
        return [self.rule if rule.field == self.rule.field else rule for rule in rules]

    def describe(self) -> str:
        """Say what happens, for ``migrate`` and ``makemigrations``."""
        return f"Alter rule {self.rule.field} of {self.model_name}"

    @property
    def migration_name_fragment(self) -> str:
        """The part of a migration's file name."""
        return f"alter_{super().migration_name_fragment}"


class RemoveRule(RuleOperation):
    """Keep a field no longer; it stays as it is."""

    category = OperationCategory.REMOVAL

    def __init__(
        self,
        model_name: str,
        field: str,
        triggers: Sequence[CompiledTrigger] = (),
        removed: Sequence[str] = (),
    ) -> None:
        self.model_name = model_name
        self.field = field
        self.triggers = list(triggers)
        self.removed = list(removed)

    def deconstruct(self) -> tuple[str, Sequence[Any], dict[str, Any]]:
        """Return what a migration writes."""
        return (
            type(self).__name__,
            [],
            _without_empty(model_name=self.model_name, field=self.field, triggers=self.triggers, removed=self.removed),
        )

    def new_rules(self, rules: list[Denormalize]) -> list[Denormalize]:
        """Return the rules without this field's."""
        return [rule for rule in rules if rule.field != self.field]

    def describe(self) -> str:
        """Say what happens, for ``migrate`` and ``makemigrations``."""
        return f"Remove rule {self.field} from {self.model_name}"

    @property
    def migration_name_fragment(self) -> str:
        """The part of a migration's file name."""
        return f"remove_{self.model_name.lower()}_{self.field.lower()}_rule"


class BackfillRule(Operation):
    """Fill columns with the values of their rules, for the rows that exist already.

    ``sql`` is the frozen text of the UPDATE; without it, it follows from the rules of the migration's state.
    """

    category = OperationCategory.SQL
    reduces_to_sql = True
    reversible = True
    serialization_expand_args = ["fields"]

    def __init__(self, model_name: str, fields: Sequence[str], sql: Sql | None = None) -> None:
        self.model_name = model_name
        self.fields = list(fields)
        self.sql = sql

    def state_forwards(self, app_label: str, state: ProjectState) -> None:
        """Leave the state alone: only rows change."""

    def database_forwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: ProjectState, to_state: ProjectState
    ) -> None:
        """Write the full values in one statement, where they differ."""
        if not _is_allowed(self, app_label, schema_editor, to_state):
            return
        if self.sql is None:
            _fill(app_label, self.model_name, schema_editor, to_state, self.fields)
            return
        table = to_state.apps.get_model(app_label, self.model_name)._meta.db_table
        run_backfill(str(self.sql), Placement(schema_editor.connection, table), _executor(schema_editor))

    def database_backwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: ProjectState, to_state: ProjectState
    ) -> None:
        """Keep the values: nothing depends on their absence."""

    def deconstruct(self) -> tuple[str, Sequence[Any], dict[str, Any]]:
        """Return what a migration writes."""
        kwargs = {"model_name": self.model_name, "fields": self.fields}
        return type(self).__name__, [], kwargs if self.sql is None else {**kwargs, "sql": self.sql}

    def describe(self) -> str:
        """Say what happens, for ``migrate`` and ``makemigrations``."""
        return f"Backfill {', '.join(self.fields)} of {self.model_name}"

    @property
    def migration_name_fragment(self) -> str:
        """The part of a migration's file name."""
        return f"backfill_{self.model_name.lower()}"


def _without_empty(**kwargs: Any) -> dict[str, Any]:
    return {name: value for name, value in kwargs.items() if value != []}


def _is_allowed(
    operation: Operation, app_label: str, schema_editor: BaseDatabaseSchemaEditor, state: ProjectState
) -> bool:
    """Whether the router lets the model's table into this database, which must be PostgreSQL."""
    if schema_editor.connection.vendor != "postgresql":
        return False
    model = state.apps.get_model(app_label, cast("RuleOperation", operation).model_name)
    return operation.allow_migrate_model(schema_editor.connection.alias, model)


def _executor(schema_editor: BaseDatabaseSchemaEditor) -> Any:
    """Return what runs SQL, or collects it for sqlmigrate; parameters are None, so that % stays what it is."""

    def run(sql: str) -> None:
        schema_editor.execute(sql, params=None)

    return run


def _fill(
    app_label: str,
    model_name: str,
    schema_editor: BaseDatabaseSchemaEditor,
    state: ProjectState,
    fields: Sequence[str] | None = None,
) -> None:
    """Write the full values of a model's rules, or of some fields, as they stand in a migration's state."""
    model = complete(state.apps).get_model(app_label, model_name)
    rules = rules_in(state.models[app_label, model_name.lower()])
    columns = None if fields is None else [model._meta.get_field(field).column for field in fields]  # type: ignore[union-attr]
    backfill(plan(model, rules), schema_editor.connection, columns, _executor(schema_editor))
