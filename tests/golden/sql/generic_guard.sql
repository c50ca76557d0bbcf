-- title: generic: Before UPDATE on archive_work: only maintenance writes the kept columns.

CREATE OR REPLACE FUNCTION {:schema}."~tk_archive_work_guard_2f0dda"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- Before UPDATE on archive_work: only maintenance writes the kept columns.
-- Rules of archive.Work:
--   the_total = Sum("notes__weight", default=0)
-- Written by trigger_kit. To change it, change the rules and run makemigrations.
BEGIN
    -- This function runs as its owner: not for a table that somebody else has put it on.
    IF TG_RELID <> {:regclass archive_work} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_work} THEN
        RAISE EXCEPTION USING MESSAGE = format('This trigger function is not for %s.', TG_RELID::regclass),
                  ERRCODE = 'insufficient_privilege';
    END IF;
    -- Maintenance says at which trigger depth it writes; everybody else meets the guard.
    IF current_setting('trigger_kit.depth', true) IS DISTINCT FROM (pg_trigger_depth() - 1)::text AND (
        NEW."the_total" IS DISTINCT FROM OLD."the_total"
    ) THEN
        NEW."the_total" := OLD."the_total";
    END IF;

    IF NEW."id" IS DISTINCT FROM OLD."id" THEN
        -- Steps of this statement would take off rows that the new value never held: they recompute.
        PERFORM set_config('trigger_kit.fresh_8545a5', extract(epoch FROM statement_timestamp())::text, true);
        PERFORM pg_advisory_xact_lock_shared(4513436146170507018);
        SELECT value."the_total"
        INTO NEW."the_total"
        FROM (
            SELECT
                coalesce(sum("source"."weight"), 0) AS "the_total"
            FROM {archive_note} AS source
            WHERE source."object_id" = NEW."id" AND source."content_type_id" = (SELECT type.id FROM {django_content_type} AS type WHERE type.app_label = 'archive' AND type.model = 'work')
        ) AS value;
        IF EXISTS (SELECT true FROM {archive_note} AS source WHERE source."object_id" = NEW."id" AND source."content_type_id" = (SELECT type.id FROM {django_content_type} AS type WHERE type.app_label = 'archive' AND type.model = 'work') LIMIT 1) THEN
            -- Steps of this statement that fire later would add rows that the value holds already: they recompute.
            PERFORM set_config('trigger_kit.filled_8545a5', extract(epoch FROM statement_timestamp())::text, true);
        END IF;
    END IF;
    RETURN NEW;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."~tk_archive_work_guard_2f0dda"() FROM PUBLIC;

CREATE OR REPLACE TRIGGER {:trigger}
    BEFORE UPDATE ON {archive_work}
    FOR EACH ROW
    EXECUTE FUNCTION {:schema}."~tk_archive_work_guard_2f0dda"();
