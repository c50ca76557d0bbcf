-- title: path: Before a change of archive_review: note it, for changes of other tables along the same path.

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_publisher_over_archive_review_cc9f08"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- Before a change of archive_review: note it, for changes of other tables along the same path.
-- Written by trigger_kit for archive.Publisher: the_total = Sum("works__reviews__stars", default=0)
DECLARE
    tk_noted text := current_setting('trigger_kit.woven_f5afcb', true);
    tk_statement text := extract(epoch FROM statement_timestamp())::text;
BEGIN
    IF TG_RELID <> {:regclass archive_review} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_review} THEN PERFORM {:schema}."tk_refuse_v1"(TG_RELID); END IF;
    -- An UPDATE that only writes rows which were locked changes nothing: its steps look whether it does.
    IF TG_OP = 'UPDATE' AND current_setting('trigger_kit.locking', true) = (pg_trigger_depth() - 1)::text THEN RETURN NULL; END IF;
    IF tk_noted LIKE tk_statement || ' %' AND tk_noted <> tk_statement || ' 345d42' THEN
        -- This statement changes two tables of a path: no delta knows the other's rows as they were.
        PERFORM {:schema}."tk_mark_v1"('filled_f5afcb'::text);
    END IF;
    PERFORM set_config('trigger_kit.woven_f5afcb', tk_statement || ' 345d42', true);
    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_publisher_over_archive_review_cc9f08"() FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_publisher_over_archive_review_cc9f08"() IS 'trigger_kit: keeps archive_publisher';

CREATE OR REPLACE TRIGGER {:trigger}
    BEFORE INSERT OR UPDATE OR DELETE ON {archive_review}
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_archive_publisher_over_archive_review_cc9f08"();
