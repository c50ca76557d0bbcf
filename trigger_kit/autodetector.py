"""INSTALL: what makemigrations sees of rules.

Django compares two project states; this mixin compares their rules and the frozen text of their triggers as well.
Rules that go are removed before fields and models go, compiled as the old state was. Rules that come or change are
added after everything else, compiled against the new state, with dependencies on every column that their SQL reads.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from django.apps.registry import Apps
from django.core.management.commands import makemigrations, migrate
from django.db.migrations.autodetector import MigrationAutodetector, OperationDependency
from django.db.migrations.operations import AddField, AlterField, DeleteModel, RemoveField
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ModelState, ProjectState
from django.db.migrations.writer import MigrationWriter
from django.db.models import Model

from trigger_kit.compiler import CompiledTrigger, Sql, compile_plan
from trigger_kit.compiler.values import backfill_sql
from trigger_kit.exceptions import RuleError
from trigger_kit.measures import Measure
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
        found = {key: own_rules(self.to_state, key) for key in self.to_state.models}
        for model_state in self.to_state.models.values():
            model_state.options.pop(RULES, None)
        self.rules_wanted = {
            key: rules for key, rules in found.items() if rules and self._has_migrations(key[0], convert_apps)
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
        if not self._has_operation(key):
            return
        read = {dependency[:3] for dependency in _dependencies(plan)}
        for app_label, generated in self.generated_operations.items():
            for operation in generated:
                if _removed(app_label, operation) in read and not self._comes_back(app_label, operation):
                    vars(operation)["_auto_deps"].append(RuleDependency(*key, None, OperationDependency.Type.ALTER))

    def _comes_back(self, app_label: str, operation: Operation) -> bool:
        """Whether a field goes only to come back as another kind, which has to wait for it, and rules for that."""
        return isinstance(operation, RemoveField) and any(
            isinstance(other, AddField)
            and (other.model_name_lower, other.name) == (operation.model_name_lower, operation.name)
            for other in self.generated_operations.get(app_label, ())
        )

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
        _attach(operations[0], before, after)
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
        """Write the operations of one model; the first of them carries the triggers of all."""
        key = _key(plan)
        old = self._old_rules(key)
        wanted = [measure.resolved.rule for measure in plan.measures]
        wanted.sort(key=self.rules_wanted[key].index)
        operations: list[RuleOperation] = [
            AlterRule(key[1], rule) if rule.field in old else AddRule(key[1], rule)
            for rule in wanted
            if not _is_same(old.get(rule.field), rule)
        ]
        before, after = self.triggers_left.get(key, []), list(compile_plan(plan))
        if not operations and set(before) == set(after):
            return
        if not operations:
            operations = [AlterRule(key[1], wanted[0])]
        _attach(operations[0], before, after)
        dependencies = _dependencies(plan)
        for operation in operations:
            self.add_operation(key[0], operation, dependencies=dependencies)

    def _generate_backfills(self, plans: Iterable[Plan]) -> None:
        """Fill what is new on tables that may have rows; a target is filled before the sources that it sums.

        Filling a source then sends its deltas on, and no value passes through one that is not filled yet.
        """
        before = {self._new_key(_key(plan)): plan for plan in self.plans_before}
        for plan in reversed(list(plans)):
            key = _key(plan)
            if key not in self.old_model_keys | set(self.renamed_models):
                continue
            fields = self._new_fields(plan, before.get(key))
            if fields:
                dependencies = [*_dependencies(plan), RuleDependency(*key, None, OperationDependency.Type.ALTER)]
                dependencies += self._altered_columns(plan)
                self.add_operation(
                    key[0], BackfillRule(key[1], fields, _frozen_backfill(plan, fields)), dependencies=dependencies
                )

    def _new_fields(self, plan: Plan, before: Plan | None) -> list[str]:
        """Return the fields whose values may be others than those that are stored."""
        key = _key(plan)
        rules = {measure.resolved.rule.field: measure.resolved.rule for measure in plan.measures}
        if _time_zones(self.triggers_left.get(key, [])) not in (set(), _time_zones(compile_plan(plan))):
            return list(rules)  # settings.TIME_ZONE is another one
        kept = self._old_rules(key)
        new = {field for field, rule in rules.items() if field not in kept}
        if before is None:
            new |= {field for field, rule in rules.items() if not _is_same(kept.get(field), rule)}
        else:
            old, now = self._values(before), values_of_fields(plan)
            new |= {field for field in rules if old.get(field) != now[field]}
        if self._has_operation(key):  # What migrations do not hold may have changed: functions, generic relations.
            new |= {m.resolved.rule.field for m in plan.measures if _is_unwritten(m)}
        return [field for field in rules if field in new]

    def _has_operation(self, key: ModelKey) -> bool:
        """Whether this run has written an operation for the rules of a model."""
        return any(
            isinstance(operation, RuleOperation) and operation.model_name == key[1]
            for operation in self.generated_operations.get(key[0], ())
        )

    def _values(self, plan: Plan) -> dict[str, Any]:
        """Return what the values of an old plan's fields follow from, in the names that models and columns have now."""
        renamed = {}
        for (app_label, model_name), old_name in self.renamed_models.items():
            new, old = (self.to_state.models[app_label, model_name], self.from_state.models[app_label, old_name])
            renamed[_table(app_label, old)] = _table(app_label, new)
        for (app_label, model_name, name), old_name in self.renamed_fields.items():
            old_model = self.renamed_models.get((app_label, model_name), model_name)
            before: Any = self.from_state.apps.get_model(app_label, old_model)._meta.get_field(old_name)
            after: Any = self.to_state.apps.get_model(app_label, model_name)._meta.get_field(name)
            renamed[before.column] = after.column
        return values_of_fields(plan, {old: new for old, new in renamed.items() if old != new and old})

    def _altered_columns(self, plan: Plan) -> list[OperationDependency]:
        """Return the alterations of columns that a plan reads or keeps: the values are computed after them."""
        altered = {
            (app_label, operation.model_name_lower, operation.name)
            for app_label, operations in self.generated_operations.items()
            for operation in operations
            if isinstance(operation, AlterField)
        }
        return [
            OperationDependency(needed.app_label, needed.model_name, needed.field_name, OperationDependency.Type.ALTER)
            for needed in _dependencies(plan)
            if (needed.app_label, needed.model_name, needed.field_name) in altered
        ]


_CREATE = OperationDependency.Type.CREATE


class RuleDependency(OperationDependency):
    """A dependency on the operations of a model's rules."""


def _frozen_backfill(plan: Plan, fields: list[str]) -> Sql:
    """Return the text that fills some fields: a migration must not depend on what models and functions become later."""
    return Sql(backfill_sql(plan, {m.column for m in plan.measures if m.resolved.rule.field in fields}))


def own_rules(state: ProjectState, key: ModelKey) -> list[Denormalize]:
    """Return the rules of a model, without those that it only shares with a parent which has a table of its own."""
    model_state = state.models[key]
    parents = [base for base in model_state.bases if isinstance(base, str)]
    keys = [parent_key for base in parents if (parent_key := tuple(base.lower().split("."))) in state.models]
    kept = [rule for parent_key in keys for rule in rules_in(state.models[parent_key])]  # type: ignore[index]
    return [rule for rule in rules_in(model_state) if rule.field in model_state.fields or rule not in kept]


def _is_same(old: Denormalize | None, new: Denormalize) -> bool:
    """Whether two rules are written alike; Django's comparison minds the order of keyword arguments."""
    return old is not None and (old == new or MigrationWriter.serialize(old) == MigrationWriter.serialize(new))


def values_of_fields(plan: Plan, renamed: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return what each field's value follows from: the text that computes it, and the types of all columns in it.

    ``renamed`` gives tables and columns the names that they have by now.
    """
    pattern = re.compile("|".join(rf'(?<=["{{]){re.escape(name)}(?=["}}])' for name in renamed)) if renamed else None

    def now(text: str) -> str:
        return pattern.sub(lambda match: (renamed or {})[match[0]], text) if pattern else text

    values = {}
    for measure in plan.measures:
        types = sorted((now(f'"{name}"'), kind) for name, kind in measure.resolved.column_types)
        text = re.sub(r" -- .*", "", backfill_sql(plan, [measure.column], with_pending=False), count=1)
        values[measure.resolved.rule.field] = (now(text), types)
    return values


def _time_zones(triggers: Iterable[CompiledTrigger]) -> set[str]:
    """Return the time zones that parts of times are taken in."""
    return {zone for trigger in triggers for zone in re.findall(r"AT TIME ZONE ('[^']*')", trigger.text)}


def _is_unwritten(measure: Measure) -> bool:
    """Whether a value follows from what today's code says only, whatever a migration's state is."""
    paths = (hop for source in measure.resolved.sources for hop in source.path)
    return not hasattr(measure.resolved.rule.expression, "resolve_expression") or any(h.content_type for h in paths)


def _table(app_label: str, model_state: ModelState) -> str:
    return str(model_state.options.get("db_table") or f"{app_label}_{model_state.name_lower}")


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
