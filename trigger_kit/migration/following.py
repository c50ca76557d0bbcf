"""MIGRATE: rules in a state follow what changes the names on their paths.

Django's operations change a state through a few methods of ProjectState, in whose place stand functions of this module
(``patches.py``): whatever operation calls them, Django's, one inside SeparateDatabaseAndState, or somebody else's, the
rules of the state are rewritten along.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from django.apps.registry import Apps
from django.db.migrations.state import ProjectState
from django.db.models import Model

from trigger_kit.migration.relations import CrossedRelation
from trigger_kit.migration.renames import Renamings, crossed_names, renamed_rule
from trigger_kit.migration.rendering import reading
from trigger_kit.migration.states import ModelKey, StateRule, all_rules, names_of, rules_in, set_rules

__all__ = ["alter_field", "alter_model_options", "rename_field", "rename_model", "renamed_rules"]


def renamed_rules(
    rules: Iterable[StateRule], key: ModelKey, before: Apps, after: Apps, renamings: Renamings
) -> list[StateRule]:
    """Return the rules of a model with the names of afterwards."""
    model = before.get_model(*key)
    return [
        replace(
            item.with_rule(renamed_rule(item.rule, model, after, renamings)),
            relations=tuple(_renamed_relation(relation, renamings) for relation in item.relations),
        )
        for item in rules
    ]


def _renamed_relation(relation: CrossedRelation, renamings: Renamings) -> CrossedRelation:
    to_app, to_name = relation.to.lower().split(".")
    return replace(
        relation,
        model=_renamed_label(relation.model, renamings),
        to=_renamed_label(relation.to, renamings),
        object_id_field=renamings.new_field(to_app, to_name, relation.object_id_field),
        content_type_field=renamings.new_field(to_app, to_name, relation.content_type_field),
    )


def _renamed_label(label: str, renamings: Renamings) -> str:
    app_label, _, name = label.partition(".")
    new = renamings.new_key((app_label, name.lower()))[1]
    return label if new == name.lower() else f"{app_label}.{new}"


# The state ----------------------------------------------------------------------------------------------------------


def rename_model(original: Any, state: ProjectState, app_label: str, old_name: str, new_name: str) -> None:
    """Rename a model, and rewrite rules: labels, and names of ways back, follow the model's."""
    old, new = old_name.lower(), new_name.lower()
    renamings = Renamings({(app_label, old): new})
    labels = {old, f"{app_label}.{old}", f"{app_label}.{old_name}"}
    new_labels = {new, f"{app_label}.{new}"}
    _follow(state, labels, new_labels, renamings, lambda: original(state, app_label, old_name, new_name))


def rename_field(
    original: Any, state: ProjectState, app_label: str, model_name: str, old_name: str, new_name: str
) -> None:
    """Rename a field, and rewrite rules."""
    renamings = Renamings(fields={(app_label, model_name, old_name): new_name})
    old, new = {old_name, f"{old_name}_id"}, {new_name, f"{new_name}_id"}
    _follow(state, old, new, renamings, lambda: original(state, app_label, model_name, old_name, new_name))


def alter_field(
    original: Any, state: ProjectState, app_label: str, model_name: str, name: str, field: Any, preserve_default: bool
) -> None:
    """Alter a field, and rewrite rules: a ``related_name`` is the name of a way back."""

    def change() -> None:
        original(state, app_label, model_name, name, field, preserve_default)

    before = state.models[app_label, model_name].fields[name]
    old, new = _back(before, model_name), _back(field, model_name)
    if old and new and old != new:
        _follow(state, old, new, Renamings(), change)
    else:
        change()


def alter_model_options(
    original: Any,
    state: ProjectState,
    app_label: str,
    model_name: str,
    options: dict[str, Any],
    option_keys: Any = None,
) -> None:
    """Alter a model's options, and rewrite rules: ``default_related_name`` names ways back."""

    def change() -> None:
        original(state, app_label, model_name, options, option_keys)

    name = "default_related_name"
    old = state.models[app_label, model_name].options.get(name)
    new = options.get(name, None if option_keys and name in option_keys else old)
    if old == new:
        change()
    else:
        _follow(state, {str(old or model_name)}, {str(new or model_name)}, Renamings(), change)


def _back(relation: Any, model_name: str) -> set[str]:
    """Return the names of the way back over a field, none where it is no relation."""
    if not relation.is_relation or not relation.remote_field:
        return set()
    remote = relation.remote_field
    return {str(name).lower() for name in (remote.related_query_name, remote.related_name) if name} or {model_name}


def _follow(state: ProjectState, old: set[str], new: set[str], renamings: Renamings, change: Any) -> None:
    """Change a state; rules that mention one of the old names are rewritten."""
    rules = all_rules(state)
    mentioned = {name.lower() for name in names_of(rules)}
    # A new name that rules mention already may be one that another relation has yet.
    if not mentioned & {name.lower() for name in old | new}:
        change()
        return
    before = reading(state, old).render()
    change()
    kept = {renamings.new_key(key): (key, items) for key, items in rules.items()}
    after = reading(state, old | new, rules={new_key: items for new_key, (_, items) in kept.items()}).render()
    for new_key, (key, items) in kept.items():
        if rules_in(state.models.get(new_key)):
            followed = renamed_rules(items, key, before, after, renamings)
            set_rules(state, new_key, [_with_loss(item, after.get_model(*new_key)) for item in followed])


def _with_loss(item: StateRule, model: type[Model]) -> StateRule:
    """Return a rule that is known to be lost where two relations have the name of a step."""
    is_lost = any(len(relations) > 1 for relations in crossed_names(item.rule.expression, model).values())
    return replace(item, is_lost=True) if is_lost else item
