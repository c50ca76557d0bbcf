"""OBSERVE: checks of who may do what in a database: whose rights triggers run with, and who could use them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from django.core import checks
from django.core.checks import CheckMessage
from django.db import DatabaseError, InterfaceError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from trigger_kit.database.catalog import located
from trigger_kit.exceptions import TriggerKitError
from trigger_kit.plan.live import live_plans
from trigger_kit.plan.plan import Plan

__all__ = ["check_rights"]

# A superuser's table matters where others may connect: on a developer's own machine there is nobody.
_OWNERS = """
SELECT class.oid::regclass::text, owner.rolname, owner.rolbypassrls,
       owner.rolsuper AND EXISTS (SELECT FROM pg_roles WHERE rolcanlogin AND NOT rolsuper), owner.rolsuper,
       class.relrowsecurity AND class.relforcerowsecurity
FROM pg_class AS class JOIN pg_roles AS owner ON owner.oid = class.relowner
WHERE class.oid = ANY (%s::regclass[])
"""
# PUBLIC has the oid 0, and no name.
_WITH_TRIGGER = """
SELECT class.oid::regclass::text, string_agg(DISTINCT coalesce(grantee.rolname, 'PUBLIC'), ', ')
FROM pg_class AS class
CROSS JOIN aclexplode(class.relacl) AS acl
LEFT JOIN pg_roles AS grantee ON grantee.oid = acl.grantee
WHERE class.oid = ANY (%s::regclass[]) AND acl.privilege_type = 'TRIGGER' AND acl.grantee <> class.relowner
  AND NOT coalesce(grantee.rolsuper, false)
GROUP BY class.oid
"""
# Schemas that functions of ours pin, or that the search_path leads to, with those who may CREATE there: anybody but the
# owner of the schema, superusers, and owners of our functions.
_SCHEMAS = """
SELECT namespace.nspname, string_agg(DISTINCT coalesce(grantee.rolname, 'PUBLIC'), ', '),
       EXISTS (
           SELECT FROM pg_proc AS function, unnest(function.proconfig) AS setting
           WHERE setting LIKE 'search_path=%%' AND obj_description(function.oid, 'pg_proc') LIKE 'trigger_kit: %%'
             AND quote_ident(namespace.nspname) = ANY (
                 string_to_array(replace(substr(setting, length('search_path=') + 1), ' ', ''), ',')
             )
       )
FROM pg_namespace AS namespace
CROSS JOIN aclexplode(namespace.nspacl) AS acl
LEFT JOIN pg_roles AS grantee ON grantee.oid = acl.grantee
WHERE namespace.nspname = ANY (current_schemas(false)) AND namespace.nspname !~ '^pg_'
  AND acl.privilege_type = 'CREATE' AND acl.grantee <> namespace.nspowner AND NOT coalesce(grantee.rolsuper, false)
  AND acl.grantee NOT IN (SELECT relowner FROM pg_class WHERE oid = ANY (%s::regclass[]))
GROUP BY namespace.nspname
ORDER BY namespace.nspname
"""


def check_rights(
    app_configs: Sequence[Any] | None, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Check the rights in the named databases, as far as their catalogs tell."""
    return [message for alias in databases or () for message in _messages(connections[alias])]


def _messages(connection: BaseDatabaseWrapper) -> Iterator[CheckMessage]:
    """Check one database; where it cannot be read, or rules are refused, others have said so."""
    if connection.vendor != "postgresql":
        return
    try:
        plans = live_plans(connection.alias)
        tables = located(connection, {table for plan in plans for table in plan.tables})
        of = {tables[plan.target]: plan for plan in plans if plan.target in tables}
        owners = _rows(connection, _OWNERS, list(tables.values()))
        triggers = _rows(connection, _WITH_TRIGGER, list(of))
        schemas = _rows(connection, _SCHEMAS, list(of))
    except (DatabaseError, InterfaceError, TriggerKitError):
        return
    yield from _superusers(connection, owners, of)
    yield from (_with_trigger(connection, of[table], table, roles) for table, roles in triggers)
    yield from (_schema(connection, *found) for found in schemas)
    yield from _row_security(connection, owners)


def _rows(connection: BaseDatabaseWrapper, sql: str, tables: list[str]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, [tables])
        return list(cursor.fetchall())


def _superusers(
    connection: BaseDatabaseWrapper, owners: Sequence[tuple[Any, ...]], of: dict[str, Plan]
) -> Iterator[CheckMessage]:
    found = [(table, owner) for table, owner, _, is_exposed, *_ in owners if is_exposed and table in of]
    if not found:
        return
    roles = ", ".join(sorted({owner for _, owner in found}))
    text = (
        f"{len(found)} tables with rules (database {connection.alias!r}) belong to a superuser ({roles}): triggers "
        "that others put on them run with a superuser's rights whenever a rule writes a row."
    )
    hint = (
        "On a server that matters, let the tables belong to a plain role (ALTER TABLE … OWNER TO …), and install again."
    )
    yield checks.Info(text, hint=hint, id="trigger_kit.W017")


def _with_trigger(connection: BaseDatabaseWrapper, plan: Plan, table: str, roles: str) -> CheckMessage:
    text = (
        f"{', '.join(plan.uris)} (database {connection.alias!r}): {roles} may put triggers on {table}, which then run "
        "with the rights of its owner whenever a rule writes a row."
    )
    return checks.Warning(text, hint=f"REVOKE TRIGGER ON {table} FROM {roles};", id="trigger_kit.W018")


def _schema(connection: BaseDatabaseWrapper, schema: str, roles: str, is_pinned: bool) -> CheckMessage:
    revoke = f"REVOKE CREATE ON SCHEMA {schema} FROM {roles};"
    if is_pinned:
        text = (
            f"{roles} may CREATE in the schema {schema} (database {connection.alias!r}), where the functions of rules "
            "look for operators: one that fits better than PostgreSQL's own would run as their owner."
        )
        return checks.Warning(text, hint=revoke, id="trigger_kit.W019")
    text = (
        f"The functions of rules do not look into the schema {schema} (database {connection.alias!r}), because {roles} "
        "may CREATE there: triggers of yours on targets must name its tables with the schema."
    )
    return checks.Info(text, hint=f"{revoke} Then install again.", id="trigger_kit.W019")


def _row_security(connection: BaseDatabaseWrapper, owners: Sequence[tuple[Any, ...]]) -> Iterator[CheckMessage]:
    for table, owner, bypasses, _, is_super, is_forced in owners:
        if is_forced and not is_super and not bypasses:
            text = (
                f"{table} (database {connection.alias!r}) has FORCE ROW LEVEL SECURITY, which holds for its owner "
                f"{owner} too: functions of rules would see a part of its rows, and fail instead."
            )
            hint = (
                f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY; or let it belong to a role with BYPASSRLS that "
                "nobody logs in as. docs/security.md has the reason."
            )
            yield checks.Warning(text, hint=hint, id="trigger_kit.W020")
