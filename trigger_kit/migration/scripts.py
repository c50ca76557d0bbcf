"""INSTALL: what a migration operation does, or has written down for sqlmigrate."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import transaction
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

from trigger_kit.database.changeover import Run

__all__ = ["executor", "in_transaction"]


def executor(schema_editor: BaseDatabaseSchemaEditor) -> Run | None:
    """Return what collects SQL for sqlmigrate; None where it shall be run."""

    def collect(sql: str) -> None:
        schema_editor.execute(sql, params=None)

    return collect if schema_editor.collect_sql else None


@contextmanager
def in_transaction(schema_editor: BaseDatabaseSchemaEditor) -> Iterator[Run | None]:
    """Do everything in one transaction, also where the migration is none; yield the executor.

    Locks are held until its end, and so long the guard knows who writes.
    """
    collect = executor(schema_editor)
    if collect is None:
        with transaction.atomic(using=schema_editor.connection.alias):
            yield None
    elif schema_editor.atomic_migration:
        yield collect
    else:
        collect("BEGIN;")
        yield collect
        collect("COMMIT;")
