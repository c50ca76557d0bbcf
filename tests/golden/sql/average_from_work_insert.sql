-- title: average: After INSERT on archive_work: add the difference to archive_publisher (by number).

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_publisher_from_archive_work_insert_ca0ba1"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- After INSERT on archive_work: add the difference to archive_publisher (by number).
-- Written by trigger_kit for the rules of archive.Publisher:
--   kept_amount = Avg("works__pages")
--   kept_number = Sum("works__pages")
--   the_count = Count("works__pages")
<<after>>
DECLARE
    tk_recompute boolean := {:schema}."tk_is_marked_v1"('filled_f5afcb'::text);
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
    SELECT NOT EXISTS (SELECT FROM new_rows OFFSET 1), new_rows."publisher_id", new_rows."pages"
    INTO tk_is_one, after."publisher_id", after."pages" FROM new_rows LIMIT 1;
    after.tk_part_1 := coalesce("after"."pages", 0)::bigint;
    after.tk_part_2 := CASE WHEN "after"."pages" IS NOT NULL THEN 1 ELSE 0 END;
    after.tk_part_3 := CASE WHEN "after"."pages" IS NOT NULL THEN 1 ELSE 0 END;
    IF tk_is_one IS NULL OR tk_is_one AND (after."publisher_id" IS NULL OR (after.tk_part_1, after.tk_part_2, after.tk_part_3) = (0, 0, 0)) THEN
        RETURN NULL;
    END IF;
    -- Most statements change one row: one UPDATE, nothing to gather.
    IF tk_is_one AND NOT tk_recompute AND NOT {:schema}."tk_is_paused_v1"('archive_publisher'::text) THEN
        tk_depth := set_config('trigger_kit.depth', pg_trigger_depth()::text, true);
        UPDATE {archive_publisher} AS target -- archive.Publisher:kept_amount, archive.Publisher:kept_number, archive.Publisher:the_count
        SET
            "kept_amount" = (coalesce(target."kept_number", 0) + after.tk_part_1)::numeric / nullif(coalesce(target."the_count", 0) + after.tk_part_3, 0),
            "kept_number" = CASE
                WHEN after.tk_part_2 > 0 THEN coalesce(target."kept_number", 0) + after.tk_part_1
                ELSE target."kept_number" + after.tk_part_1
            END,
            "the_count" = target."the_count" + after.tk_part_3
        WHERE target."number" = after."publisher_id";
        tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);
        IF FOUND THEN RETURN NULL; END IF;
    END IF;
    PERFORM {:schema}."tk_archive_publisher_apply_b8b1d1"(
        array_agg(change.tk_key), array_agg(change."kept_number"), array_agg(change.tk_rows_2), array_agg(change."the_count"),
        tk_recompute, ARRAY['d507ea']::text[]
    )
    FROM (
        SELECT
            source."publisher_id" AS tk_key,
            coalesce(sum("source"."pages"), 0) AS "kept_number",
            count("source"."pages") AS tk_rows_2,
            count("source"."pages") AS "the_count"
        FROM new_rows AS source WHERE source."publisher_id" IS NOT NULL
        GROUP BY source."publisher_id" ORDER BY tk_key
    ) AS change
    WHERE tk_recompute OR (change."kept_number", change.tk_rows_2, change."the_count") <> (0, 0, 0);
    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_publisher_from_archive_work_insert_ca0ba1"() FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_publisher_from_archive_work_insert_ca0ba1"() IS 'trigger_kit: keeps archive_publisher';

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER INSERT ON {archive_work}
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_archive_publisher_from_archive_work_insert_ca0ba1"();
