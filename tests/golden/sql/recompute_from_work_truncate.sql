-- title: recompute: After TRUNCATE of archive_work: its rows count for nothing any more.

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_publisher_from_archive_work_truncate_46d08c"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- After TRUNCATE of archive_work: its rows count for nothing any more.
-- Written by trigger_kit for the rules of archive.Publisher:
--   kept_list = ArrayAgg("works__title", order_by=["works__title", "works__id"])
--   kept_text = First("works__title", order_by="-works__day")
--   the_flag = Exists("works", filter=Q(works__published=True))
DECLARE
    tk_depth text;
    tk_outer_depth text := coalesce(current_setting('trigger_kit.depth', true), '');
BEGIN
    IF TG_RELID <> {:regclass archive_work} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_work} THEN PERFORM {:schema}."tk_refuse_v1"(TG_RELID); END IF;
    PERFORM {:schema}."tk_require_read_committed_v1"({:regclass archive_publisher}, 'TRUNCATE of archive_work cannot keep archive.Publisher:kept_list, archive.Publisher:kept_text, archive.Publisher:the_flag at this isolation level.'::text);
    PERFORM FROM {archive_publisher} AS target
    WHERE target."kept_text" IS DISTINCT FROM NULL
       OR target."the_flag" IS DISTINCT FROM false
    ORDER BY target."id" FOR NO KEY UPDATE;
    tk_depth := set_config('trigger_kit.depth', pg_trigger_depth()::text, true);
    UPDATE {archive_publisher} AS target -- archive.Publisher:kept_text, archive.Publisher:the_flag
    SET "kept_text" = NULL,
        "the_flag" = false
    WHERE target."kept_text" IS DISTINCT FROM NULL
       OR target."the_flag" IS DISTINCT FROM false;
    tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);
    PERFORM {:schema}."tk_archive_publisher_recompute_c7695a"(array_agg(this."id")) FROM {archive_publisher} AS this;
    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_publisher_from_archive_work_truncate_46d08c"() FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_publisher_from_archive_work_truncate_46d08c"() IS 'trigger_kit: keeps archive_publisher';

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER TRUNCATE ON {archive_work}
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_archive_publisher_from_archive_work_truncate_46d08c"();
