-- title: port: After TRUNCATE of select: its rows count for nothing any more.

CREATE OR REPLACE FUNCTION {:schema}."tk_port_of_call_x_from_select_truncate_ef2322"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- After TRUNCATE of select: its rows count for nothing any more.
-- Written by trigger_kit for the rules of library.Port:
--   order = Count("leaving")
--   arrivals = Count("coming", filter=Q(coming__cancelled=False))
--   miles_in = Sum("coming__miles", default=0)
DECLARE
    tk_depth text;
    tk_outer_depth text := coalesce(current_setting('trigger_kit.depth', true), '');
BEGIN
    IF TG_RELID <> {:regclass select} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass select} THEN PERFORM {:schema}."tk_refuse_v1"(TG_RELID); END IF;
    PERFORM {:schema}."tk_require_read_committed_v1"({:regclass Port of call %7Bx%7D}, 'TRUNCATE of select cannot keep library.Port:departures, library.Port:arrivals, library.Port:miles_in at this isolation level.'::text);
    PERFORM FROM {Port of call %7Bx%7D} AS target
    WHERE target."order" IS DISTINCT FROM 0
       OR target."arrivals" IS DISTINCT FROM 0
       OR target."miles_in" IS DISTINCT FROM 0
    ORDER BY target."id" FOR NO KEY UPDATE;
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
COMMENT ON FUNCTION {:schema}."tk_port_of_call_x_from_select_truncate_ef2322"() IS 'trigger_kit: keeps Port of call {{x}}';

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER TRUNCATE ON {select}
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_port_of_call_x_from_select_truncate_ef2322"();
