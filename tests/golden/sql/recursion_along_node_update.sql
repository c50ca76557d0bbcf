-- title: recursion: After UPDATE on archive_node: bring up to date archive_node (by id).

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_node_along_archive_node_update_3c078f"()
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
    -- An UPDATE that only writes rows which were locked changes nothing: where it is said to be one, look.
    IF current_setting('trigger_kit.locking', true) = (pg_trigger_depth() - 1)::text THEN
        IF NOT EXISTS (SELECT old_rows::text FROM old_rows EXCEPT ALL SELECT new_rows::text FROM new_rows) THEN RETURN NULL; END IF;
    END IF;
    -- What the loop over levels writes fires this trigger again; the loop goes on by itself.
    IF current_setting('trigger_kit.along_beba31', true) = (pg_trigger_depth() - 1)::text AND NOT EXISTS (
        SELECT old_rows."parent_id"::text FROM old_rows EXCEPT ALL SELECT new_rows."parent_id"::text FROM new_rows
    ) THEN
        RETURN NULL;
    END IF;
    PERFORM {:schema}."tk_archive_node_apply_6e387c"(array_agg(change.tk_key), ARRAY['b39405']::text[])
    FROM (
        SELECT DISTINCT source."parent_id" AS tk_key
        FROM (
            SELECT -1 AS tk_sign, changed.* FROM (
                SELECT old_rows."parent_id", old_rows."the_total" FROM old_rows
                EXCEPT ALL
                SELECT new_rows."parent_id", new_rows."the_total" FROM new_rows
            ) AS changed
            UNION ALL
            SELECT 1 AS tk_sign, changed.* FROM (
                SELECT new_rows."parent_id", new_rows."the_total" FROM new_rows
                EXCEPT ALL
                SELECT old_rows."parent_id", old_rows."the_total" FROM old_rows
            ) AS changed
        ) AS source
        WHERE source."parent_id" IS NOT NULL
    ) AS change;
    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_node_along_archive_node_update_3c078f"() FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_node_along_archive_node_update_3c078f"() IS 'trigger_kit: keeps archive_node';

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER UPDATE ON {archive_node}
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_archive_node_along_archive_node_update_3c078f"();
