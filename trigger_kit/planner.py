"""PLAN: the resolved rules of one target -> a Plan of edges and steps.

The planner decides what reacts to what: which strategy keeps a rule exact, which rules share a trigger, and in
which order triggers fire. It reads models and expressions only; the SQL is the compiler's.
"""

from __future__ import annotations

import enum
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from math import inf
from typing import Any

from django.db.models import (
    Count,
    DecimalField,
    Field,
    IntegerField,
    Model,
    Sum,
    Value,
)
from django.db.models.aggregates import Aggregate
from django.db.models.expressions import Col
from django.db.models.functions import Coalesce, Now, Random
from django.db.models.lookups import Lookup, Transform
from django.db.models.sql.where import NothingNode, WhereNode

from trigger_kit.exceptions import RuleError
from trigger_kit.relations import Column, Hop, ResolvedRule, resolve
from trigger_kit.rules import Denormalize, Level, Timing

__all__ = [
    "Edge",
    "Event",
    "Feed",
    "Measure",
    "Plan",
    "Step",
    "Strategy",
    "plan",
    "plan_all",
    "plan_rule",
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
class Measure:
    """How one source row counts towards one maintained column.

    ``argument`` is the summed or counted column, None where every row counts; ``condition`` the resolved filter.
    ``empty`` is the SQL literal of the value over no rows. ``exact_type`` is a type in which sums neither round nor
    overflow. ``may_be_nan`` says that the source column can hold NaN, which no delta takes out again.
    """

    resolved: ResolvedRule
    aggregate: type[Aggregate]
    argument: Col | None
    condition: Any
    empty: str
    exact_type: str
    may_be_nan: bool

    @property
    def column(self) -> str:
        """The maintained column's name."""
        return self.resolved.column.name

    @property
    def null_when_empty(self) -> bool:
        """Whether the value over no rows is NULL, so that arrivals and departures have to be told apart."""
        return self.empty == "NULL"


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


def plan_rule(resolved: ResolvedRule) -> Measure:
    """Choose the strategy of one rule.

    Raises RuleError where no strategy that exists yet keeps it exact.
    """
    _require_supported_options(resolved)
    aggregate, default = _unwrap(resolved.expression)
    if aggregate is None or type(aggregate) not in (Count, Sum):
        raise _error(
            resolved,
            "E007",
            "only Count and Sum are supported yet",
            "Use one of them, or keep this value with .annotate().",
        )
    if aggregate.distinct:
        raise _error(resolved, "E008", "distinct=True is not supported yet", "Keep this value with .annotate().")
    condition = _condition(aggregate)
    _require_source_condition(resolved, condition)
    argument = _argument(resolved, aggregate)
    measure = Measure(
        resolved=resolved,
        aggregate=type(aggregate),
        argument=None if _counts_every_row(aggregate, argument) else argument,
        condition=condition,
        empty=_empty_value(resolved, aggregate, default),
        exact_type=_exact_type(aggregate, argument),
        may_be_nan=type(aggregate) is Sum and isinstance(argument.target, DecimalField),
    )
    _require_fitting_field(resolved, measure, argument)
    return measure


def plan(model: type[Model], rules: Iterable[Denormalize], rank: int = 1) -> Plan:
    """Plan the rules of one model."""
    return Plan(model=model, rank=rank, edges=_edges([plan_rule(resolve(rule, model)) for rule in rules]))


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


def _error(resolved: ResolvedRule, number: str, problem: str, hint: str) -> RuleError:
    return RuleError(f"trigger_kit.{number}", f"{resolved.uri} cannot be kept: {problem}.", hint)


def _require_supported_options(resolved: ResolvedRule) -> None:
    """Refuse the timings and levels that do not exist yet."""
    rule = resolved.rule
    if rule.timing is not Timing.IMMEDIATE:
        raise _error(resolved, "E015", f"{rule.timing} is not supported yet", "Use Timing.IMMEDIATE, the default.")
    if rule.level is not Level.STATEMENT:
        raise _error(resolved, "E015", f"{rule.level} is not supported yet", "Use Level.STATEMENT, the default.")


def _unwrap(expression: Any) -> tuple[Any, Any]:
    """Return the aggregate and its default (a Value), which Django resolves to Coalesce(aggregate, default)."""
    if isinstance(expression, Aggregate):
        return expression, None
    if type(expression) is Coalesce:
        children = expression.get_source_expressions()
        if len(children) == 2 and isinstance(children[0], Aggregate):
            return children[0], children[1]
    return None, None


def _condition(aggregate: Aggregate) -> Any:
    """Return the resolved filter; Django 6.0 wraps it in an AggregateFilter."""
    condition = aggregate.filter
    return getattr(condition, "condition", condition)


def _argument(resolved: ResolvedRule, aggregate: Aggregate) -> Col:
    """Return the aggregated column."""
    argument = aggregate.get_source_expressions()[0]
    if not isinstance(argument, Col):
        raise _error(
            resolved,
            "E010",
            f"{type(aggregate).__name__} over an expression is not supported yet",
            "Aggregate a plain column of the related model.",
        )
    return argument


def _counts_every_row(aggregate: Aggregate, argument: Col) -> bool:
    """Whether Count sees a column that is never NULL in a source row."""
    return type(aggregate) is Count and not argument.target.null


def _empty_value(resolved: ResolvedRule, aggregate: Aggregate, default: Any) -> str:
    """Return the SQL literal of the value over no rows, which must be 0 or NULL for a delta."""
    if type(aggregate) is Count:
        return "0"
    if default is None or (isinstance(default, Value) and default.value is None):
        return "NULL"
    if isinstance(default, Value) and not isinstance(default.value, str) and default.value == 0:
        return "0"
    raise _error(
        resolved,
        "E011",
        "Sum with a default other than 0 is not supported yet",
        "Use default=0, or no default on a field with null=True.",
    )


def _exact_type(aggregate: Aggregate, argument: Col) -> str:
    """Return the type of exact sums of the argument."""
    if type(aggregate) is Count:
        return "bigint"
    return "bigint" if _has_at_most_4_bytes(_stored_field(argument)) else "numeric"


def _stored_field(argument: Col) -> Any:
    """Return the field that says how the argument is stored; a foreign key is stored as its target."""
    field: Any = argument.target
    return field.target_field if field.is_relation else field


def _has_at_most_4_bytes(field: Field[Any, Any]) -> bool:
    """Whether bigint sums of a column cannot overflow."""
    return field.get_internal_type() in {
        "AutoField",
        "IntegerField",
        "PositiveIntegerField",
        "PositiveSmallIntegerField",
        "SmallAutoField",
        "SmallIntegerField",
    }


def _require_fitting_field(resolved: ResolvedRule, measure: Measure, argument: Col) -> None:
    """Refuse a field that cannot hold the value exactly, or not its NULL."""
    source = _stored_field(argument)
    if measure.aggregate is Sum and not isinstance(source, (IntegerField, DecimalField)):
        raise _error(
            resolved,
            "E010",
            f"Sum of a {type(source).__name__} is not supported yet",
            "Sum an integer or decimal column.",
        )
    field = resolved.field
    if not isinstance(field, (IntegerField, DecimalField)):
        raise _error(
            resolved,
            "E013",
            f"a {type(field).__name__} does not hold a {measure.aggregate.__name__}",
            "Use an integer field or a DecimalField.",
        )
    scale = _scale(source) if measure.aggregate is Sum else 0
    if scale > _scale(field):
        raise _error(
            resolved,
            "E013",
            f"the sum has {scale} decimal places, more than the field keeps, so that every change would be rounded",
            f"Use a DecimalField with decimal_places={scale}."
            if scale < inf
            else "Use a DecimalField() without limits.",
        )
    if measure.null_when_empty and not field.null:
        raise _error(
            resolved,
            "E014",
            "Sum without a default is NULL over no rows, and the field is NOT NULL",
            "Write Sum(…, default=0), or set null=True on the field.",
        )


def _scale(field: Any) -> float:
    """Return the digits after the point that a column keeps; Django 6.1's unlimited DecimalField() keeps all."""
    if not isinstance(field, DecimalField):
        return 0
    return inf if field.decimal_places is None else field.decimal_places


def _require_source_condition(resolved: ResolvedRule, condition: Any) -> None:
    """Refuse a filter that is not a deterministic statement about the source row."""
    for node in _nodes(condition):
        if isinstance(node, (Now, Random)):
            raise _error(
                resolved,
                "E020",
                f"its filter calls {type(node).__name__}(), whose value changes although no row does",
                "Compare with a stored column or a constant.",
            )
        if isinstance(node, Col) and node.alias != resolved.source_alias:
            raise _error(
                resolved,
                "E012",
                "its filter reads another row than the source's, which is not supported yet",
                "Filter on columns of the related row only.",
            )
        if not _is_allowed(node):
            raise _error(
                resolved,
                "E012",
                f"its filter uses {type(node).__name__}, which is not supported yet",
                "Use Django's field lookups on columns of the related row, compared with constants.",
            )


def _nodes(node: Any) -> Iterator[Any]:
    """Yield a resolved filter's nodes, itself first; plain Python values are constants and left out."""
    if isinstance(node, (list, tuple)):
        for item in node:
            yield from _nodes(item)
    elif isinstance(node, WhereNode):
        yield node
        for child in node.children:
            yield from _nodes(child)
    elif isinstance(node, Lookup):
        yield node
        yield from _nodes(node.lhs)
        yield from _nodes(node.rhs)
    elif hasattr(node, "get_source_expressions"):
        yield node
        for child in node.get_source_expressions():
            yield from _nodes(child)
    elif hasattr(node, "as_sql") or hasattr(node, "resolve_expression"):
        yield node


def _is_allowed(node: Any) -> bool:
    """Whether a node is one of Django's own and depends on its inputs only."""
    is_django = type(node).__module__.startswith("django.")
    return is_django and isinstance(node, (WhereNode, NothingNode, Lookup, Transform, Col, Value))


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
