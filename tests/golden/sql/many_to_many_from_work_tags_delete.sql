-- title: many_to_many: After DELETE on archive_work_tags: add the difference to archive_work (by id).

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_work_from_archive_work_tags_delete_38449c"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $trigger_kit$
-- After DELETE on archive_work_tags: add the difference to archive_work (by id).
-- Written by trigger_kit for archive.Work: the_count = Count("tags", filter=Q(tags__active=True))
DECLARE
    tk_recompute boolean := {:schema}."tk_is_marked_v1"('filled_8545a5'::text) OR {:schema}."tk_is_marked_v1"('fresh_8545a5'::text);
BEGIN
    IF TG_RELID <> {:regclass archive_work_tags} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_work_tags} THEN PERFORM {:schema}."tk_refuse_v1"(TG_RELID); END IF;
    -- Lock what the path leads over, so that it cannot change meanwhile.
    PERFORM {:schema}."tk_archive_work_hold_archive_tag_0b365a"(array_agg(hop_1."tag_id"))
    FROM old_rows AS hop_1;
    tk_recompute := tk_recompute OR {:schema}."tk_is_marked_v1"('filled_8545a5'::text);
    IF tk_recompute THEN
        PERFORM {:schema}."tk_archive_work_apply_ae7a79"(array_agg(change.tk_key), NULL::bigint[], true, NULL::text[])
        FROM (
            SELECT DISTINCT source."work_id" AS tk_key
            FROM old_rows AS source WHERE source."work_id" IS NOT NULL
        ) AS change;
    ELSE
        PERFORM {:schema}."tk_archive_work_apply_ae7a79"(array_agg(change.tk_key), array_agg(change."the_count"), tk_recompute, NULL::text[])
        FROM (
            SELECT hop_1."work_id" AS tk_key, -count("hop_1"."tag_id") FILTER (WHERE "hop_2"."active") AS "the_count"
            FROM old_rows AS hop_1
            JOIN LATERAL (SELECT * FROM {archive_tag} AS hop_2 WHERE hop_2."id" = hop_1."tag_id" OFFSET 0) AS hop_2 ON true
            WHERE hop_1."work_id" IS NOT NULL
            GROUP BY hop_1."work_id" ORDER BY tk_key
        ) AS change
        WHERE change."the_count" <> 0;
    END IF;
    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_work_from_archive_work_tags_delete_38449c"() FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_work_from_archive_work_tags_delete_38449c"() IS 'trigger_kit: keeps archive_work';

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER DELETE ON {archive_work_tags}
    REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_archive_work_from_archive_work_tags_delete_38449c"();
