"""COMPILE measures: what one source row counts for, aggregates over rows, and full values of a target's row."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import EmptyResultSet, FullResultSet
from django.db.models import Avg, Count, Max, Min, Sum
from django.db.models.sql.datastructures import Join

from trigger_kit.expressions import Exists
from trigger_kit.plan.aggregates import Chain
from trigger_kit.plan.plan import Strategy
from trigger_kit.plan.strategy import Measure
from trigger_kit.resolve.columns import Path, cast_type, column_of
from trigger_kit.sql.django import compile_join, compile_node
from trigger_kit.sql.paths import far_rows, row_name
from trigger_kit.sql.text import block, quote

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


def condition_sql(measure: Measure, names: Sequence[str] = ()) -> str | None:
    """Return the rule's filter over the rows of its path, or None where every row passes."""
    chain = _chain(measure)
    if chain.condition is None:
        return None
    try:
        return _compile(measure, chain.condition, names)
    except FullResultSet:
        return None
    except EmptyResultSet:
        return "false"


def argument_sql(measure: Measure, names: Sequence[str] = ()) -> str | None:
    """Return the aggregated value over the rows of its path, or None where every row counts."""
    chain = _chain(measure)
    return None if chain.argument is None else _compile(measure, chain.argument, names)


def is_present(measure: Measure, names: Sequence[str] = ()) -> str | None:
    """Return the condition under which a row's argument counts, or None where it always does."""
    argument = argument_sql(measure, names)
    return None if argument is None else f"{argument} IS NOT NULL"


def filter_clause(*conditions: str | None) -> str:
    """Return a FILTER clause of the conditions that are given, or nothing."""
    given = [condition for condition in conditions if condition]
    return f" FILTER (WHERE {' AND '.join(given)})" if given else ""


def _chain(measure: Measure) -> Chain:
    assert measure.chain is not None, "only an aggregate over one path has an argument and a filter"
    return measure.chain


def _compile(measure: Measure, node: Any, names: Sequence[str] = ()) -> str:
    """Compile a part of a chain; ``names`` are those of its rows, by default the names along its path."""
    chain = _chain(measure)
    rows = names or [row_name(chain.path, level) for level in range(1, len(chain.path) + 1)]
    return compile_node(measure.resolved.query, node, dict(zip(chain.aliases, rows, strict=True)))


# Aggregates over rows -----------------------------------------------------------------------------------------------


def is_grouped(measure: Measure) -> bool:
    """Whether a value is an aggregate that others over the same path can share a pass with."""
    return measure.chain is not None and measure.chain.aggregate in _FUNCTIONS


def grouped_value(measure: Measure) -> str:
    """Return the rule's aggregate over the rows of its path, as annotate() computes it."""
    aggregate = _chain(measure).aggregate
    value = f"{_FUNCTIONS[aggregate]}({argument_sql(measure) or '*'}){filter_clause(condition_sql(measure))}"
    return _with_default(measure, value)


def _with_default(measure: Measure, value: str) -> str:
    default = _chain(measure).default
    return value if default is None else f"coalesce({value}, {compile_node(measure.resolved.query, default)})"


def looked_up(measure: Measure, row: str) -> str:
    """Return the scalar expression that looks up one row: an extremum, the first in an order, or whether one exists."""
    chain = _chain(measure)
    rows, tie = far_rows(chain.path, row, chain.required)
    if chain.aggregate is Exists:
        return f"EXISTS (\n{block(_select('', rows, [tie, is_present(measure), condition_sql(measure)]))}\n)"
    if chain.aggregate in {Max, Min}:
        value = f"{_FUNCTIONS[chain.aggregate]}({argument_sql(measure)})"
        select = _select(value, rows, [tie, condition_sql(measure)])
    else:
        order = ", ".join(_compile(measure, item) for item in chain.order)
        select = _select(argument_sql(measure) or "", rows, [tie, condition_sql(measure)])
        select += f"\nORDER BY {order}\nLIMIT 1"
    return _with_default(measure, f"(\n{block(select)}\n)")


def _select(value: str, rows: str, conditions: Iterable[str | None]) -> str:
    where = "\n  AND ".join(condition for condition in conditions if condition)
    return f"SELECT {value}".rstrip() + f"\nFROM {rows}\nWHERE {where}"


# Full values --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Values:
    """A SELECT of the full values of some columns for one row of the target; their names are the columns'.

    ``tk_found`` is in it where the SELECT may give no row, because a row that the target points at is missing.
    """

    select: str
    measures: tuple[Measure, ...]
    may_be_missing: bool = False


def values_of(measures: Iterable[Measure], row: str) -> list[Values]:
    """Return the full values of measures for one row of the target, named as SQL; those over one path share a pass."""
    passes: dict[Path, list[Measure]] = {}
    single, general = [], []
    for measure in measures:
        if is_grouped(measure) and measure.strategy is not Strategy.EXTREMUM and not _is_extremum(measure):
            passes.setdefault(_chain(measure).path, []).append(measure)
        elif measure.chain is not None:
            single.append(measure)
        else:
            general.append(measure)
    values = [_pass(path, row, group) for path, group in passes.items()]
    if single:
        selected = ",\n".join(named(measure, looked_up(measure, row)) for measure in single)
        values.append(Values(f"SELECT\n{block(selected)}", tuple(single)))
    return values + [_general(measure, row) for measure in general]


def named(measure: Measure, value: str) -> str:
    """Return a full value under its column's name, cast as an assignment would where that can change it.

    So a stored value compares equal to the one that it was rounded from. Texts are not cut off: too long is an error.
    """
    if measure.strategy in {Strategy.DELTA, Strategy.EXTREMUM} and measure.average_of is None:
        return f"{value} AS {quote(measure.column)}"
    simple = re.fullmatch(r"\(.*\)|[\w\".]+", value, re.DOTALL)
    return f"{value if simple else f'({value})'}::{value_type(measure)} AS {quote(measure.column)}"


def value_type(measure: Measure) -> str:
    """Return the type of a full value that is assigned to its column."""
    field = measure.resolved.field
    return "text" if column_of(field).type == "varchar" else cast_type(field)


def _is_extremum(measure: Measure) -> bool:
    return _chain(measure).aggregate in {Max, Min}


def _pass(path: Path, row: str, measures: list[Measure]) -> Values:
    rows, tie = far_rows(path, row)
    selected = ",\n".join(named(measure, grouped_value(measure)) for measure in measures)
    return Values(f"SELECT\n{block(selected)}\nFROM {rows}\nWHERE {tie}", tuple(measures))


def _general(measure: Measure, row: str) -> Values:
    """Return any expression as Django compiles it, with the target's row in place of its table."""
    query, expression = measure.resolved.query, measure.resolved.expression
    base = query.get_initial_alias()
    joined = [
        alias for alias, table in query.alias_map.items() if isinstance(table, Join) and query.alias_refcount[alias]
    ]
    may_be_missing = any(query.alias_map[alias].join_type == "INNER JOIN" for alias in joined)
    selected = [named(measure, compile_node(query, expression))]
    selected += ["true AS tk_found"] if may_be_missing else []
    lines = [f"SELECT\n{block((',' + chr(10)).join(selected))}", f"FROM (SELECT {row}.*) AS {quote(base)}"]
    lines += [compile_join(query, alias) for alias in joined]
    if expression.contains_aggregate:
        lines.append(f"GROUP BY {', '.join(_group_by(measure, base))}")
    return Values("\n".join(lines), (measure,), may_be_missing)


def _group_by(measure: Measure, base: str) -> list[str]:
    """Return what an aggregate is grouped by: the target's key, and every column outside the aggregates."""
    resolved = measure.resolved
    keys = [f"{quote(base)}.{quote(str(field.column))}" for field in resolved.model._meta.pk_fields]
    others = [compile_node(resolved.query, node) for node in resolved.expression.get_group_by_cols()]
    return list(dict.fromkeys([*keys, *others]))
