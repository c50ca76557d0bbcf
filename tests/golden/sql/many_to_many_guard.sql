-- title: many_to_many: Before UPDATE on archive_work: only maintenance writes the kept columns.

CREATE OR REPLACE FUNCTION {:schema}."~tk_archive_work_guard_2f0dda"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- Before UPDATE on archive_work: only maintenance writes the kept columns.
-- Rules of archive.Work:
--   the_count = Count("tags", filter=Q(tags__active=True))
-- Written by trigger_kit. To change it, change the rules and run makemigrations.
BEGIN
    -- This function runs as its owner: not for a table that somebody else has put it on.
    IF TG_RELID <> {:regclass archive_work} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_work} THEN
        RAISE EXCEPTION USING MESSAGE = format('This trigger function is not for %s.', TG_RELID::regclass),
                  ERRCODE = 'insufficient_privilege';
    END IF;
    -- Maintenance says at which trigger depth it writes; everybody else meets the guard.
    IF current_setting('trigger_kit.depth', true) IS DISTINCT FROM (pg_trigger_depth() - 1)::text AND (
        NEW."the_count" IS DISTINCT FROM OLD."the_count"
    ) THEN
        NEW."the_count" := OLD."the_count";
    END IF;

    IF NEW."id" IS DISTINCT FROM OLD."id" THEN
        -- Steps of this statement would take off rows that the new value never held: they recompute.
        PERFORM set_config('trigger_kit.fresh_8545a5', extract(epoch FROM statement_timestamp())::text, true);
        SELECT value."the_count"
        INTO NEW."the_count"
        FROM (
            SELECT
                count("hop_1"."tag_id") FILTER (WHERE "hop_2"."active") AS "the_count"
            FROM {archive_work_tags} AS hop_1
            JOIN {archive_tag} AS hop_2
                ON hop_2."id" = hop_1."tag_id"
            WHERE hop_1."work_id" = NEW."id"
        ) AS value;
        IF EXISTS (SELECT true FROM {archive_work_tags} AS source WHERE source."work_id" = NEW."id" LIMIT 1) THEN
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
