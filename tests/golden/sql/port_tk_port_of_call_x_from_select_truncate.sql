-- title: port: After TRUNCATE of select: its rows count for nothing any more.

CREATE OR REPLACE FUNCTION {:schema}."tk_port_of_call_x_from_select_truncate_ef2322"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- After TRUNCATE of select: its rows count for nothing any more.
-- Rules of library.Port:
--   order = Count("leaving")
--   arrivals = Count("coming", filter=Q(coming__cancelled=False))
--   miles_in = Sum("coming__miles", default=0)
-- Written by trigger_kit. To change it, change the rules and run makemigrations.
DECLARE
    tk_depth text;
    tk_outer_depth text := coalesce(current_setting('trigger_kit.depth', true), '');
BEGIN
    -- This function runs as its owner: not for a table that somebody else has put it on.
    IF TG_RELID <> {:regclass select} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass select} THEN
        RAISE EXCEPTION USING MESSAGE = format('This trigger function is not for %s.', TG_RELID::regclass),
                  ERRCODE = 'insufficient_privilege';
    END IF;
    -- TRUNCATE takes rows away that this snapshot does not show, and with them what targets count.
    IF current_setting('transaction_isolation') IN ('repeatable read', 'serializable')
        AND pg_relation_size({:regclass Port of call %7Bx%7D}) > 0
    THEN
        RAISE EXCEPTION USING MESSAGE = 'TRUNCATE of select cannot keep library.Port:departures, library.Port:arrivals, library.Port:miles_in at this isolation level.',
                  ERRCODE = 'feature_not_supported',
                  HINT = 'Use READ COMMITTED for it, or DELETE.';
    END IF;

    PERFORM
    FROM {Port of call %7Bx%7D} AS target
    WHERE target."order" IS DISTINCT FROM 0
       OR target."arrivals" IS DISTINCT FROM 0
       OR target."miles_in" IS DISTINCT FROM 0
    ORDER BY target."id"
    FOR NO KEY UPDATE;

    tk_depth := set_config('trigger_kit.depth', pg_trigger_depth()::text, true);
    UPDATE {Port of call %7Bx%7D} AS target -- library.Port:departures, library.Port:arrivals, library.Port:miles_in
    SET "order" = 0,
        "arrivals" = 0,
        "miles_in" = 0
    WHERE target."order" IS DISTINCT FROM 0
       OR target."arrivals" IS DISTINCT FROM 0
       OR target."miles_in" IS DISTINCT FROM 0;
    tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);

    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_port_of_call_x_from_select_truncate_ef2322"() FROM PUBLIC;

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER TRUNCATE ON {select}
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_port_of_call_x_from_select_truncate_ef2322"();
