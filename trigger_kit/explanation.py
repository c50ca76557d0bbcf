"""OBSERVE: a plan in words, for ``manage.py trigger_kit plan``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from django.db.models import Max, Min
from django.db.models.expressions import Col

from trigger_kit.chains import Chain
from trigger_kit.expressions import Exists, First
from trigger_kit.measures import Measure
from trigger_kit.paths import Path
from trigger_kit.planner import Event, Plan, Step, Strategy
from trigger_kit.rules import Timing

__all__ = ["cost", "explain", "inherent_deadlocks", "locks_of", "strategy_words", "wanted_indexes"]

_WHEN = {
    Timing.IMMEDIATE: "",
    Timing.DEFERRED: ", once, when the writer commits",
    Timing.QUEUED: ", appended to a queue, added by the next flush",
}
# The value is that of one row, which an index finds; all other aggregates read the whole group.
_LOOKED_UP = (Exists, First, Max, Min)


def explain(plan: Plan, plans: Iterable[Plan] = ()) -> str:
    """Explain a plan: what reacts to what, at which cost, under which locks, with which index it wants.

    ``plans`` are all of the project: some deadlocks follow from two rules together.
    """
    lines = [f"{plan.model._meta.label} (table {plan.target}, rank {plan.rank})"]
    for measure in plan.measures:
        lines.append(f"  {measure.resolved.uri}: {measure.resolved.description}")
        lines.append(f"      strategy: {strategy_words(measure)}")
        lines += [f"      wants an index on {index}" for index in wanted_indexes(measure)]
    for step in plan.steps:
        paths = " and ".join(dict.fromkeys(_path_words(feed.path) for feed in step.edge.feeds_of(step.event)))
        lines.append(f"  after {step.event.name} on {step.edge.source} ({paths}):")
        lines += [
            f"      {measure.column}: {measure.strategy.value}, {cost(step, measure)}" for measure in step.measures
        ]
        lines += [f"      locks {lock}" for lock in locks_of(plan, step)]
    found = inherent_deadlocks([*plans] or [plan])
    lines += [f"  may deadlock: {words}" for tables, words in found if plan.target in tables]
    return "\n".join(lines)


def cost(step: Step, measure: Measure) -> str:
    """Return the cost of one changed source row for one rule."""
    if step.event is Event.TRUNCATE:
        return "one UPDATE of the rows with a value"
    if measure.strategy is Strategy.DELTA:
        return _delta_cost(step, measure)
    if measure.strategy is Strategy.EXTREMUM:
        return "O(1), and one index look-up when the extremum leaves"
    if measure.strategy is Strategy.COPY:
        return "O(targets that point at it)"
    if measure.chain is not None and _is_looked_up(measure.chain):
        return "one index look-up"
    return "O(group): its rows are read again"


def _delta_cost(step: Step, measure: Measure) -> str:
    assert measure.chain is not None
    last = step.edge.source == measure.chain.path[-1].table
    if step.event is not Event.INSERT and measure.null_when_empty:
        return "O(1), and one index look-up when rows leave"
    return "O(1)" if last else "O(its own rows further along the path)"


# Locks --------------------------------------------------------------------------------------------------------------


def locks_of(plan: Plan, step: Step) -> list[str]:
    """Describe the rows that a step locks, in the order in which it does."""
    if step.event is Event.TRUNCATE:
        return [f"{plan.target}: every row with a value, FOR NO KEY UPDATE, in key order"]
    feeds = step.edge.feeds_of(step.event)
    along = [lock for feed in feeds for lock in plan.path_locks(feed.path, feed.measures)]
    linked = [link for feed in feeds for link in plan.links(feed.path, feed.measures)]
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


def strategy_words(measure: Measure) -> str:
    """Say how a rule is kept."""
    words = measure.strategy.value
    if measure.average_of is not None:
        words = f"delta, served from {' and '.join(measure.average_of)}"
    return words + _WHEN[measure.timing]


def wanted_indexes(measure: Measure) -> list[str]:
    """Return the indexes without which the rule's look-ups read whole tables."""
    wanted = {}
    for source in measure.resolved.sources:
        for hop in source.path:
            if not hop.far_is_unique:
                extra = _order_columns(measure) if measure.chain and hop == measure.chain.path[-1] else []
                kind = [name for name in hop.far_names if name not in {c.name for c in hop.far}]
                wanted[hop] = f"{hop.table} ({', '.join([*kind, *(c.name for c in hop.far), *extra])})"
    return list(wanted.values())


def _order_columns(measure: Measure) -> list[str]:
    """Return the columns that a look-up takes the first row by."""
    assert measure.chain is not None
    if not _is_looked_up(measure.chain):
        return []
    wanted = [getattr(item, "expression", item) for item in measure.chain.order or [measure.chain.argument]]
    return list(dict.fromkeys(str(node.target.column) for node in wanted if isinstance(node, Col)))


def _is_looked_up(chain: Chain) -> bool:
    """Whether an index can find the one row that the value comes from."""
    compared = [getattr(item, "expression", item) for item in chain.order or [chain.argument]]
    return chain.aggregate in _LOOKED_UP and all(node is None or isinstance(node, Col) for node in compared)


def _path_words(path: Path) -> str:
    return " <- ".join(map(str, reversed(path))) or "the target's own columns"
