"""INSTALL: the migration operations.

A rule's operation changes the state of its model: which rules it has, and the frozen text of every trigger that keeps
them. What happens in the database follows from the two states, forwards and backwards alike: triggers that are gone
are dropped, those that are new or different are installed.

Several operations of one migration on one model share their triggers: the first of them carries the text for all, so
that on the way back the rules are what they were when the triggers are changed and their values filled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.operations.base import Operation, OperationCategory
from django.db.migrations.state import ModelState, ProjectState

from trigger_kit.database.catalog import Placement
from trigger_kit.database.changeover import change_triggers, runner
from trigger_kit.database.filling import Filling
from trigger_kit.database.installation import backfill, run_backfill
from trigger_kit.database.routing import is_at_home
from trigger_kit.migration.first_fill import batches_script, fill_in_batches, require_few_rows
from trigger_kit.migration.reduction import ADDITIONS, TextOperation
from trigger_kit.migration.scripts import executor, in_transaction
from trigger_kit.plan.plan import plan
from trigger_kit.resolve.columns import column_of
from trigger_kit.resolve.declared import complete
from trigger_kit.rules import Denormalize
from trigger_kit.sql import CompiledTrigger, Sql
from trigger_kit.sql.text import SCHEMA

__all__ = ["AddRule", "AlterRule", "BackfillRule", "RemoveRule", "executor", "rules_in", "triggers_in"]

RULES = "denormalizations"
# Django leaves private Meta attributes alone, so the texts travel in the model's options.
TRIGGERS = "_trigger_kit_triggers"
# The names of those whose text no migration holds, because it has followed a rename.
FOLLOWED = "_trigger_kit_followed"


def rules_in(model_state: ModelState | None) -> list[Denormalize]:
    """Return the rules that a model has in a migration's state."""
    return list(model_state.options.get(RULES, ())) if model_state else []


def triggers_in(model_state: ModelState | None) -> list[CompiledTrigger]:
    """Return the frozen triggers that keep a model's rules in a migration's state."""
    return list(model_state.options.get(TRIGGERS, ())) if model_state else []


class RuleOperation(TextOperation):
    """What AddRule, AlterRule and RemoveRule share."""

    reduces_to_sql = True
    reversible = True
    serialization_expand_args = ["triggers", "removed"]

    def new_rules(self, rules: list[Denormalize]) -> list[Denormalize]:
        """Return the model's rules after this operation."""
        raise NotImplementedError

    def state_forwards(self, app_label: str, state: ProjectState) -> None:
        """Change the model's rules and the frozen text of its triggers."""
        model_state = state.models[app_label, self.model_name.lower()]
        model_state.options[RULES] = self.new_rules(rules_in(model_state))
        _take_text(model_state, self.triggers, self.removed)
        state.reload_model(app_label, self.model_name.lower(), delay=True)

    def database_forwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: ProjectState, to_state: ProjectState
    ) -> None:
        """Bring the database's triggers from one state's to the other's."""
        if not _is_allowed(self, app_label, schema_editor, from_state, to_state):
            return
        key = app_label, self.model_name.lower()
        _change_triggers(schema_editor, from_state.models.get(key), to_state.models.get(key))

    def database_backwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: ProjectState, to_state: ProjectState
    ) -> None:
        """Do the same the other way round; what the rules kept meanwhile is not known, so it is filled again."""
        self.database_forwards(app_label, schema_editor, from_state, to_state)
        key = app_label, self.model_name.lower()
        before, after = triggers_in(from_state.models.get(key)), triggers_in(to_state.models.get(key))
        if after and before != after and _is_allowed(self, app_label, schema_editor, from_state, to_state):
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
        self.came = frozenset({rule.field} if self.category is OperationCategory.ADDITION else ())

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

    @property
    def field_name(self) -> str:
        """The field whose rule this is about."""
        return self.rule.field

    def joined_with(self, operation: TextOperation) -> list[Operation] | None:
        """Take the rule of a later AlterRule; of a rule that comes and goes only the text may stay."""
        if isinstance(operation, AlterRule):
            joined = self.before(operation)
            joined.rule = operation.rule
            return [joined]
        if not isinstance(operation, RemoveRule):
            return None
        joined = operation.after(self)
        joined.is_rest = self.rule.field in self.came
        return [] if joined.is_rest and joined.leaves_nothing else [joined]

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

    @property
    def field_name(self) -> str:
        """The field whose rule this is about."""
        return self.field

    def joined_with(self, operation: TextOperation) -> list[Operation] | None:
        """Stay apart: a rule that has gone does not change any more."""
        return None

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

    ``batched`` fills in batches, each a transaction of its own, in a migration with ``atomic = False``. Until then
    functions compute every touched row afresh; ``triggers`` and ``removed`` is the text that then takes their place.
    """

    category = OperationCategory.ALTERATION
    reduces_to_sql = True
    reversible = True
    serialization_expand_args = ["fields", "triggers", "removed"]

    def __init__(
        self,
        model_name: str,
        fields: Sequence[str],
        sql: Sql | None = None,
        *,
        elidable: bool = False,
        batched: bool = False,
        triggers: Sequence[CompiledTrigger] = (),
        removed: Sequence[str] = (),
    ) -> None:
        self.model_name = model_name
        self.fields = list(fields)
        self.sql = sql
        self.elidable = elidable  # type: ignore[misc]
        self.batched = batched
        self.triggers = list(triggers)
        self.removed = list(removed)

    def state_forwards(self, app_label: str, state: ProjectState) -> None:
        """Change the frozen text of the triggers, where this comes with another one: else only rows change."""
        if self.triggers or self.removed:
            _take_text(state.models[app_label, self.model_name.lower()], self.triggers, self.removed)

    def database_forwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: ProjectState, to_state: ProjectState
    ) -> None:
        """Write the full values where they differ: in one statement, or in batches and then change the triggers."""
        if not _is_allowed(self, app_label, schema_editor, to_state):
            return
        filling = self._filling(app_label, to_state)
        if self.batched:
            self._fill_in_batches(filling, app_label, schema_editor, from_state, to_state)
            return
        if not schema_editor.collect_sql:
            require_few_rows(schema_editor.connection, filling, is_batched=False)
        if self.sql is None:
            _fill(app_label, self.model_name, schema_editor, to_state, self.fields)
            return
        table = to_state.apps.get_model(app_label, self.model_name)._meta.db_table
        with in_transaction(schema_editor) as collect:
            run = collect or runner(schema_editor.connection)
            run_backfill(str(self.sql), Placement(schema_editor.connection, table), run)

    def database_backwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: ProjectState, to_state: ProjectState
    ) -> None:
        """Keep the values: nothing depends on their absence; go back to the triggers that were there before."""
        if self.batched and _is_allowed(self, app_label, schema_editor, from_state, to_state):
            key = app_label, self.model_name.lower()
            _change_triggers(schema_editor, from_state.models.get(key), to_state.models.get(key))

    def _filling(self, app_label: str, state: ProjectState) -> Filling:
        """Return what is filled; the text of one that is not batched is not for batches."""
        model = complete(state.apps).get_model(app_label, self.model_name)
        if self.batched and self.sql is None:
            columns = [model._meta.get_field(field).column for field in self.fields]
            return Filling.of(plan(model, rules_in(state.models[app_label, self.model_name.lower()])), columns)
        key = tuple(column_of(field) for field in model._meta.pk_fields)
        return Filling(model._meta.label, tuple(self.fields), model._meta.db_table, key, str(self.sql))

    def _fill_in_batches(
        self,
        filling: Filling,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        before, after = (state.models.get((app_label, self.model_name.lower())) for state in (from_state, to_state))
        collect = executor(schema_editor)
        if collect is None:
            fill_in_batches(schema_editor.connection, filling, lambda: _change_triggers(schema_editor, before, after))
            return
        batches_script(filling, Placement(schema_editor.connection, filling.target), collect)
        _change_triggers(schema_editor, before, after)

    def deconstruct(self) -> tuple[str, Sequence[Any], dict[str, Any]]:
        """Return what a migration writes."""
        kwargs: dict[str, Any] = {"model_name": self.model_name, "fields": self.fields}
        if self.sql is not None:
            kwargs["sql"] = self.sql
        if self.elidable:
            kwargs["elidable"] = True
        if self.batched:
            kwargs["batched"] = True
        return type(self).__name__, [], kwargs | _without_empty(triggers=self.triggers, removed=self.removed)

    def describe(self) -> str:
        """Say what happens, for ``migrate`` and ``makemigrations``."""
        return f"Backfill {', '.join(self.fields)} of {self.model_name}{' in batches' if self.batched else ''}"

    def reduce(self, operation: Operation, app_label: str) -> bool | list[Operation]:
        """Leave the fields to a later operation that fills them too; let a change of their rules go first."""
        reduced = super().reduce(operation, app_label)
        if reduced or isinstance(operation, ADDITIONS):
            return reduced or True
        if self.batched or not isinstance(operation, (BackfillRule, RuleOperation)):
            return False
        if operation.model_name.lower() != self.model_name.lower():
            return False
        if isinstance(operation, BackfillRule):
            is_covered = set(self.fields) <= set(operation.fields) and not operation.batched
            return [operation] if is_covered else False
        # The text of a QUEUED or DEFERRED rule names what only stands beside the triggers of this moment.
        is_plain = self.sql is not None and SCHEMA not in self.sql.text
        return is_plain and not any(trigger.undo for trigger in operation.triggers)

    @property
    def migration_name_fragment(self) -> str:
        """The part of a migration's file name."""
        return f"backfill_{self.model_name.lower()}"


def _take_text(model_state: ModelState, triggers: Sequence[CompiledTrigger], removed: Sequence[str]) -> None:
    """Let a state have the text that an operation carries; of what has followed a rename, that alone is left."""
    if not triggers and not removed:
        return
    gone = {*removed, *(str(trigger.name) for trigger in triggers), *model_state.options.get(FOLLOWED, ())}
    kept = [trigger for trigger in triggers_in(model_state) if trigger.name not in gone]
    model_state.options[TRIGGERS] = [*kept, *triggers]
    model_state.options[FOLLOWED] = frozenset()


def _change_triggers(schema_editor: BaseDatabaseSchemaEditor, old: ModelState | None, new: ModelState | None) -> None:
    """Bring the database's triggers of a model from one state's to another's."""
    before, after = triggers_in(old), triggers_in(new)
    changed = [trigger for trigger in after if trigger not in before]
    names = {trigger.name for trigger in after}
    dropped = [trigger for trigger in before if trigger.name not in names]
    replaced = [trigger for trigger in before if trigger.name in {item.name for item in changed}]
    with in_transaction(schema_editor) as collect:
        change_triggers(schema_editor.connection, [*dropped, *replaced], changed, collect)


def _without_empty(**kwargs: Any) -> dict[str, Any]:
    return {name: value for name, value in kwargs.items() if value != []}


def _is_allowed(operation: Any, app_label: str, schema_editor: BaseDatabaseSchemaEditor, *states: ProjectState) -> bool:
    """Whether the target and its sources, as they are in these states, belong into this database."""
    key = app_label, operation.model_name.lower()
    tables = {trigger.on for state in states for trigger in triggers_in(state.models.get(key))}
    return is_at_home(schema_editor.connection, states[-1].apps, key, tables)


def _fill(
    app_label: str,
    model_name: str,
    schema_editor: BaseDatabaseSchemaEditor,
    state: ProjectState,
    fields: Sequence[str] | None = None,
) -> None:
    """Write the full values of a model's rules, or of some fields, as they stand in a migration's state."""
    # A rule's path may lead over models that are not rendered anew yet.
    state.clear_delayed_apps_cache()
    model = complete(state.apps).get_model(app_label, model_name)
    rules = rules_in(state.models[app_label, model_name.lower()])
    columns = None if fields is None else [model._meta.get_field(field).column for field in fields]  # type: ignore[union-attr]
    with in_transaction(schema_editor) as collect:
        backfill(plan(model, rules), schema_editor.connection, columns, collect)
