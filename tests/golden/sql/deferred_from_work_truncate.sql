-- title: deferred: After TRUNCATE of archive_work: its rows count for nothing any more.

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_publisher_from_archive_work_truncate_2f87a6"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- After TRUNCATE of archive_work: its rows count for nothing any more.
-- Written by trigger_kit for the rules of archive.Publisher:
--   kept_number = Sum("works__pages")
--   the_count = Count("works")
DECLARE
    tk_depth text;
    tk_outer_depth text := coalesce(current_setting('trigger_kit.depth', true), '');
BEGIN
    IF TG_RELID <> {:regclass archive_work} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_work} THEN PERFORM {:schema}."tk_refuse_v1"(TG_RELID); END IF;
    PERFORM {:schema}."tk_require_read_committed_v1"({:regclass archive_publisher}, 'TRUNCATE of archive_work cannot keep archive.Publisher:kept_number, archive.Publisher:the_count at this isolation level.'::text);
    -- What this transaction has noted may be in the full value: the commit computes it afresh.
    UPDATE {:schema}."tk_deferred_archive_publisher" AS noted
    SET tk_recompute = true
    WHERE noted.tk_transaction = pg_current_xact_id() AND NOT noted.tk_recompute;
    PERFORM FROM {archive_publisher} AS target
    WHERE target."kept_number" IS DISTINCT FROM NULL
       OR target."the_count" IS DISTINCT FROM 0
    ORDER BY target."id" FOR NO KEY UPDATE;
    tk_depth := set_config('trigger_kit.depth', pg_trigger_depth()::text, true);
    UPDATE {archive_publisher} AS target -- archive.Publisher:kept_number, archive.Publisher:the_count
    SET "kept_number" = NULL,
        "the_count" = 0
    WHERE target."kept_number" IS DISTINCT FROM NULL
       OR target."the_count" IS DISTINCT FROM 0;
    tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);
    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_publisher_from_archive_work_truncate_2f87a6"() FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_publisher_from_archive_work_truncate_2f87a6"() IS 'trigger_kit: keeps archive_publisher';

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER TRUNCATE ON {archive_work}
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_archive_publisher_from_archive_work_truncate_2f87a6"();
