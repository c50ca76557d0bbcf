-- title: many_to_many: Before a change of archive_tag: note it, for changes of other tables along the same path.

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_work_over_archive_tag_0b1b09"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- Before a change of archive_tag: note it, for changes of other tables along the same path.
-- Written by trigger_kit for archive.Work: the_count = Count("tags", filter=Q(tags__active=True))
DECLARE
    tk_noted text := current_setting('trigger_kit.woven_8545a5', true);
    tk_statement text := extract(epoch FROM statement_timestamp())::text;
BEGIN
    IF TG_RELID <> {:regclass archive_tag} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_tag} THEN PERFORM {:schema}."tk_refuse_v1"(TG_RELID); END IF;
    -- An UPDATE that only writes rows which were locked changes nothing: its steps look whether it does.
    IF TG_OP = 'UPDATE' AND current_setting('trigger_kit.locking', true) = (pg_trigger_depth() - 1)::text THEN RETURN NULL; END IF;
    IF tk_noted LIKE tk_statement || ' %' AND tk_noted <> tk_statement || ' 90d9fd' THEN
        -- This statement changes two tables of a path: no delta knows the other's rows as they were.
        PERFORM {:schema}."tk_mark_v1"('filled_8545a5'::text);
    END IF;
    PERFORM set_config('trigger_kit.woven_8545a5', tk_statement || ' 90d9fd', true);
    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_work_over_archive_tag_0b1b09"() FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_work_over_archive_tag_0b1b09"() IS 'trigger_kit: keeps archive_work';

CREATE OR REPLACE TRIGGER {:trigger}
    BEFORE INSERT OR UPDATE OR DELETE ON {archive_tag}
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_archive_work_over_archive_tag_0b1b09"();
