"""PLAN: what keeps the rules of today's models."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from django.apps import apps as live_apps
from django.db import DEFAULT_DB_ALIAS, router
from django.db.models import Model

from trigger_kit.exceptions import RuleError
from trigger_kit.plan.plan import Plan, plan, plan_all
from trigger_kit.resolve.declared import declared
from trigger_kit.rules import Denormalize

__all__ = ["live_plans", "plan_sound"]


def live_plans(using: str = DEFAULT_DB_ALIAS) -> list[Plan]:
    """Return the plans of the live models whose tables belong into a database."""
    return [item for item in plan_all(declared(live_apps)) if router.allow_migrate_model(using, item.model)]


def plan_sound(rules: Iterable[tuple[type[Model], Sequence[Denormalize]]]) -> list[Plan]:
    """Plan every model's rules; where some are refused, those of the models that are well, each by itself."""
    found = list(rules)
    try:
        return plan_all(found)
    except RuleError:
        return [item for model, own in found for item in _plan_one(model, own)]


def _plan_one(model: type[Model], rules: Sequence[Denormalize]) -> list[Plan]:
    try:
        return [plan(model, rules)]
    except RuleError:
        return []
