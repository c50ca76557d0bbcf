"""INSTALL: what makemigrations sees of rules.

Django compares two project states; this mixin compares their rules and the frozen text of their triggers as well.
Rules that go are removed before fields and models go, compiled as the old state was. Rules that come or change are
added after everything else, compiled against the new state, with dependencies on every column that their SQL reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

from django.core.management import get_commands, load_command_class
from django.core.management.commands import makemigrations, migrate, optimizemigration
from django.db.migrations.autodetector import MigrationAutodetector, OperationDependency
from django.db.migrations.operations import (
    AddField,
    AlterField,
    CreateModel,
    RemoveField,
)
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState

from trigger_kit.exceptions import RuleError
from trigger_kit.migration.batched import RuleMigrationWriter, batched_fields, batched_fill, recomputing, set_apart
from trigger_kit.migration.branches import fields_of_branches
from trigger_kit.migration.cycles import cut_cycles
from trigger_kit.migration.dependencies import (
    CREATE,
    RenameDependency,
    RuleDependency,
    dependencies_of,
    gives_name,
    removed_by,
    swappable_dependencies,
)
from trigger_kit.migration.following import plans_of, rules_concerned
from trigger_kit.migration.meaning import is_unwritten, new_names, time_zones, values_of_fields
from trigger_kit.migration.operations import (
    FOLLOWED,
    RULES,
    AddRule,
    AlterRule,
    BackfillRule,
    RemoveRule,
    RuleOperation,
    rules_in,
    triggers_in,
)
from trigger_kit.plan.plan import Plan
from trigger_kit.plan.plan import plan as plan_rules
from trigger_kit.resolve.declared import complete
from trigger_kit.rules import Denormalize
from trigger_kit.sql import CompiledTrigger, Sql, compile_plan
from trigger_kit.sql.full_values import backfill_sql

__all__ = ["RuleAutodetectorMixin", "is_patched", "patch_commands"]

ModelKey = tuple[str, str]


class RuleAutodetectorMixin(MigrationAutodetector):
    """Adds rules to whatever autodetector the project has."""

    from_state: ProjectState
    to_state: ProjectState
    rules_wanted: dict[ModelKey, list[Denormalize]]
    old_model_keys: set[ModelKey]
    new_model_keys: set[ModelKey]
    migrations: dict[str, list[Any]]
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

    def create_renamed_fields(self) -> None:
        """Work out renamed fields once, before rules are compared: a rule goes with its field."""
        if not hasattr(self, "renamed_operations"):
            super().create_renamed_fields()  # type: ignore[misc]

    def generate_deleted_models(self) -> None:
        """Remove rules first: what they read may be about to go."""
        self.create_renamed_fields()
        self.triggers_left: dict[ModelKey, list[CompiledTrigger]] = {}
        self.until_filled: dict[ModelKey, Plan] = {}
        old = {key: rules for key, model_state in self.from_state.models.items() if (rules := rules_in(model_state))}
        for key in old:
            self._generate_removed_rules(key, old)
        self.plans_before = _resolvable_plans(self.from_state, old)
        super().generate_deleted_models()  # type: ignore[misc]

    def generate_altered_db_table(self) -> None:
        """Add and alter rules last, when every model and column is in its new shape."""
        super().generate_altered_db_table()  # type: ignore[misc]
        plans = plans_of(self.to_state.apps, self.rules_wanted)
        for plan in plans:
            self._generate_rules(plan)
        self._generate_backfills(plans)
        for plan in self.plans_before:
            self._let_removals_wait(plan)
        self._let_renames_wait()

    def check_dependency(self, operation: Operation, dependency: Any) -> bool:
        """Tell whether an operation must run first; a removal may wait for the operations of a rule."""
        if isinstance(dependency, RuleDependency):
            return isinstance(operation, RuleOperation) and operation.model_name == dependency.model_name
        if isinstance(dependency, RenameDependency):
            return gives_name(operation, dependency)
        return bool(super().check_dependency(operation, dependency))  # type: ignore[misc]

    def _let_removals_wait(self, plan: Plan) -> None:
        """Let columns and models go only when the old rules that read them have gone or changed."""
        key = self._new_key(_key(plan))
        if not self._has_operation(key):
            return
        read = {dependency[:3] for dependency in dependencies_of(plan)}
        for app_label, generated in self.generated_operations.items():
            for operation in generated:
                if removed_by(app_label, operation) in read and not self._comes_back(app_label, operation):
                    vars(operation)["_auto_deps"].append(RuleDependency(*key, None, OperationDependency.Type.ALTER))

    def _let_renames_wait(self) -> None:
        """Let what gives other names come after the migrations of the rules that are to follow it, in whatever app."""
        for app_label, generated in self.generated_operations.items():
            for operation in generated:
                for other, model_name in rules_concerned(operation, app_label, self.from_state):
                    if other != app_label:
                        vars(operation)["_auto_deps"].append(OperationDependency(other, model_name, None, CREATE))

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
        names = self._old_names(key)
        wanted = {names.get(rule.field, rule.field) for rule in self.rules_wanted.get(key, ())}
        gone = [rule for rule in old if rule.field not in wanted]
        before = triggers_in(self.from_state.models[old_key])
        if not gone:
            self.triggers_left[key] = before
            return
        left = [rule for rule in old if rule.field in wanted]
        plans = plans_of(self.from_state.apps, {**state_rules, old_key: left}) if left else []
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

    def _old_names(self, key: ModelKey) -> dict[str, str]:
        """Return the old names of a model's fields that are renamed in this run, by their new names."""
        return {name: old for (app, model, name), old in self.renamed_fields.items() if (app, model) == key}

    def _old_rules(self, key: ModelKey) -> dict[str, Denormalize]:
        """Return the rules that a model had, by the names that their fields have now."""
        old_key = key[0], self.renamed_models.get(key, key[1])
        names = {old: name for name, old in self._old_names(key).items()}
        return {names.get(rule.field, rule.field): rule for rule in rules_in(self.from_state.models.get(old_key))}

    def _generate_rules(self, plan: Plan) -> None:
        """Write the operations of one model; the first of them carries the triggers of all."""
        key = _key(plan)
        old = self._old_rules(key)
        wanted = [measure.resolved.rule for measure in plan.measures]
        wanted.sort(key=self.rules_wanted[key].index)
        operations: list[RuleOperation] = [
            AlterRule(key[1], rule) if rule.field in old else AddRule(key[1], rule)
            for rule in wanted
            if old.get(rule.field) != rule
        ]
        before, after = self.triggers_left.get(key, []), list(compile_plan(self._until_filled(plan, operations)))
        frozen = [] if self._is_renamed(key) else before
        if not operations and set(before) == set(after) and (frozen or not before):
            return
        if not operations:
            operations = [AlterRule(key[1], wanted[0])]
        _attach(operations[0], before, after)
        operations[0].triggers = [trigger for trigger in after if trigger not in frozen]
        dependencies = [*dependencies_of(plan), *swappable_dependencies(wanted), *self._renames(plan)]
        for operation in operations:
            self.add_operation(key[0], operation, dependencies=dependencies)

    def _is_renamed(self, key: ModelKey) -> bool:
        """Whether triggers of a model follow a rename, one of this run or one that no AlterRule has come after yet."""
        old_key = key[0], self.renamed_models.get(key, key[1])
        model_state = self.from_state.models.get(old_key)
        if model_state is None:
            return False
        renamed = (
            rules_concerned(operation, app_label, self.from_state)
            for app_label, operations in self.generated_operations.items()
            for operation in operations
        )
        return bool(model_state.options.get(FOLLOWED)) or any(old_key in keys for keys in renamed)

    def _renames(self, plan: Plan) -> list[OperationDependency]:
        """Return the dependencies on operations of this run that give other names to what a plan reads or keeps."""
        return [
            RenameDependency(needed.app_label, needed.model_name, needed.field_name, OperationDependency.Type.ALTER)
            for needed in dependencies_of(plan)
        ]

    def _generate_backfills(self, plans: Iterable[Plan]) -> None:
        """Fill what is new on tables that may have rows; a target is filled before the sources that it sums.

        Filling a source then sends its deltas on, and no value passes through one that is not filled yet.
        """
        before = {self._new_key(_key(plan)): plan for plan in self.plans_before}
        self.new_plans: dict[ModelKey, Plan] = {}
        for plan in reversed(list(plans)):
            key = _key(plan)
            if key not in self.old_model_keys | set(self.renamed_models):
                self.new_plans[key] = plan
                continue
            new = self._new_fields(plan, before.get(key), is_touched=self._has_operation(key))
            batched = batched_fields(plan, new)
            fields = [field for field in new if field not in batched]
            operations = [BackfillRule(key[1], fields, _frozen_backfill(plan, fields))] if fields else []
            operations += [batched_fill(plan, batched, self.until_filled.get(key))] if batched else []
            dependencies = [*dependencies_of(plan), RuleDependency(*key, None, OperationDependency.Type.ALTER)]
            dependencies += self._altered_columns(plan)
            for operation in operations:
                self.add_operation(key[0], operation, dependencies=dependencies)

    def _until_filled(self, plan: Plan, operations: Sequence[RuleOperation]) -> Plan:
        """Return the plan whose triggers serve until batches have filled the columns of this run's operations."""
        key = _key(plan)
        if not operations or key not in self.old_model_keys | set(self.renamed_models):
            return plan
        before = {self._new_key(_key(plan)): plan for plan in self.plans_before}
        batched = batched_fields(plan, self._new_fields(plan, before.get(key), is_touched=True))
        if batched:
            self.until_filled[key] = recomputing(plan, batched)
        return self.until_filled.get(key, plan)

    def _build_migration_list(self, graph: Any = None) -> None:
        """Cut the operations into migrations; rules that come in another one than their table may meet rows."""
        super()._build_migration_list(graph)  # type: ignore[misc]
        cut_cycles(self.migrations, graph)
        for key, plan in self.new_plans.items():
            for migration in self.migrations.get(key[0], ()):
                names = [
                    operation.name_lower for operation in migration.operations if isinstance(operation, CreateModel)
                ]
                added = [
                    operation.rule.field
                    for operation in migration.operations
                    if isinstance(operation, AddRule) and operation.model_name == key[1]
                ]
                if added and key[1] not in names:
                    migration.operations.append(BackfillRule(key[1], added, _frozen_backfill(plan, added)))
        set_apart(self.migrations)

    def _new_fields(self, plan: Plan, before: Plan | None, *, is_touched: bool) -> list[str]:
        """Return the fields whose values may be others than those that are stored."""
        key = _key(plan)
        rules = {measure.resolved.rule.field: measure.resolved.rule for measure in plan.measures}
        if time_zones(self.triggers_left.get(key, [])) not in (set(), time_zones(compile_plan(plan))):
            return list(rules)  # settings.TIME_ZONE is another one
        kept = self._old_rules(key)
        new = {field for field, rule in rules.items() if field not in kept} | self._fields_of_branches(key)
        if before is None:
            new |= {field for field, rule in rules.items() if kept.get(field) != rule}
        else:
            old, now = self._values(before), values_of_fields(plan)
            new |= {field for field in rules if old.get(field) != now[field]}
        if is_touched:  # What migrations do not hold may have changed.
            new |= {m.resolved.rule.field for m in plan.measures if is_unwritten(m)}
        return [field for field in rules if field in new]

    def _fields_of_branches(self, key: ModelKey) -> set[str]:
        """Return the fields that some branch of migrations did not keep, by the names of now."""
        old_state = self.from_state.models.get((key[0], self.renamed_models.get(key, key[1])))
        names = {old: name for name, old in self._old_names(key).items()}
        return {names.get(field, field) for field in fields_of_branches(old_state, self.from_state.apps)}

    def _has_operation(self, key: ModelKey) -> bool:
        """Whether this run has written an operation for the rules of a model."""
        return any(
            isinstance(operation, RuleOperation) and operation.model_name == key[1]
            for operation in self.generated_operations.get(key[0], ())
        )

    def _values(self, plan: Plan) -> dict[str, Any]:
        """Return what the values of an old plan's fields follow from, in the names that models and columns have now."""
        renamed: dict[str, str] = {}
        for key in self.new_model_keys:
            old_key = key[0], self.renamed_models.get(key, key[1])
            if old_key in self.from_state.models:
                old, new = self.from_state.apps.get_model(*old_key), self.to_state.apps.get_model(*key)
                renamed |= new_names(old, new, self._old_names(key))
        names = {old: name for name, old in self._old_names(self._new_key(_key(plan))).items()}
        values = values_of_fields(plan, renamed)
        return {names.get(field, field): value for field, value in values.items()}

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
            for needed in dependencies_of(plan)
            if (needed.app_label, needed.model_name, needed.field_name) in altered
        ]


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


def patch_commands() -> None:
    """Give makemigrations and migrate one autodetector that knows rules, on top of the one they have."""
    current = makemigrations.Command.autodetector
    if issubclass(current, RuleAutodetectorMixin):
        return
    combined = type("MigrationAutodetector", (RuleAutodetectorMixin, current), {})
    for module in (makemigrations, migrate):
        module.MigrationAutodetector = combined  # type: ignore[attr-defined]
    for command_class in _command_classes():
        if issubclass(combined, command_class.autodetector):
            command_class.autodetector = combined
    for command in (makemigrations, optimizemigration):
        command.MigrationWriter = RuleMigrationWriter  # type: ignore[attr-defined]


def is_patched() -> bool:
    """Whether the commands still have the autodetector that knows rules."""
    return all(issubclass(command.autodetector, RuleAutodetectorMixin) for command in _command_classes())


def _command_classes() -> list[Any]:
    """Return Django's two commands, and those that an app has put in their place, as django-tenants does."""
    apps = {name: app for name, app in get_commands().items() if name in {"makemigrations", "migrate"}}
    others = [type(load_command_class(app, name)) for name, app in apps.items() if app != "django.core"]
    return [makemigrations.Command, migrate.Command, *others]
