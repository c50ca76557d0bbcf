-- title: port: At the end of a transaction: compute what follows for Port of call {{x}} from rows that came meanwhile.

CREATE OR REPLACE FUNCTION {:schema}."tk_port_of_call_x_settle_5e2018"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- At the end of a transaction: compute what follows for Port of call {{x}} from rows that came meanwhile.
-- Written by trigger_kit for the rules of library.Port.
DECLARE
    tk_parent_1s varchar[];
    tk_parent_2s varchar[];
BEGIN
    IF TG_RELID <> {:regclass tk_waiting} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass tk_waiting} THEN PERFORM {:schema}."tk_refuse_v1"(TG_RELID); END IF;
    -- What is noted from now on is looked at again.
    PERFORM FROM {:schema}."tk_arrived_v1"({:regclass tk_waiting}, 'Port of call {{x}}'::text, ''::text);
    -- Rows of select that came before their Port of call {x}.
    SELECT array_agg(settled.key[1]::varchar) INTO tk_parent_1s FROM {:schema}."tk_arrived_v1"({:regclass tk_waiting}, 'Port of call {{x}}'::text, 'f0234a'::text) AS settled (key);
    IF tk_parent_1s IS NOT NULL THEN
        PERFORM {:schema}."tk_port_of_call_x_lock_13e6c1"(tk_parent_1s, NULL::text[], false);
        PERFORM {:schema}."tk_port_of_call_x_recompute_fd907e"(array_agg(this."id")) FROM {Port of call %7Bx%7D} AS this WHERE this."PortCode" = ANY (tk_parent_1s);
        IF current_setting('transaction_isolation') = 'repeatable read' AND EXISTS (
            SELECT FROM {select} AS child WHERE child."destination_id" = ANY (tk_parent_1s) AND NOT EXISTS (SELECT FROM {Port of call %7Bx%7D} AS parent WHERE child."destination_id" = parent."PortCode")
        ) THEN
            RAISE EXCEPTION USING MESSAGE = 'A row of Port of call {{x}} was inserted by a concurrent transaction.',
                      ERRCODE = 'serialization_failure', HINT = 'Try the transaction again.';
        END IF;
    END IF;
    -- Rows of select that came before their Port of call {x}.
    SELECT array_agg(settled.key[1]::varchar) INTO tk_parent_2s FROM {:schema}."tk_arrived_v1"({:regclass tk_waiting}, 'Port of call {{x}}'::text, 'b69951'::text) AS settled (key);
    IF tk_parent_2s IS NOT NULL THEN
        PERFORM {:schema}."tk_port_of_call_x_lock_13e6c1"(tk_parent_2s, NULL::text[], false);
        PERFORM {:schema}."tk_port_of_call_x_recompute_5df2d6"(array_agg(this."id")) FROM {Port of call %7Bx%7D} AS this WHERE this."PortCode" = ANY (tk_parent_2s);
        IF current_setting('transaction_isolation') = 'repeatable read' AND EXISTS (
            SELECT FROM {select} AS child WHERE child."From" = ANY (tk_parent_2s) AND NOT EXISTS (SELECT FROM {Port of call %7Bx%7D} AS parent WHERE child."From" = parent."PortCode")
        ) THEN
            RAISE EXCEPTION USING MESSAGE = 'A row of Port of call {{x}} was inserted by a concurrent transaction.',
                      ERRCODE = 'serialization_failure', HINT = 'Try the transaction again.';
        END IF;
    END IF;
    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_port_of_call_x_settle_5e2018"() FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_port_of_call_x_settle_5e2018"() IS 'trigger_kit: keeps Port of call {{x}}';

DROP TRIGGER IF EXISTS {:trigger} ON {tk_waiting};

CREATE CONSTRAINT TRIGGER {:trigger}
    AFTER INSERT ON {tk_waiting}
    DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW
    WHEN (NEW.target = 'Port of call {{x}}' AND NEW.place = '')
    EXECUTE FUNCTION {:schema}."tk_port_of_call_x_settle_5e2018"();
