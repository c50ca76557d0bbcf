-- title: many_to_many: After UPDATE on archive_work_tags: add the difference to archive_work (by id).

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_work_from_archive_work_tags_update_f6b830"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $trigger_kit$
-- After UPDATE on archive_work_tags: add the difference to archive_work (by id).
-- Written by trigger_kit for archive.Work: the_count = Count("tags", filter=Q(tags__active=True))
DECLARE
    tk_recompute boolean := {:schema}."tk_is_marked_v1"('filled_8545a5'::text) OR {:schema}."tk_is_marked_v1"('fresh_8545a5'::text);
BEGIN
    IF TG_RELID <> {:regclass archive_work_tags} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_work_tags} THEN PERFORM {:schema}."tk_refuse_v1"(TG_RELID); END IF;
    -- An UPDATE that only writes rows which were locked changes nothing: where it is said to be one, look.
    IF current_setting('trigger_kit.locking', true) = (pg_trigger_depth() - 1)::text THEN
        IF NOT EXISTS (SELECT old_rows::text FROM old_rows EXCEPT ALL SELECT new_rows::text FROM new_rows) THEN RETURN NULL; END IF;
        PERFORM {:schema}."tk_mark_v1"('filled_8545a5'::text);
        tk_recompute := true;
    END IF;
    -- Lock what the path leads over, so that it cannot change meanwhile.
    PERFORM {:schema}."tk_archive_work_hold_archive_tag_0b365a"(array_agg(hop_1."tag_id"))
    FROM (
        SELECT -1 AS tk_sign, changed.* FROM (
            SELECT old_rows."work_id", old_rows."tag_id" FROM old_rows
            EXCEPT ALL
            SELECT new_rows."work_id", new_rows."tag_id" FROM new_rows
        ) AS changed
        UNION ALL
        SELECT 1 AS tk_sign, changed.* FROM (
            SELECT new_rows."work_id", new_rows."tag_id" FROM new_rows
            EXCEPT ALL
            SELECT old_rows."work_id", old_rows."tag_id" FROM old_rows
        ) AS changed
    ) AS hop_1;
    tk_recompute := tk_recompute OR {:schema}."tk_is_marked_v1"('filled_8545a5'::text);
    DECLARE
        tk_noted bigint;
    BEGIN
        INSERT INTO {:schema}."tk_waiting" (target, place, key)
        SELECT 'archive_work', '3fd59e', ARRAY[(child."tag_id")::text]
        FROM (
            SELECT DISTINCT child."tag_id"
            FROM (
                SELECT -1 AS tk_sign, changed.* FROM (
                    SELECT old_rows."work_id", old_rows."tag_id" FROM old_rows
                    EXCEPT ALL
                    SELECT new_rows."work_id", new_rows."tag_id" FROM new_rows
                ) AS changed
                UNION ALL
                SELECT 1 AS tk_sign, changed.* FROM (
                    SELECT new_rows."work_id", new_rows."tag_id" FROM new_rows
                    EXCEPT ALL
                    SELECT old_rows."work_id", old_rows."tag_id" FROM old_rows
                ) AS changed
            ) AS child
            WHERE child.tk_sign = 1
              AND child."tag_id" IS NOT NULL
        ) AS child
        WHERE (
            SELECT true FROM {archive_tag} AS parent
            WHERE parent."id" = child."tag_id"
            LIMIT 1
        ) IS NULL;
        GET DIAGNOSTICS tk_noted = ROW_COUNT;
        IF tk_noted > 0 THEN PERFORM {:schema}."tk_waits_v1"({:regclass tk_waiting}, 'archive_work'::text); END IF;
    END;
    IF tk_recompute THEN
        PERFORM {:schema}."tk_archive_work_apply_ae7a79"(array_agg(change.tk_key), NULL::bigint[], true, ARRAY['30c6f5']::text[])
        FROM (
            SELECT DISTINCT source."work_id" AS tk_key
            FROM (
                SELECT -1 AS tk_sign, changed.* FROM (
                    SELECT old_rows."work_id", old_rows."tag_id" FROM old_rows
                    EXCEPT ALL
                    SELECT new_rows."work_id", new_rows."tag_id" FROM new_rows
                ) AS changed
                UNION ALL
                SELECT 1 AS tk_sign, changed.* FROM (
                    SELECT new_rows."work_id", new_rows."tag_id" FROM new_rows
                    EXCEPT ALL
                    SELECT old_rows."work_id", old_rows."tag_id" FROM old_rows
                ) AS changed
            ) AS source
            WHERE source."work_id" IS NOT NULL
        ) AS change;
    ELSE
        PERFORM {:schema}."tk_archive_work_apply_ae7a79"(array_agg(change.tk_key), array_agg(change."the_count"), tk_recompute, ARRAY['30c6f5']::text[])
        FROM (
            SELECT hop_1."work_id" AS tk_key, coalesce(sum(hop_1.tk_sign) FILTER (WHERE "hop_1"."tag_id" IS NOT NULL AND "hop_2"."active"), 0) AS "the_count"
            FROM (
                SELECT -1 AS tk_sign, changed.* FROM (
                    SELECT old_rows."work_id", old_rows."tag_id" FROM old_rows
                    EXCEPT ALL
                    SELECT new_rows."work_id", new_rows."tag_id" FROM new_rows
                ) AS changed
                UNION ALL
                SELECT 1 AS tk_sign, changed.* FROM (
                    SELECT new_rows."work_id", new_rows."tag_id" FROM new_rows
                    EXCEPT ALL
                    SELECT old_rows."work_id", old_rows."tag_id" FROM old_rows
                ) AS changed
            ) AS hop_1
            JOIN LATERAL (SELECT * FROM {archive_tag} AS hop_2 WHERE hop_2."id" = hop_1."tag_id" OFFSET 0) AS hop_2 ON true
            WHERE hop_1."work_id" IS NOT NULL
            GROUP BY hop_1."work_id" ORDER BY tk_key
        ) AS change
        WHERE change."the_count" <> 0;
    END IF;
    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_work_from_archive_work_tags_update_f6b830"() FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_work_from_archive_work_tags_update_f6b830"() IS 'trigger_kit: keeps archive_work';

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER UPDATE ON {archive_work_tags}
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_archive_work_from_archive_work_tags_update_f6b830"();
