-- title: author: After UPDATE on library_book: add the difference to library_author (by id).

CREATE OR REPLACE FUNCTION {:schema}."tk_library_author_from_library_book_update_16f884"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- After UPDATE on library_book: add the difference to library_author (by id).
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
    tk_moves boolean;
    tk_written bigint;
    tk_left bigint;
    tk_came bigint;
    "author_id" bigint;
    "pages" integer;
    "published" boolean;
    tk_part_4 numeric;
    tk_part_5 bigint;
    tk_part_2 bigint;
    tk_part_3 bigint;
BEGIN
    IF TG_RELID <> {:regclass library_book} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass library_book} THEN PERFORM {:schema}."tk_refuse_v1"(TG_RELID); END IF;
    <<after>>
    DECLARE
        "author_id" bigint;
        "pages" integer;
        "published" boolean;
        tk_part_4 numeric;
        tk_part_5 bigint;
        tk_part_2 bigint;
        tk_part_3 bigint;
    BEGIN
        SELECT
            NOT EXISTS (SELECT FROM old_rows OFFSET 1), old_rows."author_id", old_rows."pages", old_rows."published",
            CASE WHEN ("old_rows"."published" AND NOT (UPPER("old_rows"."title"::text) LIKE UPPER(E'%draft''\\%{{}}%') AND "old_rows"."title" IS NOT NULL)) THEN coalesce("old_rows"."price", 0) ELSE 0 END,
            CASE WHEN "old_rows"."price" IS NOT NULL AND ("old_rows"."published" AND NOT (UPPER("old_rows"."title"::text) LIKE UPPER(E'%draft''\\%{{}}%') AND "old_rows"."title" IS NOT NULL)) THEN 1 ELSE 0 END,
            new_rows."author_id", new_rows."pages", new_rows."published",
            CASE WHEN ("new_rows"."published" AND NOT (UPPER("new_rows"."title"::text) LIKE UPPER(E'%draft''\\%{{}}%') AND "new_rows"."title" IS NOT NULL)) THEN coalesce("new_rows"."price", 0) ELSE 0 END,
            CASE WHEN "new_rows"."price" IS NOT NULL AND ("new_rows"."published" AND NOT (UPPER("new_rows"."title"::text) LIKE UPPER(E'%draft''\\%{{}}%') AND "new_rows"."title" IS NOT NULL)) THEN 1 ELSE 0 END
        INTO
            tk_is_one, before."author_id", before."pages", before."published", before.tk_part_4, before.tk_part_5, after."author_id",
            after."pages", after."published", after.tk_part_4, after.tk_part_5
        FROM old_rows CROSS JOIN new_rows LIMIT 1;
        -- Nothing that a rule reads has changed.
        IF tk_is_one IS NULL OR tk_is_one AND (before."author_id", before."pages", before."published", before.tk_part_4, before.tk_part_5) IS NOT DISTINCT FROM (after."author_id", after."pages", after."published", after.tk_part_4, after.tk_part_5) THEN
            RETURN NULL;
        END IF;
        before.tk_part_2 := CASE WHEN "before"."published" THEN 1 ELSE 0 END;
        before.tk_part_3 := coalesce("before"."pages", 0)::bigint;
        after.tk_part_2 := CASE WHEN "after"."published" THEN 1 ELSE 0 END;
        after.tk_part_3 := coalesce("after"."pages", 0)::bigint;
        -- Most statements change one row: one UPDATE, nothing to gather.
        IF tk_is_one
           AND NOT tk_recompute
           AND before.tk_part_4 <> 'NaN'
           AND after.tk_part_4 <> 'NaN'
           AND NOT {:schema}."tk_is_paused_v1"('library_author'::text) THEN
            tk_moves := before."author_id" IS DISTINCT FROM after."author_id";
            IF NOT tk_moves THEN
                after.tk_part_2 := after.tk_part_2 - before.tk_part_2;
                after.tk_part_3 := after.tk_part_3 - before.tk_part_3;
                after.tk_part_4 := after.tk_part_4 - before.tk_part_4;
                after.tk_part_5 := after.tk_part_5 - before.tk_part_5;
            END IF;
            tk_left := CASE WHEN tk_moves THEN before."author_id" END;
            tk_came := CASE WHEN tk_moves OR NOT (after.tk_part_2 = 0 AND after.tk_part_3 = 0 AND after.tk_part_4 = 0 AND after.tk_part_5 = 0) THEN after."author_id" END;
            IF num_nonnulls(tk_left, tk_came) = 0 THEN RETURN NULL; END IF;
            -- Both targets in one UPDATE, locked in key order.
            IF tk_moves OR after.tk_part_5 < 0 THEN
                PERFORM FROM {library_author} AS locked
                WHERE locked."id" = ANY (ARRAY[tk_left, tk_came]) ORDER BY locked."id" FOR NO KEY UPDATE;
            END IF;
            tk_depth := set_config('trigger_kit.depth', pg_trigger_depth()::text, true);
            UPDATE {library_author} AS target -- library.Author:num_books, library.Author:num_published, library.Author:pages_total, library.Author:revenue
            SET
                "num_books" = target."num_books" + change."num_books",
                "num_published" = target."num_published" + change."num_published",
                "pages_total" = target."pages_total" + change."pages_total",
                "revenue" = CASE
                    WHEN change.tk_rows_4 > 0 THEN coalesce(target."revenue", 0) + change."revenue"
                    WHEN change.tk_rows_4 = 0 OR EXISTS (
                        SELECT FROM {library_book} AS source
                        WHERE source."author_id" = target."id" AND "source"."price" IS NOT NULL AND ("source"."published" AND NOT (UPPER("source"."title"::text) LIKE UPPER(E'%draft''\\%{{}}%') AND "source"."title" IS NOT NULL))
                    ) THEN target."revenue" + change."revenue"
                END
            FROM (VALUES
                (tk_left, -1, -before.tk_part_2, -before.tk_part_3, -before.tk_part_4, -before.tk_part_5),
                (tk_came, tk_moves::integer, after.tk_part_2, after.tk_part_3, after.tk_part_4, after.tk_part_5)
            ) AS change (tk_key, "num_books", "num_published", "pages_total", "revenue", tk_rows_4)
            WHERE target."id" = change.tk_key
              AND NOT coalesce(target."num_books", 0) + change."num_books" < 0
              AND NOT coalesce(target."num_published", 0) + change."num_published" < 0
              AND NOT (target."revenue" IS NULL AND change.tk_rows_4 < 0);
            GET DIAGNOSTICS tk_written = ROW_COUNT;
            tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);
            IF tk_written = num_nonnulls(tk_left, tk_came) THEN RETURN NULL; END IF;
            -- What one target has got already counts no more.
            tk_recompute := tk_written > 0;
        END IF;
        PERFORM {:schema}."tk_library_author_apply_63d7be"(
            array_agg(change.tk_key), array_agg(change."num_books"), array_agg(change."num_published"),
            array_agg(change."pages_total"), array_agg(change."revenue"), array_agg(change.tk_rows_4), tk_recompute,
            ARRAY['441c33']::text[]
        )
        FROM (
            SELECT
                source."author_id" AS tk_key,
                sum(source.tk_sign) AS "num_books",
                coalesce(sum(source.tk_sign) FILTER (WHERE "source"."published"), 0) AS "num_published",
                coalesce(sum(source.tk_sign * "source"."pages"::bigint), 0)::bigint AS "pages_total",
                coalesce(sum(source.tk_sign * "source"."price"::numeric) FILTER (WHERE ("source"."published" AND NOT (UPPER("source"."title"::text) LIKE UPPER(E'%draft''\\%{{}}%') AND "source"."title" IS NOT NULL))), 0) AS "revenue",
                coalesce(sum(source.tk_sign) FILTER (WHERE "source"."price" IS NOT NULL AND ("source"."published" AND NOT (UPPER("source"."title"::text) LIKE UPPER(E'%draft''\\%{{}}%') AND "source"."title" IS NOT NULL))), 0) AS tk_rows_4
            FROM (
                SELECT -1 AS tk_sign, old_rows."author_id", old_rows."pages", old_rows."price", old_rows."published", old_rows."title" FROM old_rows
                UNION ALL
                SELECT 1 AS tk_sign, new_rows."author_id", new_rows."pages", new_rows."price", new_rows."published", new_rows."title" FROM new_rows
            ) AS source
            WHERE source."author_id" IS NOT NULL
            GROUP BY source."author_id" ORDER BY tk_key
        ) AS change
        WHERE tk_recompute OR (change."num_books", change."num_published", change."pages_total", change."revenue", change.tk_rows_4) <> (0, 0, 0, 0, 0);
        RETURN NULL;
    END;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_library_author_from_library_book_update_16f884"() FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_library_author_from_library_book_update_16f884"() IS 'trigger_kit: keeps library_author';

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER UPDATE ON {library_book}
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_library_author_from_library_book_update_16f884"();
