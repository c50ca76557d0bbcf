-- title: author: Before UPDATE on library_author: only maintenance writes the kept columns.

CREATE OR REPLACE FUNCTION {:schema}."~tk_library_author_guard_93c3d1"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- Before UPDATE on library_author: only maintenance writes the kept columns.
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
    -- Maintenance says at which trigger depth it writes; everybody else meets the guard.
    IF current_setting('trigger_kit.depth', true) IS DISTINCT FROM (pg_trigger_depth() - 1)::text AND (
        NEW."num_books" IS DISTINCT FROM OLD."num_books"
        OR NEW."num_published" IS DISTINCT FROM OLD."num_published"
        OR NEW."pages_total" IS DISTINCT FROM OLD."pages_total"
        OR NEW."revenue" IS DISTINCT FROM OLD."revenue"
    ) THEN
        NEW."num_books" := OLD."num_books";
        NEW."num_published" := OLD."num_published";
        NEW."pages_total" := OLD."pages_total";
        NEW."revenue" := OLD."revenue";
    END IF;

    IF NEW."id" IS DISTINCT FROM OLD."id" THEN
        -- Steps of this statement would take off rows that the new value never held: they recompute.
        PERFORM set_config('trigger_kit.fresh_4aaeb2', extract(epoch FROM statement_timestamp())::text, true);
        SELECT value."num_books", value."num_published", value."pages_total", value."revenue"
        INTO NEW."num_books", NEW."num_published", NEW."pages_total", NEW."revenue"
        FROM (
            SELECT
                count(*) AS "num_books",
                count(*) FILTER (WHERE "source"."published") AS "num_published",
                coalesce(sum("source"."pages"), 0) AS "pages_total",
                sum("source"."price") FILTER (WHERE ("source"."published" AND NOT (UPPER("source"."title"::text) LIKE UPPER(E'%draft''\\%{{}}%') AND "source"."title" IS NOT NULL))) AS "revenue"
            FROM {library_book} AS source
            WHERE source."author_id" = NEW."id"
        ) AS value;
        IF EXISTS (SELECT true FROM {library_book} AS source WHERE source."author_id" = NEW."id" LIMIT 1) THEN
            -- Steps of this statement that fire later would add rows that the value holds already: they recompute.
            PERFORM set_config('trigger_kit.filled_4aaeb2', extract(epoch FROM statement_timestamp())::text, true);
        END IF;
    END IF;
    RETURN NEW;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."~tk_library_author_guard_93c3d1"() FROM PUBLIC;

CREATE OR REPLACE TRIGGER {:trigger}
    BEFORE UPDATE ON {library_author}
    FOR EACH ROW
    EXECUTE FUNCTION {:schema}."~tk_library_author_guard_93c3d1"();
