-- title: author: Before INSERT on library_author: start from the value over no rows, whatever the writer sent.

CREATE OR REPLACE FUNCTION {:schema}."~tk_library_author_first_bca6fd"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- Before INSERT on library_author: start from the value over no rows, whatever the writer sent.
-- Written by trigger_kit for the rules of library.Author.
BEGIN
    IF TG_RELID <> {:regclass library_author} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass library_author} THEN PERFORM {:schema}."tk_refuse_v1"(TG_RELID); END IF;
    NEW."num_books" := 0;
    NEW."num_published" := 0;
    NEW."pages_total" := 0;
    NEW."revenue" := NULL;
    RETURN NEW;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."~tk_library_author_first_bca6fd"() FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."~tk_library_author_first_bca6fd"() IS 'trigger_kit: keeps library_author';

CREATE OR REPLACE TRIGGER {:trigger}
    BEFORE INSERT ON {library_author}
    FOR EACH ROW
    WHEN (
        NEW."num_books" IS DISTINCT FROM 0
        OR NEW."num_published" IS DISTINCT FROM 0
        OR NEW."pages_total" IS DISTINCT FROM 0
        OR NEW."revenue" IS DISTINCT FROM NULL
    )
    EXECUTE FUNCTION {:schema}."~tk_library_author_first_bca6fd"();
