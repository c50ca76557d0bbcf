"""COMPILE the SET list of a step: what is added, compared, divided or computed afresh."""

from __future__ import annotations

from trigger_kit.plan.plan import Event, Step
from trigger_kit.plan.strategy import Measure
from trigger_kit.sql.django import compile_node
from trigger_kit.sql.fragments import condition_sql, is_present
from trigger_kit.sql.paths import far_rows
from trigger_kit.sql.text import block, quote

__all__ = ["additions", "floors", "negative", "unless"]


def additions(step: Step, template: str) -> list[str]:
    """Return the SET list of the sums and averages of a step; ``template`` makes a delta's expression of its name."""
    settings = []
    for number, measure in enumerate(step.measures, 1):
        if measure.is_sum:
            settings.append(f"{quote(measure.column)} = {_sum(step, measure, number, template)}")
        elif measure.average_of is not None:
            settings.append(f"{quote(measure.column)} = {_average(step, measure, template)}")
    return settings


def _sum(step: Step, measure: Measure, number: int, template: str) -> str:
    """Return a sum with its delta; a sum that is NULL over no rows asks whether any are left."""
    column = quote(measure.column)
    delta = template.format(column)
    if not measure.null_when_empty:
        return f"target.{column} + {delta}"
    rows = template.format(f"tk_rows_{number}")
    cases = [f"WHEN {rows} > 0 THEN coalesce(target.{column}, 0) + {delta}"]
    if step.event is Event.INSERT:
        cases.append(f"ELSE target.{column} + {delta}")
    else:
        cases.append(f"WHEN {rows} = 0 OR EXISTS (\n{block(_left_rows(measure))}\n) THEN target.{column} + {delta}")
    return f"CASE\n{block(chr(10).join(cases))}\nEND"


def negative(measure: Measure, template: str) -> str:
    """Return the condition under which a delta would take a sum below zero."""
    column = quote(measure.column)
    return f"coalesce(target.{column}, 0) + {template.format(column)} < 0"


def _early(step: Step, measure: Measure, template: str) -> str:
    """Return the condition under which rows leave a sum that has no value yet: their arrival is not counted."""
    rows = template.format(f"tk_rows_{1 + step.measures.index(measure)}")
    return f"target.{quote(measure.column)} IS NULL AND {rows} < 0"


def floors(step: Step, template: str) -> list[str]:
    """Return the conditions under which rows leave before their arrival is counted."""
    if step.event is Event.INSERT:
        return []
    counts = [negative(measure, template) for measure in step.measures if measure.must_not_be_negative]
    sums = [measure for measure in step.measures if measure.null_when_empty and measure.is_sum]
    return counts + [_early(step, measure, template) for measure in sums]


def unless(match: str, conditions: list[str]) -> str:
    """Return the condition of a WHERE clause that holds where none of some others does."""
    closed = [f"({condition})" if " AND " in condition else condition for condition in conditions]
    return "\n  AND NOT ".join([match, *closed])


def _left_rows(measure: Measure) -> str:
    """Return the SELECT that finds a row that still counts for a target."""
    assert measure.chain is not None
    rows, tie = far_rows(measure.chain.path, "target")
    conditions = [tie, *(text for text in (is_present(measure), condition_sql(measure)) if text)]
    return f"SELECT FROM {rows}\nWHERE " + "\n  AND ".join(conditions)


def _average(step: Step, measure: Measure, template: str) -> str:
    """Return the quotient of a sum and a count that the same UPDATE writes."""
    assert measure.average_of is not None
    assert measure.chain is not None
    total, number = map(quote, measure.average_of)
    added = {quote(item.column) for item in step.measures if item.is_sum}
    sums = [
        f"coalesce(target.{name}, 0){f' + {template.format(name)}' if name in added else ''}"
        for name in (total, number)
    ]
    quotient = f"({sums[0]})::numeric / nullif({sums[1]}, 0)"
    default = measure.chain.default
    return quotient if default is None else f"coalesce({quotient}, {compile_node(measure.resolved.query, default)})"
