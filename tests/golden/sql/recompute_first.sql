-- title: recompute: Before INSERT on archive_publisher: start from the value over no rows, whatever the writer sent.

CREATE OR REPLACE FUNCTION {:schema}."~tk_archive_publisher_first_571d03"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- Before INSERT on archive_publisher: start from the value over no rows, whatever the writer sent.
-- Written by trigger_kit for the rules of archive.Publisher.
BEGIN
    IF TG_RELID <> {:regclass archive_publisher} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_publisher} THEN PERFORM {:schema}."tk_refuse_v1"(TG_RELID); END IF;
    NEW."kept_text" := NULL;
    NEW."the_flag" := false;
    SELECT value."kept_list"
    INTO NEW."kept_list"
    FROM (
        SELECT
            (ARRAY_AGG("archive_work"."title" ORDER BY "archive_work"."title", "archive_work"."id"))::text[] AS "kept_list"
        FROM (SELECT NEW.*) AS "archive_publisher"
        LEFT OUTER JOIN {archive_work} AS "archive_work" ON ("archive_work"."publisher_id" = "archive_publisher"."number")
        GROUP BY "archive_publisher"."id"
    ) AS value;
    RETURN NEW;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."~tk_archive_publisher_first_571d03"() FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."~tk_archive_publisher_first_571d03"() IS 'trigger_kit: keeps archive_publisher';

CREATE OR REPLACE TRIGGER {:trigger}
    BEFORE INSERT ON {archive_publisher}
    FOR EACH ROW
    EXECUTE FUNCTION {:schema}."~tk_archive_publisher_first_571d03"();
