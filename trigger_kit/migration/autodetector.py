"""MIGRATE: what makemigrations sees of rules.

Django compares two project states; this mixin compares their rules as well, by what they say. Rules that go are removed
before fields and models go. Rules that come or change are added after everything else, with dependencies on every
column that they read. What a run writes for them is worked out where something has changed (``rule_changes``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from importlib import import_module
from typing import Any

from django.apps import apps as live_apps
from django.db.migrations.autodetector import MigrationAutodetector
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState

from trigger_kit.meta import META_OPTION
from trigger_kit.migration.batched import set_apart
from trigger_kit.migration.cycles import cut_cycles
from trigger_kit.migration.dependencies import RuleDependency, ShapeDependency, gives_shape
from trigger_kit.migration.operations import RuleOperation
from trigger_kit.migration.relations import crossed_relations
from trigger_kit.migration.rendering import reading
from trigger_kit.migration.states import ModelKey, StateRule, all_rules
from trigger_kit.rules import Denormalize

__all__ = ["RuleAutodetectorMixin"]


class RuleAutodetectorMixin(MigrationAutodetector):
    """Adds rules to whatever autodetector the project has."""

    from_state: ProjectState
    to_state: ProjectState
    old_model_keys: set[ModelKey]
    renamed_models: dict[ModelKey, str]
    migrations: dict[str, list[Any]]
    generated_operations: dict[str, list[Operation]]

    def _detect_changes(self, convert_apps: Any = None, graph: Any = None) -> Any:
        # The rules leave the options, or Django would write them into CreateModel.
        declared = {key: own_rules(self.to_state, key) for key in self.to_state.models}
        for model_state in self.to_state.models.values():
            model_state.options.pop(META_OPTION, None)
        self.declared = {key: rules for key, rules in declared.items() if rules}
        self.rules_wanted = {
            key: rules for key, rules in self.declared.items() if self._has_migrations(key[0], convert_apps)
        }
        return super()._detect_changes(convert_apps, graph)  # type: ignore[misc]

    def _has_migrations(self, app_label: str, convert_apps: Any) -> bool:
        return app_label not in self.from_state.real_apps or bool(convert_apps and app_label in convert_apps)

    def create_renamed_fields(self) -> None:
        """Work out renamed fields once, before rules are compared: a rule goes with its field."""
        if not hasattr(self, "renamed_operations"):
            super().create_renamed_fields()  # type: ignore[misc]

    def generate_deleted_models(self) -> None:
        """Remove rules first: what they read may be about to go."""
        self.create_renamed_fields()
        self.rules_before = {
            key: rules for key, rules in all_rules(self.from_state).items() if key in self.from_state.models
        }
        if not self.is_unchanged:
            self.rule_changes.remove()
        super().generate_deleted_models()  # type: ignore[misc]

    def generate_altered_db_table(self) -> None:
        """Add and alter rules last, when every model and column is in its new shape."""
        super().generate_altered_db_table()  # type: ignore[misc]
        if not self.is_unchanged:
            self.rule_changes.add()

    def check_dependency(self, operation: Operation, dependency: Any) -> bool:
        """Tell whether an operation must run first; a removal may wait for the operations of a rule."""
        if isinstance(dependency, RuleDependency):
            return isinstance(operation, RuleOperation) and operation.model_name == dependency.model_name
        if isinstance(dependency, ShapeDependency):
            return gives_shape(operation, dependency)
        return bool(super().check_dependency(operation, dependency))  # type: ignore[misc]

    def _resolve_dependency(self, dependency: Any) -> tuple[Any, bool]:
        """Return a dependency on a swappable model with the model's name; Django's loses of which kind it is."""
        resolved, is_swappable = super()._resolve_dependency(dependency)  # type: ignore[misc]
        return type(dependency)(*resolved), is_swappable

    def _build_migration_list(self, graph: Any = None) -> None:
        """Cut the operations into migrations."""
        super()._build_migration_list(graph)  # type: ignore[misc]
        cut_cycles(self.migrations, graph)
        set_apart(self.migrations)

    def declared_rule(self, key: ModelKey, rule: Denormalize) -> StateRule:
        """Return a declared rule as a state holds it, with the generic relations of today's models that it crosses."""
        label = ".".join(key)
        try:
            model = live_apps.get_model(*key)
        except LookupError:
            return StateRule(rule, origin=label)
        return StateRule(rule, crossed_relations(rule, model), origin=label)

    @cached_property
    def rule_changes(self) -> Any:
        """What this run writes for rules."""
        return import_module("trigger_kit.migration.rule_changes").RuleChanges(self)

    @cached_property
    def is_unchanged(self) -> bool:
        """Whether rules are what they were, and so is all that they read: most runs find that, and compile nothing."""
        if self.renamed_models or vars(self)["renamed_fields"]:
            return False
        wanted = {
            key: tuple(self.declared_rule(key, rule) for rule in rules) for key, rules in self.rules_wanted.items()
        }
        if wanted.keys() != self.rules_before.keys():
            return False
        if any(not _say_the_same(self.rules_before[key], rules) for key, rules in wanted.items()):
            return False
        return reading(self.from_state, rules=self.rules_before).text == reading(self.to_state, rules=wanted).text


def _say_the_same(before: Sequence[StateRule], wanted: Sequence[StateRule]) -> bool:
    """Whether two states have the same rules of a model, filled and with one way each."""
    old, new = ({item.name: (item.rule, set(item.relations)) for item in found} for found in (before, wanted))
    return old == new and all(item.is_filled and not item.is_lost for item in before)


def own_rules(state: ProjectState, key: ModelKey) -> list[Denormalize]:
    """Return the rules that a model declares, without those that it only shares with a parent in another table.

    They come in the order of their fields' names.
    """

    def declared(other: ModelKey) -> list[Denormalize]:
        value: Any = state.models[other].options.get(META_OPTION, ())
        return [rule for rule in value if isinstance(rule, Denormalize)] if isinstance(value, (list, tuple)) else []

    model_state = state.models[key]
    parents = [base for base in model_state.bases if isinstance(base, str)]
    keys: Iterable[Any] = [tuple(base.lower().split(".")) for base in parents]
    kept = [rule for parent in keys if parent in state.models for rule in declared(parent)]
    return [rule for rule in declared(key) if rule.field in model_state.fields or rule not in kept]
