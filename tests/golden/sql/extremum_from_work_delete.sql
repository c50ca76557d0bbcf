-- title: extremum: After DELETE on archive_work: bring up to date archive_publisher (by number).

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_publisher_from_archive_work_delete_4d7dd2"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- After DELETE on archive_work: bring up to date archive_publisher (by number).
-- Written by trigger_kit for the rules of archive.Publisher:
--   kept_amount = Min("works__price", filter=Q(works__published=True))
--   kept_day = Max("works__day")
<<before>>
DECLARE
    tk_recompute boolean := {:schema}."tk_is_marked_v1"('filled_f5afcb'::text) OR {:schema}."tk_is_marked_v1"('fresh_f5afcb'::text);
    tk_is_one boolean;
    tk_written bigint;
    tk_best_1 numeric;
    tk_best_2 date;
    "publisher_id" integer;
    "day" date;
    "price" numeric;
    "published" boolean;
    tk_part_1 numeric;
    tk_part_2 date;
BEGIN
    IF TG_RELID <> {:regclass archive_work} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_work} THEN PERFORM {:schema}."tk_refuse_v1"(TG_RELID); END IF;
    SELECT
        NOT EXISTS (SELECT FROM old_rows OFFSET 1), old_rows."publisher_id", old_rows."day", old_rows."price",
        old_rows."published"
    INTO tk_is_one, before."publisher_id", before."day", before."price", before."published" FROM old_rows LIMIT 1;
    before.tk_part_1 := CASE WHEN "before"."published" THEN "before"."price" END;
    before.tk_part_2 := "before"."day";
    IF tk_is_one IS NULL OR tk_is_one AND (before."publisher_id" IS NULL OR num_nonnulls(before.tk_part_1, before.tk_part_2) = 0) THEN
        RETURN NULL;
    END IF;
    -- Most statements change one row: one UPDATE, nothing to gather.
    IF tk_is_one
       AND NOT tk_recompute
       AND current_setting('transaction_isolation') <> 'repeatable read'
       AND NOT {:schema}."tk_is_paused_v1"('archive_publisher'::text) THEN
        -- Lock, then compare: a row that leaves meanwhile would take the best value with it.
        SELECT locked."kept_amount", locked."kept_day" INTO tk_best_1, tk_best_2
        FROM {archive_publisher} AS locked
        WHERE locked."number" = before."publisher_id" FOR NO KEY UPDATE;
        GET DIAGNOSTICS tk_written = ROW_COUNT;
        IF tk_written > 0
           AND (before.tk_part_1 <= coalesce(tk_best_1, before.tk_part_1)) IS NOT TRUE
           AND (before.tk_part_2 >= coalesce(tk_best_2, before.tk_part_2)) IS NOT TRUE THEN
            RETURN NULL;
        END IF;
    END IF;
    PERFORM {:schema}."tk_archive_publisher_apply_b36411"(
        array_agg(change.tk_key), NULL::numeric[], array_agg(change.tk_out_1), NULL::date[], array_agg(change.tk_out_2),
        tk_recompute, NULL::text[]
    )
    FROM (
        SELECT
            source."publisher_id" AS tk_key,
            min("source"."price") FILTER (WHERE "source"."published") AS tk_out_1,
            max("source"."day") AS tk_out_2
        FROM old_rows AS source WHERE source."publisher_id" IS NOT NULL
        GROUP BY source."publisher_id" ORDER BY tk_key
    ) AS change
    WHERE tk_recompute OR num_nonnulls(change.tk_out_1, change.tk_out_2) > 0;
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
