-- title: port: At the end of a transaction: compute what follows for Port of call {{x}} from rows that came meanwhile.

CREATE OR REPLACE FUNCTION {:schema}."tk_port_of_call_x_settle_5e2018"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- At the end of a transaction: compute what follows for Port of call {{x}} from rows that came meanwhile.
-- Rules of library.Port:
--   arrivals = Count("coming", filter=Q(coming__cancelled=False))
--   order = Count("leaving")
--   miles_in = Sum("coming__miles", default=0)
-- Written by trigger_kit. To change it, change the rules and run makemigrations.
DECLARE
    tk_depth text;
    tk_outer_depth text := coalesce(current_setting('trigger_kit.depth', true), '');
BEGIN
    -- This function runs as its owner: not for a table that somebody else has put it on.
    IF TG_RELID <> {:regclass tk_waiting} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass tk_waiting} THEN
        RAISE EXCEPTION USING MESSAGE = format('This trigger function is not for %s.', TG_RELID::regclass),
                  ERRCODE = 'insufficient_privilege';
    END IF;
    -- The first note settles them all; those that come meanwhile say so again.
    IF current_setting('trigger_kit.waiting_fa056e_{:schema_tag}', true) IS DISTINCT FROM 'on' THEN
        RETURN NULL;
    END IF;
    PERFORM set_config('trigger_kit.waiting_fa056e_{:schema_tag}', '', true);

    -- Rows of select that came before their Port of call {x}.
    DECLARE
        tk_parents varchar[];
    BEGIN
        WITH settled AS (
            DELETE FROM {:schema}."tk_waiting" AS noted
            WHERE noted.transaction = pg_current_xact_id()
              AND noted.target = 'Port of call {{x}}' AND noted.place = 'f0234a'
            RETURNING noted.key
        )
        SELECT array_agg(settled.key[1]::varchar)
        INTO tk_parents
        FROM settled;
        IF tk_parents IS NOT NULL THEN
            -- Lock in key order, so that two bulk statements cannot deadlock.
            PERFORM
            FROM {Port of call %7Bx%7D} AS locked
            WHERE locked."PortCode" = ANY (tk_parents)
            ORDER BY locked."id"
            FOR NO KEY UPDATE;
            IF current_setting('transaction_isolation') = 'repeatable read' THEN
                PERFORM set_config('trigger_kit.locking', pg_trigger_depth()::text, true);
                UPDATE {Port of call %7Bx%7D} AS locked
                SET "id" = locked."id"
                WHERE locked."PortCode" = ANY (tk_parents);
                PERFORM set_config('trigger_kit.locking', '', true);
            END IF;
            PERFORM set_config('trigger_kit.filled_fa056e', extract(epoch FROM statement_timestamp())::text, true);
            tk_depth := set_config('trigger_kit.depth', pg_trigger_depth()::text, true);
            UPDATE {Port of call %7Bx%7D} AS target -- library.Port:arrivals, library.Port:miles_in
            SET
                "arrivals" = value_1."arrivals",
                "miles_in" = value_1."miles_in"
            FROM {Port of call %7Bx%7D} AS this
            CROSS JOIN LATERAL (
                SELECT
                    count(*) FILTER (WHERE NOT "source"."cancelled") AS "arrivals",
                    coalesce(sum("source"."group"), 0) AS "miles_in"
                FROM {select} AS source
                WHERE source."destination_id" = this."PortCode"
            ) AS value_1
            WHERE target."id" = this."id"
            AND this."PortCode" = ANY (tk_parents)
            AND (
                target."arrivals" IS DISTINCT FROM value_1."arrivals"
                OR target."miles_in" IS DISTINCT FROM value_1."miles_in"
            );
            tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);
            IF current_setting('transaction_isolation') = 'repeatable read' AND EXISTS (
                SELECT FROM {select} AS child
                WHERE (child."destination_id") IN (SELECT * FROM unnest(tk_parents))
                  AND NOT EXISTS (SELECT FROM {Port of call %7Bx%7D} AS parent
                                  WHERE child."destination_id" = parent."PortCode")
            ) THEN
                RAISE EXCEPTION USING
                    MESSAGE = 'A row of Port of call {{x}} was inserted by a concurrent transaction.',
                    ERRCODE = 'serialization_failure',
                    HINT = 'Try the transaction again.';
            END IF;
        END IF;
    END;

    -- Rows of select that came before their Port of call {x}.
    DECLARE
        tk_parents varchar[];
    BEGIN
        WITH settled AS (
            DELETE FROM {:schema}."tk_waiting" AS noted
            WHERE noted.transaction = pg_current_xact_id()
              AND noted.target = 'Port of call {{x}}' AND noted.place = 'b69951'
            RETURNING noted.key
        )
        SELECT array_agg(settled.key[1]::varchar)
        INTO tk_parents
        FROM settled;
        IF tk_parents IS NOT NULL THEN
            -- Lock in key order, so that two bulk statements cannot deadlock.
            PERFORM
            FROM {Port of call %7Bx%7D} AS locked
            WHERE locked."PortCode" = ANY (tk_parents)
            ORDER BY locked."id"
            FOR NO KEY UPDATE;
            IF current_setting('transaction_isolation') = 'repeatable read' THEN
                PERFORM set_config('trigger_kit.locking', pg_trigger_depth()::text, true);
                UPDATE {Port of call %7Bx%7D} AS locked
                SET "id" = locked."id"
                WHERE locked."PortCode" = ANY (tk_parents);
                PERFORM set_config('trigger_kit.locking', '', true);
            END IF;
            PERFORM set_config('trigger_kit.filled_fa056e', extract(epoch FROM statement_timestamp())::text, true);
            tk_depth := set_config('trigger_kit.depth', pg_trigger_depth()::text, true);
            UPDATE {Port of call %7Bx%7D} AS target -- library.Port:departures
            SET
                "order" = value_1."order"
            FROM {Port of call %7Bx%7D} AS this
            CROSS JOIN LATERAL (
                SELECT
                    count(*) AS "order"
                FROM {select} AS source
                WHERE source."From" = this."PortCode"
            ) AS value_1
            WHERE target."id" = this."id"
            AND this."PortCode" = ANY (tk_parents)
            AND (
                target."order" IS DISTINCT FROM value_1."order"
            );
            tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);
            IF current_setting('transaction_isolation') = 'repeatable read' AND EXISTS (
                SELECT FROM {select} AS child
                WHERE (child."From") IN (SELECT * FROM unnest(tk_parents))
                  AND NOT EXISTS (SELECT FROM {Port of call %7Bx%7D} AS parent
                                  WHERE child."From" = parent."PortCode")
            ) THEN
                RAISE EXCEPTION USING
                    MESSAGE = 'A row of Port of call {{x}} was inserted by a concurrent transaction.',
                    ERRCODE = 'serialization_failure',
                    HINT = 'Try the transaction again.';
            END IF;
        END IF;
    END;

    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_port_of_call_x_settle_5e2018"() FROM PUBLIC;

DROP TRIGGER IF EXISTS {:trigger} ON {tk_waiting};

CREATE CONSTRAINT TRIGGER {:trigger}
    AFTER INSERT ON {tk_waiting}
    DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW
    WHEN (NEW.target = 'Port of call {{x}}')
    EXECUTE FUNCTION {:schema}."tk_port_of_call_x_settle_5e2018"();
