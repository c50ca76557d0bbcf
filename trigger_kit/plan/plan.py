"""PLAN: the kept columns of one target -> a Plan of edges and steps.

The planner decides what reacts to what: which rules share a trigger, and which target a commit writes first. It reads
models and expressions only; the SQL is the compiler's.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache

from django.conf import settings
from django.db.models import Model
from django.db.models.expressions import Col

from trigger_kit.exceptions import RuleError
from trigger_kit.plan.kept_columns import KeptAggregate, KeptColumn, Strategy
from trigger_kit.plan.ranks import ranks, turns
from trigger_kit.plan.refusals import require_acyclic, require_unread
from trigger_kit.plan.row_locks import LateParent, Link, PathLock, Strength, late_parents, links, path_locks
from trigger_kit.plan.strategy import kept_column, serve_averages
from trigger_kit.resolve.columns import Column, Path, Source, column_of
from trigger_kit.resolve.rule import resolve
from trigger_kit.resolve.sources import nodes
from trigger_kit.rules import Denormalize, Timing

__all__ = [
    "Edge",
    "Event",
    "Feed",
    "Plan",
    "Step",
    "edges_of",
    "plan",
    "plan_all",
    "require_apart",
]


class Event(enum.Enum):
    """What a statement does to a table."""

    INSERT = "insert"
    UPDATE = "update"
    DELETE = "delete"
    TRUNCATE = "truncate"


@dataclass(frozen=True, eq=False)
class Feed:
    """The kept columns that one table feeds over one path.

    ``columns`` are what is read of the table, ``types`` their types without length or scale, ``loose`` those whose
    equal values may differ in their text. ``whole`` is the path of the aggregate that is added to or compared with, of
    which ``path`` is the beginning; it is None where a change only tells which targets to recompute. The path of a feed
    from the target's own row is empty.
    """

    path: Path
    whole: Path | None
    kept_columns: list[KeptColumn] = field(default_factory=list)
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
        return (
            self.is_whole and len(self.path) == 1 and all(kept.strategy is Strategy.DELTA for kept in self.kept_columns)
        )

    @property
    def is_whole(self) -> bool:
        """Whether everything is added or compared, from the row at the far end of the aggregate's path."""
        return bool(self.path) and self.whole == self.path and all(kept.is_added for kept in self.kept_columns)

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
    def kept_columns(self) -> tuple[KeptColumn, ...]:
        """The kept columns of all feeds, in one order, each once."""
        return tuple(dict.fromkeys(kept for feed in self.feeds for kept in feed.kept_columns))

    @property
    def is_added(self) -> bool:
        """Whether something is added to the target, or compared with what it has."""
        return any(kept.is_added for kept in self.kept_columns)

    @property
    def is_deferred(self) -> bool:
        """Whether changes are noted, for the end of the transaction."""
        return self.timing is Timing.DEFERRED

    @property
    def is_queued(self) -> bool:
        """Whether deltas are appended to a queue, for the next flush."""
        return self.timing is Timing.QUEUED and self.is_added

    @property
    def is_appended(self) -> bool:
        """Whether a step appends changes, for the end of the transaction or the next flush, instead of writing."""
        return self.is_deferred or self.is_queued

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
    def kept_columns(self) -> tuple[KeptColumn, ...]:
        """The kept columns that this event concerns."""
        return tuple(dict.fromkeys(kept for feed in self.edge.feeds_of(self.event) for kept in feed.kept_columns))

    @cached_property
    def numbered(self) -> tuple[tuple[int, KeptAggregate], ...]:
        """The path aggregates among them, with the numbers that their parts and variables are named by."""
        columns = enumerate(self.kept_columns, 1)
        return tuple((number, kept) for number, kept in columns if isinstance(kept, KeptAggregate))

    @property
    def aggregates(self) -> tuple[KeptAggregate, ...]:
        """The path aggregates among them."""
        return tuple(kept for _, kept in self.numbered)

    @property
    def strategies(self) -> tuple[Strategy, ...]:
        """The strategies of the kept columns, in the order of their definition."""
        used = {kept.strategy for kept in self.kept_columns}
        return tuple(strategy for strategy in Strategy if strategy in used)


@dataclass(frozen=True, eq=False)
class Plan:
    """What keeps the rules of one target: its edges and their steps, and its rank among the targets of a commit.

    ``writes`` are pairs of tables: a statement on the first makes a trigger, of this or another plan, write the second,
    or lock rows of it for itself alone.
    ``turns`` says, by source, after how many other targets the steps of this one have their turn (``ranks.turns``).
    """

    model: type[Model]
    rank: int
    kept_columns: tuple[KeptColumn, ...]
    edges: tuple[Edge, ...]
    writes: frozenset[tuple[str, str]] = frozenset()
    turns: Mapping[str, int] = field(default_factory=dict)

    @property
    def target(self) -> str:
        """The target's table."""
        return self.model._meta.db_table

    @property
    def uris(self) -> list[str]:
        """The URIs of its rules."""
        return [kept.resolved.uri for kept in self.kept_columns]

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
        return tuple(source for kept in self.kept_columns for source in kept.resolved.sources)

    @cached_property
    def tables(self) -> tuple[str, ...]:
        """Every table that the rules read or write, in one order."""
        return tuple(sorted({self.target, *(source.table for source in self.sources)}))

    @cached_property
    def joined_tables(self) -> tuple[str, ...]:
        """The tables whose changes are joined with each other: at one time, only one of them may change by deltas."""
        wholes = [feed.whole for edge in self.edges for feed in edge.feeds if feed.whole is not None]
        return tuple(sorted({hop.table for whole in wholes if len(whole) > 1 for hop in whole}))

    def path_locks(self, start: Path, kept_columns: Iterable[KeptColumn]) -> tuple[PathLock, ...]:
        """Return the locks along the paths of some kept columns, for changed rows at the end of one of them."""
        source = start[-1].table if start else self.target
        written = {table for writer, table in self.writes if writer == source}
        return path_locks(start, [source for kept in kept_columns for source in kept.resolved.sources], written)

    @property
    def peaks(self) -> frozenset[tuple[str, str]]:
        """The pairs of tables where a statement on the first locks rows of the second for itself alone."""
        feeds = [(step.edge.source, feed) for step in self.steps for feed in step.edge.feeds_of(step.event)]
        locks = [(source, lock) for source, feed in feeds for lock in self.path_locks(feed.path, feed.kept_columns)]
        return frozenset((source, lock.table) for source, lock in locks if lock.strength is Strength.NO_KEY_UPDATE)

    def links(self, start: Path, kept_columns: Iterable[KeptColumn]) -> tuple[Link, ...]:
        """Return the links that changed rows at the end of a path take part in."""
        return links(start, [source for kept in kept_columns for source in kept.resolved.sources])

    def late_parents(self, start: Path, kept_columns: Iterable[KeptColumn]) -> tuple[LateParent, ...]:
        """Return the parents of changed rows at the end of a path that may come later than these."""
        return late_parents(start, [source for kept in kept_columns for source in kept.resolved.sources])

    def reading(self, late: LateParent) -> list[KeptColumn]:
        """Return the kept columns that read the row which comes late."""
        if late.path:
            return [kept for kept in self.kept_columns if any(s.path == late.path for s in kept.resolved.sources)]
        return [kept for kept in self.kept_columns if any(s.path[:1] == (late.hop,) for s in kept.resolved.sources)]

    def folds(self, timing: Timing) -> tuple[Edge, ...]:
        """Return what is added to the target later: one edge per key, with every sum that is kept by it."""
        keys: dict[tuple[Column, ...], list[Feed]] = {}
        for edge in self.edges:
            if edge.timing is timing is not Timing.IMMEDIATE and edge.is_added:
                keys.setdefault(edge.key, []).extend(edge.feeds)
        return tuple(Edge(key[0].table, key[0].table, key, tuple(fed), timing=timing) for key, fed in keys.items())

    @cached_property
    def pointing(self) -> list[KeptColumn]:
        """The kept columns that read rows which the target's row points at, or which have an equal value."""
        first = {kept: [s.path[0] for s in kept.resolved.sources if s.path] for kept in self.kept_columns}
        return [kept for kept in self.kept_columns if any(hop.points_on or hop.is_loose for hop in first[kept])]

    @cached_property
    def all_late_parents(self) -> tuple[LateParent, ...]:
        """All late parents of the plan's rules, each once."""
        paths = dict.fromkeys([(), *(source.path for source in self.sources)])
        return tuple(dict.fromkeys(late for path in paths for late in self.late_parents(path, self.kept_columns)))


def plan(model: type[Model], rules: Iterable[Denormalize], rank: int = 1) -> Plan:
    """Plan the rules of one model.

    They are sorted: a migration that adds one to others has them in the order of history, models as they are declared.
    """
    in_order = sorted(rules, key=lambda rule: rule.field)
    kept_columns = serve_averages([kept_column(resolve(rule, model)) for rule in in_order])
    edges = edges_of(kept_columns)
    writes = frozenset((edge.source, edge.target) for edge in edges if not edge.is_queued)
    return Plan(model, rank, tuple(kept_columns), edges, writes)


def plan_all(declared: Iterable[tuple[type[Model], Sequence[Denormalize]]]) -> list[Plan]:
    """Plan every model's rules; the plans come in rank order, a target after the sources that it reads."""
    return list(_plan_all(tuple((model, tuple(rules)) for model, rules in declared), settings.TIME_ZONE))


@lru_cache(maxsize=8)  # A command asks several times for the plans of the same rules.
def _plan_all(declared: tuple[tuple[type[Model], tuple[Denormalize, ...]], ...], time_zone: str) -> list[Plan]:
    plans = [plan(model, rules) for model, rules in declared if rules]
    require_acyclic([kept.resolved for item in plans for kept in item.kept_columns])
    require_unread([kept.resolved for item in plans for kept in item.kept_columns])
    read = {item.target: [edge.source for edge in item.edges] for item in plans}
    found, orders = ranks(read), turns(read)
    writes = frozenset[tuple[str, str]]().union(*(item.writes | item.peaks for item in plans))
    ranked = [replace(item, rank=found[item.target], writes=writes, turns=orders[item.target]) for item in plans]
    require_apart(ranked)
    return sorted(ranked, key=lambda item: (item.rank, item.target))


def require_apart(plans: Sequence[Plan]) -> None:
    """Raise RuleError where a statement locks a target that it writes at the end of the transaction only.

    Two transactions would both hold the lock, and then wait for each other.
    """
    deferred = {
        (e.source, e.target): kept for item in plans for e in item.edges if e.is_deferred for kept in e.kept_columns
    }
    for item in plans:
        for step in item.steps:
            for feed in step.edge.feeds_of(step.event):
                for lock in item.path_locks(feed.path, feed.kept_columns):
                    late = deferred.get((step.edge.source, lock.table))
                    if late is not None:
                        raise RuleError(
                            "trigger_kit.E033",
                            f"{late.resolved.uri} cannot be DEFERRED: {feed.kept_columns[0].resolved.uri} makes every "
                            f"change of {step.edge.source} lock {lock.table} at once, so that two transactions would "
                            "wait for each other.",
                            "Use Timing.QUEUED or IMMEDIATE.",
                        )


# Edges --------------------------------------------------------------------------------------------------------------


def edges_of(kept_columns: Sequence[KeptColumn]) -> tuple[Edge, ...]:
    """Fuse what shares source table, target table and target key."""
    groups: dict[tuple[str, tuple[Column, ...], bool, str, bool], dict[tuple[Path, Path | None], Feed]] = {}
    for column in kept_columns:
        for source, columns in _feeding(column):
            kept = column if source.path else column.afresh()
            whole = kept.aggregate.path if isinstance(kept, KeptAggregate) and kept.is_added else None
            key = source.path[0].near if source.path else _own_key(kept)
            is_apart = kept.timing is not Timing.IMMEDIATE and kept.is_added
            group = (source.table, key, kept.resolved.is_recursion(source), kept.timing.value, is_apart)
            feeds = groups.setdefault(group, {})
            feed = feeds.setdefault((source.path, whole), Feed(source.path, whole))
            feed.kept_columns.append(kept)
            feed.columns.update(columns)
            feed.loose.update(source.loose_columns & columns)
            feed.types.update(source.types)
    return tuple(
        Edge(source, key[0].table, key, _sorted(feeds.values()), recursive, Timing(timing))
        for (source, key, recursive, timing, _), feeds in sorted(groups.items())
    )


def _sorted(feeds: Iterable[Feed]) -> tuple[Feed, ...]:
    return tuple(sorted(feeds, key=lambda feed: feed.identity))


def _own_key(kept: KeptColumn) -> tuple[Column, ...]:
    return tuple(column_of(field) for field in kept.resolved.model._meta.pk_fields)


def _feeding(kept: KeptColumn) -> list[tuple[Source, set[str]]]:
    """Return the sources that a kept column reacts to after a statement, with the columns that matter.

    The guard sees changes of the target's own row: a changed key, and everything that a copy reads of it. What else
    a value reads of its own row is left to a step, and so is a second look at rows that it points at.
    """
    fed = []
    for source in kept.resolved.sources:
        columns = set(_columns_along(kept, source) or source.columns)
        if not source.path:
            hops = [other.path[0] for other in kept.resolved.sources if other.path]
            if kept.strategy is Strategy.COPY and not any(hop.points_on for hop in hops):
                continue
            columns -= {column.name for hop in hops if hop.points_back for column in hop.near}
            if not columns:
                continue
            columns |= {column.name for column in _own_key(kept)}
        fed.append((source, columns))
    return fed


def _columns_along(kept: KeptColumn, source: Source) -> set[str]:
    """Return what an aggregate over one path reads of one of its rows; nothing where there is no such path."""
    if not isinstance(kept, KeptAggregate) or not source.path:
        return set()
    aggregate = kept.aggregate
    level = len(source.path)
    read = {
        str(node.target.column)
        for node in nodes([aggregate.argument, aggregate.condition, *aggregate.order])
        if isinstance(node, Col) and node.alias == aggregate.aliases[level - 1]
    }
    onward = [name for hop in aggregate.path[level : level + 1] for name in hop.near_names]
    return read | set(aggregate.path[level - 1].far_names) | set(onward)
