"""INSTALL: fill a whole target in batches, in key order, each a short transaction of its own.

How far a fill has come is written in the transaction of each batch, so that the next one goes on where the last
committed one has stopped, whatever has stopped it. It starts anew where triggers have changed since: somebody may have
kept other values, or none, in between.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

from django.db import OperationalError, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from trigger_kit.database.catalog import Placement
from trigger_kit.database.converge import runner
from trigger_kit.database.filling import Filling, Key, last_key, lock_keys, lock_next, set_sql, write_locked
from trigger_kit.database.records import forget_record, read_records, write_record
from trigger_kit.database.table_locks import LOCK_NOT_AVAILABLE, TRY_AGAIN, waiting_at_most
from trigger_kit.exceptions import TriggerKitError
from trigger_kit.sql.text import advisory_number

__all__ = ["OnBatch", "Progress", "backfilling", "estimated_rows", "fill_all", "interrupted"]

KIND = "backfill"

# Seconds that a batch shall take, rows of the first one and of the largest.
AIM = 0.03
FIRST, MOST = 200, 1_500
# Whoever waits for a row holds the others of its batch meanwhile: it lets go, and waits for one row at a time.
MOMENT = "50ms"
ATTEMPTS = 10
# A batch that is lost with the server is done again, with all that follow; the end of the fill waits for the disk.
HASTY = {"synchronous_commit": "off"}
# How long a fill waits for another one of the same target to end, whose client may be gone already.
PATIENCE = "3s"
# Up to here rows are counted; of more, the planner has an idea.
COUNTED = 10_000


@dataclass(frozen=True)
class Progress:
    """How far a fill is: ``rows`` of ``total`` rows, which is an estimate, of which some were changed.

    ``after`` is the last key that was filled, ``upto`` the last one when the fill began: later rows start right.
    ``made`` tells the functions of then from others. ``seconds`` and ``done`` are those of this run.
    """

    label: str
    fields: tuple[str, ...]
    total: int
    rows: int = 0
    changed: int = 0
    after: Key | None = None
    upto: Key | None = None
    made: str = ""
    seconds: float = 0.0
    done: int = 0

    @property
    def share(self) -> float:
        """The part that is filled, from 0 to 1."""
        return min(self.rows / self.total, 1.0) if self.total else 1.0

    @property
    def rate(self) -> float:
        """The rows per second of this run."""
        return self.done / self.seconds if self.seconds else 0.0

    @property
    def seconds_left(self) -> float:
        """The seconds that are left, at the rate of this run."""
        return max(self.total - self.rows, 0) / self.rate if self.rate else 0.0


OnBatch = Callable[[Progress], None]


def fill_all(
    connection: BaseDatabaseWrapper,
    filling: Filling,
    *,
    batch_size: int | None = None,
    rate: int | None = None,
    restart: bool = False,
    on_batch: OnBatch | None = None,
    at_end: Callable[[], None] | None = None,
) -> Progress:
    """Write the full values of all rows where they differ, and return what was done.

    Batches are as large as can be written in a moment, or of ``batch_size`` rows; ``rate`` is the most rows per second.
    ``at_end`` runs in the transaction that ends the fill. Inside an open transaction everything is part of that.

    Raises TriggerKitError where somebody else is filling the same target.
    """
    place = Placement(connection, filling.target)
    pace = Pace(batch_size, rate)
    with _alone(connection, filling, place):
        progress = _begin(connection, filling, place, restart=restart)
        begun = time.monotonic()
        while True:
            found = _fill_next(connection, filling, place, progress, pace)
            if found is None:
                break
            pace.rest(found.done - progress.done)
            progress = replace(found, seconds=time.monotonic() - begun)
            if on_batch is not None:
                on_batch(progress)
        with _transaction(connection):
            if at_end is not None:
                at_end()
            forget_record(connection, place.schema, filling.label, KIND)
        return replace(progress, total=progress.rows, seconds=time.monotonic() - begun)


def backfilling(connection: BaseDatabaseWrapper, schema: str) -> dict[str, Progress]:
    """Return the fills of a schema's targets that have begun and not ended, by the labels of their models."""
    return {name: _progress(name, value) for name, value in read_records(connection, schema, KIND).items()}


def estimated_rows(connection: BaseDatabaseWrapper, table: str) -> int:
    """Return the number of rows of a table, named as SQL: exact where these are few."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM (SELECT FROM {table} LIMIT {COUNTED}) AS counted", None)
        (rows,) = cursor.fetchone()
        if rows < COUNTED:
            return int(rows)
        cursor.execute(f"EXPLAIN (FORMAT JSON) SELECT FROM {table}", None)
        (plans,) = cursor.fetchone()
    return int(plans[0]["Plan"]["Plan Rows"])


# Batches ------------------------------------------------------------------------------------------------------------


class Pace:
    """How many rows the next batch takes, and how long to rest after it."""

    def __init__(self, batch_size: int | None, rate: int | None) -> None:
        self.fixed = batch_size
        self.rate = rate
        self.size = batch_size or FIRST
        self.is_patient = False
        self.failures = 0
        self.begun = time.monotonic()

    @property
    def rows(self) -> int:
        """The rows of the next batch."""
        return min(self.size, self.rate or self.size)

    def learn(self, rows: int, seconds: float) -> None:
        """Take note of how long a batch has taken."""
        self.is_patient, self.failures = False, 0
        fitting = self.fixed or int(rows * AIM / max(seconds, 1e-6))
        self.size = max(1, min(fitting, self.size * 2, self.fixed or MOST))

    def let_go(self) -> None:
        """Take one row next, and wait for it."""
        self.size, self.is_patient, self.failures = 1, True, self.failures + 1

    def rest(self, rows: int) -> None:
        """Wait until so many rows may have been written."""
        if self.rate is not None:
            time.sleep(max(0.0, rows / self.rate - (time.monotonic() - self.begun)))
        self.begun = time.monotonic()


def _fill_next(
    connection: BaseDatabaseWrapper, filling: Filling, place: Placement, progress: Progress, pace: Pace
) -> Progress | None:
    """Fill the next batch, and return how far it has come; None where no row is left."""
    is_own = not connection.in_atomic_block
    while True:
        try:
            return _fill_batch(connection, filling, place, progress, pace)
        except OperationalError as error:
            state = getattr(error.__cause__, "sqlstate", "")
            if not is_own or state not in TRY_AGAIN or pace.failures >= ATTEMPTS:
                raise
            pace.let_go()


def _fill_batch(
    connection: BaseDatabaseWrapper, filling: Filling, place: Placement, progress: Progress, pace: Pace
) -> Progress | None:
    is_own = not connection.in_atomic_block
    if progress.upto is None:
        return None
    with _transaction(connection, HASTY if pace.is_patient else HASTY | {"lock_timeout": MOMENT}):
        keys = lock_next(connection, filling, place, progress.after, progress.upto, pace.rows)
        begun = time.monotonic()
        if not keys:
            return None
        if not is_own:  # The transaction's isolation level is somebody else's choice.
            lock_keys(connection, filling, place, keys)
        changed = write_locked(connection, filling, place, keys)
        found = replace(
            progress,
            rows=progress.rows + len(keys),
            changed=progress.changed + changed,
            after=keys[-1],
            done=progress.done + len(keys),
        )
        _remember(connection, place, found)
    pace.learn(len(keys), time.monotonic() - begun)
    return found


@contextmanager
def _transaction(connection: BaseDatabaseWrapper, settings: Mapping[str, str] | None = None) -> Iterator[None]:
    """Open a READ COMMITTED transaction with some settings, or be part of the open one as it is."""
    is_own = not connection.in_atomic_block
    with transaction.atomic(using=connection.alias):
        if is_own:
            runner(connection)("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
            if settings:
                runner(connection)(set_sql(settings))
        yield


# What is remembered -------------------------------------------------------------------------------------------------


def _begin(connection: BaseDatabaseWrapper, filling: Filling, place: Placement, *, restart: bool) -> Progress:
    """Return where to go on, or to start."""
    progress = interrupted(connection, filling, place, restart=restart)
    if progress.made:
        return progress
    upto = last_key(connection, filling, place)
    progress = replace(progress, upto=upto, made=_made(connection, place))
    with _transaction(connection):
        _remember(connection, place, progress)
    return progress


def interrupted(
    connection: BaseDatabaseWrapper, filling: Filling, place: Placement, *, restart: bool = False
) -> Progress:
    """Return how far an earlier run of a fill has come that this one would go on with."""
    value = read_records(connection, place.schema, KIND).get(filling.label)
    is_same = value and value["fields"] == list(filling.fields) and value["made"] == _made(connection, place)
    if value and is_same and not restart:
        return _progress(filling.label, value)
    return Progress(filling.label, filling.fields, estimated_rows(connection, place(filling.target)))


def _remember(connection: BaseDatabaseWrapper, place: Placement, progress: Progress) -> None:
    value = asdict(progress)
    kept = {name: value[name] for name in ("fields", "total", "rows", "changed", "after", "upto", "made")}
    write_record(connection, place.schema, progress.label, KIND, kept)


def _progress(label: str, value: dict[str, Any]) -> Progress:
    keys = {name: None if value[name] is None else tuple(value[name]) for name in ("after", "upto")}
    return Progress(label, **(value | keys | {"fields": tuple(value["fields"])}))


def _made(connection: BaseDatabaseWrapper, place: Placement) -> str:
    """Return what changes whenever one of our functions in the schema does."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT md5(coalesce(string_agg(format('%%s %%s', oid, xmin), ',' ORDER BY oid), '')) FROM pg_proc "
            "WHERE proname ~ '^~?tk_' AND pronamespace = %s::regnamespace",
            [place(":schema")],
        )
        return str(cursor.fetchone()[0])


# One at a time ------------------------------------------------------------------------------------------------------


@contextmanager
def _alone(connection: BaseDatabaseWrapper, filling: Filling, place: Placement) -> Iterator[None]:
    """Hold the lock of the target's fill: it is the session's, or the open transaction's."""
    number = advisory_number("backfill", place.schema, filling.target)
    is_own = not connection.in_atomic_block
    try:
        with transaction.atomic(using=connection.alias), waiting_at_most(connection, PATIENCE):
            runner(connection)(f"SELECT pg_advisory_{'' if is_own else 'xact_'}lock({number})")
    except OperationalError as error:
        if getattr(error.__cause__, "sqlstate", "") != LOCK_NOT_AVAILABLE:
            raise
        raise TriggerKitError(_refusal(connection, filling, number)) from error
    try:
        yield
    finally:
        if is_own and connection.connection is not None and connection.is_usable():
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s)", [number])


_HOLDERS = """
SELECT format('process %%s (%%s)', activity.pid, coalesce(nullif(activity.application_name, ''), 'no name'))
FROM pg_locks AS held JOIN pg_stat_activity AS activity ON activity.pid = held.pid
WHERE held.locktype = 'advisory' AND held.granted AND held.objsubid = 1
  AND held.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND held.classid::bigint = %s AND held.objid::bigint = %s
"""


def _refusal(connection: BaseDatabaseWrapper, filling: Filling, number: int) -> str:
    with connection.cursor() as cursor:
        cursor.execute(_HOLDERS, [number >> 32 & 0xFFFFFFFF, number & 0xFFFFFFFF])
        holders = [row[0] for row in cursor.fetchall()]
    return (
        f"{filling.label} is being filled already, by {', '.join(holders) or 'another session'}. Nothing was changed. "
        "Wait until that has ended, or end it, and try again: it goes on where the other has stopped."
    )
