"""OPERATE: fold what is pending for QUEUED columns, once or for as long as somebody follows.

A writer's transaction notifies only where somebody holds the advisory lock of its target's queue. A follower takes this
lock when it has nothing to do, looks once more, and then waits; where it does not get it, writers are at work that it
looks for again after a short while.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from django.db import DEFAULT_DB_ALIAS, InterfaceError, OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper

from trigger_kit.database.catalog import Placement
from trigger_kit.database.installation import chosen_plans, require_postgresql
from trigger_kit.database.trust import require_trusted
from trigger_kit.exceptions import TriggerKitError
from trigger_kit.maintenance.verify import set_commits
from trigger_kit.plan.plan import Plan
from trigger_kit.rules import Timing
from trigger_kit.sql.appending import follower_lock
from trigger_kit.sql.text import identifier, plain_name

__all__ = ["BATCH_SIZE", "Queue", "flush", "follow", "pending_rows", "queues"]

BATCH_SIZE = 5_000
# Seconds to wait where writers are at work that send no notification, and before a lost connection is made again.
SHORTLY = 0.1
AGAIN = 1.0
ATTEMPTS = 5
DEADLOCK = "40P01"

OnBatch = Callable[["Queue", int], None]


@dataclass(frozen=True)
class Queue:
    """The queue of one target: its model's label, its table and schema, and the columns that it is found by."""

    label: str
    target: str
    schema: str
    keys: tuple[tuple[str, ...], ...]

    @property
    def foldable(self) -> str:
        """The SQL condition under which a pending row has a target that it can be folded into."""
        table = self.target.rpartition('"."')[2]
        target = f"{identifier(self.schema)}.{identifier(table)}"
        ties = [" AND ".join(f"there.{identifier(c)} = pending.{identifier(c)}" for c in key) for key in self.keys]
        return " OR ".join(f"EXISTS (SELECT FROM {target} AS there WHERE {tie})" for tie in ties)

    @property
    def channel(self) -> str:
        """The channel on which writers notify followers."""
        return plain_name("tk_pending_", self.target)

    @property
    def table(self) -> str:
        """The SQL name of the table of pending changes."""
        return f"{identifier(self.schema)}.{identifier(self.channel)}"

    @property
    def function(self) -> str:
        """The SQL name of the function that folds them."""
        return f"{identifier(self.schema)}.{identifier(plain_name('tk_flush_', self.target))}"

    @property
    def lock(self) -> int:
        """The advisory lock of whoever waits for a notification."""
        return follower_lock(self.target)


def flush(
    uris: Sequence[str] = (),
    *,
    using: str = DEFAULT_DB_ALIAS,
    batch_size: int = BATCH_SIZE,
    on_batch: OnBatch | None = None,
) -> int:
    """Fold what is pending for the targets of all QUEUED rules, or of some; return the number of pending rows taken.

    All that was committed before the call is folded after it, whoever else flushes at the same time. Each batch of
    about ``batch_size`` pending rows is a transaction of its own, so that whatever happens nothing is lost or folded
    twice; inside an open transaction everything is part of that. There DEFERRED columns are brought up to date, too.
    What is pending for a row that does not exist (yet) stays.

    Raises TriggerKitError for an unknown rule, and where a queue is not installed.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is 1 or more, not {batch_size}.")
    connection = require_postgresql(using)
    plans = chosen_plans(uris, using)
    if connection.in_atomic_block:
        _settle(connection, plans)
    return sum(_flush_queue(connection, queue, batch_size, on_batch) for queue in _queues(connection, plans))


def queues(uris: Sequence[str] = (), *, using: str = DEFAULT_DB_ALIAS) -> list[Queue]:
    """Return the queues of all QUEUED rules, or of some."""
    return _queues(require_postgresql(using), chosen_plans(uris, using))


def pending_rows(queue: Queue, *, using: str = DEFAULT_DB_ALIAS) -> int:
    """Return the number of rows in a queue, those for targets that do not exist included."""
    return int(_value(require_postgresql(using), f"SELECT count(*) FROM {queue.table}"))


def _is_left(connection: BaseDatabaseWrapper, queue: Queue) -> bool:
    """Whether something is pending that can be folded."""
    return bool(_value(connection, f"SELECT EXISTS (SELECT FROM {queue.table} AS pending WHERE {queue.foldable})"))


def _queues(connection: BaseDatabaseWrapper, plans: Iterable[Plan]) -> list[Queue]:
    """Return the queues of plans; every one must be installed."""
    found = []
    for plan in plans:
        keys = tuple(tuple(column.name for column in fold.key) for fold in plan.folds(Timing.QUEUED))
        if not keys:
            continue
        queue = Queue(plan.model._meta.label, plan.target, Placement(connection, plan.target).schema, keys)
        if _value(connection, "SELECT to_regclass(%s)", queue.table) is None:
            raise TriggerKitError(
                f"The queue of {queue.label} is not installed in the database {connection.alias!r}. "
                "Run manage.py migrate for it."
            )
        require_trusted(connection, queue.schema, queue.channel, plain_name("tk_flush_", queue.target))
        found.append(queue)
    return found


def _settle(connection: BaseDatabaseWrapper, plans: Iterable[Plan]) -> None:
    """Bring the DEFERRED columns of the open transaction up to date."""
    tables = [plan.target for plan in plans if any(edge.is_deferred for edge in plan.edges)]
    for mode in ("IMMEDIATE", "DEFERRED"):
        set_commits(connection, tables, mode)


def _flush_queue(connection: BaseDatabaseWrapper, queue: Queue, batch_size: int, on_batch: OnBatch | None) -> int:
    """Fold in batches as much as there was, past targets that others hold; then wait for these, one at a time.

    The last pass is for what came between: it waits while it holds several targets, and is tried again after a deadlock
    with somebody who locks them in another order.
    """
    taken = 0
    for size, skip_locked in ((batch_size, True), (1, False)):
        left = int(_value(connection, f"SELECT count(*) FROM {queue.table}"))
        while left > 0 and (rows := _fold(connection, queue, size, on_batch, skip_locked=skip_locked)):
            left -= rows
            taken += rows
        if skip_locked and left > 0:
            # The oldest rows may all belong to targets that others hold.
            taken += _fold(connection, queue, None, on_batch)
    for _ in range(ATTEMPTS - 1 if not connection.in_atomic_block else 0):
        try:
            return taken + _fold(connection, queue, None, on_batch, skip_locked=False)
        except OperationalError as error:
            if getattr(error.__cause__, "sqlstate", "") != DEADLOCK:
                raise
    return taken + _fold(connection, queue, None, on_batch, skip_locked=False)


def _fold(
    connection: BaseDatabaseWrapper,
    queue: Queue,
    batch_size: int | None,
    on_batch: OnBatch | None,
    *,
    skip_locked: bool = True,
) -> int:
    # Of these types: a role that may create functions there could make one that fits better.
    rows = int(_value(connection, f"SELECT {queue.function}(%s::bigint, %s::boolean)", batch_size, skip_locked))
    if rows and on_batch is not None:
        on_batch(queue, rows)
    return rows


def _value(connection: BaseDatabaseWrapper, sql: str, *params: Any) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(sql, params or None)
        row = cursor.fetchone()
    return row[0] if row else None


# Following ----------------------------------------------------------------------------------------------------------


def follow(
    uris: Sequence[str] = (),
    *,
    using: str = DEFAULT_DB_ALIAS,
    batch_size: int = BATCH_SIZE,
    interval: float = 60.0,
    on_batch: OnBatch | None = None,
    on_loss: Callable[[Exception], None] | None = None,
    until: Callable[[], bool] = lambda: False,
) -> None:
    """Fold whatever comes, as it comes, until ``until()``, which is asked at least every ``interval`` seconds.

    Needs a session of its own, not a pooled one: it listens for notifications. One follower per queue is enough;
    of several, all but one look ten times a second. Targets that others hold are passed over and tried again. A lost
    connection is made anew; ``on_loss`` hears of it.
    """
    connection = require_postgresql(using)
    while not until():
        try:
            found = queues(uris, using=using)
            _listen(connection, found)
            while not until():
                _follow_once(connection, found, batch_size, interval, on_batch)
        except (InterfaceError, OperationalError) as error:
            if on_loss is not None:
                on_loss(error)
            connection.close()
            time.sleep(AGAIN)
    connection.close()


def _listen(connection: BaseDatabaseWrapper, found: Iterable[Queue]) -> None:
    with connection.cursor() as cursor:
        for queue in found:
            cursor.execute(f"LISTEN {identifier(queue.channel)}")


def _follow_once(
    connection: BaseDatabaseWrapper,
    found: Sequence[Queue],
    batch_size: int,
    interval: float,
    on_batch: OnBatch | None,
) -> None:
    """Fold what there is, then wait for more."""

    def fold_all() -> int:
        return sum(_fold_unlocked(connection, queue, batch_size, on_batch) for queue in found)

    fold_all()
    with _waiting(connection, found) as are_all_announced:
        if fold_all():
            return
        is_quiet = are_all_announced and not any(_is_left(connection, queue) for queue in found)
        with connection.wrap_database_errors:
            for _ in connection.connection.notifies(timeout=interval if is_quiet else SHORTLY, stop_after=1):
                return


def _fold_unlocked(connection: BaseDatabaseWrapper, queue: Queue, batch_size: int, on_batch: OnBatch | None) -> int:
    """Fold one queue; where the oldest rows belong to targets that others hold, everything behind them."""
    taken = 0
    while rows := _fold(connection, queue, batch_size, on_batch):
        taken += rows
    return taken + _fold(connection, queue, None, on_batch)


@contextmanager
def _waiting(connection: BaseDatabaseWrapper, found: Sequence[Queue]) -> Iterator[bool]:
    """Hold the locks that make writers notify; yields whether no writer is at work that has found one free before."""
    held = [queue.lock for queue in found if _value(connection, "SELECT pg_try_advisory_lock(%s)", queue.lock)]
    try:
        yield len(held) == len(found)
    finally:
        for lock in held if connection.is_usable() else ():
            _value(connection, "SELECT pg_advisory_unlock(%s)", lock)
