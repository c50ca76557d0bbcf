-- title: recursion: After UPDATE on archive_node: bring up to date archive_node (by id).

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_node_from_archive_node_update_3c078f"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- After UPDATE on archive_node: bring up to date archive_node (by id).
-- Rules of archive.Node:
--   the_total = F("own") + Sum("children__the_total", default=0)
-- Written by trigger_kit. To change it, change the rules and run makemigrations.
<<delta>>
DECLARE
    tk_is_paused boolean := {:schema}."tk_is_paused_v1"('archive_node'::text);
    tk_depth text;
    tk_outer_depth text := coalesce(current_setting('trigger_kit.depth', true), '');
BEGIN
    -- This function runs as its owner: not for a table that somebody else has put it on.
    IF TG_RELID <> {:regclass archive_node} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_node} THEN
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
                SELECT DISTINCT source."id" AS tk_key
                FROM (
                    SELECT new_rows."id", new_rows."own" FROM new_rows
                    EXCEPT ALL
                    SELECT old_rows."id", old_rows."own" FROM old_rows
                ) AS source
            ) AS touched
            WHERE touched.tk_key IS NOT NULL;
            INSERT INTO {:schema}."tk_touched" (target, key_column, key)
            SELECT 'archive_node', 'id', touched.tk_key::text
            FROM unnest(tk_keys) AS touched (tk_key);
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
                source."id" AS tk_key,
                true AS tk_touched
            FROM (
                SELECT new_rows."id", new_rows."own" FROM new_rows
                EXCEPT ALL
                SELECT old_rows."id", old_rows."own" FROM old_rows
            ) AS source
            WHERE source."id" IS NOT NULL
            GROUP BY source."id"
            ORDER BY tk_key
        ) AS change
        WHERE change.tk_touched;

        IF tk_keys IS NULL THEN
            tk_plans := set_config('plan_cache_mode', tk_outer_plans, true);
            tk_plans := set_config('enable_seqscan', tk_outer_seqscan, true);
            RETURN NULL;
        END IF;

        -- Lock in key order, so that two bulk statements cannot deadlock.
        PERFORM
        FROM {archive_node} AS locked
        WHERE locked."id" = ANY (tk_keys)
        ORDER BY locked."id"
        FOR NO KEY UPDATE;
        IF current_setting('transaction_isolation') = 'repeatable read' THEN
            PERFORM set_config('trigger_kit.locking', pg_trigger_depth()::text, true);
            UPDATE {archive_node} AS locked
            SET "id" = locked."id"
            WHERE locked."id" = ANY (tk_keys);
            PERFORM set_config('trigger_kit.locking', '', true);
        END IF;

        tk_depth := set_config('trigger_kit.depth', pg_trigger_depth()::text, true);
        UPDATE {archive_node} AS target -- archive.Node:the_total
        SET
            "the_total" = value_1."the_total"
        FROM {archive_node} AS this
        CROSS JOIN LATERAL (
            SELECT
                ("archive_node"."own" + COALESCE(SUM("T2"."the_total"), 0))::numeric(20, 4) AS "the_total"
            FROM (SELECT this.*) AS "archive_node"
            LEFT OUTER JOIN {archive_node} AS "T2" ON ("T2"."parent_id" = "archive_node"."id")
            GROUP BY "archive_node"."id", "archive_node"."own"
        ) AS value_1
        WHERE target."id" = this."id"
        AND this."id" = ANY (tk_keys)
        AND (
            target."the_total" IS DISTINCT FROM value_1."the_total"
        );
        tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);
        tk_plans := set_config('plan_cache_mode', tk_outer_plans, true);
        tk_plans := set_config('enable_seqscan', tk_outer_seqscan, true);
        RETURN NULL;
    END;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_node_from_archive_node_update_3c078f"() FROM PUBLIC;

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER UPDATE ON {archive_node}
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_archive_node_from_archive_node_update_3c078f"();
