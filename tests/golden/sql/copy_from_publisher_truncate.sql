-- title: copy: After TRUNCATE of archive_publisher: its rows count for nothing any more.

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_work_from_archive_publisher_truncate_bca9ea"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- After TRUNCATE of archive_publisher: its rows count for nothing any more.
-- Written by trigger_kit for archive.Work: the_label = Concat("title", Value(", "), "publisher__country__name")
BEGIN
    IF TG_RELID <> {:regclass archive_publisher} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_publisher} THEN PERFORM {:schema}."tk_refuse_v1"(TG_RELID); END IF;
    PERFORM {:schema}."tk_require_read_committed_v1"({:regclass archive_work}, 'TRUNCATE of archive_publisher cannot keep archive.Work:the_label at this isolation level.'::text);
    PERFORM {:schema}."tk_archive_work_recompute_b848b2"(array_agg(this."id")) FROM {archive_work} AS this;
    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_work_from_archive_publisher_truncate_bca9ea"() FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_work_from_archive_publisher_truncate_bca9ea"() IS 'trigger_kit: keeps archive_work';

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER TRUNCATE ON {archive_publisher}
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_archive_work_from_archive_publisher_truncate_bca9ea"();
