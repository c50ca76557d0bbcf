-- title: copy: Before UPDATE on archive_work: only maintenance writes the kept columns.

CREATE OR REPLACE FUNCTION {:schema}."~tk_archive_work_guard_2f0dda"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- Before UPDATE on archive_work: only maintenance writes the kept columns.
-- Rules of archive.Work:
--   the_label = Concat("title", Value(", "), "publisher__country__name")
-- Written by trigger_kit. To change it, change the rules and run makemigrations.
BEGIN
    -- This function runs as its owner: not for a table that somebody else has put it on.
    IF TG_RELID <> {:regclass archive_work} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_work} THEN
        RAISE EXCEPTION USING MESSAGE = format('This trigger function is not for %s.', TG_RELID::regclass),
                  ERRCODE = 'insufficient_privilege';
    END IF;
    -- Maintenance says at which trigger depth it writes; everybody else meets the guard.
    IF current_setting('trigger_kit.depth', true) IS DISTINCT FROM (pg_trigger_depth() - 1)::text AND (
        NEW."the_label" IS DISTINCT FROM OLD."the_label"
    ) THEN
        NEW."the_label" := OLD."the_label";
    END IF;

    IF NEW."publisher_id" IS DISTINCT FROM OLD."publisher_id" OR NEW."title" IS DISTINCT FROM OLD."title" THEN
        SELECT value."the_label"
        INTO NEW."the_label"
        FROM (
            SELECT
                (COALESCE("archive_work"."title", '') || COALESCE((COALESCE(', ', '') || COALESCE("archive_country"."name", '')), ''))::text AS "the_label"
            FROM (SELECT NEW.*) AS "archive_work"
            LEFT OUTER JOIN {archive_publisher} AS "archive_publisher" ON ("archive_publisher"."number" = "archive_work"."publisher_id")
            LEFT OUTER JOIN {archive_country} AS "archive_country" ON ("archive_country"."code" = "archive_publisher"."country_id")
        ) AS value;
    END IF;
    RETURN NEW;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."~tk_archive_work_guard_2f0dda"() FROM PUBLIC;

CREATE OR REPLACE TRIGGER {:trigger}
    BEFORE UPDATE ON {archive_work}
    FOR EACH ROW
    EXECUTE FUNCTION {:schema}."~tk_archive_work_guard_2f0dda"();
