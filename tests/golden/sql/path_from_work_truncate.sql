-- title: path: After TRUNCATE of archive_work: its rows count for nothing any more.

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_publisher_from_archive_work_truncate_46d08c"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- After TRUNCATE of archive_work: its rows count for nothing any more.
-- Written by trigger_kit for archive.Publisher: the_total = Sum("works__reviews__stars", default=0)
DECLARE
    tk_depth text;
    tk_outer_depth text := coalesce(current_setting('trigger_kit.depth', true), '');
BEGIN
    IF TG_RELID <> {:regclass archive_work} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_work} THEN PERFORM {:schema}."tk_refuse_v1"(TG_RELID); END IF;
    PERFORM {:schema}."tk_require_read_committed_v1"({:regclass archive_publisher}, 'TRUNCATE of archive_work cannot keep archive.Publisher:the_total at this isolation level.'::text);
    PERFORM FROM {archive_publisher} AS target
    WHERE target."the_total" IS DISTINCT FROM 0 ORDER BY target."id" FOR NO KEY UPDATE;
    tk_depth := set_config('trigger_kit.depth', pg_trigger_depth()::text, true);
    UPDATE {archive_publisher} AS target -- archive.Publisher:the_total
    SET "the_total" = 0 WHERE target."the_total" IS DISTINCT FROM 0;
    tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);
    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_publisher_from_archive_work_truncate_46d08c"() FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_publisher_from_archive_work_truncate_46d08c"() IS 'trigger_kit: keeps archive_publisher';

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER TRUNCATE ON {archive_work}
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_archive_publisher_from_archive_work_truncate_46d08c"();
