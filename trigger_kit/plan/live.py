"""PLAN: what keeps the rules of today's models."""

from __future__ import annotations

from django.apps import apps as live_apps
from django.db import DEFAULT_DB_ALIAS, router

from trigger_kit.plan.plan import Plan, plan_all
from trigger_kit.resolve.declared import declared

__all__ = ["live_plans"]


def live_plans(using: str = DEFAULT_DB_ALIAS) -> list[Plan]:
    """Return the plans of the live models whose tables belong into a database."""
    return [plan for plan in plan_all(declared(live_apps)) if router.allow_migrate_model(using, plan.model)]
