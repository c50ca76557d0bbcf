-- title: copy: After DELETE on archive_publisher: bring up to date archive_work (by publisher_id).

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_work_from_archive_publisher_delete_83e9db"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- After DELETE on archive_publisher: bring up to date archive_work (by publisher_id).
-- Written by trigger_kit for archive.Work: the_label = Concat("title", Value(", "), "publisher__country__name")
BEGIN
    IF TG_RELID <> {:regclass archive_publisher} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_publisher} THEN PERFORM {:schema}."tk_refuse_v1"(TG_RELID); END IF;
    PERFORM {:schema}."tk_archive_work_apply_80f5a9"(array_agg(change.tk_key), NULL::text[])
    FROM (
        SELECT DISTINCT source."number" AS tk_key
        FROM old_rows AS source WHERE source."number" IS NOT NULL
    ) AS change;
    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_work_from_archive_publisher_delete_83e9db"() FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_work_from_archive_publisher_delete_83e9db"() IS 'trigger_kit: keeps archive_work';

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER DELETE ON {archive_publisher}
    REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_archive_work_from_archive_publisher_delete_83e9db"();
