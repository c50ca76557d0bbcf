-- title: generic: After DELETE on archive_note: add the difference to archive_work (by id).

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_work_from_archive_note_delete_cd6e75"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- After DELETE on archive_note: add the difference to archive_work (by id).
-- Rules of archive.Work:
--   the_total = Sum("notes__weight", default=0)
-- Written by trigger_kit. To change it, change the rules and run makemigrations.
<<delta>>
DECLARE
    tk_is_paused boolean := {:schema}."tk_is_paused_v1"('archive_work'::text);
    tk_recompute boolean := false;
BEGIN
    -- This function runs as its owner: not for a table that somebody else has put it on.
    IF TG_RELID <> {:regclass archive_note} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_note} THEN
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
        "the_total" bigint[];
        tk_plans text;
        tk_outer_plans text := current_setting('plan_cache_mode');
        tk_outer_seqscan text := current_setting('enable_seqscan');
    BEGIN
        -- One plan for arrays of any length, by index: planning anew would take longer than most statements.
        tk_plans := set_config('plan_cache_mode', 'force_generic_plan', true);
        tk_plans := set_config('enable_seqscan', 'off', true);
        IF EXISTS (
            SELECT FROM old_rows AS child
            WHERE child."content_type_id" = (SELECT type.id FROM {django_content_type} AS type WHERE type.app_label = 'archive' AND type.model = 'work')
              AND child."object_id" IS NOT NULL
              AND (
                SELECT true FROM {archive_work} AS parent
                WHERE child."object_id" = parent."id" AND child."content_type_id" = (SELECT type.id FROM {django_content_type} AS type WHERE type.app_label = 'archive' AND type.model = 'work')
                LIMIT 1
                FOR KEY SHARE
            ) IS NULL
        ) THEN
            IF current_setting('transaction_isolation') = 'repeatable read' THEN
                RAISE EXCEPTION USING MESSAGE = 'At REPEATABLE READ, archive.Work:the_total cannot be kept for a row that points at a missing one.',
                          ERRCODE = 'feature_not_supported',
                          HINT = 'Write it at READ COMMITTED or SERIALIZABLE, or add a foreign key to the database.';
            END IF;
            PERFORM pg_advisory_xact_lock(4513436146170507018);
        END IF;

        IF tk_recompute THEN
            SELECT array_agg(touched.tk_key ORDER BY touched.tk_key)
            INTO tk_keys
            FROM (
                SELECT DISTINCT source."object_id" AS tk_key
                FROM old_rows AS source
                WHERE source."content_type_id" = (SELECT type.id FROM {django_content_type} AS type WHERE type.app_label = 'archive' AND type.model = 'work')
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
                    source."object_id" AS tk_key,
                    -coalesce(sum("source"."weight"), 0) AS "the_total"
                FROM old_rows AS source
                WHERE source."object_id" IS NOT NULL AND source."content_type_id" = (SELECT type.id FROM {django_content_type} AS type WHERE type.app_label = 'archive' AND type.model = 'work')
                GROUP BY source."object_id"
                ORDER BY tk_key
            ) AS change
            WHERE change."the_total" <> 0;
        END IF;
        tk_plans := set_config('plan_cache_mode', tk_outer_plans, true);
        tk_plans := set_config('enable_seqscan', tk_outer_seqscan, true);
        PERFORM {:schema}."tk_archive_work_apply_10836a"(tk_keys, deltas."the_total", tk_recompute, tk_is_paused);
        RETURN NULL;
    END;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_work_from_archive_note_delete_cd6e75"() FROM PUBLIC;

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER DELETE ON {archive_note}
    REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_archive_work_from_archive_note_delete_cd6e75"();
