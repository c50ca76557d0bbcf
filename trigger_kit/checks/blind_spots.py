"""OBSERVE: checks of a database: what its triggers cannot see, as far as its catalog tells.

They run where database_checks.py runs: in ``migrate``, and in ``check`` where a ``--database`` is named.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from django.core import checks
from django.core.checks import CheckMessage
from django.db import DatabaseError, InterfaceError, connections

from trigger_kit.database.installation import live_plans
from trigger_kit.exceptions import TriggerKitError
from trigger_kit.maintenance.blind_spots import BlindSpot, blind_spots

__all__ = ["check_blind_spots"]


def check_blind_spots(
    app_configs: Sequence[Any] | None, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Check the named databases for writes that go unseen."""
    return [message for alias in databases or () for message in _check(alias)]


def _check(alias: str) -> Iterator[CheckMessage]:
    """Check one database; where it cannot be read, or rules are refused, others have said so."""
    connection = connections[alias]
    if connection.vendor != "postgresql":
        return
    try:
        found = blind_spots(connection, live_plans(alias))
    except (DatabaseError, InterfaceError, TriggerKitError):
        return
    yield from (_message(spot, alias) for spot in found)


def _message(spot: BlindSpot, alias: str) -> CheckMessage:
    text = f"{', '.join(spot.uris)} (database {alias!r}): {spot.reason}"
    if spot.is_certain:
        return checks.Warning(text, hint=spot.hint, id="trigger_kit.W014")
    return checks.Info(text, hint=spot.hint, id="trigger_kit.W015")
