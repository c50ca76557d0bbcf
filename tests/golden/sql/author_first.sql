-- title: author: Before INSERT on library_author: start from the value over no rows, whatever the writer sent.

CREATE OR REPLACE FUNCTION {:schema}."~tk_library_author_first_bca6fd"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- Before INSERT on library_author: start from the value over no rows, whatever the writer sent.
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
    NEW."num_books" := 0;
    NEW."num_published" := 0;
    NEW."pages_total" := 0;
    NEW."revenue" := NULL;
    RETURN NEW;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."~tk_library_author_first_bca6fd"() FROM PUBLIC;

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
