-- title: recompute: Before UPDATE on archive_publisher: only maintenance writes the maintained columns.

CREATE OR REPLACE FUNCTION {:schema}."~tk_archive_publisher_guard_c8d706"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- Before UPDATE on archive_publisher: only maintenance writes the maintained columns.
-- Rules of archive.Publisher:
--   the_flag = Exists("works", filter=Q(works__published=True))
--   kept_text = First("works__title", order_by="-works__day")
--   kept_list = ArrayAgg("works__title", order_by=["works__title", "works__id"])
-- Written by trigger_kit. To change it, change the rules and run makemigrations.
BEGIN
    -- Maintenance says at which trigger depth it writes; everybody else meets the guard.
    IF current_setting('trigger_kit.depth', true) IS DISTINCT FROM (pg_trigger_depth() - 1)::text AND (
        NEW."the_flag" IS DISTINCT FROM OLD."the_flag"
        OR NEW."kept_text" IS DISTINCT FROM OLD."kept_text"
        OR NEW."kept_list" IS DISTINCT FROM OLD."kept_list"
    ) THEN
        NEW."the_flag" := OLD."the_flag";
        NEW."kept_text" := OLD."kept_text";
        NEW."kept_list" := OLD."kept_list";
    END IF;

    IF NEW."number" IS DISTINCT FROM OLD."number" THEN
        SELECT value."the_flag", value."kept_text"
        INTO NEW."the_flag", NEW."kept_text"
        FROM (
            SELECT
                (EXISTS (
                    SELECT
                    FROM {archive_work} AS source
                    WHERE source."publisher_id" = NEW."number"
                      AND "source"."published"
                ))::boolean AS "the_flag",
                (
                    SELECT "source"."title"
                    FROM {archive_work} AS source
                    WHERE source."publisher_id" = NEW."number"
                    ORDER BY "source"."day" DESC, "source"."id" ASC
                    LIMIT 1
                )::text AS "kept_text"
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

CREATE OR REPLACE TRIGGER "~tk_archive_publisher_guard_c8d706"
    BEFORE UPDATE ON {archive_publisher}
    FOR EACH ROW
    EXECUTE FUNCTION {:schema}."~tk_archive_publisher_guard_c8d706"();
