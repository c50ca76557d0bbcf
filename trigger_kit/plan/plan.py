"""PLAN: the measured rules of one target -> a Plan of edges and steps.

The planner decides what reacts to what: which rules share a trigger, and which target a commit writes first. It reads
models and expressions only; the SQL is the compiler's.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from graphlib import CycleError, TopologicalSorter

from django.db.models import Model
from django.db.models.expressions import Col

from trigger_kit.exceptions import RuleError
from trigger_kit.plan.ranks import ranks
from trigger_kit.plan.row_locks import Link, Meeting, PathLock, links, meetings, path_locks
from trigger_kit.plan.strategy import Measure, Strategy, measure_rule, serve_averages
from trigger_kit.resolve.columns import Column, Path, Source, column_of
from trigger_kit.resolve.rule import ResolvedRule, resolve
from trigger_kit.resolve.sources import nodes
from trigger_kit.rules import Denormalize, Timing

__all__ = [
    "Edge",
    "Event",
    "Feed",
    "Plan",
    "Step",
    "Strategy",
    "edges_of",
    "plan",
    "plan_all",
    "require_acyclic",
    "require_apart",
    "require_unread",
]


class Event(enum.Enum):
    """What a statement does to a table."""

    INSERT = "insert"
    UPDATE = "update"
    DELETE = "delete"
    TRUNCATE = "truncate"


@dataclass(frozen=True, eq=False)
class Feed:
    """The measures that one table feeds over one path.

    ``columns`` are what is read of the table, ``types`` their types without length or scale, ``loose`` those whose
    equal values may differ in their text. ``whole`` is the path of the aggregate that is added to or compared with, of
    which ``path`` is the beginning; it is None where a change only tells which targets to recompute. The path of a feed
    from the target's own row is empty.
    """

    path: Path
    whole: Path | None
    measures: list[Measure] = field(default_factory=list)
    columns: set[str] = field(default_factory=set)
    loose: set[str] = field(default_factory=set)
    types: dict[str, str] = field(default_factory=dict)

    @property
    def is_own(self) -> bool:
        """Whether the row that changes is the target itself."""
        return not self.path

    @property
    def is_plain(self) -> bool:
        """Whether everything is added, from one row to the one target that it names."""
        return self.is_whole and len(self.path) == 1 and all(m.strategy is Strategy.DELTA for m in self.measures)

    @property
    def is_whole(self) -> bool:
        """Whether everything is added or compared, from the row at the far end of the aggregate's path."""
        return bool(self.path) and self.whole == self.path and all(measure.is_added for measure in self.measures)

    @property
    def identity(self) -> tuple[bool, str]:
        """What feeds of one edge are sorted by."""
        return self.whole is None, ", ".join(map(str, (*(self.whole or ()), *self.path)))


@dataclass(frozen=True, eq=False)
class Edge:
    """All feeds from one source table into one key of one target table: they share one function per event.

    ``key`` are the target's columns that the first hop leaves from; they need not be unique. The rules of a recursive
    edge read their own column in other rows: what it writes, it reads again, level by level. Where the rules wait for
    the end of the transaction or for a flush, those that are added to have an edge of their own.
    """

    source: str
    target: str
    key: tuple[Column, ...]
    feeds: tuple[Feed, ...]
    is_recursive: bool = False
    timing: Timing = Timing.IMMEDIATE

    @cached_property
    def measures(self) -> tuple[Measure, ...]:
        """The measures of all feeds, in one order, each once."""
        return tuple(dict.fromkeys(measure for feed in self.feeds for measure in feed.measures))

    @property
    def is_added(self) -> bool:
        """Whether something is added to the target, or compared with what it has."""
        return any(measure.is_added for measure in self.measures)

    @property
    def is_deferred(self) -> bool:
        """Whether changes are noted, for the end of the transaction."""
        return self.timing is Timing.DEFERRED

    @property
    def is_queued(self) -> bool:
        """Whether deltas are appended to a queue, for the next flush."""
        return self.timing is Timing.QUEUED and self.is_added

    @property
    def events(self) -> tuple[Event, ...]:
        """What the edge listens to: of the target's own rows, only UPDATE."""
        return (Event.UPDATE,) if all(feed.is_own for feed in self.feeds) else tuple(Event)

    def feeds_of(self, event: Event) -> tuple[Feed, ...]:
        """Return the feeds that an event concerns."""
        return tuple(feed for feed in self.feeds if event is Event.UPDATE or not feed.is_own)


@dataclass(frozen=True)
class Step:
    """One trigger: what it listens to, what it writes, by which strategies and under which locks."""

    edge: Edge
    event: Event

    @property
    def measures(self) -> tuple[Measure, ...]:
        """The measures that this event concerns."""
        return tuple(dict.fromkeys(m for feed in self.edge.feeds_of(self.event) for m in feed.measures))

    @property
    def strategies(self) -> tuple[Strategy, ...]:
        """The strategies of the measures, in the order of their definition."""
        used = {measure.strategy for measure in self.measures}
        return tuple(strategy for strategy in Strategy if strategy in used)


@dataclass(frozen=True, eq=False)
class Plan:
    """What keeps the rules of one target: its edges and their steps, and its rank among the targets of a commit.

    ``writes`` are pairs of tables: a statement on the first makes a trigger, of this or another plan, write the second.
    """

    model: type[Model]
    rank: int
    measures: tuple[Measure, ...]
    edges: tuple[Edge, ...]
    writes: frozenset[tuple[str, str]] = frozenset()

    @property
    def target(self) -> str:
        """The target's table."""
        return self.model._meta.db_table

    @property
    def key(self) -> tuple[Column, ...]:
        """The columns of the target's primary key."""
        return tuple(column_of(field) for field in self.model._meta.pk_fields)

    @property
    def key_columns(self) -> tuple[str, ...]:
        """The names of the columns of the target's primary key."""
        return tuple(column.name for column in self.key)

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """One step per edge and event."""
        return tuple(Step(edge, event) for edge in self.edges for event in edge.events)

    @cached_property
    def sources(self) -> tuple[Source, ...]:
        """The sources of all rules."""
        return tuple(source for measure in self.measures for source in measure.resolved.sources)

    @cached_property
    def tables(self) -> tuple[str, ...]:
        """Every table that the rules read or write, in one order."""
        return tuple(sorted({self.target, *(source.table for source in self.sources)}))

    @cached_property
    def interwoven(self) -> tuple[str, ...]:
        """The tables whose changes are joined with each other: at one time, only one of them may change by deltas."""
        wholes = [feed.whole for edge in self.edges for feed in edge.feeds if feed.whole is not None]
        return tuple(sorted({hop.table for whole in wholes if len(whole) > 1 for hop in whole}))

    def path_locks(self, start: Path, measures: Iterable[Measure]) -> tuple[PathLock, ...]:
        """Return the locks along the paths of some measures, for changed rows at the end of one of them."""
        source = start[-1].table if start else self.target
        written = {table for writer, table in self.writes if writer == source}
        return path_locks(start, [source for m in measures for source in m.resolved.sources], written)

    def links(self, start: Path, measures: Iterable[Measure]) -> tuple[Link, ...]:
        """Return the links that changed rows at the end of a path take part in."""
        return links(start, [source for measure in measures for source in measure.resolved.sources])

    def meetings(self, start: Path, measures: Iterable[Measure]) -> tuple[Meeting, ...]:
        """Return where changed rows at the end of a path meet the rows that they point at."""
        return meetings(start, [source for measure in measures for source in measure.resolved.sources])

    def folds(self, timing: Timing) -> tuple[Edge, ...]:
        """Return what is added to the target later: one edge per key, with every sum that is kept by it."""
        keys: dict[tuple[Column, ...], list[Feed]] = {}
        for edge in self.edges:
            if edge.timing is timing is not Timing.IMMEDIATE and edge.is_added:
                keys.setdefault(edge.key, []).extend(edge.feeds)
        return tuple(Edge(key[0].table, key[0].table, key, tuple(fed), timing=timing) for key, fed in keys.items())

    @cached_property
    def pointing(self) -> list[Measure]:
        """The measures that read rows which the target's row points at, or which have an equal value."""
        first = {m: [s.path[0] for s in m.resolved.sources if s.path] for m in self.measures}
        return [m for m in self.measures if any(hop.points_on or hop.is_loose for hop in first[m])]

    @cached_property
    def all_meetings(self) -> tuple[Meeting, ...]:
        """Every meeting of the plan's rules, each once."""
        paths = dict.fromkeys([(), *(source.path for source in self.sources)])
        return tuple(dict.fromkeys(meeting for path in paths for meeting in self.meetings(path, self.measures)))


def plan(model: type[Model], rules: Iterable[Denormalize], rank: int = 1) -> Plan:
    """Plan the rules of one model."""
    measures = serve_averages([measure_rule(resolve(rule, model)) for rule in rules])
    edges = edges_of(measures)
    writes = frozenset((edge.source, edge.target) for edge in edges if not edge.is_queued)
    return Plan(model, rank, tuple(measures), edges, writes)


def plan_all(declared: Iterable[tuple[type[Model], Sequence[Denormalize]]]) -> list[Plan]:
    """Plan every model's rules; the plans come in rank order, a target after the sources that it reads."""
    plans = [plan(model, rules) for model, rules in declared if rules]
    require_acyclic([measure.resolved for item in plans for measure in item.measures])
    require_unread([measure.resolved for item in plans for measure in item.measures])
    found = ranks({item.target: [edge.source for edge in item.edges] for item in plans})
    writes = frozenset[tuple[str, str]]().union(*(item.writes for item in plans))
    ranked = [replace(item, rank=found[item.target], writes=writes) for item in plans]
    require_apart(ranked)
    return sorted(ranked, key=lambda item: (item.rank, item.target))


def require_acyclic(resolved: Iterable[ResolvedRule]) -> None:
    """Raise RuleError where a column's value depends on itself, with the cycle in the message."""
    rules = {(rule.column.table, rule.column.name): rule for rule in resolved}
    reads = {column: sorted(rules.keys() & rule.required) for column, rule in rules.items()}
    try:
        list(TopologicalSorter(reads).static_order())
    except CycleError as error:
        cycle = [rules[column] for column in error.args[1]]
        trail = " <- ".join(rule.uri for rule in cycle)
        raise RuleError(
            "trigger_kit.E021",
            f"{cycle[0].uri} cannot be kept: its value depends on itself ({trail}).",
            "Break the cycle: let one of these rules read columns that no rule keeps.",
        ) from error


def require_unread(resolved: Iterable[ResolvedRule]) -> None:
    """Raise RuleError where a rule reads a column whose changes wait in a queue: its value is not the true one."""
    rules = list(resolved)
    queued = {(rule.column.table, rule.column.name): rule for rule in rules if rule.rule.timing is Timing.QUEUED}
    for rule in rules:
        for column in sorted(queued.keys() & rule.required):
            raise RuleError(
                "trigger_kit.E032",
                f"{rule.uri} cannot be kept: it reads {queued[column].uri}, which is QUEUED.",
                f"Let {queued[column].uri} be IMMEDIATE or DEFERRED, or read what it is computed from.",
            )


def require_apart(plans: Sequence[Plan]) -> None:
    """Raise RuleError where a statement locks a target that it writes at the end of the transaction only.

    Two transactions would both hold the lock, and then wait for each other.
    """
    deferred = {(e.source, e.target): m for item in plans for e in item.edges if e.is_deferred for m in e.measures}
    for item in plans:
        for step in item.steps:
            for feed in step.edge.feeds_of(step.event):
                for lock in item.path_locks(feed.path, feed.measures):
                    late = deferred.get((step.edge.source, lock.table))
                    if late is not None:
                        raise RuleError(
                            "trigger_kit.E033",
                            f"{late.resolved.uri} cannot be DEFERRED: {feed.measures[0].resolved.uri} makes every "
                            f"change of {step.edge.source} lock {lock.table} at once, so that two transactions would "
                            "wait for each other.",
                            "Use Timing.QUEUED or IMMEDIATE.",
                        )


# Edges --------------------------------------------------------------------------------------------------------------


def edges_of(measures: Sequence[Measure]) -> tuple[Edge, ...]:
    """Fuse what shares source table, target table and target key."""
    groups: dict[tuple[str, tuple[Column, ...], bool, str, bool], dict[tuple[Path, Path | None], Feed]] = {}
    for kept in measures:
        for source, columns in _feeding(kept):
            measure = kept if source.path or not kept.is_added else _computed_afresh(kept)
            whole = measure.chain.path if measure.chain and measure.is_added else None
            key = source.path[0].near if source.path else _own_key(measure)
            is_apart = measure.timing is not Timing.IMMEDIATE and measure.is_added
            group = (source.table, key, measure.resolved.is_recursion(source), measure.timing.value, is_apart)
            feeds = groups.setdefault(group, {})
            feed = feeds.setdefault((source.path, whole), Feed(source.path, whole))
            feed.measures.append(measure)
            feed.columns.update(columns)
            feed.loose.update(source.loose_columns & columns)
            feed.types.update(source.types)
    return tuple(
        Edge(source, key[0].table, key, _sorted(feeds.values()), recursive, Timing(timing))
        for (source, key, recursive, timing, _), feeds in sorted(groups.items())
    )


def _sorted(feeds: Iterable[Feed]) -> tuple[Feed, ...]:
    return tuple(sorted(feeds, key=lambda feed: feed.identity))


def _computed_afresh(measure: Measure) -> Measure:
    """Return a measure as a change of the target's own row keeps it: there is nothing to add to."""
    return replace(measure, strategy=Strategy.RECOMPUTE, average_of=None)


def _own_key(measure: Measure) -> tuple[Column, ...]:
    return tuple(column_of(field) for field in measure.resolved.model._meta.pk_fields)


def _feeding(measure: Measure) -> list[tuple[Source, set[str]]]:
    """Return the sources that a measure reacts to after a statement, with the columns that matter.

    The guard sees changes of the target's own row: a changed key, and everything that a copy reads of it. What else
    a value reads of its own row is left to a step, and so is a second look at rows that it points at.
    """
    fed = []
    for source in measure.resolved.sources:
        columns = set(_columns_along(measure, source) or source.columns)
        if not source.path:
            hops = [other.path[0] for other in measure.resolved.sources if other.path]
            if measure.strategy is Strategy.COPY and not any(hop.points_on for hop in hops):
                continue
            columns -= {column.name for hop in hops if hop.points_back for column in hop.near}
            if not columns:
                continue
            columns |= {column.name for column in _own_key(measure)}
        fed.append((source, columns))
    return fed


def _columns_along(measure: Measure, source: Source) -> set[str]:
    """Return what an aggregate over one path reads of one of its rows; nothing where there is no such path."""
    chain = measure.chain
    if chain is None or not source.path:
        return set()
    level = len(source.path)
    read = {
        str(node.target.column)
        for node in nodes([chain.argument, chain.condition, *chain.order])
        if isinstance(node, Col) and node.alias == chain.aliases[level - 1]
    }
    onward = [name for hop in chain.path[level : level + 1] for name in hop.near_names]
    return read | set(chain.path[level - 1].far_names) | set(onward)
