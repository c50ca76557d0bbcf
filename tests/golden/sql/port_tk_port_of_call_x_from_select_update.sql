-- title: port: After UPDATE on select: add the difference to Port of call {{x}} (by PortCode).

CREATE OR REPLACE FUNCTION {:schema}."tk_port_of_call_x_from_select_update_d22519"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- After UPDATE on select: add the difference to Port of call {{x}} (by PortCode).
-- Rules of library.Port:
--   order = Count("leaving")
--   arrivals = Count("coming", filter=Q(coming__cancelled=False))
--   miles_in = Sum("coming__miles", default=0)
-- Written by trigger_kit. To change it, change the rules and run makemigrations.
<<delta>>
DECLARE
    tk_is_paused boolean := {:schema}."tk_is_paused_v1"('Port of call {{x}}'::text);
    tk_recompute boolean := false;
BEGIN
    -- This function runs as its owner: not for a table that somebody else has put it on.
    IF TG_RELID <> {:regclass select} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass select} THEN
        RAISE EXCEPTION USING MESSAGE = format('This trigger function is not for %s.', TG_RELID::regclass),
                  ERRCODE = 'insufficient_privilege';
    END IF;
    -- A full value that this very statement has written may hold these rows already.
    IF current_setting('trigger_kit.filled_fa056e', true) <> '' THEN
        tk_recompute := current_setting('trigger_kit.filled_fa056e', true) = extract(epoch FROM statement_timestamp())::text;
    END IF;
    -- A target that this very statement has created never held the rows that leave it.
    IF current_setting('trigger_kit.fresh_fa056e', true) <> '' THEN
        tk_recompute := tk_recompute OR current_setting('trigger_kit.fresh_fa056e', true) = extract(epoch FROM statement_timestamp())::text;
    END IF;

    <<deltas>>
    DECLARE
        tk_keys varchar[];
        "order" bigint[];
        "arrivals" bigint[];
        "miles_in" numeric[];
    BEGIN
        IF tk_recompute THEN
            SELECT array_agg(touched.tk_key ORDER BY touched.tk_key)
            INTO tk_keys
            FROM (
                SELECT source."From" AS tk_key
                FROM old_rows AS source
                UNION
                SELECT source."From" AS tk_key
                FROM new_rows AS source
                UNION
                SELECT source."destination_id" AS tk_key
                FROM old_rows AS source
                UNION
                SELECT source."destination_id" AS tk_key
                FROM new_rows AS source
            ) AS touched
            WHERE touched.tk_key IS NOT NULL;
        ELSE
            -- One change per target, in key order; targets that do not change are left out.
            SELECT
                array_agg(change.tk_key),
                array_agg(change."order"),
                array_agg(change."arrivals"),
                array_agg(change."miles_in")
            INTO tk_keys, "order", "arrivals", "miles_in"
            FROM (
                SELECT
                    fed.tk_key,
                    sum(fed."order")::bigint AS "order",
                    sum(fed."arrivals")::bigint AS "arrivals",
                    sum(fed."miles_in")::numeric AS "miles_in"
                FROM (
                    SELECT
                        source."From" AS tk_key,
                        sum(source.tk_sign) AS "order",
                        0 AS "arrivals",
                        0 AS "miles_in"
                    FROM (
                        SELECT -1 AS tk_sign, old_rows."From" FROM old_rows
                        UNION ALL
                        SELECT 1 AS tk_sign, new_rows."From" FROM new_rows
                    ) AS source
                    WHERE source."From" IS NOT NULL
                    GROUP BY source."From"
                    UNION ALL
                    SELECT
                        source."destination_id" AS tk_key,
                        0 AS "order",
                        coalesce(sum(source.tk_sign) FILTER (WHERE NOT "source"."cancelled"), 0) AS "arrivals",
                        coalesce(sum(source.tk_sign * "source"."group"::numeric), 0) AS "miles_in"
                    FROM (
                        SELECT -1 AS tk_sign, old_rows."destination_id", old_rows."cancelled", old_rows."group" FROM old_rows
                        UNION ALL
                        SELECT 1 AS tk_sign, new_rows."destination_id", new_rows."cancelled", new_rows."group" FROM new_rows
                    ) AS source
                    WHERE source."destination_id" IS NOT NULL
                    GROUP BY source."destination_id"
                ) AS fed
                GROUP BY fed.tk_key
                ORDER BY tk_key
            ) AS change
            WHERE change."order" <> 0
               OR change."arrivals" <> 0
               OR change."miles_in" <> 0;
        END IF;
        PERFORM {:schema}."tk_port_of_call_x_apply_e246ed"(tk_keys, deltas."order", deltas."arrivals", deltas."miles_in", tk_recompute, tk_is_paused, ARRAY['b69951', 'f0234a']::text[]);
        RETURN NULL;
    END;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_port_of_call_x_from_select_update_d22519"() FROM PUBLIC;

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER UPDATE ON {select}
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_port_of_call_x_from_select_update_d22519"();
