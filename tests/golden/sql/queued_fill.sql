-- title: queued: After INSERT on archive_work: count the source rows that were there first.

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_work_fill_c939f1"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- After INSERT on archive_work: count the source rows that were there first.
-- Rules of archive.Work:
--   the_count = Count("reviews", filter=Q(reviews__stars__gt=3))
--   the_total = Sum("reviews__stars", default=0)
-- Written by trigger_kit. To change it, change the rules and run makemigrations.
DECLARE
    tk_depth text;
    tk_outer_depth text := coalesce(current_setting('trigger_kit.depth', true), '');
BEGIN
    -- This function runs as its owner: not for a table that somebody else has put it on.
    IF TG_RELID <> {:regclass archive_work} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_work} THEN
        RAISE EXCEPTION USING MESSAGE = format('This trigger function is not for %s.', TG_RELID::regclass),
                  ERRCODE = 'insufficient_privilege';
    END IF;
    IF EXISTS (
        SELECT
        FROM new_rows AS inserted
        WHERE (SELECT true FROM {archive_review} AS source WHERE source."work_id" = inserted."id" LIMIT 1)
            OR (SELECT true FROM {:schema}."tk_pending_archive_work" AS pending WHERE pending."id" = inserted."id" LIMIT 1)
    ) THEN
        -- Steps of this statement that fire later would add rows that the value holds already: they recompute.
        PERFORM set_config('trigger_kit.filled_8545a5', extract(epoch FROM statement_timestamp())::text, true);
        tk_depth := set_config('trigger_kit.depth', pg_trigger_depth()::text, true);
        WITH taken_1 AS (
            UPDATE {:schema}."tk_pending_archive_work" AS pending
            SET "the_count" = NULL, "the_total" = NULL
            FROM {archive_work} AS this
            WHERE pending."id" = this."id"
              AND (pending."the_count" IS NOT NULL OR pending."the_total" IS NOT NULL)
              AND this."id" = ANY (ARRAY(
                SELECT inserted."id"
                FROM new_rows AS inserted
            ))
        )
        UPDATE {archive_work} AS target -- archive.Work:the_count, archive.Work:the_total
        SET
            "the_count" = value_1."the_count",
            "the_total" = value_1."the_total"
        FROM {archive_work} AS this
        CROSS JOIN LATERAL (
            SELECT
                count(*) FILTER (WHERE "source"."stars" > 3) AS "the_count",
                coalesce(sum("source"."stars"), 0) AS "the_total"
            FROM {archive_review} AS source
            WHERE source."work_id" = this."id"
        ) AS value_1
        WHERE target."id" = this."id"
        AND this."id" = ANY (ARRAY(
            SELECT inserted."id"
            FROM new_rows AS inserted
        ))
        AND (
            target."the_count" IS DISTINCT FROM value_1."the_count"
            OR target."the_total" IS DISTINCT FROM value_1."the_total"
        );
        tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);
    END IF;
    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_work_fill_c939f1"() FROM PUBLIC;

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER INSERT ON {archive_work}
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_archive_work_fill_c939f1"();
