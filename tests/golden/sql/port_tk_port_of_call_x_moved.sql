-- title: port: After a changed key on Port of call {{x}}: another transaction may have given it up meanwhile.

CREATE OR REPLACE FUNCTION {:schema}."tk_port_of_call_x_moved_1dd364"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- After a changed key on Port of call {{x}}: another transaction may have given it up meanwhile.
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
    tk_depth := set_config('trigger_kit.depth', pg_trigger_depth()::text, true);
    IF NEW."PortCode" IS DISTINCT FROM OLD."PortCode" THEN
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
        AND this."id" = NEW."id"
        AND (
            target."arrivals" IS DISTINCT FROM value_1."arrivals"
            OR target."miles_in" IS DISTINCT FROM value_1."miles_in"
            OR target."order" IS DISTINCT FROM value_2."order"
        );
    END IF;
    tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);
    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_port_of_call_x_moved_1dd364"() FROM PUBLIC;

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER UPDATE OF "PortCode" ON {Port of call %7Bx%7D}
    FOR EACH ROW
    WHEN (NEW."PortCode" IS DISTINCT FROM OLD."PortCode")
    EXECUTE FUNCTION {:schema}."tk_port_of_call_x_moved_1dd364"();
