-- title: average: Before INSERT on archive_publisher: start from the value over no rows, whatever the writer sent.

CREATE OR REPLACE FUNCTION {:schema}."~tk_archive_publisher_first_571d03"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- Before INSERT on archive_publisher: start from the value over no rows, whatever the writer sent.
-- Rules of archive.Publisher:
--   kept_amount = Avg("works__pages")
--   kept_number = Sum("works__pages")
--   the_count = Count("works__pages")
-- Written by trigger_kit. To change it, change the rules and run makemigrations.
BEGIN
    -- This function runs as its owner: not for a table that somebody else has put it on.
    IF TG_RELID <> {:regclass archive_publisher} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_publisher} THEN
        RAISE EXCEPTION USING MESSAGE = format('This trigger function is not for %s.', TG_RELID::regclass),
                  ERRCODE = 'insufficient_privilege';
    END IF;
    NEW."kept_amount" := NULL;
    NEW."kept_number" := NULL;
    NEW."the_count" := 0;
    RETURN NEW;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."~tk_archive_publisher_first_571d03"() FROM PUBLIC;

CREATE OR REPLACE TRIGGER {:trigger}
    BEFORE INSERT ON {archive_publisher}
    FOR EACH ROW
    WHEN (
        NEW."kept_amount" IS DISTINCT FROM NULL
        OR NEW."kept_number" IS DISTINCT FROM NULL
        OR NEW."the_count" IS DISTINCT FROM 0
    )
    EXECUTE FUNCTION {:schema}."~tk_archive_publisher_first_571d03"();
