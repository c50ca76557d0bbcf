-- title: author: Before INSERT on library_author: tell the other triggers that this statement makes new rows.

CREATE OR REPLACE FUNCTION {:schema}."tk_library_author_fresh_c82b72"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- Before INSERT on library_author: tell the other triggers that this statement makes new rows.
-- Rules of library.Author:
--   num_books = Count("books")
--   num_published = Count("books", filter=Q(books__published=True))
--   pages_total = Sum("books__pages", default=0)
--   revenue = Sum("books__price", filter=(Q(books__published=True) & ~Q(books__title__icontains="draft'%{{}}")))
-- Written by trigger_kit. To change it, change the rules and run makemigrations.
BEGIN
    -- This function runs as its owner: not for a table that somebody else has put it on.
    IF TG_RELID <> {:regclass library_author} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass library_author} THEN
        RAISE EXCEPTION USING MESSAGE = format('This trigger function is not for %s.', TG_RELID::regclass),
                  ERRCODE = 'insufficient_privilege';
    END IF;
    -- Steps of this statement would take off rows that the new value never held: they recompute.
    PERFORM set_config('trigger_kit.fresh_4aaeb2', extract(epoch FROM statement_timestamp())::text, true);
    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_library_author_fresh_c82b72"() FROM PUBLIC;

CREATE OR REPLACE TRIGGER {:trigger}
    BEFORE INSERT ON {library_author}
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_library_author_fresh_c82b72"();
