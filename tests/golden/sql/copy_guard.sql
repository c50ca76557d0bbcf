-- title: copy: Lock rows of archive_country in key order: what leads over them stays as it is.

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_work_hold_archive_country_9e39dd"(tk_keys varchar[])
RETURNS void
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $trigger_kit$
-- Lock rows of archive_country in key order: what leads over them stays as it is.
BEGIN
    IF current_setting('transaction_isolation') = 'repeatable read' THEN
        PERFORM FROM {archive_country} AS locked
        WHERE locked."code" = ANY (tk_keys) ORDER BY locked."code" FOR NO KEY UPDATE;
        PERFORM set_config('trigger_kit.locking', pg_trigger_depth()::text, true);
        UPDATE {archive_country} AS locked SET "code" = locked."code"
        WHERE locked."code" = ANY (tk_keys);
        PERFORM set_config('trigger_kit.locking', '', true);
    ELSE
        PERFORM FROM {archive_country} AS locked
        WHERE locked."code" = ANY (tk_keys) ORDER BY locked."code" FOR SHARE;
    END IF;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_work_hold_archive_country_9e39dd"(varchar[]) FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_work_hold_archive_country_9e39dd"(varchar[]) IS 'trigger_kit: writes archive_work';

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_work_hold_archive_publisher_59d954"(tk_keys bigint[])
RETURNS void
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $trigger_kit$
-- Lock rows of archive_publisher in key order: what leads over them stays as it is.
BEGIN
    IF current_setting('transaction_isolation') = 'repeatable read' THEN
        PERFORM FROM {archive_publisher} AS locked
        WHERE locked."number" = ANY (tk_keys) ORDER BY locked."id" FOR NO KEY UPDATE;
        PERFORM set_config('trigger_kit.locking', pg_trigger_depth()::text, true);
        UPDATE {archive_publisher} AS locked SET "id" = locked."id"
        WHERE locked."number" = ANY (tk_keys);
        PERFORM set_config('trigger_kit.locking', '', true);
    ELSE
        PERFORM FROM {archive_publisher} AS locked
        WHERE locked."number" = ANY (tk_keys) ORDER BY locked."id" FOR SHARE;
    END IF;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_work_hold_archive_publisher_59d954"(bigint[]) FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_work_hold_archive_publisher_59d954"(bigint[]) IS 'trigger_kit: writes archive_work';

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_work_lock_71eb5b"(tk_keys bigint[], tk_places text[], tk_only_notes boolean)
RETURNS bigint
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $trigger_kit$
-- Lock rows of archive_work, and count them; note those that are missing, for each of some places.
DECLARE
    tk_found bigint := 0;
BEGIN
    IF NOT tk_only_notes THEN
        -- Lock in key order, so that two bulk statements cannot deadlock.
        PERFORM FROM {archive_work} AS locked
        WHERE locked."publisher_id" = ANY (tk_keys) ORDER BY locked."id" FOR NO KEY UPDATE;
        GET DIAGNOSTICS tk_found = ROW_COUNT;
        IF current_setting('transaction_isolation') = 'repeatable read' THEN
            PERFORM set_config('trigger_kit.locking', pg_trigger_depth()::text, true);
            UPDATE {archive_work} AS locked SET "id" = locked."id"
            WHERE locked."publisher_id" = ANY (tk_keys);
            PERFORM set_config('trigger_kit.locking', '', true);
        END IF;
    END IF;
    IF tk_places IS NOT NULL AND tk_found < cardinality(tk_keys) THEN
        INSERT INTO {:schema}."tk_waiting" (target, place, key)
        SELECT 'archive_work', place, ARRAY[child.tk_key::text]
        FROM unnest(tk_keys) AS child (tk_key) CROSS JOIN unnest(tk_places) AS place
        WHERE NOT EXISTS (SELECT FROM {archive_work} AS parent WHERE parent."publisher_id" = child.tk_key);
        IF FOUND THEN PERFORM {:schema}."tk_waits_v1"({:regclass tk_waiting}, 'archive_work'::text); END IF;
    END IF;
    RETURN tk_found;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_work_lock_71eb5b"(bigint[], text[], boolean) FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_work_lock_71eb5b"(bigint[], text[], boolean) IS 'trigger_kit: writes archive_work';

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_work_lock_f47c97"(tk_keys bigint[], tk_places text[], tk_only_notes boolean)
RETURNS bigint
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $trigger_kit$
-- Lock rows of archive_work, and count them; note those that are missing, for each of some places.
DECLARE
    tk_found bigint := 0;
BEGIN
    IF NOT tk_only_notes THEN
        -- Lock in key order, so that two bulk statements cannot deadlock.
        PERFORM FROM {archive_work} AS locked
        WHERE locked."id" = ANY (tk_keys) ORDER BY locked."id" FOR NO KEY UPDATE;
        GET DIAGNOSTICS tk_found = ROW_COUNT;
        IF current_setting('transaction_isolation') = 'repeatable read' THEN
            PERFORM set_config('trigger_kit.locking', pg_trigger_depth()::text, true);
            UPDATE {archive_work} AS locked SET "id" = locked."id"
            WHERE locked."id" = ANY (tk_keys);
            PERFORM set_config('trigger_kit.locking', '', true);
        END IF;
    END IF;
    IF tk_places IS NOT NULL AND tk_found < cardinality(tk_keys) THEN
        INSERT INTO {:schema}."tk_waiting" (target, place, key)
        SELECT 'archive_work', place, ARRAY[child.tk_key::text]
        FROM unnest(tk_keys) AS child (tk_key) CROSS JOIN unnest(tk_places) AS place
        WHERE NOT EXISTS (SELECT FROM {archive_work} AS parent WHERE parent."id" = child.tk_key);
        IF FOUND THEN PERFORM {:schema}."tk_waits_v1"({:regclass tk_waiting}, 'archive_work'::text); END IF;
    END IF;
    RETURN tk_found;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_work_lock_f47c97"(bigint[], text[], boolean) FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_work_lock_f47c97"(bigint[], text[], boolean) IS 'trigger_kit: writes archive_work';

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_work_recompute_b848b2"(tk_keys bigint[])
RETURNS void
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $trigger_kit$
-- Compute locked rows of archive_work afresh; later steps of this statement must not add what they hold.
-- Written by trigger_kit for the rules of archive.Work:the_label.
DECLARE
    tk_depth text;
    tk_outer_depth text := coalesce(current_setting('trigger_kit.depth', true), '');
BEGIN
    tk_depth := set_config('trigger_kit.depth', pg_trigger_depth()::text, true);
    UPDATE {archive_work} AS target -- archive.Work:the_label
    SET "the_label" = value_1."the_label"
    FROM {archive_work} AS this
    CROSS JOIN LATERAL (
        SELECT
            (COALESCE("archive_work"."title", '') || COALESCE((COALESCE(', ', '') || COALESCE("archive_country"."name", '')), ''))::text AS "the_label"
        FROM (SELECT this.*) AS "archive_work"
        LEFT OUTER JOIN {archive_publisher} AS "archive_publisher" ON ("archive_publisher"."number" = "archive_work"."publisher_id")
        LEFT OUTER JOIN {archive_country} AS "archive_country" ON ("archive_country"."code" = "archive_publisher"."country_id")
    ) AS value_1
    WHERE target."id" = this."id"
      AND this."id" = ANY (tk_keys)
      AND target."the_label" IS DISTINCT FROM value_1."the_label";
    tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_work_recompute_b848b2"(bigint[]) FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_work_recompute_b848b2"(bigint[]) IS 'trigger_kit: writes archive_work';

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_work_apply_80f5a9"(tk_keys bigint[], tk_places text[])
RETURNS void
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $trigger_kit$
-- Compute rows of archive_work afresh.
-- Written by trigger_kit for the rules of archive.Work:the_label.
DECLARE
    tk_is_paused boolean := {:schema}."tk_is_paused_v1"('archive_work'::text);
BEGIN
    IF tk_keys IS NULL THEN RETURN; END IF;
    PERFORM {:schema}."tk_archive_work_lock_71eb5b"(tk_keys, tk_places, tk_is_paused);
    IF tk_is_paused THEN
        -- Note which were touched, for the repair at the end of the pause.
        INSERT INTO {:schema}."tk_touched" (target, key_column, key)
        SELECT 'archive_work', 'publisher_id', touched.tk_key::text FROM unnest(tk_keys) AS touched (tk_key);
        RETURN;
    END IF;
    PERFORM {:schema}."tk_archive_work_recompute_b848b2"(array_agg(this."id")) FROM {archive_work} AS this WHERE this."publisher_id" = ANY (tk_keys);
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_work_apply_80f5a9"(bigint[], text[]) FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_work_apply_80f5a9"(bigint[], text[]) IS 'trigger_kit: writes archive_work';

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_work_apply_14f5cd"(tk_keys bigint[], tk_places text[])
RETURNS void
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $trigger_kit$
-- Compute rows of archive_work afresh.
-- Written by trigger_kit for the rules of archive.Work:the_label.
DECLARE
    tk_is_paused boolean := {:schema}."tk_is_paused_v1"('archive_work'::text);
BEGIN
    IF tk_keys IS NULL THEN RETURN; END IF;
    PERFORM {:schema}."tk_archive_work_lock_f47c97"(tk_keys, tk_places, tk_is_paused);
    IF tk_is_paused THEN
        -- Note which were touched, for the repair at the end of the pause.
        INSERT INTO {:schema}."tk_touched" (target, key_column, key)
        SELECT 'archive_work', 'id', touched.tk_key::text FROM unnest(tk_keys) AS touched (tk_key);
        RETURN;
    END IF;
    PERFORM {:schema}."tk_archive_work_recompute_b848b2"(tk_keys);
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_work_apply_14f5cd"(bigint[], text[]) FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_work_apply_14f5cd"(bigint[], text[]) IS 'trigger_kit: writes archive_work';

CREATE OR REPLACE FUNCTION {:schema}."~tk_archive_work_guard_2f0dda"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- Before UPDATE on archive_work: only maintenance writes the kept columns.
-- Written by trigger_kit for archive.Work: the_label = Concat("title", Value(", "), "publisher__country__name")
BEGIN
    IF TG_RELID <> {:regclass archive_work} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_work} THEN PERFORM {:schema}."tk_refuse_v1"(TG_RELID); END IF;
    -- Maintenance says at which trigger depth it writes; everybody else meets the guard.
    IF current_setting('trigger_kit.depth', true) IS DISTINCT FROM (pg_trigger_depth() - 1)::text AND NEW."the_label" IS DISTINCT FROM OLD."the_label" THEN
        NEW."the_label" := OLD."the_label";
    END IF;
    IF NEW."publisher_id" IS DISTINCT FROM OLD."publisher_id" OR NEW."title" IS DISTINCT FROM OLD."title" THEN
        SELECT value."the_label"
        INTO NEW."the_label"
        FROM (
            SELECT
                (COALESCE("archive_work"."title", '') || COALESCE((COALESCE(', ', '') || COALESCE("archive_country"."name", '')), ''))::text AS "the_label"
            FROM (SELECT NEW.*) AS "archive_work"
            LEFT OUTER JOIN {archive_publisher} AS "archive_publisher" ON ("archive_publisher"."number" = "archive_work"."publisher_id")
            LEFT OUTER JOIN {archive_country} AS "archive_country" ON ("archive_country"."code" = "archive_publisher"."country_id")
        ) AS value;
    END IF;
    RETURN NEW;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."~tk_archive_work_guard_2f0dda"() FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."~tk_archive_work_guard_2f0dda"() IS 'trigger_kit: keeps archive_work';

CREATE OR REPLACE TRIGGER {:trigger}
    BEFORE UPDATE ON {archive_work}
    FOR EACH ROW
    EXECUTE FUNCTION {:schema}."~tk_archive_work_guard_2f0dda"();
