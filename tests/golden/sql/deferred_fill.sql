-- title: deferred: After INSERT on archive_publisher: count the source rows that were there first.

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_publisher_fill_816489"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- After INSERT on archive_publisher: count the source rows that were there first.
-- Rules of archive.Publisher:
--   kept_day = Max("works__day")
--   kept_number = Sum("works__pages")
--   the_count = Count("works")
-- Written by trigger_kit. To change it, change the rules and run makemigrations.
DECLARE
    tk_depth text;
    tk_outer_depth text := coalesce(current_setting('trigger_kit.depth', true), '');
BEGIN
    -- This function runs as its owner: not for a table that somebody else has put it on.
    IF TG_RELID <> {:regclass archive_publisher} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_publisher} THEN
        RAISE EXCEPTION USING MESSAGE = format('This trigger function is not for %s.', TG_RELID::regclass),
                  ERRCODE = 'insufficient_privilege';
    END IF;
    -- What this transaction has noted may be in the full value: the commit computes it afresh.
    UPDATE {:schema}."tk_deferred_archive_publisher" AS noted
    SET tk_recompute = true
    FROM new_rows AS inserted
    WHERE noted.tk_transaction = pg_current_xact_id() AND NOT noted.tk_recompute AND noted."number" = inserted."number";
    IF EXISTS (
        SELECT
        FROM new_rows AS inserted
        WHERE (SELECT true FROM {archive_work} AS source WHERE source."publisher_id" = inserted."number" LIMIT 1)
    ) THEN
        -- Steps of this statement that fire later would add rows that the value holds already: they recompute.
        PERFORM set_config('trigger_kit.filled_f5afcb', extract(epoch FROM statement_timestamp())::text, true);
        -- What this transaction has noted may be in the full value: the commit computes it afresh.
        UPDATE {:schema}."tk_deferred_archive_publisher" AS noted
        SET tk_recompute = true
        FROM new_rows AS inserted
        WHERE noted.tk_transaction = pg_current_xact_id() AND NOT noted.tk_recompute AND noted."number" = inserted."number";
        tk_depth := set_config('trigger_kit.depth', pg_trigger_depth()::text, true);
        UPDATE {archive_publisher} AS target -- archive.Publisher:kept_number, archive.Publisher:the_count, archive.Publisher:kept_day
        SET
            "kept_number" = value_1."kept_number",
            "the_count" = value_1."the_count",
            "kept_day" = value_2."kept_day"
        FROM {archive_publisher} AS this
        CROSS JOIN LATERAL (
            SELECT
                sum("source"."pages") AS "kept_number",
                count(*) AS "the_count"
            FROM {archive_work} AS source
            WHERE source."publisher_id" = this."number"
        ) AS value_1
        CROSS JOIN LATERAL (
            SELECT
                (
                    SELECT max("source"."day")
                    FROM {archive_work} AS source
                    WHERE source."publisher_id" = this."number"
                )::date AS "kept_day"
        ) AS value_2
        WHERE target."id" = this."id"
        AND this."id" = ANY (ARRAY(
            SELECT inserted."id"
            FROM new_rows AS inserted
        ))
        AND (
            target."kept_number" IS DISTINCT FROM value_1."kept_number"
            OR target."the_count" IS DISTINCT FROM value_1."the_count"
            OR target."kept_day" IS DISTINCT FROM value_2."kept_day"
        );
        tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);
    END IF;
    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_publisher_fill_816489"() FROM PUBLIC;

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER INSERT ON {archive_publisher}
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_archive_publisher_fill_816489"();
