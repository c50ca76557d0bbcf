"""INSTALL: schema changes underneath installed triggers.

PostgreSQL refuses to alter the type of a column that a trigger's WHEN names. The schema editor takes such triggers of
ours aside for the change and puts them back as they were, comment and enabled state included. What is pending under
a key of the old type is folded first.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.postgresql.schema import DatabaseSchemaEditor
from django.db.models import Field, Model
from django.db.utils import load_backend

from trigger_kit.database.catalog import state_sql
from trigger_kit.resolve.columns import Column, key_type
from trigger_kit.sql import Comment
from trigger_kit.sql.text import CHECK_NOW, identifier, literal, plain_name

__all__ = ["RuleSchemaEditorMixin", "patch_schema_editors"]

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


class RuleSchemaEditorMixin(DatabaseSchemaEditor):
    """Alters the type of kept columns; everything else is the backend's."""

    def _alter_field(
        self,
        model: type[Model],
        old_field: Field[Any, Any],
        new_field: Field[Any, Any],
        old_type: str,
        new_type: str,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        parent: Any = super()
        if old_type == new_type:
            parent._alter_field(model, old_field, new_field, old_type, new_type, *args, **kwargs)
            return
        with self._triggers_aside(model._meta.db_table, str(old_field.column)):
            self._alter_queue(Column(model._meta.db_table, str(old_field.column), new_type.partition("(")[0]))
            parent._alter_field(model, old_field, new_field, old_type, new_type, *args, **kwargs)

    def _alter_queue(self, column: Column) -> None:
        """Fold what is pending for a table whose key becomes another type, and let the queue's key become it too."""
        table, new_type = column.table, key_type(column)
        name = plain_name("tk_pending_", table)
        with self.connection.cursor() as cursor:
            cursor.execute(_QUEUE, [name, self.connection.ops.quote_name(table), column.name])
            row = cursor.fetchone()
        if row is None:
            return
        schema, quoted = identifier(row[0]), identifier(column.name)
        self.execute(f"SELECT {schema}.{identifier(plain_name('tk_flush_', table))}();", params=None)
        self.execute(CHECK_NOW, params=None)
        altered = f"ALTER COLUMN {quoted} TYPE {new_type} USING {quoted}::{new_type}"
        self.execute(f"ALTER TABLE {schema}.{identifier(name)} {altered};", params=None)

    @contextmanager
    def _triggers_aside(self, table: str, column: str) -> Iterator[None]:
        """Drop our triggers that name a column, and create them again afterwards."""
        quoted = self.connection.ops.quote_name(table)
        with self.connection.cursor() as cursor:
            cursor.execute(_DEPENDENT_TRIGGERS, [quoted, column])
            triggers = [row for row in cursor.fetchall() if Comment.read(row[3])]
        for name, *_ in triggers:
            self.execute(f'DROP TRIGGER "{name}" ON {quoted};', params=None)
        yield
        for name, enabled, definition, comment in triggers:
            self.execute(f"{definition};", params=None)
            self.execute(f"COMMENT ON TRIGGER {identifier(name)} ON {quoted} IS {literal(comment)};", params=None)
            if state := state_sql(quoted, name, enabled):
                self.execute(state, params=None)


def patch_schema_editors() -> None:
    """Give the PostgreSQL backends of this project a schema editor that knows our triggers."""
    for config in settings.DATABASES.values():
        backend: type[BaseDatabaseWrapper] = load_backend(config["ENGINE"]).DatabaseWrapper
        current = backend.SchemaEditorClass
        if current and issubclass(current, DatabaseSchemaEditor) and not issubclass(current, RuleSchemaEditorMixin):
            backend.SchemaEditorClass = type("DatabaseSchemaEditor", (RuleSchemaEditorMixin, current), {})
