-- title: port: Before INSERT on Port of call {{x}}: steps of this statement would take off rows that a new row never held, and so they recompute.

CREATE OR REPLACE FUNCTION {:schema}."tk_port_of_call_x_fresh_84d503"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- Before INSERT on Port of call {{x}}: steps of this statement would take off rows that a new row never held, and so they recompute.
-- Written by trigger_kit for the rules of library.Port.
BEGIN
    IF TG_RELID <> {:regclass Port of call %7Bx%7D} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass Port of call %7Bx%7D} THEN PERFORM {:schema}."tk_refuse_v1"(TG_RELID); END IF;
    PERFORM {:schema}."tk_mark_v1"('fresh_fa056e'::text);
    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_port_of_call_x_fresh_84d503"() FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_port_of_call_x_fresh_84d503"() IS 'trigger_kit: keeps Port of call {{x}}';

CREATE OR REPLACE TRIGGER {:trigger}
    BEFORE INSERT ON {Port of call %7Bx%7D}
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_port_of_call_x_fresh_84d503"();
