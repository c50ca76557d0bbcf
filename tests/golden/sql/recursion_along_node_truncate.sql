-- title: recursion: After TRUNCATE of archive_node: its rows count for nothing any more.

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_node_along_archive_node_truncate_78baf5"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- After TRUNCATE of archive_node: its rows count for nothing any more.
-- Written by trigger_kit for archive.Node: the_total = F("own") + Sum("children__the_total", default=0)
BEGIN
    IF TG_RELID <> {:regclass archive_node} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_node} THEN PERFORM {:schema}."tk_refuse_v1"(TG_RELID); END IF;
    PERFORM {:schema}."tk_require_read_committed_v1"({:regclass archive_node}, 'TRUNCATE of archive_node cannot keep archive.Node:the_total at this isolation level.'::text);
    PERFORM {:schema}."tk_archive_node_recompute_c236de"(array_agg(this."id"), false) FROM {archive_node} AS this;
    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_node_along_archive_node_truncate_78baf5"() FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_node_along_archive_node_truncate_78baf5"() IS 'trigger_kit: keeps archive_node';

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER TRUNCATE ON {archive_node}
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_archive_node_along_archive_node_truncate_78baf5"();
