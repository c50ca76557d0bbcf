-- title: average: Before INSERT on archive_publisher: start from the value over no rows, whatever the writer sent.

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
    NEW."kept_amount" := NULL;
    NEW."kept_number" := NULL;
    NEW."the_count" := 0;
    RETURN NEW;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."~tk_archive_publisher_first_571d03"() FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."~tk_archive_publisher_first_571d03"() IS 'trigger_kit: keeps archive_publisher';

CREATE OR REPLACE TRIGGER {:trigger}
    BEFORE INSERT ON {archive_publisher}
    FOR EACH ROW
    WHEN (
        NEW."kept_amount" IS DISTINCT FROM NULL
        OR NEW."kept_number" IS DISTINCT FROM NULL
        OR NEW."the_count" IS DISTINCT FROM 0
    )
    EXECUTE FUNCTION {:schema}."~tk_archive_publisher_first_571d03"();
