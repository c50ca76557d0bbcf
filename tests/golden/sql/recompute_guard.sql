-- title: recompute: Before UPDATE on archive_publisher: only maintenance writes the kept columns.

CREATE OR REPLACE FUNCTION {:schema}."~tk_archive_publisher_guard_c8d706"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- Before UPDATE on archive_publisher: only maintenance writes the kept columns.
-- Rules of archive.Publisher:
--   kept_list = ArrayAgg("works__title", order_by=["works__title", "works__id"])
--   kept_text = First("works__title", order_by="-works__day")
--   the_flag = Exists("works", filter=Q(works__published=True))
-- Written by trigger_kit. To change it, change the rules and run makemigrations.
BEGIN
    -- This function runs as its owner: not for a table that somebody else has put it on.
    IF TG_RELID <> {:regclass archive_publisher} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_publisher} THEN
        RAISE EXCEPTION USING MESSAGE = format('This trigger function is not for %s.', TG_RELID::regclass),
                  ERRCODE = 'insufficient_privilege';
    END IF;
    -- Maintenance says at which trigger depth it writes; everybody else meets the guard.
    IF current_setting('trigger_kit.depth', true) IS DISTINCT FROM (pg_trigger_depth() - 1)::text AND (
        NEW."kept_list" IS DISTINCT FROM OLD."kept_list"
        OR NEW."kept_text" IS DISTINCT FROM OLD."kept_text"
        OR NEW."the_flag" IS DISTINCT FROM OLD."the_flag"
    ) THEN
        NEW."kept_list" := OLD."kept_list";
        NEW."kept_text" := OLD."kept_text";
        NEW."the_flag" := OLD."the_flag";
    END IF;

    IF NEW."number" IS DISTINCT FROM OLD."number" THEN
        SELECT value."kept_text", value."the_flag"
        INTO NEW."kept_text", NEW."the_flag"
        FROM (
            SELECT
                (
                    SELECT "source"."title"
                    FROM {archive_work} AS source
                    WHERE source."publisher_id" = NEW."number"
                    ORDER BY "source"."day" DESC, "source"."id" ASC
                    LIMIT 1
                )::text AS "kept_text",
                (EXISTS (
                    SELECT
                    FROM {archive_work} AS source
                    WHERE source."publisher_id" = NEW."number"
                      AND "source"."published"
                ))::boolean AS "the_flag"
        ) AS value;
        SELECT value."kept_list"
        INTO NEW."kept_list"
        FROM (
            SELECT
                (ARRAY_AGG("archive_work"."title" ORDER BY "archive_work"."title", "archive_work"."id"))::text[] AS "kept_list"
            FROM (SELECT NEW.*) AS "archive_publisher"
            LEFT OUTER JOIN {archive_work} AS "archive_work" ON ("archive_work"."publisher_id" = "archive_publisher"."number")
            GROUP BY "archive_publisher"."id"
        ) AS value;
    END IF;
    RETURN NEW;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."~tk_archive_publisher_guard_c8d706"() FROM PUBLIC;

CREATE OR REPLACE TRIGGER {:trigger}
    BEFORE UPDATE ON {archive_publisher}
    FOR EACH ROW
    EXECUTE FUNCTION {:schema}."~tk_archive_publisher_guard_c8d706"();
