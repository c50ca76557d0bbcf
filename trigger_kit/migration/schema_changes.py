"""INSTALL: schema changes underneath installed triggers.

PostgreSQL refuses to alter the type of a column that a trigger's WHEN names. The schema editor takes such triggers of
ours aside for the change and puts them back as they were, comment and enabled state included. What is pending under
a key of the old type is folded first.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.models import Field, Model

from trigger_kit.database.catalog import state_sql
from trigger_kit.resolve.columns import Column, key_type
from trigger_kit.sql.text import CHECK_NOW, identifier, literal, plain_name
from trigger_kit.sql.trigger import Comment

__all__ = ["alter_field"]

_DEPENDENT_TRIGGERS = """
SELECT DISTINCT trigger.tgname, trigger.tgenabled::text, pg_get_triggerdef(trigger.oid),
       obj_description(trigger.oid, 'pg_trigger')
FROM pg_trigger AS trigger
JOIN pg_depend AS dependency
  ON dependency.classid = 'pg_trigger'::regclass AND dependency.objid = trigger.oid
JOIN pg_attribute AS attribute
  ON attribute.attrelid = dependency.refobjid AND attribute.attnum = dependency.refobjsubid
WHERE trigger.tgrelid = to_regclass(%s) AND attribute.attrelid = trigger.tgrelid AND attribute.attname = %s
"""


_QUEUE = """
SELECT namespace.nspname
FROM pg_class AS queue
JOIN pg_namespace AS namespace ON namespace.oid = queue.relnamespace
JOIN pg_class AS target ON target.relnamespace = queue.relnamespace
JOIN pg_attribute AS attribute ON attribute.attrelid = queue.oid
WHERE queue.relname = %s AND target.oid = to_regclass(%s) AND attribute.attname = %s
  AND EXISTS (SELECT FROM pg_index WHERE indrelid = queue.oid AND attribute.attnum = ANY (indkey))
"""


def alter_field(
    original: Any,
    editor: BaseDatabaseSchemaEditor,
    model: type[Model],
    old_field: Field[Any, Any],
    new_field: Field[Any, Any],
    old_type: str,
    new_type: str,
    *args: Any,
    **kwargs: Any,
) -> None:
    """Alter a column, our triggers aside where its type is another one."""

    def change() -> None:
        original(editor, model, old_field, new_field, old_type, new_type, *args, **kwargs)

    if old_type == new_type:
        change()
        return
    table, column = model._meta.db_table, str(old_field.column)
    with _triggers_aside(editor, table, column):
        _alter_queue(editor, Column(table, column, new_type.partition("(")[0]))
        change()


def _alter_queue(editor: BaseDatabaseSchemaEditor, column: Column) -> None:
    """Fold what is pending for a table whose key becomes another type, and let the queue's key become it too."""
    table, new_type = column.table, key_type(column)
    name = plain_name("tk_pending_", table)
    with editor.connection.cursor() as cursor:
        cursor.execute(_QUEUE, [name, editor.connection.ops.quote_name(table), column.name])
        row = cursor.fetchone()
    if row is None:
        return
    schema, quoted = identifier(row[0]), identifier(column.name)
    editor.execute(f"SELECT {schema}.{identifier(plain_name('tk_flush_', table))}();", params=None)
    editor.execute(CHECK_NOW, params=None)
    altered = f"ALTER COLUMN {quoted} TYPE {new_type} USING {quoted}::{new_type}"
    editor.execute(f"ALTER TABLE {schema}.{identifier(name)} {altered};", params=None)


@contextmanager
def _triggers_aside(editor: BaseDatabaseSchemaEditor, table: str, column: str) -> Iterator[None]:
    """Drop our triggers that name a column, and create them again afterwards."""
    quoted = editor.connection.ops.quote_name(table)
    with editor.connection.cursor() as cursor:
        cursor.execute(_DEPENDENT_TRIGGERS, [quoted, column])
        triggers = [row for row in cursor.fetchall() if Comment.read(row[3])]
    for name, *_ in triggers:
        editor.execute(f'DROP TRIGGER "{name}" ON {quoted};', params=None)
    yield
    for name, enabled, definition, comment in triggers:
        editor.execute(f"{definition};", params=None)
        editor.execute(f"COMMENT ON TRIGGER {identifier(name)} ON {quoted} IS {literal(comment)};", params=None)
        if state := state_sql(quoted, name, enabled):
            editor.execute(state, params=None)
