"""INSTALL: whose the objects of a target are, and who may use what all targets of a schema share.

A trigger function runs as its owner, and so do the triggers of others that its UPDATE of the target fires: the owner of
the target's table, who is asked about these anyway, and never a superuser only because he has migrated. What a schema
shares belongs to whoever came first; the owners of targets are granted what their functions need of it, and nobody else
anything.
"""

from __future__ import annotations

from trigger_kit.plan.plan import Plan
from trigger_kit.sql.function import text_array
from trigger_kit.sql.helpers import WRITES
from trigger_kit.sql.locks import all_path_locks
from trigger_kit.sql.pausing import PAUSE_FUNCTION
from trigger_kit.sql.shared import SHARED_FUNCTIONS
from trigger_kit.sql.text import literal, plain_name, regclass_placeholder, text_literal
from trigger_kit.sql.trigger import KEEPS

__all__ = ["REFUSED", "check_owners", "give_to_owner"]

# SQLSTATE of what these statements refuse: no error of PostgreSQL's own.
REFUSED = "TK001"

_TABLES = ("tk_state", "tk_touched", "tk_waiting", "tk_commit")
# Of a base type that does not come with PostgreSQL, operators are found by the search_path.
_CHECK = """
DO $tk_check$
DECLARE
    tk_schema oid := (SELECT relnamespace FROM pg_class WHERE oid = {:regclass tk_touched});
    tk_target regclass := {target};
    tk_owner regrole := (SELECT relowner FROM pg_class WHERE oid = tk_target);
    tk_shared regrole := (SELECT relowner FROM pg_class WHERE oid = {:regclass tk_touched});
    tk_found record;
BEGIN
    -- What trigger functions use runs as their owner, or is read by him: nobody else may have put it there first.
    SELECT found.what INTO tk_found
    FROM (
        SELECT relowner AS owner, format('relation %s', relname) AS what FROM pg_class
        WHERE relnamespace = tk_schema AND relname = ANY ({tables})
        UNION ALL
        SELECT proowner, format('function %s', proname) FROM pg_proc
        WHERE pronamespace = tk_schema AND proname = ANY ({functions})
    ) AS found
    JOIN pg_roles AS owner ON owner.oid = found.owner
    WHERE found.owner <> tk_owner AND owner.rolname <> current_user AND NOT owner.rolsuper
      AND found.owner NOT IN (SELECT nspowner FROM pg_namespace WHERE oid = tk_schema)
      AND found.owner NOT IN (SELECT datdba FROM pg_database WHERE datname = current_database())
      AND NOT EXISTS (
          SELECT FROM pg_auth_members AS member JOIN pg_roles AS us ON us.oid = member.member
          WHERE member.roleid = found.owner AND us.rolname = current_user
      );
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = '{refused}',
            MESSAGE = format('Somebody else owns the %s in this schema.', tk_found.what),
            HINT = 'Drop it, and install again.';
    END IF;
    IF EXISTS (
        SELECT FROM pg_class WHERE relnamespace = tk_schema AND relname = ANY ({tables}) AND relkind <> 'r'
    ) THEN
        RAISE EXCEPTION USING ERRCODE = '{refused}',
            MESSAGE = 'tk_touched, tk_waiting, tk_commit or tk_state is no table.',
            HINT = 'Drop it, and install again.';
    END IF;

    -- Who installs comments on triggers, which only the owners of their tables may do, and gives functions away.
    FOR tk_found IN
        SELECT belongs.role, belongs.what
        FROM (VALUES (tk_owner, tk_target::text), (tk_shared, 'tk_waiting')) AS belongs (role, what)
        WHERE NOT pg_has_role(belongs.role, 'MEMBER')
    LOOP
        RAISE EXCEPTION USING ERRCODE = '{refused}',
            MESSAGE = format('%s belongs to %s, and %s is no member of that role.',
                             tk_found.what, tk_found.role, current_user),
            HINT = format('GRANT %s TO %I, or migrate as %s.', tk_found.role, current_user, tk_found.role);
    END LOOP;
    IF NOT has_schema_privilege(tk_owner, tk_schema, 'CREATE')
       AND NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
        RAISE EXCEPTION USING ERRCODE = '{refused}',
            MESSAGE = format('%s, who owns %s, may not create functions in its schema.', tk_owner, tk_target),
            HINT = format('GRANT CREATE ON SCHEMA %s TO %s;', tk_schema::regnamespace, tk_owner);
    END IF;

    -- The owner of the target needs what the functions do.
    FOR tk_found IN
        SELECT used.name::regclass AS name, used.what
        FROM unnest({read} || {locked}, {rights}) AS used (name, what)
    LOOP
        IF NOT has_schema_privilege(
            tk_owner, (SELECT relnamespace FROM pg_class WHERE oid = tk_found.name), 'USAGE'
        ) THEN
            RAISE EXCEPTION USING ERRCODE = '{refused}',
                MESSAGE = format('%s, who owns %s, may not use the schema of %s.', tk_owner, tk_target, tk_found.name),
                HINT = format('GRANT USAGE ON SCHEMA … TO %s;', tk_owner);
        END IF;
        IF NOT has_any_column_privilege(tk_owner, tk_found.name, tk_found.what) THEN
            RAISE EXCEPTION USING ERRCODE = '{refused}',
                MESSAGE = format('%s, who owns %s, needs %s on %s.', tk_owner, tk_target, tk_found.what, tk_found.name),
                HINT = format('GRANT %s ON %s TO %s;', tk_found.what, tk_found.name, tk_owner);
        END IF;
    END LOOP;
    SELECT attribute.attrelid::regclass AS name, attribute.attname, type.typname,
           type.typnamespace::regnamespace AS place
    INTO tk_found
    FROM pg_attribute AS attribute
    JOIN pg_type AS type ON type.oid = coalesce(
        nullif((SELECT element.typelem FROM pg_type AS element WHERE element.oid = attribute.atttypid), 0),
        attribute.atttypid
    )
    WHERE attribute.attrelid IN (SELECT name::regclass FROM unnest({read}) AS name) AND attribute.attnum > 0
      AND type.typtype = 'b' AND type.typnamespace <> 'pg_catalog'::regnamespace
      AND NOT type.typnamespace::regnamespace::text = ANY ({pinned})
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = '{refused}',
            MESSAGE = format(
                '%s.%s is of the type %s, whose operators are in the schema %s: it is not in the search_path, or '
                'others than its owner may CREATE there, and could put in operators of their own.',
                tk_found.name, tk_found.attname, tk_found.typname, tk_found.place
            ),
            HINT = format('Revoke CREATE on the schema %s; manage.py check --database names who has it.',
                          tk_found.place);
    END IF;
END;
$tk_check$;
"""
_GIVE = """
DO $tk_owner$
DECLARE
    tk_schema oid := (SELECT relnamespace FROM pg_class WHERE oid = {:regclass tk_touched});
    tk_owner regrole := (SELECT relowner FROM pg_class WHERE oid = {target});
    tk_shared regrole := (SELECT relowner FROM pg_class WHERE oid = {:regclass tk_touched});
    tk_found record;
BEGIN
    -- All that serves one target belongs to the owner of its table.
    FOR tk_found IN
        SELECT 'FUNCTION' AS kind, function.oid::regprocedure::text AS name
        FROM pg_proc AS function
        WHERE function.pronamespace = tk_schema AND function.proowner <> tk_owner
          AND obj_description(function.oid, 'pg_proc') = ANY ({comments})
        UNION ALL
        SELECT CASE relation.relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END, relation.oid::regclass::text
        FROM pg_class AS relation
        WHERE relation.relnamespace = tk_schema AND relation.relowner <> tk_owner AND relation.relname = ANY ({own})
    LOOP
        EXECUTE format('ALTER %s %s OWNER TO %s', tk_found.kind, tk_found.name, tk_owner);
    END LOOP;

    -- What a schema shares belongs to who came first.
    IF tk_owner <> tk_shared THEN
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON {:schema}."tk_touched", {:schema}."tk_waiting", '
                       '{:schema}."tk_commit" TO %s', tk_owner);
        FOR tk_found IN
            SELECT function.oid::regprocedure AS name FROM pg_proc AS function
            WHERE function.pronamespace = tk_schema AND function.proname = ANY ({functions})
        LOOP
            EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %s', tk_found.name, tk_owner);
        END LOOP;
    END IF;
END;
$tk_owner$;
"""


def check_owners(plan: Plan) -> str:
    """Return the statement that comes before the functions of a target, with placeholders.

    It refuses, with the SQLSTATE of REFUSED, where somebody else owns what they would use, where who installs them may
    not give them away, where their owner lacks what they need, and where operators that they need are not safe.
    """
    return _filled(plan, _CHECK)


def give_to_owner(plan: Plan) -> str:
    """Return the statement that gives all that serves a target to the owner of its table, with placeholders."""
    return _filled(plan, _GIVE)


def _filled(plan: Plan, text: str) -> str:
    read = [table for table in plan.tables if table != plan.target]
    locked = list(dict.fromkeys(lock.table for lock in all_path_locks(plan) if lock.table != plan.target))
    parts = {
        "target": regclass_placeholder(plan.target),
        "tables": literal(list(_TABLES)),
        "functions": literal([PAUSE_FUNCTION, *(function.name for function in SHARED_FUNCTIONS)]),
        "read": _regclasses([plan.target, *read]),
        "locked": _regclasses(locked),
        "rights": text_array(["SELECT"] * (1 + len(read)) + ["UPDATE"] * len(locked)),
        "comments": f"ARRAY[{text_literal(KEEPS + plan.target)}, {text_literal(WRITES + plan.target)}]",
        "own": literal([plain_name(prefix, plan.target) for prefix in ("tk_pending_", "tk_deferred_", "tk_exact_")]),
        "refused": REFUSED,
        "pinned": "{:pinned}::text[]",
    }
    for name, value in parts.items():
        text = text.replace("{" + name + "}", value)
    return text


def _regclasses(tables: list[str]) -> str:
    return f"ARRAY[{', '.join(f'{regclass_placeholder(table)}::text' for table in tables)}]::text[]"
