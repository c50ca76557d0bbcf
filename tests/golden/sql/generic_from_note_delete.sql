-- title: generic: After DELETE on archive_note: add the difference to archive_work (by id).

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_work_from_archive_note_delete_cd6e75"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $trigger_kit$
-- After DELETE on archive_note: add the difference to archive_work (by id).
-- Written by trigger_kit for archive.Work: the_total = Sum("notes__weight", default=0)
DECLARE
    tk_recompute boolean := {:schema}."tk_is_marked_v1"('filled_8545a5'::text) OR {:schema}."tk_is_marked_v1"('fresh_8545a5'::text);
BEGIN
    IF TG_RELID <> {:regclass archive_note} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_note} THEN PERFORM {:schema}."tk_refuse_v1"(TG_RELID); END IF;
    IF EXISTS (
        SELECT FROM old_rows AS child
        WHERE child."content_type_id" = (SELECT type.id FROM {django_content_type} AS type WHERE type.app_label = 'archive' AND type.model = 'work')
          AND child."object_id" IS NOT NULL
          AND (
            SELECT true FROM {archive_work} AS parent
            WHERE child."object_id" = parent."id" AND child."content_type_id" = (SELECT type.id FROM {django_content_type} AS type WHERE type.app_label = 'archive' AND type.model = 'work')
            LIMIT 1
            FOR KEY SHARE
        ) IS NULL
    ) THEN
        IF current_setting('transaction_isolation') = 'repeatable read' THEN
            RAISE EXCEPTION USING MESSAGE = 'At REPEATABLE READ, archive.Work:the_total cannot be kept for a row that points at a missing one.',
                      ERRCODE = 'feature_not_supported',
                      HINT = 'Write it at READ COMMITTED or SERIALIZABLE, or add a foreign key to the database.';
        END IF;
        PERFORM pg_advisory_xact_lock(4513436146170507018);
    END IF;
    PERFORM {:schema}."tk_archive_work_apply_a37e70"(array_agg(change.tk_key), array_agg(change."the_total"), tk_recompute, NULL::text[])
    FROM (
        SELECT source."object_id" AS tk_key, -coalesce(sum("source"."weight"), 0) AS "the_total"
        FROM old_rows AS source WHERE source."object_id" IS NOT NULL AND source."content_type_id" = (SELECT type.id FROM {django_content_type} AS type WHERE type.app_label = 'archive' AND type.model = 'work')
        GROUP BY source."object_id" ORDER BY tk_key
    ) AS change
    WHERE tk_recompute OR change."the_total" <> 0;
    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_work_from_archive_note_delete_cd6e75"() FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_work_from_archive_note_delete_cd6e75"() IS 'trigger_kit: keeps archive_work';

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER DELETE ON {archive_note}
    REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_archive_work_from_archive_note_delete_cd6e75"();
