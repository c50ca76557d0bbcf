-- title: author: Before INSERT on library_author: steps of this statement would take off rows that a new row never held, and so they recompute.

CREATE OR REPLACE FUNCTION {:schema}."tk_library_author_fresh_c82b72"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- Before INSERT on library_author: steps of this statement would take off rows that a new row never held, and so they recompute.
-- Written by trigger_kit for the rules of library.Author.
BEGIN
    IF TG_RELID <> {:regclass library_author} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass library_author} THEN PERFORM {:schema}."tk_refuse_v1"(TG_RELID); END IF;
    PERFORM {:schema}."tk_mark_v1"('fresh_4aaeb2'::text);
    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_library_author_fresh_c82b72"() FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_library_author_fresh_c82b72"() IS 'trigger_kit: keeps library_author';

CREATE OR REPLACE TRIGGER {:trigger}
    BEFORE INSERT ON {library_author}
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_library_author_fresh_c82b72"();
