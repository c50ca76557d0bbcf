-- title: author: After TRUNCATE of library_book: its rows count for nothing any more.

CREATE OR REPLACE FUNCTION {:schema}."tk_library_author_from_library_book_truncate_fa7f85"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- After TRUNCATE of library_book: its rows count for nothing any more.
-- Written by trigger_kit for the rules of library.Author:
--   num_books = Count("books")
--   num_published = Count("books", filter=Q(books__published=True))
--   pages_total = Sum("books__pages", default=0)
--   revenue = Sum("books__price", filter=(Q(books__published=True) & ~Q(books__title__icontains="draft'%{{}}")))
DECLARE
    tk_depth text;
    tk_outer_depth text := coalesce(current_setting('trigger_kit.depth', true), '');
BEGIN
    IF TG_RELID <> {:regclass library_book} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass library_book} THEN PERFORM {:schema}."tk_refuse_v1"(TG_RELID); END IF;
    PERFORM {:schema}."tk_require_read_committed_v1"({:regclass library_author}, 'TRUNCATE of library_book cannot keep library.Author:num_books, library.Author:num_published, library.Author:pages_total, library.Author:revenue at this isolation level.'::text);
    PERFORM FROM {library_author} AS target
    WHERE target."num_books" IS DISTINCT FROM 0
       OR target."num_published" IS DISTINCT FROM 0
       OR target."pages_total" IS DISTINCT FROM 0
       OR target."revenue" IS DISTINCT FROM NULL
    ORDER BY target."id" FOR NO KEY UPDATE;
    tk_depth := set_config('trigger_kit.depth', pg_trigger_depth()::text, true);
    UPDATE {library_author} AS target -- library.Author:num_books, library.Author:num_published, library.Author:pages_total, library.Author:revenue
    SET "num_books" = 0,
        "num_published" = 0,
        "pages_total" = 0,
        "revenue" = NULL
    WHERE target."num_books" IS DISTINCT FROM 0
       OR target."num_published" IS DISTINCT FROM 0
       OR target."pages_total" IS DISTINCT FROM 0
       OR target."revenue" IS DISTINCT FROM NULL;
    tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);
    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_library_author_from_library_book_truncate_fa7f85"() FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_library_author_from_library_book_truncate_fa7f85"() IS 'trigger_kit: keeps library_author';

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER TRUNCATE ON {library_book}
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_library_author_from_library_book_truncate_fa7f85"();
