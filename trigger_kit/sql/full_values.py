"""COMPILE full values for many targets at once: the first fill of a column."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from trigger_kit.plan.kept_columns import KeptAggregate, KeptColumn
from trigger_kit.plan.plan import Plan
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
    kept_columns = _chosen(plan, columns)
    update = _update(plan, kept_columns, of_keys=False)
    if not with_pending:
        return update
    taken = take_pending(plan, kept_columns, "this", f"{table_placeholder(plan.target)} AS this")
    return "\n\n".join([*reconsider(plan, kept_columns), taken + update])


def fill_sql(plan: Plan, columns: Iterable[str] | None = None) -> str:
    """Return the statements that write the full values of some targets, whose locks are held, where they differ.

    The placeholders of KEYS say which. Nothing is read but the rows that belong to them, where an index leads there.
    The UPDATE comes last.
    """
    kept_columns = _chosen(plan, columns)
    wanted = is_among_keys(plan.key_columns, plan.key_columns, "this")
    taken = take_pending(plan, kept_columns, "this", f"{table_placeholder(plan.target)} AS this", wanted)
    update = _update(plan, kept_columns, of_keys=True)
    return "\n\n".join([*reconsider(plan, kept_columns), taken + update])


def count_differing_sql(plan: Plan, columns: Iterable[str] | None = None) -> str:
    """Return the SELECT of the number of targets, of those that KEYS name, in which something stored is not true.

    What is pending is left out.
    """
    kept_columns = _chosen(plan, columns)
    _, source, match, differences = _full_values(plan, kept_columns, of_keys=True)
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


def _chosen(plan: Plan, columns: Iterable[str] | None) -> list[KeptColumn]:
    wanted = None if columns is None else set(columns)
    return [kept for kept in plan.kept_columns if wanted is None or kept.column in wanted]


def _found_by_key(grouped: Iterable[KeptAggregate]) -> list[KeptAggregate]:
    """Return what can share a pass over rows that are found by the keys of their targets, by an index too."""
    return [kept for kept in grouped if _is_found_as_it_is(kept.aggregate.path[0])]


def _is_found_as_it_is(hop: Hop) -> bool:
    """Whether a far row holds the key of the near one as it is, and nothing else tells them apart."""
    pairs = zip(hop.near, hop.far, strict=True)
    return hop.content_type is None and all(is_comparable(near.type, far.type) for near, far in pairs)


def _update(plan: Plan, kept_columns: Sequence[KeptColumn], *, of_keys: bool) -> str:
    """Return the UPDATE of the full values of all targets, or of those that KEYS name."""
    settings, source, match, differences = _full_values(plan, kept_columns, of_keys=of_keys)
    return update_from(update_head(plan.target, kept_columns), settings, source, match, differences)


def _full_values(plan: Plan, kept_columns: Sequence[KeptColumn], *, of_keys: bool) -> tuple[list[str], str, str, str]:
    """Return the parts of an UPDATE: its SET list, the rows that it joins, what ties them, and where they differ.

    Aggregates along one path are computed in one pass over its rows.
    """
    grouped = [kept for kept in kept_columns if is_grouped(kept)]
    if of_keys:
        grouped = _found_by_key(grouped)
    values = values_of([kept for kept in kept_columns if kept not in grouped], "this")
    joins, settings, differences = join_values(values), [], []
    for number, item in enumerate(values, 1):
        settings += written(item, f"value_{number}")
        differences.append(differs(item, f"value_{number}"))
    for number, (path, group) in enumerate(_by_path(grouped).items(), 1):
        tied = _tied_to_keys(plan, path) if of_keys else ""
        joins.append(_grouped_join(path, group, f"fed_{number}", tied))
        for kept in group:
            column = quote(kept.column)
            value = _or_empty(kept, f"fed_{number}.{column}", f"fed_{number}.tk_found")
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


def _by_path(grouped: Iterable[KeptAggregate]) -> dict[Path, list[KeptAggregate]]:
    groups: dict[Path, list[KeptAggregate]] = {}
    for kept in grouped:
        groups.setdefault(kept.aggregate.path, []).append(kept)
    return groups


def _or_empty(kept: KeptAggregate, value: str, found: str) -> str:
    """Return a grouped value, or the one over no rows for targets that no row points at."""
    if kept.null_when_empty:
        return value
    if kept.empty is not None:
        return f"coalesce({value}, {kept.empty})"
    (empty,) = values_of([kept], "this")
    return f"CASE WHEN {found} THEN {value} ELSE (\n{block(empty.select)}\n) END"


def _grouped_join(path: Path, kept_columns: list[KeptAggregate], name: str, tied: str = "") -> str:
    """Return the join of the values along one path, computed in one pass over its rows: all, or those that are tied."""
    key = Key(path[0].near)
    values = key_columns(path)
    selected = ",\n".join(
        [
            numbered(key.names, values),
            "true AS tk_found",
            *(named(kept, grouped_value(kept)) for kept in kept_columns),
        ]
    )
    rows, _ = far_rows(path, "this")
    conditions = [*first_hop_conditions(path), *([tied] if tied else [])]
    where = f"\nWHERE {' AND '.join(conditions)}" if conditions else ""
    select = f"SELECT\n{block(selected)}\nFROM {rows}{where}\nGROUP BY {', '.join(values)}"
    return f"LEFT JOIN (\n{block(select)}\n) AS {name} ON {key.matches('this', name)}"
