-- title: copy: After UPDATE on archive_work: bring up to date archive_work (by id).

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_work_from_archive_work_update_28c3ce"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $trigger_kit$
-- After UPDATE on archive_work: bring up to date archive_work (by id).
-- Written by trigger_kit for archive.Work: the_label = Concat("title", Value(", "), "publisher__country__name")
BEGIN
    IF TG_RELID <> {:regclass archive_work} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_work} THEN PERFORM {:schema}."tk_refuse_v1"(TG_RELID); END IF;
    -- An UPDATE that only writes rows which were locked changes nothing: where it is said to be one, look.
    IF current_setting('trigger_kit.locking', true) = (pg_trigger_depth() - 1)::text THEN
        IF NOT EXISTS (SELECT old_rows::text FROM old_rows EXCEPT ALL SELECT new_rows::text FROM new_rows) THEN RETURN NULL; END IF;
    END IF;
    -- Lock what the path leads over, so that it cannot change meanwhile.
    PERFORM {:schema}."tk_archive_work_hold_archive_country_9e39dd"(array_agg(hop_1."country_id"))
    FROM (
        SELECT new_rows."id", new_rows."publisher_id" FROM new_rows
        EXCEPT ALL
        SELECT old_rows."id", old_rows."publisher_id" FROM old_rows
    ) AS own
    JOIN LATERAL (SELECT * FROM {archive_publisher} AS hop_1 WHERE hop_1."number" = own."publisher_id" OFFSET 0) AS hop_1 ON true;
    PERFORM {:schema}."tk_archive_work_hold_archive_publisher_59d954"(array_agg(own."publisher_id"))
    FROM (
        SELECT new_rows."id", new_rows."publisher_id" FROM new_rows
        EXCEPT ALL
        SELECT old_rows."id", old_rows."publisher_id" FROM old_rows
    ) AS own;
    PERFORM {:schema}."tk_archive_work_hold_archive_country_9e39dd"(array_agg(hop_1."country_id"))
    FROM (
        SELECT new_rows."id", new_rows."publisher_id" FROM new_rows
        EXCEPT ALL
        SELECT old_rows."id", old_rows."publisher_id" FROM old_rows
    ) AS own
    JOIN LATERAL (SELECT * FROM {archive_publisher} AS hop_1 WHERE hop_1."number" = own."publisher_id" OFFSET 0) AS hop_1 ON true;
    DECLARE
        tk_noted bigint;
    BEGIN
        INSERT INTO {:schema}."tk_waiting" (target, place, key)
        SELECT 'archive_work', 'd75feb', ARRAY[(child."publisher_id")::text]
        FROM (
            SELECT DISTINCT child."publisher_id"
            FROM (
                SELECT new_rows."id", new_rows."publisher_id", new_rows."title" FROM new_rows
                EXCEPT ALL
                SELECT old_rows."id", old_rows."publisher_id", old_rows."title" FROM old_rows
            ) AS child
            WHERE child."publisher_id" IS NOT NULL
        ) AS child
        WHERE (
            SELECT true FROM {archive_publisher} AS parent
            WHERE parent."number" = child."publisher_id"
            LIMIT 1
        ) IS NULL;
        GET DIAGNOSTICS tk_noted = ROW_COUNT;
        IF tk_noted > 0 THEN PERFORM {:schema}."tk_waits_v1"({:regclass tk_waiting}, 'archive_work'::text); END IF;
    END;
    PERFORM {:schema}."tk_archive_work_apply_14f5cd"(array_agg(change.tk_key), NULL::text[])
    FROM (
        SELECT DISTINCT source."id" AS tk_key
        FROM (
            SELECT new_rows."id", new_rows."publisher_id", new_rows."title" FROM new_rows
            EXCEPT ALL
            SELECT old_rows."id", old_rows."publisher_id", old_rows."title" FROM old_rows
        ) AS source
        WHERE source."id" IS NOT NULL
    ) AS change;
    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_work_from_archive_work_update_28c3ce"() FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_work_from_archive_work_update_28c3ce"() IS 'trigger_kit: keeps archive_work';

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER UPDATE ON {archive_work}
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_archive_work_from_archive_work_update_28c3ce"();
