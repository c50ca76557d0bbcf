"""COMPILE kept columns: what one source row counts for, aggregates over rows, and full values of a target's row."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from django.core.exceptions import EmptyResultSet, FullResultSet
from django.db.models import Avg, Count, Max, Min, Sum
from django.db.models.sql.datastructures import Join

from trigger_kit.expressions import Exists
from trigger_kit.plan.kept_columns import KeptAggregate, KeptColumn, Strategy
from trigger_kit.resolve.columns import Path, cast_type, column_of
from trigger_kit.sql.django import compile_join, compile_node
from trigger_kit.sql.paths import far_rows, row_name
from trigger_kit.sql.text import block, closed, quote, select

__all__ = [
    "Values",
    "argument_sql",
    "condition_sql",
    "filter_clause",
    "grouped_value",
    "is_grouped",
    "is_present",
    "looked_up",
    "named",
    "value_type",
    "values_of",
]

_FUNCTIONS: dict[Any, str] = {Avg: "avg", Count: "count", Max: "max", Min: "min", Sum: "sum"}


# One source row -----------------------------------------------------------------------------------------------------


def condition_sql(kept: KeptAggregate, names: Sequence[str] = ()) -> str | None:
    """Return the rule's filter over the rows of its path, or None where every row passes."""
    condition = kept.aggregate.condition
    if condition is None:
        return None
    try:
        return _compile(kept, condition, names)
    except FullResultSet:
        return None
    except EmptyResultSet:
        return "false"


def argument_sql(kept: KeptAggregate, names: Sequence[str] = ()) -> str | None:
    """Return the aggregated value over the rows of its path, or None where every row counts."""
    argument = kept.aggregate.argument
    return None if argument is None else _compile(kept, argument, names)


def is_present(kept: KeptAggregate, names: Sequence[str] = ()) -> str | None:
    """Return the condition under which a row's argument counts, or None where it always does."""
    argument = argument_sql(kept, names)
    return None if argument is None else f"{argument} IS NOT NULL"


def filter_clause(*conditions: str | None) -> str:
    """Return a FILTER clause of the conditions that are given, or nothing."""
    given = [condition for condition in conditions if condition]
    return f" FILTER (WHERE {' AND '.join(given)})" if given else ""


def _compile(kept: KeptAggregate, node: Any, names: Sequence[str] = ()) -> str:
    """Compile a part of an aggregate; ``names`` are those of its rows, by default the names along its path."""
    aggregate = kept.aggregate
    rows = names or [row_name(aggregate.path, level) for level in range(1, len(aggregate.path) + 1)]
    return compile_node(kept.resolved.query, node, dict(zip(aggregate.aliases, rows, strict=True)))


# Aggregates over rows -----------------------------------------------------------------------------------------------


def is_grouped(kept: KeptColumn) -> TypeGuard[KeptAggregate]:
    """Whether a value is an aggregate that others over the same path can share a pass with."""
    return isinstance(kept, KeptAggregate) and kept.aggregate.function in _FUNCTIONS


def grouped_value(kept: KeptAggregate) -> str:
    """Return the rule's aggregate over the rows of its path, as annotate() computes it."""
    function = _FUNCTIONS[kept.aggregate.function]
    value = f"{function}({argument_sql(kept) or '*'}){filter_clause(condition_sql(kept))}"
    return _with_default(kept, value)


def _with_default(kept: KeptAggregate, value: str) -> str:
    default = kept.aggregate.default
    return value if default is None else f"coalesce({value}, {compile_node(kept.resolved.query, default)})"


def looked_up(kept: KeptAggregate, row: str) -> str:
    """Return the scalar expression that looks up one row: an extremum, the first in an order, or whether one exists."""
    aggregate = kept.aggregate
    rows, tie = far_rows(aggregate.path, row, aggregate.required)
    if aggregate.function is Exists:
        return f"EXISTS {closed(*_select('', rows, [tie, is_present(kept), condition_sql(kept)]))}"
    if aggregate.function in {Max, Min}:
        value = f"{_FUNCTIONS[aggregate.function]}({argument_sql(kept)})"
        lines = _select(value, rows, [tie, condition_sql(kept)])
    else:
        order = ", ".join(_compile(kept, item) for item in aggregate.order)
        lines = [*_select(argument_sql(kept) or "", rows, [tie, condition_sql(kept)]), f"ORDER BY {order} LIMIT 1"]
    return _with_default(kept, closed(*lines))


def _select(value: str, rows: str, conditions: Iterable[str | None]) -> list[str]:
    where = " AND ".join(condition for condition in conditions if condition)
    return [f"SELECT {value}".rstrip(), f"FROM {rows}", f"WHERE {where}"]


# Full values --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Values:
    """A SELECT of the full values of some columns for one row of the target; their names are the columns'.

    ``tk_found`` is in it where the SELECT may give no row, because a row that the target points at is missing.
    """

    select: str
    kept_columns: tuple[KeptColumn, ...]
    may_be_missing: bool = False


def values_of(kept_columns: Iterable[KeptColumn], row: str) -> list[Values]:
    """Return the full values of columns for one row of the target, which ``row`` names.

    Those over one path share a pass.
    """
    passes: dict[Path, list[KeptAggregate]] = {}
    single: list[KeptAggregate] = []
    general: list[KeptColumn] = []
    for kept in kept_columns:
        if is_grouped(kept) and kept.strategy is not Strategy.EXTREMUM and not _is_extremum(kept):
            passes.setdefault(kept.aggregate.path, []).append(kept)
        elif isinstance(kept, KeptAggregate):
            single.append(kept)
        else:
            general.append(kept)
    values = [_pass(path, row, group) for path, group in passes.items()]
    if single:
        values.append(Values(select([named(kept, looked_up(kept, row)) for kept in single]), tuple(single)))
    return values + [_general(kept, row) for kept in general]


def named(kept: KeptColumn, value: str) -> str:
    """Return a full value under its column's name, cast as an assignment would where that can change it.

    So a stored value compares equal to the one that it was rounded from. Texts are not cut off: too long is an error.
    """
    if kept.is_added and not kept.served_by:
        return f"{value} AS {quote(kept.column)}"
    simple = re.fullmatch(r"\(.*\)|[\w\".]+", value, re.DOTALL)
    return f"{value if simple else f'({value})'}::{value_type(kept)} AS {quote(kept.column)}"


def value_type(kept: KeptColumn) -> str:
    """Return the type of a full value that is assigned to its column."""
    field = kept.resolved.field
    return "text" if column_of(field).type == "varchar" else cast_type(field)


def _is_extremum(kept: KeptAggregate) -> bool:
    return kept.aggregate.function in {Max, Min}


def _pass(path: Path, row: str, kept_columns: list[KeptAggregate]) -> Values:
    rows, tie = far_rows(path, row)
    selected = [named(kept, grouped_value(kept)) for kept in kept_columns]
    return Values(select(selected, f"FROM {rows}", f"WHERE {tie}"), tuple(kept_columns))


def _general(kept: KeptColumn, row: str) -> Values:
    """Return any expression as Django compiles it, with the target's row in place of its table."""
    query, expression = kept.resolved.query, kept.resolved.expression
    base = query.get_initial_alias()
    joined = [
        alias for alias, table in query.alias_map.items() if isinstance(table, Join) and query.alias_refcount[alias]
    ]
    may_be_missing = any(query.alias_map[alias].join_type == "INNER JOIN" for alias in joined)
    selected = [named(kept, compile_node(query, expression))]
    selected += ["true AS tk_found"] if may_be_missing else []
    lines = [f"SELECT\n{block((',' + chr(10)).join(selected))}", f"FROM (SELECT {row}.*) AS {quote(base)}"]
    lines += [compile_join(query, alias) for alias in joined]
    if expression.contains_aggregate:
        lines.append(f"GROUP BY {', '.join(_group_by(kept, base))}")
    return Values("\n".join(lines), (kept,), may_be_missing)


def _group_by(kept: KeptColumn, base: str) -> list[str]:
    """Return what an aggregate is grouped by: the target's key, and every column outside the aggregates."""
    resolved = kept.resolved
    keys = [f"{quote(base)}.{quote(str(field.column))}" for field in resolved.model._meta.pk_fields]
    others = [compile_node(resolved.query, node) for node in resolved.expression.get_group_by_cols()]
    return list(dict.fromkeys([*keys, *others]))
