"""PLAN, first half: a ResolvedRule -> a Measure: by which strategy the rule is kept, and how one source row counts."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any

from django.contrib.postgres import aggregates as postgres
from django.db.models import (
    Avg,
    CheckConstraint,
    Count,
    DecimalField,
    FloatField,
    Max,
    Min,
    StdDev,
    Sum,
    Value,
    Variance,
)
from django.db.models.aggregates import Aggregate
from django.db.models.expressions import Col
from django.db.models.functions import Coalesce
from django.db.models.sql import Query

from trigger_kit.exceptions import RuleError
from trigger_kit.expressions import Exists, First
from trigger_kit.notation import describe
from trigger_kit.plan.aggregates import Chain, find_chain, is_null_without
from trigger_kit.resolve.column_fit import has_at_most_4_bytes, require_fitting_field, scale_of, stored_field
from trigger_kit.resolve.columns import column_of
from trigger_kit.resolve.determinism import require_deterministic
from trigger_kit.resolve.rule import ResolvedRule
from trigger_kit.resolve.sources import joins, nodes
from trigger_kit.rules import Level, Timing

__all__ = ["Measure", "Strategy", "is_checked", "measure_rule", "serve_averages"]

# Their values over no rows. An array over no rows is [NULL], from the one row that a LEFT JOIN gives.
_EMPTY = {Count: "0", Exists: "false"}
_NULL_WHEN_EMPTY = (
    postgres.BoolAnd,
    postgres.BoolOr,
    postgres.StringAgg,
    Avg,
    First,
    Max,
    Min,
    StdDev,
    Sum,
    Variance,
)


class Strategy(enum.Enum):
    """How a step brings the target up to date."""

    DELTA = "delta"
    EXTREMUM = "extremum"
    RECOMPUTE = "recompute"
    COPY = "copy"


@dataclass(frozen=True, eq=False)
class Measure:
    """How one maintained column is kept.

    ``chain`` is given where the value is one aggregate over one path: such rules can share a pass over their rows.
    ``empty`` is the SQL literal of the value over no rows, or None where that follows from the target's row.
    ``exact_type`` is a type in which sums neither round nor overflow. ``may_be_nan`` says that the summed value can be
    NaN, which no delta takes out again. ``average_of`` names the columns of a sum and a count over the same rows.
    """

    resolved: ResolvedRule
    strategy: Strategy
    chain: Chain | None
    empty: str | None
    exact_type: str = ""
    may_be_nan: bool = False
    average_of: tuple[str, str] | None = None

    @property
    def column(self) -> str:
        """The maintained column's name."""
        return self.resolved.column.name

    @property
    def timing(self) -> Timing:
        """When changes reach the column."""
        return self.resolved.rule.timing

    @property
    def is_queued(self) -> bool:
        """Whether changes wait in a queue."""
        return self.timing is Timing.QUEUED

    @property
    def is_added(self) -> bool:
        """Whether a change is added to the value or compared with it, where it need not be recomputed."""
        return self.strategy in {Strategy.DELTA, Strategy.EXTREMUM}

    @property
    def null_when_empty(self) -> bool:
        """Whether the value over no rows is NULL, so that arrivals and departures have to be told apart."""
        return self.empty == "NULL"

    @property
    def must_not_be_negative(self) -> bool:
        """Whether a CHECK may refuse negative numbers, which it may not do for a passing moment.

        No count is ever negative; of sums, the model says whether a CHECK looks at them.
        """
        is_count = self.chain is not None and self.chain.aggregate is Count
        return self.is_sum and (is_count or is_checked(self.resolved))

    @property
    def is_sum(self) -> bool:
        """Whether the column is kept by adding signed deltas."""
        return self.strategy is Strategy.DELTA and self.average_of is None


def is_checked(resolved: ResolvedRule) -> bool:
    """Whether the model has a CHECK on the column."""
    names = {resolved.field.name, resolved.field.attname}
    checks = [item for item in resolved.model._meta.constraints if isinstance(item, CheckConstraint)]
    read = [getattr(item.condition, "referenced_base_fields", names) for item in checks]
    return resolved.field.get_internal_type().startswith("Positive") or any(names & set(item) for item in read)


def measure_rule(resolved: ResolvedRule) -> Measure:
    """Choose the strategy of one rule.

    Raises RuleError where none keeps it exact.
    """
    _require_supported_level(resolved)
    require_deterministic(resolved)
    _require_column(resolved)
    require_fitting_field(resolved)
    aggregate, default = _unwrap(resolved.expression)
    chain = None if aggregate is None else find_chain(resolved, aggregate, default)
    if chain is not None:
        return _timed(_chain_measure(resolved, chain))
    strategy = Strategy.COPY if _is_copy(resolved) else Strategy.RECOMPUTE
    return _timed(Measure(resolved, strategy, None, _constant_empty(resolved, aggregate, default)))


def _require_supported_level(resolved: ResolvedRule) -> None:
    """Refuse the level that does not exist yet."""
    if resolved.rule.level is not Level.STATEMENT:
        raise RuleError(
            "trigger_kit.E015",
            f"{resolved.uri} cannot be kept: {resolved.rule.level} is not supported yet.",
            f"Use {Level.STATEMENT}, the default.",
        )


def _timed(measure: Measure) -> Measure:
    """Return a measure as its timing keeps it, and refuse what the timing cannot.

    At commit, deltas are added up and everything else is computed afresh, once: extrema too, because what they are
    compared with has changed since. A queue holds nothing but deltas.
    """
    resolved = measure.resolved
    is_forward = measure.strategy is Strategy.COPY or resolved.is_recursive
    if measure.timing is not Timing.IMMEDIATE and is_forward:
        kind = "a tree rollup, whose rows read each other" if resolved.is_recursive else "a copy of other columns"
        raise RuleError(
            "trigger_kit.E030",
            f"{resolved.uri} cannot be {measure.timing.name}: it is {kind}.",
            "Leave out timing=: only values that gather several rows can wait.",
        )
    if measure.timing is Timing.QUEUED and (measure.strategy is not Strategy.DELTA or measure.null_when_empty):
        nullable = measure.strategy is Strategy.DELTA
        reason = "its value is NULL over no rows" if nullable else "no signed difference keeps its value"
        way_out = "Give it a default: Sum(…, default=0)." if nullable else "Use Timing.DEFERRED, or a Count or Sum."
        raise RuleError("trigger_kit.E031", f"{resolved.uri} cannot be QUEUED: {reason}.", way_out)
    if measure.timing is Timing.DEFERRED and measure.strategy is Strategy.EXTREMUM:
        return replace(measure, strategy=Strategy.RECOMPUTE)
    return measure


def _require_column(resolved: ResolvedRule) -> None:
    """Refuse constants."""
    if not any(source.columns for source in resolved.sources):
        raise RuleError(
            "trigger_kit.E006",
            f"{resolved.uri} reads no column: {describe(resolved.rule.expression)} has one value for ever.",
            "Use db_default for a constant.",
        )


def _unwrap(expression: Any) -> tuple[Any, Any]:
    """Return the aggregate and its default, which Django resolves to Coalesce(aggregate, default)."""
    if isinstance(expression, Aggregate):
        return expression, None
    if type(expression) is Coalesce:
        children = expression.get_source_expressions()
        if len(children) == 2 and isinstance(children[0], Aggregate) and not _reads(children[1]):
            return children[0], children[1]
    return None, None


def _reads(node: Any) -> bool:
    """Whether an expression reads a column or a subquery."""
    return any(isinstance(item, (Col, Query)) for item in nodes(node))


def _is_copy(resolved: ResolvedRule) -> bool:
    """Whether the value comes from the row itself and from the rows that it points at, one each."""
    single = all(hop.far_is_unique for source in resolved.sources for hop in source.path)
    plain = not any(isinstance(node, (Aggregate, Query)) for node in nodes(resolved.expression))
    return single and plain and not resolved.is_recursive


def _constant_empty(resolved: ResolvedRule, aggregate: Any, default: Any) -> str | None:
    """Return the value over no rows of a single aggregate that reads related rows only, or None."""
    if aggregate is None or any(isinstance(node, Query) for node in nodes(aggregate)):
        return None
    base = resolved.query.get_initial_alias()
    columns = [node for node in nodes(aggregate) if isinstance(node, Col)]
    if any(col.alias == base for col in columns) or not isinstance(aggregate, (*_NULL_WHEN_EMPTY, *_EMPTY)):
        return None
    return _empty(type(aggregate), default) if _skips_missing_rows(resolved, aggregate) else None


def _skips_missing_rows(resolved: ResolvedRule, aggregate: Any) -> bool:
    """Whether an argument is NULL in the row of NULLs that it is computed from where there are no rows."""
    argument = aggregate.get_source_expressions()[0]
    return any(is_null_without(argument, join.alias) for join in joins(resolved.query) if join.is_optional)


def _empty(aggregate: type[Any], default: Any) -> str | None:
    """Return the SQL literal of an aggregate's value over no rows, or None for a default that is no simple constant."""
    if aggregate in _EMPTY:
        return _EMPTY[aggregate]
    if default is None or (isinstance(default, Value) and default.value is None):
        return "NULL"
    is_zero = isinstance(default, Value) and not isinstance(default.value, str) and default.value == 0
    return "0" if is_zero and not isinstance(default.value, bool) else None  # type: ignore[union-attr]


# Strategies ---------------------------------------------------------------------------------------------------------


def _chain_measure(resolved: ResolvedRule, chain: Chain) -> Measure:
    """Choose the strategy of one aggregate over one path."""
    measure = Measure(resolved, Strategy.RECOMPUTE, chain, _empty(chain.aggregate, chain.default))
    if resolved.is_recursive:
        return measure
    if chain.aggregate is Count or (chain.aggregate is Sum and _sums_exactly(resolved, chain, measure.empty)):
        return replace(
            measure,
            strategy=Strategy.DELTA,
            exact_type=_exact_type(chain),
            may_be_nan=chain.aggregate is Sum and _may_be_nan(chain.argument),
        )
    if chain.aggregate in {Max, Min} and _compares_alike(resolved, chain):
        return replace(measure, strategy=Strategy.EXTREMUM, exact_type=column_of(chain.argument.target).type)
    return measure


def _sums_exactly(resolved: ResolvedRule, chain: Chain, empty: str | None) -> bool:
    """Whether signed deltas keep a sum exact: no digit is rounded away on the way into the column."""
    scale = scale_of(chain.argument)
    column = stored_field(resolved.field)
    if isinstance(column, FloatField):
        return False
    keeps = inf if isinstance(column, DecimalField) and column.decimal_places is None else scale_of(column)
    return empty is not None and scale < inf and scale <= keeps


def _exact_type(chain: Chain) -> str:
    """Return the type of exact sums of a chain's argument."""
    if chain.aggregate is Count:
        return "bigint"
    is_small = isinstance(chain.argument, Col) and has_at_most_4_bytes(stored_field(chain.argument.target))
    return "bigint" if is_small else "numeric"


def _may_be_nan(argument: Any) -> bool:
    """Whether a number can be NaN: only numeric columns hold it."""
    columns = [node for node in nodes(argument) if isinstance(node, Col)]
    return any(isinstance(stored_field(col.target), DecimalField) for col in columns)


def _compares_alike(resolved: ResolvedRule, chain: Chain) -> bool:
    """Whether the column orders values as the source does: the same type and the same collation, nothing rounded."""
    if not isinstance(chain.argument, Col):
        return False
    source, column = stored_field(chain.argument.target), stored_field(resolved.field)
    collations = {getattr(source, "db_collation", None), getattr(column, "db_collation", None)}
    rounds = isinstance(column, DecimalField) and scale_of(source) > scale_of(column)
    alike = _ordered_as(source) == _ordered_as(column) or (scale_of(source) <= scale_of(column) < inf)
    return alike and not rounds and collations == {None} and chain.default is None


def _ordered_as(field: Any) -> str:
    """Return the type whose order a column's values have."""
    kind = column_of(field).type
    return "text" if kind == "varchar" else kind


def serve_averages(measures: Sequence[Measure]) -> list[Measure]:
    """Let averages follow from a sum and a count over the same rows, where the model keeps both."""
    return [_served(measure, measures) for measure in measures]


def _served(measure: Measure, measures: Sequence[Measure]) -> Measure:
    chain = measure.chain
    if chain is None or chain.aggregate is not Avg:
        return measure
    together = [other for other in measures if other.timing is measure.timing]
    total = next((m for m in together if _serves(m, chain, Sum)), None)
    number = next((m for m in together if _serves(m, chain, Count)), None)
    if total is None or number is None or scale_of(chain.argument) == inf:
        return measure
    return replace(measure, strategy=Strategy.DELTA, average_of=(total.column, number.column))


def _serves(measure: Measure, average: Chain, aggregate: type[Aggregate]) -> bool:
    """Whether a measure is the sum or the count that an average divides."""
    chain = measure.chain
    if chain is None or chain.aggregate is not aggregate or measure.strategy is not Strategy.DELTA:
        return False
    same_rows = chain.path == average.path and chain.condition == average.condition
    if chain.argument is None:
        argument = average.argument
        counts_all = isinstance(argument, Col) and not argument.target.null and argument.alias == average.aliases[-1]
        return same_rows and counts_all
    return same_rows and chain.argument == average.argument
