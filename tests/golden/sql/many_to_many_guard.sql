-- title: many_to_many: Note keys that are not there (yet): the end of the transaction looks again, see tk_waiting.

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_work_miss_caaaaf"(tk_keys bigint[], tk_places text[])
RETURNS void
LANGUAGE plpgsql
AS $trigger_kit$
-- Note keys that are not there (yet): the end of the transaction looks again, see tk_waiting.
BEGIN
    INSERT INTO {:schema}."tk_waiting" (target, place, key)
    SELECT 'archive_work', place, ARRAY[child.tk_key::text]
    FROM unnest(tk_keys) AS child (tk_key)
    CROSS JOIN unnest(tk_places) AS place
    WHERE NOT EXISTS (
        SELECT FROM {archive_work} AS parent
        WHERE parent."id" = child.tk_key
    );
    IF FOUND THEN
        PERFORM set_config('trigger_kit.waiting_8545a5_{:schema_tag}', 'on', true);
    END IF;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_work_miss_caaaaf" FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_work_miss_caaaaf" IS 'trigger_kit: writes archive_work';

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_work_lock_6adc17"(tk_keys bigint[], tk_places text[])
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
    IF tk_places IS NOT NULL AND tk_found < cardinality(tk_keys) THEN
        PERFORM {:schema}."tk_archive_work_miss_caaaaf"(tk_keys, tk_places);
    END IF;
    RETURN tk_found;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_work_lock_6adc17" FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_work_lock_6adc17" IS 'trigger_kit: writes archive_work';

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_work_recompute_96d758"(tk_keys bigint[])
RETURNS void
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $trigger_kit$
-- Compute locked rows of archive_work afresh; later steps of this statement must not add what they hold.
-- Rules of archive.Work:
--   the_count = Count("tags", filter=Q(tags__active=True))
-- Written by trigger_kit. To change it, change the rules and run makemigrations.
DECLARE
    tk_depth text;
    tk_outer_depth text := coalesce(current_setting('trigger_kit.depth', true), '');
BEGIN
    PERFORM set_config('trigger_kit.filled_8545a5', extract(epoch FROM statement_timestamp())::text, true);
    tk_depth := set_config('trigger_kit.depth', pg_trigger_depth()::text, true);
    UPDATE {archive_work} AS target -- archive.Work:the_count
    SET
        "the_count" = value_1."the_count"
    FROM {archive_work} AS this
    CROSS JOIN LATERAL (
        SELECT
            count("hop_1"."tag_id") FILTER (WHERE "hop_2"."active") AS "the_count"
        FROM {archive_work_tags} AS hop_1
        JOIN {archive_tag} AS hop_2
            ON hop_2."id" = hop_1."tag_id"
        WHERE hop_1."work_id" = this."id"
    ) AS value_1
    WHERE target."id" = this."id"
    AND this."id" = ANY (tk_keys)
    AND (
        target."the_count" IS DISTINCT FROM value_1."the_count"
    );
    tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_work_recompute_96d758" FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_work_recompute_96d758" IS 'trigger_kit: writes archive_work';

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_work_apply_529001"(tk_keys bigint[], tk_by_the_count bigint[], tk_recompute boolean, tk_is_paused boolean, tk_places text[])
RETURNS void
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $trigger_kit$
-- Add differences to rows of archive_work, locked first; compute them afresh where these do not hold.
-- Rules of archive.Work:
--   the_count = Count("tags", filter=Q(tags__active=True))
-- Written by trigger_kit. To change it, change the rules and run makemigrations.
DECLARE
    tk_found bigint;
    tk_added bigint;
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
        PERFORM {:schema}."tk_archive_work_miss_caaaaf"(tk_keys, tk_places);
        RETURN;
    END IF;
    tk_found := {:schema}."tk_archive_work_lock_6adc17"(tk_keys, tk_places);
    IF NOT tk_recompute THEN
        tk_depth := set_config('trigger_kit.depth', pg_trigger_depth()::text, true);
        UPDATE {archive_work} AS target -- archive.Work:the_count
        SET
            "the_count" = target."the_count" + change."the_count"
        FROM unnest(tk_keys, tk_by_the_count)
            AS change (tk_key, "the_count")
        WHERE target."id" = change.tk_key
          AND NOT coalesce(target."the_count", 0) + change."the_count" < 0;
        GET DIAGNOSTICS tk_added = ROW_COUNT;
        tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);
        -- Rows that leave before their arrival is counted: no count is negative, not even for a moment.
        tk_recompute := tk_added < tk_found;
    END IF;
    IF tk_recompute THEN
        PERFORM {:schema}."tk_archive_work_recompute_96d758"(tk_keys);
    END IF;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_work_apply_529001" FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_work_apply_529001" IS 'trigger_kit: writes archive_work';

CREATE OR REPLACE FUNCTION {:schema}."~tk_archive_work_guard_2f0dda"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- Before UPDATE on archive_work: only maintenance writes the kept columns.
-- Rules of archive.Work:
--   the_count = Count("tags", filter=Q(tags__active=True))
-- Written by trigger_kit. To change it, change the rules and run makemigrations.
BEGIN
    -- This function runs as its owner: not for a table that somebody else has put it on.
    IF TG_RELID <> {:regclass archive_work} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_work} THEN
        RAISE EXCEPTION USING MESSAGE = format('This trigger function is not for %s.', TG_RELID::regclass),
                  ERRCODE = 'insufficient_privilege';
    END IF;
    -- Maintenance says at which trigger depth it writes; everybody else meets the guard.
    IF current_setting('trigger_kit.depth', true) IS DISTINCT FROM (pg_trigger_depth() - 1)::text AND (
        NEW."the_count" IS DISTINCT FROM OLD."the_count"
    ) THEN
        NEW."the_count" := OLD."the_count";
    END IF;

    IF NEW."id" IS DISTINCT FROM OLD."id" THEN
        -- Steps of this statement would take off rows that the new value never held: they recompute.
        PERFORM set_config('trigger_kit.fresh_8545a5', extract(epoch FROM statement_timestamp())::text, true);
        SELECT value."the_count"
        INTO NEW."the_count"
        FROM (
            SELECT
                count("hop_1"."tag_id") FILTER (WHERE "hop_2"."active") AS "the_count"
            FROM {archive_work_tags} AS hop_1
            JOIN {archive_tag} AS hop_2
                ON hop_2."id" = hop_1."tag_id"
            WHERE hop_1."work_id" = NEW."id"
        ) AS value;
        IF EXISTS (SELECT true FROM {archive_work_tags} AS source WHERE source."work_id" = NEW."id" LIMIT 1) THEN
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
