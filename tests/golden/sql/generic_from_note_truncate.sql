-- title: generic: After TRUNCATE of archive_note: its rows count for nothing any more.

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_work_from_archive_note_truncate_5e6622"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- After TRUNCATE of archive_note: its rows count for nothing any more.
-- Rules of archive.Work:
--   the_total = Sum("notes__weight", default=0)
-- Written by trigger_kit. To change it, change the rules and run makemigrations.
DECLARE
    tk_depth text;
    tk_outer_depth text := coalesce(current_setting('trigger_kit.depth', true), '');
BEGIN
    -- This function runs as its owner: not for a table that somebody else has put it on.
    IF TG_RELID <> {:regclass archive_note} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_note} THEN
        RAISE EXCEPTION USING MESSAGE = format('This trigger function is not for %s.', TG_RELID::regclass),
                  ERRCODE = 'insufficient_privilege';
    END IF;
    -- TRUNCATE takes rows away that this snapshot does not show, and with them what targets count.
    IF current_setting('transaction_isolation') IN ('repeatable read', 'serializable')
        AND pg_relation_size({:regclass archive_work}) > 0
    THEN
        RAISE EXCEPTION USING MESSAGE = 'TRUNCATE of archive_note cannot keep archive.Work:the_total at this isolation level.',
                  ERRCODE = 'feature_not_supported',
                  HINT = 'Use READ COMMITTED for it, or DELETE.';
    END IF;

    PERFORM
    FROM {archive_work} AS target
    WHERE target."the_total" IS DISTINCT FROM 0
    ORDER BY target."id"
    FOR NO KEY UPDATE;

    tk_depth := set_config('trigger_kit.depth', pg_trigger_depth()::text, true);
    UPDATE {archive_work} AS target -- archive.Work:the_total
    SET "the_total" = 0
    WHERE target."the_total" IS DISTINCT FROM 0;
    tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);

    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_work_from_archive_note_truncate_5e6622"() FROM PUBLIC;

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER TRUNCATE ON {archive_note}
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_archive_work_from_archive_note_truncate_5e6622"();
