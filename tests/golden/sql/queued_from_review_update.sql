-- title: queued: After UPDATE on archive_review: append to the queue what changes in archive_work (by id).

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_work_from_archive_review_update_9f400a"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- After UPDATE on archive_review: append to the queue what changes in archive_work (by id).
-- Rules of archive.Work:
--   the_count = Count("reviews", filter=Q(reviews__stars__gt=3))
--   the_total = Sum("reviews__stars", default=0)
-- Written by trigger_kit. To change it, change the rules and run makemigrations.
<<delta>>
DECLARE
    tk_is_paused boolean := {:schema}."tk_is_paused_v1"('archive_work'::text);
    tk_depth text;
    tk_outer_depth text := coalesce(current_setting('trigger_kit.depth', true), '');
    tk_recompute boolean := false;
    tk_is_one boolean;
    tk_leaves boolean;
    tk_comes boolean;
    tk_written bigint;
    tk_key bigint;
    "the_count" bigint;
    "the_total" bigint;
BEGIN
    -- This function runs as its owner: not for a table that somebody else has put it on.
    IF TG_RELID <> {:regclass archive_review} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_review} THEN
        RAISE EXCEPTION USING MESSAGE = format('This trigger function is not for %s.', TG_RELID::regclass),
                  ERRCODE = 'insufficient_privilege';
    END IF;
    -- A full value that this very statement has written may hold these rows already.
    IF current_setting('trigger_kit.filled_8545a5', true) <> '' THEN
        tk_recompute := current_setting('trigger_kit.filled_8545a5', true) = extract(epoch FROM statement_timestamp())::text;
    END IF;
    -- A target that this very statement has created never held the rows that leave it.
    IF current_setting('trigger_kit.fresh_8545a5', true) <> '' THEN
        tk_recompute := tk_recompute OR current_setting('trigger_kit.fresh_8545a5', true) = extract(epoch FROM statement_timestamp())::text;
    END IF;

    -- Most statements change one row: nothing to sum, one UPDATE per target.
    IF NOT tk_is_paused AND NOT tk_recompute THEN
        <<before>>
        DECLARE
            "work_id" bigint;
            "stars" integer;
            tk_part_1 bigint;
            tk_part_2 bigint;
        BEGIN
            <<after>>
            DECLARE
                "work_id" bigint;
                "stars" integer;
                tk_part_1 bigint;
                tk_part_2 bigint;
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
                    -- What the row counted for, and what it counts for now.
                    before.tk_part_1 := CASE WHEN "before"."stars" > 3 THEN 1 ELSE 0 END;
                    before.tk_part_2 := coalesce("before"."stars", 0)::bigint;
                    after.tk_part_1 := CASE WHEN "after"."stars" > 3 THEN 1 ELSE 0 END;
                    after.tk_part_2 := coalesce("after"."stars", 0)::bigint;
                    tk_leaves := before."work_id" IS DISTINCT FROM after."work_id" AND before."work_id" IS NOT NULL AND (before.tk_part_1 <> 0 OR before.tk_part_2 <> 0);
                    tk_comes := before."work_id" IS DISTINCT FROM after."work_id" AND after."work_id" IS NOT NULL AND (after.tk_part_1 <> 0 OR after.tk_part_2 <> 0);
                    IF tk_leaves AND tk_comes THEN
                        IF NOT coalesce(current_setting('trigger_kit.purged_8545a5_{:schema_tag}', true), '') = 'on' THEN
                            INSERT INTO {:schema}."tk_pending_archive_work" ("id", "the_count", "the_total")
                            VALUES
                                (before."work_id", -before.tk_part_1, -before.tk_part_2),
                                (after."work_id", after.tk_part_1, after.tk_part_2);
                            -- Where this lock is free nobody waits for a notification: none is sent, which would cost every commit.
                            IF NOT pg_try_advisory_xact_lock_shared(1868610859874084438) THEN
                                PERFORM pg_notify('tk_pending_archive_work', '');
                            END IF;
                            RETURN NULL;
                        END IF;
                    ELSE
                        IF tk_leaves THEN
                            tk_key := before."work_id";
                            delta."the_count" := -before.tk_part_1;
                            delta."the_total" := -before.tk_part_2;
                        ELSIF tk_comes THEN
                            tk_key := after."work_id";
                            delta."the_count" := after.tk_part_1;
                            delta."the_total" := after.tk_part_2;
                        ELSIF before."work_id" = after."work_id" THEN
                            tk_key := after."work_id";
                            delta."the_count" := after.tk_part_1 - before.tk_part_1;
                            delta."the_total" := after.tk_part_2 - before.tk_part_2;
                        END IF;
                        IF tk_key IS NULL OR (
                            delta."the_count" = 0
                            AND delta."the_total" = 0
                        ) THEN
                            RETURN NULL;
                        END IF;
                        IF NOT coalesce(current_setting('trigger_kit.purged_8545a5_{:schema_tag}', true), '') = 'on' THEN
                            INSERT INTO {:schema}."tk_pending_archive_work" ("id", "the_count", "the_total")
                            VALUES
                                (tk_key, delta."the_count", delta."the_total");
                            -- Where this lock is free nobody waits for a notification: none is sent, which would cost every commit.
                            IF NOT pg_try_advisory_xact_lock_shared(1868610859874084438) THEN
                                PERFORM pg_notify('tk_pending_archive_work', '');
                            END IF;
                            tk_written := 1;
                        ELSE
                            tk_written := 0;
                        END IF;
                        IF tk_written > 0 THEN
                            RETURN NULL;
                        END IF;
                    END IF;
                END IF;
            END;
        END;
    END IF;

    <<deltas>>
    DECLARE
        tk_keys bigint[];
        "the_count" bigint[];
        "the_total" bigint[];
        tk_plans text;
        tk_outer_plans text := current_setting('plan_cache_mode');
        tk_outer_seqscan text := current_setting('enable_seqscan');
        tk_found bigint;
    BEGIN
        -- One plan for arrays of any length, by index: planning anew would take longer than most statements.
        tk_plans := set_config('plan_cache_mode', 'force_generic_plan', true);
        tk_plans := set_config('enable_seqscan', 'off', true);
        IF tk_is_paused THEN
            -- Paused: note which targets were touched, for the repair at the end of the pause.
            SELECT array_agg(touched.tk_key)
            INTO tk_keys
            FROM (
                SELECT source."work_id" AS tk_key
                FROM (
                    SELECT old_rows."work_id", old_rows."stars" FROM old_rows
                    EXCEPT ALL
                    SELECT new_rows."work_id", new_rows."stars" FROM new_rows
                ) AS source
                UNION
                SELECT source."work_id" AS tk_key
                FROM (
                    SELECT new_rows."work_id", new_rows."stars" FROM new_rows
                    EXCEPT ALL
                    SELECT old_rows."work_id", old_rows."stars" FROM old_rows
                ) AS source
            ) AS touched
            WHERE touched.tk_key IS NOT NULL;
            INSERT INTO {:schema}."tk_touched" (target, key_column, key)
            SELECT 'archive_work', 'id', touched.tk_key::text
            FROM unnest(tk_keys) AS touched (tk_key);
            -- Targets that are missing may come from another transaction: see tk_waiting.
            DECLARE
                tk_noted bigint;
            BEGIN
                INSERT INTO {:schema}."tk_waiting" (target, place, key)
                SELECT 'archive_work', '10db75', ARRAY[child.tk_key::text]
                FROM unnest(tk_keys) AS child (tk_key)
                WHERE NOT EXISTS (
                    SELECT FROM {archive_work} AS parent
                    WHERE parent."id" = child.tk_key
                );
                GET DIAGNOSTICS tk_noted = ROW_COUNT;
                IF tk_noted > 0 THEN
                    PERFORM set_config('trigger_kit.waiting_8545a5_{:schema_tag}', 'on', true);
                END IF;
            END;
            tk_plans := set_config('plan_cache_mode', tk_outer_plans, true);
            tk_plans := set_config('enable_seqscan', tk_outer_seqscan, true);
            RETURN NULL;
        END IF;

        IF tk_recompute THEN
            SELECT array_agg(touched.tk_key ORDER BY touched.tk_key)
            INTO tk_keys
            FROM (
                SELECT source."work_id" AS tk_key
                FROM old_rows AS source
                UNION
                SELECT source."work_id" AS tk_key
                FROM new_rows AS source
            ) AS touched
            WHERE touched.tk_key IS NOT NULL;
        ELSE
            -- One change per target, in key order; targets that do not change are left out.
            SELECT
                array_agg(change.tk_key),
                array_agg(change."the_count"),
                array_agg(change."the_total")
            INTO tk_keys, "the_count", "the_total"
            FROM (
                SELECT
                    source."work_id" AS tk_key,
                    coalesce(sum(source.tk_sign) FILTER (WHERE "source"."stars" > 3), 0) AS "the_count",
                    coalesce(sum(source.tk_sign * "source"."stars"::bigint), 0)::bigint AS "the_total"
                FROM (
                    SELECT -1 AS tk_sign, old_rows."work_id", old_rows."stars" FROM old_rows
                    UNION ALL
                    SELECT 1 AS tk_sign, new_rows."work_id", new_rows."stars" FROM new_rows
                ) AS source
                WHERE source."work_id" IS NOT NULL
                GROUP BY source."work_id"
                ORDER BY tk_key
            ) AS change
            WHERE change."the_count" <> 0
               OR change."the_total" <> 0;
        END IF;

        IF tk_keys IS NULL THEN
            tk_plans := set_config('plan_cache_mode', tk_outer_plans, true);
            tk_plans := set_config('enable_seqscan', tk_outer_seqscan, true);
            RETURN NULL;
        END IF;

        IF NOT tk_recompute THEN
            INSERT INTO {:schema}."tk_pending_archive_work" ("id", "the_count", "the_total")
            SELECT * FROM unnest(tk_keys, deltas."the_count", deltas."the_total")
                AS change (tk_key, "the_count", "the_total")
            WHERE NOT coalesce(current_setting('trigger_kit.purged_8545a5_{:schema_tag}', true), '') = 'on'
               OR EXISTS (SELECT FROM {archive_work} AS there WHERE there."id" = change.tk_key)
               OR EXISTS (SELECT FROM {:schema}."tk_pending_archive_work" AS pending WHERE pending."id" = change.tk_key)
               OR EXISTS (SELECT FROM new_rows AS child WHERE child."work_id" = change.tk_key);
            -- Where this lock is free nobody waits for a notification: none is sent, which would cost every commit.
            IF NOT pg_try_advisory_xact_lock_shared(1868610859874084438) THEN
                PERFORM pg_notify('tk_pending_archive_work', '');
            END IF;
        ELSE
            -- No delta is right here: write what is true, less what is pending.
            -- Lock in key order, so that two bulk statements cannot deadlock.
            PERFORM
            FROM {archive_work} AS locked
            WHERE locked."id" = ANY (tk_keys)
            ORDER BY locked."id"
            FOR NO KEY UPDATE;
            GET DIAGNOSTICS tk_found = ROW_COUNT;
            IF current_setting('transaction_isolation') = 'repeatable read' THEN
                PERFORM set_config('trigger_kit.locking', pg_trigger_depth()::text, true);
                UPDATE {archive_work} AS locked
                SET "id" = locked."id"
                WHERE locked."id" = ANY (tk_keys);
                PERFORM set_config('trigger_kit.locking', '', true);
            END IF;
            -- Targets that are missing may come from another transaction: see tk_waiting.
            IF tk_found < cardinality(tk_keys) THEN
                DECLARE
                    tk_noted bigint;
                BEGIN
                    INSERT INTO {:schema}."tk_waiting" (target, place, key)
                    SELECT 'archive_work', '10db75', ARRAY[child.tk_key::text]
                    FROM unnest(tk_keys) AS child (tk_key)
                    WHERE NOT EXISTS (
                        SELECT FROM {archive_work} AS parent
                        WHERE parent."id" = child.tk_key
                    );
                    GET DIAGNOSTICS tk_noted = ROW_COUNT;
                    IF tk_noted > 0 THEN
                        PERFORM set_config('trigger_kit.waiting_8545a5_{:schema_tag}', 'on', true);
                    END IF;
                END;
            END IF;
            PERFORM set_config('trigger_kit.filled_8545a5', extract(epoch FROM statement_timestamp())::text, true);
            tk_depth := set_config('trigger_kit.depth', pg_trigger_depth()::text, true);
            WITH taken_1 AS (
                UPDATE {:schema}."tk_pending_archive_work" AS pending
                SET "the_count" = NULL, "the_total" = NULL
                FROM {archive_work} AS this
                WHERE pending."id" = this."id"
                  AND (pending."the_count" IS NOT NULL OR pending."the_total" IS NOT NULL)
                  AND this."id" = ANY (tk_keys)
            )
            UPDATE {archive_work} AS target -- archive.Work:the_count, archive.Work:the_total
            SET
                "the_count" = value_1."the_count",
                "the_total" = value_1."the_total"
            FROM {archive_work} AS this
            CROSS JOIN LATERAL (
                SELECT
                    count(*) FILTER (WHERE "source"."stars" > 3) AS "the_count",
                    coalesce(sum("source"."stars"), 0) AS "the_total"
                FROM {archive_review} AS source
                WHERE source."work_id" = this."id"
            ) AS value_1
            WHERE target."id" = this."id"
            AND this."id" = ANY (tk_keys)
            AND (
                target."the_count" IS DISTINCT FROM value_1."the_count"
                OR target."the_total" IS DISTINCT FROM value_1."the_total"
            );
            tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);
        END IF;
        tk_plans := set_config('plan_cache_mode', tk_outer_plans, true);
        tk_plans := set_config('enable_seqscan', tk_outer_seqscan, true);
        RETURN NULL;
    END;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_work_from_archive_review_update_9f400a"() FROM PUBLIC;

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER UPDATE ON {archive_review}
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_archive_work_from_archive_review_update_9f400a"();
