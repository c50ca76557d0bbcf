-- title: recursion: Lock rows of archive_node, and count them; note those that are missing, for each of some places.

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_node_lock_516c83"(tk_keys bigint[], tk_places text[], tk_only_notes boolean)
RETURNS bigint
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $trigger_kit$
-- Lock rows of archive_node, and count them; note those that are missing, for each of some places.
DECLARE
    tk_found bigint := 0;
BEGIN
    IF NOT tk_only_notes THEN
        -- Lock in key order, so that two bulk statements cannot deadlock.
        PERFORM FROM {archive_node} AS locked
        WHERE locked."id" = ANY (tk_keys) ORDER BY locked."id" FOR NO KEY UPDATE;
        GET DIAGNOSTICS tk_found = ROW_COUNT;
        IF current_setting('transaction_isolation') = 'repeatable read' THEN
            PERFORM set_config('trigger_kit.locking', pg_trigger_depth()::text, true);
            UPDATE {archive_node} AS locked SET "id" = locked."id"
            WHERE locked."id" = ANY (tk_keys);
            PERFORM set_config('trigger_kit.locking', '', true);
        END IF;
    END IF;
    IF tk_places IS NOT NULL AND tk_found < cardinality(tk_keys) THEN
        INSERT INTO {:schema}."tk_waiting" (target, place, key)
        SELECT 'archive_node', place, ARRAY[child.tk_key::text]
        FROM unnest(tk_keys) AS child (tk_key) CROSS JOIN unnest(tk_places) AS place
        WHERE NOT EXISTS (SELECT FROM {archive_node} AS parent WHERE parent."id" = child.tk_key);
        IF FOUND THEN PERFORM {:schema}."tk_waits_v1"({:regclass tk_waiting}, 'archive_node'::text); END IF;
    END IF;
    RETURN tk_found;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_node_lock_516c83"(bigint[], text[], boolean) FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_node_lock_516c83"(bigint[], text[], boolean) IS 'trigger_kit: writes archive_node';

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_node_recompute_c236de"(tk_keys bigint[], tk_is_loop boolean)
RETURNS void
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $trigger_kit$
-- Compute locked rows of archive_node afresh; later steps of this statement must not add what they hold.
-- Written by trigger_kit for the rules of archive.Node:the_total.
DECLARE
    tk_depth text;
    tk_outer_depth text := coalesce(current_setting('trigger_kit.depth', true), '');
    tk_outer_loop_1 text := coalesce(current_setting('trigger_kit.along_beba31', true), '');
BEGIN
    PERFORM set_config('trigger_kit.along_beba31', CASE WHEN tk_is_loop THEN pg_trigger_depth()::text ELSE '' END, true);
    tk_depth := set_config('trigger_kit.depth', pg_trigger_depth()::text, true);
    UPDATE {archive_node} AS target -- archive.Node:the_total
    SET "the_total" = value_1."the_total"
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
      AND target."the_total" IS DISTINCT FROM value_1."the_total";
    tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);
    PERFORM set_config('trigger_kit.along_beba31', tk_outer_loop_1, true);
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_node_recompute_c236de"(bigint[], boolean) FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_node_recompute_c236de"(bigint[], boolean) IS 'trigger_kit: writes archive_node';

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_node_apply_808fb0"(tk_keys bigint[], tk_places text[])
RETURNS void
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $trigger_kit$
-- Compute rows of archive_node afresh.
-- Written by trigger_kit for the rules of archive.Node:the_total.
DECLARE
    tk_is_paused boolean := {:schema}."tk_is_paused_v1"('archive_node'::text);
BEGIN
    IF tk_keys IS NULL THEN RETURN; END IF;
    PERFORM {:schema}."tk_archive_node_lock_516c83"(tk_keys, tk_places, tk_is_paused);
    IF tk_is_paused THEN
        -- Note which were touched, for the repair at the end of the pause.
        INSERT INTO {:schema}."tk_touched" (target, key_column, key)
        SELECT 'archive_node', 'id', touched.tk_key::text FROM unnest(tk_keys) AS touched (tk_key);
        RETURN;
    END IF;
    PERFORM {:schema}."tk_archive_node_recompute_c236de"(tk_keys, false);
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_node_apply_808fb0"(bigint[], text[]) FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_node_apply_808fb0"(bigint[], text[]) IS 'trigger_kit: writes archive_node';

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_node_apply_6e387c"(tk_keys bigint[], tk_places text[])
RETURNS void
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $trigger_kit$
-- Compute all rows of archive_node that some keys reach, level by level.
-- Written by trigger_kit for the rules of archive.Node:the_total.
DECLARE
    tk_depth text;
    tk_outer_depth text := coalesce(current_setting('trigger_kit.depth', true), '');
BEGIN
    IF tk_keys IS NULL THEN RETURN; END IF;
    PERFORM {:schema}."tk_archive_node_lock_516c83"(tk_keys, tk_places, true);
    IF {:schema}."tk_is_paused_v1"('archive_node'::text) THEN
        -- Note which were touched, for the repair at the end of the pause.
        INSERT INTO {:schema}."tk_touched" (target, key_column, key)
        SELECT 'archive_node', 'id', touched.tk_key::text FROM unnest(tk_keys) AS touched (tk_key);
        RETURN;
    END IF;
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
                JOIN LATERAL (SELECT * FROM {archive_node} AS this WHERE this."id" = reached.tk_up_1 OFFSET 0) AS this ON true
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
                UPDATE {archive_node} AS locked SET "id" = locked."id"
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
                JOIN LATERAL (SELECT * FROM {archive_node} AS this WHERE this."id" = reached.tk_up_1 OFFSET 0) AS this ON true
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
                          SCHEMA = (SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = {:regclass archive_node}),
                          TABLE = 'archive_node';
            END IF;
            PERFORM {:schema}."tk_archive_node_recompute_c236de"(tk_rows, true);
        END LOOP;
        PERFORM set_config('trigger_kit.along_beba31', tk_outer_loop, true);
        tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);
    END;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_node_apply_6e387c"(bigint[], text[]) FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_node_apply_6e387c"(bigint[], text[]) IS 'trigger_kit: writes archive_node';

CREATE OR REPLACE FUNCTION {:schema}."~tk_archive_node_guard_51a7ad"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- Before UPDATE on archive_node: only maintenance writes the kept columns.
-- Written by trigger_kit for archive.Node: the_total = F("own") + Sum("children__the_total", default=0)
BEGIN
    IF TG_RELID <> {:regclass archive_node} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_node} THEN PERFORM {:schema}."tk_refuse_v1"(TG_RELID); END IF;
    -- Maintenance says at which trigger depth it writes; everybody else meets the guard.
    IF current_setting('trigger_kit.depth', true) IS DISTINCT FROM (pg_trigger_depth() - 1)::text AND NEW."the_total" IS DISTINCT FROM OLD."the_total" THEN
        NEW."the_total" := OLD."the_total";
    END IF;
    RETURN NEW;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."~tk_archive_node_guard_51a7ad"() FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."~tk_archive_node_guard_51a7ad"() IS 'trigger_kit: keeps archive_node';

CREATE OR REPLACE TRIGGER {:trigger}
    BEFORE UPDATE ON {archive_node}
    FOR EACH ROW
    EXECUTE FUNCTION {:schema}."~tk_archive_node_guard_51a7ad"();
