-- title: deferred: After UPDATE on archive_work: note for the commit what changes in archive_publisher (by number).

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_publisher_afresh_from_archive_work_update_891415"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- After UPDATE on archive_work: note for the commit what changes in archive_publisher (by number).
-- Rules of archive.Publisher:
--   kept_day = Max("works__day")
-- Written by trigger_kit. To change it, change the rules and run makemigrations.
<<delta>>
DECLARE
    tk_is_paused boolean := {:schema}."tk_is_paused_v1"('archive_publisher'::text);
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
                SELECT source."publisher_id" AS tk_key
                FROM (
                    SELECT old_rows."publisher_id", old_rows."day" FROM old_rows
                    EXCEPT ALL
                    SELECT new_rows."publisher_id", new_rows."day" FROM new_rows
                ) AS source
                UNION
                SELECT source."publisher_id" AS tk_key
                FROM (
                    SELECT new_rows."publisher_id", new_rows."day" FROM new_rows
                    EXCEPT ALL
                    SELECT old_rows."publisher_id", old_rows."day" FROM old_rows
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

        -- One change per target, in key order; targets that do not change are left out.
        SELECT
            array_agg(change.tk_key)
        INTO tk_keys
        FROM (
            SELECT
                source."publisher_id" AS tk_key,
                true AS tk_touched
            FROM (
                SELECT -1 AS tk_sign, changed.*
                FROM (
                    SELECT old_rows."publisher_id", old_rows."day" FROM old_rows
                    EXCEPT ALL
                    SELECT new_rows."publisher_id", new_rows."day" FROM new_rows
                ) AS changed
                UNION ALL
                SELECT 1 AS tk_sign, changed.*
                FROM (
                    SELECT new_rows."publisher_id", new_rows."day" FROM new_rows
                    EXCEPT ALL
                    SELECT old_rows."publisher_id", old_rows."day" FROM old_rows
                ) AS changed
            ) AS source
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

        INSERT INTO {:schema}."tk_deferred_archive_publisher" (tk_edge, "number")
        SELECT 1, change.* FROM unnest(tk_keys) AS change;
        -- The first note of a transaction makes its commit look at them.
        IF current_setting('trigger_kit.deferred_f5afcb_{:schema_tag}', true) IS DISTINCT FROM 'on' THEN
            PERFORM set_config('trigger_kit.deferred_f5afcb_{:schema_tag}', 'on', true);
            INSERT INTO {:schema}."tk_commit" (rank, target) VALUES (1, 'archive_publisher');
        END IF;
        tk_plans := set_config('plan_cache_mode', tk_outer_plans, true);
        tk_plans := set_config('enable_seqscan', tk_outer_seqscan, true);
        RETURN NULL;
    END;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_publisher_afresh_from_archive_work_update_891415"() FROM PUBLIC;

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER UPDATE ON {archive_work}
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_archive_publisher_afresh_from_archive_work_update_891415"();
