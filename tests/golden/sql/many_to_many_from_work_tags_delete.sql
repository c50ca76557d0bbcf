-- title: many_to_many: After DELETE on archive_work_tags: add the difference to archive_work (by id).

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_work_from_archive_work_tags_delete_38449c"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- After DELETE on archive_work_tags: add the difference to archive_work (by id).
-- Rules of archive.Work:
--   the_count = Count("tags", filter=Q(tags__active=True))
-- Written by trigger_kit. To change it, change the rules and run makemigrations.
<<delta>>
DECLARE
    tk_is_paused boolean := {:schema}."tk_is_paused_v1"('archive_work'::text);
    tk_recompute boolean := false;
BEGIN
    -- This function runs as its owner: not for a table that somebody else has put it on.
    IF TG_RELID <> {:regclass archive_work_tags} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_work_tags} THEN
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

    <<deltas>>
    DECLARE
        tk_keys bigint[];
        "the_count" bigint[];
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
            FROM {archive_tag} AS locked
            WHERE locked."id" = ANY (ARRAY(
                SELECT hop_1."tag_id"
                FROM old_rows AS hop_1
            ))
            ORDER BY locked."id"
            FOR NO KEY UPDATE;
            PERFORM set_config('trigger_kit.locking', pg_trigger_depth()::text, true);
            UPDATE {archive_tag} AS locked
            SET "id" = locked."id"
            WHERE locked."id" = ANY (ARRAY(
                SELECT hop_1."tag_id"
                FROM old_rows AS hop_1
            ));
            PERFORM set_config('trigger_kit.locking', '', true);
        ELSE
            PERFORM
            FROM {archive_tag} AS locked
            WHERE locked."id" = ANY (ARRAY(
                SELECT hop_1."tag_id"
                FROM old_rows AS hop_1
            ))
            ORDER BY locked."id"
            FOR SHARE;
        END IF;

        IF tk_recompute THEN
            SELECT array_agg(touched.tk_key ORDER BY touched.tk_key)
            INTO tk_keys
            FROM (
                SELECT DISTINCT source."work_id" AS tk_key
                FROM old_rows AS source
            ) AS touched
            WHERE touched.tk_key IS NOT NULL;
        ELSE
            -- One change per target, in key order; targets that do not change are left out.
            SELECT
                array_agg(change.tk_key),
                array_agg(change."the_count")
            INTO tk_keys, "the_count"
            FROM (
                SELECT
                    hop_1."work_id" AS tk_key,
                    -count("hop_1"."tag_id") FILTER (WHERE "hop_2"."active") AS "the_count"
                FROM old_rows AS hop_1
                JOIN LATERAL (
                    SELECT * FROM {archive_tag} AS hop_2
                    WHERE hop_2."id" = hop_1."tag_id"
                    OFFSET 0
                ) AS hop_2 ON true
                WHERE hop_1."work_id" IS NOT NULL
                GROUP BY hop_1."work_id"
                ORDER BY tk_key
            ) AS change
            WHERE change."the_count" <> 0;
        END IF;
        tk_plans := set_config('plan_cache_mode', tk_outer_plans, true);
        tk_plans := set_config('enable_seqscan', tk_outer_seqscan, true);
        PERFORM {:schema}."tk_archive_work_apply_529001"(tk_keys, deltas."the_count", tk_recompute, tk_is_paused, NULL::text[]);
        RETURN NULL;
    END;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_work_from_archive_work_tags_delete_38449c"() FROM PUBLIC;

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER DELETE ON {archive_work_tags}
    REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_archive_work_from_archive_work_tags_delete_38449c"();
