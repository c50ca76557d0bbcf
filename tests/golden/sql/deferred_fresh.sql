-- title: deferred: Before INSERT on archive_publisher: tell the other triggers that this statement makes new rows.

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_publisher_fresh_76faf4"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- Before INSERT on archive_publisher: tell the other triggers that this statement makes new rows.
-- Rules of archive.Publisher:
--   kept_day = Max("works__day")
--   kept_number = Sum("works__pages")
--   the_count = Count("works")
-- Written by trigger_kit. To change it, change the rules and run makemigrations.
BEGIN
    -- This function runs as its owner: not for a table that somebody else has put it on.
    IF TG_RELID <> {:regclass archive_publisher} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_publisher} THEN
        RAISE EXCEPTION USING MESSAGE = format('This trigger function is not for %s.', TG_RELID::regclass),
                  ERRCODE = 'insufficient_privilege';
    END IF;
    -- Steps of this statement would take off rows that the new value never held: they recompute.
    PERFORM set_config('trigger_kit.fresh_f5afcb', extract(epoch FROM statement_timestamp())::text, true);
    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_publisher_fresh_76faf4"() FROM PUBLIC;

CREATE OR REPLACE TRIGGER {:trigger}
    BEFORE INSERT ON {archive_publisher}
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_archive_publisher_fresh_76faf4"();
