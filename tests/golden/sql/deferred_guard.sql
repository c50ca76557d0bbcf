-- title: deferred: Lock rows of archive_publisher, and count them; note those that are missing, for each of some places.

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_publisher_lock_1a0ff8"(tk_keys bigint[], tk_places text[], tk_only_notes boolean)
RETURNS bigint
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $trigger_kit$
-- Lock rows of archive_publisher, and count them; note those that are missing, for each of some places.
DECLARE
    tk_found bigint := 0;
BEGIN
    IF NOT tk_only_notes THEN
        -- Lock in key order, so that two bulk statements cannot deadlock.
        PERFORM FROM {archive_publisher} AS locked
        WHERE locked."number" = ANY (tk_keys) ORDER BY locked."id" FOR NO KEY UPDATE;
        GET DIAGNOSTICS tk_found = ROW_COUNT;
        IF current_setting('transaction_isolation') = 'repeatable read' THEN
            PERFORM set_config('trigger_kit.locking', pg_trigger_depth()::text, true);
            UPDATE {archive_publisher} AS locked SET "id" = locked."id"
            WHERE locked."number" = ANY (tk_keys);
            PERFORM set_config('trigger_kit.locking', '', true);
        END IF;
    END IF;
    IF tk_places IS NOT NULL AND tk_found < cardinality(tk_keys) THEN
        INSERT INTO {:schema}."tk_waiting" (target, place, key)
        SELECT 'archive_publisher', place, ARRAY[child.tk_key::text]
        FROM unnest(tk_keys) AS child (tk_key) CROSS JOIN unnest(tk_places) AS place
        WHERE NOT EXISTS (SELECT FROM {archive_publisher} AS parent WHERE parent."number" = child.tk_key);
        IF FOUND THEN PERFORM {:schema}."tk_waits_v1"({:regclass tk_waiting}, 'archive_publisher'::text); END IF;
    END IF;
    RETURN tk_found;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_publisher_lock_1a0ff8"(bigint[], text[], boolean) FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_publisher_lock_1a0ff8"(bigint[], text[], boolean) IS 'trigger_kit: writes archive_publisher';

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_publisher_recompute_9c1815"(tk_keys uuid[])
RETURNS void
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $trigger_kit$
-- Compute locked rows of archive_publisher afresh; later steps of this statement must not add what they hold.
-- Written by trigger_kit for the rules of archive.Publisher:kept_day.
DECLARE
    tk_depth text;
    tk_outer_depth text := coalesce(current_setting('trigger_kit.depth', true), '');
BEGIN
    tk_depth := set_config('trigger_kit.depth', pg_trigger_depth()::text, true);
    UPDATE {archive_publisher} AS target -- archive.Publisher:kept_day
    SET "kept_day" = value_1."kept_day"
    FROM {archive_publisher} AS this
    CROSS JOIN LATERAL (
        SELECT (SELECT max("source"."day") FROM {archive_work} AS source WHERE source."publisher_id" = this."number")::date AS "kept_day"
    ) AS value_1
    WHERE target."id" = this."id"
      AND this."id" = ANY (tk_keys)
      AND target."kept_day" IS DISTINCT FROM value_1."kept_day";
    tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_publisher_recompute_9c1815"(uuid[]) FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_publisher_recompute_9c1815"(uuid[]) IS 'trigger_kit: writes archive_publisher';

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_publisher_recompute_a44afe"(tk_keys uuid[])
RETURNS void
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $trigger_kit$
-- Compute locked rows of archive_publisher afresh; later steps of this statement must not add what they hold.
-- Written by trigger_kit for the rules of archive.Publisher:kept_number, the_count.
DECLARE
    tk_depth text;
    tk_outer_depth text := coalesce(current_setting('trigger_kit.depth', true), '');
BEGIN
    PERFORM {:schema}."tk_mark_v1"('filled_f5afcb'::text);
    -- What this transaction has noted may be in the full value: the commit computes it afresh.
    UPDATE {:schema}."tk_deferred_archive_publisher" AS noted
    SET tk_recompute = true
    FROM {archive_publisher} AS this
    WHERE noted.tk_transaction = pg_current_xact_id() AND NOT noted.tk_recompute AND noted."number" = this."number" AND this."id" = ANY (tk_keys);
    tk_depth := set_config('trigger_kit.depth', pg_trigger_depth()::text, true);
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
      AND this."id" = ANY (tk_keys)
      AND (
            target."kept_number" IS DISTINCT FROM value_1."kept_number"
            OR target."the_count" IS DISTINCT FROM value_1."the_count"
      );
    tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_publisher_recompute_a44afe"(uuid[]) FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_publisher_recompute_a44afe"(uuid[]) IS 'trigger_kit: writes archive_publisher';

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_publisher_apply_a4d1c8"(
    tk_keys bigint[], tk_by_kept_number bigint[], tk_by_tk_rows_1 bigint[], tk_by_the_count bigint[], tk_recompute boolean,
    tk_places text[]
)
RETURNS void
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $trigger_kit$
-- Add differences to rows of archive_publisher, locked first; compute them afresh where these do not hold.
-- Written by trigger_kit for the rules of archive.Publisher:kept_number, the_count.
DECLARE
    tk_is_paused boolean := {:schema}."tk_is_paused_v1"('archive_publisher'::text);
    tk_found bigint;
    tk_added bigint;
    tk_depth text;
    tk_outer_depth text := coalesce(current_setting('trigger_kit.depth', true), '');
BEGIN
    IF tk_keys IS NULL THEN RETURN; END IF;
    tk_found := {:schema}."tk_archive_publisher_lock_1a0ff8"(tk_keys, tk_places, tk_is_paused);
    IF tk_is_paused THEN
        -- Note which were touched, for the repair at the end of the pause.
        INSERT INTO {:schema}."tk_touched" (target, key_column, key)
        SELECT 'archive_publisher', 'number', touched.tk_key::text FROM unnest(tk_keys) AS touched (tk_key);
        RETURN;
    END IF;
    IF NOT tk_recompute THEN
        tk_depth := set_config('trigger_kit.depth', pg_trigger_depth()::text, true);
        UPDATE {archive_publisher} AS target -- archive.Publisher:kept_number, archive.Publisher:the_count
        SET
            "kept_number" = CASE
                WHEN change.tk_rows_1 > 0 THEN coalesce(target."kept_number", 0) + change."kept_number"
                WHEN change.tk_rows_1 = 0 OR EXISTS (SELECT FROM {archive_work} AS source WHERE source."publisher_id" = target."number" AND "source"."pages" IS NOT NULL) THEN target."kept_number" + change."kept_number"
            END,
            "the_count" = target."the_count" + change."the_count"
        FROM unnest(tk_keys, tk_by_kept_number, tk_by_tk_rows_1, tk_by_the_count) AS change (tk_key, "kept_number", tk_rows_1, "the_count")
        WHERE target."number" = change.tk_key
          AND NOT coalesce(target."the_count", 0) + change."the_count" < 0
          AND NOT (target."kept_number" IS NULL AND change.tk_rows_1 < 0);
        GET DIAGNOSTICS tk_added = ROW_COUNT;
        tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);
        -- Rows that leave before their arrival is counted: no count is negative, not even for a moment.
        tk_recompute := tk_added < tk_found;
    END IF;
    IF tk_recompute THEN
        PERFORM {:schema}."tk_archive_publisher_recompute_a44afe"(array_agg(this."id")) FROM {archive_publisher} AS this WHERE this."number" = ANY (tk_keys);
    END IF;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_publisher_apply_a4d1c8"(bigint[], bigint[], bigint[], bigint[], boolean, text[]) FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_publisher_apply_a4d1c8"(bigint[], bigint[], bigint[], bigint[], boolean, text[]) IS 'trigger_kit: writes archive_publisher';

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_publisher_apply_4dd1f9"(tk_keys bigint[], tk_places text[])
RETURNS void
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $trigger_kit$
-- Compute rows of archive_publisher afresh.
-- Written by trigger_kit for the rules of archive.Publisher:kept_day.
DECLARE
    tk_is_paused boolean := {:schema}."tk_is_paused_v1"('archive_publisher'::text);
BEGIN
    IF tk_keys IS NULL THEN RETURN; END IF;
    PERFORM {:schema}."tk_archive_publisher_lock_1a0ff8"(tk_keys, tk_places, tk_is_paused);
    IF tk_is_paused THEN
        -- Note which were touched, for the repair at the end of the pause.
        INSERT INTO {:schema}."tk_touched" (target, key_column, key)
        SELECT 'archive_publisher', 'number', touched.tk_key::text FROM unnest(tk_keys) AS touched (tk_key);
        RETURN;
    END IF;
    PERFORM {:schema}."tk_archive_publisher_recompute_9c1815"(array_agg(this."id")) FROM {archive_publisher} AS this WHERE this."number" = ANY (tk_keys);
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_publisher_apply_4dd1f9"(bigint[], text[]) FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_publisher_apply_4dd1f9"(bigint[], text[]) IS 'trigger_kit: writes archive_publisher';

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_publisher_apply_2489c9"(tk_keys bigint[], tk_places text[])
RETURNS void
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $trigger_kit$
-- Compute rows of archive_publisher afresh.
-- Written by trigger_kit for the rules of archive.Publisher:kept_number, the_count.
DECLARE
    tk_is_paused boolean := {:schema}."tk_is_paused_v1"('archive_publisher'::text);
BEGIN
    IF tk_keys IS NULL THEN RETURN; END IF;
    PERFORM {:schema}."tk_archive_publisher_lock_1a0ff8"(tk_keys, tk_places, tk_is_paused);
    IF tk_is_paused THEN
        -- Note which were touched, for the repair at the end of the pause.
        INSERT INTO {:schema}."tk_touched" (target, key_column, key)
        SELECT 'archive_publisher', 'number', touched.tk_key::text FROM unnest(tk_keys) AS touched (tk_key);
        RETURN;
    END IF;
    PERFORM {:schema}."tk_archive_publisher_recompute_a44afe"(array_agg(this."id")) FROM {archive_publisher} AS this WHERE this."number" = ANY (tk_keys);
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_publisher_apply_2489c9"(bigint[], text[]) FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_publisher_apply_2489c9"(bigint[], text[]) IS 'trigger_kit: writes archive_publisher';

CREATE OR REPLACE FUNCTION {:schema}."~tk_archive_publisher_guard_c8d706"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- Before UPDATE on archive_publisher: only maintenance writes the kept columns.
-- Written by trigger_kit for the rules of archive.Publisher:
--   kept_day = Max("works__day")
--   kept_number = Sum("works__pages")
--   the_count = Count("works")
BEGIN
    IF TG_RELID <> {:regclass archive_publisher} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_publisher} THEN PERFORM {:schema}."tk_refuse_v1"(TG_RELID); END IF;
    -- Maintenance says at which trigger depth it writes; everybody else meets the guard.
    IF current_setting('trigger_kit.depth', true) IS DISTINCT FROM (pg_trigger_depth() - 1)::text AND (
        NEW."kept_day" IS DISTINCT FROM OLD."kept_day"
        OR NEW."kept_number" IS DISTINCT FROM OLD."kept_number"
        OR NEW."the_count" IS DISTINCT FROM OLD."the_count"
    ) THEN
        NEW."kept_day" := OLD."kept_day";
        NEW."kept_number" := OLD."kept_number";
        NEW."the_count" := OLD."the_count";
    END IF;
    -- Steps of this statement would add to the new key, or take off, what it never held: they recompute.
    IF NEW."number" IS DISTINCT FROM OLD."number" THEN
        PERFORM {:schema}."tk_mark_v1"('fresh_f5afcb'::text), {:schema}."tk_mark_v1"('filled_f5afcb'::text);
    END IF;
    RETURN NEW;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."~tk_archive_publisher_guard_c8d706"() FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."~tk_archive_publisher_guard_c8d706"() IS 'trigger_kit: keeps archive_publisher';

CREATE OR REPLACE TRIGGER {:trigger}
    BEFORE UPDATE ON {archive_publisher}
    FOR EACH ROW
    EXECUTE FUNCTION {:schema}."~tk_archive_publisher_guard_c8d706"();
