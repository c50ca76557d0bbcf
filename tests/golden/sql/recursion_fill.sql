-- title: recursion: After INSERT on archive_node: count the source rows that were there first.

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_node_fill_bf0d2c"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- After INSERT on archive_node: count the source rows that were there first.
-- Rules of archive.Node:
--   the_total = F("own") + Sum("children__the_total", default=0)
-- Written by trigger_kit. To change it, change the rules and run makemigrations.
DECLARE
    tk_depth text;
    tk_outer_depth text := coalesce(current_setting('trigger_kit.depth', true), '');
BEGIN
    -- This function runs as its owner: not for a table that somebody else has put it on.
    IF TG_RELID <> {:regclass archive_node} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_node} THEN
        RAISE EXCEPTION USING MESSAGE = format('This trigger function is not for %s.', TG_RELID::regclass),
                  ERRCODE = 'insufficient_privilege';
    END IF;
    IF EXISTS (
        SELECT
        FROM new_rows AS inserted
        CROSS JOIN LATERAL (
            SELECT
                ("archive_node"."own" + COALESCE(SUM("T2"."the_total"), 0))::numeric(20, 4) AS "the_total"
            FROM (SELECT inserted.*) AS "archive_node"
            LEFT OUTER JOIN {archive_node} AS "T2" ON ("T2"."parent_id" = "archive_node"."id")
            GROUP BY "archive_node"."id", "archive_node"."own"
            OFFSET 0
        ) AS value_1
        WHERE (SELECT true FROM {archive_node} AS source WHERE source."parent_id" = inserted."id" LIMIT 1)
            OR inserted."the_total" IS DISTINCT FROM value_1."the_total"
    ) THEN
        tk_depth := set_config('trigger_kit.depth', pg_trigger_depth()::text, true);
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
        AND this."id" = ANY (ARRAY(
            SELECT inserted."id"
            FROM new_rows AS inserted
        ))
        AND (
            target."the_total" IS DISTINCT FROM value_1."the_total"
        );
        tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);
    END IF;
    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_node_fill_bf0d2c"() FROM PUBLIC;

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER INSERT ON {archive_node}
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_archive_node_fill_bf0d2c"();
