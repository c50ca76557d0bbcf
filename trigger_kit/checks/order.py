"""CHECK: whether migrations of other apps come in one order with those that hold rules."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from django.apps import apps as live_apps
from django.core.checks import CheckMessage, Error
from django.db.migrations.exceptions import BadMigrationError, CircularDependencyError, NodeNotFoundError
from django.db.migrations.loader import MigrationLoader

from trigger_kit.exceptions import RuleError
from trigger_kit.migration.order import Disorder, disorders
from trigger_kit.plan.plan import plan
from trigger_kit.resolve.declared import declared

__all__ = ["check_order"]


def check_order(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Check that what changes under a rule of another app is ordered against the migration that holds the rule."""
    if not any(True for _ in _read_elsewhere()):
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


def _read_elsewhere() -> Iterator[str]:
    """Yield the apps of models that a rule of another app reads; other checks tell of rules that are not well."""
    for model, rules in declared(live_apps):
        with suppress(RuleError):
            yield from {
                source.model._meta.app_label
                for source in plan(model, rules).sources
                if source.model._meta.app_label != model._meta.app_label
            }
