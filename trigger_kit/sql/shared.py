"""INSTALL: what the functions of all targets in a schema share: tables of ours, and functions."""

from __future__ import annotations

from trigger_kit.sql.pausing import PAUSE_FUNCTION, pause_function
from trigger_kit.sql.trigger import dollar_quotes

__all__ = ["CREATE_OWN_TABLES", "CREATE_STATE", "SHARED_FUNCTIONS", "SHARED_TABLES", "closed_function"]

# What belongs to no single target of a schema; ``sql/owners.py`` says to whom, and who may use it.
SHARED_TABLES = ("tk_touched", "tk_waiting", "tk_commit", "tk_state")
SHARED_FUNCTIONS = ("tk_commit", PAUSE_FUNCTION)

CREATE_STATE = """
CREATE TABLE IF NOT EXISTS {:schema}."tk_state" (
    name text NOT NULL,
    kind text NOT NULL,
    value jsonb NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (name, kind)
);
COMMENT ON TABLE {:schema}."tk_state" IS 'trigger_kit: how far backfills are, what is paused, what verify found';
"""

# What is paused stays so.
_CREATE_PAUSE = f"""
DO $tk_create$
BEGIN
    IF NOT EXISTS (
        SELECT FROM pg_proc
        WHERE proname = '{PAUSE_FUNCTION}'
          AND pronamespace = (SELECT relnamespace FROM pg_class WHERE oid = {{:regclass tk_touched}})
    ) THEN
{pause_function([])}
    END IF;
END;
$tk_create$;
"""

CREATE_OWN_TABLES = (
    CREATE_STATE
    + """
CREATE TABLE IF NOT EXISTS {:schema}."tk_touched" (
    transaction xid8 NOT NULL DEFAULT pg_current_xact_id(),
    target text NOT NULL,
    key_column text NOT NULL,
    key text NOT NULL
);
DO $trigger_kit$
BEGIN
    -- Of a hash: a key may be longer than an index can hold.
    IF NOT EXISTS (SELECT FROM pg_index WHERE indrelid = {:regclass tk_touched}) THEN
        CREATE INDEX "tk_touched_key"
            ON {:schema}."tk_touched" (target, key_column, hashtextextended(key, 0));
    END IF;
    -- Without a primary key, a publication of all tables would refuse to delete rows.
    IF (SELECT relreplident FROM pg_class WHERE oid = {:regclass tk_touched}) <> 'f' THEN
        ALTER TABLE {:schema}."tk_touched" REPLICA IDENTITY FULL;
    END IF;
END;
$trigger_kit$;
COMMENT ON TABLE {:schema}."tk_touched" IS 'trigger_kit: targets that were touched during a pause and wait for repair';

CREATE TABLE IF NOT EXISTS {:schema}."tk_waiting" (
    transaction xid8 NOT NULL DEFAULT pg_current_xact_id(),
    target text NOT NULL,
    place text NOT NULL,
    key text[] NOT NULL
);
DO $trigger_kit$
BEGIN
    -- IF NOT EXISTS would lock the table all the same, against those who write.
    IF NOT EXISTS (SELECT FROM pg_index WHERE indrelid = {:regclass tk_waiting}) THEN
        CREATE INDEX "tk_waiting_transaction" ON {:schema}."tk_waiting" (transaction);
    END IF;
    IF (SELECT relreplident FROM pg_class WHERE oid = {:regclass tk_waiting}) <> 'f' THEN
        ALTER TABLE {:schema}."tk_waiting" REPLICA IDENTITY FULL;
    END IF;
END;
$trigger_kit$;
COMMENT ON TABLE {:schema}."tk_waiting" IS 'trigger_kit: keys of rows that are not there yet, settled at commit';

CREATE UNLOGGED TABLE IF NOT EXISTS {:schema}."tk_commit" (
    transaction xid8 NOT NULL DEFAULT pg_current_xact_id(),
    rank integer NOT NULL,
    target text NOT NULL
) WITH (vacuum_truncate = false);
DO $trigger_kit$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_index WHERE indrelid = {:regclass tk_commit}) THEN
        CREATE INDEX "tk_commit_transaction" ON {:schema}."tk_commit" (transaction, rank, target);
    END IF;
END;
$trigger_kit$;
COMMENT ON TABLE {:schema}."tk_commit" IS 'trigger_kit: targets that open transactions will write when they commit';

CREATE OR REPLACE FUNCTION {:schema}."tk_commit"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET row_security = off
AS $trigger_kit$
-- At the end of a transaction: let its targets be written, sources before what is computed from them.
-- Each row that goes fires the trigger of its target; that may make others due.
DECLARE
    tk_row tid;
    tk_plans text;
    tk_outer_seqscan text := current_setting('enable_seqscan');
BEGIN
    IF TG_RELID <> {:regclass tk_commit} THEN
        RAISE EXCEPTION USING MESSAGE = format('This trigger function is not for %s.', TG_RELID::regclass),
                  ERRCODE = 'insufficient_privilege';
    END IF;
    IF current_setting('session_replication_role') = 'replica' THEN
        RAISE EXCEPTION USING MESSAGE = 'DEFERRED columns cannot be kept: triggers were switched off after a write.',
                  ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Commit, or SET CONSTRAINTS tk_commit IMMEDIATE, before session_replication_role = replica.';
    END IF;
    -- Settled early, a target that becomes due meanwhile waits for the loop below, as it does at a commit.
    IF current_setting('trigger_kit.committing_{:schema_tag}', true) = 'on' THEN
        RETURN NULL;
    END IF;
    tk_plans := set_config('trigger_kit.committing_{:schema_tag}', 'on', true);
    -- A table that looked empty to this session's first commit would be read from end to end by all others.
    tk_plans := set_config('enable_seqscan', 'off', true);
    LOOP
        SELECT due.ctid INTO tk_row
        FROM {:schema}."tk_commit" AS due
        WHERE due.transaction = pg_current_xact_id()
        ORDER BY due.rank, due.target
        LIMIT 1;
        EXIT WHEN tk_row IS NULL;
        DELETE FROM {:schema}."tk_commit" AS due WHERE due.ctid = tk_row;
    END LOOP;
    tk_plans := set_config('enable_seqscan', tk_outer_seqscan, true);
    tk_plans := set_config('trigger_kit.committing_{:schema_tag}', '', true);
    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_commit"() FROM PUBLIC;

DO $trigger_kit$
BEGIN
    IF NOT EXISTS (
        SELECT FROM pg_trigger WHERE tgname = 'tk_commit' AND tgrelid = {:regclass tk_commit}
    ) THEN
        CREATE CONSTRAINT TRIGGER "tk_commit"
            AFTER INSERT ON {:schema}."tk_commit"
            DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION {:schema}."tk_commit"();
    END IF;
END;
$trigger_kit$;
"""
    + _CREATE_PAUSE
)


def closed_function(function: str, create: str) -> str:
    """Return the statements that create a function which people call, or replace it, for its owner and by name only.

    ``function`` is its name with the types of its arguments. Who was granted it by name keeps it; PUBLIC does not, nor
    does whom ALTER DEFAULT PRIVILEGES gives a new one to.
    """
    name = f"$tk_name${function}$tk_name$"
    body = "\n".join(
        [
            "DECLARE",
            "    tk_role text;",
            "BEGIN",
            "    FOR tk_role IN",
            "        SELECT CASE WHEN acl.grantee = 0 THEN 'PUBLIC' ELSE acl.grantee::regrole::text END",
            "        FROM pg_proc AS function",
            "        CROSS JOIN aclexplode(coalesce(function.proacl, acldefault('f', function.proowner))) AS acl",
            f"        WHERE function.oid = {name}::regprocedure AND acl.grantee <> function.proowner",
            "          AND (acl.grantee = 0 OR current_setting('trigger_kit.is_new') = 'true')",
            "    LOOP",
            f"        EXECUTE $tk_role$REVOKE ALL ON FUNCTION {function} FROM $tk_role$ || tk_role;",
            "    END LOOP;",
            "END;",
        ]
    )
    quotes = dollar_quotes(body)
    return "\n".join(
        [
            f"SELECT set_config('trigger_kit.is_new', (to_regprocedure({name}) IS NULL)::text, true);",
            create,
            f"DO {quotes}\n{body}\n{quotes};",
        ]
    )
