"""The archive gets what a database can do itself: cascades, SET NULL, and defaults for writers that name no value."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from tests.property.tally import SEQUENCES, document


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the table of what was tried, where it is asked for."""
    path = os.environ.get("TRIGGER_KIT_TALLY")
    if path and SEQUENCES["all"]:
        Path(path).write_text(document(), encoding="utf-8")


_FOREIGN_KEYS = """
SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
WHERE contype = 'f' AND conrelid::regclass::text LIKE 'archive_%%' AND pg_get_constraintdef(oid) NOT LIKE '%%ON DELETE%%'
"""
_COLUMNS_WITHOUT_DEFAULT = r"""
SELECT table_name, column_name, data_type FROM information_schema.columns
WHERE table_name LIKE 'archive_%%' AND is_nullable = 'NO' AND column_default IS NULL AND is_identity = 'NO'
  AND column_name NOT IN ('id', 'code', 'number', 'content_type_id') AND column_name NOT LIKE '%%\_id'
"""
_EMPTY = {"boolean": "false", "integer": "0", "bigint": "0", "numeric": "0", "jsonb": "'{}'"}
_TEXT = "''"
_REPLACE = 'ALTER TABLE {0} DROP CONSTRAINT "{1}", ADD CONSTRAINT "{1}" {2}'
_SET_NULL = ("country_id", "editor_id", "author_id")


@pytest.fixture(scope="module")
def database_actions(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """Let the database delete and re-key children with their parents; other tests find the tables as they were."""
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        cursor.execute(_FOREIGN_KEYS)
        foreign_keys = [found for found in cursor.fetchall() if "django_content_type" not in found[2]]
        cursor.execute(_COLUMNS_WITHOUT_DEFAULT)
        columns = cursor.fetchall()
        for table, name, definition in foreign_keys:
            deletes = "SET NULL" if any(f"({column})" in definition for column in _SET_NULL) else "CASCADE"
            changed = definition.replace(" DEFERRABLE", f" ON UPDATE CASCADE ON DELETE {deletes} DEFERRABLE")
            cursor.execute(_REPLACE.format(table, name, changed))
        for table, column, kind in columns:
            cursor.execute(f"ALTER TABLE {table} ALTER COLUMN {column} SET DEFAULT {_EMPTY.get(kind, _TEXT)}")
    yield
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        for table, name, definition in foreign_keys:
            cursor.execute(_REPLACE.format(table, name, definition))
        for table, column, _ in columns:
            cursor.execute(f"ALTER TABLE {table} ALTER COLUMN {column} DROP DEFAULT")
