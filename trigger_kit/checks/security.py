"""Check databases for roles that could make our functions run what is theirs; ``docs/security.md`` explains it all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from django.core import checks
from django.core.checks import CheckMessage
from django.db import DatabaseError, InterfaceError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from trigger_kit.database.catalog import Placement, installed_triggers
from trigger_kit.database.trust import foreign_objects
from trigger_kit.exceptions import TriggerKitError
from trigger_kit.plan.live import live_plans
from trigger_kit.plan.plan import Plan
from trigger_kit.sql.text import identifier

__all__ = ["check_security", "check_superusers"]

_OWNER = "SELECT oid::regclass::text, relowner::regrole::text, {} FROM pg_class WHERE oid = %(table)s::regclass"
_SUPERUSER = _OWNER.format("(SELECT rolsuper FROM pg_roles WHERE pg_roles.oid = relowner)")
_WITH_TRIGGER = _OWNER.format("""(
    SELECT string_agg(DISTINCT CASE WHEN acl.grantee = 0 THEN 'PUBLIC' ELSE acl.grantee::regrole::text END, ', ')
    FROM aclexplode(relacl) AS acl
    WHERE acl.privilege_type = 'TRIGGER' AND acl.grantee <> relowner
      AND acl.grantee NOT IN (SELECT pg_roles.oid FROM pg_roles WHERE rolsuper)
)""")
_OTHER_OWNER = """
SELECT target.oid::regclass::text, target.relowner::regrole::text,
       string_agg(DISTINCT function.proowner::regrole::text, ', ')
FROM pg_class AS target
JOIN pg_proc AS function ON function.pronamespace = target.relnamespace AND function.proname = ANY (%(functions)s)
WHERE target.oid = %(table)s::regclass AND function.proowner <> target.relowner
GROUP BY 1, 2
"""
# PostgreSQL asks for the owner of a table first: policies concern him by FORCE only.
_POLICIES = """
SELECT class.oid::regclass::text, role.rolname, class.relforcerowsecurity
FROM pg_class AS class
JOIN pg_class AS target ON target.oid = %(table)s::regclass
JOIN pg_roles AS role ON role.oid = target.relowner
WHERE class.oid = ANY (%(tables)s::text[]::regclass[]) AND class.relrowsecurity
  AND NOT role.rolsuper AND NOT role.rolbypassrls
  AND (class.relforcerowsecurity OR NOT pg_has_role(role.oid, class.relowner, 'USAGE'))
ORDER BY 1
"""
_PINNED = """
SELECT DISTINCT namespace.nspname
FROM pg_proc AS function
CROSS JOIN unnest(function.proconfig) AS setting
JOIN pg_namespace AS namespace
    ON quote_ident(namespace.nspname) = ANY (string_to_array(substr(setting, 13), ', '))
WHERE setting LIKE 'search_path=%%' AND function.pronamespace = to_regnamespace(quote_ident(%(schema)s))
  AND function.prosecdef AND function.proname = ANY (%(functions)s)
"""
_OURS = """
SELECT DISTINCT proname FROM pg_proc
WHERE pronamespace = to_regnamespace(quote_ident(%(schema)s)) AND proname ~ '^~?tk_'
"""


Finder = Callable[[list["Ground"]], Iterator[CheckMessage]]


class Ground:
    """A target that has triggers of ours: its plan, where it is, and the names of its trigger functions."""

    def __init__(self, plan: Plan, place: Placement, functions: list[str]) -> None:
        self.plan = plan
        self.place = place
        self.functions = functions
        self.label = plan.model._meta.label

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        """Ask the catalog about it."""
        tables = [self.place(table) for table in self.plan.tables if self.place.has(table)]
        params: dict[str, Any] = {
            "table": self.place(self.plan.target),
            "tables": tables,
            "schema": self.place.schema,
            "functions": self.functions,
        }
        with self.place.connection.cursor() as cursor:
            cursor.execute(sql, params)
            return list(cursor.fetchall())


def check_security(
    app_configs: Sequence[Any] | None, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Check the named databases for rights that are more than somebody may have meant to give."""
    finders = (_with_trigger, _open_schemas, _strangers, _policies, _other_owners)
    return [message for alias in databases or () for message in _unsafe(connections[alias], finders)]


def check_superusers(
    app_configs: Sequence[Any] | None, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Check that no superuser owns targets in the named databases: for ``check --deploy``."""
    return [message for alias in databases or () for message in _unsafe(connections[alias], (_superusers,))]


def _unsafe(connection: BaseDatabaseWrapper, finders: Iterable[Finder]) -> list[CheckMessage]:
    """Check one database; where it cannot be read, or rules are refused, others have said so."""
    if connection.vendor != "postgresql":
        return []
    try:
        grounds = _grounds(connection)
        return [message for find in finders for message in find(grounds)]
    except (DatabaseError, InterfaceError, TriggerKitError):
        return []


def _grounds(connection: BaseDatabaseWrapper) -> list[Ground]:
    names: dict[tuple[str, str], list[str]] = {}
    for item in installed_triggers(connection):
        names.setdefault((item.schema, item.target), []).append(item.name)
    grounds = []
    for plan in live_plans(connection.alias) if names else ():
        place = Placement(connection, plan.target)
        if place.has(plan.target) and (place.schema, plan.target) in names:
            grounds.append(Ground(plan, place, names[place.schema, plan.target]))
    return grounds


def _superusers(grounds: Iterable[Ground]) -> Iterator[CheckMessage]:
    """Tell of all targets at once: who owns one owns most of them."""
    found = [(ground.label, owner) for ground in grounds for _, owner, is_super in ground.ask(_SUPERUSER) if is_super]
    if found:
        labels = [label for label, _ in found]
        more = f" and {len(labels) - 3} more" if len(labels) > 3 else ""
        roles = ", ".join(sorted({owner for _, owner in found}))
        yield checks.Warning(
            f"The triggers of {', '.join(labels[:3])}{more} run as {roles}, a superuser who owns these tables, and so "
            "does every trigger that somebody else puts on them.",
            hint="Let a role of its own have them: ALTER TABLE … OWNER TO …, then manage.py trigger_kit "
            "install. See docs/security.md.",
            id="trigger_kit.W017",
        )


def _with_trigger(grounds: Iterable[Ground]) -> Iterator[CheckMessage]:
    for ground in grounds:
        for table, owner, roles in ground.ask(_WITH_TRIGGER):
            if roles:
                yield checks.Warning(
                    f"{ground.label}: {roles} may create triggers on {table}. Maintenance writes it as {owner}, and "
                    "such a trigger then does what it likes as this role.",
                    hint=f"REVOKE TRIGGER ON {table} FROM {roles}.",
                    id="trigger_kit.W018",
                )


def _open_schemas(grounds: Iterable[Ground]) -> Iterator[CheckMessage]:
    """Tell of schemas in which others may create objects, once for each: those left out, and those looked into."""
    left_out: dict[tuple[str, str], list[str]] = {}
    pinned: dict[tuple[str, str], list[str]] = {}
    for ground in grounds:
        known = {name for (name,) in ground.ask(_PINNED)}
        for schema, roles in ground.place.open_schemas(sorted(known)):
            pinned.setdefault((schema, roles), []).append(ground.label)
        for schema, roles in ground.place.left_out:
            if schema not in known:
                left_out.setdefault((schema, roles), []).append(ground.label)
    for (schema, roles), labels in pinned.items():
        yield _open_schema(
            schema,
            roles,
            f"The triggers of {', '.join(labels)} look into the schema {schema}, in which {roles} may create objects "
            "by now: an operator of theirs would run as the owner of the table.",
        )
    for (schema, roles), labels in left_out.items():
        yield _open_schema(
            schema,
            roles,
            f"The triggers of {', '.join(labels)} do not look into the schema {schema}, in which {roles} may create "
            "objects: triggers of your own that fire behind them find nothing there unless they name the schema.",
        )


def _open_schema(schema: str, roles: str, text: str) -> CheckMessage:
    hint = f"REVOKE CREATE ON SCHEMA {identifier(schema)} FROM {roles}, then run manage.py trigger_kit install."
    return checks.Warning(text, hint=hint, id="trigger_kit.W019")


def _strangers(grounds: Iterable[Ground]) -> Iterator[CheckMessage]:
    """Tell of functions that have the names of ours, and that a call might choose instead."""
    for schema in dict.fromkeys(ground.place.schema for ground in grounds):
        first = next(ground for ground in grounds if ground.place.schema == schema)
        names = tuple(name for (name,) in first.ask(_OURS))
        for kind, name, owner in foreign_objects(first.place.connection, schema, names):
            if kind == "function":
                yield checks.Warning(
                    f"{owner} owns a function {name} in the schema {schema}: who calls ours might run this one.",
                    hint=f"Look at it, drop it, and REVOKE CREATE ON SCHEMA {identifier(schema)} FROM {owner}.",
                    id="trigger_kit.W020",
                )


def _policies(grounds: Iterable[Ground]) -> Iterator[CheckMessage]:
    for ground in grounds:
        for table, owner, is_forced in ground.ask(_POLICIES):
            way_out = f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY" if is_forced else f"let {owner} own {table}"
            yield checks.Warning(
                f"{ground.label}: row-level security of {table} holds for {owner} too, as whom its triggers run. They "
                "would not see every row, so that whoever writes gets an error instead.",
                hint=f"ALTER ROLE {owner} BYPASSRLS, or {way_out}.",
                id="trigger_kit.W021",
            )


def _other_owners(grounds: Iterable[Ground]) -> Iterator[CheckMessage]:
    for ground in grounds:
        for table, owner, roles in ground.ask(_OTHER_OWNER):
            yield checks.Warning(
                f"{ground.label}: its triggers run as {roles}, but {table} belongs to {owner}.",
                hint=f"Run manage.py migrate, or manage.py trigger_kit install {ground.label}.",
                id="trigger_kit.W022",
            )
