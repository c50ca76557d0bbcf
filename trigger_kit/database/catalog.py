"""INSTALL: what a database has installed now, and where its tables live."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from trigger_kit.exceptions import TriggerKitError
from trigger_kit.sql.pausing import PAUSE_FUNCTION, listed_targets
from trigger_kit.sql.text import (
    REGCLASS,
    SCHEMA,
    SCHEMA_TAG,
    SEARCH_PATH,
    identifier,
    literal,
    short_digest,
)
from trigger_kit.sql.trigger import TEMPLATE_VERSION, Comment, CompiledTrigger

__all__ = [
    "OWN_TABLES",
    "InstalledTrigger",
    "Placement",
    "find_triggers",
    "has_table",
    "installed_triggers",
    "search_path",
    "state_sql",
    "trigger_status",
]


# Tables of ours, in the schema of each target.
OWN_TABLES = ("tk_touched", "tk_waiting", "tk_commit")


@dataclass(frozen=True)
class InstalledTrigger:
    """A trigger of ours in the catalog.

    ``name`` and ``schema`` are its function's; the trigger's own name, ``trigger``, is longer on a table of another
    schema, ``table_schema``. ``enabled`` is pg_trigger's ``tgenabled``, ``comment`` what its COMMENT says: whose it is.
    ``is_paused`` says that its target is paused for all sessions: what can only notes what it would do.
    """

    name: str
    schema: str
    table: str
    enabled: str
    comment: Comment
    trigger: str
    table_schema: str
    table_name: str
    is_paused: bool = False

    @property
    def sql_table(self) -> str:
        """The table that it sits on, as SQL that means it whatever the search_path is."""
        return f"{identifier(self.table_schema)}.{identifier(self.table_name)}"

    @property
    def target(self) -> str:
        """The ``db_table`` of the target that it serves."""
        return self.comment.target

    def is_made_from(self, compiled: CompiledTrigger) -> bool:
        """Whether it was made from this text, by this version of the template."""
        return self.comment.text == compiled.digest and self.comment.version == TEMPLATE_VERSION


class Placement:
    """Resolves the placeholders of compiled text in one database, as its search_path stands now.

    ``owner`` is the ``db_table`` whose schema the functions go to, unless ``schema`` names another one. A table that
    does not exist yet is taken to come into the current schema.
    """

    def __init__(self, connection: BaseDatabaseWrapper, owner: str, schema: str | None = None) -> None:
        self.connection = connection
        self.owner = owner
        self._schema = schema
        self._tables: dict[str, tuple[str, str] | None] = {}
        self._path: list[tuple[str, str]] | None = None

    def __call__(self, placeholder: str) -> str:
        """Return the SQL that a placeholder stands for."""
        if placeholder == SCHEMA:
            return identifier(self.schema)
        if placeholder == SCHEMA_TAG:
            return short_digest(self.schema)
        if placeholder == SEARCH_PATH:
            return ", ".join(["pg_catalog", *map(identifier, self.path), "pg_temp"])
        if placeholder.startswith(REGCLASS):
            return f"{literal(self(placeholder.removeprefix(REGCLASS)))}::regclass"
        if placeholder in OWN_TABLES:
            return f"{identifier(self.schema)}.{identifier(placeholder)}"
        return ".".join(map(identifier, self._locate(placeholder)))

    @property
    def schema(self) -> str:
        """The schema of the owner's table."""
        return self._schema or self._locate(self.owner)[0]

    @property
    def path(self) -> list[str]:
        """The schemas that functions look into: those of the search_path in which nobody else may create anything."""
        return [name for name, roles in self._looked_up() if not roles]

    @property
    def left_out(self) -> list[tuple[str, str]]:
        """The schemas of the search_path that are left out, and who may create operators there, in words."""
        return [(name, roles) for name, roles in self._looked_up() if roles]

    def open_schemas(self, schemas: list[str]) -> list[tuple[str, str]]:
        """Return those of some schemas in which others may create something, and who may, in words."""
        return [(name, roles) for name, roles in self._who_creates(schemas) if roles]

    def _looked_up(self) -> list[tuple[str, str]]:
        if self._path is None:
            self._path = self._who_creates(search_path(self.connection))
        return self._path

    def _who_creates(self, schemas: list[str]) -> list[tuple[str, str]]:
        with self.connection.cursor() as cursor:
            cursor.execute(_PATH, {"table": _quoted(self.connection, self.owner), "path": schemas})
            return list(cursor.fetchall())

    def has(self, table: str) -> bool:
        """Whether a table is there, named by its ``db_table``."""
        return self._find(table) is not None

    def schema_of(self, table: str) -> str:
        """Return the schema of a table, named by its ``db_table``."""
        return self.schema if table in OWN_TABLES else self._locate(table)[0]

    def _locate(self, table: str) -> tuple[str, str]:
        return self._find(table) or (_current_schema(self.connection), table)

    def _find(self, table: str) -> tuple[str, str] | None:
        if table not in self._tables:
            name = self(table) if table in OWN_TABLES else _quoted(self.connection, table)
            self._tables[table] = _row(self.connection, _LOCATION, [name])
        return self._tables[table]


def _current_schema(connection: BaseDatabaseWrapper) -> str:
    (schema,) = _row(connection, "SELECT current_schema()")
    if schema is None:
        (path,) = _row(connection, "SELECT current_setting('search_path')")
        raise TriggerKitError(
            f"No schema of the search_path ({path}) is there, or may be used. Set another one, for example by "
            'DATABASES["default"]["OPTIONS"]["options"] = "-c search_path=…".'
        )
    return str(schema)


def has_table(connection: BaseDatabaseWrapper, table: str) -> bool:
    """Whether the search_path of a PostgreSQL connection leads to a table."""
    if connection.vendor != "postgresql":
        return False
    return bool(_row(connection, "SELECT to_regclass(%s) IS NOT NULL", [_quoted(connection, table)])[0])


def search_path(connection: BaseDatabaseWrapper) -> list[str]:
    """Return the schemas of the search_path that are there."""
    (path,) = _row(connection, "SELECT current_schemas(false)::text[]")
    return [name for name in path if name != "pg_catalog" and not name.startswith("pg_temp")]


def _quoted(connection: BaseDatabaseWrapper, table: str) -> str:
    """Quote a table; Django's way to name a schema, db_table = 'schema"."table', is quoted as Django quotes it."""
    return connection.ops.quote_name(table) if '"."' in table else identifier(table)


def _row(connection: BaseDatabaseWrapper, sql: str, params: list[Any] | None = None) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return cursor.fetchone()


_LOCATION = """
SELECT namespace.nspname, class.relname
FROM pg_class AS class
JOIN pg_namespace AS namespace ON namespace.oid = class.relnamespace
WHERE class.oid = to_regclass(%s)
"""

# A role that may create an operator where a function looks for one runs code as the function's owner. The owner of a
# schema and superusers could do so anyway; whose function it is, too.
_PATH = """
WITH owner AS (
    SELECT coalesce((SELECT relowner FROM pg_class WHERE oid = to_regclass(%(table)s)),
                    (SELECT oid FROM pg_roles WHERE rolname = current_user)) AS oid
), known AS (
    SELECT namespace.oid, namespace.nspname, path.position,
           CASE WHEN namespace.nspowner = 'pg_database_owner'::regrole THEN datdba ELSE namespace.nspowner END AS owner,
           coalesce(namespace.nspacl, acldefault('n', namespace.nspowner)) AS rights
    FROM unnest(%(path)s::text[]) WITH ORDINALITY AS path (name, position)
    JOIN pg_namespace AS namespace ON namespace.nspname = path.name
    JOIN pg_database ON datname = current_database()
)
SELECT known.nspname, coalesce((
    SELECT string_agg(DISTINCT CASE WHEN acl.grantee = 0 THEN 'PUBLIC' ELSE acl.grantee::regrole::text END, ', ')
    FROM aclexplode(known.rights) AS acl
    WHERE acl.privilege_type = 'CREATE'
      AND acl.grantee NOT IN (SELECT oid FROM pg_roles WHERE rolsuper)
      AND CASE WHEN acl.grantee = 'pg_database_owner'::regrole
               THEN (SELECT datdba FROM pg_database WHERE datname = current_database())
               ELSE acl.grantee END NOT IN (known.owner, owner.oid)
), '')
FROM known, owner
ORDER BY known.position
"""

_TRIGGERS = """
SELECT function.proname, function_schema.nspname, trigger.tgrelid::regclass::text, trigger.tgenabled::text,
       trigger.tgname, table_schema.nspname, class.relname, obj_description(trigger.oid, 'pg_trigger'),
       obj_description(pause.oid, 'pg_proc')
FROM pg_trigger AS trigger
JOIN pg_proc AS function ON function.oid = trigger.tgfoid
JOIN pg_namespace AS function_schema ON function_schema.oid = function.pronamespace
JOIN pg_class AS class ON class.oid = trigger.tgrelid
JOIN pg_namespace AS table_schema ON table_schema.oid = class.relnamespace
LEFT JOIN pg_proc AS pause ON pause.pronamespace = function.pronamespace AND pause.proname = %s
WHERE trigger.tgname ~ '^~?tk_' AND NOT trigger.tgisinternal AND trigger.tgparentid = 0
ORDER BY trigger.tgrelid::regclass::text, trigger.tgname
"""


def installed_triggers(connection: BaseDatabaseWrapper) -> list[InstalledTrigger]:
    """Return the triggers that carry our COMMENT; others of this prefix are somebody else's."""
    with connection.cursor() as cursor:
        cursor.execute(_TRIGGERS, [PAUSE_FUNCTION])
        rows = cursor.fetchall()
    found = []
    for name, schema, table, enabled, trigger, table_schema, table_name, text, paused in rows:
        comment = Comment.read(text)
        if comment is not None:
            is_paused = comment.target in listed_targets(paused)
            found.append(
                InstalledTrigger(name, schema, table, enabled, comment, trigger, table_schema, table_name, is_paused)
            )
    return found


def find_triggers(connection: BaseDatabaseWrapper, names: Iterable[str], schema: str) -> dict[str, InstalledTrigger]:
    """Return the installed triggers of these names with functions in a schema, whatever tables they sit on now."""
    wanted = set(names)
    return {item.name: item for item in installed_triggers(connection) if item.name in wanted and item.schema == schema}


def state_sql(table: str, name: str, enabled: str) -> str | None:
    """Return the SQL that gives a new trigger the ``tgenabled`` of the one before it, or None where it has it."""
    modes = {"D": "DISABLE", "R": "ENABLE REPLICA", "A": "ENABLE ALWAYS"}
    return f"ALTER TABLE {table} {modes[enabled]} TRIGGER {identifier(name)};" if enabled in modes else None


def trigger_status(expected: CompiledTrigger, installed: InstalledTrigger | None) -> str:
    """Return ``installed``, ``outdated``, ``missing`` or ``disabled``."""
    if installed is None:
        return "missing"
    if installed.enabled == "D":
        return "disabled"
    return "installed" if installed.is_made_from(expected) else "outdated"
