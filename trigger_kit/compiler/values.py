"""Full values for many targets at once: the first fill of a column, and the repair of touched keys."""

from __future__ import annotations

from collections.abc import Iterable

from trigger_kit.compiler.fragments import differs, full_values, refill, update_from
from trigger_kit.compiler.text import block, escape_braces, literal, quote, table_placeholder
from trigger_kit.measures import Measure
from trigger_kit.planner import Edge, Feed, Plan

__all__ = ["backfill_sql", "repair_sql"]


def backfill_sql(plan: Plan, columns: Iterable[str] | None = None) -> str:
    """Return one UPDATE that writes the full values of a target's rules (all, or some columns) where they differ."""
    wanted = None if columns is None else set(columns)
    joins, settings, values, differences = [], [], [], []
    number = 0
    for edge in plan.edges:
        for feed in edge.feeds:
            measures = [m for m in feed.measures if wanted is None or m.column in wanted]
            if not measures:
                continue
            number += 1
            joins.append(_grouped_join(edge, feed, measures, f"fed_{number}"))
            for measure in measures:
                column = quote(measure.column)
                value = f"fed_{number}.{column}"
                values.append(f"{value if measure.null_when_empty else f'coalesce({value}, 0)'} AS {column}")
                settings.append(f"{column} = value.{column}")
            differences.append(differs("target", measures, "value"))
    keys = [quote(name) for name in plan.key_columns]
    selected = [*(f"row.{key} AS tk_key_{n}" for n, key in enumerate(keys)), *values]
    inner = "\n".join(
        [f"SELECT\n{block((',' + chr(10)).join(selected))}", f"FROM {table_placeholder(plan.target)} AS row", *joins]
    )
    match = " AND ".join(f"target.{key} = value.tk_key_{n}" for n, key in enumerate(keys))
    return update_from(plan.target, settings, f"(\n{block(inner)}\n) AS value", match, "\nOR ".join(differences))


def _grouped_join(edge: Edge, feed: Feed, measures: list[Measure], name: str) -> str:
    """Return the join of one feed's values, computed for all keys in one pass over the source."""
    foreign_key = f"source.{quote(feed.hop.source.name)}"
    selected = f"{foreign_key} AS tk_key,\n{full_values(measures)}"
    return (
        f"LEFT JOIN (\n    SELECT\n{block(selected, 2)}\n    FROM {table_placeholder(edge.source)} AS source\n"
        f"    GROUP BY {foreign_key}\n) AS {name} ON {name}.tk_key = row.{quote(edge.key.name)}"
    )


def repair_sql(edge: Edge) -> str:
    """Return the statements that recompute the keys of an edge noted in tk_touched, and forget them.

    The targets are locked in key order first; a statement of its own then reads what is committed by then.
    """
    target, key = table_placeholder(edge.target), quote(edge.key.name)
    noted = f"target = {escape_braces(literal(edge.target))} AND key_column = {escape_braces(literal(edge.key.name))}"
    touched = f'SELECT DISTINCT key::{edge.key.type} AS tk_key FROM {{:schema}}."tk_touched" WHERE {noted}'
    update = refill(
        edge.target,
        [(edge, feed) for feed in edge.feeds],
        rows=f"({touched}) AS touched",
        key="touched.tk_key",
        match=f"target.{key} = touched.tk_key",
    )
    return (
        f"SELECT FROM {target} AS target\n"
        f"WHERE target.{key} IN ({touched})\n"
        f"ORDER BY target.{key} FOR NO KEY UPDATE;\n\n"
        f"{update}\n\n"
        f'DELETE FROM {{:schema}}."tk_touched" WHERE {noted};'
    )
