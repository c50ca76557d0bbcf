-- title: copy: After UPDATE on archive_publisher: bring up to date archive_work (by publisher_id).

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_work_from_archive_publisher_update_cf6b20"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $trigger_kit$
-- After UPDATE on archive_publisher: bring up to date archive_work (by publisher_id).
-- Written by trigger_kit for archive.Work: the_label = Concat("title", Value(", "), "publisher__country__name")
BEGIN
    IF TG_RELID <> {:regclass archive_publisher} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_publisher} THEN PERFORM {:schema}."tk_refuse_v1"(TG_RELID); END IF;
    -- An UPDATE that only writes rows which were locked changes nothing: where it is said to be one, look.
    IF current_setting('trigger_kit.locking', true) = (pg_trigger_depth() - 1)::text THEN
        IF NOT EXISTS (SELECT old_rows::text FROM old_rows EXCEPT ALL SELECT new_rows::text FROM new_rows) THEN RETURN NULL; END IF;
    END IF;
    -- Lock what the path leads over, so that it cannot change meanwhile.
    PERFORM {:schema}."tk_archive_work_hold_archive_country_9e39dd"(array_agg(hop_1."country_id"))
    FROM (
        SELECT new_rows."id", new_rows."country_id" FROM new_rows
        EXCEPT ALL
        SELECT old_rows."id", old_rows."country_id" FROM old_rows
    ) AS hop_1;
    DECLARE
        tk_noted bigint;
    BEGIN
        INSERT INTO {:schema}."tk_waiting" (target, place, key)
        SELECT 'archive_work', 'f20afb', ARRAY[(child."country_id")::text]
        FROM (
            SELECT DISTINCT child."country_id"
            FROM (
                SELECT -1 AS tk_sign, changed.* FROM (
                    SELECT old_rows."number", old_rows."country_id" FROM old_rows
                    EXCEPT ALL
                    SELECT new_rows."number", new_rows."country_id" FROM new_rows
                ) AS changed
                UNION ALL
                SELECT 1 AS tk_sign, changed.* FROM (
                    SELECT new_rows."number", new_rows."country_id" FROM new_rows
                    EXCEPT ALL
                    SELECT old_rows."number", old_rows."country_id" FROM old_rows
                ) AS changed
            ) AS child
            WHERE child.tk_sign = 1
              AND child."country_id" IS NOT NULL
        ) AS child
        WHERE (
            SELECT true FROM {archive_country} AS parent
            WHERE parent."code" = child."country_id"
            LIMIT 1
        ) IS NULL;
        GET DIAGNOSTICS tk_noted = ROW_COUNT;
        IF tk_noted > 0 THEN PERFORM {:schema}."tk_waits_v1"({:regclass tk_waiting}, 'archive_work'::text); END IF;
    END;
    PERFORM {:schema}."tk_archive_work_apply_80f5a9"(array_agg(change.tk_key), NULL::text[])
    FROM (
        SELECT DISTINCT source."number" AS tk_key
        FROM (
            SELECT -1 AS tk_sign, changed.* FROM (
                SELECT old_rows."number", old_rows."country_id" FROM old_rows
                EXCEPT ALL
                SELECT new_rows."number", new_rows."country_id" FROM new_rows
            ) AS changed
            UNION ALL
            SELECT 1 AS tk_sign, changed.* FROM (
                SELECT new_rows."number", new_rows."country_id" FROM new_rows
                EXCEPT ALL
                SELECT old_rows."number", old_rows."country_id" FROM old_rows
            ) AS changed
        ) AS source
        WHERE source."number" IS NOT NULL
    ) AS change;
    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_work_from_archive_publisher_update_cf6b20"() FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_work_from_archive_publisher_update_cf6b20"() IS 'trigger_kit: keeps archive_work';

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER UPDATE ON {archive_publisher}
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_archive_work_from_archive_publisher_update_cf6b20"();
