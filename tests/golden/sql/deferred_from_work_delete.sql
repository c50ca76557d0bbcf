-- title: deferred: After DELETE on archive_work: note for the commit what changes in archive_publisher (by number).

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_publisher_from_archive_work_delete_727487"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- After DELETE on archive_work: note for the commit what changes in archive_publisher (by number).
-- Rules of archive.Publisher:
--   kept_number = Sum("works__pages")
--   the_count = Count("works")
-- Written by trigger_kit. To change it, change the rules and run makemigrations.
<<delta>>
DECLARE
    tk_is_paused boolean := {:schema}."tk_is_paused_v1"('archive_publisher'::text);
    tk_recompute boolean := false;
    tk_is_one boolean;
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
        BEGIN
            SELECT
                NOT EXISTS (SELECT FROM old_rows OFFSET 1),
                old_rows."publisher_id", old_rows."pages"
            INTO
                tk_is_one,
                before."publisher_id", before."pages"
            FROM old_rows
            LIMIT 1;
            IF tk_is_one IS NULL THEN
                RETURN NULL;
            END IF;
            IF tk_is_one THEN
                tk_key := before."publisher_id";
                delta."kept_number" := -coalesce("before"."pages", 0)::bigint;
                delta.tk_rows_1 := -CASE WHEN "before"."pages" IS NOT NULL THEN 1 ELSE 0 END;
                delta."the_count" := -1;
                IF tk_key IS NULL THEN
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

        IF tk_recompute THEN
            SELECT array_agg(touched.tk_key ORDER BY touched.tk_key)
            INTO tk_keys
            FROM (
                SELECT DISTINCT source."publisher_id" AS tk_key
                FROM old_rows AS source
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
                    -coalesce(sum("source"."pages"), 0) AS "kept_number",
                    -count("source"."pages") AS tk_rows_1,
                    -count(*) AS "the_count"
                FROM old_rows AS source
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
REVOKE ALL ON FUNCTION {:schema}."tk_archive_publisher_from_archive_work_delete_727487"() FROM PUBLIC;

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER DELETE ON {archive_work}
    REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_archive_publisher_from_archive_work_delete_727487"();
