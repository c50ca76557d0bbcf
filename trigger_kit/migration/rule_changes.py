"""MIGRATE: what a run of makemigrations writes for rules that come, change and go, and what waits for what."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from django.apps.registry import Apps
from django.conf import settings
from django.core.exceptions import FieldDoesNotExist
from django.db.migrations.autodetector import OperationDependency
from django.db.migrations.operations import AddField, RemoveField
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState
from django.db.models import Model

from trigger_kit.database.wanted import value_digest
from trigger_kit.migration.batched import batched_fields
from trigger_kit.migration.compiled import Compiled, compiled
from trigger_kit.migration.dependencies import (
    CREATE,
    RuleDependency,
    ShapeDependency,
    dependencies_of,
    removed_by,
)
from trigger_kit.migration.following import renamed_rules
from trigger_kit.migration.operations import AddRule, AlterRule, BackfillRule, RemoveRule, RuleOperation
from trigger_kit.migration.order import CHANGING, named_before, names_read
from trigger_kit.migration.renames import Renamings, crossed_names
from trigger_kit.migration.rendering import reading
from trigger_kit.migration.states import ModelKey, StateRule, all_rules, names_of, set_rules
from trigger_kit.plan.kept_columns import KeptColumn
from trigger_kit.plan.plan import Plan
from trigger_kit.resolve.meaning import FieldName
from trigger_kit.sql.django import depends_on_time_zone

__all__ = ["RuleChanges"]


class RuleChanges:
    """The operations of rules that an autodetector writes; it has compared models by then, and knows what is renamed.

    Raises RuleError for a rule that cannot be kept.
    """

    def __init__(self, detector: Any) -> None:
        self.detector = detector
        self.before = compiled(detector.from_state)
        self.wanted_state = self._wanted_state()

    def remove(self) -> None:
        """Write what removes rules."""
        for key in self.detector.rules_before:
            self._generate_removed_rules(key)

    def add(self) -> None:
        """Write what adds and alters rules, and let others wait for it."""
        if not self.detector.declared and not self.detector.rules_before:
            return
        self.after = self._compiled_wanted()
        self.old_rules = self._old_rules_by_now()
        for key in self.detector.rules_wanted:
            self._generate_rules(key)
        for key, wanted in self.before.targets.items():
            self._let_removals_wait(key, wanted.plan)
        self._let_changes_wait()

    # Names ----------------------------------------------------------------------------------------------------------

    def _new_key(self, old_key: ModelKey) -> ModelKey:
        """Return a model's key after the renames of this run."""
        renamed = {(app, old): (app, new) for (app, new), old in self.detector.renamed_models.items()}
        return renamed.get(old_key, old_key)

    def _renamings(self) -> Renamings:
        """Return the renames of this run."""
        models = {(app, old.lower()): new for (app, new), old in self.detector.renamed_models.items()}
        fields = {}
        for (app, model, new), old in vars(self.detector)["renamed_fields"].items():
            fields[app, self.detector.renamed_models.get((app, model), model).lower(), old] = new
        return Renamings(models, fields)

    def _now(self, name: FieldName) -> FieldName:
        """Return the name that a field has by now."""
        app_label, _, model = name[0].partition(".")
        renamings = self._renamings()
        return ".".join(renamings.new_key((app_label, model))), renamings.new_field(app_label, model, name[1])

    def _old_rules_by_now(self) -> dict[ModelKey, dict[str, StateRule]]:
        """Return the rules of before, by their models and names of now, written with the names of now."""
        renamings = self._renamings()
        new_names = {*renamings.models.values(), *renamings.fields.values()}
        kept = {self._new_key(key): (key, rules) for key, rules in self.detector.rules_before.items()}
        kept = {key: item for key, item in kept.items() if key in self.detector.to_state.models}
        rules = {**all_rules(self.wanted_state), **{key: items for key, (_, items) in kept.items()}}
        extra = names_of(all_rules(self.wanted_state)) | new_names | {f"{name}_id" for name in new_names}
        after = reading(self.wanted_state, extra, rules).render()
        before = reading(self.detector.from_state, rules=self.detector.rules_before).render()
        found: dict[ModelKey, dict[str, StateRule]] = {}
        for key, (old_key, items) in kept.items():
            for item in items:
                try:
                    is_lost = self._loses_its_way(item, before.get_model(*old_key), after)
                    item = replace(item, is_lost=is_lost)
                    (by_now,) = renamed_rules([item], old_key, before, after, renamings)
                except (FieldDoesNotExist, LookupError):
                    by_now = item  # What it reads has gone: the rule is another one.
                found.setdefault(key, {})[by_now.name] = by_now
        return found

    def _loses_its_way(self, item: StateRule, model: type[Model], after: Apps) -> bool:
        """Whether a relation on a rule's path goes on by another name, and another relation takes the one that it had.

        On the way, both may have it at once.
        """
        names = crossed_names(item.rule.expression, model).items()
        return any(self._is_taken_over(step, self._now(relation), after) for step, found in names for relation in found)

    def _is_taken_over(self, step: tuple[str, str], relation: FieldName, after: Apps) -> bool:
        label, name = step
        app_label, _, model_name = label.partition(".")
        here = after.get_model(*self._renamings().new_key((app_label, model_name)))
        taken = {key for keys in crossed_names(name, here).values() for key in keys}
        fields = {field.name for field in after.get_model(relation[0])._meta.get_fields()}
        return bool(taken) and relation not in taken and relation[1] in fields

    # Rules that are wanted ------------------------------------------------------------------------------------------

    def _wanted_state(self) -> ProjectState:
        """Return the state to come with its rules.

        Fields are cloned: where a model is renamed, Django lets the relations of its own state lead to the old name.
        """
        state = ProjectState({key: model.clone() for key, model in self.detector.to_state.models.items()})
        for model in state.models.values():
            model.fields = {name: field.clone() for name, field in model.fields.items()}
        for key, rules in self.detector.declared.items():
            set_rules(state, key, [self.detector.declared_rule(key, rule) for rule in rules])
        return state

    def _compiled_wanted(self) -> Compiled:
        """Return what the state to come wants.

        Raises RuleError for a rule that cannot be kept.
        """
        after = compiled(self.wanted_state)
        for error in after.errors.values():
            raise error
        return after

    def _generate_removed_rules(self, old_key: ModelKey) -> None:
        key = self._new_key(old_key)
        old_names = {
            new: old for (app, model, new), old in vars(self.detector)["renamed_fields"].items() if (app, model) == key
        }
        wanted = {old_names.get(rule.field, rule.field) for rule in self.detector.rules_wanted.get(key, ())}
        for item in self.detector.rules_before[old_key]:
            if item.name not in wanted:
                self.detector.add_operation(key[0], RemoveRule(key[1], item.name))

    def _generate_rules(self, key: ModelKey) -> None:
        """Write the operations of one model."""
        plan, old = self.after.targets[key].plan, self.old_rules.get(key, {})
        wanted = self.detector.rules_wanted[key]
        columns = {kept.resolved.rule.field: kept for kept in plan.kept_columns}
        is_old = key in self.detector.old_model_keys or key in self.detector.renamed_models
        operations = [self._operation(key, columns[rule.field], old) for rule in wanted]
        changed = [rule.field for rule in wanted if self._means_another(key, columns[rule.field], old)]
        later = set(batched_fields(plan, changed)) if is_old else set()
        dependencies: list[Any] = [*dependencies_of(plan), *_shapes(plan)]
        for rule, operation in zip(wanted, operations, strict=True):
            if operation is None and rule.field in later:
                operation = self._new_operation(AlterRule, key, columns[rule.field])
            if operation is not None:
                operation.fill = rule.field not in later
                self.detector.add_operation(key[0], operation, dependencies=dependencies)
        again = [
            rule.field
            for rule, operation in zip(wanted, operations, strict=True)
            if operation is None and rule.field in changed and rule.field not in later
        ]
        waits: list[Any] = [*dependencies, RuleDependency(*key, None, OperationDependency.Type.ALTER)]
        for fields, batched in ((again, False), ([field for field in changed if field in later], True)):
            if fields:
                self.detector.add_operation(key[0], BackfillRule(key[1], fields, batched=batched), dependencies=waits)

    def _operation(self, key: ModelKey, kept: KeptColumn, old: dict[str, StateRule]) -> AddRule | None:
        """Return what adds or alters a rule, or None where it is as it was."""
        before = old.get(kept.resolved.rule.field)
        operation = self._new_operation(AddRule if before is None else AlterRule, key, kept)
        if before is None:
            return operation
        is_same = (
            not before.is_lost and before.rule == operation.rule and set(before.relations) == set(operation.relations)
        )
        return None if is_same and (before.time_zone is None) is (operation.time_zone is None) else operation

    def _new_operation(self, kind: type[AddRule], key: ModelKey, kept: KeptColumn) -> AddRule:
        (item,) = (item for item in all_rules(self.wanted_state)[key] if item.name == kept.resolved.rule.field)
        time_zone = settings.TIME_ZONE if depends_on_time_zone(kept.resolved) else None
        return kind(key[1], item.rule, relations=item.relations, time_zone=time_zone)

    def _means_another(self, key: ModelKey, kept: KeptColumn, old: dict[str, StateRule]) -> bool:
        """Whether the value of a field may be another one than what is stored."""
        before = old.get(kept.resolved.rule.field)
        old_key = key[0], self.detector.renamed_models.get(key, key[1]).lower()
        target = self.before.targets.get(old_key)
        if before is None:
            return True
        if target is None:  # What it reads is not in the migrations yet, so that there are no rows either.
            return before.rule != kept.resolved.rule
        names = {item.name: item.name for item in self.detector.rules_before[old_key]}
        renamings = self._renamings()
        names = {renamings.new_field(*old_key, name): name for name in names}
        was = next(
            (item for item in target.plan.kept_columns if item.resolved.rule.field == names.get(before.name)), None
        )
        if was is None:
            return True
        return value_digest(was.resolved, self._now, before.rule) != value_digest(kept.resolved)

    # What waits for what --------------------------------------------------------------------------------------------

    def _let_removals_wait(self, old_key: ModelKey, plan: Plan) -> None:
        """Let columns and models go only when the old rules that read them have gone or changed."""
        key = self._new_key(old_key)
        if not self._has_operation(key):
            return
        read = names_read(plan)
        for app_label, generated in self.detector.generated_operations.items():
            for operation in generated:
                if removed_by(app_label, operation) in read and not self._comes_back(app_label, operation):
                    vars(operation)["_auto_deps"].append(RuleDependency(*key, None, OperationDependency.Type.ALTER))

    def _comes_back(self, app_label: str, operation: Operation) -> bool:
        """Whether a field goes only to come back as another kind, which has to wait for it, and rules for that."""
        return isinstance(operation, RemoveField) and any(
            isinstance(other, AddField)
            and (other.model_name_lower, other.name) == (operation.model_name_lower, operation.name)
            for other in self.detector.generated_operations.get(app_label, ())
        )

    def _let_changes_wait(self) -> None:
        """Let what changes under a rule of another app come after the migrations that hold the rule."""
        for (other, model_name), wanted in self.before.targets.items():
            if (other, model_name) not in self.detector.from_state.models:
                continue
            read = names_read(wanted.plan)
            for app_label, generated in self.detector.generated_operations.items():
                for operation in generated if app_label != other else ():
                    if isinstance(operation, CHANGING) and named_before(app_label, operation) in read:
                        dependency = OperationDependency(other, model_name, None, CREATE)
                        vars(operation)["_auto_deps"].append(dependency)

    def _has_operation(self, key: ModelKey) -> bool:
        """Whether this run has written an operation for the rules of a model."""
        return any(
            isinstance(operation, RuleOperation) and operation.model_name == key[1]
            for operation in self.detector.generated_operations.get(key[0], ())
        )


def _shapes(plan: Plan) -> list[OperationDependency]:
    """Return the dependencies on operations that give what a plan reads or keeps the shape of now."""
    return [
        ShapeDependency(needed.app_label, needed.model_name, needed.field_name, OperationDependency.Type.ALTER)
        for needed in dependencies_of(plan)
    ]
