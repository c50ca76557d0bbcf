"""COMPILE the SET list of a step: what is added, compared, divided or computed afresh."""

from __future__ import annotations

from collections.abc import Callable

from trigger_kit.plan.kept_columns import KeptAggregate
from trigger_kit.plan.plan import Event, Step
from trigger_kit.sql.django import compile_node
from trigger_kit.sql.fragments import condition_sql, is_present
from trigger_kit.sql.paths import far_rows
from trigger_kit.sql.text import MAX_LINE, block, closed, quote

__all__ = ["additions", "floors", "negative", "unless"]


def additions(step: Step, by: Callable[[str], str]) -> list[str]:
    """Return the SET list of the sums and averages of a step; ``by`` makes a delta's expression of its name."""
    settings = []
    for number, kept in step.numbered:
        if kept.is_sum and by(quote(kept.column)) != "0":
            settings.append(f"{quote(kept.column)} = {_sum(step, kept, number, by)}")
        elif kept.average_of is not None:
            settings.append(f"{quote(kept.column)} = {_average(step, kept, by)}")
    return settings


def _sum(step: Step, kept: KeptAggregate, number: int, by: Callable[[str], str]) -> str:
    """Return a sum with its delta; a sum that is NULL over no rows asks whether any are left."""
    column = quote(kept.column)
    delta = by(column)
    if not kept.null_when_empty:
        return _plus(f"target.{column}", delta)
    rows = by(f"tk_rows_{number}")
    added = _plus(f"target.{column}", delta)
    cases = [f"WHEN {rows} > 0 THEN coalesce(target.{column}, 0) + {delta}"]
    if step.event is Event.INSERT:
        cases.append(f"ELSE {added}")
    else:
        cases.append(f"WHEN {rows} = 0 OR EXISTS {closed(*_left_rows(kept))} THEN {added}")
    return f"CASE\n{block(chr(10).join(cases))}\nEND"


def _plus(value: str, delta: str) -> str:
    """Return a sum; of a negative delta, what is taken off."""
    return f"{value} - {delta[1:]}" if delta.startswith("-") else f"{value} + {delta}"


def negative(kept: KeptAggregate, by: Callable[[str], str]) -> str:
    """Return the condition under which a delta would take a sum below zero."""
    column = quote(kept.column)
    return f"{_plus(f'coalesce(target.{column}, 0)', by(column))} < 0"


def _early(step: Step, kept: KeptAggregate, by: Callable[[str], str]) -> str:
    """Return the condition under which rows leave a sum that has no value yet: their arrival is not counted."""
    rows = by(f"tk_rows_{1 + step.kept_columns.index(kept)}")
    return f"target.{quote(kept.column)} IS NULL AND {rows} < 0"


def floors(step: Step, by: Callable[[str], str]) -> list[str]:
    """Return the conditions under which rows leave before their arrival is counted."""
    if step.event is Event.INSERT:
        return []
    counts = [negative(kept, by) for kept in step.aggregates if kept.must_not_be_negative]
    sums = [kept for kept in step.aggregates if kept.null_when_empty and kept.is_sum]
    return counts + [_early(step, kept, by) for kept in sums]


def unless(match: str, conditions: list[str]) -> str:
    """Return the condition of a WHERE clause that holds where none of some others does."""
    closed = [f"({condition})" if " AND " in condition else condition for condition in conditions]
    line = " AND NOT ".join([match, *closed])
    return line if len(line) <= MAX_LINE else "\n  AND NOT ".join([match, *closed])


def _left_rows(kept: KeptAggregate) -> tuple[str, str]:
    """Return the SELECT that finds a row that still counts for a target."""
    rows, tie = far_rows(kept.aggregate.path, "target")
    conditions = [tie, *(text for text in (is_present(kept), condition_sql(kept)) if text)]
    return f"SELECT FROM {rows}", "WHERE " + " AND ".join(conditions)


def _average(step: Step, kept: KeptAggregate, by: Callable[[str], str]) -> str:
    """Return the quotient of a sum and a count that the same UPDATE writes."""
    total, number = map(quote, kept.served_by)
    added = {quote(item.column) for item in step.aggregates if item.is_sum}
    sums = [
        _plus(f"coalesce(target.{name}, 0)", by(name)) if name in added else f"coalesce(target.{name}, 0)"
        for name in (total, number)
    ]
    quotient = f"({sums[0]})::numeric / nullif({sums[1]}, 0)"
    default = kept.aggregate.default
    return quotient if default is None else f"coalesce({quotient}, {compile_node(kept.resolved.query, default)})"
