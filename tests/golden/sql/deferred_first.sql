-- title: deferred: Before INSERT on archive_publisher: start from the value over no rows, whatever the writer sent.

CREATE OR REPLACE FUNCTION {:schema}."~tk_archive_publisher_first_571d03"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- Before INSERT on archive_publisher: start from the value over no rows, whatever the writer sent.
-- Rules of archive.Publisher:
--   the_count = Count("works")
--   kept_number = Sum("works__pages")
--   kept_day = Max("works__day")
-- Written by trigger_kit. To change it, change the rules and run makemigrations.
BEGIN
    NEW."the_count" := 0;
    NEW."kept_number" := NULL;
    NEW."kept_day" := NULL;
    RETURN NEW;
END;
$trigger_kit$;

CREATE OR REPLACE TRIGGER "~tk_archive_publisher_first_571d03"
    BEFORE INSERT ON {archive_publisher}
    FOR EACH ROW
    WHEN (
        NEW."the_count" IS DISTINCT FROM 0
        OR NEW."kept_number" IS DISTINCT FROM NULL
        OR NEW."kept_day" IS DISTINCT FROM NULL
    )
    EXECUTE FUNCTION {:schema}."~tk_archive_publisher_first_571d03"();
