-- title: path: After UPDATE on archive_work: add the difference to archive_publisher (by number).

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_publisher_from_archive_work_update_0324af"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $trigger_kit$
-- After UPDATE on archive_work: add the difference to archive_publisher (by number).
-- Written by trigger_kit for archive.Publisher: the_total = Sum("works__reviews__stars", default=0)
DECLARE
    tk_recompute boolean := {:schema}."tk_is_marked_v1"('filled_f5afcb'::text) OR {:schema}."tk_is_marked_v1"('fresh_f5afcb'::text);
BEGIN
    IF TG_RELID <> {:regclass archive_work} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_work} THEN PERFORM {:schema}."tk_refuse_v1"(TG_RELID); END IF;
    -- An UPDATE that only writes rows which were locked changes nothing: where it is said to be one, look.
    IF current_setting('trigger_kit.locking', true) = (pg_trigger_depth() - 1)::text THEN
        IF NOT EXISTS (SELECT old_rows::text FROM old_rows EXCEPT ALL SELECT new_rows::text FROM new_rows) THEN RETURN NULL; END IF;
        PERFORM {:schema}."tk_mark_v1"('filled_f5afcb'::text);
        tk_recompute := true;
    END IF;
    IF tk_recompute THEN
        PERFORM {:schema}."tk_archive_publisher_apply_ef4126"(array_agg(change.tk_key), NULL::bigint[], true, ARRAY['d507ea']::text[])
        FROM (
            SELECT DISTINCT source."publisher_id" AS tk_key
            FROM (
                SELECT -1 AS tk_sign, changed.* FROM (
                    SELECT old_rows."publisher_id", old_rows."id" FROM old_rows
                    EXCEPT ALL
                    SELECT new_rows."publisher_id", new_rows."id" FROM new_rows
                ) AS changed
                UNION ALL
                SELECT 1 AS tk_sign, changed.* FROM (
                    SELECT new_rows."publisher_id", new_rows."id" FROM new_rows
                    EXCEPT ALL
                    SELECT old_rows."publisher_id", old_rows."id" FROM old_rows
                ) AS changed
            ) AS source
            WHERE source."publisher_id" IS NOT NULL
        ) AS change;
    ELSE
        PERFORM {:schema}."tk_archive_publisher_apply_ef4126"(array_agg(change.tk_key), array_agg(change."the_total"), tk_recompute, ARRAY['d507ea']::text[])
        FROM (
            SELECT hop_1."publisher_id" AS tk_key, coalesce(sum(hop_1.tk_sign * "hop_2"."stars"::bigint), 0)::bigint AS "the_total"
            FROM (
                SELECT -1 AS tk_sign, changed.* FROM (
                    SELECT old_rows."publisher_id", old_rows."id" FROM old_rows
                    EXCEPT ALL
                    SELECT new_rows."publisher_id", new_rows."id" FROM new_rows
                ) AS changed
                UNION ALL
                SELECT 1 AS tk_sign, changed.* FROM (
                    SELECT new_rows."publisher_id", new_rows."id" FROM new_rows
                    EXCEPT ALL
                    SELECT old_rows."publisher_id", old_rows."id" FROM old_rows
                ) AS changed
            ) AS hop_1
            JOIN LATERAL (SELECT * FROM {archive_review} AS hop_2 WHERE hop_2."work_id" = hop_1."id" OFFSET 0) AS hop_2 ON true
            WHERE hop_1."publisher_id" IS NOT NULL
            GROUP BY hop_1."publisher_id" ORDER BY tk_key
        ) AS change
        WHERE change."the_total" <> 0;
    END IF;
    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_publisher_from_archive_work_update_0324af"() FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_publisher_from_archive_work_update_0324af"() IS 'trigger_kit: keeps archive_publisher';

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER UPDATE ON {archive_work}
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_archive_publisher_from_archive_work_update_0324af"();
