-- title: path: After DELETE on archive_review: add the difference to archive_publisher (by number).

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_publisher_from_archive_review_delete_e19517"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $trigger_kit$
-- After DELETE on archive_review: add the difference to archive_publisher (by number).
-- Written by trigger_kit for archive.Publisher: the_total = Sum("works__reviews__stars", default=0)
<<before>>
DECLARE
    tk_recompute boolean := {:schema}."tk_is_marked_v1"('filled_f5afcb'::text) OR {:schema}."tk_is_marked_v1"('fresh_f5afcb'::text);
    tk_depth text;
    tk_outer_depth text := coalesce(current_setting('trigger_kit.depth', true), '');
    tk_is_one boolean;
    tk_written bigint;
    tk_key integer;
    "work_id" bigint;
    "stars" integer;
    tk_part_1 bigint;
BEGIN
    IF TG_RELID <> {:regclass archive_review} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_review} THEN PERFORM {:schema}."tk_refuse_v1"(TG_RELID); END IF;
    SELECT NOT EXISTS (SELECT FROM old_rows OFFSET 1), old_rows."work_id", old_rows."stars"
    INTO tk_is_one, before."work_id", before."stars" FROM old_rows LIMIT 1;
    before.tk_part_1 := coalesce("before"."stars", 0)::bigint;
    IF tk_is_one IS NULL OR tk_is_one AND (before."work_id" IS NULL OR before.tk_part_1 = 0) THEN RETURN NULL; END IF;
    -- Most statements change one row: one UPDATE, nothing to gather.
    IF tk_is_one
       AND NOT tk_recompute
       AND current_setting('transaction_isolation') <> 'repeatable read'
       AND NOT {:schema}."tk_is_paused_v1"('archive_publisher'::text) THEN
        -- Lock what the path leads over, so that it cannot change meanwhile.
        SELECT hop_1."publisher_id"
        INTO tk_key
        FROM {archive_work} AS hop_1
        WHERE hop_1."id" = before."work_id"
        FOR SHARE;
        GET DIAGNOSTICS tk_written = ROW_COUNT;
        IF tk_written > 0 THEN
            IF tk_key IS NULL THEN RETURN NULL; END IF;
            tk_depth := set_config('trigger_kit.depth', pg_trigger_depth()::text, true);
            UPDATE {archive_publisher} AS target -- archive.Publisher:the_total
            SET "the_total" = target."the_total" - before.tk_part_1
            WHERE target."number" = tk_key;
            GET DIAGNOSTICS tk_written = ROW_COUNT;
            tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);
            IF tk_written > 0 THEN RETURN NULL; END IF;
        END IF;
    END IF;
    -- Lock what the path leads over, so that it cannot change meanwhile.
    PERFORM {:schema}."tk_archive_publisher_hold_archive_work_022efd"(array_agg(hop_2."work_id"))
    FROM old_rows AS hop_2;
    tk_recompute := tk_recompute OR {:schema}."tk_is_marked_v1"('filled_f5afcb'::text);
    PERFORM {:schema}."tk_archive_publisher_apply_ef4126"(array_agg(change.tk_key), array_agg(change."the_total"), tk_recompute, NULL::text[])
    FROM (
        SELECT hop_1."publisher_id" AS tk_key, -coalesce(sum("hop_2"."stars"), 0) AS "the_total"
        FROM old_rows AS hop_2
        JOIN LATERAL (SELECT * FROM {archive_work} AS hop_1 WHERE hop_2."work_id" = hop_1."id" OFFSET 0) AS hop_1 ON true
        WHERE hop_1."publisher_id" IS NOT NULL
        GROUP BY hop_1."publisher_id" ORDER BY tk_key
    ) AS change
    WHERE tk_recompute OR change."the_total" <> 0;
    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_publisher_from_archive_review_delete_e19517"() FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_publisher_from_archive_review_delete_e19517"() IS 'trigger_kit: keeps archive_publisher';

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER DELETE ON {archive_review}
    REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_archive_publisher_from_archive_review_delete_e19517"();
