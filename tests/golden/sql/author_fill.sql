-- title: author: After INSERT on library_author: count the source rows that were there first.

CREATE OR REPLACE FUNCTION {:schema}."tk_library_author_fill_6959a7"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- After INSERT on library_author: count the source rows that were there first.
-- Written by trigger_kit for the rules of library.Author.
BEGIN
    IF TG_RELID <> {:regclass library_author} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass library_author} THEN PERFORM {:schema}."tk_refuse_v1"(TG_RELID); END IF;
    IF EXISTS (
        SELECT FROM new_rows AS inserted WHERE (SELECT true FROM {library_book} AS source WHERE source."author_id" = inserted."id" LIMIT 1)
    ) THEN
        PERFORM {:schema}."tk_library_author_recompute_12b95b"(array_agg(this."id")) FROM new_rows AS this;
    END IF;
    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_library_author_fill_6959a7"() FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_library_author_fill_6959a7"() IS 'trigger_kit: keeps library_author';

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER INSERT ON {library_author}
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_library_author_fill_6959a7"();
