-- title: path: Before UPDATE on archive_publisher: only maintenance writes the kept columns.

CREATE OR REPLACE FUNCTION {:schema}."~tk_archive_publisher_guard_c8d706"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- Before UPDATE on archive_publisher: only maintenance writes the kept columns.
-- Rules of archive.Publisher:
--   the_total = Sum("works__reviews__stars", default=0)
-- Written by trigger_kit. To change it, change the rules and run makemigrations.
BEGIN
    -- This function runs as its owner: not for a table that somebody else has put it on.
    IF TG_RELID <> {:regclass archive_publisher} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_publisher} THEN
        RAISE EXCEPTION USING MESSAGE = format('This trigger function is not for %s.', TG_RELID::regclass),
                  ERRCODE = 'insufficient_privilege';
    END IF;
    -- Maintenance says at which trigger depth it writes; everybody else meets the guard.
    IF current_setting('trigger_kit.depth', true) IS DISTINCT FROM (pg_trigger_depth() - 1)::text AND (
        NEW."the_total" IS DISTINCT FROM OLD."the_total"
    ) THEN
        NEW."the_total" := OLD."the_total";
    END IF;

    IF NEW."number" IS DISTINCT FROM OLD."number" THEN
        -- Steps of this statement would take off rows that the new value never held: they recompute.
        PERFORM set_config('trigger_kit.fresh_f5afcb', extract(epoch FROM statement_timestamp())::text, true);
        SELECT value."the_total"
        INTO NEW."the_total"
        FROM (
            SELECT
                coalesce(sum("hop_2"."stars"), 0) AS "the_total"
            FROM {archive_work} AS hop_1
            JOIN {archive_review} AS hop_2
                ON hop_2."work_id" = hop_1."id"
            WHERE hop_1."publisher_id" = NEW."number"
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
