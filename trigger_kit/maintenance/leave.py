"""OPERATE: take everything of ours out of a database, in whatever schema: a project leaves trigger_kit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.db import DEFAULT_DB_ALIAS
from django.db.backends.base.base import BaseDatabaseWrapper

from trigger_kit.database.catalog import installed_triggers
from trigger_kit.database.converge import runner
from trigger_kit.database.installation import require_postgresql
from trigger_kit.database.table_locks import lock_statement, patiently
from trigger_kit.database.trust import require_trusted
from trigger_kit.exceptions import TriggerKitError
from trigger_kit.maintenance.switched import Switched, counted, read_committed
from trigger_kit.sql.text import CHECK_NOW, identifier

__all__ = ["uninstall_all"]

# Objects of ours, in the order to drop them: their schema, what they are, their SQL name.
_OBJECTS = r"""
SELECT namespace.nspname, 'view', class.oid::regclass::text
FROM pg_class AS class JOIN pg_namespace AS namespace ON namespace.oid = class.relnamespace
WHERE class.relkind = 'v' AND class.relname ~ '^tk_exact_'
  AND pg_get_viewdef(class.oid) LIKE '%tk\_exact\_%()%'
UNION ALL
SELECT namespace.nspname, 'table', class.oid::regclass::text
FROM pg_class AS class JOIN pg_namespace AS namespace ON namespace.oid = class.relnamespace
WHERE class.relkind = 'r' AND class.relname ~ '^tk_' AND obj_description(class.oid, 'pg_class') LIKE 'trigger_kit: %'
UNION ALL
SELECT namespace.nspname, 'function', function.oid::regprocedure::text
FROM pg_proc AS function JOIN pg_namespace AS namespace ON namespace.oid = function.pronamespace
WHERE function.proname ~ '^~?tk_' AND obj_description(function.oid, 'pg_proc') LIKE 'trigger_kit: %'
"""
_FLUSHES = """
SELECT nspname, proname
FROM pg_proc AS function JOIN pg_namespace AS namespace ON namespace.oid = function.pronamespace
WHERE proname ~ '^tk_flush_' AND obj_description(function.oid, 'pg_proc') LIKE 'trigger_kit: %'
ORDER BY 1, 2
"""


def uninstall_all(*, using: str = DEFAULT_DB_ALIAS, dry_run: bool = False) -> Iterator[Switched]:
    """Drop every trigger, function, table and view of ours, and yield what went from each schema; values stay.

    What is pending for QUEUED rules is folded first, what DEFERRED ones have noted is settled.

    Raises TriggerKitError where triggers are paused for all sessions.
    """
    connection = require_postgresql(using)
    paused = sorted({item.target for item in installed_triggers(connection) if item.is_paused})
    if paused:
        raise TriggerKitError(
            f"The rules that keep {', '.join(paused)} are paused, and their values out of date: run trigger_kit resume "
            "first."
        )
    with read_committed(connection):
        patiently(connection, lambda: _lock(connection))
        counts = _count(connection)
        if not dry_run:
            _settle(connection)
            _drop(connection)
    for schema, kinds in sorted(counts.items()):
        yield Switched("-", schema, ", ".join(counted(number, kind) for kind, number in sorted(kinds.items())))


def _lock(connection: BaseDatabaseWrapper) -> None:
    """Lock the tables that triggers sit on: no writer may see half of them."""
    tables = sorted({item.sql_table for item in installed_triggers(connection)})
    if tables:
        runner(connection)(lock_statement(tables, "ACCESS EXCLUSIVE"))


def _count(connection: BaseDatabaseWrapper) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {}
    objects = [(item.table_schema, "trigger") for item in installed_triggers(connection)]
    for schema, kind in [*objects, *((schema, kind) for schema, kind, _ in _objects(connection))]:
        kinds = counts.setdefault(schema, {})
        kinds[kind] = kinds.get(kind, 0) + 1
    return counts


def _objects(connection: BaseDatabaseWrapper) -> list[tuple[str, str, str]]:
    return list(_rows(connection, _OBJECTS))


def _settle(connection: BaseDatabaseWrapper) -> None:
    """Bring to the targets what waits: in queues, and in notes of this transaction."""
    run = runner(connection)
    for schema, name in _rows(connection, _FLUSHES):
        require_trusted(connection, schema, name)
        run(f"SELECT {identifier(schema)}.{identifier(name)}(NULL::bigint, false)")
    for sql in CHECK_NOW.splitlines():
        run(sql)


def _drop(connection: BaseDatabaseWrapper) -> None:
    run = runner(connection)
    for item in installed_triggers(connection):
        run(f"DROP TRIGGER {identifier(item.trigger)} ON {item.sql_table}")
    for _, kind, name in _objects(connection):
        run(f"DROP {kind.upper()} IF EXISTS {name} CASCADE")


def _rows(connection: BaseDatabaseWrapper, sql: str) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall())
