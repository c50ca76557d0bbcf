-- title: path: After UPDATE on archive_work: add the difference to archive_publisher (by number).

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_publisher_from_archive_work_update_0324af"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- After UPDATE on archive_work: add the difference to archive_publisher (by number).
-- Rules of archive.Publisher:
--   the_total = Sum("works__reviews__stars", default=0)
-- Written by trigger_kit. To change it, change the rules and run makemigrations.
<<delta>>
DECLARE
    tk_is_paused boolean := {:schema}."tk_is_paused_v1"('archive_publisher'::text);
    tk_recompute boolean := false;
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
                array_agg(change."the_total")
            INTO tk_keys, "the_total"
            FROM (
                SELECT
                    hop_1."publisher_id" AS tk_key,
                    coalesce(sum(hop_1.tk_sign * "hop_2"."stars"::bigint), 0)::bigint AS "the_total"
                FROM (
                    SELECT -1 AS tk_sign, changed.*
                    FROM (
                        SELECT old_rows."publisher_id", old_rows."id" FROM old_rows
                        EXCEPT ALL
                        SELECT new_rows."publisher_id", new_rows."id" FROM new_rows
                    ) AS changed
                    UNION ALL
                    SELECT 1 AS tk_sign, changed.*
                    FROM (
                        SELECT new_rows."publisher_id", new_rows."id" FROM new_rows
                        EXCEPT ALL
                        SELECT old_rows."publisher_id", old_rows."id" FROM old_rows
                    ) AS changed
                ) AS hop_1
                JOIN LATERAL (
                    SELECT * FROM {archive_review} AS hop_2
                    WHERE hop_2."work_id" = hop_1."id"
                    OFFSET 0
                ) AS hop_2 ON true
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
REVOKE ALL ON FUNCTION {:schema}."tk_archive_publisher_from_archive_work_update_0324af"() FROM PUBLIC;

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER UPDATE ON {archive_work}
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_archive_publisher_from_archive_work_update_0324af"();
