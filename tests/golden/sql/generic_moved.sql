-- title: generic: After a changed key on archive_work: another transaction may have given it up meanwhile.

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_work_moved_91f8c5"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- After a changed key on archive_work: another transaction may have given it up meanwhile.
-- Rules of archive.Work:
--   the_total = Sum("notes__weight", default=0)
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
    tk_depth := set_config('trigger_kit.depth', pg_trigger_depth()::text, true);
    IF NEW."id" IS DISTINCT FROM OLD."id" THEN
        UPDATE {archive_work} AS target -- archive.Work:the_total
        SET
            "the_total" = value_1."the_total"
        FROM {archive_work} AS this
        CROSS JOIN LATERAL (
            SELECT
                coalesce(sum("source"."weight"), 0) AS "the_total"
            FROM {archive_note} AS source
            WHERE source."object_id" = this."id" AND source."content_type_id" = (SELECT type.id FROM {django_content_type} AS type WHERE type.app_label = 'archive' AND type.model = 'work')
        ) AS value_1
        WHERE target."id" = this."id"
        AND this."id" = NEW."id"
        AND (
            target."the_total" IS DISTINCT FROM value_1."the_total"
        );
    END IF;
    tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);
    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_work_moved_91f8c5"() FROM PUBLIC;

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER UPDATE OF "id" ON {archive_work}
    FOR EACH ROW
    WHEN (NEW."id" IS DISTINCT FROM OLD."id")
    EXECUTE FUNCTION {:schema}."tk_archive_work_moved_91f8c5"();
