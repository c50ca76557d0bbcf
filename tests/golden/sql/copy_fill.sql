-- title: copy: After INSERT on archive_work: count the source rows that were there first.

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_work_fill_c939f1"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $trigger_kit$
-- After INSERT on archive_work: count the source rows that were there first.
-- Written by trigger_kit for the rules of archive.Work.
BEGIN
    IF TG_RELID <> {:regclass archive_work} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_work} THEN PERFORM {:schema}."tk_refuse_v1"(TG_RELID); END IF;
    -- Lock what the new rows point at, and read it again.
    PERFORM {:schema}."tk_archive_work_hold_archive_country_9e39dd"(array_agg(hop_1."country_id"))
    FROM new_rows AS own
    JOIN LATERAL (SELECT * FROM {archive_publisher} AS hop_1 WHERE hop_1."number" = own."publisher_id" OFFSET 0) AS hop_1 ON true;
    PERFORM {:schema}."tk_archive_work_hold_archive_publisher_59d954"(array_agg(own."publisher_id"))
    FROM new_rows AS own;
    PERFORM {:schema}."tk_archive_work_hold_archive_country_9e39dd"(array_agg(hop_1."country_id"))
    FROM new_rows AS own
    JOIN LATERAL (SELECT * FROM {archive_publisher} AS hop_1 WHERE hop_1."number" = own."publisher_id" OFFSET 0) AS hop_1 ON true;
    DECLARE
        tk_noted bigint;
    BEGIN
        INSERT INTO {:schema}."tk_waiting" (target, place, key)
        SELECT 'archive_work', 'd75feb', ARRAY[(child."publisher_id")::text]
        FROM (
            SELECT DISTINCT child."publisher_id"
            FROM new_rows AS child
            WHERE child."publisher_id" IS NOT NULL
        ) AS child
        WHERE (
            SELECT true FROM {archive_publisher} AS parent
            WHERE parent."number" = child."publisher_id"
            LIMIT 1
        ) IS NULL;
        GET DIAGNOSTICS tk_noted = ROW_COUNT;
        IF tk_noted > 0 THEN PERFORM {:schema}."tk_waits_v1"({:regclass tk_waiting}, 'archive_work'::text); END IF;
    END;
    IF EXISTS (
        SELECT FROM new_rows AS inserted
        CROSS JOIN LATERAL (
            SELECT
                (COALESCE("archive_work"."title", '') || COALESCE((COALESCE(', ', '') || COALESCE("archive_country"."name", '')), ''))::text AS "the_label"
            FROM (SELECT inserted.*) AS "archive_work"
            LEFT OUTER JOIN {archive_publisher} AS "archive_publisher" ON ("archive_publisher"."number" = "archive_work"."publisher_id")
            LEFT OUTER JOIN {archive_country} AS "archive_country" ON ("archive_country"."code" = "archive_publisher"."country_id")
            OFFSET 0
        ) AS value_1
        WHERE inserted."the_label" IS DISTINCT FROM value_1."the_label"
    ) THEN
        PERFORM {:schema}."tk_archive_work_recompute_b848b2"(array_agg(this."id")) FROM new_rows AS this;
    END IF;
    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_work_fill_c939f1"() FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_work_fill_c939f1"() IS 'trigger_kit: keeps archive_work';

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER INSERT ON {archive_work}
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_archive_work_fill_c939f1"();
