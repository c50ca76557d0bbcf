-- title: average: After DELETE on archive_work: add the difference to archive_publisher (by number).

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_publisher_from_archive_work_delete_4d7dd2"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- After DELETE on archive_work: add the difference to archive_publisher (by number).
-- Written by trigger_kit for the rules of archive.Publisher:
--   kept_amount = Avg("works__pages")
--   kept_number = Sum("works__pages")
--   the_count = Count("works__pages")
<<before>>
DECLARE
    tk_recompute boolean := {:schema}."tk_is_marked_v1"('filled_f5afcb'::text) OR {:schema}."tk_is_marked_v1"('fresh_f5afcb'::text);
    tk_depth text;
    tk_outer_depth text := coalesce(current_setting('trigger_kit.depth', true), '');
    tk_is_one boolean;
    "publisher_id" integer;
    "pages" integer;
    tk_part_1 bigint;
    tk_part_2 bigint;
    tk_part_3 bigint;
BEGIN
    IF TG_RELID <> {:regclass archive_work} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_work} THEN PERFORM {:schema}."tk_refuse_v1"(TG_RELID); END IF;
    SELECT NOT EXISTS (SELECT FROM old_rows OFFSET 1), old_rows."publisher_id", old_rows."pages"
    INTO tk_is_one, before."publisher_id", before."pages" FROM old_rows LIMIT 1;
    before.tk_part_1 := coalesce("before"."pages", 0)::bigint;
    before.tk_part_2 := CASE WHEN "before"."pages" IS NOT NULL THEN 1 ELSE 0 END;
    before.tk_part_3 := CASE WHEN "before"."pages" IS NOT NULL THEN 1 ELSE 0 END;
    IF tk_is_one IS NULL OR tk_is_one AND (before."publisher_id" IS NULL OR (before.tk_part_1, before.tk_part_2, before.tk_part_3) = (0, 0, 0)) THEN
        RETURN NULL;
    END IF;
    -- Most statements change one row: one UPDATE, nothing to gather.
    IF tk_is_one AND NOT tk_recompute AND NOT {:schema}."tk_is_paused_v1"('archive_publisher'::text) THEN
        -- Rows leave: lock, then look whether some are left.
        IF -before.tk_part_2 < 0 THEN
            PERFORM FROM {archive_publisher} AS locked WHERE locked."number" = before."publisher_id" FOR NO KEY UPDATE;
        END IF;
        tk_depth := set_config('trigger_kit.depth', pg_trigger_depth()::text, true);
        UPDATE {archive_publisher} AS target -- archive.Publisher:kept_amount, archive.Publisher:kept_number, archive.Publisher:the_count
        SET
            "kept_amount" = (coalesce(target."kept_number", 0) - before.tk_part_1)::numeric / nullif(coalesce(target."the_count", 0) - before.tk_part_3, 0),
            "kept_number" = CASE
                WHEN -before.tk_part_2 > 0 THEN coalesce(target."kept_number", 0) + -before.tk_part_1
                WHEN -before.tk_part_2 = 0 OR EXISTS (SELECT FROM {archive_work} AS source WHERE source."publisher_id" = target."number" AND "source"."pages" IS NOT NULL) THEN target."kept_number" - before.tk_part_1
            END,
            "the_count" = target."the_count" - before.tk_part_3
        WHERE target."number" = before."publisher_id"
          AND NOT coalesce(target."the_count", 0) - before.tk_part_3 < 0
          AND NOT (target."kept_number" IS NULL AND -before.tk_part_2 < 0);
        tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);
        IF FOUND THEN RETURN NULL; END IF;
    END IF;
    PERFORM {:schema}."tk_archive_publisher_apply_b8b1d1"(
        array_agg(change.tk_key), array_agg(change."kept_number"), array_agg(change.tk_rows_2), array_agg(change."the_count"),
        tk_recompute, NULL::text[]
    )
    FROM (
        SELECT
            source."publisher_id" AS tk_key,
            -coalesce(sum("source"."pages"), 0) AS "kept_number",
            -count("source"."pages") AS tk_rows_2,
            -count("source"."pages") AS "the_count"
        FROM old_rows AS source WHERE source."publisher_id" IS NOT NULL
        GROUP BY source."publisher_id" ORDER BY tk_key
    ) AS change
    WHERE tk_recompute OR (change."kept_number", change.tk_rows_2, change."the_count") <> (0, 0, 0);
    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_publisher_from_archive_work_delete_4d7dd2"() FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_publisher_from_archive_work_delete_4d7dd2"() IS 'trigger_kit: keeps archive_publisher';

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER DELETE ON {archive_work}
    REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_archive_publisher_from_archive_work_delete_4d7dd2"();
