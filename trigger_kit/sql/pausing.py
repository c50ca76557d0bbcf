"""COMPILE the pause: a step that only notes which targets it has touched, for the repair at its end.

One function of each schema says who is paused: this session, by a setting, and the targets whose names stand in it, for
everybody. Pausing a target replaces that function. Its COMMENT has the names again, for who asks.

Whoever is paused takes the locks along the paths all the same, and notes parents that are not there: others go on
meanwhile, and must not change which targets the rows lead to before these rows can be seen.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from trigger_kit.plan.plan import Plan, Step
from trigger_kit.resolve.columns import Column, key_type
from trigger_kit.sql.changes import touched
from trigger_kit.sql.notes import note_missing_keys
from trigger_kit.sql.paths import Key
from trigger_kit.sql.text import block, escape_braces, literal, text_literal
from trigger_kit.sql.trigger import dollar_quotes

__all__ = [
    "PAUSE_FUNCTION",
    "is_paused",
    "listed_targets",
    "note_keys",
    "note_touched",
    "noted_columns",
    "pause_body",
    "pause_function",
]

PAUSE_FUNCTION = "tk_is_paused_v1"
_LISTED = "trigger_kit: paused "

# Types whose text is the same in every session.
_PLAIN = {"bigint", "integer", "smallint", "numeric", "text", "uuid", "varchar"}


def is_paused(plan: Plan) -> str:
    """Return the declaration of ``tk_is_paused``.

    With types, here as in every call of a function of ours: else one with other arguments, which whoever may create
    functions in the schema has added, would fit as well or better.
    """
    return f'tk_is_paused boolean := {{:schema}}."{PAUSE_FUNCTION}"({text_literal(plan.target)}::text);'


def pause_body(targets: Iterable[str]) -> str:
    """Return the body of the function that says who is paused; ``targets`` are for all sessions, by their table."""
    listed = f"{literal(sorted(targets))}::text[]"
    return (
        "\n-- Whether triggers only note what they would do: in this session, or in all for the targets listed here.\n"
        f"SELECT coalesce(current_setting('trigger_kit.paused', true), '') = 'on' OR target = ANY ({listed})\n"
    )


def pause_function(targets: Iterable[str]) -> str:
    """Return the statements that create the function, or replace it."""
    names = sorted(targets)
    body = pause_body(names)
    quotes = dollar_quotes(body)
    function = f'{{:schema}}."{PAUSE_FUNCTION}"'
    return "\n".join(
        [
            f"CREATE OR REPLACE FUNCTION {function}(target text)",
            "RETURNS boolean",
            "LANGUAGE sql",
            "STABLE",
            f"AS {quotes}{escape_braces(body)}{quotes};",
            f"REVOKE ALL ON FUNCTION {function}(text) FROM PUBLIC;",
            f"COMMENT ON FUNCTION {function}(text) IS {text_literal(_LISTED + json.dumps(names, ensure_ascii=False))};",
        ]
    )


def listed_targets(comment: str | None) -> list[str]:
    """Return the targets that are paused for all sessions, from the function's COMMENT."""
    return list(json.loads(comment.removeprefix(_LISTED))) if comment and comment.startswith(_LISTED) else []


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
        note_keys(step.edge.target, key),
        *note_missing_keys(plan, step, counted=False),
        *last,
        "RETURN NULL;",
    ]
    comment = "-- Paused: note which targets were touched, for the repair at the end of the pause."
    return "\n".join(["IF tk_is_paused THEN", block(comment), *map(block, lines), "END IF;"])


def noted_columns(key: Sequence[Column]) -> str:
    """Return the name under which ``tk_touched`` holds keys of some columns."""
    return ",".join(column.name for column in key)


def note_keys(target: str, key: Key) -> str:
    """Return the statement that notes the keys in the arrays."""
    values = f"{text_literal(target)}, {text_literal(noted_columns(key.columns))}, {_text(key)}"
    insert = f'INSERT INTO {{:schema}}."tk_touched" (target, key_column, key)\nSELECT {values}\n'
    return f"{insert}FROM unnest({', '.join(key.arrays)}) AS touched ({', '.join(key.names)});"


def _text(key: Key) -> str:
    """Return a touched key as the text that tk_touched holds; no setting of the session changes how it is written."""
    if len(key.names) > 1:
        return f"jsonb_build_array({', '.join(f'touched.{name}' for name in key.names)})::text"
    (name,) = key.names
    return f"touched.{name}::text" if key_type(key.columns[0]) in _PLAIN else f"to_jsonb(touched.{name}) #>> '{{{{}}}}'"
