-- title: generic: After a changed key on archive_work: compute what follows from the rows that point at the new one.

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_work_moved_91f8c5"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- After a changed key on archive_work: compute what follows from the rows that point at the new one.
-- Written by trigger_kit for the rules of archive.Work.
BEGIN
    IF TG_RELID <> {:regclass archive_work} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_work} THEN PERFORM {:schema}."tk_refuse_v1"(TG_RELID); END IF;
    PERFORM {:schema}."tk_archive_work_recompute_701882"(ARRAY[NEW."id"]);
    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_work_moved_91f8c5"() FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_work_moved_91f8c5"() IS 'trigger_kit: keeps archive_work';

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER UPDATE OF "id" ON {archive_work}
    FOR EACH ROW
    WHEN (NEW."id" IS DISTINCT FROM OLD."id")
    EXECUTE FUNCTION {:schema}."tk_archive_work_moved_91f8c5"();
