-- title: generic: Lock rows of archive_work, and count them; note those that are missing, for each of some places.

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

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_work_recompute_701882"(tk_keys bigint[])
RETURNS void
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $trigger_kit$
-- Compute locked rows of archive_work afresh; later steps of this statement must not add what they hold.
-- Written by trigger_kit for the rules of archive.Work:the_total.
DECLARE
    tk_depth text;
    tk_outer_depth text := coalesce(current_setting('trigger_kit.depth', true), '');
BEGIN
    PERFORM {:schema}."tk_mark_v1"('filled_8545a5'::text);
    tk_depth := set_config('trigger_kit.depth', pg_trigger_depth()::text, true);
    UPDATE {archive_work} AS target -- archive.Work:the_total
    SET "the_total" = value_1."the_total"
    FROM {archive_work} AS this
    CROSS JOIN LATERAL (
        SELECT coalesce(sum("source"."weight"), 0) AS "the_total"
        FROM {archive_note} AS source
        WHERE source."object_id" = this."id" AND source."content_type_id" = (SELECT type.id FROM {django_content_type} AS type WHERE type.app_label = 'archive' AND type.model = 'work')
    ) AS value_1
    WHERE target."id" = this."id"
      AND this."id" = ANY (tk_keys)
      AND target."the_total" IS DISTINCT FROM value_1."the_total";
    tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_work_recompute_701882"(bigint[]) FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_work_recompute_701882"(bigint[]) IS 'trigger_kit: writes archive_work';

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_work_apply_a37e70"(tk_keys bigint[], tk_by_the_total bigint[], tk_recompute boolean, tk_places text[])
RETURNS void
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $trigger_kit$
-- Add differences to rows of archive_work, locked first; compute them afresh where these do not hold.
-- Written by trigger_kit for the rules of archive.Work:the_total.
DECLARE
    tk_is_paused boolean := {:schema}."tk_is_paused_v1"('archive_work'::text);
    tk_depth text;
    tk_outer_depth text := coalesce(current_setting('trigger_kit.depth', true), '');
BEGIN
    IF tk_keys IS NULL THEN RETURN; END IF;
    PERFORM {:schema}."tk_archive_work_lock_f47c97"(tk_keys, tk_places, tk_is_paused);
    IF tk_is_paused THEN
        -- Note which were touched, for the repair at the end of the pause.
        INSERT INTO {:schema}."tk_touched" (target, key_column, key)
        SELECT 'archive_work', 'id', touched.tk_key::text FROM unnest(tk_keys) AS touched (tk_key);
        RETURN;
    END IF;
    IF NOT tk_recompute THEN
        tk_depth := set_config('trigger_kit.depth', pg_trigger_depth()::text, true);
        UPDATE {archive_work} AS target -- archive.Work:the_total
        SET "the_total" = target."the_total" + change."the_total"
        FROM unnest(tk_keys, tk_by_the_total) AS change (tk_key, "the_total")
        WHERE target."id" = change.tk_key;
        tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);
    END IF;
    IF tk_recompute THEN PERFORM {:schema}."tk_archive_work_recompute_701882"(tk_keys); END IF;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_work_apply_a37e70"(bigint[], bigint[], boolean, text[]) FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_work_apply_a37e70"(bigint[], bigint[], boolean, text[]) IS 'trigger_kit: writes archive_work';

CREATE OR REPLACE FUNCTION {:schema}."~tk_archive_work_guard_2f0dda"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- Before UPDATE on archive_work: only maintenance writes the kept columns.
-- Written by trigger_kit for archive.Work: the_total = Sum("notes__weight", default=0)
BEGIN
    IF TG_RELID <> {:regclass archive_work} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_work} THEN PERFORM {:schema}."tk_refuse_v1"(TG_RELID); END IF;
    -- Maintenance says at which trigger depth it writes; everybody else meets the guard.
    IF current_setting('trigger_kit.depth', true) IS DISTINCT FROM (pg_trigger_depth() - 1)::text AND NEW."the_total" IS DISTINCT FROM OLD."the_total" THEN
        NEW."the_total" := OLD."the_total";
    END IF;
    -- Steps of this statement would add to the new key, or take off, what it never held: they recompute.
    IF NEW."id" IS DISTINCT FROM OLD."id" THEN
        PERFORM pg_advisory_xact_lock_shared(4513436146170507018);
        PERFORM {:schema}."tk_mark_v1"('fresh_8545a5'::text), {:schema}."tk_mark_v1"('filled_8545a5'::text);
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
