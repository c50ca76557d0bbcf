-- title: recursion: After UPDATE on archive_node: compute all rows that this reaches, level by level.

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_node_along_archive_node_update_3c078f"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- After UPDATE on archive_node: compute all rows that this reaches, level by level.
-- Rules of archive.Node:
--   the_total = F("own") + Sum("children__the_total", default=0)
-- Written by trigger_kit. To change it, change the rules and run makemigrations.
<<deltas>>
DECLARE
    tk_is_paused boolean := {:schema}."tk_is_paused_v1"('archive_node'::text);
    tk_depth text;
    tk_outer_depth text := coalesce(current_setting('trigger_kit.depth', true), '');
    tk_plans text;
    tk_outer_plans text := current_setting('plan_cache_mode');
    tk_outer_seqscan text := current_setting('enable_seqscan');
    tk_keys bigint[];
BEGIN
    -- This function runs as its owner: not for a table that somebody else has put it on.
    IF TG_RELID <> {:regclass archive_node} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_node} THEN
        RAISE EXCEPTION USING MESSAGE = format('This trigger function is not for %s.', TG_RELID::regclass),
                  ERRCODE = 'insufficient_privilege';
    END IF;
    -- An UPDATE that only writes rows which were locked changes nothing.
    IF current_setting('trigger_kit.locking', true) = (pg_trigger_depth() - 1)::text THEN
        RETURN NULL;
    END IF;

    -- What the loop below writes fires this trigger again; the loop goes on by itself.
    IF current_setting('trigger_kit.along_beba31', true) = (pg_trigger_depth() - 1)::text THEN
        RETURN NULL;
    END IF;

    IF tk_is_paused THEN
        -- Paused: note which targets were touched, for the repair at the end of the pause.
        SELECT array_agg(touched.tk_key)
        INTO tk_keys
        FROM (
            SELECT source."parent_id" AS tk_key
            FROM (
                SELECT old_rows."parent_id", old_rows."the_total" FROM old_rows
                EXCEPT ALL
                SELECT new_rows."parent_id", new_rows."the_total" FROM new_rows
            ) AS source
            UNION
            SELECT source."parent_id" AS tk_key
            FROM (
                SELECT new_rows."parent_id", new_rows."the_total" FROM new_rows
                EXCEPT ALL
                SELECT old_rows."parent_id", old_rows."the_total" FROM old_rows
            ) AS source
        ) AS touched
        WHERE touched.tk_key IS NOT NULL;
        INSERT INTO {:schema}."tk_touched" (target, key_column, key)
        SELECT 'archive_node', 'id', touched.tk_key::text
        FROM unnest(tk_keys) AS touched (tk_key);
        -- Targets that are missing may come from another transaction: see tk_waiting.
        DECLARE
            tk_noted bigint;
        BEGIN
            INSERT INTO {:schema}."tk_waiting" (target, place, key)
            SELECT 'archive_node', 'b39405', ARRAY[child.tk_key::text]
            FROM unnest(tk_keys) AS child (tk_key)
            WHERE NOT EXISTS (
                SELECT FROM {archive_node} AS parent
                WHERE parent."id" = child.tk_key
            );
            GET DIAGNOSTICS tk_noted = ROW_COUNT;
            IF tk_noted > 0 THEN
                PERFORM set_config('trigger_kit.waiting_401064_{:schema_tag}', 'on', true);
            END IF;
        END;
        RETURN NULL;
    END IF;

    -- One change per target, in key order; targets that do not change are left out.
    SELECT
        array_agg(change.tk_key)
    INTO tk_keys
    FROM (
        SELECT
            source."parent_id" AS tk_key,
            true AS tk_touched
        FROM (
            SELECT -1 AS tk_sign, changed.*
            FROM (
                SELECT old_rows."parent_id", old_rows."the_total" FROM old_rows
                EXCEPT ALL
                SELECT new_rows."parent_id", new_rows."the_total" FROM new_rows
            ) AS changed
            UNION ALL
            SELECT 1 AS tk_sign, changed.*
            FROM (
                SELECT new_rows."parent_id", new_rows."the_total" FROM new_rows
                EXCEPT ALL
                SELECT old_rows."parent_id", old_rows."the_total" FROM old_rows
            ) AS changed
        ) AS source
        WHERE source."parent_id" IS NOT NULL
        GROUP BY source."parent_id"
        ORDER BY tk_key
    ) AS change
    WHERE change.tk_touched;
    IF tk_keys IS NULL THEN
        RETURN NULL;
    END IF;

    -- One plan for arrays of any length, by index: planning anew would take longer than most statements.
    tk_plans := set_config('plan_cache_mode', 'force_generic_plan', true);
    tk_plans := set_config('enable_seqscan', 'off', true);
    -- Targets that are missing may come from another transaction: see tk_waiting.
    DECLARE
        tk_noted bigint;
    BEGIN
        INSERT INTO {:schema}."tk_waiting" (target, place, key)
        SELECT 'archive_node', 'b39405', ARRAY[child.tk_key::text]
        FROM unnest(tk_keys) AS child (tk_key)
        WHERE NOT EXISTS (
            SELECT FROM {archive_node} AS parent
            WHERE parent."id" = child.tk_key
        );
        GET DIAGNOSTICS tk_noted = ROW_COUNT;
        IF tk_noted > 0 THEN
            PERFORM set_config('trigger_kit.waiting_401064_{:schema_tag}', 'on', true);
        END IF;
    END;
    DECLARE
        tk_outer_loop text := coalesce(current_setting('trigger_kit.along_beba31', true), '');
        tk_level integer;
        tk_rows bigint[];
        tk_locked_rows bigint[];
    BEGIN
        LOOP
            WITH RECURSIVE reached (tk_row, tk_up_1, tk_own_1) AS (
                SELECT this."id", this."parent_id", this."id"
                FROM {archive_node} AS this
                WHERE this."id" = ANY (tk_keys)
                UNION
                SELECT this."id", this."parent_id", this."id"
                FROM reached
                JOIN LATERAL (
                    SELECT * FROM {archive_node} AS this
                    WHERE this."id" = reached.tk_up_1
                    OFFSET 0
                ) AS this ON true
            ),
            levels (tk_row, tk_own_1, tk_level) AS (
                SELECT reached.tk_row, reached.tk_own_1, 0
                FROM reached
                WHERE NOT EXISTS (SELECT FROM reached AS parent WHERE parent.tk_own_1 = reached.tk_up_1)
                UNION ALL
                SELECT reached.tk_row, reached.tk_own_1, levels.tk_level + 1
                FROM levels JOIN reached ON reached.tk_up_1 = levels.tk_own_1
            )
            SELECT
                array_agg(reached.tk_row ORDER BY levels.tk_level DESC NULLS FIRST, reached.tk_row)
            INTO tk_rows
            FROM reached LEFT JOIN levels ON levels.tk_row = reached.tk_row;
            EXIT WHEN tk_rows IS NOT DISTINCT FROM tk_locked_rows;
            PERFORM
            FROM unnest(tk_rows) WITH ORDINALITY AS wanted (tk_row, tk_position)
            JOIN {archive_node} AS locked ON locked."id" = wanted.tk_row
            ORDER BY wanted.tk_position
            FOR NO KEY UPDATE OF locked;
            IF current_setting('transaction_isolation') = 'repeatable read' THEN
                PERFORM set_config('trigger_kit.locking', pg_trigger_depth()::text, true);
                UPDATE {archive_node} AS locked
                SET "id" = locked."id"
                WHERE locked."id" = ANY (tk_rows);
                PERFORM set_config('trigger_kit.locking', '', true);
            END IF;
            tk_locked_rows := tk_rows;
        END LOOP;

        tk_depth := set_config('trigger_kit.depth', pg_trigger_depth()::text, true);
        PERFORM set_config('trigger_kit.along_beba31', pg_trigger_depth()::text, true);
        FOR tk_level, tk_rows IN
            WITH RECURSIVE reached (tk_row, tk_up_1, tk_own_1) AS (
                SELECT this."id", this."parent_id", this."id"
                FROM {archive_node} AS this
                WHERE this."id" = ANY (tk_keys)
                UNION
                SELECT this."id", this."parent_id", this."id"
                FROM reached
                JOIN LATERAL (
                    SELECT * FROM {archive_node} AS this
                    WHERE this."id" = reached.tk_up_1
                    OFFSET 0
                ) AS this ON true
            ),
            levels (tk_row, tk_own_1, tk_level) AS (
                SELECT reached.tk_row, reached.tk_own_1, 0
                FROM reached
                WHERE NOT EXISTS (SELECT FROM reached AS parent WHERE parent.tk_own_1 = reached.tk_up_1)
                UNION ALL
                SELECT reached.tk_row, reached.tk_own_1, levels.tk_level + 1
                FROM levels JOIN reached ON reached.tk_up_1 = levels.tk_own_1
            )
            SELECT levels.tk_level, array_agg(reached.tk_row)
            FROM reached LEFT JOIN levels ON levels.tk_row = reached.tk_row
            GROUP BY levels.tk_level ORDER BY levels.tk_level DESC NULLS FIRST
        LOOP
            IF tk_level IS NULL THEN
                RAISE EXCEPTION USING MESSAGE = 'A row of archive_node would be its own ancestor, so that archive.Node:the_total would have no value.',
                          ERRCODE = 'integrity_constraint_violation',
                          HINT = 'Do not move a row under one of its own descendants.',
                          SCHEMA = TG_TABLE_SCHEMA,
                          TABLE = TG_TABLE_NAME;
            END IF;
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
            AND this."id" = ANY (tk_rows)
            AND (
                target."the_total" IS DISTINCT FROM value_1."the_total"
            );
        END LOOP;
        PERFORM set_config('trigger_kit.along_beba31', tk_outer_loop, true);
        tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);
    END;
    tk_plans := set_config('plan_cache_mode', tk_outer_plans, true);
    tk_plans := set_config('enable_seqscan', tk_outer_seqscan, true);
    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_node_along_archive_node_update_3c078f"() FROM PUBLIC;

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER UPDATE ON {archive_node}
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_archive_node_along_archive_node_update_3c078f"();
