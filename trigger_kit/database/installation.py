"""INSTALL: the rules of the live models, outside of migrations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from trigger_kit.database.catalog import Placement
from trigger_kit.database.changes import Change, needed
from trigger_kit.database.converge import Run, converge, runner
from trigger_kit.database.script import converge_script
from trigger_kit.database.wanted import Wanted
from trigger_kit.exceptions import TriggerKitError
from trigger_kit.plan.live import live_plans
from trigger_kit.plan.plan import Plan
from trigger_kit.resolve.declared import select
from trigger_kit.sql.full_values import backfill_sql
from trigger_kit.sql.text import CHECK_NOW, fill_placeholders

__all__ = [
    "backfill",
    "chosen_plans",
    "fill_fields",
    "has_tables",
    "install",
    "require_postgresql",
    "script",
]


def chosen_plans(uris: Sequence[str] = (), using: str = DEFAULT_DB_ALIAS) -> list[Plan]:
    """Return the plans of the live models that some rules belong to, or all.

    Raises TriggerKitError for a name that means no rule.
    """
    plans = live_plans(using)
    chosen = set(select(uris, [uri for plan in plans for uri in plan.uris]))
    return [plan for plan in plans if chosen.intersection(plan.uris)]


def require_postgresql(using: str) -> BaseDatabaseWrapper:
    """Return the connection of an alias.

    Raises TriggerKitError where it is not PostgreSQL.
    """
    connection: BaseDatabaseWrapper = connections[using]
    if connection.vendor != "postgresql":
        raise TriggerKitError(f"The database {using!r} is {connection.display_name}; trigger_kit needs PostgreSQL.")
    return connection


def install(using: str = DEFAULT_DB_ALIAS, *, app_labels: Iterable[str] | None = None) -> list[str]:
    """Install and fill what is missing or outdated, of all apps or some, in one transaction.

    Returns the labels of the models that it changed. Models whose tables do not all exist are passed over.
    """
    connection = require_postgresql(using)
    labels = None if app_labels is None else set(app_labels)
    plans = [plan for plan in live_plans(using) if labels is None or plan.model._meta.app_label in labels]
    wanted = [Change(after=Wanted(plan)) for plan in plans if has_tables(connection, plan)]
    changes = needed(connection, wanted)
    if changes:
        converge(connection, changes, fill=lambda target, fields: fill_fields(connection, target, fields))
    return [change.after.label for change in changes if change.after]


def has_tables(connection: BaseDatabaseWrapper, plan: Plan) -> bool:
    """Whether all tables of a plan are there."""
    place = Placement(connection, plan.target)
    return all(place.has(table) for table in plan.tables)


def fill_fields(connection: BaseDatabaseWrapper, wanted: Wanted, fields: Sequence[str]) -> None:
    """Write the full values of some fields of a target where they differ, in the current transaction."""
    backfill(wanted.plan, connection, wanted.columns(fields))


def script(using: str = DEFAULT_DB_ALIAS, uris: Sequence[str] = ()) -> str:
    """Return the whole installation as SQL for psql: locks, triggers and first fill of the targets of some rules."""
    connection = require_postgresql(using)
    parts = ["BEGIN;"]
    for plan in chosen_plans(uris, using):
        parts.append(f"-- {plan.model._meta.label}: {', '.join(plan.uris)}")
        converge_script(
            connection,
            [Change(after=Wanted(plan))],
            parts.append,
            fill=lambda target, fields: backfill(target.plan, connection, target.columns(fields), parts.append),
        )
    return "\n\n".join(part.strip() for part in (*parts, "COMMIT;"))


def backfill_statements(plan: Plan, place: Placement, columns: Iterable[str] | None = None) -> list[str]:
    """Return the statements that write the full values, the guard told about it."""
    return _guarded(fill_placeholders(backfill_sql(plan, columns), place))


def _guarded(update: str) -> list[str]:
    """Return an UPDATE of kept columns between the statements that tell the guard about it.

    A row that is written twice in a transaction has its deferred foreign keys checked at the end, and until then no
    index can be made on its table: the checks are brought forward, as Django's own schema changes do.
    """
    depth = "SELECT set_config('trigger_kit.depth', '{}', true);"
    return [
        depth.format(0),
        update,
        depth.format(""),
        *CHECK_NOW.splitlines(),
    ]


def backfill(
    plan: Plan, connection: BaseDatabaseWrapper, columns: Iterable[str] | None = None, execute: Run | None = None
) -> None:
    """Write the full values of a plan's rules where they differ, in the current transaction."""
    run = execute or runner(connection)
    for sql in backfill_statements(plan, Placement(connection, plan.target), columns):
        run(sql)
