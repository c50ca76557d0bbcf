-- title: deferred: After INSERT on archive_work: note for the commit what changes in archive_publisher (by number).

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_publisher_from_archive_work_insert_d255bf"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- After INSERT on archive_work: note for the commit what changes in archive_publisher (by number).
-- Written by trigger_kit for the rules of archive.Publisher:
--   kept_number = Sum("works__pages")
--   the_count = Count("works")
<<after>>
DECLARE
    tk_recompute boolean := {:schema}."tk_is_marked_v1"('filled_f5afcb'::text);
    tk_is_one boolean;
    "publisher_id" integer;
    "pages" integer;
    tk_part_1 bigint;
    tk_part_2 bigint;
BEGIN
    IF TG_RELID <> {:regclass archive_work} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_work} THEN PERFORM {:schema}."tk_refuse_v1"(TG_RELID); END IF;
    SELECT NOT EXISTS (SELECT FROM new_rows OFFSET 1), new_rows."publisher_id", new_rows."pages"
    INTO tk_is_one, after."publisher_id", after."pages" FROM new_rows LIMIT 1;
    after.tk_part_1 := coalesce("after"."pages", 0)::bigint;
    after.tk_part_2 := CASE WHEN "after"."pages" IS NOT NULL THEN 1 ELSE 0 END;
    IF tk_is_one IS NULL OR tk_is_one AND after."publisher_id" IS NULL THEN RETURN NULL; END IF;
    -- Most statements change one row: one UPDATE, nothing to gather.
    IF tk_is_one AND NOT tk_recompute AND NOT {:schema}."tk_is_paused_v1"('archive_publisher'::text) THEN
        INSERT INTO {:schema}."tk_deferred_archive_publisher" (tk_edge, "number", "kept_number", tk_rows_1, "the_count")
        SELECT 2, change.tk_key, change."kept_number", change.tk_rows_1, change."the_count"
        FROM (VALUES
            (after."publisher_id", after.tk_part_1, after.tk_part_2, 1)
        ) AS change (tk_key, "kept_number", tk_rows_1, "the_count");
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
            FROM new_rows AS source WHERE source."publisher_id" IS NOT NULL
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
                coalesce(sum("source"."pages"), 0) AS "kept_number",
                count("source"."pages") AS tk_rows_1,
                count(*) AS "the_count"
            FROM new_rows AS source WHERE source."publisher_id" IS NOT NULL
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
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_publisher_from_archive_work_insert_d255bf"() FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_publisher_from_archive_work_insert_d255bf"() IS 'trigger_kit: keeps archive_publisher';

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER INSERT ON {archive_work}
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_archive_publisher_from_archive_work_insert_d255bf"();
