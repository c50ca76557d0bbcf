-- title: average: After TRUNCATE of archive_work: its rows count for nothing any more.

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_publisher_from_archive_work_truncate_46d08c"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- After TRUNCATE of archive_work: its rows count for nothing any more.
-- Rules of archive.Publisher:
--   kept_amount = Avg("works__pages")
--   kept_number = Sum("works__pages")
--   the_count = Count("works__pages")
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
    -- TRUNCATE takes rows away that this snapshot does not show, and with them what targets count.
    IF current_setting('transaction_isolation') IN ('repeatable read', 'serializable')
        AND pg_relation_size({:regclass archive_publisher}) > 0
    THEN
        RAISE EXCEPTION USING MESSAGE = 'TRUNCATE of archive_work cannot keep archive.Publisher:kept_amount, archive.Publisher:kept_number, archive.Publisher:the_count at this isolation level.',
                  ERRCODE = 'feature_not_supported',
                  HINT = 'Use READ COMMITTED for it, or DELETE.';
    END IF;

    PERFORM
    FROM {archive_publisher} AS target
    WHERE target."kept_amount" IS DISTINCT FROM NULL
       OR target."kept_number" IS DISTINCT FROM NULL
       OR target."the_count" IS DISTINCT FROM 0
    ORDER BY target."id"
    FOR NO KEY UPDATE;

    tk_depth := set_config('trigger_kit.depth', pg_trigger_depth()::text, true);
    UPDATE {archive_publisher} AS target -- archive.Publisher:kept_amount, archive.Publisher:kept_number, archive.Publisher:the_count
    SET "kept_amount" = NULL,
        "kept_number" = NULL,
        "the_count" = 0
    WHERE target."kept_amount" IS DISTINCT FROM NULL
       OR target."kept_number" IS DISTINCT FROM NULL
       OR target."the_count" IS DISTINCT FROM 0;
    tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);

    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_publisher_from_archive_work_truncate_46d08c"() FROM PUBLIC;

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER TRUNCATE ON {archive_work}
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_archive_publisher_from_archive_work_truncate_46d08c"();
