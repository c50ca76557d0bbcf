"""INSTALL: who may own what is read or called by name: whoever may create objects could have put it there first."""

from __future__ import annotations

from django.apps import apps
from django.db.backends.base.base import BaseDatabaseWrapper

from trigger_kit.exceptions import TriggerKitError
from trigger_kit.resolve.declared import declared

__all__ = ["foreign_objects", "require_trusted"]

# The tables of rules, and the one that says who migrates, are where nobody else can put them.
_FOREIGN = """
SELECT there.kind, there.name, there.owner::regrole::text
FROM (
    SELECT 'table' AS kind, relname AS name, relowner AS owner, relnamespace AS schema FROM pg_class
    UNION ALL SELECT 'function', proname, proowner, pronamespace FROM pg_proc
) AS there
WHERE there.schema = to_regnamespace(quote_ident(%(schema)s)) AND there.name = ANY (%(names)s::text[])
  AND there.owner NOT IN (
    SELECT oid FROM pg_roles WHERE rolsuper OR rolname = current_user
    UNION SELECT nspowner FROM pg_namespace WHERE oid = there.schema
    UNION SELECT datdba FROM pg_database WHERE datname = current_database()
    UNION SELECT relowner FROM pg_class
    WHERE oid IN (SELECT to_regclass(name) FROM unnest(%(tables)s::text[]) AS name)
  )
ORDER BY 1, 2
"""


def require_trusted(connection: BaseDatabaseWrapper, schema: str, *names: str) -> None:
    """Raise TriggerKitError where tables or functions of these names are there that somebody else has made."""
    for kind, name, owner in foreign_objects(connection, schema, names):
        raise TriggerKitError(
            f"Somebody else owns the {kind} {name} in the schema {schema}: the role {owner}. Drop it, or let it belong "
            "to the owner of the models' tables."
        )


def foreign_objects(connection: BaseDatabaseWrapper, schema: str, names: tuple[str, ...]) -> list[tuple[str, str, str]]:
    """Return kind, name and owner of tables and functions of these names that somebody else has made."""
    tables = [connection.ops.quote_name(model._meta.db_table) for model, _ in declared(apps)]
    with connection.cursor() as cursor:
        cursor.execute(_FOREIGN, {"schema": schema, "names": list(names), "tables": [*tables, "django_migrations"]})
        return list(cursor.fetchall())
