-- title: recompute: After DELETE on archive_work: bring up to date archive_publisher (by number).

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_publisher_from_archive_work_delete_4d7dd2"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- After DELETE on archive_work: bring up to date archive_publisher (by number).
-- Written by trigger_kit for the rules of archive.Publisher:
--   kept_list = ArrayAgg("works__title", order_by=["works__title", "works__id"])
--   kept_text = First("works__title", order_by="-works__day")
--   the_flag = Exists("works", filter=Q(works__published=True))
BEGIN
    IF TG_RELID <> {:regclass archive_work} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_work} THEN PERFORM {:schema}."tk_refuse_v1"(TG_RELID); END IF;
    PERFORM {:schema}."tk_archive_publisher_apply_e8973c"(array_agg(change.tk_key), NULL::text[])
    FROM (
        SELECT DISTINCT source."publisher_id" AS tk_key
        FROM old_rows AS source WHERE source."publisher_id" IS NOT NULL
    ) AS change;
    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_publisher_from_archive_work_delete_4d7dd2"() FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_publisher_from_archive_work_delete_4d7dd2"() IS 'trigger_kit: keeps archive_publisher';

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER DELETE ON {archive_work}
    REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_archive_publisher_from_archive_work_delete_4d7dd2"();
