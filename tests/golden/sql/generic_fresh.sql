-- title: generic: Before INSERT on archive_work: steps of this statement would take off rows that a new row never held, and so they recompute.

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_work_fresh_cc371d"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- Before INSERT on archive_work: steps of this statement would take off rows that a new row never held, and so they recompute.
-- Written by trigger_kit for the rules of archive.Work.
BEGIN
    IF TG_RELID <> {:regclass archive_work} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_work} THEN PERFORM {:schema}."tk_refuse_v1"(TG_RELID); END IF;
    PERFORM {:schema}."tk_mark_v1"('fresh_8545a5'::text);
    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_work_fresh_cc371d"() FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_work_fresh_cc371d"() IS 'trigger_kit: keeps archive_work';

CREATE OR REPLACE TRIGGER {:trigger}
    BEFORE INSERT ON {archive_work}
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_archive_work_fresh_cc371d"();
