-- title: recursion: At the end of a transaction: compute what follows for archive_node from rows that came meanwhile.

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_node_settle_da2e19"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- At the end of a transaction: compute what follows for archive_node from rows that came meanwhile.
-- Rules of archive.Node:
--   the_total = F("own") + Sum("children__the_total", default=0)
-- Written by trigger_kit. To change it, change the rules and run makemigrations.
DECLARE
    tk_depth text;
    tk_outer_depth text := coalesce(current_setting('trigger_kit.depth', true), '');
BEGIN
    -- This function runs as its owner: not for a table that somebody else has put it on.
    IF TG_RELID <> {:regclass tk_waiting} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass tk_waiting} THEN
        RAISE EXCEPTION USING MESSAGE = format('This trigger function is not for %s.', TG_RELID::regclass),
                  ERRCODE = 'insufficient_privilege';
    END IF;
    -- The first note settles them all; those that come meanwhile say so again.
    IF current_setting('trigger_kit.waiting_401064_{:schema_tag}', true) IS DISTINCT FROM 'on' THEN
        RETURN NULL;
    END IF;
    PERFORM set_config('trigger_kit.waiting_401064_{:schema_tag}', '', true);

    -- Rows of archive_node that came before their archive_node.
    DECLARE
        tk_parents bigint[];
    BEGIN
        WITH settled AS (
            DELETE FROM {:schema}."tk_waiting" AS noted
            WHERE noted.transaction = pg_current_xact_id()
              AND noted.target = 'archive_node' AND noted.place = 'b39405'
            RETURNING noted.key
        )
        SELECT array_agg(settled.key[1]::bigint)
        INTO tk_parents
        FROM settled;
        IF tk_parents IS NOT NULL THEN
            -- Lock in key order, so that two bulk statements cannot deadlock.
            PERFORM
            FROM {archive_node} AS locked
            WHERE locked."id" = ANY (tk_parents)
            ORDER BY locked."id"
            FOR NO KEY UPDATE;
            IF current_setting('transaction_isolation') = 'repeatable read' THEN
                PERFORM set_config('trigger_kit.locking', pg_trigger_depth()::text, true);
                UPDATE {archive_node} AS locked
                SET "id" = locked."id"
                WHERE locked."id" = ANY (tk_parents);
                PERFORM set_config('trigger_kit.locking', '', true);
            END IF;
            PERFORM set_config('trigger_kit.filled_401064', extract(epoch FROM statement_timestamp())::text, true);
            tk_depth := set_config('trigger_kit.depth', pg_trigger_depth()::text, true);
            tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);
            DECLARE
                tk_outer_loop text := coalesce(current_setting('trigger_kit.along_beba31', true), '');
                tk_level integer;
                tk_rows bigint[];
                tk_locked_rows bigint[];
            BEGIN
                LOOP
                    WITH RECURSIVE reached (tk_row, tk_up_1, tk_own_1) AS (
                        SELECT this."id", this."parent_id", this."id"
                        FROM {archive_node} AS this
                        WHERE this."id" = ANY (tk_parents)
                        UNION
                        SELECT this."id", this."parent_id", this."id"
                        FROM reached
                        JOIN LATERAL (
                            SELECT * FROM {archive_node} AS this
                            WHERE this."id" = reached.tk_up_1
                            OFFSET 0
                        ) AS this ON true
                    ),
                    levels (tk_row, tk_own_1, tk_level) AS (
                        SELECT reached.tk_row, reached.tk_own_1, 0
                        FROM reached
                        WHERE NOT EXISTS (SELECT FROM reached AS parent WHERE parent.tk_own_1 = reached.tk_up_1)
                        UNION ALL
                        SELECT reached.tk_row, reached.tk_own_1, levels.tk_level + 1
                        FROM levels JOIN reached ON reached.tk_up_1 = levels.tk_own_1
                    )
                    SELECT
                        array_agg(reached.tk_row ORDER BY levels.tk_level DESC NULLS FIRST, reached.tk_row)
                    INTO tk_rows
                    FROM reached LEFT JOIN levels ON levels.tk_row = reached.tk_row;
                    EXIT WHEN tk_rows IS NOT DISTINCT FROM tk_locked_rows;
                    PERFORM
                    FROM unnest(tk_rows) WITH ORDINALITY AS wanted (tk_row, tk_position)
                    JOIN {archive_node} AS locked ON locked."id" = wanted.tk_row
                    ORDER BY wanted.tk_position
                    FOR NO KEY UPDATE OF locked;
                    IF current_setting('transaction_isolation') = 'repeatable read' THEN
                        PERFORM set_config('trigger_kit.locking', pg_trigger_depth()::text, true);
                        UPDATE {archive_node} AS locked
                        SET "id" = locked."id"
                        WHERE locked."id" = ANY (tk_rows);
                        PERFORM set_config('trigger_kit.locking', '', true);
                    END IF;
                    tk_locked_rows := tk_rows;
                END LOOP;

                tk_depth := set_config('trigger_kit.depth', pg_trigger_depth()::text, true);
                PERFORM set_config('trigger_kit.along_beba31', pg_trigger_depth()::text, true);
                FOR tk_level, tk_rows IN
                    WITH RECURSIVE reached (tk_row, tk_up_1, tk_own_1) AS (
                        SELECT this."id", this."parent_id", this."id"
                        FROM {archive_node} AS this
                        WHERE this."id" = ANY (tk_parents)
                        UNION
                        SELECT this."id", this."parent_id", this."id"
                        FROM reached
                        JOIN LATERAL (
                            SELECT * FROM {archive_node} AS this
                            WHERE this."id" = reached.tk_up_1
                            OFFSET 0
                        ) AS this ON true
                    ),
                    levels (tk_row, tk_own_1, tk_level) AS (
                        SELECT reached.tk_row, reached.tk_own_1, 0
                        FROM reached
                        WHERE NOT EXISTS (SELECT FROM reached AS parent WHERE parent.tk_own_1 = reached.tk_up_1)
                        UNION ALL
                        SELECT reached.tk_row, reached.tk_own_1, levels.tk_level + 1
                        FROM levels JOIN reached ON reached.tk_up_1 = levels.tk_own_1
                    )
                    SELECT levels.tk_level, array_agg(reached.tk_row)
                    FROM reached LEFT JOIN levels ON levels.tk_row = reached.tk_row
                    GROUP BY levels.tk_level ORDER BY levels.tk_level DESC NULLS FIRST
                LOOP
                    IF tk_level IS NULL THEN
                        RAISE EXCEPTION USING MESSAGE = 'A row of archive_node would be its own ancestor, so that archive.Node:the_total would have no value.',
                                  ERRCODE = 'integrity_constraint_violation',
                                  HINT = 'Do not move a row under one of its own descendants.',
                                  SCHEMA = TG_TABLE_SCHEMA,
                                  TABLE = TG_TABLE_NAME;
                    END IF;
                    UPDATE {archive_node} AS target -- archive.Node:the_total
                    SET
                        "the_total" = value_1."the_total"
                    FROM {archive_node} AS this
                    CROSS JOIN LATERAL (
                        SELECT
                            ("archive_node"."own" + COALESCE(SUM("T2"."the_total"), 0))::numeric(20, 4) AS "the_total"
                        FROM (SELECT this.*) AS "archive_node"
                        LEFT OUTER JOIN {archive_node} AS "T2" ON ("T2"."parent_id" = "archive_node"."id")
                        GROUP BY "archive_node"."id", "archive_node"."own"
                    ) AS value_1
                    WHERE target."id" = this."id"
                    AND this."id" = ANY (tk_rows)
                    AND (
                        target."the_total" IS DISTINCT FROM value_1."the_total"
                    );
                END LOOP;
                PERFORM set_config('trigger_kit.along_beba31', tk_outer_loop, true);
                tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);
            END;
            IF current_setting('transaction_isolation') = 'repeatable read' AND EXISTS (
                SELECT FROM {archive_node} AS child
                WHERE (child."parent_id") IN (SELECT * FROM unnest(tk_parents))
                  AND NOT EXISTS (SELECT FROM {archive_node} AS parent
                                  WHERE child."parent_id" = parent."id")
            ) THEN
                RAISE EXCEPTION USING
                    MESSAGE = 'A row of archive_node was inserted by a concurrent transaction.',
                    ERRCODE = 'serialization_failure',
                    HINT = 'Try the transaction again.';
            END IF;
        END IF;
    END;

    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_node_settle_da2e19"() FROM PUBLIC;

DROP TRIGGER IF EXISTS {:trigger} ON {tk_waiting};

CREATE CONSTRAINT TRIGGER {:trigger}
    AFTER INSERT ON {tk_waiting}
    DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW
    WHEN (NEW.target = 'archive_node')
    EXECUTE FUNCTION {:schema}."tk_archive_node_settle_da2e19"();
