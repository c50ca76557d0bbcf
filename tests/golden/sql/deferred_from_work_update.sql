-- title: deferred: After UPDATE on archive_work: note for the commit what changes in archive_publisher (by number).

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_publisher_from_archive_work_update_fdb883"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- After UPDATE on archive_work: note for the commit what changes in archive_publisher (by number).
-- Rules of archive.Publisher:
--   kept_number = Sum("works__pages")
--   the_count = Count("works")
-- Written by trigger_kit. To change it, change the rules and run makemigrations.
<<delta>>
DECLARE
    tk_is_paused boolean := {:schema}."tk_is_paused_v1"('archive_publisher'::text);
    tk_recompute boolean := false;
    tk_is_one boolean;
    tk_leaves boolean;
    tk_comes boolean;
    tk_written bigint;
    tk_key integer;
    "kept_number" bigint;
    tk_rows_1 bigint;
    "the_count" bigint;
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
    IF NOT tk_is_paused AND NOT tk_recompute THEN
        <<before>>
        DECLARE
            "publisher_id" integer;
            "pages" integer;
            tk_part_1 bigint;
            tk_part_2 bigint;
        BEGIN
            <<after>>
            DECLARE
                "publisher_id" integer;
                "pages" integer;
                tk_part_1 bigint;
                tk_part_2 bigint;
            BEGIN
                SELECT
                    NOT EXISTS (SELECT FROM old_rows OFFSET 1),
                    old_rows."publisher_id", old_rows."pages",
                    new_rows."publisher_id", new_rows."pages"
                INTO
                    tk_is_one,
                    before."publisher_id", before."pages",
                    after."publisher_id", after."pages"
                FROM old_rows CROSS JOIN new_rows
                LIMIT 1;
                -- Nothing that a rule reads has changed.
                IF tk_is_one IS NULL
                   OR tk_is_one
                   AND before."publisher_id" IS NOT DISTINCT FROM after."publisher_id"
                   AND before."pages" IS NOT DISTINCT FROM after."pages"
                THEN
                    RETURN NULL;
                END IF;
                IF tk_is_one THEN
                    -- What the row counted for, and what it counts for now.
                    before.tk_part_1 := coalesce("before"."pages", 0)::bigint;
                    before.tk_part_2 := CASE WHEN "before"."pages" IS NOT NULL THEN 1 ELSE 0 END;
                    after.tk_part_1 := coalesce("after"."pages", 0)::bigint;
                    after.tk_part_2 := CASE WHEN "after"."pages" IS NOT NULL THEN 1 ELSE 0 END;
                    tk_leaves := before."publisher_id" IS DISTINCT FROM after."publisher_id" AND before."publisher_id" IS NOT NULL;
                    tk_comes := before."publisher_id" IS DISTINCT FROM after."publisher_id" AND after."publisher_id" IS NOT NULL;
                    IF tk_leaves AND tk_comes THEN
                        INSERT INTO {:schema}."tk_deferred_archive_publisher" (tk_edge, "number", "kept_number", tk_rows_1, "the_count")
                        VALUES
                            (2, before."publisher_id", -before.tk_part_1, -before.tk_part_2, -1),
                            (2, after."publisher_id", after.tk_part_1, after.tk_part_2, 1);
                        -- The first note of a transaction makes its commit look at them.
                        IF current_setting('trigger_kit.deferred_f5afcb_{:schema_tag}', true) IS DISTINCT FROM 'on' THEN
                            PERFORM set_config('trigger_kit.deferred_f5afcb_{:schema_tag}', 'on', true);
                            INSERT INTO {:schema}."tk_commit" (rank, target) VALUES (1, 'archive_publisher');
                        END IF;
                        RETURN NULL;
                    ELSE
                        IF tk_leaves THEN
                            tk_key := before."publisher_id";
                            delta."kept_number" := -before.tk_part_1;
                            delta.tk_rows_1 := -before.tk_part_2;
                            delta."the_count" := -1;
                        ELSIF tk_comes THEN
                            tk_key := after."publisher_id";
                            delta."kept_number" := after.tk_part_1;
                            delta.tk_rows_1 := after.tk_part_2;
                            delta."the_count" := 1;
                        ELSIF before."publisher_id" = after."publisher_id" THEN
                            tk_key := after."publisher_id";
                            delta."kept_number" := after.tk_part_1 - before.tk_part_1;
                            delta.tk_rows_1 := after.tk_part_2 - before.tk_part_2;
                            delta."the_count" := 0;
                        END IF;
                        IF tk_key IS NULL OR (
                            delta."kept_number" = 0
                            AND delta.tk_rows_1 = 0
                            AND delta."the_count" = 0
                        ) THEN
                            RETURN NULL;
                        END IF;
                        INSERT INTO {:schema}."tk_deferred_archive_publisher" (tk_edge, "number", "kept_number", tk_rows_1, "the_count")
                        VALUES
                            (2, tk_key, delta."kept_number", delta.tk_rows_1, delta."the_count");
                        -- The first note of a transaction makes its commit look at them.
                        IF current_setting('trigger_kit.deferred_f5afcb_{:schema_tag}', true) IS DISTINCT FROM 'on' THEN
                            PERFORM set_config('trigger_kit.deferred_f5afcb_{:schema_tag}', 'on', true);
                            INSERT INTO {:schema}."tk_commit" (rank, target) VALUES (1, 'archive_publisher');
                        END IF;
                        tk_written := 1;
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
        "kept_number" bigint[];
        tk_rows_1 bigint[];
        "the_count" bigint[];
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
                SELECT source."publisher_id" AS tk_key
                FROM (
                    SELECT old_rows."publisher_id", old_rows."pages" FROM old_rows
                    EXCEPT ALL
                    SELECT new_rows."publisher_id", new_rows."pages" FROM new_rows
                ) AS source
                UNION
                SELECT source."publisher_id" AS tk_key
                FROM (
                    SELECT new_rows."publisher_id", new_rows."pages" FROM new_rows
                    EXCEPT ALL
                    SELECT old_rows."publisher_id", old_rows."pages" FROM old_rows
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
                array_agg(change."kept_number"),
                array_agg(change.tk_rows_1),
                array_agg(change."the_count")
            INTO tk_keys, "kept_number", tk_rows_1, "the_count"
            FROM (
                SELECT
                    source."publisher_id" AS tk_key,
                    coalesce(sum(source.tk_sign * "source"."pages"::bigint), 0)::bigint AS "kept_number",
                    coalesce(sum(source.tk_sign) FILTER (WHERE "source"."pages" IS NOT NULL), 0) AS tk_rows_1,
                    sum(source.tk_sign) AS "the_count"
                FROM (
                    SELECT -1 AS tk_sign, old_rows."publisher_id", old_rows."pages" FROM old_rows
                    UNION ALL
                    SELECT 1 AS tk_sign, new_rows."publisher_id", new_rows."pages" FROM new_rows
                ) AS source
                WHERE source."publisher_id" IS NOT NULL
                GROUP BY source."publisher_id"
                ORDER BY tk_key
            ) AS change
            WHERE change."kept_number" <> 0
               OR change.tk_rows_1 <> 0
               OR change."the_count" <> 0;
        END IF;

        IF tk_keys IS NULL THEN
            tk_plans := set_config('plan_cache_mode', tk_outer_plans, true);
            tk_plans := set_config('enable_seqscan', tk_outer_seqscan, true);
            RETURN NULL;
        END IF;

        IF tk_recompute THEN
            INSERT INTO {:schema}."tk_deferred_archive_publisher" (tk_edge, "number", tk_recompute)
            SELECT 2, change.*, true FROM unnest(tk_keys) AS change;
            -- The first note of a transaction makes its commit look at them.
            IF current_setting('trigger_kit.deferred_f5afcb_{:schema_tag}', true) IS DISTINCT FROM 'on' THEN
                PERFORM set_config('trigger_kit.deferred_f5afcb_{:schema_tag}', 'on', true);
                INSERT INTO {:schema}."tk_commit" (rank, target) VALUES (1, 'archive_publisher');
            END IF;
        ELSE
            INSERT INTO {:schema}."tk_deferred_archive_publisher" (tk_edge, "number", "kept_number", tk_rows_1, "the_count")
            SELECT 2, change.* FROM unnest(tk_keys, deltas."kept_number", deltas.tk_rows_1, deltas."the_count") AS change;
            -- The first note of a transaction makes its commit look at them.
            IF current_setting('trigger_kit.deferred_f5afcb_{:schema_tag}', true) IS DISTINCT FROM 'on' THEN
                PERFORM set_config('trigger_kit.deferred_f5afcb_{:schema_tag}', 'on', true);
                INSERT INTO {:schema}."tk_commit" (rank, target) VALUES (1, 'archive_publisher');
            END IF;
        END IF;
        tk_plans := set_config('plan_cache_mode', tk_outer_plans, true);
        tk_plans := set_config('enable_seqscan', tk_outer_seqscan, true);
        RETURN NULL;
    END;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_publisher_from_archive_work_update_fdb883"() FROM PUBLIC;

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER UPDATE ON {archive_work}
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_archive_publisher_from_archive_work_update_fdb883"();
