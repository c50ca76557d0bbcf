"""COMPILE full values for many targets at once: the first fill of a column, and the repair of touched keys."""

from __future__ import annotations

from collections.abc import Iterable

from trigger_kit.compiler.body import update_head
from trigger_kit.compiler.fragments import grouped_value, is_grouped, named, values_of
from trigger_kit.compiler.paths import Key, first_hop_conditions, key_columns, numbered, walk
from trigger_kit.compiler.pending import reconsider, take_pending
from trigger_kit.compiler.text import block, quote, table_placeholder, text_literal
from trigger_kit.compiler.updates import differs, join_values, refill, same_row, update_from, written
from trigger_kit.measures import Measure
from trigger_kit.paths import Column, Path, key_type
from trigger_kit.planner import Plan

__all__ = ["backfill_sql", "repair_sql"]


def backfill_sql(plan: Plan, columns: Iterable[str] | None = None, *, with_pending: bool = True) -> str:
    """Return one UPDATE that writes the full values of a target's rules (all, or some columns) where they differ.

    ``with_pending=False`` leaves out what follows from pending changes: the text then says what a value is.
    """
    wanted = None if columns is None else set(columns)
    measures = [m for m in plan.measures if wanted is None or m.column in wanted]
    grouped = [m for m in measures if is_grouped(m)]
    values = values_of([m for m in measures if not is_grouped(m)], "this")
    joins, settings, differences = join_values(values), [], []
    for number, item in enumerate(values, 1):
        settings += written(item, f"value_{number}")
        differences.append(differs(item, f"value_{number}"))
    for number, (path, group) in enumerate(_by_path(grouped).items(), 1):
        joins.append(_grouped_join(path, group, f"fed_{number}"))
        for measure in group:
            column = quote(measure.column)
            value = _or_empty(measure, f"fed_{number}.{column}", f"fed_{number}.tk_found")
            settings.append(f"{column} = {value}")
            differences.append(f"target.{column} IS DISTINCT FROM {value}")
    source = "\n".join([f"{table_placeholder(plan.target)} AS this", *joins])
    update = update_from(
        update_head(plan.target, measures), settings, source, same_row(plan, "this"), "\nOR ".join(differences)
    )
    if not with_pending:
        return update
    taken = take_pending(plan, measures, "this", f"{table_placeholder(plan.target)} AS this")
    return "\n\n".join([*reconsider(plan, measures), taken + update])


def _by_path(measures: Iterable[Measure]) -> dict[Path, list[Measure]]:
    groups: dict[Path, list[Measure]] = {}
    for measure in measures:
        assert measure.chain is not None
        groups.setdefault(measure.chain.path, []).append(measure)
    return groups


def _or_empty(measure: Measure, value: str, found: str) -> str:
    """Return a grouped value, or the one over no rows for targets that no row points at."""
    if measure.null_when_empty:
        return value
    if measure.empty is not None:
        return f"coalesce({value}, {measure.empty})"
    (empty,) = values_of([measure], "this")
    return f"CASE WHEN {found} THEN {value} ELSE (\n{block(empty.select)}\n) END"


def _grouped_join(path: Path, measures: list[Measure], name: str) -> str:
    """Return the join of the values along one path, computed for all keys in one pass over its rows."""
    key = Key(path[0].near)
    values = key_columns(path)
    selected = ",\n".join(
        [
            numbered(key.names, values),
            "true AS tk_found",
            *(named(measure, grouped_value(measure)) for measure in measures),
        ]
    )
    rows = walk(path, 1, table_placeholder(path[0].table))
    conditions = first_hop_conditions(path)
    where = f"\nWHERE {' AND '.join(conditions)}" if conditions else ""
    select = f"SELECT\n{block(selected)}\nFROM {rows}{where}\nGROUP BY {', '.join(values)}"
    return f"LEFT JOIN (\n{block(select)}\n) AS {name} ON {key.matches('this', name)}"


def repair_sql(plan: Plan, columns: tuple[Column, ...]) -> str:
    """Return the statements that recompute what the keys noted in tk_touched name by some columns, and forget them.

    The targets are locked in key order first; a statement of its own then reads what is committed by then.
    """
    key = Key(columns)
    keys = ",".join(column.name for column in columns)
    noted = f"target = {text_literal(plan.target)} AND key_column = {text_literal(keys)}"
    parts = [f"key::{key_type(columns[0])}"]
    if len(columns) > 1:
        parts = [f"(key::jsonb ->> {number})::{key_type(column)}" for number, column in enumerate(columns)]
    measures = list(dict.fromkeys(m for edge in plan.edges if edge.key == columns for m in edge.measures))
    touched = f'SELECT {", ".join(parts)} FROM {{:schema}}."tk_touched" WHERE {noted}'
    order = ", ".join(f"target.{quote(name)}" for name in plan.key_columns)
    update = refill(plan, measures, f"({', '.join(key.of('this'))}) IN ({touched})")
    before = "".join(f"{statement}\n\n" for statement in reconsider(plan, measures))
    return before + (
        f"SELECT FROM {table_placeholder(plan.target)} AS target\n"
        f"WHERE ({', '.join(key.of('target'))}) IN ({touched})\n"
        f"ORDER BY {order} FOR NO KEY UPDATE;\n\n"
        f"{update}\n\n"
        f'DELETE FROM {{:schema}}."tk_touched" WHERE {noted};'
    )
