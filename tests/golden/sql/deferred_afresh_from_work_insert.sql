-- title: deferred: After INSERT on archive_work: note for the commit what changes in archive_publisher (by number).

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_publisher_afresh_from_archive_work_insert_dca076"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- After INSERT on archive_work: note for the commit what changes in archive_publisher (by number).
-- Written by trigger_kit for archive.Publisher: kept_day = Max("works__day")
BEGIN
    IF TG_RELID <> {:regclass archive_work} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_work} THEN PERFORM {:schema}."tk_refuse_v1"(TG_RELID); END IF;
    IF {:schema}."tk_is_paused_v1"('archive_publisher'::text) THEN
        PERFORM {:schema}."tk_archive_publisher_apply_4dd1f9"(array_agg(change.tk_key), ARRAY['d507ea']::text[])
        FROM (
            SELECT DISTINCT source."publisher_id" AS tk_key
            FROM new_rows AS source WHERE source."publisher_id" IS NOT NULL
        ) AS change;
        RETURN NULL;
    END IF;
    DECLARE
        tk_noted bigint;
    BEGIN
        INSERT INTO {:schema}."tk_deferred_archive_publisher" (tk_edge, "number")
        SELECT 1, change.tk_key
        FROM (
            SELECT source."publisher_id" AS tk_key
            FROM new_rows AS source WHERE source."publisher_id" IS NOT NULL
            GROUP BY source."publisher_id" ORDER BY tk_key
        ) AS change;
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
REVOKE ALL ON FUNCTION {:schema}."tk_archive_publisher_afresh_from_archive_work_insert_dca076"() FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_publisher_afresh_from_archive_work_insert_dca076"() IS 'trigger_kit: keeps archive_publisher';

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER INSERT ON {archive_work}
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_archive_publisher_afresh_from_archive_work_insert_dca076"();
