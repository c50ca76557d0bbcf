"""OPERATE: what trigger_kit remembers in a database: tk_state, a table beside the targets of each schema.

A record belongs to a rule, or to whatever its name says, and is of one kind, such as ``backfill``; its value is JSON.
"""

from __future__ import annotations

import json
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from trigger_kit.database.trust import require_trusted
from trigger_kit.sql.shared import CREATE_STATE
from trigger_kit.sql.text import identifier

__all__ = ["forget_record", "read_records", "write_record"]


def read_records(connection: BaseDatabaseWrapper, schema: str, kind: str) -> dict[str, Any]:
    """Return the values of one kind by name; none where nothing was ever written."""
    if not _is_there(connection, schema):
        return {}
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT name, value::text FROM {_table(schema)} WHERE kind = %s ORDER BY name", [kind])
        return {name: json.loads(value) for name, value in cursor.fetchall()}


def write_record(connection: BaseDatabaseWrapper, schema: str, name: str, kind: str, value: Any) -> None:
    """Remember a value, in the current transaction; it replaces the one of the same name and kind."""
    is_there = _is_there(connection, schema)
    with connection.cursor() as cursor:
        if not is_there:
            cursor.execute(CREATE_STATE.replace("{:schema}", identifier(schema)), None)
        cursor.execute(
            f"INSERT INTO {_table(schema)} (name, kind, value) VALUES (%s, %s, %s::jsonb) "
            "ON CONFLICT (name, kind) DO UPDATE SET value = EXCLUDED.value, at = clock_timestamp()",
            [name, kind, json.dumps(value, default=str)],
        )


def forget_record(connection: BaseDatabaseWrapper, schema: str, name: str, kind: str) -> None:
    """Forget a value, in the current transaction."""
    if _is_there(connection, schema):
        with connection.cursor() as cursor:
            cursor.execute(f"DELETE FROM {_table(schema)} WHERE name = %s AND kind = %s", [name, kind])


def _is_there(connection: BaseDatabaseWrapper, schema: str) -> bool:
    """Whether the table is there; nothing is read from one that somebody else has put there, or written to it."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass(%s)", [_table(schema)])
        is_there: bool = cursor.fetchone() != (None,)
    if is_there:
        require_trusted(connection, schema, "tk_state")
    return is_there


def _table(schema: str) -> str:
    return f'{identifier(schema)}."tk_state"'
