-- title: many_to_many: After TRUNCATE of archive_work_tags: its rows count for nothing any more.

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_work_from_archive_work_tags_truncate_28df32"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- After TRUNCATE of archive_work_tags: its rows count for nothing any more.
-- Written by trigger_kit for archive.Work: the_count = Count("tags", filter=Q(tags__active=True))
DECLARE
    tk_depth text;
    tk_outer_depth text := coalesce(current_setting('trigger_kit.depth', true), '');
BEGIN
    IF TG_RELID <> {:regclass archive_work_tags} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_work_tags} THEN PERFORM {:schema}."tk_refuse_v1"(TG_RELID); END IF;
    PERFORM {:schema}."tk_require_read_committed_v1"({:regclass archive_work}, 'TRUNCATE of archive_work_tags cannot keep archive.Work:the_count at this isolation level.'::text);
    PERFORM FROM {archive_work} AS target
    WHERE target."the_count" IS DISTINCT FROM 0 ORDER BY target."id" FOR NO KEY UPDATE;
    tk_depth := set_config('trigger_kit.depth', pg_trigger_depth()::text, true);
    UPDATE {archive_work} AS target -- archive.Work:the_count
    SET "the_count" = 0 WHERE target."the_count" IS DISTINCT FROM 0;
    tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);
    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_work_from_archive_work_tags_truncate_28df32"() FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_work_from_archive_work_tags_truncate_28df32"() IS 'trigger_kit: keeps archive_work';

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER TRUNCATE ON {archive_work_tags}
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_archive_work_from_archive_work_tags_truncate_28df32"();
