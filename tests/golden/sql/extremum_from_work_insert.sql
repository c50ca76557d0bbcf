-- title: extremum: After INSERT on archive_work: bring up to date archive_publisher (by number).

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_publisher_from_archive_work_insert_ca0ba1"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- After INSERT on archive_work: bring up to date archive_publisher (by number).
-- Written by trigger_kit for the rules of archive.Publisher:
--   kept_amount = Min("works__price", filter=Q(works__published=True))
--   kept_day = Max("works__day")
<<after>>
DECLARE
    tk_recompute boolean := {:schema}."tk_is_marked_v1"('filled_f5afcb'::text);
    tk_depth text;
    tk_outer_depth text := coalesce(current_setting('trigger_kit.depth', true), '');
    tk_is_one boolean;
    tk_written bigint;
    tk_best_1 numeric;
    tk_now_1 numeric;
    tk_best_2 date;
    tk_now_2 date;
    "publisher_id" integer;
    "day" date;
    "price" numeric;
    "published" boolean;
    tk_part_1 numeric;
    tk_part_2 date;
BEGIN
    IF TG_RELID <> {:regclass archive_work} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_work} THEN PERFORM {:schema}."tk_refuse_v1"(TG_RELID); END IF;
    SELECT
        NOT EXISTS (SELECT FROM new_rows OFFSET 1), new_rows."publisher_id", new_rows."day", new_rows."price",
        new_rows."published"
    INTO tk_is_one, after."publisher_id", after."day", after."price", after."published" FROM new_rows LIMIT 1;
    after.tk_part_1 := CASE WHEN "after"."published" THEN "after"."price" END;
    after.tk_part_2 := "after"."day";
    IF tk_is_one IS NULL OR tk_is_one AND (after."publisher_id" IS NULL OR num_nonnulls(after.tk_part_1, after.tk_part_2) = 0) THEN
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
        WHERE locked."number" = after."publisher_id" FOR NO KEY UPDATE;
        GET DIAGNOSTICS tk_written = ROW_COUNT;
        IF tk_written > 0 THEN
            tk_now_1 := least(tk_best_1, after.tk_part_1);
            tk_now_2 := greatest(tk_best_2, after.tk_part_2);
            IF tk_now_1 IS NOT DISTINCT FROM tk_best_1 AND tk_now_2 IS NOT DISTINCT FROM tk_best_2 THEN RETURN NULL; END IF;
            tk_depth := set_config('trigger_kit.depth', pg_trigger_depth()::text, true);
            UPDATE {archive_publisher} AS target -- archive.Publisher:kept_amount, archive.Publisher:kept_day
            SET
                "kept_amount" = tk_now_1,
                "kept_day" = tk_now_2
            WHERE target."number" = after."publisher_id";
            GET DIAGNOSTICS tk_written = ROW_COUNT;
            tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);
            IF tk_written > 0 THEN RETURN NULL; END IF;
        END IF;
    END IF;
    PERFORM {:schema}."tk_archive_publisher_apply_b36411"(
        array_agg(change.tk_key), array_agg(change.tk_in_1), NULL::numeric[], array_agg(change.tk_in_2), NULL::date[],
        tk_recompute, ARRAY['d507ea']::text[]
    )
    FROM (
        SELECT
            source."publisher_id" AS tk_key,
            min("source"."price") FILTER (WHERE "source"."published") AS tk_in_1,
            max("source"."day") AS tk_in_2
        FROM new_rows AS source WHERE source."publisher_id" IS NOT NULL
        GROUP BY source."publisher_id" ORDER BY tk_key
    ) AS change
    WHERE tk_recompute OR num_nonnulls(change.tk_in_1, change.tk_in_2) > 0;
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
