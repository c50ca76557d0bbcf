-- title: many_to_many: Before INSERT on archive_work: start from the value over no rows, whatever the writer sent.

CREATE OR REPLACE FUNCTION {:schema}."~tk_archive_work_first_68585b"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- Before INSERT on archive_work: start from the value over no rows, whatever the writer sent.
-- Rules of archive.Work:
--   the_count = Count("tags", filter=Q(tags__active=True))
-- Written by trigger_kit. To change it, change the rules and run makemigrations.
BEGIN
    -- This function runs as its owner: not for a table that somebody else has put it on.
    IF TG_RELID <> {:regclass archive_work} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_work} THEN
        RAISE EXCEPTION USING MESSAGE = format('This trigger function is not for %s.', TG_RELID::regclass),
                  ERRCODE = 'insufficient_privilege';
    END IF;
    NEW."the_count" := 0;
    RETURN NEW;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."~tk_archive_work_first_68585b"() FROM PUBLIC;

CREATE OR REPLACE TRIGGER {:trigger}
    BEFORE INSERT ON {archive_work}
    FOR EACH ROW
    WHEN (
        NEW."the_count" IS DISTINCT FROM 0
    )
    EXECUTE FUNCTION {:schema}."~tk_archive_work_first_68585b"();
