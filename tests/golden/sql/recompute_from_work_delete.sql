-- title: recompute: After DELETE on archive_work: bring up to date archive_publisher (by number).

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_publisher_from_archive_work_delete_4d7dd2"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- After DELETE on archive_work: bring up to date archive_publisher (by number).
-- Rules of archive.Publisher:
--   kept_list = ArrayAgg("works__title", order_by=["works__title", "works__id"])
--   kept_text = First("works__title", order_by="-works__day")
--   the_flag = Exists("works", filter=Q(works__published=True))
-- Written by trigger_kit. To change it, change the rules and run makemigrations.
<<delta>>
DECLARE
    tk_is_paused boolean := {:schema}."tk_is_paused_v1"('archive_publisher'::text);
    tk_depth text;
    tk_outer_depth text := coalesce(current_setting('trigger_kit.depth', true), '');
BEGIN
    -- This function runs as its owner: not for a table that somebody else has put it on.
    IF TG_RELID <> {:regclass archive_work} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_work} THEN
        RAISE EXCEPTION USING MESSAGE = format('This trigger function is not for %s.', TG_RELID::regclass),
                  ERRCODE = 'insufficient_privilege';
    END IF;
    <<deltas>>
    DECLARE
        tk_keys bigint[];
        tk_plans text;
        tk_outer_plans text := current_setting('plan_cache_mode');
        tk_outer_seqscan text := current_setting('enable_seqscan');
    BEGIN
        -- One plan for arrays of any length, by index: planning anew would take longer than most statements.
        tk_plans := set_config('plan_cache_mode', 'force_generic_plan', true);
        tk_plans := set_config('enable_seqscan', 'off', true);
        IF tk_is_paused THEN
            -- Paused: note which targets were touched, for the repair at the end of the pause.
            SELECT array_agg(touched.tk_key)
            INTO tk_keys
            FROM (
                SELECT DISTINCT source."publisher_id" AS tk_key
                FROM old_rows AS source
            ) AS touched
            WHERE touched.tk_key IS NOT NULL;
            INSERT INTO {:schema}."tk_touched" (target, key_column, key)
            SELECT 'archive_publisher', 'number', touched.tk_key::text
            FROM unnest(tk_keys) AS touched (tk_key);
            tk_plans := set_config('plan_cache_mode', tk_outer_plans, true);
            tk_plans := set_config('enable_seqscan', tk_outer_seqscan, true);
            RETURN NULL;
        END IF;

        -- One change per target, in key order; targets that do not change are left out.
        SELECT
            array_agg(change.tk_key)
        INTO tk_keys
        FROM (
            SELECT
                source."publisher_id" AS tk_key,
                true AS tk_touched
            FROM old_rows AS source
            WHERE source."publisher_id" IS NOT NULL
            GROUP BY source."publisher_id"
            ORDER BY tk_key
        ) AS change
        WHERE change.tk_touched;

        IF tk_keys IS NULL THEN
            tk_plans := set_config('plan_cache_mode', tk_outer_plans, true);
            tk_plans := set_config('enable_seqscan', tk_outer_seqscan, true);
            RETURN NULL;
        END IF;

        -- Lock in key order, so that two bulk statements cannot deadlock.
        PERFORM
        FROM {archive_publisher} AS locked
        WHERE locked."number" = ANY (tk_keys)
        ORDER BY locked."id"
        FOR NO KEY UPDATE;
        IF current_setting('transaction_isolation') = 'repeatable read' THEN
            PERFORM set_config('trigger_kit.locking', pg_trigger_depth()::text, true);
            UPDATE {archive_publisher} AS locked
            SET "id" = locked."id"
            WHERE locked."number" = ANY (tk_keys);
            PERFORM set_config('trigger_kit.locking', '', true);
        END IF;

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
        AND this."number" = ANY (tk_keys)
        AND (
            target."kept_text" IS DISTINCT FROM value_1."kept_text"
            OR target."the_flag" IS DISTINCT FROM value_1."the_flag"
            OR target."kept_list" IS DISTINCT FROM value_2."kept_list"
        );
        tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);
        tk_plans := set_config('plan_cache_mode', tk_outer_plans, true);
        tk_plans := set_config('enable_seqscan', tk_outer_seqscan, true);
        RETURN NULL;
    END;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_publisher_from_archive_work_delete_4d7dd2"() FROM PUBLIC;

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER DELETE ON {archive_work}
    REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_archive_publisher_from_archive_work_delete_4d7dd2"();
