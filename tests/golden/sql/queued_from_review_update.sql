-- title: queued: After UPDATE on archive_review: append to the queue what changes in archive_work (by id).

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_work_from_archive_review_update_9f400a"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- After UPDATE on archive_review: append to the queue what changes in archive_work (by id).
-- Written by trigger_kit for the rules of archive.Work:
--   the_count = Count("reviews", filter=Q(reviews__stars__gt=3))
--   the_total = Sum("reviews__stars", default=0)
<<before>>
DECLARE
    tk_recompute boolean := {:schema}."tk_is_marked_v1"('filled_8545a5'::text) OR {:schema}."tk_is_marked_v1"('fresh_8545a5'::text);
    tk_is_one boolean;
    tk_moves boolean;
    tk_left bigint;
    tk_came bigint;
    "work_id" bigint;
    "stars" integer;
    tk_part_1 bigint;
    tk_part_2 bigint;
BEGIN
    IF TG_RELID <> {:regclass archive_review} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_review} THEN PERFORM {:schema}."tk_refuse_v1"(TG_RELID); END IF;
    <<after>>
    DECLARE
        "work_id" bigint;
        "stars" integer;
        tk_part_1 bigint;
        tk_part_2 bigint;
    BEGIN
        SELECT NOT EXISTS (SELECT FROM old_rows OFFSET 1), old_rows."work_id", old_rows."stars", new_rows."work_id", new_rows."stars"
        INTO tk_is_one, before."work_id", before."stars", after."work_id", after."stars"
        FROM old_rows CROSS JOIN new_rows LIMIT 1;
        -- Nothing that a rule reads has changed.
        IF tk_is_one IS NULL OR tk_is_one AND (before."work_id", before."stars") IS NOT DISTINCT FROM (after."work_id", after."stars") THEN
            RETURN NULL;
        END IF;
        before.tk_part_1 := CASE WHEN "before"."stars" > 3 THEN 1 ELSE 0 END;
        before.tk_part_2 := coalesce("before"."stars", 0)::bigint;
        after.tk_part_1 := CASE WHEN "after"."stars" > 3 THEN 1 ELSE 0 END;
        after.tk_part_2 := coalesce("after"."stars", 0)::bigint;
        -- Most statements change one row: one UPDATE, nothing to gather.
        IF tk_is_one
           AND NOT tk_recompute
           AND NOT coalesce(current_setting('trigger_kit.purged_8545a5_{:schema_tag}', true), '') = 'on'
           AND NOT {:schema}."tk_is_paused_v1"('archive_work'::text) THEN
            tk_moves := before."work_id" IS DISTINCT FROM after."work_id";
            IF NOT tk_moves THEN
                after.tk_part_1 := after.tk_part_1 - before.tk_part_1;
                after.tk_part_2 := after.tk_part_2 - before.tk_part_2;
            END IF;
            tk_left := CASE WHEN tk_moves AND NOT ((before.tk_part_1, before.tk_part_2) = (0, 0)) THEN before."work_id" END;
            tk_came := CASE WHEN NOT (after.tk_part_1 = 0 AND after.tk_part_2 = 0) THEN after."work_id" END;
            IF num_nonnulls(tk_left, tk_came) = 0 THEN RETURN NULL; END IF;
            INSERT INTO {:schema}."tk_pending_archive_work" ("id", "the_count", "the_total")
            SELECT change.tk_key, change."the_count", change."the_total"
            FROM (VALUES
                (tk_left, -before.tk_part_1, -before.tk_part_2),
                (tk_came, after.tk_part_1, after.tk_part_2)
            ) AS change (tk_key, "the_count", "the_total")
            WHERE change.tk_key IS NOT NULL;
            -- Where this lock is free nobody waits for a notification: none is sent, which would cost every commit.
            IF NOT pg_try_advisory_xact_lock_shared(1868610859874084438) THEN
                PERFORM pg_notify('tk_pending_archive_work', '');
            END IF;
            RETURN NULL;
        END IF;
        IF {:schema}."tk_is_paused_v1"('archive_work'::text) OR tk_recompute THEN
            PERFORM {:schema}."tk_archive_work_apply_ac2dfc"(array_agg(change.tk_key), ARRAY['10db75']::text[])
            FROM (
                SELECT DISTINCT source."work_id" AS tk_key
                FROM (
                    SELECT -1 AS tk_sign, old_rows."work_id", old_rows."stars" FROM old_rows
                    UNION ALL
                    SELECT 1 AS tk_sign, new_rows."work_id", new_rows."stars" FROM new_rows
                ) AS source
                WHERE source."work_id" IS NOT NULL
            ) AS change;
            RETURN NULL;
        END IF;
        DECLARE
            tk_noted bigint;
        BEGIN
            INSERT INTO {:schema}."tk_pending_archive_work" ("id", "the_count", "the_total")
            SELECT change.tk_key, change."the_count", change."the_total"
            FROM (
                SELECT
                    source."work_id" AS tk_key,
                    coalesce(sum(source.tk_sign) FILTER (WHERE "source"."stars" > 3), 0) AS "the_count",
                    coalesce(sum(source.tk_sign * "source"."stars"::bigint), 0)::bigint AS "the_total"
                FROM (
                    SELECT -1 AS tk_sign, old_rows."work_id", old_rows."stars" FROM old_rows
                    UNION ALL
                    SELECT 1 AS tk_sign, new_rows."work_id", new_rows."stars" FROM new_rows
                ) AS source
                WHERE source."work_id" IS NOT NULL
                GROUP BY source."work_id" ORDER BY tk_key
            ) AS change
            WHERE (change."the_count", change."the_total") <> (0, 0)
              AND (
                    NOT coalesce(current_setting('trigger_kit.purged_8545a5_{:schema_tag}', true), '') = 'on'
                    OR EXISTS (SELECT FROM {archive_work} AS there WHERE there."id" = change.tk_key)
                    OR EXISTS (SELECT FROM {:schema}."tk_pending_archive_work" AS pending WHERE pending."id" = change.tk_key)
                    OR EXISTS (SELECT FROM new_rows AS child WHERE child."work_id" = change.tk_key)
              );
            GET DIAGNOSTICS tk_noted = ROW_COUNT;
            IF tk_noted > 0 THEN
                -- Where this lock is free nobody waits for a notification: none is sent, which would cost every commit.
                IF NOT pg_try_advisory_xact_lock_shared(1868610859874084438) THEN
                    PERFORM pg_notify('tk_pending_archive_work', '');
                END IF;
            END IF;
        END;
        RETURN NULL;
    END;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_work_from_archive_review_update_9f400a"() FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_work_from_archive_review_update_9f400a"() IS 'trigger_kit: keeps archive_work';

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER UPDATE ON {archive_review}
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_archive_work_from_archive_review_update_9f400a"();
