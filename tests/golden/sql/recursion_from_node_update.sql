-- title: recursion: After UPDATE on archive_node: bring up to date archive_node (by id).

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_node_from_archive_node_update_3c078f"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- After UPDATE on archive_node: bring up to date archive_node (by id).
-- Written by trigger_kit for archive.Node: the_total = F("own") + Sum("children__the_total", default=0)
BEGIN
    IF TG_RELID <> {:regclass archive_node} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_node} THEN PERFORM {:schema}."tk_refuse_v1"(TG_RELID); END IF;
    PERFORM {:schema}."tk_archive_node_apply_808fb0"(array_agg(change.tk_key), NULL::text[])
    FROM (
        SELECT DISTINCT source."id" AS tk_key
        FROM (SELECT new_rows."id", new_rows."own" FROM new_rows EXCEPT ALL SELECT old_rows."id", old_rows."own" FROM old_rows) AS source WHERE source."id" IS NOT NULL
    ) AS change;
    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_node_from_archive_node_update_3c078f"() FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_node_from_archive_node_update_3c078f"() IS 'trigger_kit: keeps archive_node';

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER UPDATE ON {archive_node}
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_archive_node_from_archive_node_update_3c078f"();
