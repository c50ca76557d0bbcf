-- title: path: Before INSERT on archive_publisher: start from the value over no rows, whatever the writer sent.

CREATE OR REPLACE FUNCTION {:schema}."~tk_archive_publisher_first_571d03"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- Before INSERT on archive_publisher: start from the value over no rows, whatever the writer sent.
-- Rules of archive.Publisher:
--   the_total = Sum("works__reviews__stars", default=0)
-- Written by trigger_kit. To change it, change the rules and run makemigrations.
BEGIN
    NEW."the_total" := 0;
    RETURN NEW;
END;
$trigger_kit$;

CREATE OR REPLACE TRIGGER {:trigger}
    BEFORE INSERT ON {archive_publisher}
    FOR EACH ROW
    WHEN (
        NEW."the_total" IS DISTINCT FROM 0
    )
    EXECUTE FUNCTION {:schema}."~tk_archive_publisher_first_571d03"();
