-- title: extremum: After UPDATE on archive_work: bring up to date archive_publisher (by number).

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_publisher_from_archive_work_update_0324af"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- After UPDATE on archive_work: bring up to date archive_publisher (by number).
-- Rules of archive.Publisher:
--   kept_amount = Min("works__price", filter=Q(works__published=True))
--   kept_day = Max("works__day")
-- Written by trigger_kit. To change it, change the rules and run makemigrations.
<<delta>>
DECLARE
    tk_is_paused boolean := {:schema}."tk_is_paused_v1"('archive_publisher'::text);
    tk_depth text;
    tk_outer_depth text := coalesce(current_setting('trigger_kit.depth', true), '');
    tk_recompute boolean := false;
    tk_is_one boolean;
    tk_leaves boolean;
    tk_comes boolean;
    tk_written bigint;
    tk_key integer;
    tk_best_1 numeric;
    tk_now_1 numeric;
    tk_best_2 date;
    tk_now_2 date;
    tk_in_1 numeric;
    tk_out_1 numeric;
    tk_in_2 date;
    tk_out_2 date;
BEGIN
    -- This function runs as its owner: not for a table that somebody else has put it on.
    IF TG_RELID <> {:regclass archive_work} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_work} THEN
        RAISE EXCEPTION USING MESSAGE = format('This trigger function is not for %s.', TG_RELID::regclass),
                  ERRCODE = 'insufficient_privilege';
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
            "publisher_id" integer;
            "day" date;
            "price" numeric;
            "published" boolean;
            tk_part_1 numeric;
            tk_part_3 date;
        BEGIN
            <<after>>
            DECLARE
                "publisher_id" integer;
                "day" date;
                "price" numeric;
                "published" boolean;
                tk_part_1 numeric;
                tk_part_3 date;
            BEGIN
                SELECT
                    NOT EXISTS (SELECT FROM old_rows OFFSET 1),
                    old_rows."publisher_id", old_rows."day", old_rows."price", old_rows."published",
                    new_rows."publisher_id", new_rows."day", new_rows."price", new_rows."published"
                INTO
                    tk_is_one,
                    before."publisher_id", before."day", before."price", before."published",
                    after."publisher_id", after."day", after."price", after."published"
                FROM old_rows CROSS JOIN new_rows
                LIMIT 1;
                -- Nothing that a rule reads has changed.
                IF tk_is_one IS NULL
                   OR tk_is_one
                   AND before."publisher_id" IS NOT DISTINCT FROM after."publisher_id"
                   AND before."day" IS NOT DISTINCT FROM after."day"
                   AND before."price" IS NOT DISTINCT FROM after."price"
                   AND before."published" IS NOT DISTINCT FROM after."published"
                THEN
                    RETURN NULL;
                END IF;
                IF tk_is_one THEN
                    -- What the row counted for, and what it counts for now.
                    before.tk_part_1 := CASE WHEN "before"."published" THEN "before"."price" END;
                    before.tk_part_3 := "before"."day";
                    after.tk_part_1 := CASE WHEN "after"."published" THEN "after"."price" END;
                    after.tk_part_3 := "after"."day";
                    tk_leaves := before."publisher_id" IS DISTINCT FROM after."publisher_id" AND before."publisher_id" IS NOT NULL AND (before.tk_part_1 IS NOT NULL OR before.tk_part_3 IS NOT NULL);
                    tk_comes := before."publisher_id" IS DISTINCT FROM after."publisher_id" AND after."publisher_id" IS NOT NULL AND (after.tk_part_1 IS NOT NULL OR after.tk_part_3 IS NOT NULL);
                    IF NOT tk_leaves OR NOT tk_comes THEN
                        IF tk_leaves THEN
                            tk_key := before."publisher_id";
                            delta.tk_in_1 := NULL;
                            delta.tk_out_1 := before.tk_part_1;
                            delta.tk_in_2 := NULL;
                            delta.tk_out_2 := before.tk_part_3;
                        ELSIF tk_comes THEN
                            tk_key := after."publisher_id";
                            delta.tk_in_1 := after.tk_part_1;
                            delta.tk_out_1 := NULL;
                            delta.tk_in_2 := after.tk_part_3;
                            delta.tk_out_2 := NULL;
                        ELSIF before."publisher_id" = after."publisher_id" THEN
                            tk_key := after."publisher_id";
                            delta.tk_in_1 := CASE WHEN before.tk_part_1 IS DISTINCT FROM after.tk_part_1 THEN after.tk_part_1 END;
                            delta.tk_out_1 := CASE WHEN before.tk_part_1 IS DISTINCT FROM after.tk_part_1 THEN before.tk_part_1 END;
                            delta.tk_in_2 := CASE WHEN before.tk_part_3 IS DISTINCT FROM after.tk_part_3 THEN after.tk_part_3 END;
                            delta.tk_out_2 := CASE WHEN before.tk_part_3 IS DISTINCT FROM after.tk_part_3 THEN before.tk_part_3 END;
                        END IF;
                        IF tk_key IS NULL OR (
                            delta.tk_in_1 IS NULL
                            AND delta.tk_out_1 IS NULL
                            AND delta.tk_in_2 IS NULL
                            AND delta.tk_out_2 IS NULL
                        ) THEN
                            RETURN NULL;
                        END IF;
                        SELECT locked."kept_amount", locked."kept_day"
                        INTO tk_best_1, tk_best_2
                        FROM {archive_publisher} AS locked
                        WHERE locked."number" = tk_key
                        FOR NO KEY UPDATE;
                        GET DIAGNOSTICS tk_written = ROW_COUNT;
                        IF tk_written > 0 THEN
                            IF delta.tk_out_1 IS NULL OR NOT delta.tk_out_1 <= tk_best_1 THEN
                                tk_now_1 := least(tk_best_1, delta.tk_in_1);
                            ELSIF delta.tk_in_1 <= delta.tk_out_1 AND delta.tk_in_1 <= tk_best_1 THEN
                                tk_now_1 := delta.tk_in_1;
                            ELSE
                                PERFORM set_config('trigger_kit.filled_f5afcb', extract(epoch FROM statement_timestamp())::text, true);
                                SELECT (
                                    SELECT min("source"."price")
                                    FROM {archive_work} AS source
                                    WHERE source."publisher_id" = this."number"
                                      AND "source"."published"
                                )
                                INTO tk_now_1
                                FROM {archive_publisher} AS this
                                WHERE this."number" = tk_key;
                            END IF;
                            IF delta.tk_out_2 IS NULL OR NOT delta.tk_out_2 >= tk_best_2 THEN
                                tk_now_2 := greatest(tk_best_2, delta.tk_in_2);
                            ELSIF delta.tk_in_2 >= delta.tk_out_2 AND delta.tk_in_2 >= tk_best_2 THEN
                                tk_now_2 := delta.tk_in_2;
                            ELSE
                                PERFORM set_config('trigger_kit.filled_f5afcb', extract(epoch FROM statement_timestamp())::text, true);
                                SELECT (
                                    SELECT max("source"."day")
                                    FROM {archive_work} AS source
                                    WHERE source."publisher_id" = this."number"
                                )
                                INTO tk_now_2
                                FROM {archive_publisher} AS this
                                WHERE this."number" = tk_key;
                            END IF;
                            IF tk_now_1 IS NOT DISTINCT FROM tk_best_1
                               AND tk_now_2 IS NOT DISTINCT FROM tk_best_2
                            THEN
                                RETURN NULL;
                            END IF;
                            tk_depth := set_config('trigger_kit.depth', pg_trigger_depth()::text, true);
                            UPDATE {archive_publisher} AS target -- archive.Publisher:kept_amount, archive.Publisher:kept_day
                            SET
                                "kept_amount" = tk_now_1,
                                "kept_day" = tk_now_2
                            WHERE target."number" = tk_key;
                            GET DIAGNOSTICS tk_written = ROW_COUNT;
                            tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);
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
        tk_in_1 numeric[];
        tk_out_1 numeric[];
        tk_in_2 date[];
        tk_out_2 date[];
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
                SELECT source."publisher_id" AS tk_key
                FROM (
                    SELECT old_rows."publisher_id", old_rows."day", old_rows."price", old_rows."published" FROM old_rows
                    EXCEPT ALL
                    SELECT new_rows."publisher_id", new_rows."day", new_rows."price", new_rows."published" FROM new_rows
                ) AS source
                UNION
                SELECT source."publisher_id" AS tk_key
                FROM (
                    SELECT new_rows."publisher_id", new_rows."day", new_rows."price", new_rows."published" FROM new_rows
                    EXCEPT ALL
                    SELECT old_rows."publisher_id", old_rows."day", old_rows."price", old_rows."published" FROM old_rows
                ) AS source
            ) AS touched
            WHERE touched.tk_key IS NOT NULL;
            INSERT INTO {:schema}."tk_touched" (target, key_column, key)
            SELECT 'archive_publisher', 'number', touched.tk_key::text
            FROM unnest(tk_keys) AS touched (tk_key);
            -- Targets that are missing may come from another transaction: see tk_waiting.
            DECLARE
                tk_noted bigint;
            BEGIN
                INSERT INTO {:schema}."tk_waiting" (target, place, key)
                SELECT 'archive_publisher', 'd507ea', ARRAY[child.tk_key::text]
                FROM unnest(tk_keys) AS child (tk_key)
                WHERE NOT EXISTS (
                    SELECT FROM {archive_publisher} AS parent
                    WHERE parent."number" = child.tk_key
                );
                GET DIAGNOSTICS tk_noted = ROW_COUNT;
                IF tk_noted > 0 THEN
                    PERFORM set_config('trigger_kit.waiting_f5afcb_{:schema_tag}', 'on', true);
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
                SELECT source."publisher_id" AS tk_key
                FROM old_rows AS source
                UNION
                SELECT source."publisher_id" AS tk_key
                FROM new_rows AS source
            ) AS touched
            WHERE touched.tk_key IS NOT NULL;
        ELSE
            -- One change per target, in key order; targets that do not change are left out.
            SELECT
                array_agg(change.tk_key),
                array_agg(change.tk_in_1),
                array_agg(change.tk_out_1),
                array_agg(change.tk_in_2),
                array_agg(change.tk_out_2)
            INTO tk_keys, tk_in_1, tk_out_1, tk_in_2, tk_out_2
            FROM (
                SELECT
                    source."publisher_id" AS tk_key,
                    min("source"."price") FILTER (WHERE source.tk_sign = 1 AND "source"."published") AS tk_in_1,
                    min("source"."price") FILTER (WHERE source.tk_sign = -1 AND "source"."published") AS tk_out_1,
                    max("source"."day") FILTER (WHERE source.tk_sign = 1) AS tk_in_2,
                    max("source"."day") FILTER (WHERE source.tk_sign = -1) AS tk_out_2
                FROM (
                    SELECT -1 AS tk_sign, changed.*
                    FROM (
                        SELECT old_rows."publisher_id", old_rows."day", old_rows."price", old_rows."published" FROM old_rows
                        EXCEPT ALL
                        SELECT new_rows."publisher_id", new_rows."day", new_rows."price", new_rows."published" FROM new_rows
                    ) AS changed
                    UNION ALL
                    SELECT 1 AS tk_sign, changed.*
                    FROM (
                        SELECT new_rows."publisher_id", new_rows."day", new_rows."price", new_rows."published" FROM new_rows
                        EXCEPT ALL
                        SELECT old_rows."publisher_id", old_rows."day", old_rows."price", old_rows."published" FROM old_rows
                    ) AS changed
                ) AS source
                WHERE source."publisher_id" IS NOT NULL
                GROUP BY source."publisher_id"
                ORDER BY tk_key
            ) AS change
            WHERE change.tk_in_1 IS NOT NULL
               OR change.tk_out_1 IS NOT NULL
               OR change.tk_in_2 IS NOT NULL
               OR change.tk_out_2 IS NOT NULL;
        END IF;

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
        GET DIAGNOSTICS tk_found = ROW_COUNT;
        IF current_setting('transaction_isolation') = 'repeatable read' THEN
            PERFORM set_config('trigger_kit.locking', pg_trigger_depth()::text, true);
            UPDATE {archive_publisher} AS locked
            SET "id" = locked."id"
            WHERE locked."number" = ANY (tk_keys);
            PERFORM set_config('trigger_kit.locking', '', true);
        END IF;
        -- Targets that are missing may come from another transaction: see tk_waiting.
        IF tk_found < cardinality(tk_keys) THEN
            DECLARE
                tk_noted bigint;
            BEGIN
                INSERT INTO {:schema}."tk_waiting" (target, place, key)
                SELECT 'archive_publisher', 'd507ea', ARRAY[child.tk_key::text]
                FROM unnest(tk_keys) AS child (tk_key)
                WHERE NOT EXISTS (
                    SELECT FROM {archive_publisher} AS parent
                    WHERE parent."number" = child.tk_key
                );
                GET DIAGNOSTICS tk_noted = ROW_COUNT;
                IF tk_noted > 0 THEN
                    PERFORM set_config('trigger_kit.waiting_f5afcb_{:schema_tag}', 'on', true);
                END IF;
            END;
        END IF;

        tk_depth := set_config('trigger_kit.depth', pg_trigger_depth()::text, true);
        IF NOT tk_recompute THEN
            UPDATE {archive_publisher} AS target -- archive.Publisher:kept_amount, archive.Publisher:kept_day
            SET
                "kept_amount" = value_1."kept_amount",
                "kept_day" = value_1."kept_day"
            FROM unnest(tk_keys, deltas.tk_in_1, deltas.tk_out_1, deltas.tk_in_2, deltas.tk_out_2)
                AS change (tk_key, tk_in_1, tk_out_1, tk_in_2, tk_out_2)
            JOIN {archive_publisher} AS this ON this."number" = change.tk_key
            CROSS JOIN LATERAL (
                SELECT
                    CASE
                        WHEN change.tk_out_1 IS NULL OR NOT change.tk_out_1 <= this."kept_amount" THEN least(this."kept_amount", change.tk_in_1)
                        WHEN change.tk_in_1 <= change.tk_out_1 AND change.tk_in_1 <= this."kept_amount" THEN change.tk_in_1
                        WHEN set_config('trigger_kit.filled_f5afcb', extract(epoch FROM statement_timestamp())::text, true) <> '' THEN (
                            SELECT min("source"."price")
                            FROM {archive_work} AS source
                            WHERE source."publisher_id" = this."number"
                              AND "source"."published"
                        )
                    END AS "kept_amount",
                    CASE
                        WHEN change.tk_out_2 IS NULL OR NOT change.tk_out_2 >= this."kept_day" THEN greatest(this."kept_day", change.tk_in_2)
                        WHEN change.tk_in_2 >= change.tk_out_2 AND change.tk_in_2 >= this."kept_day" THEN change.tk_in_2
                        WHEN set_config('trigger_kit.filled_f5afcb', extract(epoch FROM statement_timestamp())::text, true) <> '' THEN (
                            SELECT max("source"."day")
                            FROM {archive_work} AS source
                            WHERE source."publisher_id" = this."number"
                        )
                    END AS "kept_day"
            ) AS value_1
            WHERE target."id" = this."id"
            AND (
                target."kept_amount" IS DISTINCT FROM value_1."kept_amount"
                OR target."kept_day" IS DISTINCT FROM value_1."kept_day"
            );
        END IF;
        IF tk_recompute THEN
            PERFORM set_config('trigger_kit.filled_f5afcb', extract(epoch FROM statement_timestamp())::text, true);
            UPDATE {archive_publisher} AS target -- archive.Publisher:kept_amount, archive.Publisher:kept_day
            SET
                "kept_amount" = value_1."kept_amount",
                "kept_day" = value_1."kept_day"
            FROM {archive_publisher} AS this
            CROSS JOIN LATERAL (
                SELECT
                    (
                        SELECT min("source"."price")
                        FROM {archive_work} AS source
                        WHERE source."publisher_id" = this."number"
                          AND "source"."published"
                    ) AS "kept_amount",
                    (
                        SELECT max("source"."day")
                        FROM {archive_work} AS source
                        WHERE source."publisher_id" = this."number"
                    ) AS "kept_day"
            ) AS value_1
            WHERE target."id" = this."id"
            AND this."number" = ANY (tk_keys)
            AND (
                target."kept_amount" IS DISTINCT FROM value_1."kept_amount"
                OR target."kept_day" IS DISTINCT FROM value_1."kept_day"
            );
        END IF;
        tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);
        tk_plans := set_config('plan_cache_mode', tk_outer_plans, true);
        tk_plans := set_config('enable_seqscan', tk_outer_seqscan, true);
        RETURN NULL;
    END;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_publisher_from_archive_work_update_0324af"() FROM PUBLIC;

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER UPDATE ON {archive_work}
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_archive_publisher_from_archive_work_update_0324af"();
