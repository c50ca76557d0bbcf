"""INSTALL: to whom functions, tables and views of ours belong, and who may use them.

All of one target belongs to the owner of the target's table: its triggers run other people's triggers on the target, as
the owner of our function. What the targets of a schema share belongs to whoever has made it first.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from trigger_kit.plan.plan import Plan
from trigger_kit.sql.compilation import compile_plan
from trigger_kit.sql.full_values import backfill_sql
from trigger_kit.sql.function import dollar_quotes
from trigger_kit.sql.helpers import helper_names
from trigger_kit.sql.shared import SHARED_NAMES, SHARED_TABLES
from trigger_kit.sql.text import (
    block,
    plain_name,
    regclass_placeholder,
    text_literal,
)

__all__ = ["REFUSED", "Belongings", "refuse_foreign"]

# The SQLSTATE of what an installation refuses, in one line.
REFUSED = "TK001"

# Functions that people call, and are granted by name: who may is kept.
_CALLED_BY_OTHERS = ("tk_flush_", "tk_exact_")

# Who may own what runs as others: nobody who could only have put it there first. A trigger with our COMMENT can be made
# by the owner of its table alone.
_TRUSTED = """\
SELECT oid FROM pg_roles WHERE rolsuper OR rolname = current_user
UNION SELECT nspowner FROM pg_namespace WHERE oid = tk_schema
UNION SELECT datdba FROM pg_database WHERE datname = current_database()
UNION SELECT tk_owner
UNION SELECT function.proowner
FROM pg_trigger AS trigger JOIN pg_proc AS function ON function.oid = trigger.tgfoid
WHERE trigger.tgrelid = tk_target AND obj_description(trigger.oid, 'pg_trigger') LIKE 'trigger_kit {{{{%'"""

_DECLARE = """\
DECLARE
    tk_target regclass := {target};
    tk_schema oid := (SELECT relnamespace FROM pg_class WHERE oid = {target});
    tk_owner oid := (SELECT relowner FROM pg_class WHERE oid = {target});"""

_REFUSE_FOREIGN = f"""\
-- What is called here runs as others: nobody else may have put it there first.
SELECT there.* INTO tk_found
FROM (
    SELECT 'table' AS kind, relname AS name, relowner AS owner FROM pg_class
    WHERE relnamespace = tk_schema AND relname = ANY ({{relations}})
    UNION ALL
    SELECT 'function', proname, proowner FROM pg_proc
    WHERE pronamespace = tk_schema AND proname = ANY ({{functions}})
) AS there
WHERE there.owner NOT IN (
{block(_TRUSTED)}
)
ORDER BY there.kind, there.name
LIMIT 1;
IF FOUND THEN
    RAISE EXCEPTION USING ERRCODE = '{REFUSED}',
        MESSAGE = format('Somebody else owns the %s %s in the schema %s: the role %s.',
                         tk_found.kind, tk_found.name, tk_schema::regnamespace, tk_found.owner::regrole),
        HINT = format('Drop it, or let it belong to %s, and install again.', tk_owner::regrole);
END IF;"""

_REFUSE_INSTALLER = f"""\
-- Whoever installs gives what he makes to the table's owner, and replaces what is there.
tk_words := CASE WHEN current_setting('server_version_num')::int < 160000 THEN 'MEMBER' ELSE 'SET' END;
IF NOT pg_has_role(tk_owner, tk_words) THEN
    RAISE EXCEPTION USING ERRCODE = '{REFUSED}',
        MESSAGE = format('The functions that keep %s run as its owner, %s, and %I may not make them his.',
                         tk_target, tk_owner::regrole, current_user),
        HINT = CASE WHEN (SELECT rolsuper FROM pg_roles WHERE oid = tk_owner)
               THEN format('Install as %s, or let the table belong to a role that is no superuser.', tk_owner::regrole)
               ELSE format('Run GRANT %s TO %I, or install as %1$s.', tk_owner::regrole, current_user) END;
END IF;
SELECT there.owner,
       string_agg(format('ALTER %s OWNER TO %I', there.name, current_user), '; ' ORDER BY there.name) AS way
INTO tk_found
FROM (
    SELECT relowner AS owner, 'TABLE ' || oid::regclass AS name FROM pg_class
    WHERE relnamespace = tk_schema AND relname = ANY ({{relations}})
    UNION ALL
    SELECT proowner, 'FUNCTION ' || oid::regprocedure FROM pg_proc
    WHERE pronamespace = tk_schema AND proname = ANY ({{functions}})
) AS there
WHERE NOT pg_has_role(there.owner, 'USAGE')
GROUP BY there.owner
LIMIT 1;
IF FOUND THEN
    RAISE EXCEPTION USING ERRCODE = '{REFUSED}',
        MESSAGE = format('What trigger_kit has in the schema %s belongs to %s, and %I may not replace it.',
                         tk_schema::regnamespace, tk_found.owner::regrole, current_user),
        HINT = format('Install as %s, or let it run %s.', tk_found.owner::regrole, tk_found.way);
END IF;"""

_REFUSE_OWNER = f"""\
-- What the functions do, their owner must be allowed to.
SELECT string_agg(needed.statement, '; ' ORDER BY needed.statement) INTO tk_words
FROM (
    SELECT format('GRANT USAGE ON SCHEMA %s TO %s', oid::regnamespace, tk_owner::regrole) AS statement
    FROM pg_namespace
    WHERE (oid = tk_schema OR oid IN (SELECT relnamespace FROM pg_class WHERE oid = ANY ({{read}})))
      AND NOT has_schema_privilege(tk_owner, oid, 'USAGE')
    UNION ALL
    SELECT format('GRANT CREATE ON SCHEMA %s TO %s', tk_schema::regnamespace, tk_owner::regrole)
    WHERE tk_owner <> (SELECT oid FROM pg_roles WHERE rolname = current_user)
      AND NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
      AND NOT has_schema_privilege(tk_owner, tk_schema, 'CREATE')
    UNION ALL
    SELECT format('GRANT SELECT ON %s TO %s', oid::regclass, tk_owner::regrole) FROM pg_class
    WHERE oid = ANY ({{read}}) AND NOT has_table_privilege(tk_owner, oid, 'SELECT')
    UNION ALL
    SELECT format('GRANT UPDATE ON %s TO %s', oid::regclass, tk_owner::regrole) FROM pg_class
    WHERE oid = ANY ({{locked}}) AND NOT has_table_privilege(tk_owner, oid, 'UPDATE')
) AS needed;
IF tk_words IS NOT NULL THEN
    RAISE EXCEPTION USING ERRCODE = '{REFUSED}',
        MESSAGE = format('The functions that keep %s run as its owner, %s, who lacks rights.',
                         tk_target, tk_owner::regrole),
        HINT = format('Run %s.', tk_words);
END IF;"""

_GIVE = """\
-- All of this target is its owner's.
FOR tk_found IN
    SELECT 'FUNCTION' AS kind, oid::regprocedure::text AS name FROM pg_proc
    WHERE pronamespace = tk_schema AND proname = ANY ({functions}) AND proowner <> tk_owner
    UNION ALL
    SELECT CASE relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END, oid::regclass::text FROM pg_class
    WHERE relnamespace = tk_schema AND relname = ANY ({relations}) AND relowner <> tk_owner
LOOP
    EXECUTE format('ALTER %s %s OWNER TO %s', tk_found.kind, tk_found.name, tk_owner::regrole);
END LOOP;"""

_REVOKE = """\
-- Nobody else executes a function: ALTER DEFAULT PRIVILEGES may have granted more than PUBLIC has. Owners of targets
-- need those that they share; who may flush has been told by name.
FOR tk_found IN
    SELECT DISTINCT function.oid::regprocedure::text AS name,
           CASE WHEN acl.grantee = 0 THEN 'PUBLIC' ELSE acl.grantee::regrole::text END AS role
    FROM pg_proc AS function
    CROSS JOIN aclexplode(coalesce(function.proacl, acldefault('f', function.proowner))) AS acl
    WHERE function.pronamespace = tk_schema AND function.proname = ANY ({closed})
      AND (acl.grantee = 0 OR NOT function.proname = ANY ({called}))
      AND acl.grantee <> function.proowner AND acl.grantor = function.proowner
      AND (acl.grantee = 0 OR function.prorettype = 'trigger'::regtype OR NOT function.proname = ANY ({shared})
           OR acl.grantee NOT IN (
               SELECT kept.proowner
               FROM pg_trigger AS trigger JOIN pg_proc AS kept ON kept.oid = trigger.tgfoid
               WHERE kept.pronamespace = tk_schema
                 AND obj_description(trigger.oid, 'pg_trigger') LIKE 'trigger_kit {{{{%'
           ))
LOOP
    EXECUTE format('REVOKE ALL ON FUNCTION %s FROM %s CASCADE', tk_found.name, tk_found.role);
END LOOP;"""

_GRANT = """\
-- What the targets of a schema share belongs to whoever has made it first.
FOR tk_found IN
    SELECT 'SELECT, INSERT, UPDATE, DELETE ON TABLE ' || oid::regclass AS what FROM pg_class
    WHERE relnamespace = tk_schema AND relname = ANY ({tables})
      AND (SELECT bool_or(NOT has_table_privilege(tk_owner, pg_class.oid, word))
           FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS word)
    UNION ALL
    SELECT 'EXECUTE ON FUNCTION ' || oid::regprocedure FROM pg_proc
    WHERE pronamespace = tk_schema AND proname = ANY ({shared}) AND prorettype <> 'trigger'::regtype
      AND NOT has_function_privilege(tk_owner, oid, 'EXECUTE')
LOOP
    EXECUTE format('GRANT %s TO %s', tk_found.what, tk_owner::regrole);
END LOOP;"""

_PIN = """\
FOR tk_words IN
    SELECT oid::regprocedure::text FROM pg_proc
    WHERE pronamespace = tk_schema AND proname = ANY ({functions}) AND prosecdef
LOOP
    EXECUTE 'ALTER FUNCTION ' || tk_words || $tk_path$ SET search_path = {{:search_path}}$tk_path$;
END LOOP;"""

# Names of types are looked up by the path of the function, and so are operators, silently: without its own, a citext
# would be compared as a text.
_REFUSE_LEFT_OUT = f"""\
SELECT format_type(type.oid, NULL) AS name, type.typnamespace::regnamespace AS schema, left_out.roles INTO tk_found
FROM pg_attribute AS read
JOIN pg_type AS type ON type.oid = read.atttypid OR type.oid = (SELECT typelem FROM pg_type WHERE oid = read.atttypid)
JOIN {{left_out}} AS left_out (schema, roles) ON to_regnamespace(left_out.schema) = type.typnamespace::regnamespace
WHERE (read.attrelid, read.attname) IN (
    SELECT * FROM unnest({{tables}}, {{columns}})
)
ORDER BY 1
LIMIT 1;
IF FOUND THEN
    RAISE EXCEPTION USING ERRCODE = '{REFUSED}',
        MESSAGE = format('The functions that keep %s need the type %s of the schema %s, and must not look for anything '
                         'there: %s may create operators in it.', tk_target, tk_found.name, tk_found.schema,
                         tk_found.roles),
        HINT = format('Run REVOKE CREATE ON SCHEMA %s FROM %s, or move the type into a schema of its own.',
                      tk_found.schema, tk_found.roles);
END IF;
tk_words := set_config('search_path', $tk_path${{{{:search_path}}}}$tk_path$, true);
BEGIN
    EXECUTE {{explain}};
EXCEPTION WHEN syntax_error_or_access_rule_violation OR invalid_schema_name THEN
    RAISE EXCEPTION USING ERRCODE = '{REFUSED}',
        MESSAGE = format('The functions that keep %s cannot do without a schema in which others may create: %s',
                         tk_target, SQLERRM),
        HINT = 'Run REVOKE CREATE ON SCHEMA … FROM those roles: manage.py check --database default names them.';
END;
tk_words := set_config('search_path', tk_path, true);"""


@dataclass(frozen=True, eq=False)
class Belongings:
    """What one target has in a database, and what its functions use."""

    plan: Plan

    @cached_property
    def functions(self) -> list[str]:
        """The names of its functions."""
        called = [plain_name(prefix, self.plan.target) for prefix in _CALLED_BY_OTHERS]
        return sorted({*(item.name for item in compile_plan(self.plan)), *helper_names(self.plan), *called})

    @cached_property
    def relations(self) -> list[str]:
        """The names of its tables and views."""
        return _relations(self.plan.target)

    @cached_property
    def read(self) -> list[str]:
        """The tables that its functions read, by their ``db_table``."""
        kinds = [hop.content_type for source in self.plan.sources for hop in source.path]
        return sorted({*self.plan.tables, *(kind.table for kind in kinds if kind is not None)})

    @cached_property
    def locked(self) -> list[str]:
        """The tables of which its functions lock or write rows."""
        plan = self.plan
        paths = {(): plan.kept_columns} | {source.path: plan.kept_columns for source in plan.sources}
        found = {lock.table for path, kept in paths.items() for lock in plan.path_locks(path, kept)}
        found |= {column.table for late in plan.all_late_parents for column in late.parent}
        return sorted({plan.target} | found)

    @property
    def columns(self) -> list[tuple[str, str]]:
        """The columns that its functions read, and their tables."""
        plan = self.plan
        found = {(source.table, name) for source in plan.sources for name in source.columns}
        hops = {hop for source in plan.sources for hop in source.path}
        found |= {(column.table, column.name) for hop in hops for column in (*hop.near, *hop.far)}
        found |= {(plan.target, name) for name in (*plan.key_columns, *(kept.column for kept in plan.kept_columns))}
        return sorted(found)

    def refuse(self) -> str:
        """Return the statement that refuses what cannot be installed, before anything is made."""
        return self._do(
            ["tk_found record;", "tk_words text;"],
            _REFUSE_FOREIGN.format(
                relations=_array([*SHARED_TABLES, *self.relations]),
                functions=_array([*SHARED_NAMES, *self.functions]),
            ),
            _REFUSE_INSTALLER.format(
                relations=_array([*SHARED_TABLES, *self.relations]),
                functions=_array([*SHARED_NAMES, *self.functions]),
            ),
            _REFUSE_OWNER.format(read=_tables(self.read), locked=_tables(self.locked)),
        )

    def settle(self) -> str:
        """Return the statement that gives everything to whom it belongs, and takes it from all others."""
        flush, exact = (plain_name(prefix, self.plan.target) for prefix in _CALLED_BY_OTHERS)
        closed = [*SHARED_NAMES, *(name for name in self.functions if name != exact)]
        return self._do(
            ["tk_found record;"],
            _GIVE.format(functions=_array(self.functions), relations=_array(self.relations)),
            _REVOKE.format(closed=_array(closed), called=_array([flush]), shared=_array(SHARED_NAMES)),
            _GRANT.format(tables=_array(SHARED_TABLES), shared=_array(SHARED_NAMES)),
            # It may have come between the first look and the statement that would replace it.
            _REFUSE_FOREIGN.format(relations=_array([]), functions=_array(SHARED_NAMES)),
        )

    def pin(self) -> str:
        """Return the statement that gives functions that are there the path that is pinned now."""
        return self._do(["tk_words text;"], _PIN.format(functions=_array(self.functions)))

    def refuse_left_out(self, schemas: Iterable[tuple[str, str]]) -> str:
        """Return the statement that refuses what needs a schema that is not in the path; ``schemas`` come with roles.

        The statement that writes full values names all types, operators and functions of the rules.
        """
        left_out = ", ".join(f"({text_literal(name)}, {text_literal(roles)})" for name, roles in schemas)
        update = backfill_sql(self.plan, with_pending=False).rstrip(";\n")
        quotes = dollar_quotes(update)
        tables, columns = zip(*self.columns, strict=True)
        return self._do(
            ["tk_found record;", "tk_words text;", "tk_path text := current_setting('search_path');"],
            _REFUSE_LEFT_OUT.format(
                left_out=f"(VALUES {left_out})",
                tables=_tables(tables, distinct=False),
                columns=_array(columns),
                explain=f"{quotes}EXPLAIN {update}{quotes}",
            ),
        )

    def _do(self, declarations: list[str], *statements: str) -> str:
        return _block(self.plan.target, declarations, *statements)


def refuse_foreign(target: str, functions: Iterable[str]) -> str:
    """Return the statement that refuses to go on where somebody else owns one of these functions of a target.

    Their names are those that a database has; what else a target of this name may have is refused as well.
    """
    called = [plain_name(prefix, target) for prefix in _CALLED_BY_OTHERS]
    text = _REFUSE_FOREIGN.format(relations=_array(_relations(target)), functions=_array(sorted({*functions, *called})))
    return _block(target, ["tk_found record;"], text)


def _relations(target: str) -> list[str]:
    return [plain_name(prefix, target) for prefix in ("tk_pending_", "tk_deferred_", "tk_exact_")]


def _block(target: str, declarations: list[str], *statements: str) -> str:
    table = regclass_placeholder(target)
    declared = [_DECLARE.format(target=table), *map(block, declarations)]
    body = "\n".join([*declared, "BEGIN", *map(block, statements), "END;"])
    quotes = dollar_quotes(body)
    return f"DO {quotes}\n{body}\n{quotes};"


def _array(names: Iterable[str]) -> str:
    """Return names as an SQL array, for compiled text."""
    listed = ", ".join(text_literal(name) for name in names)
    return f"ARRAY[{listed}]::text[]"


def _tables(names: Iterable[str], *, distinct: bool = True) -> str:
    listed = ", ".join(regclass_placeholder(name) for name in (dict.fromkeys(names) if distinct else names))
    return f"ARRAY[{listed}]::oid[]"
