-- title: many_to_many: Before a change of archive_tag: note it, for changes of other tables along the same path.

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_work_over_archive_tag_0b1b09"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- Before a change of archive_tag: note it, for changes of other tables along the same path.
-- Rules of archive.Work:
--   the_count = Count("tags", filter=Q(tags__active=True))
-- Written by trigger_kit. To change it, change the rules and run makemigrations.
DECLARE
    tk_noted text := current_setting('trigger_kit.woven_8545a5', true);
    tk_statement text := extract(epoch FROM statement_timestamp())::text;
BEGIN
    -- This function runs as its owner: not for a table that somebody else has put it on.
    IF TG_RELID <> {:regclass archive_tag} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_tag} THEN
        RAISE EXCEPTION USING MESSAGE = format('This trigger function is not for %s.', TG_RELID::regclass),
                  ERRCODE = 'insufficient_privilege';
    END IF;
    -- An UPDATE that only writes rows which were locked changes nothing.
    IF current_setting('trigger_kit.locking', true) = (pg_trigger_depth() - 1)::text THEN
        RETURN NULL;
    END IF;
    IF tk_noted LIKE tk_statement || ' %' AND tk_noted <> tk_statement || ' 90d9fd' THEN
        -- This statement changes two tables of a path: no delta knows the other's rows as they were.
        PERFORM set_config('trigger_kit.filled_8545a5', extract(epoch FROM statement_timestamp())::text, true);
    END IF;
    PERFORM set_config('trigger_kit.woven_8545a5', tk_statement || ' 90d9fd', true);
    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_work_over_archive_tag_0b1b09"() FROM PUBLIC;

CREATE OR REPLACE TRIGGER {:trigger}
    BEFORE INSERT OR UPDATE OR DELETE ON {archive_tag}
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_archive_work_over_archive_tag_0b1b09"();
