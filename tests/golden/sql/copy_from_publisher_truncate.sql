-- title: copy: After TRUNCATE of archive_publisher: its rows count for nothing any more.

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_work_from_archive_publisher_truncate_bca9ea"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- After TRUNCATE of archive_publisher: its rows count for nothing any more.
-- Rules of archive.Work:
--   the_label = Concat("title", Value(", "), "publisher__country__name")
-- Written by trigger_kit. To change it, change the rules and run makemigrations.
DECLARE
    tk_depth text;
    tk_outer_depth text := coalesce(current_setting('trigger_kit.depth', true), '');
BEGIN
    -- This function runs as its owner: not for a table that somebody else has put it on.
    IF TG_RELID <> {:regclass archive_publisher} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_publisher} THEN
        RAISE EXCEPTION USING MESSAGE = format('This trigger function is not for %s.', TG_RELID::regclass),
                  ERRCODE = 'insufficient_privilege';
    END IF;
    -- TRUNCATE takes rows away that this snapshot does not show, and with them what targets count.
    IF current_setting('transaction_isolation') IN ('repeatable read', 'serializable')
        AND pg_relation_size({:regclass archive_work}) > 0
    THEN
        RAISE EXCEPTION USING MESSAGE = 'TRUNCATE of archive_publisher cannot keep archive.Work:the_label at this isolation level.',
                  ERRCODE = 'feature_not_supported',
                  HINT = 'Use READ COMMITTED for it, or DELETE.';
    END IF;

    tk_depth := set_config('trigger_kit.depth', pg_trigger_depth()::text, true);
    UPDATE {archive_work} AS target -- archive.Work:the_label
    SET
        "the_label" = value_1."the_label"
    FROM {archive_work} AS this
    CROSS JOIN LATERAL (
        SELECT
            (COALESCE("archive_work"."title", '') || COALESCE((COALESCE(', ', '') || COALESCE("archive_country"."name", '')), ''))::text AS "the_label"
        FROM (SELECT this.*) AS "archive_work"
        LEFT OUTER JOIN {archive_publisher} AS "archive_publisher" ON ("archive_publisher"."number" = "archive_work"."publisher_id")
        LEFT OUTER JOIN {archive_country} AS "archive_country" ON ("archive_country"."code" = "archive_publisher"."country_id")
    ) AS value_1
    WHERE target."id" = this."id"
    AND (
        target."the_label" IS DISTINCT FROM value_1."the_label"
    );
    tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);

    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_work_from_archive_publisher_truncate_bca9ea"() FROM PUBLIC;

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER TRUNCATE ON {archive_publisher}
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_archive_work_from_archive_publisher_truncate_bca9ea"();
