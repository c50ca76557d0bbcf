-- title: many_to_many: After INSERT on archive_work: count the source rows that were there first.

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_work_fill_c939f1"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- After INSERT on archive_work: count the source rows that were there first.
-- Written by trigger_kit for the rules of archive.Work.
BEGIN
    IF TG_RELID <> {:regclass archive_work} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_work} THEN PERFORM {:schema}."tk_refuse_v1"(TG_RELID); END IF;
    IF EXISTS (
        SELECT FROM new_rows AS inserted WHERE (SELECT true FROM {archive_work_tags} AS source WHERE source."work_id" = inserted."id" LIMIT 1)
    ) THEN
        PERFORM {:schema}."tk_archive_work_recompute_16f36f"(array_agg(this."id")) FROM new_rows AS this;
    END IF;
    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_work_fill_c939f1"() FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_work_fill_c939f1"() IS 'trigger_kit: keeps archive_work';

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER INSERT ON {archive_work}
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_archive_work_fill_c939f1"();
