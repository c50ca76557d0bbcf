"""RESOLVE: the time zone in which days, hours and constants without a zone are meant: the project's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from django.utils import timezone

__all__ = ["as_in", "in_project_zone"]

_zone: ContextVar[str | None] = ContextVar("trigger_kit_time_zone", default=None)


@contextmanager
def in_project_zone() -> Iterator[None]:
    """Resolve and compile as the project's setting says, whatever zone the current request has activated."""
    with timezone.override(_zone.get()):
        yield


@contextmanager
def as_in(zone: str) -> Iterator[None]:
    """Do so as if the setting were another one, to see whether a value depends on it."""
    token = _zone.set(zone)
    try:
        yield
    finally:
        _zone.reset(token)
