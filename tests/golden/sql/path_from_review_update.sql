-- title: path: After UPDATE on archive_review: add the difference to archive_publisher (by number).

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_publisher_from_archive_review_update_bbb6f2"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $trigger_kit$
-- After UPDATE on archive_review: add the difference to archive_publisher (by number).
-- Written by trigger_kit for archive.Publisher: the_total = Sum("works__reviews__stars", default=0)
<<before>>
DECLARE
    tk_recompute boolean := {:schema}."tk_is_marked_v1"('filled_f5afcb'::text) OR {:schema}."tk_is_marked_v1"('fresh_f5afcb'::text);
    tk_depth text;
    tk_outer_depth text := coalesce(current_setting('trigger_kit.depth', true), '');
    tk_is_one boolean;
    tk_written bigint;
    tk_key integer;
    "work_id" bigint;
    "stars" integer;
    tk_part_1 bigint;
BEGIN
    IF TG_RELID <> {:regclass archive_review} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_review} THEN PERFORM {:schema}."tk_refuse_v1"(TG_RELID); END IF;
    <<after>>
    DECLARE
        "work_id" bigint;
        "stars" integer;
        tk_part_1 bigint;
    BEGIN
        -- An UPDATE that only writes rows which were locked changes nothing: where it is said to be one, look.
        IF current_setting('trigger_kit.locking', true) = (pg_trigger_depth() - 1)::text THEN
            IF NOT EXISTS (SELECT old_rows::text FROM old_rows EXCEPT ALL SELECT new_rows::text FROM new_rows) THEN RETURN NULL; END IF;
            PERFORM {:schema}."tk_mark_v1"('filled_f5afcb'::text);
            tk_recompute := true;
        END IF;
        SELECT NOT EXISTS (SELECT FROM old_rows OFFSET 1), old_rows."work_id", old_rows."stars", new_rows."work_id", new_rows."stars"
        INTO tk_is_one, before."work_id", before."stars", after."work_id", after."stars"
        FROM old_rows CROSS JOIN new_rows LIMIT 1;
        -- Nothing that a rule reads has changed.
        IF tk_is_one IS NULL OR tk_is_one AND (before."work_id", before."stars") IS NOT DISTINCT FROM (after."work_id", after."stars") THEN
            RETURN NULL;
        END IF;
        before.tk_part_1 := coalesce("before"."stars", 0)::bigint;
        after.tk_part_1 := coalesce("after"."stars", 0)::bigint;
        -- Most statements change one row: one UPDATE, nothing to gather.
        IF tk_is_one
           AND NOT tk_recompute
           AND current_setting('transaction_isolation') <> 'repeatable read'
           AND NOT {:schema}."tk_is_paused_v1"('archive_publisher'::text) THEN
            IF before."work_id" = after."work_id" THEN
                after.tk_part_1 := after.tk_part_1 - before.tk_part_1;
                IF after.tk_part_1 = 0 THEN RETURN NULL; END IF;
                -- Lock what the path leads over, so that it cannot change meanwhile.
                SELECT hop_1."publisher_id"
                INTO tk_key
                FROM {archive_work} AS hop_1
                WHERE hop_1."id" = after."work_id"
                FOR SHARE;
                GET DIAGNOSTICS tk_written = ROW_COUNT;
                IF tk_written > 0 THEN
                    IF tk_key IS NULL THEN RETURN NULL; END IF;
                    tk_depth := set_config('trigger_kit.depth', pg_trigger_depth()::text, true);
                    UPDATE {archive_publisher} AS target -- archive.Publisher:the_total
                    SET "the_total" = target."the_total" + after.tk_part_1
                    WHERE target."number" = tk_key;
                    GET DIAGNOSTICS tk_written = ROW_COUNT;
                    tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);
                    IF tk_written > 0 THEN RETURN NULL; END IF;
                END IF;
            END IF;
        END IF;
        -- Lock what the path leads over, so that it cannot change meanwhile.
        PERFORM {:schema}."tk_archive_publisher_hold_archive_work_022efd"(array_agg(hop_2."work_id"))
        FROM (
            SELECT -1 AS tk_sign, changed.* FROM (
                SELECT old_rows."work_id", old_rows."stars" FROM old_rows
                EXCEPT ALL
                SELECT new_rows."work_id", new_rows."stars" FROM new_rows
            ) AS changed
            UNION ALL
            SELECT 1 AS tk_sign, changed.* FROM (
                SELECT new_rows."work_id", new_rows."stars" FROM new_rows
                EXCEPT ALL
                SELECT old_rows."work_id", old_rows."stars" FROM old_rows
            ) AS changed
        ) AS hop_2;
        tk_recompute := tk_recompute OR {:schema}."tk_is_marked_v1"('filled_f5afcb'::text);
        DECLARE
            tk_noted bigint;
        BEGIN
            INSERT INTO {:schema}."tk_waiting" (target, place, key)
            SELECT 'archive_publisher', '686adc', ARRAY[(child."work_id")::text]
            FROM (
                SELECT DISTINCT child."work_id"
                FROM (
                    SELECT -1 AS tk_sign, changed.* FROM (
                        SELECT old_rows."work_id", old_rows."stars" FROM old_rows
                        EXCEPT ALL
                        SELECT new_rows."work_id", new_rows."stars" FROM new_rows
                    ) AS changed
                    UNION ALL
                    SELECT 1 AS tk_sign, changed.* FROM (
                        SELECT new_rows."work_id", new_rows."stars" FROM new_rows
                        EXCEPT ALL
                        SELECT old_rows."work_id", old_rows."stars" FROM old_rows
                    ) AS changed
                ) AS child
                WHERE child.tk_sign = 1
                  AND child."work_id" IS NOT NULL
            ) AS child
            WHERE (
                SELECT true FROM {archive_work} AS parent
                WHERE child."work_id" = parent."id"
                LIMIT 1
            ) IS NULL;
            GET DIAGNOSTICS tk_noted = ROW_COUNT;
            IF tk_noted > 0 THEN PERFORM {:schema}."tk_waits_v1"({:regclass tk_waiting}, 'archive_publisher'::text); END IF;
        END;
        PERFORM {:schema}."tk_archive_publisher_apply_ef4126"(array_agg(change.tk_key), array_agg(change."the_total"), tk_recompute, ARRAY['d507ea']::text[])
        FROM (
            SELECT hop_1."publisher_id" AS tk_key, coalesce(sum(hop_2.tk_sign * "hop_2"."stars"::bigint), 0)::bigint AS "the_total"
            FROM (
                SELECT -1 AS tk_sign, changed.* FROM (
                    SELECT old_rows."work_id", old_rows."stars" FROM old_rows
                    EXCEPT ALL
                    SELECT new_rows."work_id", new_rows."stars" FROM new_rows
                ) AS changed
                UNION ALL
                SELECT 1 AS tk_sign, changed.* FROM (
                    SELECT new_rows."work_id", new_rows."stars" FROM new_rows
                    EXCEPT ALL
                    SELECT old_rows."work_id", old_rows."stars" FROM old_rows
                ) AS changed
            ) AS hop_2
            JOIN LATERAL (SELECT * FROM {archive_work} AS hop_1 WHERE hop_2."work_id" = hop_1."id" OFFSET 0) AS hop_1 ON true
            WHERE hop_1."publisher_id" IS NOT NULL
            GROUP BY hop_1."publisher_id" ORDER BY tk_key
        ) AS change
        WHERE tk_recompute OR change."the_total" <> 0;
        RETURN NULL;
    END;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_publisher_from_archive_review_update_bbb6f2"() FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_publisher_from_archive_review_update_bbb6f2"() IS 'trigger_kit: keeps archive_publisher';

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER UPDATE ON {archive_review}
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_archive_publisher_from_archive_review_update_bbb6f2"();
