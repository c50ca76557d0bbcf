-- title: port: Before INSERT on Port of call {{x}}: start from the value over no rows, whatever the writer sent.

CREATE OR REPLACE FUNCTION {:schema}."~tk_port_of_call_x_first_06649b"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- Before INSERT on Port of call {{x}}: start from the value over no rows, whatever the writer sent.
-- Written by trigger_kit for the rules of library.Port.
BEGIN
    IF TG_RELID <> {:regclass Port of call %7Bx%7D} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass Port of call %7Bx%7D} THEN PERFORM {:schema}."tk_refuse_v1"(TG_RELID); END IF;
    NEW."arrivals" := 0;
    NEW."order" := 0;
    NEW."miles_in" := 0;
    RETURN NEW;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."~tk_port_of_call_x_first_06649b"() FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."~tk_port_of_call_x_first_06649b"() IS 'trigger_kit: keeps Port of call {{x}}';

CREATE OR REPLACE TRIGGER {:trigger}
    BEFORE INSERT ON {Port of call %7Bx%7D}
    FOR EACH ROW
    WHEN (
        NEW."arrivals" IS DISTINCT FROM 0
        OR NEW."order" IS DISTINCT FROM 0
        OR NEW."miles_in" IS DISTINCT FROM 0
    )
    EXECUTE FUNCTION {:schema}."~tk_port_of_call_x_first_06649b"();
