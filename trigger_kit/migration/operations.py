"""MIGRATE: the operations of migrations. They hold the rule, as AddIndex and AddConstraint hold theirs.

An operation changes the state of its model: which rules it has. What happens in the database follows from the two
states, forwards and backwards alike; the SQL is compiled from them when the operation runs (``running``, which is
imported then: whoever has migrations loads this module, and runs few of them).

Where trigger_kit is not in INSTALLED_APPS any more, old migrations still load and run: AddRule, AlterRule and
BackfillRule touch no database then, and RemoveRule drops what the catalog says is the target's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import replace
from importlib import import_module
from typing import Any

from django.apps import apps as live_apps
from django.conf import SettingsReference, settings
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.operations import (
    AddField,
    AddIndex,
    AlterModelManagers,
    CreateModel,
    SeparateDatabaseAndState,
)
from django.db.migrations.operations.base import Operation, OperationCategory
from django.db.migrations.state import ProjectState

from trigger_kit.exceptions import TriggerKitError
from trigger_kit.migration.relations import CrossedRelation
from trigger_kit.migration.states import StateRule, rules_in, set_rules
from trigger_kit.rules import Denormalize

__all__ = ["AddRule", "AlterRule", "BackfillRule", "CrossedRelation", "RemoveRule", "RuleOperation", "flat"]

# Operations that may run earlier than those of rules: they take away and change nothing that a path leads over.
ADDITIONS = (AddField, AddIndex, AlterModelManagers, CreateModel)


def is_installed() -> bool:
    """Whether the project still has trigger_kit; where it has gone, its migrations stay."""
    return live_apps.is_installed("trigger_kit")


def _running() -> Any:
    return import_module("trigger_kit.migration.running")


class RuleOperation(Operation):
    """What AddRule, AlterRule and RemoveRule share."""

    reduces_to_sql = True
    reversible = True
    model_name: str

    @property
    def name(self) -> str:
        """The name of the rule that this is about."""
        raise NotImplementedError

    def new_rules(self, rules: tuple[StateRule, ...], label: str) -> list[StateRule]:
        """Return the model's rules after this operation; ``label`` is the model's."""
        raise NotImplementedError

    def state_forwards(self, app_label: str, state: ProjectState) -> None:
        """Change the model's rules."""
        key = app_label, self.model_name.lower()
        set_rules(state, key, self.new_rules(rules_in(state.models[key]), ".".join(key)))

    def database_forwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: ProjectState, to_state: ProjectState
    ) -> None:
        """Bring the database from one state's rules to the other's."""
        if is_installed():
            _running().bring_states(schema_editor, from_state, to_state)

    def database_backwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: ProjectState, to_state: ProjectState
    ) -> None:
        """Do the same the other way round."""
        self.database_forwards(app_label, schema_editor, from_state, to_state)

    def is_about_the_same(self, other: RuleOperation) -> bool:
        """Whether another operation is about the same rule."""
        return (self.model_name.lower(), self.name) == (other.model_name.lower(), other.name)

    def reduce(self, operation: Operation, app_label: str) -> bool | list[Operation]:
        """Become one with a later operation on the same rule.

        References are never denied: the paths of a rule lead over models and fields that it does not name by label.
        """
        reduced: bool | list[Operation] = super().reduce(operation, app_label)
        if reduced or not isinstance(operation, (RuleOperation, BackfillRule)):
            return reduced or isinstance(operation, ADDITIONS)
        if isinstance(operation, BackfillRule):
            return self.joined_with_fill(operation)
        return self.joined_with(operation) if self.is_about_the_same(operation) else True

    def joined_with(self, operation: RuleOperation) -> bool | list[Operation]:
        """Return what has the same effect as this and a later operation on the same rule."""
        return False

    def joined_with_fill(self, operation: BackfillRule) -> bool | list[Operation]:
        """Return what has the same effect as this and a later fill."""
        return operation.model_name.lower() != self.model_name.lower()


class AddRule(RuleOperation):
    """Keep a field from now on, and fill it for the rows that exist already.

    ``relations`` are the generic relations that the rule's paths cross, ``time_zone`` is ``settings.TIME_ZONE`` where
    the value depends on it. ``fill=False`` leaves the fill to a BackfillRule of a later migration; until then every row
    that is touched is computed afresh.

    ::

        trigger_kit.migration.operations.AddRule(
            model_name="author",
            rule=trigger_kit.Denormalize("num_books", models.Count("books")),
        )
    """

    category = OperationCategory.ADDITION

    def __init__(
        self,
        model_name: str,
        rule: Denormalize,
        *,
        relations: Sequence[CrossedRelation] = (),
        time_zone: str | None = None,
        fill: bool = True,
    ) -> None:
        self.model_name = model_name
        self.rule = rule
        self.relations = tuple(relations)
        self.time_zone = time_zone
        self.fill = fill

    @property
    def name(self) -> str:
        """The name of the rule that this is about."""
        return self.rule.field

    def deconstruct(self) -> tuple[str, Sequence[Any], dict[str, Any]]:
        """Return what a migration writes."""
        kwargs: dict[str, Any] = {"model_name": self.model_name, "rule": self.rule}
        if self.relations:
            kwargs["relations"] = list(self.relations)
        if self.time_zone is not None:
            kwargs["time_zone"] = SettingsReference(self.time_zone, "TIME_ZONE")
        if not self.fill:
            kwargs["fill"] = False
        return type(self).__name__, [], kwargs

    def new_rules(self, rules: tuple[StateRule, ...], label: str) -> list[StateRule]:
        """Return the rules with this one at the end."""
        if any(item.name == self.name for item in rules) and is_installed():
            raise TriggerKitError(f"{label}:{self.name} has a rule already: AddRule adds one where there is none.")
        return [*rules, self.in_state(rules[0].origin if rules else label)]

    def in_state(self, origin: str) -> StateRule:
        """Return the rule as a state holds it."""
        if self.time_zone not in {None, settings.TIME_ZONE}:
            raise TriggerKitError(
                f"{self.model_name}:{self.name}: time_zone is {self.time_zone!r}, not settings.TIME_ZONE, which "
                "annotate() goes by. Write time_zone=settings.TIME_ZONE; for another zone, write tzinfo= in the rule."
            )
        return StateRule(self.rule, self.relations, self.time_zone, self.fill, origin)

    def joined_with(self, operation: RuleOperation) -> bool | list[Operation]:
        """Take the rule of a later AlterRule; a rule that comes and goes leaves nothing."""
        if isinstance(operation, AlterRule):
            return [self.with_rule_of(operation)]
        return [] if isinstance(operation, RemoveRule) else False

    def with_rule_of(self, operation: AlterRule) -> AddRule:
        """Return this operation with the rule of a later one."""
        joined = copy(self)
        joined.rule, joined.relations, joined.time_zone = operation.rule, operation.relations, operation.time_zone
        joined.fill = self.fill and operation.fill
        return joined

    def joined_with_fill(self, operation: BackfillRule) -> bool | list[Operation]:
        """Fill at once what a later operation would fill in batches; what is filled here needs no other fill."""
        if operation.model_name.lower() != self.model_name.lower() or self.name not in operation.fields:
            return True
        if operation.fields != [self.name] or self.fill is operation.batched:
            return False
        joined = copy(self)
        joined.fill = True
        return [joined]

    def describe(self) -> str:
        """Say what happens, for ``migrate`` and ``makemigrations``."""
        return f"Add rule {self.name} to {self.model_name}"

    @property
    def migration_name_fragment(self) -> str:
        """The part of a migration's file name."""
        return f"{self.model_name.lower()}_{self.name.lower()}_rule"


class AlterRule(AddRule):
    """Replace the rule of a field; its rows are filled again where the value means something else."""

    category = OperationCategory.ALTERATION

    def new_rules(self, rules: tuple[StateRule, ...], label: str) -> list[StateRule]:
        """Return the rules with this one in the place of its field's."""
        if not any(item.name == self.name for item in rules) and is_installed():
            raise TriggerKitError(f"{label}:{self.name} has no rule yet: AlterRule replaces one. Use AddRule.")
        return [self.in_state(item.origin) if item.name == self.name else item for item in rules]

    def joined_with(self, operation: RuleOperation) -> bool | list[Operation]:
        """Leave it to a later operation on the same rule."""
        if isinstance(operation, AlterRule):
            return [operation] if operation.fill or not self.fill else False
        return [operation] if isinstance(operation, RemoveRule) else False

    def describe(self) -> str:
        """Say what happens, for ``migrate`` and ``makemigrations``."""
        return f"Alter rule {self.name} of {self.model_name}"

    @property
    def migration_name_fragment(self) -> str:
        """The part of a migration's file name."""
        return f"alter_{super().migration_name_fragment}"


class RemoveRule(RuleOperation):
    """Keep a field no longer; it stays as it is."""

    category = OperationCategory.REMOVAL

    def __init__(self, model_name: str, name: str) -> None:
        self.model_name = model_name
        self.rule_name = name

    @property
    def name(self) -> str:
        """The name of the rule that this is about."""
        return self.rule_name

    def deconstruct(self) -> tuple[str, Sequence[Any], dict[str, Any]]:
        """Return what a migration writes."""
        return type(self).__name__, [], {"model_name": self.model_name, "name": self.name}

    def new_rules(self, rules: tuple[StateRule, ...], label: str) -> list[StateRule]:
        """Return the rules without this one."""
        left = [item for item in rules if item.name != self.name]
        if len(left) == len(rules) and is_installed():
            raise TriggerKitError(f"{label}:{self.name} has no rule, so that RemoveRule cannot remove it.")
        return left

    def database_forwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: ProjectState, to_state: ProjectState
    ) -> None:
        """Bring the database from one state's rules to the other's; without trigger_kit, drop all of the target's."""
        if is_installed():
            super().database_forwards(app_label, schema_editor, from_state, to_state)
        elif schema_editor.connection.vendor == "postgresql" and self._is_forwards(app_label, from_state, to_state):
            self._leave(app_label, schema_editor, to_state)

    def _is_forwards(self, app_label: str, from_state: ProjectState, to_state: ProjectState) -> bool:
        key = app_label, self.model_name.lower()
        return len(rules_in(from_state.models.get(key))) >= len(rules_in(to_state.models.get(key)))

    def _leave(self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, state: ProjectState) -> None:
        model = state.apps.get_model(app_label, self.model_name)
        if not self.allow_migrate_model(schema_editor.connection.alias, model):
            return
        _running().drop_all(schema_editor, model._meta.db_table)

    def describe(self) -> str:
        """Say what happens, for ``migrate`` and ``makemigrations``."""
        return f"Remove rule {self.name} from {self.model_name}"

    @property
    def migration_name_fragment(self) -> str:
        """The part of a migration's file name."""
        return f"remove_{self.model_name.lower()}_{self.name.lower()}_rule"


class BackfillRule(Operation):
    """Fill columns again whose rules have stayed as they are and mean something else, or fill them in batches.

    ``batched`` fills in batches, each a transaction of its own, in a migration with ``atomic = False``: what AddRule or
    AlterRule have left to it with ``fill=False``.
    """

    category = OperationCategory.ALTERATION
    reduces_to_sql = True
    reversible = True

    def __init__(
        self, model_name: str, fields: Sequence[str], *, batched: bool = False, elidable: bool = False
    ) -> None:
        self.model_name = model_name
        self.fields = list(fields)
        self.batched = batched
        self.elidable = elidable  # type: ignore[misc]

    def deconstruct(self) -> tuple[str, Sequence[Any], dict[str, Any]]:
        """Return what a migration writes."""
        kwargs: dict[str, Any] = {"model_name": self.model_name, "fields": self.fields}
        kwargs |= {"batched": True} if self.batched else {}
        kwargs |= {"elidable": True} if self.elidable else {}
        return type(self).__name__, [], kwargs

    def state_forwards(self, app_label: str, state: ProjectState) -> None:
        """Note that the fields are filled."""
        key = app_label, self.model_name.lower()
        set_rules(state, key, [self._filled(item) for item in rules_in(state.models[key])])

    def _filled(self, item: StateRule) -> StateRule:
        is_meant = item.name in self.fields and not item.is_filled
        return replace(item, is_filled=True) if is_meant else item

    def database_forwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: ProjectState, to_state: ProjectState
    ) -> None:
        """Write the full values where they differ: in one statement, or in batches and then change the triggers."""
        if is_installed():
            key = app_label, self.model_name.lower()
            _running().fill_again(schema_editor, key, self.fields, from_state, to_state, batched=self.batched)

    def database_backwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: ProjectState, to_state: ProjectState
    ) -> None:
        """Keep the values: nothing depends on their absence; go back to the triggers that were there before."""
        if is_installed():
            _running().bring_states(schema_editor, from_state, to_state)

    def describe(self) -> str:
        """Say what happens, for ``migrate`` and ``makemigrations``."""
        return f"Backfill {', '.join(self.fields)} of {self.model_name}{' in batches' if self.batched else ''}"

    def reduce(self, operation: Operation, app_label: str) -> bool | list[Operation]:
        """Leave the fields to a later operation that fills them too."""
        reduced = super().reduce(operation, app_label)
        if reduced or not isinstance(operation, (RuleOperation, BackfillRule)):
            return reduced or isinstance(operation, ADDITIONS)
        if operation.model_name.lower() != self.model_name.lower():
            return True
        if isinstance(operation, BackfillRule):
            is_covered = set(self.fields) <= set(operation.fields) and self.batched is operation.batched
            return [operation] if is_covered else False
        return operation.name not in self.fields

    @property
    def migration_name_fragment(self) -> str:
        """The part of a migration's file name."""
        return f"backfill_{self.model_name.lower()}"


def flat(operations: Sequence[Operation]) -> Iterator[Operation]:
    """Yield operations, those inside of others too."""
    for operation in operations:
        if isinstance(operation, SeparateDatabaseAndState):
            yield from flat([*operation.database_operations, *operation.state_operations])
        else:
            yield operation
