-- title: port: After INSERT on select: add the difference to Port of call {{x}} (by PortCode).

CREATE OR REPLACE FUNCTION {:schema}."tk_port_of_call_x_from_select_insert_9f1a36"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- After INSERT on select: add the difference to Port of call {{x}} (by PortCode).
-- Rules of library.Port:
--   order = Count("leaving")
--   arrivals = Count("coming", filter=Q(coming__cancelled=False))
--   miles_in = Sum("coming__miles", default=0)
-- Written by trigger_kit. To change it, change the rules and run makemigrations.
<<delta>>
DECLARE
    tk_is_paused boolean := {:schema}."tk_is_paused_v1"('Port of call {{x}}');
    tk_depth text;
    tk_outer_depth text := coalesce(current_setting('trigger_kit.depth', true), '');
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

    <<deltas>>
    DECLARE
        tk_keys varchar[];
        "order" bigint[];
        "arrivals" bigint[];
        "miles_in" numeric[];
        tk_plans text;
        tk_outer_plans text := current_setting('plan_cache_mode');
        tk_outer_seqscan text := current_setting('enable_seqscan');
        tk_found bigint;
    BEGIN
        -- One plan for arrays of any length, by index: planning anew would take longer than most statements.
        tk_plans := set_config('plan_cache_mode', 'force_generic_plan', true);
        tk_plans := set_config('enable_seqscan', 'off', true);
        IF tk_is_paused THEN
            -- Paused: note which targets were touched, for the repair at the end of the pause.
            SELECT array_agg(touched.tk_key)
            INTO tk_keys
            FROM (
                SELECT source."From" AS tk_key
                FROM new_rows AS source
                UNION
                SELECT source."destination_id" AS tk_key
                FROM new_rows AS source
            ) AS touched
            WHERE touched.tk_key IS NOT NULL;
            INSERT INTO {:schema}."tk_touched" (target, key_column, key)
            SELECT 'Port of call {{x}}', 'PortCode', touched.tk_key::text
            FROM unnest(tk_keys) AS touched (tk_key);
            -- Targets that are missing may come from another transaction: see tk_waiting.
            DECLARE
                tk_noted bigint;
            BEGIN
                INSERT INTO {:schema}."tk_waiting" (target, place, key)
                SELECT 'Port of call {{x}}', 'b69951', ARRAY[child.tk_key::text]
                FROM unnest(tk_keys) AS child (tk_key)
                WHERE NOT EXISTS (
                    SELECT FROM {Port of call %7Bx%7D} AS parent
                    WHERE parent."PortCode" = child.tk_key
                );
                GET DIAGNOSTICS tk_noted = ROW_COUNT;
                IF tk_noted > 0 THEN
                    PERFORM set_config('trigger_kit.waiting_fa056e_{:schema_tag}', 'on', true);
                END IF;
            END;
            DECLARE
                tk_noted bigint;
            BEGIN
                INSERT INTO {:schema}."tk_waiting" (target, place, key)
                SELECT 'Port of call {{x}}', 'f0234a', ARRAY[child.tk_key::text]
                FROM unnest(tk_keys) AS child (tk_key)
                WHERE NOT EXISTS (
                    SELECT FROM {Port of call %7Bx%7D} AS parent
                    WHERE parent."PortCode" = child.tk_key
                );
                GET DIAGNOSTICS tk_noted = ROW_COUNT;
                IF tk_noted > 0 THEN
                    PERFORM set_config('trigger_kit.waiting_fa056e_{:schema_tag}', 'on', true);
                END IF;
            END;
            tk_plans := set_config('plan_cache_mode', tk_outer_plans, true);
            tk_plans := set_config('enable_seqscan', tk_outer_seqscan, true);
            RETURN NULL;
        END IF;

        IF tk_recompute THEN
            SELECT array_agg(touched.tk_key ORDER BY touched.tk_key)
            INTO tk_keys
            FROM (
                SELECT source."From" AS tk_key
                FROM new_rows AS source
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
                        count(*) AS "order",
                        0 AS "arrivals",
                        0 AS "miles_in"
                    FROM new_rows AS source
                    WHERE source."From" IS NOT NULL
                    GROUP BY source."From"
                    UNION ALL
                    SELECT
                        source."destination_id" AS tk_key,
                        0 AS "order",
                        count(*) FILTER (WHERE NOT "source"."cancelled") AS "arrivals",
                        coalesce(sum("source"."group"), 0) AS "miles_in"
                    FROM new_rows AS source
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

        IF tk_keys IS NULL THEN
            tk_plans := set_config('plan_cache_mode', tk_outer_plans, true);
            tk_plans := set_config('enable_seqscan', tk_outer_seqscan, true);
            RETURN NULL;
        END IF;

        -- Lock in key order, so that two bulk statements cannot deadlock.
        PERFORM
        FROM {Port of call %7Bx%7D} AS locked
        WHERE locked."PortCode" = ANY (tk_keys)
        ORDER BY locked."id"
        FOR NO KEY UPDATE;
        GET DIAGNOSTICS tk_found = ROW_COUNT;
        IF current_setting('transaction_isolation') = 'repeatable read' THEN
            PERFORM set_config('trigger_kit.locking', pg_trigger_depth()::text, true);
            UPDATE {Port of call %7Bx%7D} AS locked
            SET "id" = locked."id"
            WHERE locked."PortCode" = ANY (tk_keys);
            PERFORM set_config('trigger_kit.locking', '', true);
        END IF;
        -- Targets that are missing may come from another transaction: see tk_waiting.
        IF tk_found < cardinality(tk_keys) THEN
            DECLARE
                tk_noted bigint;
            BEGIN
                INSERT INTO {:schema}."tk_waiting" (target, place, key)
                SELECT 'Port of call {{x}}', 'b69951', ARRAY[child.tk_key::text]
                FROM unnest(tk_keys) AS child (tk_key)
                WHERE NOT EXISTS (
                    SELECT FROM {Port of call %7Bx%7D} AS parent
                    WHERE parent."PortCode" = child.tk_key
                );
                GET DIAGNOSTICS tk_noted = ROW_COUNT;
                IF tk_noted > 0 THEN
                    PERFORM set_config('trigger_kit.waiting_fa056e_{:schema_tag}', 'on', true);
                END IF;
            END;
            DECLARE
                tk_noted bigint;
            BEGIN
                INSERT INTO {:schema}."tk_waiting" (target, place, key)
                SELECT 'Port of call {{x}}', 'f0234a', ARRAY[child.tk_key::text]
                FROM unnest(tk_keys) AS child (tk_key)
                WHERE NOT EXISTS (
                    SELECT FROM {Port of call %7Bx%7D} AS parent
                    WHERE parent."PortCode" = child.tk_key
                );
                GET DIAGNOSTICS tk_noted = ROW_COUNT;
                IF tk_noted > 0 THEN
                    PERFORM set_config('trigger_kit.waiting_fa056e_{:schema_tag}', 'on', true);
                END IF;
            END;
        END IF;

        tk_depth := set_config('trigger_kit.depth', pg_trigger_depth()::text, true);
        IF NOT tk_recompute THEN
            UPDATE {Port of call %7Bx%7D} AS target -- library.Port:departures, library.Port:arrivals, library.Port:miles_in
            SET
                "order" = target."order" + change."order",
                "arrivals" = target."arrivals" + change."arrivals",
                "miles_in" = target."miles_in" + change."miles_in"
            FROM unnest(tk_keys, deltas."order", deltas."arrivals", deltas."miles_in")
                AS change (tk_key, "order", "arrivals", "miles_in")
            WHERE target."PortCode" = change.tk_key;
        END IF;
        IF tk_recompute THEN
            PERFORM set_config('trigger_kit.filled_fa056e', extract(epoch FROM statement_timestamp())::text, true);
            UPDATE {Port of call %7Bx%7D} AS target -- library.Port:departures, library.Port:arrivals, library.Port:miles_in
            SET
                "order" = value_1."order",
                "arrivals" = value_2."arrivals",
                "miles_in" = value_2."miles_in"
            FROM {Port of call %7Bx%7D} AS this
            CROSS JOIN LATERAL (
                SELECT
                    count(*) AS "order"
                FROM {select} AS source
                WHERE source."From" = this."PortCode"
            ) AS value_1
            CROSS JOIN LATERAL (
                SELECT
                    count(*) FILTER (WHERE NOT "source"."cancelled") AS "arrivals",
                    coalesce(sum("source"."group"), 0) AS "miles_in"
                FROM {select} AS source
                WHERE source."destination_id" = this."PortCode"
            ) AS value_2
            WHERE target."id" = this."id"
            AND this."PortCode" = ANY (tk_keys)
            AND (
                target."order" IS DISTINCT FROM value_1."order"
                OR target."arrivals" IS DISTINCT FROM value_2."arrivals"
                OR target."miles_in" IS DISTINCT FROM value_2."miles_in"
            );
        END IF;
        tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);
        tk_plans := set_config('plan_cache_mode', tk_outer_plans, true);
        tk_plans := set_config('enable_seqscan', tk_outer_seqscan, true);
        RETURN NULL;
    END;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_port_of_call_x_from_select_insert_9f1a36"() FROM PUBLIC;

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER INSERT ON {select}
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_port_of_call_x_from_select_insert_9f1a36"();
