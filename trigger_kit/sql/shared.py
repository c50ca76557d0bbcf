"""INSTALL: what the functions of all targets in a schema share: tables of ours, and functions."""

from __future__ import annotations

from trigger_kit.sql.body import ARRIVED, IS_MARKED, MARK, REFUSE, REQUIRE_READ_COMMITTED, WAITS
from trigger_kit.sql.function import Function
from trigger_kit.sql.pausing import PAUSE_FUNCTION, pause_function

__all__ = ["CREATE_OWN_TABLES", "CREATE_STATE", "SHARED_FUNCTIONS", "SHARED_NAMES", "SHARED_TABLES"]

CREATE_STATE = """
CREATE TABLE IF NOT EXISTS {:schema}."tk_state" (
    name text NOT NULL,
    kind text NOT NULL,
    value jsonb NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (name, kind)
);
COMMENT ON TABLE {:schema}."tk_state"
    IS 'trigger_kit: how far backfills are, what is paused, what verify found';
"""

# The functions that all trigger functions of a schema call. A change of one is a new version of it, under a new name.
SHARED_FUNCTIONS = (
    Function(
        REFUSE,
        """\
-- A trigger function runs as its owner: not for a table that somebody else has put it on.
BEGIN
    RAISE EXCEPTION USING MESSAGE = format('This trigger function is not for %s.', fired::regclass),
              ERRCODE = 'insufficient_privilege';
END;""",
        (("fired", "oid"),),
        "void",
        comment="trigger_kit: refuses a table that a trigger function is not for",
    ),
    Function(
        IS_MARKED,
        """\
-- Whether this client's statement has set a mark: what it changes must not be added, see docs/design.md.
SELECT coalesce(current_setting('trigger_kit.' || mark, true), '') <> ''
   AND current_setting('trigger_kit.' || mark, true) = extract(epoch FROM statement_timestamp())::text""",
        (("mark", "text"),),
        "boolean",
        language="sql",
        volatility="STABLE",
        comment="trigger_kit: whether this statement has set a mark",
    ),
    Function(
        MARK,
        """\
SELECT set_config('trigger_kit.' || mark, extract(epoch FROM statement_timestamp())::text, true)""",
        (("mark", "text"),),
        "text",
        language="sql",
        comment="trigger_kit: sets a mark for the rest of this statement",
    ),
    Function(
        REQUIRE_READ_COMMITTED,
        """\
-- TRUNCATE takes rows away that an older snapshot does not show, and with them what targets count.
BEGIN
    IF current_setting('transaction_isolation') IN ('repeatable read', 'serializable')
       AND pg_relation_size(target) > 0 THEN
        RAISE EXCEPTION USING MESSAGE = message,
                  ERRCODE = 'feature_not_supported', HINT = 'Use READ COMMITTED for it, or DELETE.';
    END IF;
END;""",
        (("target", "regclass"), ("message", "text")),
        "void",
        comment="trigger_kit: refuses a TRUNCATE at other isolation levels",
    ),
    Function(
        WAITS,
        """\
-- Make the end of this transaction look at what it has noted for a target: once, however many notes there are.
-- Whether it will, the table says, and no setting, which anybody could set. A text, so that schemas may be renamed.
BEGIN
    EXECUTE format('
        INSERT INTO %1$s (target, place, key)
        SELECT $1, '''', ARRAY[]::text[]
        WHERE NOT EXISTS (
            SELECT FROM %1$s AS noted
            WHERE noted.transaction = pg_current_xact_id() AND noted.target = $1 AND noted.place = ''''
        )', waiting) USING target;
END;""",
        (("waiting", "regclass"), ("target", "text")),
        "void",
        comment="trigger_kit: makes the end of a transaction look at what was noted",
    ),
    Function(
        ARRIVED,
        """\
-- Take the keys that this transaction has noted, because no row had them. A text, so that schemas may be renamed.
BEGIN
    RETURN QUERY EXECUTE format('
        DELETE FROM %s AS noted
        WHERE noted.transaction = pg_current_xact_id() AND noted.target = $1 AND noted.place = $2
        RETURNING noted.key', waiting) USING target, place;
END;""",
        (("waiting", "regclass"), ("target", "text"), ("place", "text")),
        "SETOF text[]",
        comment="trigger_kit: takes the keys of rows that were not there",
    ),
)


def _create_once(function: Function) -> str:
    """Return the statements that create a function where it is missing: what is paused stays so."""
    return (
        "    IF NOT EXISTS (\n"
        f"        SELECT FROM pg_proc WHERE proname = '{function.name}' AND pronamespace = tk_schema\n"
        f"    ) THEN\n{function.create()}\n    END IF;"
    )


# What belongs to no single target of a schema; ``sql/owners.py`` says to whom, and who may use it.
SHARED_TABLES = ("tk_touched", "tk_waiting", "tk_commit", "tk_state")
SHARED_NAMES = ("tk_commit", PAUSE_FUNCTION, *(function.name for function in SHARED_FUNCTIONS))

_OURS = (*SHARED_FUNCTIONS, pause_function([]))
_CREATE_FUNCTIONS = f"""
DO $tk_create$
DECLARE
    tk_schema oid := (SELECT relnamespace FROM pg_class WHERE oid = {{:regclass tk_touched}});
BEGIN
{chr(10).join(map(_create_once, _OURS))}
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
COMMENT ON TABLE {:schema}."tk_touched"
    IS 'trigger_kit: targets that were touched during a pause and wait for repair';

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
        CREATE INDEX "tk_waiting_transaction" ON {:schema}."tk_waiting" (transaction, target, place);
    END IF;
    IF (SELECT relreplident FROM pg_class WHERE oid = {:regclass tk_waiting}) <> 'f' THEN
        ALTER TABLE {:schema}."tk_waiting" REPLICA IDENTITY FULL;
    END IF;
END;
$trigger_kit$;
COMMENT ON TABLE {:schema}."tk_waiting"
    IS 'trigger_kit: keys of rows that are not there yet, settled at commit';

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
COMMENT ON TABLE {:schema}."tk_commit"
    IS 'trigger_kit: targets that open transactions will write when they commit';

CREATE OR REPLACE FUNCTION {:schema}."tk_commit"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET row_security = off
AS $trigger_kit$
-- At the end of a transaction: let its targets be written, sources before what is computed from them.
-- Each row that goes fires the trigger of its target; that may make others due. Settled early, these fire this trigger
-- at once, which lets all be written that are due by then.
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
    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_commit"() FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_commit"() IS 'trigger_kit: lets the targets of a transaction be written at its end';

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
    + _CREATE_FUNCTIONS
)
