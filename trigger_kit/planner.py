"""PLAN: the measured rules of one target -> a Plan of edges and steps.

The planner decides what reacts to what: which strategy keeps a rule exact, which rules share a trigger, and in
which order triggers fire. It reads models and expressions only; the SQL is the compiler's.
"""

from __future__ import annotations

import enum
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from graphlib import CycleError, TopologicalSorter

from django.db.models import Model

from trigger_kit.exceptions import RuleError
from trigger_kit.measures import Measure, measure_rule
from trigger_kit.relations import Column, Hop, ResolvedRule, resolve
from trigger_kit.rules import Denormalize

__all__ = [
    "Edge",
    "Event",
    "Feed",
    "Plan",
    "Step",
    "Strategy",
    "plan",
    "plan_all",
    "require_acyclic",
]


class Event(enum.Enum):
    """What a statement does to a table."""

    INSERT = "insert"
    UPDATE = "update"
    DELETE = "delete"
    TRUNCATE = "truncate"


class Strategy(enum.Enum):
    """How a step brings the target up to date."""

    DELTA = "delta"


@dataclass(frozen=True, eq=False)
class Feed:
    """The measures that one relation feeds."""

    hop: Hop
    source_alias: str
    measures: tuple[Measure, ...]


@dataclass(frozen=True, eq=False)
class Edge:
    """All feeds from one source table into one key of one target table: they share one function per event."""

    source: str
    target: str
    key: Column
    feeds: tuple[Feed, ...]

    @property
    def measures(self) -> tuple[Measure, ...]:
        """The measures of all feeds, in one order."""
        return tuple(measure for feed in self.feeds for measure in feed.measures)


@dataclass(frozen=True)
class Step:
    """One trigger: what it listens to, what it writes, by which strategy and under which locks."""

    edge: Edge
    event: Event
    strategy: Strategy

    @property
    def locks(self) -> str:
        """The rows that this step locks, the mode and the order."""
        if self.event is Event.TRUNCATE:
            return f"{self.edge.target}: every row with a value, FOR NO KEY UPDATE, in key order"
        return f"{self.edge.target}: the touched rows, FOR NO KEY UPDATE, in key order"

    @property
    def cost(self) -> str:
        """The cost of one changed source row."""
        if self.event is Event.TRUNCATE:
            return "one UPDATE of the rows with a value"
        if self.event is not Event.INSERT and any(measure.null_when_empty for measure in self.edge.measures):
            return "O(1), and one index look-up when rows leave"
        return "O(1)"


@dataclass(frozen=True, eq=False)
class Plan:
    """What keeps the rules of one target: its edges and their steps, and the rank at which its triggers fire."""

    model: type[Model]
    rank: int
    edges: tuple[Edge, ...]

    @property
    def target(self) -> str:
        """The target's table."""
        return self.model._meta.db_table

    @property
    def key_columns(self) -> tuple[str, ...]:
        """The columns of the target's primary key."""
        return tuple(str(field.column) for field in self.model._meta.pk_fields)

    @cached_property
    def measures(self) -> tuple[Measure, ...]:
        """The measures of all edges."""
        return tuple(measure for edge in self.edges for measure in edge.measures)

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """One step per edge and event."""
        return tuple(Step(edge, event, Strategy.DELTA) for edge in self.edges for event in Event)

    def describe(self) -> str:
        """Explain the plan in words, for ``trigger_kit plan``."""
        lines = [f"{self.model._meta.label} (table {self.target}, rank {self.rank})"]
        lines += [f"  {measure.resolved.uri}: {measure.resolved.description}" for measure in self.measures]
        for step in self.steps:
            paths = ", ".join(str(feed.hop) for feed in step.edge.feeds)
            lines += [
                f"  after {step.event.name} on {step.edge.source} ({paths}): {step.strategy.value}",
                f"      cost of one changed row: {step.cost}",
                f"      locks {step.locks}",
            ]
        return "\n".join(lines)


def plan(model: type[Model], rules: Iterable[Denormalize], rank: int = 1) -> Plan:
    """Plan the rules of one model."""
    return Plan(model=model, rank=rank, edges=_edges([measure_rule(resolve(rule, model)) for rule in rules]))


def plan_all(declared: Iterable[tuple[type[Model], Sequence[Denormalize]]]) -> list[Plan]:
    """Plan every model's rules; the plans come in rank order, a target after the sources that it reads."""
    plans = [plan(model, rules) for model, rules in declared if rules]
    require_acyclic([measure.resolved for item in plans for measure in item.measures])
    ranks = _ranks({item.target: {edge.source for edge in item.edges} for item in plans})
    ranked = [replace(item, rank=ranks[item.target]) for item in plans]
    return sorted(ranked, key=lambda item: (item.rank, item.target))


def require_acyclic(resolved: Iterable[ResolvedRule]) -> None:
    """Raise RuleError where a column's value depends on itself, with the cycle in the message."""
    rules = {(rule.column.table, rule.column.name): rule for rule in resolved}
    reads = {column: sorted(rules.keys() & rule.dependencies) for column, rule in rules.items()}
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


def _edges(measures: Sequence[Measure]) -> tuple[Edge, ...]:
    """Fuse measures that share source table, target table and target key."""
    groups: dict[tuple[str, Column], dict[Hop, list[Measure]]] = defaultdict(lambda: defaultdict(list))
    for measure in measures:
        (hop,) = measure.resolved.path
        groups[hop.source.table, hop.target][hop].append(measure)
    return tuple(
        Edge(
            source=source,
            target=key.table,
            key=key,
            feeds=tuple(
                Feed(hop, group[0].resolved.source_alias, tuple(group))
                for hop, group in sorted(feeds.items(), key=_feed_order)
            ),
        )
        for (source, key), feeds in sorted(groups.items())
    )


def _feed_order(item: tuple[Hop, list[Measure]]) -> str:
    return item[0].source.name


def _ranks(sources: dict[str, set[str]]) -> dict[str, int]:
    """Return each target's rank: one more than the highest rank among its sources; a self-reference counts not."""
    ranks: dict[str, int] = {}

    def rank(table: str, trail: tuple[str, ...]) -> int:
        if table not in sources or table in trail:
            return 0
        if table not in ranks:
            ranks[table] = 1 + max(rank(source, (*trail, table)) for source in sources[table])
        return ranks[table]

    for table in sorted(sources):
        rank(table, ())
    return ranks
