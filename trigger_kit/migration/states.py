"""MIGRATE: the rules in the state of a migration.

A rule stands in a private option of its model's state, so that a state with rules renders without trigger_kit too:
Django leaves options that begin with an underscore alone. Models of apps without migrations are part of every state, as
they are today; their rules are those of today's code.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache, cached_property

from django.apps import apps as live_apps
from django.db.migrations.state import ModelState, ProjectState
from django.db.models import Model
from django.db.models.constants import LOOKUP_SEP

from trigger_kit.migration.relations import CrossedRelation, crossed_relations
from trigger_kit.notation import canonical
from trigger_kit.resolve.declared import rules_of
from trigger_kit.resolve.names import names_in
from trigger_kit.rules import Denormalize

__all__ = [
    "RULES",
    "ModelKey",
    "StateRule",
    "all_models",
    "all_rules",
    "key_of",
    "live_rules",
    "names_of",
    "rules_in",
    "set_rules",
]

ModelKey = tuple[str, str]

RULES = "_trigger_kit_rules"


@dataclass(frozen=True)
class StateRule:
    """A rule in the state of a migration.

    ``relations`` are the generic relations that its paths cross, which no state holds otherwise. ``time_zone`` is the
    setting, where the value depends on it. ``is_filled`` is false from an operation that leaves the first fill to a
    later BackfillRule, until that has come. ``origin`` is the label of the model when the rule came, by which a target
    is known again that has another name now. ``is_lost`` says that two relations had the name of a step at once, as
    while a migration swaps the names of ways back: AlterRule must say which of them is meant.
    """

    rule: Denormalize
    relations: tuple[CrossedRelation, ...] = ()
    time_zone: str | None = None
    is_filled: bool = True
    origin: str = ""
    is_lost: bool = False

    @property
    def name(self) -> str:
        """The name of the rule: that of its field."""
        return self.rule.field

    @cached_property
    def written(self) -> str:
        """What tells the rule from others, as it is written."""
        return canonical(self.rule)

    @cached_property
    def mentioned(self) -> frozenset[str]:
        """Every name on the rule's paths, and every label of a model in it."""
        texts = list(names_in(self.rule.expression))
        steps = [step for text in texts for step in text.split(LOOKUP_SEP)]
        crossed = [name for relation in self.relations for name in (relation.name, relation.query_name)]
        return frozenset((self.name, *texts, *steps, *crossed))

    def with_rule(self, rule: Denormalize) -> StateRule:
        """Return this with the rule as it is called by now."""
        return self if rule is self.rule else replace(self, rule=rule)


def rules_in(model_state: ModelState | None) -> tuple[StateRule, ...]:
    """Return the rules that a model has in the state of a migration."""
    return tuple(model_state.options.get(RULES, ())) if model_state else ()


def set_rules(state: ProjectState, key: ModelKey, rules: Iterable[StateRule]) -> None:
    """Let a model have these rules in a state."""
    model_state = state.models[key]
    found = tuple(rules)
    if found:
        model_state.options[RULES] = found
    else:
        model_state.options.pop(RULES, None)


def all_rules(state: ProjectState) -> dict[ModelKey, tuple[StateRule, ...]]:
    """Return the rules of all models of a state, those of apps without migrations too, by model."""
    found = {key: rules for key, model_state in state.models.items() if (rules := rules_in(model_state))}
    for app_label in state.real_apps:
        for model in _live_models(app_label):
            key = key_of(model)
            if key not in state.models and (rules := live_rules(model)):
                found[key] = rules
    return found


def all_models(state: ProjectState) -> dict[ModelKey, ModelState]:
    """Return the states of all models, with those of apps without migrations, whose relations Django leaves out."""
    live = {key_of(model): model for app_label in state.real_apps for model in _live_models(app_label)}
    return {**{key: _live_state(model) for key, model in live.items()}, **state.models}


def names_of(rules: dict[ModelKey, tuple[StateRule, ...]]) -> frozenset[str]:
    """Return every name on the paths of rules, and every label of a model in them."""
    return frozenset().union(*(item.mentioned for found in rules.values() for item in found))


def key_of(model: type[Model]) -> ModelKey:
    """Return the key of a model in a state."""
    return model._meta.app_label, str(model._meta.model_name)


def _live_models(app_label: str) -> list[type[Model]]:
    if not live_apps.is_installed("trigger_kit") or app_label not in live_apps.app_configs:
        return []
    return list(live_apps.get_app_config(app_label).get_models())


@cache
def _live_state(model: type[Model]) -> ModelState:
    """Return the state of a live model, always the same one, so that equal states are seen to be equal."""
    return ModelState.from_model(model)


@cache
def live_rules(model: type[Model]) -> tuple[StateRule, ...]:
    """Return the rules that a live model declares, as a state holds them."""
    label = model._meta.label_lower
    return tuple(StateRule(rule, crossed_relations(rule, model), origin=label) for rule in rules_of(model))
