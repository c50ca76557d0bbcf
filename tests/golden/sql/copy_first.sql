-- title: copy: Before INSERT on archive_work: start from the value over no rows, whatever the writer sent.

CREATE OR REPLACE FUNCTION {:schema}."~tk_archive_work_first_68585b"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- Before INSERT on archive_work: start from the value over no rows, whatever the writer sent.
-- Written by trigger_kit for the rules of archive.Work.
BEGIN
    IF TG_RELID <> {:regclass archive_work} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_work} THEN PERFORM {:schema}."tk_refuse_v1"(TG_RELID); END IF;
    SELECT value."the_label"
    INTO NEW."the_label"
    FROM (
        SELECT
            (COALESCE("archive_work"."title", '') || COALESCE((COALESCE(', ', '') || COALESCE("archive_country"."name", '')), ''))::text AS "the_label"
        FROM (SELECT NEW.*) AS "archive_work"
        LEFT OUTER JOIN {archive_publisher} AS "archive_publisher" ON ("archive_publisher"."number" = "archive_work"."publisher_id")
        LEFT OUTER JOIN {archive_country} AS "archive_country" ON ("archive_country"."code" = "archive_publisher"."country_id")
    ) AS value;
    RETURN NEW;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."~tk_archive_work_first_68585b"() FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."~tk_archive_work_first_68585b"() IS 'trigger_kit: keeps archive_work';

CREATE OR REPLACE TRIGGER {:trigger}
    BEFORE INSERT ON {archive_work}
    FOR EACH ROW
    EXECUTE FUNCTION {:schema}."~tk_archive_work_first_68585b"();
