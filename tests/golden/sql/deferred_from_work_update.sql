-- title: deferred: After UPDATE on archive_work: note for the commit what changes in archive_publisher (by number).

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_publisher_from_archive_work_update_fdb883"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- After UPDATE on archive_work: note for the commit what changes in archive_publisher (by number).
-- Written by trigger_kit for the rules of archive.Publisher:
--   kept_number = Sum("works__pages")
--   the_count = Count("works")
<<before>>
DECLARE
    tk_recompute boolean := {:schema}."tk_is_marked_v1"('filled_f5afcb'::text) OR {:schema}."tk_is_marked_v1"('fresh_f5afcb'::text);
    tk_is_one boolean;
    tk_moves boolean;
    tk_left integer;
    tk_came integer;
    "publisher_id" integer;
    "pages" integer;
    tk_part_1 bigint;
    tk_part_2 bigint;
BEGIN
    IF TG_RELID <> {:regclass archive_work} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_work} THEN PERFORM {:schema}."tk_refuse_v1"(TG_RELID); END IF;
    <<after>>
    DECLARE
        "publisher_id" integer;
        "pages" integer;
        tk_part_1 bigint;
        tk_part_2 bigint;
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
        after.tk_part_1 := coalesce("after"."pages", 0)::bigint;
        after.tk_part_2 := CASE WHEN "after"."pages" IS NOT NULL THEN 1 ELSE 0 END;
        -- Most statements change one row: one UPDATE, nothing to gather.
        IF tk_is_one AND NOT tk_recompute AND NOT {:schema}."tk_is_paused_v1"('archive_publisher'::text) THEN
            tk_moves := before."publisher_id" IS DISTINCT FROM after."publisher_id";
            IF NOT tk_moves THEN
                after.tk_part_1 := after.tk_part_1 - before.tk_part_1;
                after.tk_part_2 := after.tk_part_2 - before.tk_part_2;
            END IF;
            tk_left := CASE WHEN tk_moves THEN before."publisher_id" END;
            tk_came := CASE WHEN tk_moves OR NOT (after.tk_part_1 = 0 AND after.tk_part_2 = 0) THEN after."publisher_id" END;
            IF num_nonnulls(tk_left, tk_came) = 0 THEN RETURN NULL; END IF;
            INSERT INTO {:schema}."tk_deferred_archive_publisher" (tk_edge, "number", "kept_number", tk_rows_1, "the_count")
            SELECT 2, change.tk_key, change."kept_number", change.tk_rows_1, change."the_count"
            FROM (VALUES
                (tk_left, -before.tk_part_1, -before.tk_part_2, -1),
                (tk_came, after.tk_part_1, after.tk_part_2, tk_moves::integer)
            ) AS change (tk_key, "kept_number", tk_rows_1, "the_count")
            WHERE change.tk_key IS NOT NULL;
            -- The first note of a transaction makes its commit look at them; the table says whether it will.
            INSERT INTO {:schema}."tk_commit" (rank, target)
            SELECT 1, 'archive_publisher'
            WHERE NOT EXISTS (
                SELECT FROM {:schema}."tk_commit" AS due WHERE due.transaction = pg_current_xact_id() AND due.rank = 1 AND due.target = 'archive_publisher'
            );
            RETURN NULL;
        END IF;
        IF {:schema}."tk_is_paused_v1"('archive_publisher'::text) THEN
            PERFORM {:schema}."tk_archive_publisher_apply_2489c9"(array_agg(change.tk_key), ARRAY['d507ea']::text[])
            FROM (
                SELECT DISTINCT source."publisher_id" AS tk_key
                FROM (
                    SELECT -1 AS tk_sign, old_rows."publisher_id", old_rows."pages" FROM old_rows
                    UNION ALL
                    SELECT 1 AS tk_sign, new_rows."publisher_id", new_rows."pages" FROM new_rows
                ) AS source
                WHERE source."publisher_id" IS NOT NULL
            ) AS change;
            RETURN NULL;
        END IF;
        DECLARE
            tk_noted bigint;
        BEGIN
            INSERT INTO {:schema}."tk_deferred_archive_publisher" (tk_edge, "number", "kept_number", tk_rows_1, "the_count", tk_recompute)
            SELECT 2, change.tk_key, change."kept_number", change.tk_rows_1, change."the_count", tk_recompute
            FROM (
                SELECT
                    source."publisher_id" AS tk_key,
                    coalesce(sum(source.tk_sign * "source"."pages"::bigint), 0)::bigint AS "kept_number",
                    coalesce(sum(source.tk_sign) FILTER (WHERE "source"."pages" IS NOT NULL), 0) AS tk_rows_1,
                    sum(source.tk_sign) AS "the_count"
                FROM (
                    SELECT -1 AS tk_sign, old_rows."publisher_id", old_rows."pages" FROM old_rows
                    UNION ALL
                    SELECT 1 AS tk_sign, new_rows."publisher_id", new_rows."pages" FROM new_rows
                ) AS source
                WHERE source."publisher_id" IS NOT NULL
                GROUP BY source."publisher_id" ORDER BY tk_key
            ) AS change
            WHERE (tk_recompute OR (change."kept_number", change.tk_rows_1, change."the_count") <> (0, 0, 0));
            GET DIAGNOSTICS tk_noted = ROW_COUNT;
            IF tk_noted > 0 THEN
                -- The first note of a transaction makes its commit look at them; the table says whether it will.
                INSERT INTO {:schema}."tk_commit" (rank, target)
                SELECT 1, 'archive_publisher'
                WHERE NOT EXISTS (
                    SELECT FROM {:schema}."tk_commit" AS due WHERE due.transaction = pg_current_xact_id() AND due.rank = 1 AND due.target = 'archive_publisher'
                );
            END IF;
        END;
        RETURN NULL;
    END;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_publisher_from_archive_work_update_fdb883"() FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_publisher_from_archive_work_update_fdb883"() IS 'trigger_kit: keeps archive_publisher';

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER UPDATE ON {archive_work}
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_archive_publisher_from_archive_work_update_fdb883"();
