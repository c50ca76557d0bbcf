-- title: author: At the end of a transaction: compute what follows for library_author from rows that came meanwhile.

CREATE OR REPLACE FUNCTION {:schema}."tk_library_author_settle_efa00a"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- At the end of a transaction: compute what follows for library_author from rows that came meanwhile.
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
    IF TG_RELID <> {:regclass tk_waiting} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass tk_waiting} THEN
        RAISE EXCEPTION USING MESSAGE = format('This trigger function is not for %s.', TG_RELID::regclass),
                  ERRCODE = 'insufficient_privilege';
    END IF;
    -- The first note settles them all; those that come meanwhile say so again.
    IF current_setting('trigger_kit.waiting_4aaeb2_{:schema_tag}', true) IS DISTINCT FROM 'on' THEN
        RETURN NULL;
    END IF;
    PERFORM set_config('trigger_kit.waiting_4aaeb2_{:schema_tag}', '', true);

    -- Rows of library_book that came before their library_author.
    DECLARE
        tk_parents bigint[];
    BEGIN
        WITH settled AS (
            DELETE FROM {:schema}."tk_waiting" AS noted
            WHERE noted.transaction = pg_current_xact_id()
              AND noted.target = 'library_author' AND noted.place = '441c33'
            RETURNING noted.key
        )
        SELECT array_agg(settled.key[1]::bigint)
        INTO tk_parents
        FROM settled;
        IF tk_parents IS NOT NULL THEN
            -- Lock in key order, so that two bulk statements cannot deadlock.
            PERFORM
            FROM {library_author} AS locked
            WHERE locked."id" = ANY (tk_parents)
            ORDER BY locked."id"
            FOR NO KEY UPDATE;
            IF current_setting('transaction_isolation') = 'repeatable read' THEN
                PERFORM set_config('trigger_kit.locking', pg_trigger_depth()::text, true);
                UPDATE {library_author} AS locked
                SET "id" = locked."id"
                WHERE locked."id" = ANY (tk_parents);
                PERFORM set_config('trigger_kit.locking', '', true);
            END IF;
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
            AND this."id" = ANY (tk_parents)
            AND (
                target."num_books" IS DISTINCT FROM value_1."num_books"
                OR target."num_published" IS DISTINCT FROM value_1."num_published"
                OR target."pages_total" IS DISTINCT FROM value_1."pages_total"
                OR target."revenue" IS DISTINCT FROM value_1."revenue"
            );
            tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);
            IF current_setting('transaction_isolation') = 'repeatable read' AND EXISTS (
                SELECT FROM {library_book} AS child
                WHERE (child."author_id") IN (SELECT * FROM unnest(tk_parents))
                  AND NOT EXISTS (SELECT FROM {library_author} AS parent
                                  WHERE child."author_id" = parent."id")
            ) THEN
                RAISE EXCEPTION USING
                    MESSAGE = 'A row of library_author was inserted by a concurrent transaction.',
                    ERRCODE = 'serialization_failure',
                    HINT = 'Try the transaction again.';
            END IF;
        END IF;
    END;

    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_library_author_settle_efa00a"() FROM PUBLIC;

DROP TRIGGER IF EXISTS {:trigger} ON {tk_waiting};

CREATE CONSTRAINT TRIGGER {:trigger}
    AFTER INSERT ON {tk_waiting}
    DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW
    WHEN (NEW.target = 'library_author')
    EXECUTE FUNCTION {:schema}."tk_library_author_settle_efa00a"();
