-- title: author: After UPDATE on library_book: add the difference to library_author (by id).

CREATE OR REPLACE FUNCTION {:schema}."tk_library_author_from_library_book_update_16f884"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- After UPDATE on library_book: add the difference to library_author (by id).
-- Rules of library.Author:
--   num_books = Count("books")
--   num_published = Count("books", filter=Q(books__published=True))
--   pages_total = Sum("books__pages", default=0)
--   revenue = Sum("books__price", filter=(Q(books__published=True) & ~Q(books__title__icontains="draft'%{{}}")))
-- Written by trigger_kit. To change it, change the rules and run makemigrations.
<<delta>>
DECLARE
    tk_is_paused boolean := {:schema}."tk_is_paused_v1"('library_author'::text);
    tk_depth text;
    tk_outer_depth text := coalesce(current_setting('trigger_kit.depth', true), '');
    tk_recompute boolean := false;
    tk_is_one boolean;
    tk_leaves boolean;
    tk_comes boolean;
    tk_written bigint;
    tk_key bigint;
    "num_books" bigint;
    "num_published" bigint;
    "pages_total" bigint;
    "revenue" numeric;
    tk_rows_4 bigint;
BEGIN
    -- This function runs as its owner: not for a table that somebody else has put it on.
    IF TG_RELID <> {:regclass library_book} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass library_book} THEN
        RAISE EXCEPTION USING MESSAGE = format('This trigger function is not for %s.', TG_RELID::regclass),
                  ERRCODE = 'insufficient_privilege';
    END IF;
    -- A full value that this very statement has written may hold these rows already.
    IF current_setting('trigger_kit.filled_4aaeb2', true) <> '' THEN
        tk_recompute := current_setting('trigger_kit.filled_4aaeb2', true) = extract(epoch FROM statement_timestamp())::text;
    END IF;
    -- A target that this very statement has created never held the rows that leave it.
    IF current_setting('trigger_kit.fresh_4aaeb2', true) <> '' THEN
        tk_recompute := tk_recompute OR current_setting('trigger_kit.fresh_4aaeb2', true) = extract(epoch FROM statement_timestamp())::text;
    END IF;

    -- Most statements change one row: nothing to sum, one UPDATE per target.
    IF NOT tk_is_paused AND NOT tk_recompute THEN
        <<before>>
        DECLARE
            "author_id" bigint;
            "pages" integer;
            "published" boolean;
            tk_part_4 numeric;
            tk_part_5 bigint;
            tk_part_2 bigint;
            tk_part_3 bigint;
        BEGIN
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
                    NOT EXISTS (SELECT FROM old_rows OFFSET 1),
                    old_rows."author_id", old_rows."pages", old_rows."published",
                    CASE WHEN ("old_rows"."published" AND NOT (UPPER("old_rows"."title"::text) LIKE UPPER(E'%draft''\\%{{}}%') AND "old_rows"."title" IS NOT NULL)) THEN coalesce("old_rows"."price", 0) ELSE 0 END,
                    CASE WHEN "old_rows"."price" IS NOT NULL AND ("old_rows"."published" AND NOT (UPPER("old_rows"."title"::text) LIKE UPPER(E'%draft''\\%{{}}%') AND "old_rows"."title" IS NOT NULL)) THEN 1 ELSE 0 END,
                    new_rows."author_id", new_rows."pages", new_rows."published",
                    CASE WHEN ("new_rows"."published" AND NOT (UPPER("new_rows"."title"::text) LIKE UPPER(E'%draft''\\%{{}}%') AND "new_rows"."title" IS NOT NULL)) THEN coalesce("new_rows"."price", 0) ELSE 0 END,
                    CASE WHEN "new_rows"."price" IS NOT NULL AND ("new_rows"."published" AND NOT (UPPER("new_rows"."title"::text) LIKE UPPER(E'%draft''\\%{{}}%') AND "new_rows"."title" IS NOT NULL)) THEN 1 ELSE 0 END
                INTO
                    tk_is_one,
                    before."author_id", before."pages", before."published", before.tk_part_4, before.tk_part_5,
                    after."author_id", after."pages", after."published", after.tk_part_4, after.tk_part_5
                FROM old_rows CROSS JOIN new_rows
                LIMIT 1;
                -- Nothing that a rule reads has changed.
                IF tk_is_one IS NULL
                   OR tk_is_one
                   AND before."author_id" IS NOT DISTINCT FROM after."author_id"
                   AND before."pages" IS NOT DISTINCT FROM after."pages"
                   AND before."published" IS NOT DISTINCT FROM after."published"
                   AND before.tk_part_4 IS NOT DISTINCT FROM after.tk_part_4
                   AND before.tk_part_5 IS NOT DISTINCT FROM after.tk_part_5
                THEN
                    RETURN NULL;
                END IF;
                IF tk_is_one THEN
                    -- What the row counted for, and what it counts for now.
                    before.tk_part_2 := CASE WHEN "before"."published" THEN 1 ELSE 0 END;
                    before.tk_part_3 := coalesce("before"."pages", 0)::bigint;
                    after.tk_part_2 := CASE WHEN "after"."published" THEN 1 ELSE 0 END;
                    after.tk_part_3 := coalesce("after"."pages", 0)::bigint;
                    tk_leaves := before."author_id" IS DISTINCT FROM after."author_id" AND before."author_id" IS NOT NULL;
                    tk_comes := before."author_id" IS DISTINCT FROM after."author_id" AND after."author_id" IS NOT NULL;
                    IF tk_leaves AND tk_comes THEN
                        IF before.tk_part_4 <> 'NaN' AND after.tk_part_4 <> 'NaN' THEN
                            -- Both targets in one UPDATE, locked in key order: what follows from one of them comes after both.
                            PERFORM
                            FROM {library_author} AS locked
                            WHERE locked."id" = ANY (ARRAY[before."author_id", after."author_id"])
                            ORDER BY locked."id"
                            FOR NO KEY UPDATE;
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
                                        WHERE source."author_id" = target."id"
                                          AND "source"."price" IS NOT NULL
                                          AND ("source"."published" AND NOT (UPPER("source"."title"::text) LIKE UPPER(E'%draft''\\%{{}}%') AND "source"."title" IS NOT NULL))
                                    ) THEN target."revenue" + change."revenue"
                                END
                            FROM (
                                VALUES
                                    (before."author_id", -1, -before.tk_part_2, -before.tk_part_3, -before.tk_part_4, -before.tk_part_5),
                                    (after."author_id", 1, after.tk_part_2, after.tk_part_3, after.tk_part_4, after.tk_part_5)
                            ) AS change (tk_key, "num_books", "num_published", "pages_total", "revenue", tk_rows_4)
                            WHERE target."id" = change.tk_key
                              AND NOT coalesce(target."num_books", 0) + change."num_books" < 0
                              AND NOT coalesce(target."num_published", 0) + change."num_published" < 0
                              AND NOT (target."revenue" IS NULL AND change.tk_rows_4 < 0);
                            GET DIAGNOSTICS tk_written = ROW_COUNT;
                            tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);
                            IF tk_written = 2 THEN
                                RETURN NULL;
                            END IF;
                            -- What one target has got already counts no more.
                            tk_recompute := tk_written = 1;
                        END IF;
                    ELSE
                        IF tk_leaves THEN
                            tk_key := before."author_id";
                            delta."num_books" := -1;
                            delta."num_published" := -before.tk_part_2;
                            delta."pages_total" := -before.tk_part_3;
                            delta."revenue" := -before.tk_part_4;
                            delta.tk_rows_4 := -before.tk_part_5;
                        ELSIF tk_comes THEN
                            tk_key := after."author_id";
                            delta."num_books" := 1;
                            delta."num_published" := after.tk_part_2;
                            delta."pages_total" := after.tk_part_3;
                            delta."revenue" := after.tk_part_4;
                            delta.tk_rows_4 := after.tk_part_5;
                        ELSIF before."author_id" = after."author_id" THEN
                            tk_key := after."author_id";
                            delta."num_books" := 0;
                            delta."num_published" := after.tk_part_2 - before.tk_part_2;
                            delta."pages_total" := after.tk_part_3 - before.tk_part_3;
                            delta."revenue" := after.tk_part_4 - before.tk_part_4;
                            delta.tk_rows_4 := after.tk_part_5 - before.tk_part_5;
                        END IF;
                        IF tk_key IS NULL OR (
                            delta."num_books" = 0
                            AND delta."num_published" = 0
                            AND delta."pages_total" = 0
                            AND delta."revenue" = 0
                            AND delta.tk_rows_4 = 0
                        ) THEN
                            RETURN NULL;
                        END IF;
                        IF delta."revenue" <> 'NaN' THEN
                            -- Rows leave: lock, then look whether some are left.
                            IF delta.tk_rows_4 < 0 THEN
                                PERFORM
                                FROM {library_author} AS locked
                                WHERE locked."id" = tk_key
                                FOR NO KEY UPDATE;
                            END IF;
                            tk_depth := set_config('trigger_kit.depth', pg_trigger_depth()::text, true);
                            UPDATE {library_author} AS target -- library.Author:num_books, library.Author:num_published, library.Author:pages_total, library.Author:revenue
                            SET
                                "num_books" = target."num_books" + delta."num_books",
                                "num_published" = target."num_published" + delta."num_published",
                                "pages_total" = target."pages_total" + delta."pages_total",
                                "revenue" = CASE
                                    WHEN delta.tk_rows_4 > 0 THEN coalesce(target."revenue", 0) + delta."revenue"
                                    WHEN delta.tk_rows_4 = 0 OR EXISTS (
                                        SELECT FROM {library_book} AS source
                                        WHERE source."author_id" = target."id"
                                          AND "source"."price" IS NOT NULL
                                          AND ("source"."published" AND NOT (UPPER("source"."title"::text) LIKE UPPER(E'%draft''\\%{{}}%') AND "source"."title" IS NOT NULL))
                                    ) THEN target."revenue" + delta."revenue"
                                END
                            WHERE target."id" = tk_key
                              AND NOT coalesce(target."num_books", 0) + delta."num_books" < 0
                              AND NOT coalesce(target."num_published", 0) + delta."num_published" < 0
                              AND NOT (target."revenue" IS NULL AND delta.tk_rows_4 < 0);
                            GET DIAGNOSTICS tk_written = ROW_COUNT;
                            tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);
                        ELSE
                            tk_written := 0;
                        END IF;
                        IF tk_written > 0 THEN
                            RETURN NULL;
                        END IF;
                    END IF;
                END IF;
            END;
        END;
    END IF;

    <<deltas>>
    DECLARE
        tk_keys bigint[];
        "num_books" bigint[];
        "num_published" bigint[];
        "pages_total" bigint[];
        "revenue" numeric[];
        tk_rows_4 bigint[];
    BEGIN
        IF tk_recompute THEN
            SELECT array_agg(touched.tk_key ORDER BY touched.tk_key)
            INTO tk_keys
            FROM (
                SELECT source."author_id" AS tk_key
                FROM old_rows AS source
                UNION
                SELECT source."author_id" AS tk_key
                FROM new_rows AS source
            ) AS touched
            WHERE touched.tk_key IS NOT NULL;
        ELSE
            -- One change per target, in key order; targets that do not change are left out.
            SELECT
                array_agg(change.tk_key),
                array_agg(change."num_books"),
                array_agg(change."num_published"),
                array_agg(change."pages_total"),
                array_agg(change."revenue"),
                array_agg(change.tk_rows_4)
            INTO tk_keys, "num_books", "num_published", "pages_total", "revenue", tk_rows_4
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
                GROUP BY source."author_id"
                ORDER BY tk_key
            ) AS change
            WHERE change."num_books" <> 0
               OR change."num_published" <> 0
               OR change."pages_total" <> 0
               OR change."revenue" <> 0
               OR change.tk_rows_4 <> 0;
            -- NaN does not cancel out: no delta takes it away again.
            tk_recompute := coalesce('NaN' = ANY (deltas."revenue"), false);
        END IF;
        PERFORM {:schema}."tk_library_author_apply_25f479"(tk_keys, deltas."num_books", deltas."num_published", deltas."pages_total", deltas."revenue", deltas.tk_rows_4, tk_recompute, tk_is_paused, ARRAY['441c33']::text[]);
        RETURN NULL;
    END;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_library_author_from_library_book_update_16f884"() FROM PUBLIC;

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER UPDATE ON {library_book}
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_library_author_from_library_book_update_16f884"();
