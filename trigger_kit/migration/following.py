"""INSTALL: triggers follow a rename inside the migration operation that makes it.

Django's operations that give a model, a field, a column or a table another name are taught two things. In the state of
a migration, rules and the text of their triggers get the new names. In the database, the triggers concerned are
replaced in the same transaction as the rename, and no writer is let in between. What the new text says stays open
until the next AlterRule, which holds it in a migration file: ``FOLLOWED`` names such triggers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from django.apps.registry import Apps
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.operations import (
    AlterField,
    AlterModelTable,
    RenameField,
    RenameModel,
    RunSQL,
    SeparateDatabaseAndState,
)
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ModelState, ProjectState
from django.db.models import ManyToManyField

from trigger_kit.database.changeover import change_triggers
from trigger_kit.database.routing import is_at_home
from trigger_kit.exceptions import RuleError
from trigger_kit.migration.operations import FOLLOWED, RULES, TRIGGERS, rules_in, triggers_in
from trigger_kit.migration.renames import Renaming, renamed_rule
from trigger_kit.migration.scripts import in_transaction
from trigger_kit.plan.plan import Plan, plan_all
from trigger_kit.plan.plan import plan as plan_rules
from trigger_kit.resolve.declared import complete
from trigger_kit.rules import Denormalize
from trigger_kit.sql import CompiledTrigger, compile_plan
from trigger_kit.sql.text import table_placeholder

__all__ = ["patch_operations", "plans_of", "rules_concerned", "tables_of"]

ModelKey = tuple[str, str]
Rules = dict[ModelKey, list[Denormalize]]
Frozen = dict[tuple[ModelKey, str, str], CompiledTrigger]

RENAMES = (RenameField, RenameModel, AlterField, AlterModelTable)
# These run SQL of the user's beside the operations above.
OTHERS = (RunSQL, SeparateDatabaseAndState)


def patch_operations() -> None:
    """Teach Django's operations to take rules and triggers along."""
    for rename in RENAMES:
        _wrap(rename, "state_forwards", _following_state)
    for kind in (*RENAMES, *OTHERS):
        for method in ("database_forwards", "database_backwards"):
            _wrap(kind, method, _following_database)


def _wrap(kind: type[Operation], method: str, wrapper: Callable[[Any], Any]) -> None:
    original = vars(kind)[method]
    if original.__module__ != __name__:
        setattr(kind, method, wrapper(original))


# The state ----------------------------------------------------------------------------------------------------------


def _following_state(original: Any) -> Any:
    def state_forwards(self: Operation, app_label: str, state: ProjectState) -> None:
        if not rules_concerned(self, app_label, state):
            original(self, app_label, state)
            return
        before = _snapshot(state)
        rules = {key: found for key, model_state in state.models.items() if (found := rules_in(model_state))}
        original(self, app_label, state)
        renaming = _renaming(self, app_label)
        after = _snapshot(state)
        new = _rename_rules(rules, before, after, renaming) if renaming else rules
        for key, found in new.items():
            state.models[key].options[RULES] = found
            if "apps" in vars(state):
                state.reload_model(key[0], key[1], delay=True)
        # Plans depend on all rules: those that cannot be resolved are left out on both sides.
        keys = {_new_key(key, renaming): key for key in rules if _is_resolvable(before, key, rules[key])}
        keys = {key: old_key for key, old_key in keys.items() if _is_resolvable(after, key, new[key])}
        old_plans = _plans(before, {key: rules[key] for key in keys.values()})
        new_plans = _plans(after, {key: new[key] for key in keys})
        for key, old_key in keys.items():
            _follow(state.models[key], old_plans[old_key], new_plans[key])

    return state_forwards


def rules_concerned(operation: Any, app_label: str, state: ProjectState) -> list[ModelKey]:
    """Return the models whose triggers mention something that an operation gives another name."""
    triggers = {key: found for key, model_state in state.models.items() if (found := triggers_in(model_state))}
    if not triggers or not isinstance(operation, RENAMES):
        return []
    model_state = state.models.get((app_label, _model_name(operation)))
    if model_state is None or not _takes_another_name(operation, app_label, model_state):
        return []
    tables = tables_of(app_label, model_state)
    return [key for key, found in triggers.items() if any(_mentions(trigger, tables) for trigger in found)]


def _model_name(operation: Any) -> str:
    """Return the name that an operation finds its model by."""
    if isinstance(operation, RenameModel):
        return operation.old_name_lower
    return str(operation.name_lower if isinstance(operation, AlterModelTable) else operation.model_name_lower)


def _takes_another_name(operation: Any, app_label: str, model_state: ModelState) -> bool:
    if isinstance(operation, AlterModelTable):
        new = operation.table or f"{app_label}_{model_state.name_lower}"
        return bool(tables_of(app_label, model_state)[0] != new)
    if isinstance(operation, AlterField):
        name = operation.name
        return bool(_column(name, model_state.fields[name]) != _column(name, operation.field))
    return True


def _column(name: str, field: Any) -> Any:
    """Return the column of a field, or the table of a many-to-many field."""
    if isinstance(field, ManyToManyField):
        return vars(field)["db_table"]
    copy = field.clone()
    copy.set_attributes_from_name(name)
    return copy.column


def tables_of(app_label: str, model_state: ModelState) -> list[str]:
    """Return the table of a model in a migration's state, and those of its many-to-many fields."""
    own = str(model_state.options.get("db_table") or f"{app_label}_{model_state.name_lower}")
    many = [(name, field) for name, field in model_state.fields.items() if isinstance(field, ManyToManyField)]
    return [own, *(str(vars(field)["db_table"] or f"{own}_{name}") for name, field in many)]


def _mentions(trigger: CompiledTrigger, tables: Iterable[str]) -> bool:
    names = {trigger.on, trigger.owner, *trigger.sources}
    return any(table in names or table_placeholder(table) in trigger.text for table in tables)


def _renaming(operation: Any, app_label: str) -> Renaming | None:
    if isinstance(operation, RenameModel):
        return Renaming(app_label, operation.old_name_lower, operation.new_name_lower)
    if isinstance(operation, RenameField):
        model = operation.model_name_lower
        return Renaming(app_label, model, model, operation.old_name, operation.new_name)
    return None


def _new_key(key: ModelKey, renaming: Renaming | None) -> ModelKey:
    is_this = renaming is not None and key == (renaming.app_label, renaming.model)
    return (key[0], renaming.new_model) if renaming and is_this else key


def _rename_rules(rules: Rules, before: Apps, after: Apps, renaming: Renaming) -> Rules:
    return {
        _new_key(key, renaming): [renamed_rule(rule, before.get_model(*key), after, renaming) for rule in found]
        for key, found in rules.items()
    }


def _snapshot(state: ProjectState) -> Apps:
    """Return the models of a state as they are now, whatever becomes of it."""
    models = {key: model_state.clone() for key, model_state in state.models.items()}
    return ProjectState(models, real_apps=set(state.real_apps)).apps


def _follow(model_state: ModelState, before: Plan, after: Plan) -> None:
    """Replace the texts of a model's triggers that differ before and after; the others stay as they are frozen.

    Text of another version, whose triggers have other names, cannot be followed: the next AlterRule replaces it.
    """
    frozen = {str(trigger.name): trigger for trigger in triggers_in(model_state)}
    old = {str(trigger.name): trigger for trigger in compile_plan(before)}
    new = {str(trigger.name): trigger for trigger in compile_plan(after)}
    if old.keys() != frozen.keys():
        return
    changed = {name for name, trigger in new.items() if trigger != old.get(name)}
    model_state.options[TRIGGERS] = [new[name] if name in changed else frozen[name] for name in new]
    model_state.options[FOLLOWED] = (model_state.options.get(FOLLOWED, frozenset()) | changed) & new.keys()


def plans_of(apps: Apps, rules: Rules) -> list[Plan]:
    """Return the plans of all rules of a state's models.

    Raises RuleError where one cannot be resolved.
    """
    complete(apps)
    return plan_all((apps.get_model(*key), found) for key, found in sorted(rules.items()))


def _plans(apps: Apps, rules: Rules) -> dict[ModelKey, Plan]:
    """Return the plans of rules that can be resolved, by model."""
    found = {plan.model._meta.label_lower: plan for plan in plans_of(apps, rules)}
    return {key: found[".".join(key)] for key in rules}


def _is_resolvable(apps: Apps, key: ModelKey, rules: list[Denormalize]) -> bool:
    """Whether rules can be resolved in the state of a migration; what a function builds says what today's code says."""
    try:
        plan_rules(complete(apps).get_model(*key), rules)
    except RuleError:
        return False
    return True


# The database -------------------------------------------------------------------------------------------------------


def _following_database(original: Any) -> Any:
    def change_database(
        self: Operation,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        def change() -> None:
            original(self, app_label, schema_editor, from_state, to_state)

        before, after = _difference(from_state, to_state, schema_editor)
        if not before and not after:
            change()
            return
        with in_transaction(schema_editor) as collect:
            change_triggers(schema_editor.connection, before, after, collect, change)

    return change_database


def _difference(
    from_state: ProjectState, to_state: ProjectState, schema_editor: BaseDatabaseSchemaEditor
) -> tuple[list[CompiledTrigger], list[CompiledTrigger]]:
    """Return the triggers that following a rename has replaced between two states: those of before, those of after."""
    connection = schema_editor.connection
    before, after = _frozen(from_state), _frozen(to_state)
    old = {place: trigger for place, trigger in before.items() if trigger != after.get(place)}
    new = {place: trigger for place, trigger in after.items() if trigger != before.get(place)}
    followed = {
        name
        for state in (from_state, to_state)
        for model_state in state.models.values()
        for name in model_state.options.get(FOLLOWED, ())
    }
    if connection.vendor != "postgresql" or not any(name in followed for _, _, name in (*old, *new)):
        return [], []
    # The tables have their old names yet: only these may be asked for.
    return _at_home(old, from_state, connection, may_ask=True), _at_home(new, to_state, connection, may_ask=False)


def _frozen(state: ProjectState) -> Frozen:
    """Return the triggers of a state by the model, its table and their names."""
    return {
        (key, trigger.owner, str(trigger.name)): trigger
        for key, model_state in state.models.items()
        for trigger in triggers_in(model_state)
    }


def _at_home(
    triggers: Frozen, state: ProjectState, connection: BaseDatabaseWrapper, *, may_ask: bool
) -> list[CompiledTrigger]:
    """Return the triggers whose targets and sources belong into a database."""
    tables: dict[ModelKey, set[str]] = {}
    for (key, _, _), trigger in triggers.items():
        tables.setdefault(key, set()).add(trigger.on)
    home = {key for key, names in tables.items() if is_at_home(connection, state.apps, key, names, may_ask=may_ask)}
    return [trigger for (key, _, _), trigger in triggers.items() if key in home]
