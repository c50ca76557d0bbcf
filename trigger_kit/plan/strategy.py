"""PLAN, first half: a ResolvedRule -> a KeptColumn: by which strategy it is kept, and how one source row counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import inf
from typing import Any

from django.contrib.postgres import aggregates as postgres
from django.db.models import (
    Avg,
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
from trigger_kit.plan.aggregates import PathAggregate, find_path_aggregate, is_null_without
from trigger_kit.plan.kept_columns import KeptAggregate, KeptColumn, Strategy
from trigger_kit.resolve.column_fit import has_at_most_4_bytes, require_fitting_field, scale_of, stored_field
from trigger_kit.resolve.columns import column_of
from trigger_kit.resolve.determinism import require_deterministic
from trigger_kit.resolve.rule import ResolvedRule
from trigger_kit.resolve.sources import joins, nodes
from trigger_kit.rules import Level, Timing

__all__ = ["kept_column", "serve_averages"]

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


def kept_column(resolved: ResolvedRule) -> KeptColumn:
    """Choose the strategy of one rule.

    Raises RuleError where none keeps it exact.
    """
    _require_supported_level(resolved)
    require_deterministic(resolved)
    _require_column(resolved)
    require_fitting_field(resolved)
    aggregate, default = _unwrap(resolved.expression)
    found = None if aggregate is None else find_path_aggregate(resolved, aggregate, default)
    if found is not None:
        return _timed(_kept_aggregate(resolved, found))
    strategy = Strategy.COPY if _is_copy(resolved) else Strategy.RECOMPUTE
    return _timed(KeptColumn(resolved, strategy, _constant_empty(resolved, aggregate, default)))


def _require_supported_level(resolved: ResolvedRule) -> None:
    """Refuse the level that does not exist yet."""
    if resolved.rule.level is not Level.STATEMENT:
        raise RuleError(
            "trigger_kit.E015",
            f"{resolved.uri} cannot be kept: {resolved.rule.level} is not supported yet.",
            f"Use {Level.STATEMENT}, the default.",
        )


def _timed(kept: KeptColumn) -> KeptColumn:
    """Return a kept column as its timing keeps it, and refuse what the timing cannot.

    At commit, deltas are added up and everything else is computed afresh, once: extrema too, because what they are
    compared with has changed since. A queue holds nothing but deltas.
    """
    resolved = kept.resolved
    is_forward = kept.strategy is Strategy.COPY or resolved.is_recursive
    if kept.timing is not Timing.IMMEDIATE and is_forward:
        kind = "a tree rollup, whose rows read each other" if resolved.is_recursive else "a copy of other columns"
        raise RuleError(
            "trigger_kit.E030",
            f"{resolved.uri} cannot be {kept.timing.name}: it is {kind}.",
            "Leave out timing=: only values that gather several rows can wait.",
        )
    if kept.timing is Timing.QUEUED and (kept.strategy is not Strategy.DELTA or kept.null_when_empty):
        nullable = kept.strategy is Strategy.DELTA
        reason = "its value is NULL over no rows" if nullable else "no signed difference keeps its value"
        way_out = "Give it a default: Sum(…, default=0)." if nullable else "Use Timing.DEFERRED, or a Count or Sum."
        raise RuleError("trigger_kit.E031", f"{resolved.uri} cannot be QUEUED: {reason}.", way_out)
    if kept.timing is Timing.DEFERRED and kept.strategy is Strategy.EXTREMUM:
        return replace(kept, strategy=Strategy.RECOMPUTE)
    return kept


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


def _kept_aggregate(resolved: ResolvedRule, aggregate: PathAggregate) -> KeptAggregate:
    """Choose the strategy of one aggregate over one path."""
    kept = KeptAggregate(resolved, Strategy.RECOMPUTE, _empty(aggregate.function, aggregate.default), aggregate)
    if resolved.is_recursive:
        return kept
    if aggregate.function is Count or (aggregate.function is Sum and _sums_exactly(resolved, aggregate, kept.empty)):
        return replace(
            kept,
            strategy=Strategy.DELTA,
            exact_type=_exact_type(aggregate),
            may_be_nan=aggregate.function is Sum and _may_be_nan(aggregate.argument),
        )
    if aggregate.function in {Max, Min} and _compares_alike(resolved, aggregate):
        return replace(kept, strategy=Strategy.EXTREMUM, exact_type=column_of(aggregate.argument.target).type)
    return kept


def _sums_exactly(resolved: ResolvedRule, aggregate: PathAggregate, empty: str | None) -> bool:
    """Whether signed deltas keep a sum exact: no digit is rounded away on the way into the column."""
    scale = scale_of(aggregate.argument)
    column = stored_field(resolved.field)
    if isinstance(column, FloatField):
        return False
    keeps = inf if isinstance(column, DecimalField) and column.decimal_places is None else scale_of(column)
    return empty is not None and scale < inf and scale <= keeps


def _exact_type(aggregate: PathAggregate) -> str:
    """Return the type of exact sums of an aggregate's argument."""
    if aggregate.function is Count:
        return "bigint"
    is_small = isinstance(aggregate.argument, Col) and has_at_most_4_bytes(stored_field(aggregate.argument.target))
    return "bigint" if is_small else "numeric"


def _may_be_nan(argument: Any) -> bool:
    """Whether a number can be NaN: only numeric columns hold it."""
    columns = [node for node in nodes(argument) if isinstance(node, Col)]
    return any(isinstance(stored_field(col.target), DecimalField) for col in columns)


def _compares_alike(resolved: ResolvedRule, aggregate: PathAggregate) -> bool:
    """Whether the column orders values as the source does: the same type and the same collation, nothing rounded."""
    if not isinstance(aggregate.argument, Col):
        return False
    source, column = stored_field(aggregate.argument.target), stored_field(resolved.field)
    collations = {getattr(source, "db_collation", None), getattr(column, "db_collation", None)}
    rounds = isinstance(column, DecimalField) and scale_of(source) > scale_of(column)
    alike = _ordered_as(source) == _ordered_as(column) or (scale_of(source) <= scale_of(column) < inf)
    return alike and not rounds and collations == {None} and aggregate.default is None


def _ordered_as(field: Any) -> str:
    """Return the type whose order a column's values have."""
    kind = column_of(field).type
    return "text" if kind == "varchar" else kind


def serve_averages(kept_columns: Sequence[KeptColumn]) -> list[KeptColumn]:
    """Let averages follow from a sum and a count over the same rows, where the model keeps both."""
    return [_served(kept, kept_columns) for kept in kept_columns]


def _served(kept: KeptColumn, kept_columns: Sequence[KeptColumn]) -> KeptColumn:
    if not isinstance(kept, KeptAggregate) or kept.aggregate.function is not Avg:
        return kept
    together = [other for other in kept_columns if other.timing is kept.timing]
    total = next((other for other in together if _serves(other, kept.aggregate, Sum)), None)
    number = next((other for other in together if _serves(other, kept.aggregate, Count)), None)
    if total is None or number is None or scale_of(kept.aggregate.argument) == inf:
        return kept
    return replace(kept, strategy=Strategy.DELTA, average_of=(total.column, number.column))


def _serves(kept: KeptColumn, average: PathAggregate, function: type[Aggregate]) -> bool:
    """Whether a kept column is the sum or the count that an average divides."""
    if not isinstance(kept, KeptAggregate) or kept.strategy is not Strategy.DELTA:
        return False
    aggregate = kept.aggregate
    if aggregate.function is not function:
        return False
    same_rows = aggregate.path == average.path and aggregate.condition == average.condition
    if aggregate.argument is None:
        argument = average.argument
        counts_all = isinstance(argument, Col) and not argument.target.null and argument.alias == average.aliases[-1]
        return same_rows and counts_all
    return same_rows and aggregate.argument == average.argument
