"""COMPILE the pause: a step that only notes which targets it has touched, for the repair at its end.

Whoever is paused takes the locks along the paths all the same, and notes parents that are not there: others go on
meanwhile, and must not change which targets the rows lead to before these rows can be seen.
"""

from __future__ import annotations

from collections.abc import Sequence

from trigger_kit.compiler.changes import touched
from trigger_kit.compiler.notes import note_missing_keys
from trigger_kit.compiler.paths import Key
from trigger_kit.compiler.text import block, text_literal
from trigger_kit.paths import Column, key_type
from trigger_kit.planner import Plan, Step

__all__ = ["PAUSED_FOR_ALL", "PAUSE_TEST", "noted_columns", "pause_test"]

# The line of an installed function that asks whether this session is paused, and the one in its place that pauses all.
PAUSE_TEST = "IF current_setting('trigger_kit.paused', true) = 'on' THEN"
PAUSED_FOR_ALL = "IF true THEN -- paused for all sessions, until manage.py trigger_kit resume"
# Types whose text is the same in every session.
_PLAIN = {"bigint", "integer", "smallint", "numeric", "text", "uuid", "varchar"}


def pause_test(plan: Plan, step: Step, before: Sequence[str] = ()) -> str:
    """Return the test for a pause, which notes the touched keys and leaves; ``before`` are the locks along paths."""
    key = Key(step.edge.key)
    missing = note_missing_keys(plan, step, counted=False)
    lines = ["RETURN NULL;"]
    if not missing:
        lines = [*before, _note(step, f"(\n{block(touched(step, only_changed=True))}\n)"), *lines]
    else:
        rows = f"unnest({', '.join(key.arrays)})"
        lines = [
            "DECLARE",
            block("\n".join(key.declarations())),
            "BEGIN",
            *map(block, before),
            block(_collect(step)),
            block(_note(step, rows, f" ({', '.join(key.names)})")),
            *map(block, missing),
            "    RETURN NULL;",
            "END;",
        ]
    comment = "-- Paused: note which targets were touched, for the repair at the end of the pause."
    return "\n".join([comment, PAUSE_TEST, *map(block, lines), "END IF;"])


def noted_columns(key: Sequence[Column]) -> str:
    """Return the name under which ``tk_touched`` holds keys of some columns."""
    return ",".join(column.name for column in key)


def _collect(step: Step) -> str:
    key = Key(step.edge.key)
    return "\n".join(
        [
            f"SELECT {', '.join(f'array_agg(touched.{name})' for name in key.names)}",
            f"INTO {', '.join(key.arrays)}",
            f"FROM (\n{block(touched(step, only_changed=True))}\n) AS touched",
            f"WHERE {key.present('touched')};",
        ]
    )


def _note(step: Step, rows: str, names: str = "") -> str:
    """Return the statement that notes the keys in a FROM item."""
    key = Key(step.edge.key)
    values = f"{text_literal(step.edge.target)}, {text_literal(noted_columns(step.edge.key))}, {_text(key)}"
    insert = f'INSERT INTO {{:schema}}."tk_touched" (target, key_column, key)\nSELECT {values}\n'
    where = "" if names else f"\nWHERE {key.present('touched')}"
    return f"{insert}FROM {rows} AS touched{names}{where};"


def _text(key: Key) -> str:
    """Return a touched key as the text that tk_touched holds; no setting of the session changes how it is written."""
    if len(key.names) > 1:
        return f"jsonb_build_array({', '.join(f'touched.{name}' for name in key.names)})::text"
    (name,) = key.names
    return f"touched.{name}::text" if key_type(key.columns[0]) in _PLAIN else f"to_jsonb(touched.{name}) #>> '{{{{}}}}'"
