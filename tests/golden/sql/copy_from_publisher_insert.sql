-- title: copy: After INSERT on archive_publisher: bring up to date archive_work (by publisher_id).

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_work_from_archive_publisher_insert_cf8597"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- After INSERT on archive_publisher: bring up to date archive_work (by publisher_id).
-- Rules of archive.Work:
--   the_label = Concat("title", Value(", "), "publisher__country__name")
-- Written by trigger_kit. To change it, change the rules and run makemigrations.
<<delta>>
DECLARE
    tk_is_paused boolean := {:schema}."tk_is_paused_v1"('archive_work'::text);
    tk_depth text;
    tk_outer_depth text := coalesce(current_setting('trigger_kit.depth', true), '');
BEGIN
    -- This function runs as its owner: not for a table that somebody else has put it on.
    IF TG_RELID <> {:regclass archive_publisher} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_publisher} THEN
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
        -- Lock what the path leads over, so that it cannot change meanwhile.
        IF current_setting('transaction_isolation') = 'repeatable read' THEN
            PERFORM
            FROM {archive_country} AS locked
            WHERE locked."code" = ANY (ARRAY(
                SELECT hop_1."country_id"
                FROM new_rows AS hop_1
            ))
            ORDER BY locked."code"
            FOR NO KEY UPDATE;
            PERFORM set_config('trigger_kit.locking', pg_trigger_depth()::text, true);
            UPDATE {archive_country} AS locked
            SET "code" = locked."code"
            WHERE locked."code" = ANY (ARRAY(
                SELECT hop_1."country_id"
                FROM new_rows AS hop_1
            ));
            PERFORM set_config('trigger_kit.locking', '', true);
        ELSE
            PERFORM
            FROM {archive_country} AS locked
            WHERE locked."code" = ANY (ARRAY(
                SELECT hop_1."country_id"
                FROM new_rows AS hop_1
            ))
            ORDER BY locked."code"
            FOR SHARE;
        END IF;
        DECLARE
            tk_noted bigint;
        BEGIN
            INSERT INTO {:schema}."tk_waiting" (target, place, key)
            SELECT 'archive_work', 'f20afb', ARRAY[(child."country_id")::text]
            FROM (
                SELECT DISTINCT child."country_id"
                FROM new_rows AS child
                WHERE child."country_id" IS NOT NULL
            ) AS child
            WHERE (
                SELECT true FROM {archive_country} AS parent
                WHERE parent."code" = child."country_id"
                LIMIT 1
            ) IS NULL;
            GET DIAGNOSTICS tk_noted = ROW_COUNT;
            IF tk_noted > 0 THEN
                PERFORM set_config('trigger_kit.waiting_8545a5_{:schema_tag}', 'on', true);
            END IF;
        END;

        IF tk_is_paused THEN
            -- Paused: note which targets were touched, for the repair at the end of the pause.
            SELECT array_agg(touched.tk_key)
            INTO tk_keys
            FROM (
                SELECT DISTINCT source."number" AS tk_key
                FROM new_rows AS source
            ) AS touched
            WHERE touched.tk_key IS NOT NULL;
            INSERT INTO {:schema}."tk_touched" (target, key_column, key)
            SELECT 'archive_work', 'publisher_id', touched.tk_key::text
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
                source."number" AS tk_key,
                true AS tk_touched
            FROM new_rows AS source
            WHERE source."number" IS NOT NULL
            GROUP BY source."number"
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
        FROM {archive_work} AS locked
        WHERE locked."publisher_id" = ANY (tk_keys)
        ORDER BY locked."id"
        FOR NO KEY UPDATE;
        IF current_setting('transaction_isolation') = 'repeatable read' THEN
            PERFORM set_config('trigger_kit.locking', pg_trigger_depth()::text, true);
            UPDATE {archive_work} AS locked
            SET "id" = locked."id"
            WHERE locked."publisher_id" = ANY (tk_keys);
            PERFORM set_config('trigger_kit.locking', '', true);
        END IF;

        tk_depth := set_config('trigger_kit.depth', pg_trigger_depth()::text, true);
        UPDATE {archive_work} AS target -- archive.Work:the_label
        SET
            "the_label" = value_1."the_label"
        FROM {archive_work} AS this
        CROSS JOIN LATERAL (
            SELECT
                (COALESCE("archive_work"."title", '') || COALESCE((COALESCE(', ', '') || COALESCE("archive_country"."name", '')), ''))::text AS "the_label"
            FROM (SELECT this.*) AS "archive_work"
            LEFT OUTER JOIN {archive_publisher} AS "archive_publisher" ON ("archive_publisher"."number" = "archive_work"."publisher_id")
            LEFT OUTER JOIN {archive_country} AS "archive_country" ON ("archive_country"."code" = "archive_publisher"."country_id")
        ) AS value_1
        WHERE target."id" = this."id"
        AND this."publisher_id" = ANY (tk_keys)
        AND (
            target."the_label" IS DISTINCT FROM value_1."the_label"
        );
        tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);
        tk_plans := set_config('plan_cache_mode', tk_outer_plans, true);
        tk_plans := set_config('enable_seqscan', tk_outer_seqscan, true);
        RETURN NULL;
    END;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_work_from_archive_publisher_insert_cf8597"() FROM PUBLIC;

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER INSERT ON {archive_publisher}
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_archive_work_from_archive_publisher_insert_cf8597"();
