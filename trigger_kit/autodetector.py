"""INSTALL: what makemigrations sees of rules.

Django compares two project states; this mixin compares their rules and the frozen text of their triggers as well.
Rules that go are removed before fields and models go, compiled as the old state was. Rules that come or change are
added after everything else, compiled against the new state, with dependencies on every column that their SQL reads.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from django.apps.registry import Apps
from django.core.management.commands import makemigrations, migrate
from django.db.migrations.autodetector import MigrationAutodetector, OperationDependency
from django.db.migrations.operations import DeleteModel, RemoveField
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState
from django.db.models import Model

from trigger_kit.compiler import CompiledTrigger, Sql, compile_plan
from trigger_kit.compiler.values import backfill_sql
from trigger_kit.exceptions import RuleError
from trigger_kit.operations import (
    RULES,
    AddRule,
    AlterRule,
    BackfillRule,
    RemoveRule,
    RuleOperation,
    rules_in,
    triggers_in,
)
from trigger_kit.planner import Plan, plan_all
from trigger_kit.planner import plan as plan_rules
from trigger_kit.registry import complete
from trigger_kit.rules import Denormalize

__all__ = ["RuleAutodetectorMixin", "is_patched", "patch_commands"]

ModelKey = tuple[str, str]


class RuleAutodetectorMixin(MigrationAutodetector):
    """Adds rules to whatever autodetector the project has."""

    from_state: ProjectState
    to_state: ProjectState
    rules_wanted: dict[ModelKey, list[Denormalize]]
    old_model_keys: set[ModelKey]
    generated_operations: dict[str, list[Operation]]

    def _detect_changes(self, convert_apps: Any = None, graph: Any = None) -> Any:
        # The rules leave the options, or Django would write them into CreateModel.
        self.rules_wanted = {
            key: rules
            for key, model_state in self.to_state.models.items()
            if (rules := model_state.options.pop(RULES, None)) and self._has_migrations(key[0], convert_apps)
        }
        return super()._detect_changes(convert_apps, graph)  # type: ignore[misc]

    def _has_migrations(self, app_label: str, convert_apps: Any) -> bool:
        return app_label not in self.from_state.real_apps or bool(convert_apps and app_label in convert_apps)

    def generate_deleted_models(self) -> None:
        """Remove rules first: what they read may be about to go."""
        self.triggers_left: dict[ModelKey, list[CompiledTrigger]] = {}
        old = {key: rules for key, model_state in self.from_state.models.items() if (rules := rules_in(model_state))}
        for key in old:
            self._generate_removed_rules(key, old)
        self.plans_before = _resolvable_plans(self.from_state, old)
        super().generate_deleted_models()  # type: ignore[misc]

    def generate_altered_db_table(self) -> None:
        """Add and alter rules last, when every model and column is in its new shape."""
        super().generate_altered_db_table()  # type: ignore[misc]
        plans = _plans(self.to_state.apps, self.rules_wanted)
        for plan in plans:
            self._generate_rules(plan)
        self._generate_backfills(plans)
        for plan in self.plans_before:
            self._let_removals_wait(plan)

    def check_dependency(self, operation: Operation, dependency: Any) -> bool:
        """Tell whether an operation must run first; a removal may wait for the operations of a rule."""
        if isinstance(dependency, RuleDependency):
            return isinstance(operation, RuleOperation) and operation.model_name == dependency.model_name
        return bool(super().check_dependency(operation, dependency))  # type: ignore[misc]

    def _let_removals_wait(self, plan: Plan) -> None:
        """Let columns and models go only when the old rules that read them have gone or changed."""
        key = self._new_key(_key(plan))
        if not any(
            isinstance(op, RuleOperation) and op.model_name == key[1]
            for op in self.generated_operations.get(key[0], ())
        ):
            return
        read = {dependency[:3] for dependency in _dependencies(plan)}
        for app_label, generated in self.generated_operations.items():
            for operation in generated:
                if _removed(app_label, operation) in read:
                    vars(operation)["_auto_deps"].append(RuleDependency(*key, None, OperationDependency.Type.ALTER))

    def _generate_removed_rules(self, old_key: ModelKey, state_rules: dict[ModelKey, list[Denormalize]]) -> None:
        key = self._new_key(old_key)
        old = state_rules[old_key]
        wanted = {rule.field for rule in self.rules_wanted.get(key, ())}
        gone = [rule for rule in old if rule.field not in wanted]
        before = triggers_in(self.from_state.models[old_key])
        if not gone:
            self.triggers_left[key] = before
            return
        left = [rule for rule in old if rule.field in wanted]
        plans = _plans(self.from_state.apps, {**state_rules, old_key: left}) if left else []
        after = [t for item in plans if _key(item) == old_key for t in compile_plan(item)]
        operations: list[RuleOperation] = [RemoveRule(key[1], rule.field) for rule in gone]
        _attach(operations[-1], before, after)
        for operation in operations:
            self.add_operation(key[0], operation)
        self.triggers_left[key] = after

    def _new_key(self, old_key: ModelKey) -> ModelKey:
        """Return a model's key after the renames of this run."""
        renamed = {(app, old): (app, new) for (app, new), old in self.renamed_models.items()}
        return renamed.get(old_key, old_key)

    def _old_rules(self, key: ModelKey) -> dict[str, Denormalize]:
        old_key = key[0], self.renamed_models.get(key, key[1])
        return {rule.field: rule for rule in rules_in(self.from_state.models.get(old_key))}

    def _generate_rules(self, plan: Plan) -> None:
        """Write the operations of one model; the last of them carries the triggers of all."""
        key = _key(plan)
        old = self._old_rules(key)
        wanted = [measure.resolved.rule for measure in plan.measures]
        wanted.sort(key=self.rules_wanted[key].index)
        operations: list[RuleOperation] = [
            AlterRule(key[1], rule) if rule.field in old else AddRule(key[1], rule)
            for rule in wanted
            if old.get(rule.field) != rule
        ]
        before, after = self.triggers_left.get(key, []), list(compile_plan(plan))
        if not operations and set(before) == set(after):
            return
        if not operations:
            operations = [AlterRule(key[1], wanted[0])]
        _attach(operations[-1], before, after)
        dependencies = _dependencies(plan)
        for operation in operations:
            self.add_operation(key[0], operation, dependencies=dependencies)

    def _generate_backfills(self, plans: Iterable[Plan]) -> None:
        """Fill what is new on tables that may have rows; a target is filled before the sources that it sums.

        Filling a source then sends its deltas on, and no value passes through one that is not filled yet.
        """
        for plan in reversed(list(plans)):
            key = _key(plan)
            old = self._old_rules(key)
            rules = [measure.resolved.rule for measure in plan.measures]
            fields = [rule.field for rule in rules if self._is_new(key, rule, old.get(rule.field))]
            if fields and key in self.old_model_keys | set(self.renamed_models):
                dependencies = [*_dependencies(plan), RuleDependency(*key, None, OperationDependency.Type.ALTER)]
                self.add_operation(
                    key[0], BackfillRule(key[1], fields, _frozen_backfill(plan, fields)), dependencies=dependencies
                )

    def _is_new(self, key: ModelKey, rule: Denormalize, old: Denormalize | None) -> bool:
        """Whether a rule may give another value than the one that its field had; a function may have changed inside."""
        if old is None or old.expression != rule.expression:
            return True
        is_function = not hasattr(rule.expression, "resolve_expression")
        return is_function and any(
            isinstance(operation, RuleOperation) and operation.model_name == key[1]
            for operation in self.generated_operations.get(key[0], ())
        )


_CREATE = OperationDependency.Type.CREATE


class RuleDependency(OperationDependency):
    """A dependency on the operations of a model's rules."""


def _frozen_backfill(plan: Plan, fields: list[str]) -> Sql:
    """Return the text that fills some fields: a migration must not depend on what models and functions become later."""
    return Sql(backfill_sql(plan, {m.column for m in plan.measures if m.resolved.rule.field in fields}))


def _removed(app_label: str, operation: Operation) -> tuple[str, str, str | None] | None:
    """Return app, model and field of what an operation removes."""
    if isinstance(operation, RemoveField):
        return app_label, operation.model_name_lower, operation.name
    if isinstance(operation, DeleteModel):
        return app_label, operation.name_lower, None
    return None


def _plans(apps: Apps, rules: dict[ModelKey, list[Denormalize]]) -> list[Plan]:
    complete(apps)
    return plan_all((apps.get_model(*key), declared) for key, declared in sorted(rules.items()))


def _resolvable_plans(state: ProjectState, rules: dict[ModelKey, list[Denormalize]]) -> list[Plan]:
    """Return the plans of old rules, without those that a rename has left under old names: what they read has gone."""
    plans = []
    for key, old in rules.items():
        with suppress(RuleError):
            plans.append(plan_rules(complete(state.apps).get_model(*key), old))
    return plans


def _key(plan: Plan) -> ModelKey:
    return plan.model._meta.app_label, str(plan.model._meta.model_name)


def _attach(operation: RuleOperation, before: list[CompiledTrigger], after: list[CompiledTrigger]) -> None:
    """Let an operation carry the difference between two sets of triggers."""
    names = {trigger.name for trigger in after}
    operation.triggers = [trigger for trigger in after if trigger not in before]
    operation.removed = [str(trigger.name) for trigger in before if trigger.name not in names]


def _dependencies(plan: Plan) -> list[Any]:
    """Return what must exist before a plan's SQL runs: models, and every column that it mentions."""
    found = {_creates(plan.model, measure.resolved.column.name) for measure in plan.measures}
    for source in plan.sources:
        found |= {_creates(source.model, column) for column in (*source.columns, None)}
        kinds = [hop.content_type for hop in source.path if hop.content_type is not None]
        found |= {OperationDependency("contenttypes", "contenttype", None, _CREATE) for _ in kinds}
    return sorted(found | {_creates(plan.model, None)}, key=str)


def _creates(model: type[Model], column: str | None) -> OperationDependency:
    """Return the dependency on the creation of a model or one of its columns."""
    meta = model._meta
    if meta.auto_created:
        # Django makes the table of a many-to-many field with the field.
        owner: Any = meta.auto_created
        (name,) = (f.name for f in owner._meta.local_many_to_many if f.remote_field.through is model)
        return OperationDependency(owner._meta.app_label, owner._meta.model_name, name, _CREATE)
    field = next((field.name for field in meta.local_fields if field.column == column), None)
    return OperationDependency(meta.app_label, str(meta.model_name), field, _CREATE)


def patch_commands() -> None:
    """Give makemigrations and migrate one autodetector that knows rules, on top of the one they have."""
    current = makemigrations.Command.autodetector
    if issubclass(current, RuleAutodetectorMixin):
        return
    combined = type("MigrationAutodetector", (RuleAutodetectorMixin, current), {})
    for module in (makemigrations, migrate):
        module.MigrationAutodetector = combined  # type: ignore[attr-defined]
        module.Command.autodetector = combined


def is_patched() -> bool:
    """Whether both commands still have the autodetector that knows rules."""
    commands = (makemigrations.Command, migrate.Command)
    return all(issubclass(command.autodetector, RuleAutodetectorMixin) for command in commands)
