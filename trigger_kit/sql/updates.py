"""COMPILE the UPDATEs of a target that write full values: recompute, first fill, backfill and repair."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from trigger_kit.plan.kept_columns import KeptColumn, may_break_a_check
from trigger_kit.plan.plan import Plan, Step
from trigger_kit.sql.additions import additions, floors, unless
from trigger_kit.sql.body import update_head
from trigger_kit.sql.changes import parts
from trigger_kit.sql.fragments import Values, values_of
from trigger_kit.sql.paths import Key
from trigger_kit.sql.pending import take_pending
from trigger_kit.sql.text import block, closed, quote, table_placeholder, text_literal

__all__ = [
    "add_changes",
    "differs",
    "join_values",
    "refill",
    "same_row",
    "set_list",
    "update_from",
    "without_row",
    "written",
]


def refill(plan: Plan, kept_columns: Iterable[KeptColumn], condition: str = "") -> str:
    """Return the UPDATE that writes the full values of some target rows where they differ; their locks are held.

    ``condition`` says which, of the alias ``this``.
    """
    wanted = list(kept_columns)
    values = values_of(wanted, "this")
    this = f"{table_placeholder(plan.target)} AS this"
    taken = take_pending(plan, wanted, "this", this, condition)
    source = "\n".join([this, *join_values(values)])
    match = "\n  AND ".join([same_row(plan, "this"), *([condition] if condition else [])])
    settings = [setting for number, item in enumerate(values, 1) for setting in written(item, f"value_{number}")]
    differences = [differs(item, f"value_{number}") for number, item in enumerate(values, 1)]
    head = update_head(plan.target, [kept for item in values for kept in item.kept_columns])
    return taken + update_from(head, settings, source, match, "\nOR ".join(differences))


def add_changes(plan: Plan, step: Step, arrays: Sequence[str]) -> str:
    """Return the UPDATE that adds the changes in arrays, keys first, unless a count would be negative for a moment."""
    key, names = Key(step.edge.key), [part.name for part in parts(step)]
    change = f"unnest({', '.join([*key.arrays, *arrays])}) AS change ({', '.join([*key.names, *names])})"
    conditions = unless(key.matches("target", "change"), floors(step, "change.{}".format))
    head = update_head(plan.target, step.kept_columns)
    return f"{head}\n{set_list(additions(step, 'change.{}'.format))}\nFROM {change}\nWHERE {conditions};"


def without_row(plan: Plan, kept_columns: Iterable[KeptColumn], statements: str, *keys: str) -> str:
    """Return statements that write kept columns; where a CHECK of the model may refuse that, the error hides the row.

    PostgreSQL would show the whole row of the target to a writer who has no rights on it, because the function's owner
    has. ``keys`` are arrays of the keys that are written: the writer knows them.
    """
    kept = [item for item in kept_columns if may_break_a_check(item)]
    if not kept:
        return statements
    uris = ", ".join(item.resolved.uri for item in kept)
    detail = " || ', ' || ".join(f"{array}[1:9]::text" for array in keys)
    return "\n".join(
        [
            "BEGIN",
            block(statements),
            "EXCEPTION WHEN check_violation THEN",
            "    -- Raised again without the row, which is not everybody's to see.",
            f"    RAISE EXCEPTION USING MESSAGE = SQLERRM || {text_literal(f', kept by {uris}')},",
            f"              ERRCODE = 'check_violation', TABLE = {text_literal(plan.target)}"
            + (f", DETAIL = 'Keys: ' || {detail};" if detail else ";"),
            "END;",
        ]
    )


def same_row(plan: Plan, row: str) -> str:
    """Return the condition that ties a row to the alias ``target``."""
    return " AND ".join(f"target.{quote(name)} = {row}.{quote(name)}" for name in plan.key_columns)


def join_values(values: Iterable[Values], *, row_by_row: bool = False) -> list[str]:
    """Return the lateral joins of full values, as ``value_1`` and so on.

    ``row_by_row`` keeps PostgreSQL from making one join of all: see ``by_index``.
    """
    joins = []
    for number, item in enumerate(values, 1):
        query = closed(item.select, *(["OFFSET 0"] if row_by_row else []))
        if item.may_be_missing:
            joins.append(f"LEFT JOIN LATERAL {query} AS value_{number} ON true")
        else:
            joins.append(f"CROSS JOIN LATERAL {query} AS value_{number}")
    return joins


def written(values: Values, name: str) -> list[str]:
    """Return the SET list of full values; a row that points at a missing one keeps what it has."""
    columns = [quote(kept.column) for kept in values.kept_columns]
    if values.may_be_missing:
        return [
            f"{column} = CASE WHEN {name}.tk_found THEN {name}.{column} ELSE target.{column} END" for column in columns
        ]
    return [f"{column} = {name}.{column}" for column in columns]


def differs(values: Values, name: str, row: str = "target") -> str:
    """Return the condition under which one of the kept columns of a row differs from its full value."""
    found = f"{name}.tk_found AND " if values.may_be_missing else ""
    return "\nOR ".join(
        f"{found}{row}.{quote(kept.column)} IS DISTINCT FROM {name}.{quote(kept.column)}"
        for kept in values.kept_columns
    )


def update_from(head: str, settings: Sequence[str], source: str, match: str, differences: str) -> str:
    """Return an UPDATE of the target from joined rows, restricted to rows that differ."""
    is_one = "\n" not in differences
    differing = differences if is_one else f"(\n{block(differences, 2)}\n  )"
    return f"{head}\n{set_list(settings)}\nFROM {source}\nWHERE {match}\n  AND {differing};"


def set_list(settings: Sequence[str]) -> str:
    """Return a SET clause; one short setting stands on its line."""
    if len(settings) == 1 and "\n" not in settings[0]:
        return f"SET {settings[0]}"
    return f"SET\n{block((',' + chr(10)).join(settings))}"
