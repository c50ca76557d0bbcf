-- title: path: After INSERT on archive_publisher: count the source rows that were there first.

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_publisher_fill_816489"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- After INSERT on archive_publisher: count the source rows that were there first.
-- Written by trigger_kit for the rules of archive.Publisher.
BEGIN
    IF TG_RELID <> {:regclass archive_publisher} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_publisher} THEN PERFORM {:schema}."tk_refuse_v1"(TG_RELID); END IF;
    IF EXISTS (
        SELECT FROM new_rows AS inserted WHERE (SELECT true FROM {archive_work} AS source WHERE source."publisher_id" = inserted."number" LIMIT 1)
    ) THEN
        PERFORM {:schema}."tk_archive_publisher_recompute_de30d7"(array_agg(this."id")) FROM new_rows AS this;
    END IF;
    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_publisher_fill_816489"() FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_publisher_fill_816489"() IS 'trigger_kit: keeps archive_publisher';

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER INSERT ON {archive_publisher}
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_archive_publisher_fill_816489"();
