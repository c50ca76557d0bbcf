"""CHECK: whether migrations of other apps come in one order with those that hold rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.apps import apps as live_apps
from django.core.checks import CheckMessage, Error
from django.db.migrations.exceptions import BadMigrationError, CircularDependencyError, NodeNotFoundError
from django.db.migrations.loader import MigrationLoader

from trigger_kit.migration.order import Disorder, disorders
from trigger_kit.plan.live import plan_sound
from trigger_kit.resolve.declared import declared

__all__ = ["check_order"]


def check_order(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Check that what changes under a rule of another app is ordered against the migration that holds the rule."""
    if not _reads_elsewhere():
        return []  # Migrations need not be loaded: within one app they have an order.
    try:
        loader = MigrationLoader(None, ignore_no_migrations=True)
        found = disorders(loader)
    except (BadMigrationError, CircularDependencyError, NodeNotFoundError):
        return []  # Django says so itself.
    return list(map(_error, found))


def _error(item: Disorder) -> Error:
    rule, change = ".".join(item.rule), ".".join(item.change)
    return Error(
        f"{rule} holds rules of {item.label} that read what {change} changes ({item.what}), and nothing says which of "
        "the two comes first: a fresh database may end otherwise than this one.",
        hint=item.way_out,
        id="trigger_kit.E035",
    )


def _reads_elsewhere() -> bool:
    """Whether a rule reads a model of another app; other checks tell of rules that are refused."""
    return any(
        source.model._meta.app_label != item.model._meta.app_label
        for item in plan_sound(declared(live_apps))
        for source in item.sources
    )
