-- title: path: After INSERT on archive_work: add the difference to archive_publisher (by number).

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_publisher_from_archive_work_insert_ca0ba1"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $trigger_kit$
-- After INSERT on archive_work: add the difference to archive_publisher (by number).
-- Written by trigger_kit for archive.Publisher: the_total = Sum("works__reviews__stars", default=0)
DECLARE
    tk_recompute boolean := {:schema}."tk_is_marked_v1"('filled_f5afcb'::text);
BEGIN
    IF TG_RELID <> {:regclass archive_work} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_work} THEN PERFORM {:schema}."tk_refuse_v1"(TG_RELID); END IF;
    IF tk_recompute THEN
        PERFORM {:schema}."tk_archive_publisher_apply_ef4126"(array_agg(change.tk_key), NULL::bigint[], true, ARRAY['d507ea']::text[])
        FROM (
            SELECT DISTINCT source."publisher_id" AS tk_key
            FROM new_rows AS source WHERE source."publisher_id" IS NOT NULL
        ) AS change;
    ELSE
        PERFORM {:schema}."tk_archive_publisher_apply_ef4126"(array_agg(change.tk_key), array_agg(change."the_total"), tk_recompute, ARRAY['d507ea']::text[])
        FROM (
            SELECT hop_1."publisher_id" AS tk_key, coalesce(sum("hop_2"."stars"), 0) AS "the_total"
            FROM new_rows AS hop_1
            JOIN LATERAL (SELECT * FROM {archive_review} AS hop_2 WHERE hop_2."work_id" = hop_1."id" OFFSET 0) AS hop_2 ON true
            WHERE hop_1."publisher_id" IS NOT NULL
            GROUP BY hop_1."publisher_id" ORDER BY tk_key
        ) AS change
        WHERE change."the_total" <> 0;
    END IF;
    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_publisher_from_archive_work_insert_ca0ba1"() FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_publisher_from_archive_work_insert_ca0ba1"() IS 'trigger_kit: keeps archive_publisher';

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER INSERT ON {archive_work}
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_archive_publisher_from_archive_work_insert_ca0ba1"();
