"""OBSERVE: checks of a database: whether what it has installed is what the rules say, and what its triggers cannot see.

``migrate`` runs them before it migrates, ``check`` where a ``--database`` is named. What a migration is about to change
is no news, so that only what no migration will mend is told.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.core import checks
from django.core.checks import CheckMessage
from django.db import DatabaseError, InterfaceError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.exceptions import BadMigrationError, CircularDependencyError, NodeNotFoundError
from django.db.migrations.loader import MigrationLoader

from trigger_kit.exceptions import TriggerKitError
from trigger_kit.maintenance.blind_spots import BlindSpot, blind_spots
from trigger_kit.maintenance.current import is_current, live_state
from trigger_kit.plan.live import live_plans

if TYPE_CHECKING:
    from trigger_kit.maintenance.status import RuleStatus

__all__ = ["check_blind_spots", "check_database"]

MIGRATE = "Run manage.py makemigrations and manage.py migrate, or manage.py trigger_kit install {model}."
# Status: id, what it says, the way out. ``{rules}`` and ``{model}`` are the target's.
MESSAGES = {
    "missing": (
        "trigger_kit.W010",
        "{rules}: triggers are missing in the database {alias!r}, so that nothing keeps these columns.",
        MIGRATE,
    ),
    "outdated": (
        "trigger_kit.W011",
        "{rules}: the triggers in the database {alias!r} are those of other rules, or of another version.",
        MIGRATE,
    ),
    "disabled": (
        "trigger_kit.W012",
        "{rules}: triggers are disabled in the database {alias!r}, so that these columns go out of date.",
        "Run manage.py trigger_kit enable {model}.",
    ),
    "paused": (
        "trigger_kit.W013",
        "{rules}: not maintained in the database {alias!r}: {detail}.",
        "Run manage.py trigger_kit resume {model}.",
    ),
}
# What a migration may be about to install.
BY_MIGRATION = {"missing", "outdated"}


def check_database(
    app_configs: Sequence[Any] | None, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Check what the named databases have installed."""
    return [message for alias in databases or () for message in _installed(connections[alias])]


def _installed(connection: BaseDatabaseWrapper) -> Iterator[CheckMessage]:
    """Check one database; where it cannot be read, or rules are refused, others have said so."""
    if connection.vendor != "postgresql":
        return
    try:
        statuses = [] if is_current(connection, live_state()) else _worth_telling(connection)
    except (DatabaseError, InterfaceError, TriggerKitError):
        return
    groups: dict[tuple[str, str], list[RuleStatus]] = {}
    for status in statuses:
        groups.setdefault((status.model, status.status), []).append(status)
    for group in groups.values():
        yield _message(connection, group)


def _worth_telling(connection: BaseDatabaseWrapper) -> list[RuleStatus]:
    """Return the statuses that no migration will mend."""
    from trigger_kit.maintenance.status import rule_statuses  # It compiles the rules.

    statuses = [status for status in rule_statuses(connection.alias) if status.status in MESSAGES]
    if any(status.status in BY_MIGRATION for status in statuses):
        if _is_migration_pending(connection):
            return [status for status in statuses if status.status not in BY_MIGRATION]
        tables = set(connection.introspection.table_names())
        made = {label: _table(label) in tables for label in {status.model for status in statuses}}
        return [status for status in statuses if made[status.model]]
    return statuses


def _table(label: str) -> str:
    """Return the table of a model, without the schema that its name may have."""
    return str(apps.get_model(label)._meta.db_table.rpartition('"."')[2]).strip('"')


def _message(connection: BaseDatabaseWrapper, group: Sequence[RuleStatus]) -> CheckMessage:
    """Return the warning about the rules of one target, which share their triggers."""
    check_id, text, hint = MESSAGES[group[0].status]
    names = {
        "rules": ", ".join(status.uri for status in group),
        "model": group[0].model,
        "alias": connection.alias,
        "detail": group[0].detail,
    }
    return checks.Warning(text.format(**names), hint=hint.format(**names), id=check_id)


def _is_migration_pending(connection: BaseDatabaseWrapper) -> bool:
    """Whether some migration is not applied, or migrations cannot be read at all."""
    try:
        loader = MigrationLoader(connection)
    except (BadMigrationError, CircularDependencyError, NodeNotFoundError):
        return True
    return bool(set(loader.graph.nodes) - set(loader.applied_migrations))


# Blind spots --------------------------------------------------------------------------------------------------------


def check_blind_spots(
    app_configs: Sequence[Any] | None, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Check the named databases for writes that go unseen, as far as their catalogs tell."""
    return [message for alias in databases or () for message in _unseen(connections[alias])]


def _unseen(connection: BaseDatabaseWrapper) -> Iterator[CheckMessage]:
    """Check one database; where it cannot be read, or rules are refused, others have said so."""
    if connection.vendor != "postgresql":
        return
    try:
        known = is_current(connection, live_state())
        found = blind_spots(connection, live_plans(connection.alias), is_current=known)
    except (DatabaseError, InterfaceError, TriggerKitError):
        return
    yield from (_spot_message(spot, connection.alias) for spot in found)


def _spot_message(spot: BlindSpot, alias: str) -> CheckMessage:
    text = f"{', '.join(spot.uris)} (database {alias!r}): {spot.reason}"
    if spot.is_certain:
        return checks.Warning(text, hint=spot.hint, id="trigger_kit.W014")
    return checks.Info(text, hint=spot.hint, id="trigger_kit.W015")
