"""COMPILE extrema: the largest or smallest value is compared with what comes, and looked up where it may have left.

A look-up is a full value: it marks the target, so that steps of this statement that fire later, whose rows may have
changed again since, look up as well.
"""

from __future__ import annotations

from django.db.models import Max

from trigger_kit.plan.kept_columns import KeptAggregate, Strategy
from trigger_kit.plan.plan import Event, Plan, Step
from trigger_kit.resolve.columns import column_of, is_loose
from trigger_kit.sql.body import FILLED, mark_expression, set_mark
from trigger_kit.sql.changed_row import PLAIN
from trigger_kit.sql.fragments import looked_up
from trigger_kit.sql.text import block, quote, table_placeholder

__all__ = ["extrema_of", "extremum", "extremum_declarations", "fits_variables", "keep_extrema", "read_extrema"]


def extrema_of(step: Step) -> list[tuple[int, KeptAggregate]]:
    """Return the extrema of a step, with the numbers that their parts are named by."""
    return [(n, kept) for n, kept in step.numbered if kept.strategy is Strategy.EXTREMUM]


def _functions(kept: KeptAggregate) -> tuple[str, str]:
    """Return what chooses the better of two values, and the operator between a value and one that it beats."""
    return ("greatest", ">=") if kept.aggregate.function is Max else ("least", "<=")


def extremum(plan: Plan, step: Step, kept: KeptAggregate, number: int) -> str:
    """Return the value of an extremum after a change of many rows, of the alias ``change``, for the alias ``this``."""
    best, beats = _functions(kept)
    column = f"this.{quote(kept.column)}"
    arrived, left = f"change.tk_in_{number}", f"change.tk_out_{number}"
    if step.event is Event.INSERT:
        return f"{best}({column}, {arrived})"
    lookup = looked_up(kept, "this")
    stays = column if step.event is Event.DELETE else f"{best}({column}, {arrived})"
    cases = [f"WHEN {left} IS NULL OR NOT {left} {beats} {column} THEN {stays}"]
    if step.event is Event.UPDATE:
        cases.append(f"WHEN {arrived} {beats} {left} AND {arrived} {beats} {column} THEN {arrived}")
    cases.append(f"WHEN {mark_expression(plan, FILLED)} <> '' THEN {lookup}")
    return f"CASE\n{block(chr(10).join(cases))}\nEND"


# One row ------------------------------------------------------------------------------------------------------------


def fits_variables(kept: KeptAggregate) -> bool:
    """Whether values of an extremum compare as variables as they do in their columns."""
    types = {kept.exact_type, column_of(kept.resolved.field).type}
    return types <= PLAIN and not is_loose(kept.aggregate.argument.target)


def extremum_declarations(step: Step) -> list[str]:
    """Return the variables of extrema: the stored value, and the one that it becomes."""
    found = [(n, column_of(kept.resolved.field).type) for n, kept in extrema_of(step)]
    return [f"tk_{word}_{n} {kind};" for n, kind in found for word in ("best", "now")]


def read_extrema(step: Step) -> str:
    """Return the statements that lock the target and read its extrema; ``tk_written`` is 0 where it is missing."""
    found = extrema_of(step)
    columns = ", ".join(f"locked.{quote(kept.column)}" for _, kept in found)
    return (
        f"SELECT {columns}\nINTO {', '.join(f'tk_best_{n}' for n, _ in found)}\n"
        f"FROM {table_placeholder(step.edge.target)} AS locked\n"
        f"WHERE locked.{quote(step.edge.key[0].name)} = tk_key\nFOR NO KEY UPDATE;\n"
        "GET DIAGNOSTICS tk_written = ROW_COUNT;"
    )


def keep_extrema(plan: Plan, step: Step) -> str:
    """Return the statements that compare the extrema of a locked target with what has come and what has left."""
    return "\n".join(_keep(plan, step, kept, number) for number, kept in extrema_of(step))


def _keep(plan: Plan, step: Step, kept: KeptAggregate, number: int) -> str:
    choose, beats = _functions(kept)
    best, now = f"tk_best_{number}", f"tk_now_{number}"
    arrived, left = f"delta.tk_in_{number}", f"delta.tk_out_{number}"
    if step.event is Event.INSERT:
        return f"{now} := {choose}({best}, {arrived});"
    stays = best if step.event is Event.DELETE else f"{choose}({best}, {arrived})"
    key = quote(step.edge.key[0].name)
    look = (
        f"{set_mark(plan, FILLED)}\nSELECT {looked_up(kept, 'this')}\nINTO {now}\n"
        f"FROM {table_placeholder(step.edge.target)} AS this\nWHERE this.{key} = tk_key;"
    )
    lines = [f"IF {left} IS NULL OR NOT {left} {beats} {best} THEN", f"    {now} := {stays};"]
    if step.event is Event.UPDATE:
        lines += [f"ELSIF {arrived} {beats} {left} AND {arrived} {beats} {best} THEN", f"    {now} := {arrived};"]
    return "\n".join([*lines, "ELSE", block(look), "END IF;"])
