"""COMPILE extrema: the largest or smallest value is compared with what comes, and looked up where it may have left.

A look-up is a full value (``tk_…_recompute``): it marks the target, so that steps of this statement that fire later,
whose rows may have changed again since, look up as well.
"""

from __future__ import annotations

from django.db.models import Max

from trigger_kit.plan.kept_columns import KeptAggregate, Strategy
from trigger_kit.plan.plan import Event, Step
from trigger_kit.resolve.columns import column_of, is_loose
from trigger_kit.sql.changed_row import PLAIN, counts_for
from trigger_kit.sql.changes import parts
from trigger_kit.sql.text import quote, table_placeholder

__all__ = [
    "best_may_leave",
    "best_stays",
    "extrema_of",
    "extremum",
    "extremum_declarations",
    "fits_variables",
    "new_extrema",
    "read_extrema",
]


def extrema_of(step: Step) -> list[tuple[int, KeptAggregate]]:
    """Return the extrema of a step, with the numbers that their parts are named by."""
    return [(n, kept) for n, kept in step.numbered if kept.strategy is Strategy.EXTREMUM]


def _functions(kept: KeptAggregate) -> tuple[str, str]:
    """Return what chooses the better of two values, and the operator between a value and one that it beats."""
    return ("greatest", ">=") if kept.aggregate.function is Max else ("least", "<=")


def extremum(step: Step, kept: KeptAggregate, number: int) -> str:
    """Return the value of an extremum after a change of many rows, of the alias ``change``, for the alias ``this``.

    Where the best value may leave, the stored one stays: another one is looked up afterwards.
    """
    best, _ = _functions(kept)
    column = f"this.{quote(kept.column)}"
    if step.event is Event.INSERT:
        return f"{best}({column}, change.tk_in_{number})"
    if step.event is Event.DELETE:
        return column
    leaves = best_may_leave(step, kept, number)
    return f"CASE WHEN {leaves} THEN {column} ELSE {best}({column}, change.tk_in_{number}) END"


def best_may_leave(step: Step, kept: KeptAggregate, number: int) -> str:
    """Return the condition under which a change, of the alias ``change``, may take the best value of ``this`` away."""
    _, beats = _functions(kept)
    column, arrived, left = f"this.{quote(kept.column)}", f"change.tk_in_{number}", f"change.tk_out_{number}"
    return _leaves(step, beats, column, arrived, left)


def _leaves(step: Step, beats: str, best: str, arrived: str, left: str) -> str:
    """Return the condition under which a value that leaves may be the best one, and none that arrives takes its place.

    A value beats the stored one, too, where its arrival is not counted yet; nothing may be stored then.
    """
    text = f"{left} {beats} coalesce({best}, {left})"
    if step.event is Event.UPDATE:
        text += f" AND ({arrived} {beats} {left} AND {arrived} {beats} {best}) IS NOT TRUE"
    return text


# One row ------------------------------------------------------------------------------------------------------------


def fits_variables(kept: KeptAggregate) -> bool:
    """Whether values of an extremum compare as variables as they do in their columns."""
    types = {kept.exact_type, column_of(kept.resolved.field).type}
    return types <= PLAIN and not is_loose(kept.aggregate.argument.target)


def extremum_declarations(step: Step) -> list[str]:
    """Return the variables of extrema: the stored value, and the one that it becomes."""
    words = ["best"] if step.event is Event.DELETE else ["best", "now"]
    found = [(n, column_of(kept.resolved.field).type) for n, kept in extrema_of(step)]
    return [f"tk_{word}_{n} {kind};" for n, kind in found for word in words]


def read_extrema(step: Step, key: str) -> str:
    """Return the statements that lock the target and read its extrema; ``tk_written`` is 0 where it is missing."""
    found = extrema_of(step)
    columns = ", ".join(f"locked.{quote(kept.column)}" for _, kept in found)
    return (
        f"SELECT {columns} INTO {', '.join(f'tk_best_{n}' for n, _ in found)}\n"
        f"FROM {table_placeholder(step.edge.target)} AS locked\n"
        f"WHERE locked.{quote(step.edge.key[0].name)} = {key} FOR NO KEY UPDATE;\n"
        "GET DIAGNOSTICS tk_written = ROW_COUNT;"
    )


def best_stays(step: Step) -> list[str]:
    """Return the conditions under which no stored value leaves with the row in variables."""
    if step.event is Event.INSERT:
        return []
    conditions = []
    for number, kept in extrema_of(step):
        _, beats = _functions(kept)
        left, arrived = (_value(step, number, label) for label in ("before", "after"))
        best = f"tk_best_{number}"
        stays = f"({left} {beats} coalesce({best}, {left})) IS NOT TRUE"
        if step.event is Event.UPDATE:
            stays = f"({stays} OR {arrived} {beats} {left} AND {arrived} {beats} {best})"
        conditions.append(stays)
    return conditions


def new_extrema(step: Step, stored: str) -> list[tuple[int, str, str]]:
    """Return, for each extremum that a row which stays or comes may change: its number, its column, and its new value.

    ``stored`` makes the expression of the stored value of a number and a column.
    """
    if step.event is Event.DELETE:
        return []
    found = []
    for number, kept in extrema_of(step):
        column = quote(kept.column)
        value = f"{_functions(kept)[0]}({stored.format(number=number, column=column)}, {_value(step, number, 'after')})"
        found.append((number, column, value))
    return found


def _value(step: Step, number: int, label: str) -> str:
    """Return the variable that holds what a state of the row has for an extremum."""
    part = next(part for part in parts(step) if part.is_compared and part.name.endswith(f"_{number}"))
    return counts_for(step, part, label)
