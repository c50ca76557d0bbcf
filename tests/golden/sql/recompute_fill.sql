-- title: recompute: After INSERT on archive_publisher: count the source rows that were there first.

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_publisher_fill_816489"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- After INSERT on archive_publisher: count the source rows that were there first.
-- Rules of archive.Publisher:
--   kept_list = ArrayAgg("works__title", order_by=["works__title", "works__id"])
--   kept_text = First("works__title", order_by="-works__day")
--   the_flag = Exists("works", filter=Q(works__published=True))
-- Written by trigger_kit. To change it, change the rules and run makemigrations.
DECLARE
    tk_depth text;
    tk_outer_depth text := coalesce(current_setting('trigger_kit.depth', true), '');
BEGIN
    -- This function runs as its owner: not for a table that somebody else has put it on.
    IF TG_RELID <> {:regclass archive_publisher} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_publisher} THEN
        RAISE EXCEPTION USING MESSAGE = format('This trigger function is not for %s.', TG_RELID::regclass),
                  ERRCODE = 'insufficient_privilege';
    END IF;
    IF EXISTS (
        SELECT
        FROM new_rows AS inserted
        CROSS JOIN LATERAL (
            SELECT
                (ARRAY_AGG("archive_work"."title" ORDER BY "archive_work"."title", "archive_work"."id"))::text[] AS "kept_list"
            FROM (SELECT inserted.*) AS "archive_publisher"
            LEFT OUTER JOIN {archive_work} AS "archive_work" ON ("archive_work"."publisher_id" = "archive_publisher"."number")
            GROUP BY "archive_publisher"."id"
            OFFSET 0
        ) AS value_1
        WHERE (SELECT true FROM {archive_work} AS source WHERE source."publisher_id" = inserted."number" LIMIT 1)
            OR inserted."kept_list" IS DISTINCT FROM value_1."kept_list"
    ) THEN
        tk_depth := set_config('trigger_kit.depth', pg_trigger_depth()::text, true);
        UPDATE {archive_publisher} AS target -- archive.Publisher:kept_text, archive.Publisher:the_flag, archive.Publisher:kept_list
        SET
            "kept_text" = value_1."kept_text",
            "the_flag" = value_1."the_flag",
            "kept_list" = value_2."kept_list"
        FROM {archive_publisher} AS this
        CROSS JOIN LATERAL (
            SELECT
                (
                    SELECT "source"."title"
                    FROM {archive_work} AS source
                    WHERE source."publisher_id" = this."number"
                    ORDER BY "source"."day" DESC, "source"."id" ASC
                    LIMIT 1
                )::text AS "kept_text",
                (EXISTS (
                    SELECT
                    FROM {archive_work} AS source
                    WHERE source."publisher_id" = this."number"
                      AND "source"."published"
                ))::boolean AS "the_flag"
        ) AS value_1
        CROSS JOIN LATERAL (
            SELECT
                (ARRAY_AGG("archive_work"."title" ORDER BY "archive_work"."title", "archive_work"."id"))::text[] AS "kept_list"
            FROM (SELECT this.*) AS "archive_publisher"
            LEFT OUTER JOIN {archive_work} AS "archive_work" ON ("archive_work"."publisher_id" = "archive_publisher"."number")
            GROUP BY "archive_publisher"."id"
        ) AS value_2
        WHERE target."id" = this."id"
        AND this."id" = ANY (ARRAY(
            SELECT inserted."id"
            FROM new_rows AS inserted
        ))
        AND (
            target."kept_text" IS DISTINCT FROM value_1."kept_text"
            OR target."the_flag" IS DISTINCT FROM value_1."the_flag"
            OR target."kept_list" IS DISTINCT FROM value_2."kept_list"
        );
        tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);
    END IF;
    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_publisher_fill_816489"() FROM PUBLIC;

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER INSERT ON {archive_publisher}
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_archive_publisher_fill_816489"();
