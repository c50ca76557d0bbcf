-- title: recompute: Lock rows of archive_publisher, and count them; note those that are missing, for each of some places.

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

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_publisher_recompute_c7695a"(tk_keys uuid[])
RETURNS void
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $trigger_kit$
-- Compute locked rows of archive_publisher afresh; later steps of this statement must not add what they hold.
-- Written by trigger_kit for the rules of archive.Publisher:kept_list.
DECLARE
    tk_depth text;
    tk_outer_depth text := coalesce(current_setting('trigger_kit.depth', true), '');
BEGIN
    tk_depth := set_config('trigger_kit.depth', pg_trigger_depth()::text, true);
    UPDATE {archive_publisher} AS target -- archive.Publisher:kept_list
    SET "kept_list" = value_1."kept_list"
    FROM {archive_publisher} AS this
    CROSS JOIN LATERAL (
        SELECT
            (ARRAY_AGG("archive_work"."title" ORDER BY "archive_work"."title", "archive_work"."id"))::text[] AS "kept_list"
        FROM (SELECT this.*) AS "archive_publisher"
        LEFT OUTER JOIN {archive_work} AS "archive_work" ON ("archive_work"."publisher_id" = "archive_publisher"."number")
        GROUP BY "archive_publisher"."id"
    ) AS value_1
    WHERE target."id" = this."id"
      AND this."id" = ANY (tk_keys)
      AND target."kept_list" IS DISTINCT FROM value_1."kept_list";
    tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_publisher_recompute_c7695a"(uuid[]) FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_publisher_recompute_c7695a"(uuid[]) IS 'trigger_kit: writes archive_publisher';

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_publisher_recompute_732f1e"(tk_keys uuid[])
RETURNS void
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $trigger_kit$
-- Compute locked rows of archive_publisher afresh; later steps of this statement must not add what they hold.
-- Written by trigger_kit for the rules of archive.Publisher:kept_text, the_flag.
DECLARE
    tk_depth text;
    tk_outer_depth text := coalesce(current_setting('trigger_kit.depth', true), '');
BEGIN
    tk_depth := set_config('trigger_kit.depth', pg_trigger_depth()::text, true);
    UPDATE {archive_publisher} AS target -- archive.Publisher:kept_text, archive.Publisher:the_flag
    SET
        "kept_text" = value_1."kept_text",
        "the_flag" = value_1."the_flag"
    FROM {archive_publisher} AS this
    CROSS JOIN LATERAL (
        SELECT
            (
                SELECT "source"."title"
                FROM {archive_work} AS source
                WHERE source."publisher_id" = this."number"
                ORDER BY "source"."day" DESC, "source"."id" ASC LIMIT 1
            )::text AS "kept_text",
            (EXISTS (SELECT FROM {archive_work} AS source WHERE source."publisher_id" = this."number" AND "source"."published"))::boolean AS "the_flag"
    ) AS value_1
    WHERE target."id" = this."id"
      AND this."id" = ANY (tk_keys)
      AND (
            target."kept_text" IS DISTINCT FROM value_1."kept_text"
            OR target."the_flag" IS DISTINCT FROM value_1."the_flag"
      );
    tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_publisher_recompute_732f1e"(uuid[]) FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_publisher_recompute_732f1e"(uuid[]) IS 'trigger_kit: writes archive_publisher';

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_publisher_apply_e8973c"(tk_keys bigint[], tk_places text[])
RETURNS void
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $trigger_kit$
-- Compute rows of archive_publisher afresh.
-- Written by trigger_kit for the rules of archive.Publisher:kept_list, kept_text, the_flag.
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
    PERFORM {:schema}."tk_archive_publisher_recompute_c7695a"(array_agg(this."id")) FROM {archive_publisher} AS this WHERE this."number" = ANY (tk_keys);
    PERFORM {:schema}."tk_archive_publisher_recompute_732f1e"(array_agg(this."id")) FROM {archive_publisher} AS this WHERE this."number" = ANY (tk_keys);
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_publisher_apply_e8973c"(bigint[], text[]) FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_publisher_apply_e8973c"(bigint[], text[]) IS 'trigger_kit: writes archive_publisher';

CREATE OR REPLACE FUNCTION {:schema}."~tk_archive_publisher_guard_c8d706"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- Before UPDATE on archive_publisher: only maintenance writes the kept columns.
-- Written by trigger_kit for the rules of archive.Publisher:
--   kept_list = ArrayAgg("works__title", order_by=["works__title", "works__id"])
--   kept_text = First("works__title", order_by="-works__day")
--   the_flag = Exists("works", filter=Q(works__published=True))
BEGIN
    IF TG_RELID <> {:regclass archive_publisher} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_publisher} THEN PERFORM {:schema}."tk_refuse_v1"(TG_RELID); END IF;
    -- Maintenance says at which trigger depth it writes; everybody else meets the guard.
    IF current_setting('trigger_kit.depth', true) IS DISTINCT FROM (pg_trigger_depth() - 1)::text AND (
        NEW."kept_list" IS DISTINCT FROM OLD."kept_list"
        OR NEW."kept_text" IS DISTINCT FROM OLD."kept_text"
        OR NEW."the_flag" IS DISTINCT FROM OLD."the_flag"
    ) THEN
        NEW."kept_list" := OLD."kept_list";
        NEW."kept_text" := OLD."kept_text";
        NEW."the_flag" := OLD."the_flag";
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
