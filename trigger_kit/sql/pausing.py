"""COMPILE the pause: a step that only notes which targets it has touched, for the repair at its end.

Whoever is paused takes the locks along the paths all the same, and notes parents that are not there: others go on
meanwhile, and must not change which targets the rows lead to before these rows can be seen.
"""

from __future__ import annotations

from collections.abc import Sequence

from trigger_kit.plan.plan import Plan, Step
from trigger_kit.resolve.columns import Column, key_type
from trigger_kit.sql.changes import touched
from trigger_kit.sql.notes import note_missing_keys
from trigger_kit.sql.paths import Key
from trigger_kit.sql.text import block, text_literal

__all__ = ["note_touched", "noted_columns"]

# Types whose text is the same in every session.
_PLAIN = {"bigint", "integer", "smallint", "numeric", "text", "uuid", "varchar"}


def note_touched(plan: Plan, step: Step, *last: str) -> str:
    """Return the statements of a pause, which note the touched keys and leave; ``last`` are run before they do.

    They come after the locks along the path, and use the arrays of keys of the block that they are in.
    """
    key = Key(step.edge.key)
    lines = [
        f"SELECT {', '.join(f'array_agg(touched.{name})' for name in key.names)}",
        f"INTO {', '.join(key.arrays)}",
        f"FROM (\n{block(touched(step, only_changed=True))}\n) AS touched",
        f"WHERE {key.present('touched')};",
        _note(step),
        *note_missing_keys(plan, step, counted=False),
        *last,
        "RETURN NULL;",
    ]
    comment = "-- Paused: note which targets were touched, for the repair at the end of the pause."
    return "\n".join(["IF tk_is_paused THEN", block(comment), *map(block, lines), "END IF;"])


def noted_columns(key: Sequence[Column]) -> str:
    """Return the name under which ``tk_touched`` holds keys of some columns."""
    return ",".join(column.name for column in key)


def _note(step: Step) -> str:
    """Return the statement that notes the keys in the arrays."""
    key = Key(step.edge.key)
    values = f"{text_literal(step.edge.target)}, {text_literal(noted_columns(step.edge.key))}, {_text(key)}"
    insert = f'INSERT INTO {{:schema}}."tk_touched" (target, key_column, key)\nSELECT {values}\n'
    return f"{insert}FROM unnest({', '.join(key.arrays)}) AS touched ({', '.join(key.names)});"


def _text(key: Key) -> str:
    """Return a touched key as the text that tk_touched holds; no setting of the session changes how it is written."""
    if len(key.names) > 1:
        return f"jsonb_build_array({', '.join(f'touched.{name}' for name in key.names)})::text"
    (name,) = key.names
    return f"touched.{name}::text" if key_type(key.columns[0]) in _PLAIN else f"to_jsonb(touched.{name}) #>> '{{{{}}}}'"
