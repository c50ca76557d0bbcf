"""OPERATE: fix what verify finds, while writers go on.

Why the end is exact. A row is locked before its value is computed and until the value is committed, so that whoever
changes what it is computed from comes before or after, as with any two writers; from then on triggers keep it. So no
right row becomes wrong, and each wrong one needs to be written once, after it was found.

The exception is a row that was computed from true values where its sources store others. It is wrong by what these
store, and repairing them adds a difference to it that it has already; or, if triggers are missing, lets a right row
become wrong. So rules are looked at in the order in which they read each other: whatever reads a repaired column
afterwards, asked for or not; a tree, which reads its own column, again until nothing is left to change. An average is
looked at together with the sum and the count that it follows from.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from typing import Any

from django.db import DEFAULT_DB_ALIAS, OperationalError, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Model

from trigger_kit.database.catalog import Placement
from trigger_kit.database.converge import runner
from trigger_kit.database.filling import Filling, lock_keys, write_locked
from trigger_kit.database.installation import require_postgresql
from trigger_kit.maintenance.comparison import Drift, Key, KeyRange, Pass, Values, passes, reading
from trigger_kit.maintenance.listings import listed_keys
from trigger_kit.maintenance.ranges import pieces, range_rows
from trigger_kit.maintenance.verify import (
    KEPT,
    Verification,
    as_committed,
    explained,
    record_result,
    set_commits,
)
from trigger_kit.plan.kept_columns import KeptColumn
from trigger_kit.plan.live import live_plans
from trigger_kit.plan.plan import Plan
from trigger_kit.resolve.declared import select
from trigger_kit.rules import Denormalize, Timing

__all__ = ["BATCH_SIZE", "Change", "Repair", "repair", "write_wrong"]

BATCH_SIZE = 500
# So many drifted rows are found before they are repaired.
FOUND = 100_000
# A tree without triggers is repaired level by level.
ROUNDS = 1_000
# Whoever waits for a row holds the others of its batch meanwhile. So a batch that has to wait, or that a deadlock has
# ended, lets go, and smaller ones are tried; a row by itself is waited for, and tried again after a deadlock.
MOMENT = "100ms"
ATTEMPTS = 5
BUSY = {"40001", "40P01", "55P03"}


@dataclass(frozen=True)
class Change:
    """A row that was repaired: its key, what it stored, and what it stores now."""

    uri: str
    key: Any
    before: Any
    after: Any


OnBatch = Callable[[list[Change]], None]
Rows = dict[Key, dict[str, Values]]


@dataclass(frozen=True)
class Repair:
    """What repair did.

    ``changed`` has the number of rows by rule, ``changes`` the first thousand of each. ``gone`` counts the listed keys
    that no row has any more. ``left`` counts the rows that differ all the same, because something else writes them.
    """

    changes: list[Change] = field(default_factory=list)
    changed: Counter[str] = field(default_factory=Counter)
    gone: Counter[str] = field(default_factory=Counter)
    left: Counter[str] = field(default_factory=Counter)

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left that differs."""
        return not self.left.total()

    def add(self, changes: Iterable[Change]) -> None:
        """Count changes, and keep them if there is room."""
        for change in changes:
            self.changed[change.uri] += 1
            if self.changed[change.uri] <= KEPT:
                self.changes.append(change)


def repair(
    uris: Sequence[str] = (),
    *,
    using: str = DEFAULT_DB_ALIAS,
    drifts: Iterable[Drift] | None = None,
    batch_size: int = BATCH_SIZE,
    dry_run: bool = False,
    on_batch: OnBatch | None = None,
) -> Repair:
    """Fix what verify finds, of all rules or some, while writers go on; return what was changed.

    ``drifts``, such as ``verify().drifts``, names the rows that are looked at; else all are. Values are computed anew,
    with the row locked: what is right by now stays, and keys that no row has any more are counted. What reads a
    repaired column is looked at too. Each ``batch_size`` rows are repaired in a short transaction, after which
    ``on_batch`` is called with what it has changed; inside an open transaction everything is part of that.
    ``dry_run`` changes nothing, and returns what would be changed, but for what follows from it.

    Raises TriggerKitError for an unknown rule, for a listed key that is none, and where values cannot be computed.
    Nothing is changed before all of the list is read.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is 1 or more, not {batch_size}.")
    connection = require_postgresql(using)
    known = {kept.resolved.uri: (plan, kept) for plan in live_plans(using) for kept in plan.kept_columns}
    chosen = select(uris, list(known))
    listed = None
    if drifts is not None:
        models = {uri: plan.model for uri, (plan, _) in known.items()}
        listed = {uri: keys for uri, keys in listed_keys(drifts, models).items() if uri in chosen}
    work = _Work(connection, known, batch_size, dry_run=dry_run, on_batch=on_batch)
    rules = [(plan.model, kept.resolved.rule) for plan, kept in known.values()]
    with explained(connection), as_committed(connection, rules) if dry_run else nullcontext():
        work.run(chosen, listed)
    if not dry_run:
        record_result(connection, work.looked_at, Verification(work.rows, drifted=work.done.left))
    return work.done


class _Work:
    """A repair in progress: the rules by URI, and what was done."""

    def __init__(
        self,
        connection: BaseDatabaseWrapper,
        known: dict[str, tuple[Plan, KeptColumn]],
        batch_size: int,
        *,
        dry_run: bool,
        on_batch: OnBatch | None,
    ) -> None:
        self.connection = connection
        self.known = known
        self.batch_size = batch_size
        self.dry_run = dry_run
        self.on_batch = on_batch
        self.sources = _sources(kept for _, kept in known.values())
        self.fillings: dict[tuple[str, ...], Filling] = {}
        self.done = Repair()
        self.rows: dict[str, int] = {}
        self.looked_at: list[Pass] = []

    def run(self, chosen: Iterable[str], listed: dict[str, list[Key]] | None) -> None:
        """Look at listed rows, or at all rows of the chosen rules, and at what reads what was changed."""
        wanted = set(self._with_sums(chosen)) if listed is None else set()
        rows = self._with_sums_of(listed or {})
        for level in self._levels():
            for uri in level:
                if uri in rows and self._repair_listed(uri, rows[uri]):
                    wanted |= self._readers({uri})
            for model, rules in self._by_model(level, wanted).items():
                for one in passes(model, rules):
                    wanted |= self._readers(self._repair_all(one))

    def _levels(self) -> Iterator[list[str]]:
        """Yield the rules, each after those whose columns it reads."""
        graph = TopologicalSorter({uri: read - {uri} for uri, read in self.sources.items()})
        graph.prepare()
        while graph.is_active():
            ready = graph.get_ready()
            yield sorted(ready)
            graph.done(*ready)

    def _readers(self, changed: set[str]) -> set[str]:
        """Return the rules that read a column which was changed."""
        return {uri for uri, read in self.sources.items() if read & changed} if not self.dry_run else set()

    def _with_sums(self, uris: Iterable[str]) -> Iterator[str]:
        """Yield rules, and the sums and counts that averages among them follow from."""
        for uri in uris:
            plan, kept = self.known[uri]
            yield uri
            yield from (other.resolved.uri for other in plan.kept_columns if other.column in kept.served_by)

    def _with_sums_of(self, listed: dict[str, list[Key]]) -> dict[str, list[Key]]:
        """Return listed keys, those of an average for its sum and its count as well."""
        found: dict[str, dict[Key, None]] = defaultdict(dict)
        for uri, keys in listed.items():
            for other in self._with_sums([uri]):
                found[other].update(dict.fromkeys(keys))
        return {uri: list(keys) for uri, keys in found.items()}

    def _by_model(self, level: Iterable[str], wanted: set[str]) -> dict[type[Model], list[tuple[str, Denormalize]]]:
        found = defaultdict(list)
        for uri in level:
            if uri in wanted:
                plan, kept = self.known[uri]
                found[plan.model].append((uri, kept.resolved.rule))
        return found

    # Rows

    def _repair_listed(self, uri: str, keys: Sequence[Key]) -> bool:
        """Repair rows of one rule by their keys; return whether any was changed."""
        self._settle()
        plan, kept = self.known[uri]
        return bool(self._repair_keys(Pass(plan.model, ((uri, kept.resolved.rule),)), keys, are_listed=True))

    def _repair_all(self, one: Pass) -> set[str]:
        """Repair all rows of a pass, those of a tree until nothing changes; return the rules that were changed."""
        changed: set[str] = set()
        self.looked_at.append(one)
        for _ in range(ROUNDS):
            found = self._repair_once(one)
            changed |= found
            again = tuple(item for item in one.rules if item[0] in found & self._readers({item[0]}))
            if not again:
                return changed
            one = Pass(one.model, again)
        self.done.left.update(uri for uri, _ in one.rules)
        return changed

    def _repair_once(self, one: Pass) -> set[str]:
        """Repair all rows of a pass; return the rules that were changed."""
        self._settle()
        uris = [uri for uri, _ in one.rules]
        for uri in uris:
            self.rows[uri] = 0
            self.done.left.pop(uri, None)
        changed: set[str] = set()
        with explained(self.connection, one):
            for piece in pieces(self.connection, one.model, range_rows(self.connection, one)):
                part: KeyRange | None = piece.condition or KeyRange(one.model)
                while part is not None:
                    with reading(self.connection):
                        keys = one.drifted_keys(self.connection, part, limit=FOUND)
                    changed |= self._repair_keys(one, keys)
                    part = KeyRange(one.model, keys[-1], part.upto) if len(keys) == FOUND else None
                for uri in uris:
                    self.rows[uri] += piece.rows
        return changed

    def _repair_keys(self, one: Pass, keys: Sequence[Key], *, are_listed: bool = False) -> set[str]:
        """Repair rows in batches; return the rules that were changed."""
        changed: set[str] = set()
        for start in range(0, len(keys), self.batch_size):
            for rows, before, after in self._written(one, keys[start : start + self.batch_size]):
                if are_listed:
                    self.done.gone.update({one.rules[0][0]: rows - len(before)})
                self.done.left.update(uri for row in after.values() for uri, (differs, _, _) in row.items() if differs)
                changes = list(_changes(before, after))
                changed |= {change.uri for change in changes}
                self.done.add(changes)
                if changes and self.on_batch is not None:
                    self.on_batch(changes)
        return changed

    def _written(self, one: Pass, keys: Sequence[Key]) -> Iterator[tuple[int, Rows, Rows]]:
        """Write a batch, or halves of it where it gets in somebody's way.

        Yields, per transaction, the number of keys, their rows as they were, and the wrong ones of these as they are.
        """
        with explained(self.connection, one, "repaired"):
            written = self._attempt(one, keys)
        if written is not None:
            yield len(keys), *written
            return
        half = len(keys) // 2
        yield from self._written(one, keys[:half])
        yield from self._written(one, keys[half:])

    def _attempt(self, one: Pass, keys: Sequence[Key]) -> tuple[Rows, Rows] | None:
        """Write some rows in a transaction; return None where others hold some of them. A single row is waited for."""
        attempts = ATTEMPTS if len(keys) == 1 else 1
        for number in range(1, attempts + 1):
            try:
                return self._write(one, keys)
            except OperationalError as error:
                is_last = number == attempts and len(keys) == 1
                is_busy = getattr(error.__cause__, "sqlstate", "") in BUSY
                if self.connection.in_atomic_block or not is_busy or is_last:
                    raise
        return None

    def _write(self, one: Pass, keys: Sequence[Key]) -> tuple[Rows, Rows]:
        """Lock rows, and write those that are wrong."""
        if self.dry_run:
            with reading(self.connection):
                before = one.rows(self.connection, keys)
            return before, {key: _if_right(values) for key, values in _wrong(before).items()}
        filling = self._filling(one)
        place = Placement(self.connection, filling.target)
        is_impatient = not self.connection.in_atomic_block and len(keys) > 1
        with _transaction(self.connection):
            if is_impatient:
                runner(self.connection)(f"SET LOCAL lock_timeout = '{MOMENT}'")
            lock_keys(self.connection, filling, place, keys)
            return write_wrong(self.connection, one, filling, keys)

    def _filling(self, one: Pass) -> Filling:
        """Return what writes the columns of a pass."""
        uris = tuple(uri for uri, _ in one.rules)
        if uris not in self.fillings:
            plan, _ = self.known[uris[0]]
            self.fillings[uris] = Filling.of(plan, [self.known[uri][1].column for uri in uris])
        return self.fillings[uris]

    def _settle(self) -> None:
        """Bring the DEFERRED columns of the open transaction up to date, so that they are not taken for drift."""
        if not self.connection.in_atomic_block or self.dry_run:
            return
        tables = {plan.target for plan, kept in self.known.values() if kept.timing is Timing.DEFERRED}
        for mode in ("IMMEDIATE", "DEFERRED"):
            set_commits(self.connection, tables, mode)


def write_wrong(connection: BaseDatabaseWrapper, one: Pass, filling: Filling, keys: Sequence[Key]) -> tuple[Rows, Rows]:
    """Write those of some locked rows that are wrong; return all as they were, and these as they are."""
    before = one.rows(connection, keys)
    wrong = list(_wrong(before))
    if not wrong:
        return before, {}
    write_locked(connection, filling, Placement(connection, filling.target), wrong)
    return before, one.rows(connection, wrong)


def _sources(kept_columns: Iterable[KeptColumn]) -> dict[str, set[str]]:
    """Return the rules whose columns each rule reads, those that a step computes an average from included."""
    found = list(kept_columns)
    known = {(kept.resolved.column.table, kept.resolved.column.name): kept.resolved.uri for kept in found}
    read = {
        kept: kept.resolved.dependencies | {(kept.resolved.column.table, column) for column in kept.served_by}
        for kept in found
    }
    return {kept.resolved.uri: {known[column] for column in read[kept] if column in known} for kept in found}


def _wrong(rows: Rows) -> Rows:
    """Return the rows in which some value is not the true one."""
    return {key: values for key, values in rows.items() if any(differs for differs, _, _ in values.values())}


def _if_right(values: dict[str, Values]) -> dict[str, Values]:
    """Return the values of a row as they would be."""
    return {uri: (False, true, true) for uri, (_, _, true) in values.items()}


def _changes(before: Rows, after: Rows) -> Iterator[Change]:
    """Yield what has changed between two looks at the same rows."""
    for key, values in after.items():
        for uri, (differs, stored, _) in values.items():
            differed, was, _ = before[key][uri]
            if differed and (not differs or stored != was):
                yield Change(uri, key[0] if len(key) == 1 else key, was, stored)


@contextmanager
def _transaction(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """Open a READ COMMITTED transaction, in which a lock shows what was committed before it, or join the open one."""
    is_own = not connection.in_atomic_block
    with transaction.atomic(using=connection.alias):
        if is_own:
            runner(connection)("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
        yield
