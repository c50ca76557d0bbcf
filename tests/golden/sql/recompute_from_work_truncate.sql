-- title: recompute: After TRUNCATE of archive_work: its rows count for nothing any more.

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_publisher_from_archive_work_truncate_46d08c"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- After TRUNCATE of archive_work: its rows count for nothing any more.
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
    IF TG_RELID <> {:regclass archive_work} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_work} THEN
        RAISE EXCEPTION USING MESSAGE = format('This trigger function is not for %s.', TG_RELID::regclass),
                  ERRCODE = 'insufficient_privilege';
    END IF;
    -- TRUNCATE takes rows away that this snapshot does not show, and with them what targets count.
    IF current_setting('transaction_isolation') IN ('repeatable read', 'serializable')
        AND pg_relation_size({:regclass archive_publisher}) > 0
    THEN
        RAISE EXCEPTION USING MESSAGE = 'TRUNCATE of archive_work cannot keep archive.Publisher:kept_list, archive.Publisher:kept_text, archive.Publisher:the_flag at this isolation level.',
                  ERRCODE = 'feature_not_supported',
                  HINT = 'Use READ COMMITTED for it, or DELETE.';
    END IF;

    PERFORM
    FROM {archive_publisher} AS target
    WHERE target."kept_text" IS DISTINCT FROM NULL
       OR target."the_flag" IS DISTINCT FROM false
    ORDER BY target."id"
    FOR NO KEY UPDATE;

    tk_depth := set_config('trigger_kit.depth', pg_trigger_depth()::text, true);
    UPDATE {archive_publisher} AS target -- archive.Publisher:kept_text, archive.Publisher:the_flag
    SET "kept_text" = NULL,
        "the_flag" = false
    WHERE target."kept_text" IS DISTINCT FROM NULL
       OR target."the_flag" IS DISTINCT FROM false;
    tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);

    tk_depth := set_config('trigger_kit.depth', pg_trigger_depth()::text, true);
    UPDATE {archive_publisher} AS target -- archive.Publisher:kept_list
    SET
        "kept_list" = value_1."kept_list"
    FROM {archive_publisher} AS this
    CROSS JOIN LATERAL (
        SELECT
            (ARRAY_AGG("archive_work"."title" ORDER BY "archive_work"."title", "archive_work"."id"))::text[] AS "kept_list"
        FROM (SELECT this.*) AS "archive_publisher"
        LEFT OUTER JOIN {archive_work} AS "archive_work" ON ("archive_work"."publisher_id" = "archive_publisher"."number")
        GROUP BY "archive_publisher"."id"
    ) AS value_1
    WHERE target."id" = this."id"
    AND (
        target."kept_list" IS DISTINCT FROM value_1."kept_list"
    );
    tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);

    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_publisher_from_archive_work_truncate_46d08c"() FROM PUBLIC;

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER TRUNCATE ON {archive_work}
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_archive_publisher_from_archive_work_truncate_46d08c"();
