-- title: queued: After TRUNCATE of archive_work: what was pending for its rows goes with them.

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_work_emptied_04c7b7"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- After TRUNCATE of archive_work: what was pending for its rows goes with them.
-- Written by trigger_kit for the rules of archive.Work:
--   the_count = Count("reviews", filter=Q(reviews__stars__gt=3))
--   the_total = Sum("reviews__stars", default=0)
BEGIN
    IF TG_RELID <> {:regclass archive_work} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_work} THEN PERFORM {:schema}."tk_refuse_v1"(TG_RELID); END IF;
    DELETE FROM {:schema}."tk_pending_archive_work";
    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_work_emptied_04c7b7"() FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_work_emptied_04c7b7"() IS 'trigger_kit: keeps archive_work';

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER TRUNCATE ON {archive_work}
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_archive_work_emptied_04c7b7"();
