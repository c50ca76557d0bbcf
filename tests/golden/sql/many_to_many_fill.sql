-- title: many_to_many: After INSERT on archive_work: count the source rows that were there first.

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_work_fill_c939f1"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- After INSERT on archive_work: count the source rows that were there first.
-- Rules of archive.Work:
--   the_count = Count("tags", filter=Q(tags__active=True))
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
        WHERE (SELECT true FROM {archive_work_tags} AS source WHERE source."work_id" = inserted."id" LIMIT 1)
    ) THEN
        -- Steps of this statement that fire later would add rows that the value holds already: they recompute.
        PERFORM set_config('trigger_kit.filled_8545a5', extract(epoch FROM statement_timestamp())::text, true);
        tk_depth := set_config('trigger_kit.depth', pg_trigger_depth()::text, true);
        UPDATE {archive_work} AS target -- archive.Work:the_count
        SET
            "the_count" = value_1."the_count"
        FROM {archive_work} AS this
        CROSS JOIN LATERAL (
            SELECT
                count("hop_1"."tag_id") FILTER (WHERE "hop_2"."active") AS "the_count"
            FROM {archive_work_tags} AS hop_1
            JOIN {archive_tag} AS hop_2
                ON hop_2."id" = hop_1."tag_id"
            WHERE hop_1."work_id" = this."id"
        ) AS value_1
        WHERE target."id" = this."id"
        AND this."id" = ANY (ARRAY(
            SELECT inserted."id"
            FROM new_rows AS inserted
        ))
        AND (
            target."the_count" IS DISTINCT FROM value_1."the_count"
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
