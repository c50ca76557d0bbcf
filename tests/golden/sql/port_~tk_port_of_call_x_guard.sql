-- title: port: Before UPDATE on Port of call {{x}}: only maintenance writes the kept columns.

CREATE OR REPLACE FUNCTION {:schema}."~tk_port_of_call_x_guard_36f2f9"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- Before UPDATE on Port of call {{x}}: only maintenance writes the kept columns.
-- Rules of library.Port:
--   arrivals = Count("coming", filter=Q(coming__cancelled=False))
--   order = Count("leaving")
--   miles_in = Sum("coming__miles", default=0)
-- Written by trigger_kit. To change it, change the rules and run makemigrations.
BEGIN
    -- This function runs as its owner: not for a table that somebody else has put it on.
    IF TG_RELID <> {:regclass Port of call %7Bx%7D} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass Port of call %7Bx%7D} THEN
        RAISE EXCEPTION USING MESSAGE = format('This trigger function is not for %s.', TG_RELID::regclass),
                  ERRCODE = 'insufficient_privilege';
    END IF;
    -- Maintenance says at which trigger depth it writes; everybody else meets the guard.
    IF current_setting('trigger_kit.depth', true) IS DISTINCT FROM (pg_trigger_depth() - 1)::text AND (
        NEW."arrivals" IS DISTINCT FROM OLD."arrivals"
        OR NEW."order" IS DISTINCT FROM OLD."order"
        OR NEW."miles_in" IS DISTINCT FROM OLD."miles_in"
    ) THEN
        IF NEW."miles_in" IS DISTINCT FROM OLD."miles_in" THEN
            RAISE EXCEPTION USING MESSAGE = 'The column of library.Port:miles_in is kept by trigger_kit and cannot be written.',
                      ERRCODE = 'integrity_constraint_violation',
                      HINT = 'Leave the column out of the UPDATE: its value follows from other rows.',
                      SCHEMA = TG_TABLE_SCHEMA,
                      TABLE = TG_TABLE_NAME,
                      COLUMN = 'miles_in';
        END IF;
        NEW."arrivals" := OLD."arrivals";
        NEW."order" := OLD."order";
    END IF;

    IF NEW."PortCode" IS DISTINCT FROM OLD."PortCode" THEN
        -- Steps of this statement would take off rows that the new value never held: they recompute.
        PERFORM set_config('trigger_kit.fresh_fa056e', extract(epoch FROM statement_timestamp())::text, true);
        SELECT value."arrivals", value."miles_in"
        INTO NEW."arrivals", NEW."miles_in"
        FROM (
            SELECT
                count(*) FILTER (WHERE NOT "source"."cancelled") AS "arrivals",
                coalesce(sum("source"."group"), 0) AS "miles_in"
            FROM {select} AS source
            WHERE source."destination_id" = NEW."PortCode"
        ) AS value;
        SELECT value."order"
        INTO NEW."order"
        FROM (
            SELECT
                count(*) AS "order"
            FROM {select} AS source
            WHERE source."From" = NEW."PortCode"
        ) AS value;
        IF EXISTS (SELECT true FROM {select} AS source WHERE source."destination_id" = NEW."PortCode" LIMIT 1) OR EXISTS (SELECT true FROM {select} AS source WHERE source."From" = NEW."PortCode" LIMIT 1) THEN
            -- Steps of this statement that fire later would add rows that the value holds already: they recompute.
            PERFORM set_config('trigger_kit.filled_fa056e', extract(epoch FROM statement_timestamp())::text, true);
        END IF;
    END IF;
    RETURN NEW;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."~tk_port_of_call_x_guard_36f2f9"() FROM PUBLIC;

CREATE OR REPLACE TRIGGER {:trigger}
    BEFORE UPDATE ON {Port of call %7Bx%7D}
    FOR EACH ROW
    EXECUTE FUNCTION {:schema}."~tk_port_of_call_x_guard_36f2f9"();
