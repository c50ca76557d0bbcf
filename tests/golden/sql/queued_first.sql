-- title: queued: Before INSERT on archive_work: start from the value over no rows, whatever the writer sent.

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
    NEW."the_count" := 0;
    NEW."the_total" := 0;
    RETURN NEW;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."~tk_archive_work_first_68585b"() FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."~tk_archive_work_first_68585b"() IS 'trigger_kit: keeps archive_work';

CREATE OR REPLACE TRIGGER {:trigger}
    BEFORE INSERT ON {archive_work}
    FOR EACH ROW
    WHEN (
        NEW."the_count" IS DISTINCT FROM 0
        OR NEW."the_total" IS DISTINCT FROM 0
    )
    EXECUTE FUNCTION {:schema}."~tk_archive_work_first_68585b"();
