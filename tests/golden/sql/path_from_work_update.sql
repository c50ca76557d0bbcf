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
    tk_is_paused boolean := {:schema}."tk_is_paused_v1"('archive_publisher');
    tk_depth text;
    tk_outer_depth text := coalesce(current_setting('trigger_kit.depth', true), '');
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
                    SELECT old_rows."publisher_id", old_rows."id" FROM old_rows
                    EXCEPT ALL
                    SELECT new_rows."publisher_id", new_rows."id" FROM new_rows
                ) AS source
                UNION
                SELECT source."publisher_id" AS tk_key
                FROM (
                    SELECT new_rows."publisher_id", new_rows."id" FROM new_rows
                    EXCEPT ALL
                    SELECT old_rows."publisher_id", old_rows."id" FROM old_rows
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
            UPDATE {archive_publisher} AS target -- archive.Publisher:the_total
            SET
                "the_total" = target."the_total" + change."the_total"
            FROM unnest(tk_keys, deltas."the_total")
                AS change (tk_key, "the_total")
            WHERE target."number" = change.tk_key;
        END IF;
        IF tk_recompute THEN
            PERFORM set_config('trigger_kit.filled_f5afcb', extract(epoch FROM statement_timestamp())::text, true);
            UPDATE {archive_publisher} AS target -- archive.Publisher:the_total
            SET
                "the_total" = value_1."the_total"
            FROM {archive_publisher} AS this
            CROSS JOIN LATERAL (
                SELECT
                    coalesce(sum("hop_2"."stars"), 0) AS "the_total"
                FROM {archive_work} AS hop_1
                JOIN {archive_review} AS hop_2
                    ON hop_2."work_id" = hop_1."id"
                WHERE hop_1."publisher_id" = this."number"
            ) AS value_1
            WHERE target."id" = this."id"
            AND this."number" = ANY (tk_keys)
            AND (
                target."the_total" IS DISTINCT FROM value_1."the_total"
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
