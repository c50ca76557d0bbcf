-- title: recursion: After DELETE on archive_node: bring up to date archive_node (by id).

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_node_along_archive_node_delete_bc9834"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- After DELETE on archive_node: bring up to date archive_node (by id).
-- Written by trigger_kit for archive.Node: the_total = F("own") + Sum("children__the_total", default=0)
BEGIN
    IF TG_RELID <> {:regclass archive_node} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_node} THEN PERFORM {:schema}."tk_refuse_v1"(TG_RELID); END IF;
    PERFORM {:schema}."tk_archive_node_apply_6e387c"(array_agg(change.tk_key), NULL::text[])
    FROM (
        SELECT DISTINCT source."parent_id" AS tk_key
        FROM old_rows AS source WHERE source."parent_id" IS NOT NULL
    ) AS change;
    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_node_along_archive_node_delete_bc9834"() FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_node_along_archive_node_delete_bc9834"() IS 'trigger_kit: keeps archive_node';

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER DELETE ON {archive_node}
    REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_archive_node_along_archive_node_delete_bc9834"();
