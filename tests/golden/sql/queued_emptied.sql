-- title: queued: After TRUNCATE of archive_work: what was pending for its rows goes with them.

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_work_emptied_04c7b7"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- After TRUNCATE of archive_work: what was pending for its rows goes with them.
-- Rules of archive.Work:
--   the_count = Count("reviews", filter=Q(reviews__stars__gt=3))
--   the_total = Sum("reviews__stars", default=0)
-- Written by trigger_kit. To change it, change the rules and run makemigrations.
BEGIN
    DELETE FROM {:schema}."tk_pending_archive_work";
    RETURN NULL;
END;
$trigger_kit$;

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER TRUNCATE ON {archive_work}
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_archive_work_emptied_04c7b7"();
