-- title: deferred: At the end of a transaction: bring what it has noted to archive_publisher.

CREATE UNLOGGED TABLE {:schema}."tk_deferred_archive_publisher" (
    tk_transaction xid8 NOT NULL DEFAULT pg_current_xact_id(),
    tk_edge smallint NOT NULL,
    "number" bigint,
    "kept_number" bigint,
    tk_rows_1 bigint,
    "the_count" bigint,
    tk_recompute boolean NOT NULL DEFAULT false
) WITH (vacuum_truncate = false);
CREATE INDEX ON {:schema}."tk_deferred_archive_publisher" (tk_transaction, "number");
COMMENT ON TABLE {:schema}."tk_deferred_archive_publisher" IS 'trigger_kit: what open transactions have changed for archive_publisher, until they commit';

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_publisher_commit_923011"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- At the end of a transaction: bring what it has noted to archive_publisher.
-- Rules of archive.Publisher:
--   kept_number = Sum("works__pages")
--   the_count = Count("works")
--   kept_day = Max("works__day")
-- Written by trigger_kit. To change it, change the rules and run makemigrations.
DECLARE
    tk_depth text;
    tk_outer_depth text := coalesce(current_setting('trigger_kit.depth', true), '');
    tk_plans text;
    tk_outer_plans text := current_setting('plan_cache_mode');
    tk_outer_seqscan text := current_setting('enable_seqscan');
    tk_1_keys bigint[];
    tk_1_keys_part_1 bigint[];
    tk_1_keys_part_2 bigint[];
    tk_1_keys_part_3 bigint[];
    tk_1_again_keys bigint[];
    tk_2_keys bigint[];
BEGIN
    -- This function runs as its owner: not for a table that somebody else has put it on.
    IF TG_RELID <> {:regclass tk_commit} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass tk_commit} THEN
        RAISE EXCEPTION USING MESSAGE = format('This trigger function is not for %s.', TG_RELID::regclass),
                  ERRCODE = 'insufficient_privilege';
    END IF;
    tk_plans := set_config('trigger_kit.deferred_f5afcb_{:schema_tag}', '', true);
    -- One plan for arrays of any length, by index: planning anew would take longer than most statements.
    tk_plans := set_config('plan_cache_mode', 'force_generic_plan', true);
    tk_plans := set_config('enable_seqscan', 'off', true);
    WITH taken AS (
        DELETE FROM {:schema}."tk_deferred_archive_publisher" AS noted
        WHERE noted.tk_transaction = pg_current_xact_id() AND noted.tk_edge IN (2)
        RETURNING noted.*
    ), change AS (
        SELECT
            taken."number" AS tk_1_key,
            CASE WHEN bool_or(taken.tk_recompute) THEN 0 ELSE coalesce(sum(taken."kept_number"), 0)::bigint END AS "kept_number",
            CASE WHEN bool_or(taken.tk_recompute) THEN 0 ELSE coalesce(sum(taken.tk_rows_1), 0)::bigint END AS tk_rows_1,
            CASE WHEN bool_or(taken.tk_recompute) THEN 0 ELSE coalesce(sum(taken."the_count"), 0)::bigint END AS "the_count",
            bool_or(taken.tk_recompute) AS tk_recompute
        FROM taken
        GROUP BY taken."number"
    )
    SELECT
        array_agg(change.tk_1_key),
        array_agg(change."kept_number"),
        array_agg(change.tk_rows_1),
        array_agg(change."the_count"),
        array_agg(change.tk_1_key) FILTER (WHERE change.tk_recompute)
    INTO tk_1_keys, tk_1_keys_part_1, tk_1_keys_part_2, tk_1_keys_part_3, tk_1_again_keys
    FROM change
    WHERE change.tk_recompute
       OR change."kept_number" <> 0
       OR change.tk_rows_1 <> 0
       OR change."the_count" <> 0;
    WITH taken AS (
        DELETE FROM {:schema}."tk_deferred_archive_publisher" AS noted
        WHERE noted.tk_transaction = pg_current_xact_id() AND noted.tk_edge IN (1)
        RETURNING noted.*
    ), change AS (
        SELECT
            taken."number" AS tk_2_key
        FROM taken
        GROUP BY taken."number"
    )
    SELECT
        array_agg(change.tk_2_key)
    INTO tk_2_keys
    FROM change;
    IF tk_1_keys IS NULL AND tk_2_keys IS NULL THEN
        tk_plans := set_config('plan_cache_mode', tk_outer_plans, true);
        tk_plans := set_config('enable_seqscan', tk_outer_seqscan, true);
        RETURN NULL;
    END IF;

    -- Most transactions change one target. Where it is missing, or a count would be negative: see below.
    IF cardinality(tk_1_keys) = 1 AND tk_1_again_keys IS NULL AND tk_2_keys IS NULL AND tk_1_keys_part_2[1] >= 0 THEN
        tk_depth := set_config('trigger_kit.depth', pg_trigger_depth()::text, true);
        UPDATE {archive_publisher} AS target -- archive.Publisher:kept_number, archive.Publisher:the_count
        SET
            "kept_number" = CASE
                WHEN change.tk_rows_1 > 0 THEN coalesce(target."kept_number", 0) + change."kept_number"
                ELSE target."kept_number" + change."kept_number"
            END,
            "the_count" = target."the_count" + change."the_count"
        FROM (SELECT tk_1_keys_part_1[1] AS "kept_number", tk_1_keys_part_2[1] AS tk_rows_1, tk_1_keys_part_3[1] AS "the_count") AS change
        WHERE target."number" = tk_1_keys[1] AND NOT coalesce(target."the_count", 0) + change."the_count" < 0;
        tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);
        IF FOUND THEN
            tk_plans := set_config('plan_cache_mode', tk_outer_plans, true);
            tk_plans := set_config('enable_seqscan', tk_outer_seqscan, true);
            RETURN NULL;
        END IF;
    END IF;

    -- Lock in key order, so that two bulk statements cannot deadlock.
    PERFORM
    FROM {archive_publisher} AS locked
    WHERE locked."number" = ANY (tk_1_keys)
       OR locked."number" = ANY (tk_2_keys)
    ORDER BY locked."id"
    FOR NO KEY UPDATE;
    IF current_setting('transaction_isolation') = 'repeatable read' THEN
        PERFORM set_config('trigger_kit.locking', pg_trigger_depth()::text, true);
        UPDATE {archive_publisher} AS locked
        SET "id" = locked."id"
        WHERE locked."number" = ANY (tk_1_keys)
           OR locked."number" = ANY (tk_2_keys);
        PERFORM set_config('trigger_kit.locking', '', true);
    END IF;
    -- Targets that are missing may come from another transaction: see tk_waiting.
    DECLARE
        tk_noted bigint;
    BEGIN
        INSERT INTO {:schema}."tk_waiting" (target, place, key)
        SELECT 'archive_publisher', 'd507ea', ARRAY[child.tk_1_key::text]
        FROM unnest(tk_1_keys) AS child (tk_1_key)
        WHERE NOT EXISTS (
            SELECT FROM {archive_publisher} AS parent
            WHERE parent."number" = child.tk_1_key
        );
        GET DIAGNOSTICS tk_noted = ROW_COUNT;
        IF tk_noted > 0 THEN
            PERFORM set_config('trigger_kit.waiting_f5afcb_{:schema_tag}', 'on', true);
        END IF;
    END;
    -- Targets that are missing may come from another transaction: see tk_waiting.
    DECLARE
        tk_noted bigint;
    BEGIN
        INSERT INTO {:schema}."tk_waiting" (target, place, key)
        SELECT 'archive_publisher', 'd507ea', ARRAY[child.tk_2_key::text]
        FROM unnest(tk_2_keys) AS child (tk_2_key)
        WHERE NOT EXISTS (
            SELECT FROM {archive_publisher} AS parent
            WHERE parent."number" = child.tk_2_key
        );
        GET DIAGNOSTICS tk_noted = ROW_COUNT;
        IF tk_noted > 0 THEN
            PERFORM set_config('trigger_kit.waiting_f5afcb_{:schema_tag}', 'on', true);
        END IF;
    END;

    tk_depth := set_config('trigger_kit.depth', pg_trigger_depth()::text, true);
    IF EXISTS (
        SELECT
        FROM unnest(tk_1_keys, tk_1_keys_part_1, tk_1_keys_part_2, tk_1_keys_part_3)
            AS change (tk_1_key, "kept_number", tk_rows_1, "the_count")
        JOIN {archive_publisher} AS target ON target."number" = change.tk_1_key
        WHERE coalesce(target."the_count", 0) + change."the_count" < 0
           OR target."kept_number" IS NULL AND change.tk_rows_1 < 0
    ) THEN
        tk_1_again_keys := tk_1_keys;
    ELSE
        UPDATE {archive_publisher} AS target -- archive.Publisher:kept_number, archive.Publisher:the_count
        SET
            "kept_number" = CASE
                WHEN change.tk_rows_1 > 0 THEN coalesce(target."kept_number", 0) + change."kept_number"
                WHEN change.tk_rows_1 = 0 OR EXISTS (
                    SELECT FROM {archive_work} AS source
                    WHERE source."publisher_id" = target."number"
                      AND "source"."pages" IS NOT NULL
                ) THEN target."kept_number" + change."kept_number"
            END,
            "the_count" = target."the_count" + change."the_count"
        FROM unnest(tk_1_keys, tk_1_keys_part_1, tk_1_keys_part_2, tk_1_keys_part_3)
            AS change (tk_1_key, "kept_number", tk_rows_1, "the_count")
        WHERE target."number" = change.tk_1_key
          AND (change."kept_number" <> 0
            OR change.tk_rows_1 <> 0
            OR change."the_count" <> 0);
    END IF;
    IF tk_1_again_keys IS NOT NULL THEN
        -- What this transaction has noted may be in the full value: the commit computes it afresh.
        UPDATE {:schema}."tk_deferred_archive_publisher" AS noted
        SET tk_recompute = true
        WHERE noted.tk_transaction = pg_current_xact_id() AND NOT noted.tk_recompute;
        PERFORM set_config('trigger_kit.filled_f5afcb', extract(epoch FROM statement_timestamp())::text, true);
        UPDATE {archive_publisher} AS target -- archive.Publisher:kept_number, archive.Publisher:the_count
        SET
            "kept_number" = value_1."kept_number",
            "the_count" = value_1."the_count"
        FROM {archive_publisher} AS this
        CROSS JOIN LATERAL (
            SELECT
                sum("source"."pages") AS "kept_number",
                count(*) AS "the_count"
            FROM {archive_work} AS source
            WHERE source."publisher_id" = this."number"
        ) AS value_1
        WHERE target."id" = this."id"
        AND this."number" = ANY (tk_1_again_keys)
        AND (
            target."kept_number" IS DISTINCT FROM value_1."kept_number"
            OR target."the_count" IS DISTINCT FROM value_1."the_count"
        );
    END IF;
    IF tk_2_keys IS NOT NULL THEN
        PERFORM set_config('trigger_kit.filled_f5afcb', extract(epoch FROM statement_timestamp())::text, true);
        UPDATE {archive_publisher} AS target -- archive.Publisher:kept_day
        SET
            "kept_day" = value_1."kept_day"
        FROM {archive_publisher} AS this
        CROSS JOIN LATERAL (
            SELECT
                (
                    SELECT max("source"."day")
                    FROM {archive_work} AS source
                    WHERE source."publisher_id" = this."number"
                )::date AS "kept_day"
        ) AS value_1
        WHERE target."id" = this."id"
        AND this."number" = ANY (tk_2_keys)
        AND (
            target."kept_day" IS DISTINCT FROM value_1."kept_day"
        );
    END IF;
    tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);
    tk_plans := set_config('plan_cache_mode', tk_outer_plans, true);
    tk_plans := set_config('enable_seqscan', tk_outer_seqscan, true);
    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_publisher_commit_923011"() FROM PUBLIC;

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER DELETE ON {tk_commit}
    FOR EACH ROW
    WHEN (OLD.target = 'archive_publisher')
    EXECUTE FUNCTION {:schema}."tk_archive_publisher_commit_923011"();
