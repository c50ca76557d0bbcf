"""INSTALL: the locks of a change of triggers, held briefly and never waited for long.

Whoever waits for a strong lock makes everybody queue behind: so we wait a moment, let go of what we have got so far,
and try again.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from django.db import OperationalError, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from trigger_kit.conf import setting
from trigger_kit.exceptions import TriggerKitError

__all__ = ["lock_statement", "lock_tables", "patiently", "waiting_at_most"]

# Shorter than PostgreSQL's deadlock_timeout: of two that wait for each other, it is we who let go.
MOMENT = "500ms"
LOCK_NOT_AVAILABLE = "55P03"
# Or the deadlock that PostgreSQL sees at once, where two want more of one table than they have.
TRY_AGAIN = {LOCK_NOT_AVAILABLE, "40P01"}

_BLOCKERS = """
SELECT format('process %%s (%%s, %%s)', activity.pid, coalesce(nullif(activity.application_name, ''), 'no name'),
              activity.state)
FROM pg_locks AS held JOIN pg_stat_activity AS activity ON activity.pid = held.pid
WHERE held.granted AND held.pid <> pg_backend_pid() AND held.relation = ANY (%s::text[]::regclass[])
  AND held.mode NOT IN ('AccessShareLock', 'RowShareLock')
GROUP BY 1 LIMIT 3
"""


def lock_statement(tables: Sequence[str], mode: str = "SHARE ROW EXCLUSIVE") -> str:
    """Return the statement that locks tables, named as SQL, one after the other."""
    return f"LOCK TABLE {', '.join(tables)} IN {mode} MODE;"


def lock_tables(connection: BaseDatabaseWrapper, tables: Sequence[str], mode: str = "SHARE ROW EXCLUSIVE") -> None:
    """Lock tables until the end of the open transaction, in the given order.

    Raises TriggerKitError where that was not possible within ``TRIGGER_KIT["LOCK_PATIENCE"]`` seconds.
    """

    def lock() -> None:
        with connection.cursor() as cursor:
            cursor.execute(lock_statement(tables, mode), None)

    patiently(connection, lock, tables)


def patiently(connection: BaseDatabaseWrapper, change: Callable[[], None], tables: Sequence[str] = ()) -> None:
    """Do something that needs strong locks in the open transaction; while somebody has them, take all back and wait.

    Raises TriggerKitError where it was not possible within ``TRIGGER_KIT["LOCK_PATIENCE"]`` seconds; ``tables`` are
    those that the error tells about.
    """
    end = time.monotonic() + setting("LOCK_PATIENCE")
    while not _try(connection, change):
        if time.monotonic() >= end:
            raise TriggerKitError(_refusal(connection, tables))
        time.sleep(random.uniform(0.05, 0.25))


def _try(connection: BaseDatabaseWrapper, change: Callable[[], None]) -> bool:
    """Make a change whose locks are to be had at once, or none; return whether it was made."""
    try:
        with transaction.atomic(using=connection.alias), waiting_at_most(connection, MOMENT):
            change()
    except OperationalError as error:
        if getattr(error.__cause__, "sqlstate", "") not in TRY_AGAIN:
            raise
        return False
    return True


@contextmanager
def waiting_at_most(connection: BaseDatabaseWrapper, time: str) -> Iterator[None]:
    """Wait for no lock longer than that, in the open transaction."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('lock_timeout')")
        (before,) = cursor.fetchone()
        cursor.execute("SELECT set_config('lock_timeout', %s, true)", [time])
        yield
        cursor.execute("SELECT set_config('lock_timeout', %s, true)", [before])


def _refusal(connection: BaseDatabaseWrapper, tables: Sequence[str]) -> str:
    with connection.cursor() as cursor:
        cursor.execute(_BLOCKERS, [list(tables)])
        holders = ", ".join(row[0] for row in cursor.fetchall())
    return (
        f"{', '.join(tables) or 'The tables'} could not be locked within {setting('LOCK_PATIENCE'):g} seconds: "
        f"{holders or 'somebody'} is using them. Nothing was changed. End that transaction and try again, or set "
        'TRIGGER_KIT["LOCK_PATIENCE"] higher.'
    )
