-- title: average: After UPDATE on archive_work: add the difference to archive_publisher (by number).

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_publisher_from_archive_work_update_0324af"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- After UPDATE on archive_work: add the difference to archive_publisher (by number).
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
    tk_moves boolean;
    tk_written bigint;
    tk_left integer;
    tk_came integer;
    "publisher_id" integer;
    "pages" integer;
    tk_part_1 bigint;
    tk_part_2 bigint;
    tk_part_3 bigint;
BEGIN
    IF TG_RELID <> {:regclass archive_work} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_work} THEN PERFORM {:schema}."tk_refuse_v1"(TG_RELID); END IF;
    <<after>>
    DECLARE
        "publisher_id" integer;
        "pages" integer;
        tk_part_1 bigint;
        tk_part_2 bigint;
        tk_part_3 bigint;
    BEGIN
        SELECT
            NOT EXISTS (SELECT FROM old_rows OFFSET 1), old_rows."publisher_id", old_rows."pages", new_rows."publisher_id",
            new_rows."pages"
        INTO tk_is_one, before."publisher_id", before."pages", after."publisher_id", after."pages"
        FROM old_rows CROSS JOIN new_rows LIMIT 1;
        -- Nothing that a rule reads has changed.
        IF tk_is_one IS NULL OR tk_is_one AND (before."publisher_id", before."pages") IS NOT DISTINCT FROM (after."publisher_id", after."pages") THEN
            RETURN NULL;
        END IF;
        before.tk_part_1 := coalesce("before"."pages", 0)::bigint;
        before.tk_part_2 := CASE WHEN "before"."pages" IS NOT NULL THEN 1 ELSE 0 END;
        before.tk_part_3 := CASE WHEN "before"."pages" IS NOT NULL THEN 1 ELSE 0 END;
        after.tk_part_1 := coalesce("after"."pages", 0)::bigint;
        after.tk_part_2 := CASE WHEN "after"."pages" IS NOT NULL THEN 1 ELSE 0 END;
        after.tk_part_3 := CASE WHEN "after"."pages" IS NOT NULL THEN 1 ELSE 0 END;
        -- Most statements change one row: one UPDATE, nothing to gather.
        IF tk_is_one AND NOT tk_recompute AND NOT {:schema}."tk_is_paused_v1"('archive_publisher'::text) THEN
            tk_moves := before."publisher_id" IS DISTINCT FROM after."publisher_id";
            IF NOT tk_moves THEN
                after.tk_part_1 := after.tk_part_1 - before.tk_part_1;
                after.tk_part_2 := after.tk_part_2 - before.tk_part_2;
                after.tk_part_3 := after.tk_part_3 - before.tk_part_3;
            END IF;
            tk_left := CASE WHEN tk_moves AND NOT ((before.tk_part_1, before.tk_part_2, before.tk_part_3) = (0, 0, 0)) THEN before."publisher_id" END;
            tk_came := CASE WHEN NOT (after.tk_part_1 = 0 AND after.tk_part_2 = 0 AND after.tk_part_3 = 0) THEN after."publisher_id" END;
            IF num_nonnulls(tk_left, tk_came) = 0 THEN RETURN NULL; END IF;
            -- Both targets in one UPDATE, locked in key order.
            IF tk_moves OR after.tk_part_2 < 0 THEN
                PERFORM FROM {archive_publisher} AS locked
                WHERE locked."number" = ANY (ARRAY[tk_left, tk_came]) ORDER BY locked."id" FOR NO KEY UPDATE;
            END IF;
            tk_depth := set_config('trigger_kit.depth', pg_trigger_depth()::text, true);
            UPDATE {archive_publisher} AS target -- archive.Publisher:kept_amount, archive.Publisher:kept_number, archive.Publisher:the_count
            SET
                "kept_amount" = (coalesce(target."kept_number", 0) + change."kept_number")::numeric / nullif(coalesce(target."the_count", 0) + change."the_count", 0),
                "kept_number" = CASE
                    WHEN change.tk_rows_2 > 0 THEN coalesce(target."kept_number", 0) + change."kept_number"
                    WHEN change.tk_rows_2 = 0 OR EXISTS (SELECT FROM {archive_work} AS source WHERE source."publisher_id" = target."number" AND "source"."pages" IS NOT NULL) THEN target."kept_number" + change."kept_number"
                END,
                "the_count" = target."the_count" + change."the_count"
            FROM (VALUES
                (tk_left, -before.tk_part_1, -before.tk_part_2, -before.tk_part_3),
                (tk_came, after.tk_part_1, after.tk_part_2, after.tk_part_3)
            ) AS change (tk_key, "kept_number", tk_rows_2, "the_count")
            WHERE target."number" = change.tk_key
              AND NOT coalesce(target."the_count", 0) + change."the_count" < 0
              AND NOT (target."kept_number" IS NULL AND change.tk_rows_2 < 0);
            GET DIAGNOSTICS tk_written = ROW_COUNT;
            tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);
            IF tk_written = num_nonnulls(tk_left, tk_came) THEN RETURN NULL; END IF;
            -- What one target has got already counts no more.
            tk_recompute := tk_written > 0;
        END IF;
        PERFORM {:schema}."tk_archive_publisher_apply_b8b1d1"(
            array_agg(change.tk_key), array_agg(change."kept_number"), array_agg(change.tk_rows_2), array_agg(change."the_count"),
            tk_recompute, ARRAY['d507ea']::text[]
        )
        FROM (
            SELECT
                source."publisher_id" AS tk_key,
                coalesce(sum(source.tk_sign * "source"."pages"::bigint), 0)::bigint AS "kept_number",
                coalesce(sum(source.tk_sign) FILTER (WHERE "source"."pages" IS NOT NULL), 0) AS tk_rows_2,
                coalesce(sum(source.tk_sign) FILTER (WHERE "source"."pages" IS NOT NULL), 0) AS "the_count"
            FROM (
                SELECT -1 AS tk_sign, old_rows."publisher_id", old_rows."pages" FROM old_rows
                UNION ALL
                SELECT 1 AS tk_sign, new_rows."publisher_id", new_rows."pages" FROM new_rows
            ) AS source
            WHERE source."publisher_id" IS NOT NULL
            GROUP BY source."publisher_id" ORDER BY tk_key
        ) AS change
        WHERE tk_recompute OR (change."kept_number", change.tk_rows_2, change."the_count") <> (0, 0, 0);
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
