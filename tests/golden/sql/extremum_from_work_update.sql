-- title: extremum: After UPDATE on archive_work: bring up to date archive_publisher (by number).

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_publisher_from_archive_work_update_0324af"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- After UPDATE on archive_work: bring up to date archive_publisher (by number).
-- Written by trigger_kit for the rules of archive.Publisher:
--   kept_amount = Min("works__price", filter=Q(works__published=True))
--   kept_day = Max("works__day")
<<before>>
DECLARE
    tk_recompute boolean := {:schema}."tk_is_marked_v1"('filled_f5afcb'::text) OR {:schema}."tk_is_marked_v1"('fresh_f5afcb'::text);
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
    tk_part_3 date;
BEGIN
    IF TG_RELID <> {:regclass archive_work} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_work} THEN PERFORM {:schema}."tk_refuse_v1"(TG_RELID); END IF;
    <<after>>
    DECLARE
        "publisher_id" integer;
        "day" date;
        "price" numeric;
        "published" boolean;
        tk_part_1 numeric;
        tk_part_3 date;
    BEGIN
        SELECT
            NOT EXISTS (SELECT FROM old_rows OFFSET 1), old_rows."publisher_id", old_rows."day", old_rows."price",
            old_rows."published", new_rows."publisher_id", new_rows."day", new_rows."price", new_rows."published"
        INTO
            tk_is_one, before."publisher_id", before."day", before."price", before."published", after."publisher_id", after."day",
            after."price", after."published"
        FROM old_rows CROSS JOIN new_rows LIMIT 1;
        -- Nothing that a rule reads has changed.
        IF tk_is_one IS NULL OR tk_is_one AND (before."publisher_id", before."day", before."price", before."published") IS NOT DISTINCT FROM (after."publisher_id", after."day", after."price", after."published") THEN
            RETURN NULL;
        END IF;
        before.tk_part_1 := CASE WHEN "before"."published" THEN "before"."price" END;
        before.tk_part_3 := "before"."day";
        after.tk_part_1 := CASE WHEN "after"."published" THEN "after"."price" END;
        after.tk_part_3 := "after"."day";
        -- Most statements change one row: one UPDATE, nothing to gather.
        IF tk_is_one
           AND NOT tk_recompute
           AND current_setting('transaction_isolation') <> 'repeatable read'
           AND NOT {:schema}."tk_is_paused_v1"('archive_publisher'::text) THEN
            IF before."publisher_id" = after."publisher_id" THEN
                -- Lock, then compare: a row that leaves meanwhile would take the best value with it.
                SELECT locked."kept_amount", locked."kept_day" INTO tk_best_1, tk_best_2
                FROM {archive_publisher} AS locked
                WHERE locked."number" = after."publisher_id" FOR NO KEY UPDATE;
                GET DIAGNOSTICS tk_written = ROW_COUNT;
                IF tk_written > 0
                   AND ((before.tk_part_1 <= coalesce(tk_best_1, before.tk_part_1)) IS NOT TRUE OR after.tk_part_1 <= before.tk_part_1 AND after.tk_part_1 <= tk_best_1)
                   AND ((before.tk_part_3 >= coalesce(tk_best_2, before.tk_part_3)) IS NOT TRUE OR after.tk_part_3 >= before.tk_part_3 AND after.tk_part_3 >= tk_best_2) THEN
                    tk_now_1 := least(tk_best_1, after.tk_part_1);
                    tk_now_2 := greatest(tk_best_2, after.tk_part_3);
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
        END IF;
        PERFORM {:schema}."tk_archive_publisher_apply_b36411"(
            array_agg(change.tk_key), array_agg(change.tk_in_1), array_agg(change.tk_out_1), array_agg(change.tk_in_2),
            array_agg(change.tk_out_2), tk_recompute, ARRAY['d507ea']::text[]
        )
        FROM (
            SELECT
                source."publisher_id" AS tk_key,
                min("source"."price") FILTER (WHERE source.tk_sign = 1 AND "source"."published") AS tk_in_1,
                min("source"."price") FILTER (WHERE source.tk_sign = -1 AND "source"."published") AS tk_out_1,
                max("source"."day") FILTER (WHERE source.tk_sign = 1) AS tk_in_2,
                max("source"."day") FILTER (WHERE source.tk_sign = -1) AS tk_out_2
            FROM (
                SELECT -1 AS tk_sign, changed.* FROM (
                    SELECT old_rows."publisher_id", old_rows."day", old_rows."price", old_rows."published" FROM old_rows
                    EXCEPT ALL
                    SELECT new_rows."publisher_id", new_rows."day", new_rows."price", new_rows."published" FROM new_rows
                ) AS changed
                UNION ALL
                SELECT 1 AS tk_sign, changed.* FROM (
                    SELECT new_rows."publisher_id", new_rows."day", new_rows."price", new_rows."published" FROM new_rows
                    EXCEPT ALL
                    SELECT old_rows."publisher_id", old_rows."day", old_rows."price", old_rows."published" FROM old_rows
                ) AS changed
            ) AS source
            WHERE source."publisher_id" IS NOT NULL
            GROUP BY source."publisher_id" ORDER BY tk_key
        ) AS change
        WHERE tk_recompute OR num_nonnulls(change.tk_in_1, change.tk_out_1, change.tk_in_2, change.tk_out_2) > 0;
        RETURN NULL;
    END;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_publisher_from_archive_work_update_0324af"() FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_publisher_from_archive_work_update_0324af"() IS 'trigger_kit: keeps archive_publisher';

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER UPDATE ON {archive_work}
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_archive_publisher_from_archive_work_update_0324af"();
