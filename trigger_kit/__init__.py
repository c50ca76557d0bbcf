"""Declarative denormalization for Django, kept exact by PostgreSQL triggers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trigger_kit.expressions import Exists, First
from trigger_kit.rules import Denormalize, Guard, Level, Timing

if TYPE_CHECKING:
    from trigger_kit.maintenance import paused, verify

__all__ = ["Denormalize", "Exists", "First", "Guard", "Level", "Timing", "paused", "verify"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import what needs Django's settings when it is first asked for: models import this module."""
    if name in {"paused", "verify"}:
        from trigger_kit import maintenance

        return getattr(maintenance, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
