-- title: author: After a changed key on library_author: compute what follows from the rows that point at the new one.

CREATE OR REPLACE FUNCTION {:schema}."tk_library_author_moved_1b4ff9"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- After a changed key on library_author: compute what follows from the rows that point at the new one.
-- Written by trigger_kit for the rules of library.Author.
BEGIN
    IF TG_RELID <> {:regclass library_author} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass library_author} THEN PERFORM {:schema}."tk_refuse_v1"(TG_RELID); END IF;
    PERFORM {:schema}."tk_library_author_recompute_12b95b"(ARRAY[NEW."id"]);
    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_library_author_moved_1b4ff9"() FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_library_author_moved_1b4ff9"() IS 'trigger_kit: keeps library_author';

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER UPDATE OF "id" ON {library_author}
    FOR EACH ROW
    WHEN (NEW."id" IS DISTINCT FROM OLD."id")
    EXECUTE FUNCTION {:schema}."tk_library_author_moved_1b4ff9"();
