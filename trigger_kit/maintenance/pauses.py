"""OPERATE: stop maintaining for a bulk load, and repair what it has touched."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import DEFAULT_DB_ALIAS, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from trigger_kit.catalog import Placement
from trigger_kit.compiler.text import fill_placeholders
from trigger_kit.compiler.values import repair_sql
from trigger_kit.installation import live_plans, require_postgresql, runner
from trigger_kit.planner import Plan

__all__ = ["paused", "repair_touched"]


@contextmanager
def paused(using: str = DEFAULT_DB_ALIAS) -> Iterator[None]:
    """Stop maintaining in this transaction, for a bulk load; on leaving, repair what was touched.

    Opens a transaction, or a savepoint where one is open. Inside, the triggers only note the touched keys and stored
    values are out of date; other connections see nothing of it.
    """
    connection = require_postgresql(using)
    with transaction.atomic(using=using):
        run = runner(connection)
        run("SELECT set_config('trigger_kit.paused', 'on', true)")
        yield
        run("SELECT set_config('trigger_kit.paused', '', true)")
        for plan in reversed(live_plans(using)):
            repair_touched(plan, connection)


def repair_touched(plan: Plan, connection: BaseDatabaseWrapper) -> None:
    """Recompute the targets of a plan that a pause has noted, and forget the notes."""
    place = Placement(connection, plan.target)
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('trigger_kit.depth', '0', true)")
        for key in dict.fromkeys(edge.key for edge in plan.edges):
            cursor.execute(fill_placeholders(repair_sql(plan, key), place), None)
        cursor.execute("SELECT set_config('trigger_kit.depth', '', true)")
