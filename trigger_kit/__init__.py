"""Declarative denormalization for Django, kept exact by PostgreSQL triggers."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from trigger_kit import meta as meta
from trigger_kit.expressions import Exists, First
from trigger_kit.rows import Rows
from trigger_kit.rules import Denormalize, Guard, Level, Timing
from trigger_kit.version import VERSION

if TYPE_CHECKING:
    from trigger_kit.exact import Exact
    from trigger_kit.maintenance.backfill import backfill
    from trigger_kit.maintenance.flush import flush
    from trigger_kit.maintenance.pause import paused
    from trigger_kit.maintenance.repair import repair
    from trigger_kit.maintenance.verify import verify

__all__ = [
    "Denormalize",
    "Exact",
    "Exists",
    "First",
    "Guard",
    "Level",
    "Rows",
    "Timing",
    "backfill",
    "flush",
    "paused",
    "repair",
    "verify",
]
__version__ = VERSION
_HOMES = {
    "Exact": "exact",
    "backfill": "maintenance.backfill",
    "flush": "maintenance.flush",
    "paused": "maintenance.pause",
    "repair": "maintenance.repair",
    "verify": "maintenance.verify",
}


def __getattr__(name: str) -> Any:
    """Import what needs Django's settings when it is first asked for: models import this module."""
    if name in _HOMES:
        return getattr(import_module(f"trigger_kit.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
