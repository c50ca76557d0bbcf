"""COMPILE the SET list of a step: what is added, compared, divided or computed afresh."""

from __future__ import annotations

from trigger_kit.plan.kept_columns import KeptAggregate
from trigger_kit.plan.plan import Event, Step
from trigger_kit.sql.django import compile_node
from trigger_kit.sql.fragments import condition_sql, is_present
from trigger_kit.sql.paths import far_rows
from trigger_kit.sql.text import block, quote

__all__ = ["additions", "floors", "negative", "unless"]


def additions(step: Step, template: str) -> list[str]:
    """Return the SET list of the sums and averages of a step; ``template`` makes a delta's expression of its name."""
    settings = []
    for number, kept in step.numbered:
        if kept.is_sum:
            settings.append(f"{quote(kept.column)} = {_sum(step, kept, number, template)}")
        elif kept.average_of is not None:
            settings.append(f"{quote(kept.column)} = {_average(step, kept, template)}")
    return settings


def _sum(step: Step, kept: KeptAggregate, number: int, template: str) -> str:
    """Return a sum with its delta; a sum that is NULL over no rows asks whether any are left."""
    column = quote(kept.column)
    delta = template.format(column)
    if not kept.null_when_empty:
        return f"target.{column} + {delta}"
    rows = template.format(f"tk_rows_{number}")
    cases = [f"WHEN {rows} > 0 THEN coalesce(target.{column}, 0) + {delta}"]
    if step.event is Event.INSERT:
        cases.append(f"ELSE target.{column} + {delta}")
    else:
        cases.append(f"WHEN {rows} = 0 OR EXISTS (\n{block(_left_rows(kept))}\n) THEN target.{column} + {delta}")
    return f"CASE\n{block(chr(10).join(cases))}\nEND"


def negative(kept: KeptAggregate, template: str) -> str:
    """Return the condition under which a delta would take a sum below zero."""
    column = quote(kept.column)
    return f"coalesce(target.{column}, 0) + {template.format(column)} < 0"


def _early(step: Step, kept: KeptAggregate, template: str) -> str:
    """Return the condition under which rows leave a sum that has no value yet: their arrival is not counted."""
    rows = template.format(f"tk_rows_{1 + step.kept_columns.index(kept)}")
    return f"target.{quote(kept.column)} IS NULL AND {rows} < 0"


def floors(step: Step, template: str) -> list[str]:
    """Return the conditions under which rows leave before their arrival is counted."""
    if step.event is Event.INSERT:
        return []
    counts = [negative(kept, template) for kept in step.aggregates if kept.must_not_be_negative]
    sums = [kept for kept in step.aggregates if kept.null_when_empty and kept.is_sum]
    return counts + [_early(step, kept, template) for kept in sums]


def unless(match: str, conditions: list[str]) -> str:
    """Return the condition of a WHERE clause that holds where none of some others does."""
    closed = [f"({condition})" if " AND " in condition else condition for condition in conditions]
    return "\n  AND NOT ".join([match, *closed])


def _left_rows(kept: KeptAggregate) -> str:
    """Return the SELECT that finds a row that still counts for a target."""
    rows, tie = far_rows(kept.aggregate.path, "target")
    conditions = [tie, *(text for text in (is_present(kept), condition_sql(kept)) if text)]
    return f"SELECT FROM {rows}\nWHERE " + "\n  AND ".join(conditions)


def _average(step: Step, kept: KeptAggregate, template: str) -> str:
    """Return the quotient of a sum and a count that the same UPDATE writes."""
    total, number = map(quote, kept.served_by)
    added = {quote(item.column) for item in step.aggregates if item.is_sum}
    sums = [
        f"coalesce(target.{name}, 0){f' + {template.format(name)}' if name in added else ''}"
        for name in (total, number)
    ]
    quotient = f"({sums[0]})::numeric / nullif({sums[1]}, 0)"
    default = kept.aggregate.default
    return quotient if default is None else f"coalesce({quotient}, {compile_node(kept.resolved.query, default)})"
