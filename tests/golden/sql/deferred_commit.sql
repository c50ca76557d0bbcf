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
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $trigger_kit$
-- At the end of a transaction: bring what it has noted to archive_publisher.
-- Written by trigger_kit for the rules of archive.Publisher:
--   kept_number = Sum("works__pages")
--   the_count = Count("works")
--   kept_day = Max("works__day")
DECLARE
    tk_depth text;
    tk_outer_depth text := coalesce(current_setting('trigger_kit.depth', true), '');
    tk_1_keys bigint[];
    tk_1_keys_part_1 bigint[];
    tk_1_keys_part_2 bigint[];
    tk_1_keys_part_3 bigint[];
    tk_1_again_keys bigint[];
    tk_2_keys bigint[];
BEGIN
    IF TG_RELID <> {:regclass tk_commit} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass tk_commit} THEN PERFORM {:schema}."tk_refuse_v1"(TG_RELID); END IF;
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
    WHERE change.tk_recompute OR (change."kept_number", change.tk_rows_1, change."the_count") <> (0, 0, 0);
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
    -- Most transactions change one target. Where it is missing, or a count would be negative: see below.
    IF cardinality(tk_1_keys) = 1 AND tk_1_again_keys IS NULL AND tk_2_keys IS NULL AND tk_1_keys_part_2[1] >= 0 THEN
        tk_depth := set_config('trigger_kit.depth', pg_trigger_depth()::text, true);
        UPDATE {archive_publisher} AS target -- archive.Publisher:kept_number, archive.Publisher:the_count
        SET
            "kept_number" = CASE
                WHEN tk_1_keys_part_2[1] > 0 THEN coalesce(target."kept_number", 0) + tk_1_keys_part_1[1]
                ELSE target."kept_number" + tk_1_keys_part_1[1]
            END,
            "the_count" = target."the_count" + tk_1_keys_part_3[1]
        WHERE target."number" = tk_1_keys[1] AND NOT coalesce(target."the_count", 0) + tk_1_keys_part_3[1] < 0;
        tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);
        IF FOUND THEN
            RETURN NULL;
        END IF;
    END IF;
    IF tk_1_keys IS NULL AND tk_2_keys IS NULL THEN RETURN NULL; END IF;
    -- Lock in key order, so that two bulk statements cannot deadlock.
    PERFORM FROM {archive_publisher} AS locked
    WHERE locked."number" = ANY (tk_1_keys)
       OR locked."number" = ANY (tk_2_keys)
    ORDER BY locked."id" FOR NO KEY UPDATE;
    IF current_setting('transaction_isolation') = 'repeatable read' THEN
        PERFORM set_config('trigger_kit.locking', pg_trigger_depth()::text, true);
        UPDATE {archive_publisher} AS locked SET "id" = locked."id"
        WHERE locked."number" = ANY (tk_1_keys)
           OR locked."number" = ANY (tk_2_keys);
        PERFORM set_config('trigger_kit.locking', '', true);
    END IF;
    IF tk_1_again_keys IS NOT NULL THEN
        -- A full value was written meanwhile, which may hold some of it. All are locked in one order.
        PERFORM {:schema}."tk_archive_publisher_lock_1a0ff8"(tk_1_keys, NULL::text[], false);
        PERFORM {:schema}."tk_archive_publisher_apply_a4d1c8"(tk_1_again_keys, NULL::bigint[], NULL::bigint[], NULL::bigint[], true, ARRAY['d507ea']::text[]);
    END IF;
    PERFORM {:schema}."tk_archive_publisher_apply_a4d1c8"(tk_1_keys, tk_1_keys_part_1, tk_1_keys_part_2, tk_1_keys_part_3, false, ARRAY['d507ea']::text[]);
    PERFORM {:schema}."tk_archive_publisher_apply_4dd1f9"(tk_2_keys, ARRAY['d507ea']::text[]);
    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_publisher_commit_923011"() FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_publisher_commit_923011"() IS 'trigger_kit: keeps archive_publisher';

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER DELETE ON {tk_commit}
    FOR EACH ROW
    WHEN (OLD.target = 'archive_publisher')
    EXECUTE FUNCTION {:schema}."tk_archive_publisher_commit_923011"();
