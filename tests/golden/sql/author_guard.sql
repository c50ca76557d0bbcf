-- title: author: Lock rows of library_author, and count them; note those that are missing, for each of some places.

CREATE OR REPLACE FUNCTION {:schema}."tk_library_author_lock_423827"(tk_keys bigint[], tk_places text[], tk_only_notes boolean)
RETURNS bigint
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $trigger_kit$
-- Lock rows of library_author, and count them; note those that are missing, for each of some places.
DECLARE
    tk_found bigint := 0;
BEGIN
    IF NOT tk_only_notes THEN
        -- Lock in key order, so that two bulk statements cannot deadlock.
        PERFORM FROM {library_author} AS locked
        WHERE locked."id" = ANY (tk_keys) ORDER BY locked."id" FOR NO KEY UPDATE;
        GET DIAGNOSTICS tk_found = ROW_COUNT;
        IF current_setting('transaction_isolation') = 'repeatable read' THEN
            PERFORM set_config('trigger_kit.locking', pg_trigger_depth()::text, true);
            UPDATE {library_author} AS locked SET "id" = locked."id"
            WHERE locked."id" = ANY (tk_keys);
            PERFORM set_config('trigger_kit.locking', '', true);
        END IF;
    END IF;
    IF tk_places IS NOT NULL AND tk_found < cardinality(tk_keys) THEN
        INSERT INTO {:schema}."tk_waiting" (target, place, key)
        SELECT 'library_author', place, ARRAY[child.tk_key::text]
        FROM unnest(tk_keys) AS child (tk_key) CROSS JOIN unnest(tk_places) AS place
        WHERE NOT EXISTS (SELECT FROM {library_author} AS parent WHERE parent."id" = child.tk_key);
        IF FOUND THEN PERFORM {:schema}."tk_waits_v1"({:regclass tk_waiting}, 'library_author'::text); END IF;
    END IF;
    RETURN tk_found;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_library_author_lock_423827"(bigint[], text[], boolean) FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_library_author_lock_423827"(bigint[], text[], boolean) IS 'trigger_kit: writes library_author';

CREATE OR REPLACE FUNCTION {:schema}."tk_library_author_recompute_12b95b"(tk_keys bigint[])
RETURNS void
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $trigger_kit$
-- Compute locked rows of library_author afresh; later steps of this statement must not add what they hold.
-- Written by trigger_kit for the rules of library.Author:num_books, num_published, pages_total, revenue.
DECLARE
    tk_depth text;
    tk_outer_depth text := coalesce(current_setting('trigger_kit.depth', true), '');
BEGIN
    PERFORM {:schema}."tk_mark_v1"('filled_4aaeb2'::text);
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
      AND this."id" = ANY (tk_keys)
      AND (
            target."num_books" IS DISTINCT FROM value_1."num_books"
            OR target."num_published" IS DISTINCT FROM value_1."num_published"
            OR target."pages_total" IS DISTINCT FROM value_1."pages_total"
            OR target."revenue" IS DISTINCT FROM value_1."revenue"
      );
    tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_library_author_recompute_12b95b"(bigint[]) FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_library_author_recompute_12b95b"(bigint[]) IS 'trigger_kit: writes library_author';

CREATE OR REPLACE FUNCTION {:schema}."tk_library_author_apply_63d7be"(
    tk_keys bigint[], tk_by_num_books bigint[], tk_by_num_published bigint[], tk_by_pages_total bigint[],
    tk_by_revenue numeric[], tk_by_tk_rows_4 bigint[], tk_recompute boolean, tk_places text[]
)
RETURNS void
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $trigger_kit$
-- Add differences to rows of library_author, locked first; compute them afresh where these do not hold.
-- Written by trigger_kit for the rules of library.Author:num_books, num_published, pages_total, revenue.
DECLARE
    tk_is_paused boolean := {:schema}."tk_is_paused_v1"('library_author'::text);
    tk_found bigint;
    tk_added bigint;
    tk_depth text;
    tk_outer_depth text := coalesce(current_setting('trigger_kit.depth', true), '');
BEGIN
    IF tk_keys IS NULL THEN RETURN; END IF;
    tk_found := {:schema}."tk_library_author_lock_423827"(tk_keys, tk_places, tk_is_paused);
    IF tk_is_paused THEN
        -- Note which were touched, for the repair at the end of the pause.
        INSERT INTO {:schema}."tk_touched" (target, key_column, key)
        SELECT 'library_author', 'id', touched.tk_key::text FROM unnest(tk_keys) AS touched (tk_key);
        RETURN;
    END IF;
    -- NaN does not cancel out: no difference takes it away again.
    tk_recompute := tk_recompute OR coalesce('NaN' = ANY (tk_by_revenue), false);
    IF NOT tk_recompute THEN
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
        FROM unnest(tk_keys, tk_by_num_books, tk_by_num_published, tk_by_pages_total, tk_by_revenue, tk_by_tk_rows_4) AS change (tk_key, "num_books", "num_published", "pages_total", "revenue", tk_rows_4)
        WHERE target."id" = change.tk_key
          AND NOT coalesce(target."num_books", 0) + change."num_books" < 0
          AND NOT coalesce(target."num_published", 0) + change."num_published" < 0
          AND NOT (target."revenue" IS NULL AND change.tk_rows_4 < 0);
        GET DIAGNOSTICS tk_added = ROW_COUNT;
        tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);
        -- Rows that leave before their arrival is counted: no count is negative, not even for a moment.
        tk_recompute := tk_added < tk_found;
    END IF;
    IF tk_recompute THEN PERFORM {:schema}."tk_library_author_recompute_12b95b"(tk_keys); END IF;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_library_author_apply_63d7be"(bigint[], bigint[], bigint[], bigint[], numeric[], bigint[], boolean, text[]) FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_library_author_apply_63d7be"(bigint[], bigint[], bigint[], bigint[], numeric[], bigint[], boolean, text[]) IS 'trigger_kit: writes library_author';

CREATE OR REPLACE FUNCTION {:schema}."~tk_library_author_guard_93c3d1"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- Before UPDATE on library_author: only maintenance writes the kept columns.
-- Written by trigger_kit for the rules of library.Author:
--   num_books = Count("books")
--   num_published = Count("books", filter=Q(books__published=True))
--   pages_total = Sum("books__pages", default=0)
--   revenue = Sum("books__price", filter=(Q(books__published=True) & ~Q(books__title__icontains="draft'%{{}}")))
BEGIN
    IF TG_RELID <> {:regclass library_author} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass library_author} THEN PERFORM {:schema}."tk_refuse_v1"(TG_RELID); END IF;
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
    -- Steps of this statement would add to the new key, or take off, what it never held: they recompute.
    IF NEW."id" IS DISTINCT FROM OLD."id" THEN
        PERFORM {:schema}."tk_mark_v1"('fresh_4aaeb2'::text), {:schema}."tk_mark_v1"('filled_4aaeb2'::text);
    END IF;
    RETURN NEW;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."~tk_library_author_guard_93c3d1"() FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."~tk_library_author_guard_93c3d1"() IS 'trigger_kit: keeps library_author';

CREATE OR REPLACE TRIGGER {:trigger}
    BEFORE UPDATE ON {library_author}
    FOR EACH ROW
    EXECUTE FUNCTION {:schema}."~tk_library_author_guard_93c3d1"();
