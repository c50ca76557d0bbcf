-- title: author: After INSERT on library_author: count the source rows that were there first.

CREATE OR REPLACE FUNCTION {:schema}."tk_library_author_fill_6959a7"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- After INSERT on library_author: count the source rows that were there first.
-- Rules of library.Author:
--   num_books = Count("books")
--   num_published = Count("books", filter=Q(books__published=True))
--   pages_total = Sum("books__pages", default=0)
--   revenue = Sum("books__price", filter=(Q(books__published=True) & ~Q(books__title__icontains="draft'%{{}}")))
-- Written by trigger_kit. To change it, change the rules and run makemigrations.
DECLARE
    tk_depth text;
    tk_outer_depth text := coalesce(current_setting('trigger_kit.depth', true), '');
BEGIN
    -- This function runs as its owner: not for a table that somebody else has put it on.
    IF TG_RELID <> {:regclass library_author} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass library_author} THEN
        RAISE EXCEPTION USING MESSAGE = format('This trigger function is not for %s.', TG_RELID::regclass),
                  ERRCODE = 'insufficient_privilege';
    END IF;
    IF EXISTS (
        SELECT
        FROM new_rows AS inserted
        WHERE (SELECT true FROM {library_book} AS source WHERE source."author_id" = inserted."id" LIMIT 1)
    ) THEN
        -- Steps of this statement that fire later would add rows that the value holds already: they recompute.
        PERFORM set_config('trigger_kit.filled_4aaeb2', extract(epoch FROM statement_timestamp())::text, true);
        tk_depth := set_config('trigger_kit.depth', pg_trigger_depth()::text, true);
        UPDATE {library_author} AS target -- library.Author:num_books, library.Author:num_published, library.Author:pages_total, library.Author:revenue
        SET
            "num_books" = value_1."num_books",
            "num_published" = value_1."num_published",
            "pages_total" = value_1."pages_total",
            "revenue" = value_1."revenue"
        FROM {library_author} AS this
        CROSS JOIN LATERAL (
            SELECT
                count(*) AS "num_books",
                count(*) FILTER (WHERE "source"."published") AS "num_published",
                coalesce(sum("source"."pages"), 0) AS "pages_total",
                sum("source"."price") FILTER (WHERE ("source"."published" AND NOT (UPPER("source"."title"::text) LIKE UPPER(E'%draft''\\%{{}}%') AND "source"."title" IS NOT NULL))) AS "revenue"
            FROM {library_book} AS source
            WHERE source."author_id" = this."id"
        ) AS value_1
        WHERE target."id" = this."id"
        AND this."id" = ANY (ARRAY(
            SELECT inserted."id"
            FROM new_rows AS inserted
        ))
        AND (
            target."num_books" IS DISTINCT FROM value_1."num_books"
            OR target."num_published" IS DISTINCT FROM value_1."num_published"
            OR target."pages_total" IS DISTINCT FROM value_1."pages_total"
            OR target."revenue" IS DISTINCT FROM value_1."revenue"
        );
        tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);
    END IF;
    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_library_author_fill_6959a7"() FROM PUBLIC;

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER INSERT ON {library_author}
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_library_author_fill_6959a7"();
