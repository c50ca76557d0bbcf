-- title: average: Before UPDATE on archive_publisher: only maintenance writes the kept columns.

CREATE OR REPLACE FUNCTION {:schema}."~tk_archive_publisher_guard_c8d706"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- Before UPDATE on archive_publisher: only maintenance writes the kept columns.
-- Rules of archive.Publisher:
--   kept_amount = Avg("works__pages")
--   kept_number = Sum("works__pages")
--   the_count = Count("works__pages")
-- Written by trigger_kit. To change it, change the rules and run makemigrations.
BEGIN
    -- This function runs as its owner: not for a table that somebody else has put it on.
    IF TG_RELID <> {:regclass archive_publisher} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_publisher} THEN
        RAISE EXCEPTION USING MESSAGE = format('This trigger function is not for %s.', TG_RELID::regclass),
                  ERRCODE = 'insufficient_privilege';
    END IF;
    -- Maintenance says at which trigger depth it writes; everybody else meets the guard.
    IF current_setting('trigger_kit.depth', true) IS DISTINCT FROM (pg_trigger_depth() - 1)::text AND (
        NEW."kept_amount" IS DISTINCT FROM OLD."kept_amount"
        OR NEW."kept_number" IS DISTINCT FROM OLD."kept_number"
        OR NEW."the_count" IS DISTINCT FROM OLD."the_count"
    ) THEN
        NEW."kept_amount" := OLD."kept_amount";
        NEW."kept_number" := OLD."kept_number";
        NEW."the_count" := OLD."the_count";
    END IF;

    IF NEW."number" IS DISTINCT FROM OLD."number" THEN
        -- Steps of this statement would take off rows that the new value never held: they recompute.
        PERFORM set_config('trigger_kit.fresh_f5afcb', extract(epoch FROM statement_timestamp())::text, true);
        SELECT value."kept_amount", value."kept_number", value."the_count"
        INTO NEW."kept_amount", NEW."kept_number", NEW."the_count"
        FROM (
            SELECT
                (avg("source"."pages"))::numeric(20, 4) AS "kept_amount",
                sum("source"."pages") AS "kept_number",
                count("source"."pages") AS "the_count"
            FROM {archive_work} AS source
            WHERE source."publisher_id" = NEW."number"
        ) AS value;
        IF EXISTS (SELECT true FROM {archive_work} AS source WHERE source."publisher_id" = NEW."number" LIMIT 1) THEN
            -- Steps of this statement that fire later would add rows that the value holds already: they recompute.
            PERFORM set_config('trigger_kit.filled_f5afcb', extract(epoch FROM statement_timestamp())::text, true);
        END IF;
    END IF;
    RETURN NEW;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."~tk_archive_publisher_guard_c8d706"() FROM PUBLIC;

CREATE OR REPLACE TRIGGER {:trigger}
    BEFORE UPDATE ON {archive_publisher}
    FOR EACH ROW
    EXECUTE FUNCTION {:schema}."~tk_archive_publisher_guard_c8d706"();
