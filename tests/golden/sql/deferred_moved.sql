-- title: deferred: After a changed key on archive_publisher: compute what follows from the rows that point at the new one.

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_publisher_moved_e2dbdb"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- After a changed key on archive_publisher: compute what follows from the rows that point at the new one.
-- Written by trigger_kit for the rules of archive.Publisher.
BEGIN
    IF TG_RELID <> {:regclass archive_publisher} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_publisher} THEN PERFORM {:schema}."tk_refuse_v1"(TG_RELID); END IF;
    PERFORM {:schema}."tk_archive_publisher_recompute_9c1815"(ARRAY[NEW."id"]);
    PERFORM {:schema}."tk_archive_publisher_recompute_a44afe"(ARRAY[NEW."id"]);
    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_publisher_moved_e2dbdb"() FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_publisher_moved_e2dbdb"() IS 'trigger_kit: keeps archive_publisher';

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER UPDATE OF "number" ON {archive_publisher}
    FOR EACH ROW
    WHEN (NEW."number" IS DISTINCT FROM OLD."number")
    EXECUTE FUNCTION {:schema}."tk_archive_publisher_moved_e2dbdb"();
