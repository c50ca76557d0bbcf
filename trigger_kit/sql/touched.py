"""COMPILE the repair at the end of a pause: the targets whose keys were noted are locked, then computed afresh.

The notes are taken first and the values read afterwards: what was committed with a note that is gone is in the value.
Whoever ends a pause of his session runs this: he may write the target, but may not execute the functions of its owner.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from trigger_kit.plan.kept_columns import KeptColumn
from trigger_kit.plan.plan import Event, Plan, Step
from trigger_kit.resolve.columns import Column, key_type
from trigger_kit.sql.body import DEPTH, restore_depth, set_depth
from trigger_kit.sql.function import dollar_quotes
from trigger_kit.sql.locks import lock_target_rows
from trigger_kit.sql.paths import Key
from trigger_kit.sql.pausing import noted_columns
from trigger_kit.sql.pending import reconsider
from trigger_kit.sql.text import block, text_literal
from trigger_kit.sql.trees import recursive_update
from trigger_kit.sql.updates import refill

__all__ = ["NOTED_HASH", "OWN_NOTES", "TouchedTargets", "repair_block", "touched_targets"]

# The notes of this transaction.
OWN_NOTES = "noted.transaction = pg_current_xact_id()"
# What batches of notes go by; served by the index of tk_touched.
NOTED_HASH = "hashtextextended(noted.key, 0)"


@dataclass(frozen=True)
class TouchedTargets:
    """The parts of a block that repairs the targets of one plan, with placeholders.

    ``take`` reads the notes and locks the targets, ``write`` gives them their full values.
    """

    declarations: str
    take: str
    write: str


def touched_targets(plan: Plan, columns: Iterable[tuple[Column, ...]], which: str, number: int = 1) -> TouchedTargets:
    """Return the parts for the notes of a plan by some columns, restricted by a condition on the alias ``noted``.

    ``number`` keeps the variables of several plans in one block apart.
    """
    keys = [Key(key, f"tk_{number}_{position}_key") for position, key in enumerate(columns, 1)]
    wanted = "\n   OR ".join(key.is_among("locked") for key in keys)
    present = " OR ".join(f"{key.arrays[0]} IS NOT NULL" for key in keys)
    lock = f"IF {present} THEN\n{block(lock_target_rows(plan, wanted))}\nEND IF;"
    return TouchedTargets(
        "\n".join(line for key in keys for line in key.declarations()),
        "\n".join([*(_take(plan, key, which) for key in keys), lock]),
        "\n".join(_write(plan, key) for key in keys),
    )


def repair_block(declarations: str, statements: Sequence[str]) -> str:
    """Return the statement that runs the parts, as whoever ends the pause: rows hidden by a policy are an error."""
    lines = [
        "DECLARE",
        block(DEPTH),
        "    tk_row_security text := current_setting('row_security');",
        block(declarations),
        "BEGIN",
        "    PERFORM set_config('row_security', 'off', true);",
        *map(block, statements),
        "    PERFORM set_config('row_security', tk_row_security, true);",
        "END;",
    ]
    body = "\n".join(lines)
    quotes = dollar_quotes(body)
    return f"DO {quotes}\n{body}\n{quotes};"


def _take(plan: Plan, key: Key, which: str) -> str:
    """Return the statement that takes notes out of the table."""
    parts = [f"touched.key::{key_type(key.columns[0])}"]
    if len(key.columns) > 1:
        parts = [f"(touched.key::jsonb ->> {n})::{key_type(column)}" for n, column in enumerate(key.columns)]
    return "\n".join(
        [
            "WITH taken AS (",
            '    DELETE FROM {:schema}."tk_touched" AS noted',
            f"    WHERE noted.target = {text_literal(plan.target)}",
            f"      AND noted.key_column = {text_literal(noted_columns(key.columns))}",
            f"      AND {which}",
            "    RETURNING noted.key",
            ")",
            f"SELECT {', '.join(f'array_agg({part})' for part in parts)}",
            f"INTO {', '.join(key.arrays)}",
            "FROM (SELECT DISTINCT taken.key FROM taken) AS touched;",
        ]
    )


def _write(plan: Plan, key: Key) -> str:
    """Return the statements that compute the locked targets afresh; rows of a tree level by level."""
    kept_columns = _touched_columns(plan, key.columns)
    plain = [kept for kept in kept_columns if not kept.resolved.is_recursive]
    lines = reconsider(plan, kept_columns)
    if plain:
        lines += [set_depth(), refill(plan, plain, key.is_among("this")), restore_depth()]
    recursive = {kept.column for kept in kept_columns if kept.resolved.is_recursive}
    for edge in plan.edges:
        if edge.is_recursive and recursive & {kept.column for kept in edge.kept_columns}:
            lines += [recursive_update(plan, Step(edge, Event.INSERT), key, inline=True)]
    return f"IF {key.arrays[0]} IS NOT NULL THEN\n{block(chr(10).join(lines))}\nEND IF;"


def _touched_columns(plan: Plan, columns: tuple[Column, ...]) -> list[KeptColumn]:
    """Return the kept columns that notes by some columns are about."""
    named = {kept.column for edge in plan.edges if edge.key == columns for kept in edge.kept_columns}
    return [kept for kept in plan.kept_columns if kept.column in named]
