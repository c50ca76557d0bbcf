-- title: port: After a changed key on Port of call {{x}}: compute what follows from the rows that point at the new one.

CREATE OR REPLACE FUNCTION {:schema}."tk_port_of_call_x_moved_1dd364"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- After a changed key on Port of call {{x}}: compute what follows from the rows that point at the new one.
-- Written by trigger_kit for the rules of library.Port.
BEGIN
    IF TG_RELID <> {:regclass Port of call %7Bx%7D} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass Port of call %7Bx%7D} THEN PERFORM {:schema}."tk_refuse_v1"(TG_RELID); END IF;
    PERFORM {:schema}."tk_port_of_call_x_recompute_fd907e"(ARRAY[NEW."id"]);
    PERFORM {:schema}."tk_port_of_call_x_recompute_5df2d6"(ARRAY[NEW."id"]);
    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_port_of_call_x_moved_1dd364"() FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_port_of_call_x_moved_1dd364"() IS 'trigger_kit: keeps Port of call {{x}}';

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER UPDATE OF "PortCode" ON {Port of call %7Bx%7D}
    FOR EACH ROW
    WHEN (NEW."PortCode" IS DISTINCT FROM OLD."PortCode")
    EXECUTE FUNCTION {:schema}."tk_port_of_call_x_moved_1dd364"();
