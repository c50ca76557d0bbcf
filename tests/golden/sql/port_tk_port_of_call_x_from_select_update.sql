-- title: port: After UPDATE on select: add the difference to Port of call {{x}} (by PortCode).

CREATE OR REPLACE FUNCTION {:schema}."tk_port_of_call_x_from_select_update_d22519"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- After UPDATE on select: add the difference to Port of call {{x}} (by PortCode).
-- Written by trigger_kit for the rules of library.Port:
--   order = Count("leaving")
--   arrivals = Count("coming", filter=Q(coming__cancelled=False))
--   miles_in = Sum("coming__miles", default=0)
DECLARE
    tk_recompute boolean := {:schema}."tk_is_marked_v1"('filled_fa056e'::text) OR {:schema}."tk_is_marked_v1"('fresh_fa056e'::text);
BEGIN
    IF TG_RELID <> {:regclass select} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass select} THEN PERFORM {:schema}."tk_refuse_v1"(TG_RELID); END IF;
    PERFORM {:schema}."tk_port_of_call_x_apply_7bbb98"(
        array_agg(change.tk_key), array_agg(change."order"), array_agg(change."arrivals"), array_agg(change."miles_in"),
        tk_recompute, ARRAY['b69951', 'f0234a']::text[]
    )
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
        GROUP BY fed.tk_key ORDER BY tk_key
    ) AS change
    WHERE tk_recompute OR (change."order", change."arrivals", change."miles_in") <> (0, 0, 0);
    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_port_of_call_x_from_select_update_d22519"() FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_port_of_call_x_from_select_update_d22519"() IS 'trigger_kit: keeps Port of call {{x}}';

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER UPDATE ON {select}
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_port_of_call_x_from_select_update_d22519"();
