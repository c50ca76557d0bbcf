"""MIGRATE: what makemigrations sees of rules.

Django compares two project states; this mixin compares their rules as well, by what they say. Rules that go are removed
before fields and models go. Rules that come or change are added after everything else, with dependencies on every
column that they read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from django.apps import apps as live_apps
from django.apps.registry import Apps
from django.conf import settings
from django.core.exceptions import FieldDoesNotExist
from django.core.management import get_commands, load_command_class
from django.core.management.commands import makemigrations, migrate, optimizemigration
from django.db.migrations.autodetector import MigrationAutodetector, OperationDependency
from django.db.migrations.operations import AddField, RemoveField
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState
from django.db.models import Model

from trigger_kit.database.wanted import value_digest
from trigger_kit.migration.batched import RuleMigrationWriter, batched_fields, set_apart
from trigger_kit.migration.compiled import Compiled, compiled
from trigger_kit.migration.cycles import cut_cycles
from trigger_kit.migration.dependencies import (
    CREATE,
    RuleDependency,
    ShapeDependency,
    dependencies_of,
    gives_shape,
    removed_by,
)
from trigger_kit.migration.following import renamed_rules
from trigger_kit.migration.operations import AddRule, AlterRule, BackfillRule, RemoveRule, RuleOperation
from trigger_kit.migration.order import CHANGING, named_before, names_read
from trigger_kit.migration.relations import crossed_relations
from trigger_kit.migration.renames import Renamings, crossed_names
from trigger_kit.migration.rendering import reading
from trigger_kit.migration.states import ModelKey, StateRule, all_rules, names_of, set_rules
from trigger_kit.plan.kept_columns import KeptColumn
from trigger_kit.plan.plan import Plan
from trigger_kit.resolve.meaning import FieldName
from trigger_kit.rules import Denormalize
from trigger_kit.sql.django import depends_on_time_zone

__all__ = ["RuleAutodetectorMixin", "is_patched", "patch_commands"]

META_OPTION = "denormalizations"


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
        self.is_settled = self._is_settled()
        if self.is_settled:
            super().generate_deleted_models()  # type: ignore[misc]
            return
        self.before = compiled(self.from_state)
        self.wanted_state = self._wanted_state()
        for key in self.rules_before:
            self._generate_removed_rules(key)
        super().generate_deleted_models()  # type: ignore[misc]

    def generate_altered_db_table(self) -> None:
        """Add and alter rules last, when every model and column is in its new shape."""
        super().generate_altered_db_table()  # type: ignore[misc]
        if self.is_settled or not (self.declared or self.rules_before):
            return
        self.after = self._compiled_wanted()
        self.old_rules = self._old_rules_by_now()
        for key in self.rules_wanted:
            self._generate_rules(key)
        for key, wanted in self.before.targets.items():
            self._let_removals_wait(key, wanted.plan)
        self._let_changes_wait()

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

    def _is_settled(self) -> bool:
        """Whether rules are what they were, and so is all that they read: most runs find that, and compile nothing."""
        if self.renamed_models or vars(self)["renamed_fields"]:
            return False
        wanted = {key: tuple(self._state_rule(key, rule) for rule in rules) for key, rules in self.rules_wanted.items()}
        if wanted.keys() != self.rules_before.keys():
            return False
        if any(not _say_the_same(self.rules_before[key], rules) for key, rules in wanted.items()):
            return False
        return reading(self.from_state, rules=self.rules_before).text == reading(self.to_state, rules=wanted).text

    # Names ----------------------------------------------------------------------------------------------------------

    def _new_key(self, old_key: ModelKey) -> ModelKey:
        """Return a model's key after the renames of this run."""
        renamed = {(app, old): (app, new) for (app, new), old in self.renamed_models.items()}
        return renamed.get(old_key, old_key)

    def _renamings(self) -> Renamings:
        """Return the renames of this run."""
        models = {(app, old.lower()): new for (app, new), old in self.renamed_models.items()}
        fields = {}
        for (app, model, new), old in vars(self)["renamed_fields"].items():
            fields[app, self.renamed_models.get((app, model), model).lower(), old] = new
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
        kept = {self._new_key(key): (key, rules) for key, rules in self.rules_before.items()}
        kept = {key: item for key, item in kept.items() if key in self.to_state.models}
        rules = {**all_rules(self.wanted_state), **{key: items for key, (_, items) in kept.items()}}
        extra = names_of(all_rules(self.wanted_state)) | new_names | {f"{name}_id" for name in new_names}
        after = reading(self.wanted_state, extra, rules).render()
        before = reading(self.from_state, rules=self.rules_before).render()
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
        state = ProjectState({key: model.clone() for key, model in self.to_state.models.items()})
        for model in state.models.values():
            model.fields = {name: field.clone() for name, field in model.fields.items()}
        for key, rules in self.declared.items():
            set_rules(state, key, [self._state_rule(key, rule) for rule in rules])
        return state

    def _state_rule(self, key: ModelKey, rule: Denormalize) -> StateRule:
        """Return a rule with the generic relations of today's models that it crosses."""
        try:
            model = live_apps.get_model(*key)
        except LookupError:
            return StateRule(rule, origin=".".join(key))
        return StateRule(rule, crossed_relations(rule, model), origin=".".join(key))

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
        old_names = {new: old for (app, model, new), old in vars(self)["renamed_fields"].items() if (app, model) == key}
        wanted = {old_names.get(rule.field, rule.field) for rule in self.rules_wanted.get(key, ())}
        for item in self.rules_before[old_key]:
            if item.name not in wanted:
                self.add_operation(key[0], RemoveRule(key[1], item.name))

    def _generate_rules(self, key: ModelKey) -> None:
        """Write the operations of one model."""
        plan, old = self.after.targets[key].plan, self.old_rules.get(key, {})
        measures = {measure.resolved.rule.field: measure for measure in plan.kept_columns}
        is_old = key in self.old_model_keys or key in self.renamed_models
        operations = [self._operation(key, measures[rule.field], old) for rule in self.rules_wanted[key]]
        changed = [rule.field for rule in self.rules_wanted[key] if self._means_another(key, measures[rule.field], old)]
        later = set(batched_fields(plan, changed)) if is_old else set()
        dependencies: list[Any] = [*dependencies_of(plan), *_shapes(plan)]
        for rule, operation in zip(self.rules_wanted[key], operations, strict=True):
            if operation is None and rule.field in later:
                operation = self._new_operation(AlterRule, key, measures[rule.field])
            if operation is not None:
                operation.fill = rule.field not in later
                self.add_operation(key[0], operation, dependencies=dependencies)
        again = [
            rule.field
            for rule, operation in zip(self.rules_wanted[key], operations, strict=True)
            if operation is None and rule.field in changed and rule.field not in later
        ]
        waits: list[Any] = [*dependencies, RuleDependency(*key, None, OperationDependency.Type.ALTER)]
        for fields, batched in ((again, False), ([field for field in changed if field in later], True)):
            if fields:
                self.add_operation(key[0], BackfillRule(key[1], fields, batched=batched), dependencies=waits)

    def _operation(self, key: ModelKey, measure: KeptColumn, old: dict[str, StateRule]) -> AddRule | None:
        """Return what adds or alters a rule, or None where it is as it was."""
        before = old.get(measure.resolved.rule.field)
        operation = self._new_operation(AddRule if before is None else AlterRule, key, measure)
        if before is None:
            return operation
        is_same = (
            not before.is_lost and before.rule == operation.rule and set(before.relations) == set(operation.relations)
        )
        return None if is_same and (before.time_zone is None) is (operation.time_zone is None) else operation

    def _new_operation(self, kind: type[AddRule], key: ModelKey, measure: KeptColumn) -> AddRule:
        (item,) = (item for item in all_rules(self.wanted_state)[key] if item.name == measure.resolved.rule.field)
        time_zone = settings.TIME_ZONE if depends_on_time_zone(measure.resolved) else None
        return kind(key[1], item.rule, relations=item.relations, time_zone=time_zone)

    def _means_another(self, key: ModelKey, measure: KeptColumn, old: dict[str, StateRule]) -> bool:
        """Whether the value of a field may be another one than what is stored."""
        before = old.get(measure.resolved.rule.field)
        old_key = key[0], self.renamed_models.get(key, key[1]).lower()
        target = self.before.targets.get(old_key)
        if before is None:
            return True
        if target is None:  # What it reads is not in the migrations yet, so that there are no rows either.
            return before.rule != measure.resolved.rule
        names = {item.name: item.name for item in self.rules_before[old_key]}
        renamings = self._renamings()
        names = {renamings.new_field(*old_key, name): name for name in names}
        was = next((m for m in target.plan.kept_columns if m.resolved.rule.field == names.get(before.name)), None)
        if was is None:
            return True
        return value_digest(was.resolved, self._now, before.rule) != value_digest(measure.resolved)

    # What waits for what --------------------------------------------------------------------------------------------

    def _let_removals_wait(self, old_key: ModelKey, plan: Plan) -> None:
        """Let columns and models go only when the old rules that read them have gone or changed."""
        key = self._new_key(old_key)
        if not self._has_operation(key):
            return
        read = names_read(plan)
        for app_label, generated in self.generated_operations.items():
            for operation in generated:
                if removed_by(app_label, operation) in read and not self._comes_back(app_label, operation):
                    vars(operation)["_auto_deps"].append(RuleDependency(*key, None, OperationDependency.Type.ALTER))

    def _comes_back(self, app_label: str, operation: Operation) -> bool:
        """Whether a field goes only to come back as another kind, which has to wait for it, and rules for that."""
        return isinstance(operation, RemoveField) and any(
            isinstance(other, AddField)
            and (other.model_name_lower, other.name) == (operation.model_name_lower, operation.name)
            for other in self.generated_operations.get(app_label, ())
        )

    def _let_changes_wait(self) -> None:
        """Let what changes under a rule of another app come after the migrations that hold the rule."""
        for (other, model_name), wanted in self.before.targets.items():
            if (other, model_name) not in self.from_state.models:
                continue
            read = names_read(wanted.plan)
            for app_label, generated in self.generated_operations.items():
                for operation in generated if app_label != other else ():
                    if isinstance(operation, CHANGING) and named_before(app_label, operation) in read:
                        dependency = OperationDependency(other, model_name, None, CREATE)
                        vars(operation)["_auto_deps"].append(dependency)

    def _has_operation(self, key: ModelKey) -> bool:
        """Whether this run has written an operation for the rules of a model."""
        return any(
            isinstance(operation, RuleOperation) and operation.model_name == key[1]
            for operation in self.generated_operations.get(key[0], ())
        )


def _say_the_same(before: Sequence[StateRule], wanted: Sequence[StateRule]) -> bool:
    """Whether two states have the same rules of a model, filled and with one way each."""
    old, new = ({item.name: (item.rule, set(item.relations)) for item in found} for found in (before, wanted))
    return old == new and all(item.is_filled and not item.is_lost for item in before)


def _shapes(plan: Plan) -> list[OperationDependency]:
    """Return the dependencies on operations that give what a plan reads or keeps the shape of now."""
    return [
        ShapeDependency(needed.app_label, needed.model_name, needed.field_name, OperationDependency.Type.ALTER)
        for needed in dependencies_of(plan)
    ]


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
