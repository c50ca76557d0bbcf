"""Declarative denormalization for Django, kept exact by PostgreSQL triggers."""

from __future__ import annotations

from trigger_kit.rules import Denormalize, Guard, Level, Timing

__all__ = ["Denormalize", "Guard", "Level", "Timing"]
__version__ = "0.1.0"
