"""The settings of a project: ``TRIGGER_KIT``, a dictionary. All are optional."""

from __future__ import annotations

from typing import Any

from django.conf import settings

__all__ = ["DEFAULTS", "setting", "unknown_settings"]

DEFAULTS: dict[str, Any] = {
    # Rules (URIs; an app or a model stands for its rules) whose first fill goes in batches, in a migration of its own.
    "BATCHED_BACKFILL": (),
    # Rows of a target up to which a migration fills it in one statement, in its transaction.
    "ATOMIC_BACKFILL_ROWS": 100_000,
    # Seconds in which a change of triggers tries to get the locks of its tables, a moment each time.
    "LOCK_PATIENCE": 60.0,
    # Whether each migrate brings triggers to what this version of the code compiles.
    "UPGRADE": True,
}


def setting(name: str) -> Any:
    """Return ``settings.TRIGGER_KIT[name]``, or its default."""
    return getattr(settings, "TRIGGER_KIT", {}).get(name, DEFAULTS[name])


def unknown_settings() -> list[str]:
    """Return the keys of ``settings.TRIGGER_KIT`` that mean nothing."""
    return sorted(set(getattr(settings, "TRIGGER_KIT", {})) - set(DEFAULTS))
