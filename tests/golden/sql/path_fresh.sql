-- title: path: Before INSERT on archive_publisher: steps of this statement would take off rows that a new row never held, and so they recompute.

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_publisher_fresh_76faf4"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- Before INSERT on archive_publisher: steps of this statement would take off rows that a new row never held, and so they recompute.
-- Written by trigger_kit for the rules of archive.Publisher.
BEGIN
    IF TG_RELID <> {:regclass archive_publisher} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_publisher} THEN PERFORM {:schema}."tk_refuse_v1"(TG_RELID); END IF;
    PERFORM {:schema}."tk_mark_v1"('fresh_f5afcb'::text);
    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_publisher_fresh_76faf4"() FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_publisher_fresh_76faf4"() IS 'trigger_kit: keeps archive_publisher';

CREATE OR REPLACE TRIGGER {:trigger}
    BEFORE INSERT ON {archive_publisher}
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_archive_publisher_fresh_76faf4"();
