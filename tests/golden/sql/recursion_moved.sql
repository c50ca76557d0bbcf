-- title: recursion: After a changed key on archive_node: compute what follows from the rows that point at the new one.

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_node_moved_3c1b13"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- After a changed key on archive_node: compute what follows from the rows that point at the new one.
-- Written by trigger_kit for the rules of archive.Node.
BEGIN
    IF TG_RELID <> {:regclass archive_node} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_node} THEN PERFORM {:schema}."tk_refuse_v1"(TG_RELID); END IF;
    PERFORM {:schema}."tk_archive_node_recompute_c236de"(ARRAY[NEW."id"], false);
    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_node_moved_3c1b13"() FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_node_moved_3c1b13"() IS 'trigger_kit: keeps archive_node';

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER UPDATE OF "id" ON {archive_node}
    FOR EACH ROW
    WHEN (NEW."id" IS DISTINCT FROM OLD."id")
    EXECUTE FUNCTION {:schema}."tk_archive_node_moved_3c1b13"();
