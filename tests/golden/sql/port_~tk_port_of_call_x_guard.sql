-- title: port: Lock rows of Port of call {{x}}, and count them; note those that are missing, for each of some places.

CREATE OR REPLACE FUNCTION {:schema}."tk_port_of_call_x_lock_13e6c1"(tk_keys varchar[], tk_places text[], tk_only_notes boolean)
RETURNS bigint
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $trigger_kit$
-- Lock rows of Port of call {{x}}, and count them; note those that are missing, for each of some places.
DECLARE
    tk_found bigint := 0;
BEGIN
    IF NOT tk_only_notes THEN
        -- Lock in key order, so that two bulk statements cannot deadlock.
        PERFORM FROM {Port of call %7Bx%7D} AS locked
        WHERE locked."PortCode" = ANY (tk_keys) ORDER BY locked."id" FOR NO KEY UPDATE;
        GET DIAGNOSTICS tk_found = ROW_COUNT;
        IF current_setting('transaction_isolation') = 'repeatable read' THEN
            PERFORM set_config('trigger_kit.locking', pg_trigger_depth()::text, true);
            UPDATE {Port of call %7Bx%7D} AS locked SET "id" = locked."id"
            WHERE locked."PortCode" = ANY (tk_keys);
            PERFORM set_config('trigger_kit.locking', '', true);
        END IF;
    END IF;
    IF tk_places IS NOT NULL AND tk_found < cardinality(tk_keys) THEN
        INSERT INTO {:schema}."tk_waiting" (target, place, key)
        SELECT 'Port of call {{x}}', place, ARRAY[child.tk_key::text]
        FROM unnest(tk_keys) AS child (tk_key) CROSS JOIN unnest(tk_places) AS place
        WHERE NOT EXISTS (SELECT FROM {Port of call %7Bx%7D} AS parent WHERE parent."PortCode" = child.tk_key);
        IF FOUND THEN PERFORM {:schema}."tk_waits_v1"({:regclass tk_waiting}, 'Port of call {{x}}'::text); END IF;
    END IF;
    RETURN tk_found;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_port_of_call_x_lock_13e6c1"(varchar[], text[], boolean) FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_port_of_call_x_lock_13e6c1"(varchar[], text[], boolean) IS 'trigger_kit: writes Port of call {{x}}';

CREATE OR REPLACE FUNCTION {:schema}."tk_port_of_call_x_recompute_fd907e"(tk_keys bigint[])
RETURNS void
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $trigger_kit$
-- Compute locked rows of Port of call {{x}} afresh; later steps of this statement must not add what they hold.
-- Written by trigger_kit for the rules of library.Port:arrivals, miles_in.
DECLARE
    tk_depth text;
    tk_outer_depth text := coalesce(current_setting('trigger_kit.depth', true), '');
BEGIN
    PERFORM {:schema}."tk_mark_v1"('filled_fa056e'::text);
    tk_depth := set_config('trigger_kit.depth', pg_trigger_depth()::text, true);
    UPDATE {Port of call %7Bx%7D} AS target -- library.Port:arrivals, library.Port:miles_in
    SET
        "arrivals" = value_1."arrivals",
        "miles_in" = value_1."miles_in"
    FROM {Port of call %7Bx%7D} AS this
    CROSS JOIN LATERAL (
        SELECT
            count(*) FILTER (WHERE NOT "source"."cancelled") AS "arrivals",
            coalesce(sum("source"."group"), 0) AS "miles_in"
        FROM {select} AS source
        WHERE source."destination_id" = this."PortCode"
    ) AS value_1
    WHERE target."id" = this."id"
      AND this."id" = ANY (tk_keys)
      AND (
            target."arrivals" IS DISTINCT FROM value_1."arrivals"
            OR target."miles_in" IS DISTINCT FROM value_1."miles_in"
      );
    tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_port_of_call_x_recompute_fd907e"(bigint[]) FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_port_of_call_x_recompute_fd907e"(bigint[]) IS 'trigger_kit: writes Port of call {{x}}';

CREATE OR REPLACE FUNCTION {:schema}."tk_port_of_call_x_recompute_5df2d6"(tk_keys bigint[])
RETURNS void
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $trigger_kit$
-- Compute locked rows of Port of call {{x}} afresh; later steps of this statement must not add what they hold.
-- Written by trigger_kit for the rules of library.Port:departures.
DECLARE
    tk_depth text;
    tk_outer_depth text := coalesce(current_setting('trigger_kit.depth', true), '');
BEGIN
    PERFORM {:schema}."tk_mark_v1"('filled_fa056e'::text);
    tk_depth := set_config('trigger_kit.depth', pg_trigger_depth()::text, true);
    UPDATE {Port of call %7Bx%7D} AS target -- library.Port:departures
    SET "order" = value_1."order"
    FROM {Port of call %7Bx%7D} AS this
    CROSS JOIN LATERAL (SELECT count(*) AS "order" FROM {select} AS source WHERE source."From" = this."PortCode") AS value_1
    WHERE target."id" = this."id"
      AND this."id" = ANY (tk_keys)
      AND target."order" IS DISTINCT FROM value_1."order";
    tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_port_of_call_x_recompute_5df2d6"(bigint[]) FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_port_of_call_x_recompute_5df2d6"(bigint[]) IS 'trigger_kit: writes Port of call {{x}}';

CREATE OR REPLACE FUNCTION {:schema}."tk_port_of_call_x_apply_7bbb98"(
    tk_keys varchar[], tk_by_order bigint[], tk_by_arrivals bigint[], tk_by_miles_in numeric[], tk_recompute boolean,
    tk_places text[]
)
RETURNS void
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $trigger_kit$
-- Add differences to rows of Port of call {{x}}, locked first; compute them afresh where these do not hold.
-- Written by trigger_kit for the rules of library.Port:departures, arrivals, miles_in.
DECLARE
    tk_is_paused boolean := {:schema}."tk_is_paused_v1"('Port of call {{x}}'::text);
    tk_found bigint;
    tk_added bigint;
    tk_depth text;
    tk_outer_depth text := coalesce(current_setting('trigger_kit.depth', true), '');
BEGIN
    IF tk_keys IS NULL THEN RETURN; END IF;
    tk_found := {:schema}."tk_port_of_call_x_lock_13e6c1"(tk_keys, tk_places, tk_is_paused);
    IF tk_is_paused THEN
        -- Note which were touched, for the repair at the end of the pause.
        INSERT INTO {:schema}."tk_touched" (target, key_column, key)
        SELECT 'Port of call {{x}}', 'PortCode', touched.tk_key::text FROM unnest(tk_keys) AS touched (tk_key);
        RETURN;
    END IF;
    IF NOT tk_recompute THEN
        tk_depth := set_config('trigger_kit.depth', pg_trigger_depth()::text, true);
        UPDATE {Port of call %7Bx%7D} AS target -- library.Port:departures, library.Port:arrivals, library.Port:miles_in
        SET
            "order" = target."order" + change."order",
            "arrivals" = target."arrivals" + change."arrivals",
            "miles_in" = target."miles_in" + change."miles_in"
        FROM unnest(tk_keys, tk_by_order, tk_by_arrivals, tk_by_miles_in) AS change (tk_key, "order", "arrivals", "miles_in")
        WHERE target."PortCode" = change.tk_key
          AND NOT coalesce(target."order", 0) + change."order" < 0
          AND NOT coalesce(target."arrivals", 0) + change."arrivals" < 0;
        GET DIAGNOSTICS tk_added = ROW_COUNT;
        tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);
        -- Rows that leave before their arrival is counted: no count is negative, not even for a moment.
        tk_recompute := tk_added < tk_found;
    END IF;
    IF tk_recompute THEN
        PERFORM {:schema}."tk_port_of_call_x_recompute_fd907e"(array_agg(this."id")) FROM {Port of call %7Bx%7D} AS this WHERE this."PortCode" = ANY (tk_keys);
        PERFORM {:schema}."tk_port_of_call_x_recompute_5df2d6"(array_agg(this."id")) FROM {Port of call %7Bx%7D} AS this WHERE this."PortCode" = ANY (tk_keys);
    END IF;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_port_of_call_x_apply_7bbb98"(varchar[], bigint[], bigint[], numeric[], boolean, text[]) FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_port_of_call_x_apply_7bbb98"(varchar[], bigint[], bigint[], numeric[], boolean, text[]) IS 'trigger_kit: writes Port of call {{x}}';

CREATE OR REPLACE FUNCTION {:schema}."~tk_port_of_call_x_guard_36f2f9"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- Before UPDATE on Port of call {{x}}: only maintenance writes the kept columns.
-- Written by trigger_kit for the rules of library.Port:
--   arrivals = Count("coming", filter=Q(coming__cancelled=False))
--   order = Count("leaving")
--   miles_in = Sum("coming__miles", default=0)
BEGIN
    IF TG_RELID <> {:regclass Port of call %7Bx%7D} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass Port of call %7Bx%7D} THEN PERFORM {:schema}."tk_refuse_v1"(TG_RELID); END IF;
    -- Maintenance says at which trigger depth it writes; everybody else meets the guard.
    IF current_setting('trigger_kit.depth', true) IS DISTINCT FROM (pg_trigger_depth() - 1)::text AND (
        NEW."arrivals" IS DISTINCT FROM OLD."arrivals"
        OR NEW."order" IS DISTINCT FROM OLD."order"
        OR NEW."miles_in" IS DISTINCT FROM OLD."miles_in"
    ) THEN
        IF NEW."miles_in" IS DISTINCT FROM OLD."miles_in" THEN
            RAISE EXCEPTION USING MESSAGE = 'The column of library.Port:miles_in is kept by trigger_kit and cannot be written.',
                      ERRCODE = 'integrity_constraint_violation',
                      HINT = 'Leave the column out of the UPDATE: its value follows from other rows.',
                      SCHEMA = TG_TABLE_SCHEMA,
                      TABLE = TG_TABLE_NAME,
                      COLUMN = 'miles_in';
        END IF;
        NEW."arrivals" := OLD."arrivals";
        NEW."order" := OLD."order";
    END IF;
    -- Steps of this statement would add to the new key, or take off, what it never held: they recompute.
    IF NEW."PortCode" IS DISTINCT FROM OLD."PortCode" THEN
        PERFORM {:schema}."tk_mark_v1"('fresh_fa056e'::text), {:schema}."tk_mark_v1"('filled_fa056e'::text);
    END IF;
    RETURN NEW;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."~tk_port_of_call_x_guard_36f2f9"() FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."~tk_port_of_call_x_guard_36f2f9"() IS 'trigger_kit: keeps Port of call {{x}}';

CREATE OR REPLACE TRIGGER {:trigger}
    BEFORE UPDATE ON {Port of call %7Bx%7D}
    FOR EACH ROW
    EXECUTE FUNCTION {:schema}."~tk_port_of_call_x_guard_36f2f9"();
