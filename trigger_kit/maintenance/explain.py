"""OBSERVE: a plan in words, for ``manage.py trigger_kit plan``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from django.db.models import Model

from trigger_kit.database.indexes import TableIndex, UpdateCounts, declared_indexes
from trigger_kit.maintenance.advice import (
    FILLFACTOR,
    WantedIndex,
    hindering_indexes,
    is_short_of_room,
    make_room,
    takes_one_row,
    wanted_indexes,
)
from trigger_kit.plan.kept_columns import KeptAggregate, KeptColumn, Strategy
from trigger_kit.plan.plan import Event, Plan, Step
from trigger_kit.resolve.columns import Path
from trigger_kit.rules import Timing

__all__ = ["cost", "explain", "inherent_deadlocks", "locks_of", "strategy_words"]

_WHEN = {
    Timing.IMMEDIATE: "",
    Timing.DEFERRED: ", once, when the writer commits",
    Timing.QUEUED: ", appended to a queue, added by the next flush",
}

_GROUP = "O(group): its rows are read again"

Indexes = Callable[[type[Model]], list[TableIndex]]


def explain(
    plan: Plan,
    plans: Iterable[Plan] = (),
    indexes: Indexes = declared_indexes,
    counts: UpdateCounts | None = None,
) -> str:
    """Explain a plan: what reacts to what, at which cost, under which locks, with which indexes.

    ``plans`` are all of the project: some deadlocks follow from two rules together. ``indexes`` says which ones the
    table of a model has, and ``counts`` how its rows were updated, where a database was asked.
    """
    lines = [f"{plan.model._meta.label} (table {plan.target}, rank {plan.rank})"]
    for kept in plan.kept_columns:
        lines.append(f"  {kept.resolved.uri}: {kept.resolved.description}")
        lines.append(f"      strategy: {strategy_words(kept)}")
        lines += [line for wanted in wanted_indexes(kept) for line in _index_words(wanted, indexes)]
    for step in plan.steps:
        paths = " and ".join(dict.fromkeys(_path_words(feed.path) for feed in step.edge.feeds_of(step.event)))
        lines.append(f"  after {step.event.name} on {step.edge.source} ({paths}):")
        lines += [f"      {kept.column}: {kept.strategy.value}, {cost(step, kept)}" for kept in step.kept_columns]
        lines += [f"      locks {lock}" for lock in locks_of(plan, step)]
    lines += _update_words(plan, indexes, counts)
    found = inherent_deadlocks([*plans] or [plan])
    lines += [f"  may deadlock: {words}" for tables, words in found if plan.target in tables]
    return "\n".join(lines)


def cost(step: Step, kept: KeptColumn) -> str:
    """Return the cost of one changed source row for one rule."""
    if step.event is Event.TRUNCATE:
        return "one UPDATE of the rows with a value"
    if isinstance(kept, KeptAggregate):
        return _cost_of_aggregate(step, kept)
    return "O(targets that point at it)" if kept.strategy is Strategy.COPY else _GROUP


def _cost_of_aggregate(step: Step, kept: KeptAggregate) -> str:
    if kept.strategy is Strategy.DELTA:
        return _delta_cost(step, kept)
    is_near = takes_one_row(kept.aggregate)
    if kept.strategy is Strategy.EXTREMUM:
        return f"O(1), and {'one index look-up' if is_near else 'O(group)'} when the extremum leaves"
    return "one index look-up" if is_near else _GROUP


def _delta_cost(step: Step, kept: KeptAggregate) -> str:
    last = step.edge.source == kept.aggregate.path[-1].table
    if step.event is not Event.INSERT and kept.null_when_empty:
        return "O(1), and one index look-up when rows leave"
    return "O(1)" if last else "O(its own rows further along the path)"


# Locks --------------------------------------------------------------------------------------------------------------


def locks_of(plan: Plan, step: Step) -> list[str]:
    """Describe the rows that a step locks, in the order in which it does."""
    if step.event is Event.TRUNCATE:
        return [f"{plan.target}: every row with a value, FOR NO KEY UPDATE, in key order"]
    feeds = step.edge.feeds_of(step.event)
    along = [lock for feed in feeds for lock in plan.path_locks(feed.path, feed.kept_columns)]
    linked = [link for feed in feeds for link in plan.links(feed.path, feed.kept_columns)]
    last = f"{plan.target}: the touched rows, FOR NO KEY UPDATE, in key order"
    last += ", at commit" if step.edge.is_deferred else ""
    return [*dict.fromkeys(map(str, [*linked, *along])), *([] if step.edge.is_queued else [last])]


def inherent_deadlocks(plans: Iterable[Plan]) -> list[tuple[frozenset[str], str]]:
    """Return where statements of one transaction each can deadlock whatever the order of locks: tables, and words.

    A statement has written its own table before any trigger runs. Where rules lead from a table to another and back,
    or by two routes to a third, two statements that start at different tables meet in opposite orders.
    """
    arcs: dict[str, set[str]] = {}
    for source, target in {pair for plan in plans for pair in plan.writes}:
        if source != target:
            arcs.setdefault(source, set()).add(target)
    found = []
    for source in sorted(arcs):
        for target in sorted(arcs[source]):
            if source in arcs.get(target, ()) and source < target:
                words = (
                    f"a change of {source} that reaches {target}, with one of {target} that reaches the same {source}"
                )
                found.append((frozenset({source, target}), words))
        for top in sorted(_reached_twice(arcs, source)):
            words = f"two changes of {source}, which reach {top} by two routes"
            found.append((frozenset({source, top}), words))
    return found


def _reached_twice(arcs: dict[str, set[str]], source: str) -> Iterator[str]:
    """Yield the tables that rules lead to from a table by two routes, at least one of them over a third table."""
    routes: dict[str, set[str]] = {}
    for first in arcs[source]:
        seen, queue = {source}, [first]
        while queue:
            table = queue.pop()
            if table not in seen:
                seen.add(table)
                routes.setdefault(table, set()).add(first)
                queue += arcs.get(table, ())
    return (table for table, firsts in routes.items() if len(firsts) > 1)


# Words --------------------------------------------------------------------------------------------------------------


def strategy_words(kept: KeptColumn) -> str:
    """Say how a rule is kept."""
    words = kept.strategy.value
    if kept.served_by:
        words = f"delta, served from {' and '.join(kept.served_by)}"
    return words + _WHEN[kept.timing]


def _index_words(wanted: WantedIndex, indexes: Indexes) -> list[str]:
    """Say that a rule wants an index, and where it is, or how to add it."""
    head = f"      wants an index on {wanted.words}"
    found = next((index.name for index in indexes(wanted.model) if wanted.is_served_by(index)), None)
    if found is not None:
        return [f"{head}: there ({found})"]
    # The model of a many-to-many relation that names none has no Meta to write to.
    has_meta = not wanted.model._meta.auto_created
    way = f"add to {wanted.model._meta.label}: {wanted.code}" if has_meta else "add it by migrations.RunSQL"
    return [f"{head}: not there; {wanted.gain}", f"          {way}"]


def _update_words(plan: Plan, indexes: Indexes, counts: UpdateCounts | None) -> list[str]:
    """Say whether the kept columns can be written by HOT updates, and what keeps them from it."""
    hindering = hindering_indexes(plan, indexes)
    lines = [
        f"  no HOT updates: {name} holds {', '.join(columns)}, so that each write of it goes into every index of "
        f"{plan.target}; worth it only where rows are found or sorted by it"
        for name, columns in hindering
    ]
    if not hindering:
        lines.append(f"  HOT updates: possible, no index holds a kept column of {plan.target}")
    if counts is not None and counts.all:
        moved = "" if counts.moved is None else f", {counts.moved / counts.all:.0%} went to another page"
        lines.append(
            f"      seen: {counts.all:,} updates of {plan.target}, {counts.hot / counts.all:.0%} of them HOT{moved} "
            f"(fillfactor {counts.fillfactor})"
        )
        if not hindering and is_short_of_room(counts):
            lines += [
                f"      neighbours that change together find no room: fillfactor {FILLFACTOR} makes it, on new pages",
                "      (VACUUM FULL or pg_repack: on all)",
                f"          {make_room(plan)}",
            ]
    return lines


def _path_words(path: Path) -> str:
    return " <- ".join(map(str, reversed(path))) or "the target's own columns"
