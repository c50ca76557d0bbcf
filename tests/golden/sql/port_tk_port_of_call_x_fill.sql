-- title: port: After INSERT on Port of call {{x}}: count the source rows that were there first.

CREATE OR REPLACE FUNCTION {:schema}."tk_port_of_call_x_fill_073f59"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- After INSERT on Port of call {{x}}: count the source rows that were there first.
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
    IF TG_RELID <> {:regclass Port of call %7Bx%7D} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass Port of call %7Bx%7D} THEN
        RAISE EXCEPTION USING MESSAGE = format('This trigger function is not for %s.', TG_RELID::regclass),
                  ERRCODE = 'insufficient_privilege';
    END IF;
    IF EXISTS (
        SELECT
        FROM new_rows AS inserted
        WHERE (SELECT true FROM {select} AS source WHERE source."destination_id" = inserted."PortCode" LIMIT 1)
            OR (SELECT true FROM {select} AS source WHERE source."From" = inserted."PortCode" LIMIT 1)
    ) THEN
        -- Steps of this statement that fire later would add rows that the value holds already: they recompute.
        PERFORM set_config('trigger_kit.filled_fa056e', extract(epoch FROM statement_timestamp())::text, true);
        tk_depth := set_config('trigger_kit.depth', pg_trigger_depth()::text, true);
        UPDATE {Port of call %7Bx%7D} AS target -- library.Port:arrivals, library.Port:miles_in, library.Port:departures
        SET
            "arrivals" = value_1."arrivals",
            "miles_in" = value_1."miles_in",
            "order" = value_2."order"
        FROM {Port of call %7Bx%7D} AS this
        CROSS JOIN LATERAL (
            SELECT
                count(*) FILTER (WHERE NOT "source"."cancelled") AS "arrivals",
                coalesce(sum("source"."group"), 0) AS "miles_in"
            FROM {select} AS source
            WHERE source."destination_id" = this."PortCode"
        ) AS value_1
        CROSS JOIN LATERAL (
            SELECT
                count(*) AS "order"
            FROM {select} AS source
            WHERE source."From" = this."PortCode"
        ) AS value_2
        WHERE target."id" = this."id"
        AND this."id" = ANY (ARRAY(
            SELECT inserted."id"
            FROM new_rows AS inserted
        ))
        AND (
            target."arrivals" IS DISTINCT FROM value_1."arrivals"
            OR target."miles_in" IS DISTINCT FROM value_1."miles_in"
            OR target."order" IS DISTINCT FROM value_2."order"
        );
        tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);
    END IF;
    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_port_of_call_x_fill_073f59"() FROM PUBLIC;

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER INSERT ON {Port of call %7Bx%7D}
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_port_of_call_x_fill_073f59"();
