-- title: author: After DELETE on library_book: add the difference to library_author (by id).

CREATE OR REPLACE FUNCTION {:schema}."tk_library_author_from_library_book_delete_77ecbb"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- After DELETE on library_book: add the difference to library_author (by id).
-- Written by trigger_kit for the rules of library.Author:
--   num_books = Count("books")
--   num_published = Count("books", filter=Q(books__published=True))
--   pages_total = Sum("books__pages", default=0)
--   revenue = Sum("books__price", filter=(Q(books__published=True) & ~Q(books__title__icontains="draft'%{{}}")))
<<before>>
DECLARE
    tk_recompute boolean := {:schema}."tk_is_marked_v1"('filled_4aaeb2'::text) OR {:schema}."tk_is_marked_v1"('fresh_4aaeb2'::text);
    tk_depth text;
    tk_outer_depth text := coalesce(current_setting('trigger_kit.depth', true), '');
    tk_is_one boolean;
    "author_id" bigint;
    "pages" integer;
    "published" boolean;
    tk_part_4 numeric;
    tk_part_5 bigint;
    tk_part_2 bigint;
    tk_part_3 bigint;
BEGIN
    IF TG_RELID <> {:regclass library_book} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass library_book} THEN PERFORM {:schema}."tk_refuse_v1"(TG_RELID); END IF;
    SELECT
        NOT EXISTS (SELECT FROM old_rows OFFSET 1), old_rows."author_id", old_rows."pages", old_rows."published",
        CASE WHEN ("old_rows"."published" AND NOT (UPPER("old_rows"."title"::text) LIKE UPPER(E'%draft''\\%{{}}%') AND "old_rows"."title" IS NOT NULL)) THEN coalesce("old_rows"."price", 0) ELSE 0 END,
        CASE WHEN "old_rows"."price" IS NOT NULL AND ("old_rows"."published" AND NOT (UPPER("old_rows"."title"::text) LIKE UPPER(E'%draft''\\%{{}}%') AND "old_rows"."title" IS NOT NULL)) THEN 1 ELSE 0 END
    INTO tk_is_one, before."author_id", before."pages", before."published", before.tk_part_4, before.tk_part_5
    FROM old_rows LIMIT 1;
    before.tk_part_2 := CASE WHEN "before"."published" THEN 1 ELSE 0 END;
    before.tk_part_3 := coalesce("before"."pages", 0)::bigint;
    IF tk_is_one IS NULL OR tk_is_one AND before."author_id" IS NULL THEN RETURN NULL; END IF;
    -- Most statements change one row: one UPDATE, nothing to gather.
    IF tk_is_one
       AND NOT tk_recompute
       AND before.tk_part_4 <> 'NaN'
       AND NOT {:schema}."tk_is_paused_v1"('library_author'::text) THEN
        -- Rows leave: lock, then look whether some are left.
        IF -before.tk_part_5 < 0 THEN
            PERFORM FROM {library_author} AS locked WHERE locked."id" = before."author_id" FOR NO KEY UPDATE;
        END IF;
        tk_depth := set_config('trigger_kit.depth', pg_trigger_depth()::text, true);
        UPDATE {library_author} AS target -- library.Author:num_books, library.Author:num_published, library.Author:pages_total, library.Author:revenue
        SET
            "num_books" = target."num_books" - 1,
            "num_published" = target."num_published" - before.tk_part_2,
            "pages_total" = target."pages_total" - before.tk_part_3,
            "revenue" = CASE
                WHEN -before.tk_part_5 > 0 THEN coalesce(target."revenue", 0) + -before.tk_part_4
                WHEN -before.tk_part_5 = 0 OR EXISTS (
                    SELECT FROM {library_book} AS source
                    WHERE source."author_id" = target."id" AND "source"."price" IS NOT NULL AND ("source"."published" AND NOT (UPPER("source"."title"::text) LIKE UPPER(E'%draft''\\%{{}}%') AND "source"."title" IS NOT NULL))
                ) THEN target."revenue" - before.tk_part_4
            END
        WHERE target."id" = before."author_id"
          AND NOT coalesce(target."num_books", 0) - 1 < 0
          AND NOT coalesce(target."num_published", 0) - before.tk_part_2 < 0
          AND NOT (target."revenue" IS NULL AND -before.tk_part_5 < 0);
        tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);
        IF FOUND THEN RETURN NULL; END IF;
    END IF;
    PERFORM {:schema}."tk_library_author_apply_63d7be"(
        array_agg(change.tk_key), array_agg(change."num_books"), array_agg(change."num_published"),
        array_agg(change."pages_total"), array_agg(change."revenue"), array_agg(change.tk_rows_4), tk_recompute, NULL::text[]
    )
    FROM (
        SELECT
            source."author_id" AS tk_key,
            -count(*) AS "num_books",
            -count(*) FILTER (WHERE "source"."published") AS "num_published",
            -coalesce(sum("source"."pages"), 0) AS "pages_total",
            -coalesce(sum("source"."price") FILTER (WHERE ("source"."published" AND NOT (UPPER("source"."title"::text) LIKE UPPER(E'%draft''\\%{{}}%') AND "source"."title" IS NOT NULL))), 0) AS "revenue",
            -count("source"."price") FILTER (WHERE ("source"."published" AND NOT (UPPER("source"."title"::text) LIKE UPPER(E'%draft''\\%{{}}%') AND "source"."title" IS NOT NULL))) AS tk_rows_4
        FROM old_rows AS source WHERE source."author_id" IS NOT NULL
        GROUP BY source."author_id" ORDER BY tk_key
    ) AS change
    WHERE tk_recompute OR (change."num_books", change."num_published", change."pages_total", change."revenue", change.tk_rows_4) <> (0, 0, 0, 0, 0);
    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_library_author_from_library_book_delete_77ecbb"() FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_library_author_from_library_book_delete_77ecbb"() IS 'trigger_kit: keeps library_author';

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER DELETE ON {library_book}
    REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_library_author_from_library_book_delete_77ecbb"();
