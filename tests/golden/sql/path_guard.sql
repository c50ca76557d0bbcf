-- title: path: Note keys that are not there (yet): the end of the transaction looks again, see tk_waiting.

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_publisher_miss_e57fcb"(tk_keys bigint[], tk_places text[])
RETURNS void
LANGUAGE plpgsql
AS $trigger_kit$
-- Note keys that are not there (yet): the end of the transaction looks again, see tk_waiting.
BEGIN
    INSERT INTO {:schema}."tk_waiting" (target, place, key)
    SELECT 'archive_publisher', place, ARRAY[child.tk_key::text]
    FROM unnest(tk_keys) AS child (tk_key)
    CROSS JOIN unnest(tk_places) AS place
    WHERE NOT EXISTS (
        SELECT FROM {archive_publisher} AS parent
        WHERE parent."number" = child.tk_key
    );
    IF FOUND THEN
        PERFORM set_config('trigger_kit.waiting_f5afcb_{:schema_tag}', 'on', true);
    END IF;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_publisher_miss_e57fcb" FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_publisher_miss_e57fcb" IS 'trigger_kit: writes archive_publisher';

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_publisher_lock_be4980"(tk_keys bigint[], tk_places text[])
RETURNS bigint
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $trigger_kit$
-- Lock rows of archive_publisher, and count them.
DECLARE
    tk_found bigint;
BEGIN
    -- Lock in key order, so that two bulk statements cannot deadlock.
    PERFORM
    FROM {archive_publisher} AS locked
    WHERE locked."number" = ANY (tk_keys)
    ORDER BY locked."id"
    FOR NO KEY UPDATE;
    GET DIAGNOSTICS tk_found = ROW_COUNT;
    IF current_setting('transaction_isolation') = 'repeatable read' THEN
        PERFORM set_config('trigger_kit.locking', pg_trigger_depth()::text, true);
        UPDATE {archive_publisher} AS locked
        SET "id" = locked."id"
        WHERE locked."number" = ANY (tk_keys);
        PERFORM set_config('trigger_kit.locking', '', true);
    END IF;
    IF tk_places IS NOT NULL AND tk_found < cardinality(tk_keys) THEN
        PERFORM {:schema}."tk_archive_publisher_miss_e57fcb"(tk_keys, tk_places);
    END IF;
    RETURN tk_found;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_publisher_lock_be4980" FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_publisher_lock_be4980" IS 'trigger_kit: writes archive_publisher';

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_publisher_recompute_055b78"(tk_keys bigint[])
RETURNS void
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $trigger_kit$
-- Compute locked rows of archive_publisher afresh; later steps of this statement must not add what they hold.
-- Rules of archive.Publisher:
--   the_total = Sum("works__reviews__stars", default=0)
-- Written by trigger_kit. To change it, change the rules and run makemigrations.
DECLARE
    tk_depth text;
    tk_outer_depth text := coalesce(current_setting('trigger_kit.depth', true), '');
BEGIN
    PERFORM set_config('trigger_kit.filled_f5afcb', extract(epoch FROM statement_timestamp())::text, true);
    tk_depth := set_config('trigger_kit.depth', pg_trigger_depth()::text, true);
    UPDATE {archive_publisher} AS target -- archive.Publisher:the_total
    SET
        "the_total" = value_1."the_total"
    FROM {archive_publisher} AS this
    CROSS JOIN LATERAL (
        SELECT
            coalesce(sum("hop_2"."stars"), 0) AS "the_total"
        FROM {archive_work} AS hop_1
        JOIN {archive_review} AS hop_2
            ON hop_2."work_id" = hop_1."id"
        WHERE hop_1."publisher_id" = this."number"
    ) AS value_1
    WHERE target."id" = this."id"
    AND this."number" = ANY (tk_keys)
    AND (
        target."the_total" IS DISTINCT FROM value_1."the_total"
    );
    tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_publisher_recompute_055b78" FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_publisher_recompute_055b78" IS 'trigger_kit: writes archive_publisher';

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_publisher_apply_c0006e"(tk_keys bigint[], tk_by_the_total bigint[], tk_recompute boolean, tk_is_paused boolean, tk_places text[])
RETURNS void
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $trigger_kit$
-- Add differences to rows of archive_publisher, locked first; compute them afresh where these do not hold.
-- Rules of archive.Publisher:
--   the_total = Sum("works__reviews__stars", default=0)
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
        SELECT 'archive_publisher', 'number', touched.tk_key::text
        FROM unnest(tk_keys) AS touched (tk_key);
        PERFORM {:schema}."tk_archive_publisher_miss_e57fcb"(tk_keys, tk_places);
        RETURN;
    END IF;
    PERFORM {:schema}."tk_archive_publisher_lock_be4980"(tk_keys, tk_places);
    IF NOT tk_recompute THEN
        tk_depth := set_config('trigger_kit.depth', pg_trigger_depth()::text, true);
        UPDATE {archive_publisher} AS target -- archive.Publisher:the_total
        SET
            "the_total" = target."the_total" + change."the_total"
        FROM unnest(tk_keys, tk_by_the_total)
            AS change (tk_key, "the_total")
        WHERE target."number" = change.tk_key;
        tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);
    END IF;
    IF tk_recompute THEN
        PERFORM {:schema}."tk_archive_publisher_recompute_055b78"(tk_keys);
    END IF;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_publisher_apply_c0006e" FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_publisher_apply_c0006e" IS 'trigger_kit: writes archive_publisher';

CREATE OR REPLACE FUNCTION {:schema}."~tk_archive_publisher_guard_c8d706"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- Before UPDATE on archive_publisher: only maintenance writes the kept columns.
-- Rules of archive.Publisher:
--   the_total = Sum("works__reviews__stars", default=0)
-- Written by trigger_kit. To change it, change the rules and run makemigrations.
BEGIN
    -- This function runs as its owner: not for a table that somebody else has put it on.
    IF TG_RELID <> {:regclass archive_publisher} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_publisher} THEN
        RAISE EXCEPTION USING MESSAGE = format('This trigger function is not for %s.', TG_RELID::regclass),
                  ERRCODE = 'insufficient_privilege';
    END IF;
    -- Maintenance says at which trigger depth it writes; everybody else meets the guard.
    IF current_setting('trigger_kit.depth', true) IS DISTINCT FROM (pg_trigger_depth() - 1)::text AND (
        NEW."the_total" IS DISTINCT FROM OLD."the_total"
    ) THEN
        NEW."the_total" := OLD."the_total";
    END IF;

    IF NEW."number" IS DISTINCT FROM OLD."number" THEN
        -- Steps of this statement would take off rows that the new value never held: they recompute.
        PERFORM set_config('trigger_kit.fresh_f5afcb', extract(epoch FROM statement_timestamp())::text, true);
        SELECT value."the_total"
        INTO NEW."the_total"
        FROM (
            SELECT
                coalesce(sum("hop_2"."stars"), 0) AS "the_total"
            FROM {archive_work} AS hop_1
            JOIN {archive_review} AS hop_2
                ON hop_2."work_id" = hop_1."id"
            WHERE hop_1."publisher_id" = NEW."number"
        ) AS value;
        IF EXISTS (SELECT true FROM {archive_work} AS source WHERE source."publisher_id" = NEW."number" LIMIT 1) THEN
            -- Steps of this statement that fire later would add rows that the value holds already: they recompute.
            PERFORM set_config('trigger_kit.filled_f5afcb', extract(epoch FROM statement_timestamp())::text, true);
        END IF;
    END IF;
    RETURN NEW;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."~tk_archive_publisher_guard_c8d706"() FROM PUBLIC;

CREATE OR REPLACE TRIGGER {:trigger}
    BEFORE UPDATE ON {archive_publisher}
    FOR EACH ROW
    EXECUTE FUNCTION {:schema}."~tk_archive_publisher_guard_c8d706"();
