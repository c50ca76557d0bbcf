-- title: port: After INSERT on Port of call {{x}}: count the source rows that were there first.

CREATE OR REPLACE FUNCTION {:schema}."tk_port_of_call_x_fill_073f59"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- After INSERT on Port of call {{x}}: count the source rows that were there first.
-- Written by trigger_kit for the rules of library.Port.
BEGIN
    IF TG_RELID <> {:regclass Port of call %7Bx%7D} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass Port of call %7Bx%7D} THEN PERFORM {:schema}."tk_refuse_v1"(TG_RELID); END IF;
    IF EXISTS (
        SELECT FROM new_rows AS inserted WHERE (SELECT true FROM {select} AS source WHERE source."destination_id" = inserted."PortCode" LIMIT 1)
           OR (SELECT true FROM {select} AS source WHERE source."From" = inserted."PortCode" LIMIT 1)
    ) THEN
        PERFORM {:schema}."tk_port_of_call_x_recompute_fd907e"(array_agg(this."id")) FROM new_rows AS this;
        PERFORM {:schema}."tk_port_of_call_x_recompute_5df2d6"(array_agg(this."id")) FROM new_rows AS this;
    END IF;
    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_port_of_call_x_fill_073f59"() FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_port_of_call_x_fill_073f59"() IS 'trigger_kit: keeps Port of call {{x}}';

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER INSERT ON {Port of call %7Bx%7D}
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_port_of_call_x_fill_073f59"();
