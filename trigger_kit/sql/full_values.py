"""COMPILE full values for many targets at once: the first fill of a column."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from trigger_kit.plan.plan import Plan
from trigger_kit.plan.strategy import Measure
from trigger_kit.resolve.columns import Hop, Path, is_comparable
from trigger_kit.sql.body import update_head
from trigger_kit.sql.fragments import grouped_value, is_grouped, named, values_of
from trigger_kit.sql.paths import Key, far_rows, first_hop_conditions, key_columns, numbered, row_name
from trigger_kit.sql.pending import reconsider, take_pending
from trigger_kit.sql.text import block, quote, table_placeholder
from trigger_kit.sql.updates import differs, join_values, same_row, update_from, written

__all__ = ["KEYS", "backfill_sql", "count_differing_sql", "fill_sql", "key_arrays"]

# Placeholders of the arrays of keys that are filled: {:keys}, or {:keys_1} and so on for a key of several columns.
KEYS = ":keys"


def backfill_sql(plan: Plan, columns: Iterable[str] | None = None, *, with_pending: bool = True) -> str:
    """Return one UPDATE that writes the full values of a target's rules (all, or some columns) where they differ.

    ``with_pending=False`` leaves out what follows from pending changes: the text then says what a value is.
    """
    measures = _chosen(plan, columns)
    update = _update(plan, measures, of_keys=False)
    if not with_pending:
        return update
    taken = take_pending(plan, measures, "this", f"{table_placeholder(plan.target)} AS this")
    return "\n\n".join([*reconsider(plan, measures), taken + update])


def fill_sql(plan: Plan, columns: Iterable[str] | None = None) -> str:
    """Return the statements that write the full values of some targets, whose locks are held, where they differ.

    The placeholders of KEYS say which. Nothing is read but the rows that belong to them, where an index leads there.
    The UPDATE comes last.
    """
    measures = _chosen(plan, columns)
    wanted = is_among_keys(plan.key_columns, plan.key_columns, "this")
    taken = take_pending(plan, measures, "this", f"{table_placeholder(plan.target)} AS this", wanted)
    update = _update(plan, measures, of_keys=True)
    return "\n\n".join([*reconsider(plan, measures), taken + update])


def count_differing_sql(plan: Plan, columns: Iterable[str] | None = None) -> str:
    """Return the SELECT of the number of targets, of those that KEYS name, in which something stored is not true.

    What is pending is left out.
    """
    measures = _chosen(plan, columns)
    _, source, match, differences = _full_values(plan, measures, of_keys=True)
    return (
        f"SELECT count(*)\nFROM {table_placeholder(plan.target)} AS target\nCROSS JOIN {source}\n"
        f"WHERE {match}\nAND (\n{block(differences)}\n)"
    )


def key_arrays(columns: Sequence[object]) -> list[str]:
    """Return the names of the placeholders of a key's arrays."""
    return [KEYS] if len(columns) == 1 else [f"{KEYS}_{number}" for number in range(1, len(columns) + 1)]


def is_among_keys(columns: Sequence[str], key: Sequence[str], row: str) -> str:
    """Return the condition under which some columns of a row hold one of the keys that are filled."""
    arrays = ["{" + name + "}" for name in key_arrays(key)]
    if len(arrays) == 1:
        return f"{row}.{quote(columns[0])} = ANY ({arrays[0]})"
    return f"({', '.join(f'{row}.{quote(name)}' for name in columns)}) IN (SELECT * FROM unnest({', '.join(arrays)}))"


def _chosen(plan: Plan, columns: Iterable[str] | None) -> list[Measure]:
    wanted = None if columns is None else set(columns)
    return [measure for measure in plan.measures if wanted is None or measure.column in wanted]


def _found_by_key(measures: Iterable[Measure]) -> list[Measure]:
    """Return what can share a pass over rows that are found by the keys of their targets, by an index too."""
    return [m for m in measures if is_grouped(m) and m.chain is not None and _is_found_as_it_is(m.chain.path[0])]


def _is_found_as_it_is(hop: Hop) -> bool:
    """Whether a far row holds the key of the near one as it is, and nothing else tells them apart."""
    pairs = zip(hop.near, hop.far, strict=True)
    return hop.content_type is None and all(is_comparable(near.type, far.type) for near, far in pairs)


def _update(plan: Plan, measures: Sequence[Measure], *, of_keys: bool) -> str:
    """Return the UPDATE of the full values of all targets, or of those that KEYS name."""
    settings, source, match, differences = _full_values(plan, measures, of_keys=of_keys)
    return update_from(update_head(plan.target, measures), settings, source, match, differences)


def _full_values(plan: Plan, measures: Sequence[Measure], *, of_keys: bool) -> tuple[list[str], str, str, str]:
    """Return the parts of an UPDATE: its SET list, the rows that it joins, what ties them, and where they differ.

    Aggregates along one path are computed in one pass over its rows.
    """
    grouped = _found_by_key(measures) if of_keys else [measure for measure in measures if is_grouped(measure)]
    values = values_of([measure for measure in measures if measure not in grouped], "this")
    joins, settings, differences = join_values(values), [], []
    for number, item in enumerate(values, 1):
        settings += written(item, f"value_{number}")
        differences.append(differs(item, f"value_{number}"))
    for number, (path, group) in enumerate(_by_path(grouped).items(), 1):
        tied = _tied_to_keys(plan, path) if of_keys else ""
        joins.append(_grouped_join(path, group, f"fed_{number}", tied))
        for measure in group:
            column = quote(measure.column)
            value = _or_empty(measure, f"fed_{number}.{column}", f"fed_{number}.tk_found")
            settings.append(f"{column} = {value}")
            differences.append(f"target.{column} IS DISTINCT FROM {value}")
    source = "\n".join([f"{table_placeholder(plan.target)} AS this", *joins])
    # Both rows by their keys, or the planner may read one of them of the whole table for each batch.
    among = [is_among_keys(plan.key_columns, plan.key_columns, row) for row in ("this", "target")] if of_keys else []
    match = "\nAND ".join([same_row(plan, "this"), *among])
    return settings, source, match, "\nOR ".join(differences)


def _tied_to_keys(plan: Plan, path: Path) -> str:
    """Return the condition under which a row of the first hop belongs to one of the targets that are filled."""
    near, far = path[0].near, [column.name for column in path[0].far]
    row = row_name(path, 1)
    if tuple(column.name for column in near) == plan.key_columns:
        return is_among_keys(far, plan.key_columns, row)
    named_by = ", ".join(f"{row}.{quote(name)}" for name in far)
    keys = ", ".join(f"filled.{quote(column.name)}" for column in near)
    rows = is_among_keys(plan.key_columns, plan.key_columns, "filled")
    return (
        f"({named_by}) IN (\n"
        f"    SELECT {keys}\n    FROM {table_placeholder(plan.target)} AS filled\n    WHERE {rows}\n)"
    )


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


def _grouped_join(path: Path, measures: list[Measure], name: str, tied: str = "") -> str:
    """Return the join of the values along one path, computed in one pass over its rows: all, or those that are tied."""
    key = Key(path[0].near)
    values = key_columns(path)
    selected = ",\n".join(
        [
            numbered(key.names, values),
            "true AS tk_found",
            *(named(measure, grouped_value(measure)) for measure in measures),
        ]
    )
    rows, _ = far_rows(path, "this")
    conditions = [*first_hop_conditions(path), *([tied] if tied else [])]
    where = f"\nWHERE {' AND '.join(conditions)}" if conditions else ""
    select = f"SELECT\n{block(selected)}\nFROM {rows}{where}\nGROUP BY {', '.join(values)}"
    return f"LEFT JOIN (\n{block(select)}\n) AS {name} ON {key.matches('this', name)}"
