-- title: generic: Lock rows of archive_work, and count them.

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_work_lock_6adc17"(tk_keys bigint[])
RETURNS bigint
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $trigger_kit$
-- Lock rows of archive_work, and count them.
DECLARE
    tk_found bigint;
BEGIN
    -- Lock in key order, so that two bulk statements cannot deadlock.
    PERFORM
    FROM {archive_work} AS locked
    WHERE locked."id" = ANY (tk_keys)
    ORDER BY locked."id"
    FOR NO KEY UPDATE;
    GET DIAGNOSTICS tk_found = ROW_COUNT;
    IF current_setting('transaction_isolation') = 'repeatable read' THEN
        PERFORM set_config('trigger_kit.locking', pg_trigger_depth()::text, true);
        UPDATE {archive_work} AS locked
        SET "id" = locked."id"
        WHERE locked."id" = ANY (tk_keys);
        PERFORM set_config('trigger_kit.locking', '', true);
    END IF;
    RETURN tk_found;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_work_lock_6adc17" FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_work_lock_6adc17" IS 'trigger_kit: writes archive_work';

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_work_recompute_08b533"(tk_keys bigint[])
RETURNS void
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $trigger_kit$
-- Compute locked rows of archive_work afresh; later steps of this statement must not add what they hold.
-- Rules of archive.Work:
--   the_total = Sum("notes__weight", default=0)
-- Written by trigger_kit. To change it, change the rules and run makemigrations.
DECLARE
    tk_depth text;
    tk_outer_depth text := coalesce(current_setting('trigger_kit.depth', true), '');
BEGIN
    PERFORM set_config('trigger_kit.filled_8545a5', extract(epoch FROM statement_timestamp())::text, true);
    tk_depth := set_config('trigger_kit.depth', pg_trigger_depth()::text, true);
    UPDATE {archive_work} AS target -- archive.Work:the_total
    SET
        "the_total" = value_1."the_total"
    FROM {archive_work} AS this
    CROSS JOIN LATERAL (
        SELECT
            coalesce(sum("source"."weight"), 0) AS "the_total"
        FROM {archive_note} AS source
        WHERE source."object_id" = this."id" AND source."content_type_id" = (SELECT type.id FROM {django_content_type} AS type WHERE type.app_label = 'archive' AND type.model = 'work')
    ) AS value_1
    WHERE target."id" = this."id"
    AND this."id" = ANY (tk_keys)
    AND (
        target."the_total" IS DISTINCT FROM value_1."the_total"
    );
    tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_work_recompute_08b533" FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_work_recompute_08b533" IS 'trigger_kit: writes archive_work';

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_work_apply_10836a"(tk_keys bigint[], tk_by_the_total bigint[], tk_recompute boolean, tk_is_paused boolean)
RETURNS void
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $trigger_kit$
-- Add differences to rows of archive_work, locked first; compute them afresh where these do not hold.
-- Rules of archive.Work:
--   the_total = Sum("notes__weight", default=0)
-- Written by trigger_kit. To change it, change the rules and run makemigrations.
DECLARE
    tk_depth text;
    tk_outer_depth text := coalesce(current_setting('trigger_kit.depth', true), '');
BEGIN
    IF tk_keys IS NULL THEN
        RETURN;
    END IF;
    IF tk_is_paused THEN
        -- Note which were touched, for the repair at the end of the pause.
        INSERT INTO {:schema}."tk_touched" (target, key_column, key)
        SELECT 'archive_work', 'id', touched.tk_key::text
        FROM unnest(tk_keys) AS touched (tk_key);
        RETURN;
    END IF;
    PERFORM {:schema}."tk_archive_work_lock_6adc17"(tk_keys);
    IF NOT tk_recompute THEN
        tk_depth := set_config('trigger_kit.depth', pg_trigger_depth()::text, true);
        UPDATE {archive_work} AS target -- archive.Work:the_total
        SET
            "the_total" = target."the_total" + change."the_total"
        FROM unnest(tk_keys, tk_by_the_total)
            AS change (tk_key, "the_total")
        WHERE target."id" = change.tk_key;
        tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);
    END IF;
    IF tk_recompute THEN
        PERFORM {:schema}."tk_archive_work_recompute_08b533"(tk_keys);
    END IF;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_work_apply_10836a" FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_work_apply_10836a" IS 'trigger_kit: writes archive_work';

CREATE OR REPLACE FUNCTION {:schema}."~tk_archive_work_guard_2f0dda"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- Before UPDATE on archive_work: only maintenance writes the kept columns.
-- Rules of archive.Work:
--   the_total = Sum("notes__weight", default=0)
-- Written by trigger_kit. To change it, change the rules and run makemigrations.
BEGIN
    -- This function runs as its owner: not for a table that somebody else has put it on.
    IF TG_RELID <> {:regclass archive_work} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_work} THEN
        RAISE EXCEPTION USING MESSAGE = format('This trigger function is not for %s.', TG_RELID::regclass),
                  ERRCODE = 'insufficient_privilege';
    END IF;
    -- Maintenance says at which trigger depth it writes; everybody else meets the guard.
    IF current_setting('trigger_kit.depth', true) IS DISTINCT FROM (pg_trigger_depth() - 1)::text AND (
        NEW."the_total" IS DISTINCT FROM OLD."the_total"
    ) THEN
        NEW."the_total" := OLD."the_total";
    END IF;

    IF NEW."id" IS DISTINCT FROM OLD."id" THEN
        -- Steps of this statement would take off rows that the new value never held: they recompute.
        PERFORM set_config('trigger_kit.fresh_8545a5', extract(epoch FROM statement_timestamp())::text, true);
        PERFORM pg_advisory_xact_lock_shared(4513436146170507018);
        SELECT value."the_total"
        INTO NEW."the_total"
        FROM (
            SELECT
                coalesce(sum("source"."weight"), 0) AS "the_total"
            FROM {archive_note} AS source
            WHERE source."object_id" = NEW."id" AND source."content_type_id" = (SELECT type.id FROM {django_content_type} AS type WHERE type.app_label = 'archive' AND type.model = 'work')
        ) AS value;
        IF EXISTS (SELECT true FROM {archive_note} AS source WHERE source."object_id" = NEW."id" AND source."content_type_id" = (SELECT type.id FROM {django_content_type} AS type WHERE type.app_label = 'archive' AND type.model = 'work') LIMIT 1) THEN
            -- Steps of this statement that fire later would add rows that the value holds already: they recompute.
            PERFORM set_config('trigger_kit.filled_8545a5', extract(epoch FROM statement_timestamp())::text, true);
        END IF;
    END IF;
    RETURN NEW;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."~tk_archive_work_guard_2f0dda"() FROM PUBLIC;

CREATE OR REPLACE TRIGGER {:trigger}
    BEFORE UPDATE ON {archive_work}
    FOR EACH ROW
    EXECUTE FUNCTION {:schema}."~tk_archive_work_guard_2f0dda"();
