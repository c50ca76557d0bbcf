-- title: many_to_many: After UPDATE on archive_tag: add the difference to archive_work (by id).

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_work_from_archive_tag_update_246cd2"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $trigger_kit$
-- After UPDATE on archive_tag: add the difference to archive_work (by id).
-- Written by trigger_kit for archive.Work: the_count = Count("tags", filter=Q(tags__active=True))
DECLARE
    tk_recompute boolean := {:schema}."tk_is_marked_v1"('filled_8545a5'::text) OR {:schema}."tk_is_marked_v1"('fresh_8545a5'::text);
BEGIN
    IF TG_RELID <> {:regclass archive_tag} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_tag} THEN PERFORM {:schema}."tk_refuse_v1"(TG_RELID); END IF;
    -- An UPDATE that only writes rows which were locked changes nothing: where it is said to be one, look.
    IF current_setting('trigger_kit.locking', true) = (pg_trigger_depth() - 1)::text THEN
        IF NOT EXISTS (SELECT old_rows::text FROM old_rows EXCEPT ALL SELECT new_rows::text FROM new_rows) THEN RETURN NULL; END IF;
        PERFORM {:schema}."tk_mark_v1"('filled_8545a5'::text);
        tk_recompute := true;
    END IF;
    PERFORM {:schema}."tk_archive_work_apply_ae7a79"(array_agg(change.tk_key), array_agg(change."the_count"), tk_recompute, ARRAY['30c6f5']::text[])
    FROM (
        SELECT hop_1."work_id" AS tk_key, coalesce(sum(hop_2.tk_sign) FILTER (WHERE "hop_1"."tag_id" IS NOT NULL AND "hop_2"."active"), 0) AS "the_count"
        FROM (
            SELECT -1 AS tk_sign, changed.* FROM (
                SELECT old_rows."id", old_rows."active" FROM old_rows EXCEPT ALL SELECT new_rows."id", new_rows."active" FROM new_rows
            ) AS changed
            UNION ALL
            SELECT 1 AS tk_sign, changed.* FROM (
                SELECT new_rows."id", new_rows."active" FROM new_rows EXCEPT ALL SELECT old_rows."id", old_rows."active" FROM old_rows
            ) AS changed
        ) AS hop_2
        JOIN LATERAL (SELECT * FROM {archive_work_tags} AS hop_1 WHERE hop_2."id" = hop_1."tag_id" OFFSET 0) AS hop_1 ON true
        WHERE hop_1."work_id" IS NOT NULL
        GROUP BY hop_1."work_id" ORDER BY tk_key
    ) AS change
    WHERE tk_recompute OR change."the_count" <> 0;
    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_work_from_archive_tag_update_246cd2"() FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_work_from_archive_tag_update_246cd2"() IS 'trigger_kit: keeps archive_work';

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER UPDATE ON {archive_tag}
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_archive_work_from_archive_tag_update_246cd2"();
