"""COMPILE the pause: a step that only notes which targets it has touched, for the repair at its end.

One function of each schema says who is paused: this session, by a setting, and the targets whose names stand in it, for
everybody. Pausing a target replaces that function. Its COMMENT has the names again, for who asks.

Whoever is paused takes the locks along the paths all the same, and notes parents that are not there: others go on
meanwhile, and must not change which targets the rows lead to before these rows can be seen.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from trigger_kit.plan.plan import Plan
from trigger_kit.resolve.columns import Column, key_type
from trigger_kit.sql.function import Function, call
from trigger_kit.sql.paths import Key
from trigger_kit.sql.text import escape_braces, literal, on_lines, text_literal

__all__ = [
    "PAUSE_FUNCTION",
    "is_paused",
    "listed_targets",
    "note_keys",
    "noted_columns",
    "pause_function",
]

PAUSE_FUNCTION = "tk_is_paused_v1"
_LISTED = "trigger_kit: paused "

# Types whose text is the same in every session.
_PLAIN = {"bigint", "integer", "smallint", "numeric", "text", "uuid", "varchar"}


def is_paused(plan: Plan) -> str:
    """Return the condition under which the steps of a target only note what they would do."""
    return call(PAUSE_FUNCTION, f"{text_literal(plan.target)}::text")


def pause_function(targets: Iterable[str]) -> Function:
    """Return the function that says who is paused; ``targets`` are for all sessions, by their table."""
    names = sorted(targets)
    body = (
        "-- Whether triggers only note what they would do: in this session, or in all for the targets listed here.\n"
        "SELECT coalesce(current_setting('trigger_kit.paused', true), '') = 'on' "
        f"OR target = ANY ({literal(names)}::text[])"
    )
    return Function(
        PAUSE_FUNCTION,
        escape_braces(body),
        (("target", "text"),),
        "boolean",
        language="sql",
        volatility="STABLE",
        comment=_LISTED + json.dumps(names, ensure_ascii=False),
    )


def listed_targets(comment: str | None) -> list[str]:
    """Return the targets that are paused for all sessions, from the function's COMMENT."""
    return list(json.loads(comment.removeprefix(_LISTED))) if comment and comment.startswith(_LISTED) else []


def noted_columns(key: Sequence[Column]) -> str:
    """Return the name under which ``tk_touched`` holds keys of some columns."""
    return ",".join(column.name for column in key)


def note_keys(target: str, key: Key) -> str:
    """Return the statement that notes the keys in the arrays."""
    values = f"{text_literal(target)}, {text_literal(noted_columns(key.columns))}, {_text(key)}"
    insert = 'INSERT INTO {:schema}."tk_touched" (target, key_column, key)'
    rows = f"FROM unnest({', '.join(key.arrays)}) AS touched ({', '.join(key.names)});"
    return f"{insert}\n{on_lines(f'SELECT {values}', rows)}"


def _text(key: Key) -> str:
    """Return a touched key as the text that tk_touched holds; no setting of the session changes how it is written."""
    if len(key.names) > 1:
        return f"jsonb_build_array({', '.join(f'touched.{name}' for name in key.names)})::text"
    (name,) = key.names
    return f"touched.{name}::text" if key_type(key.columns[0]) in _PLAIN else f"to_jsonb(touched.{name}) #>> '{{{{}}}}'"
