-- title: queued: After TRUNCATE of archive_review: its rows count for nothing any more.

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_work_from_archive_review_truncate_8ab5ec"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- After TRUNCATE of archive_review: its rows count for nothing any more.
-- Written by trigger_kit for the rules of archive.Work:
--   the_count = Count("reviews", filter=Q(reviews__stars__gt=3))
--   the_total = Sum("reviews__stars", default=0)
DECLARE
    tk_depth text;
    tk_outer_depth text := coalesce(current_setting('trigger_kit.depth', true), '');
BEGIN
    IF TG_RELID <> {:regclass archive_review} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_review} THEN PERFORM {:schema}."tk_refuse_v1"(TG_RELID); END IF;
    PERFORM {:schema}."tk_require_read_committed_v1"({:regclass archive_work}, 'TRUNCATE of archive_review cannot keep archive.Work:the_count, archive.Work:the_total at this isolation level.'::text);
    PERFORM FROM {archive_work} AS target
    WHERE target."the_count" IS DISTINCT FROM 0
       OR target."the_total" IS DISTINCT FROM 0
       OR (SELECT true FROM {:schema}."tk_pending_archive_work" AS pending WHERE pending."id" = target."id" LIMIT 1)
    ORDER BY target."id" FOR NO KEY UPDATE;
    UPDATE {:schema}."tk_pending_archive_work" AS pending
    SET "the_count" = NULL, "the_total" = NULL
    WHERE pending."the_count" IS NOT NULL OR pending."the_total" IS NOT NULL;
    tk_depth := set_config('trigger_kit.depth', pg_trigger_depth()::text, true);
    UPDATE {archive_work} AS target -- archive.Work:the_count, archive.Work:the_total
    SET "the_count" = 0,
        "the_total" = 0
    WHERE target."the_count" IS DISTINCT FROM 0
       OR target."the_total" IS DISTINCT FROM 0;
    tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);
    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_work_from_archive_review_truncate_8ab5ec"() FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_work_from_archive_review_truncate_8ab5ec"() IS 'trigger_kit: keeps archive_work';

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER TRUNCATE ON {archive_review}
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_archive_work_from_archive_review_truncate_8ab5ec"();
