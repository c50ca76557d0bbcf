-- title: path: After UPDATE on archive_review: add the difference to archive_publisher (by number).

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_publisher_from_archive_review_update_bbb6f2"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- After UPDATE on archive_review: add the difference to archive_publisher (by number).
-- Rules of archive.Publisher:
--   the_total = Sum("works__reviews__stars", default=0)
-- Written by trigger_kit. To change it, change the rules and run makemigrations.
<<delta>>
DECLARE
    tk_is_paused boolean := {:schema}."tk_is_paused_v1"('archive_publisher'::text);
    tk_depth text;
    tk_outer_depth text := coalesce(current_setting('trigger_kit.depth', true), '');
    tk_recompute boolean := false;
    tk_is_one boolean;
    tk_written bigint;
    tk_key integer;
    "the_total" bigint;
BEGIN
    -- This function runs as its owner: not for a table that somebody else has put it on.
    IF TG_RELID <> {:regclass archive_review} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_review} THEN
        RAISE EXCEPTION USING MESSAGE = format('This trigger function is not for %s.', TG_RELID::regclass),
                  ERRCODE = 'insufficient_privilege';
    END IF;
    -- An UPDATE that only writes rows which were locked changes nothing.
    IF current_setting('trigger_kit.locking', true) = (pg_trigger_depth() - 1)::text THEN
        RETURN NULL;
    END IF;

    -- A full value that this very statement has written may hold these rows already.
    IF current_setting('trigger_kit.filled_f5afcb', true) <> '' THEN
        tk_recompute := current_setting('trigger_kit.filled_f5afcb', true) = extract(epoch FROM statement_timestamp())::text;
    END IF;
    -- A target that this very statement has created never held the rows that leave it.
    IF current_setting('trigger_kit.fresh_f5afcb', true) <> '' THEN
        tk_recompute := tk_recompute OR current_setting('trigger_kit.fresh_f5afcb', true) = extract(epoch FROM statement_timestamp())::text;
    END IF;

    -- Most statements change one row: nothing to sum, one UPDATE per target.
    IF NOT tk_is_paused AND NOT tk_recompute AND current_setting('transaction_isolation') <> 'repeatable read' THEN
        <<before>>
        DECLARE
            "work_id" bigint;
            "stars" integer;
            tk_part_1 bigint;
        BEGIN
            <<after>>
            DECLARE
                "work_id" bigint;
                "stars" integer;
                tk_part_1 bigint;
            BEGIN
                SELECT
                    NOT EXISTS (SELECT FROM old_rows OFFSET 1),
                    old_rows."work_id", old_rows."stars",
                    new_rows."work_id", new_rows."stars"
                INTO
                    tk_is_one,
                    before."work_id", before."stars",
                    after."work_id", after."stars"
                FROM old_rows CROSS JOIN new_rows
                LIMIT 1;
                -- Nothing that a rule reads has changed.
                IF tk_is_one IS NULL
                   OR tk_is_one
                   AND before."work_id" IS NOT DISTINCT FROM after."work_id"
                   AND before."stars" IS NOT DISTINCT FROM after."stars"
                THEN
                    RETURN NULL;
                END IF;
                IF tk_is_one THEN
                    IF before."work_id" IS NOT DISTINCT FROM after."work_id" THEN
                        -- What the row counted for, and what it counts for now.
                        before.tk_part_1 := coalesce("before"."stars", 0)::bigint;
                        after.tk_part_1 := coalesce("after"."stars", 0)::bigint;
                        delta."the_total" := after.tk_part_1 - before.tk_part_1;
                        IF after."work_id" IS NULL OR (
                            delta."the_total" = 0
                        ) THEN
                            RETURN NULL;
                        END IF;
                        -- Lock what the path leads over, so that it cannot change meanwhile.
                        SELECT hop_1."publisher_id"
                        INTO tk_key
                        FROM {archive_work} AS hop_1
                        WHERE hop_1."id" = after."work_id"
                        FOR SHARE;
                        GET DIAGNOSTICS tk_written = ROW_COUNT;
                        IF tk_written > 0 THEN
                            IF tk_key IS NULL THEN
                                RETURN NULL;
                            END IF;
                            tk_depth := set_config('trigger_kit.depth', pg_trigger_depth()::text, true);
                            UPDATE {archive_publisher} AS target -- archive.Publisher:the_total
                            SET
                                "the_total" = target."the_total" + delta."the_total"
                            WHERE target."number" = tk_key;
                            GET DIAGNOSTICS tk_written = ROW_COUNT;
                            tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);
                            IF tk_written > 0 THEN
                                RETURN NULL;
                            END IF;
                        END IF;
                    END IF;
                END IF;
            END;
        END;
    END IF;

    <<deltas>>
    DECLARE
        tk_keys bigint[];
        "the_total" bigint[];
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
            FROM {archive_work} AS locked
            WHERE locked."id" = ANY (ARRAY(
                SELECT hop_2."work_id"
                FROM (
                    SELECT -1 AS tk_sign, changed.*
                    FROM (
                        SELECT old_rows."work_id", old_rows."stars" FROM old_rows
                        EXCEPT ALL
                        SELECT new_rows."work_id", new_rows."stars" FROM new_rows
                    ) AS changed
                    UNION ALL
                    SELECT 1 AS tk_sign, changed.*
                    FROM (
                        SELECT new_rows."work_id", new_rows."stars" FROM new_rows
                        EXCEPT ALL
                        SELECT old_rows."work_id", old_rows."stars" FROM old_rows
                    ) AS changed
                ) AS hop_2
            ))
            ORDER BY locked."id"
            FOR NO KEY UPDATE;
            PERFORM set_config('trigger_kit.locking', pg_trigger_depth()::text, true);
            UPDATE {archive_work} AS locked
            SET "id" = locked."id"
            WHERE locked."id" = ANY (ARRAY(
                SELECT hop_2."work_id"
                FROM (
                    SELECT -1 AS tk_sign, changed.*
                    FROM (
                        SELECT old_rows."work_id", old_rows."stars" FROM old_rows
                        EXCEPT ALL
                        SELECT new_rows."work_id", new_rows."stars" FROM new_rows
                    ) AS changed
                    UNION ALL
                    SELECT 1 AS tk_sign, changed.*
                    FROM (
                        SELECT new_rows."work_id", new_rows."stars" FROM new_rows
                        EXCEPT ALL
                        SELECT old_rows."work_id", old_rows."stars" FROM old_rows
                    ) AS changed
                ) AS hop_2
            ));
            PERFORM set_config('trigger_kit.locking', '', true);
        ELSE
            PERFORM
            FROM {archive_work} AS locked
            WHERE locked."id" = ANY (ARRAY(
                SELECT hop_2."work_id"
                FROM (
                    SELECT -1 AS tk_sign, changed.*
                    FROM (
                        SELECT old_rows."work_id", old_rows."stars" FROM old_rows
                        EXCEPT ALL
                        SELECT new_rows."work_id", new_rows."stars" FROM new_rows
                    ) AS changed
                    UNION ALL
                    SELECT 1 AS tk_sign, changed.*
                    FROM (
                        SELECT new_rows."work_id", new_rows."stars" FROM new_rows
                        EXCEPT ALL
                        SELECT old_rows."work_id", old_rows."stars" FROM old_rows
                    ) AS changed
                ) AS hop_2
            ))
            ORDER BY locked."id"
            FOR SHARE;
        END IF;
        DECLARE
            tk_noted bigint;
        BEGIN
            INSERT INTO {:schema}."tk_waiting" (target, place, key)
            SELECT 'archive_publisher', '686adc', ARRAY[(child."work_id")::text]
            FROM (
                SELECT DISTINCT child."work_id"
                FROM (
                    SELECT -1 AS tk_sign, changed.*
                    FROM (
                        SELECT old_rows."work_id", old_rows."stars" FROM old_rows
                        EXCEPT ALL
                        SELECT new_rows."work_id", new_rows."stars" FROM new_rows
                    ) AS changed
                    UNION ALL
                    SELECT 1 AS tk_sign, changed.*
                    FROM (
                        SELECT new_rows."work_id", new_rows."stars" FROM new_rows
                        EXCEPT ALL
                        SELECT old_rows."work_id", old_rows."stars" FROM old_rows
                    ) AS changed
                ) AS child
                WHERE child.tk_sign = 1
                  AND child."work_id" IS NOT NULL
            ) AS child
            WHERE (
                SELECT true FROM {archive_work} AS parent
                WHERE child."work_id" = parent."id"
                LIMIT 1
            ) IS NULL;
            GET DIAGNOSTICS tk_noted = ROW_COUNT;
            IF tk_noted > 0 THEN
                PERFORM set_config('trigger_kit.waiting_f5afcb_{:schema_tag}', 'on', true);
            END IF;
        END;

        IF tk_recompute THEN
            SELECT array_agg(touched.tk_key ORDER BY touched.tk_key)
            INTO tk_keys
            FROM (
                SELECT hop_1."publisher_id" AS tk_key
                FROM old_rows AS hop_2
                JOIN LATERAL (
                    SELECT * FROM {archive_work} AS hop_1
                    WHERE hop_2."work_id" = hop_1."id"
                    OFFSET 0
                ) AS hop_1 ON true
                UNION
                SELECT hop_1."publisher_id" AS tk_key
                FROM new_rows AS hop_2
                JOIN LATERAL (
                    SELECT * FROM {archive_work} AS hop_1
                    WHERE hop_2."work_id" = hop_1."id"
                    OFFSET 0
                ) AS hop_1 ON true
            ) AS touched
            WHERE touched.tk_key IS NOT NULL;
        ELSE
            -- One change per target, in key order; targets that do not change are left out.
            SELECT
                array_agg(change.tk_key),
                array_agg(change."the_total")
            INTO tk_keys, "the_total"
            FROM (
                SELECT
                    hop_1."publisher_id" AS tk_key,
                    coalesce(sum(hop_2.tk_sign * "hop_2"."stars"::bigint), 0)::bigint AS "the_total"
                FROM (
                    SELECT -1 AS tk_sign, changed.*
                    FROM (
                        SELECT old_rows."work_id", old_rows."stars" FROM old_rows
                        EXCEPT ALL
                        SELECT new_rows."work_id", new_rows."stars" FROM new_rows
                    ) AS changed
                    UNION ALL
                    SELECT 1 AS tk_sign, changed.*
                    FROM (
                        SELECT new_rows."work_id", new_rows."stars" FROM new_rows
                        EXCEPT ALL
                        SELECT old_rows."work_id", old_rows."stars" FROM old_rows
                    ) AS changed
                ) AS hop_2
                JOIN LATERAL (
                    SELECT * FROM {archive_work} AS hop_1
                    WHERE hop_2."work_id" = hop_1."id"
                    OFFSET 0
                ) AS hop_1 ON true
                WHERE hop_1."publisher_id" IS NOT NULL
                GROUP BY hop_1."publisher_id"
                ORDER BY tk_key
            ) AS change
            WHERE change."the_total" <> 0;
        END IF;
        tk_plans := set_config('plan_cache_mode', tk_outer_plans, true);
        tk_plans := set_config('enable_seqscan', tk_outer_seqscan, true);
        PERFORM {:schema}."tk_archive_publisher_apply_c0006e"(tk_keys, deltas."the_total", tk_recompute, tk_is_paused, ARRAY['d507ea']::text[]);
        RETURN NULL;
    END;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_publisher_from_archive_review_update_bbb6f2"() FROM PUBLIC;

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER UPDATE ON {archive_review}
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_archive_publisher_from_archive_review_update_bbb6f2"();
