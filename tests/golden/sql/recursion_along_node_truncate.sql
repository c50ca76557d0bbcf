-- title: recursion: After TRUNCATE of archive_node: its rows count for nothing any more.

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_node_along_archive_node_truncate_78baf5"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- After TRUNCATE of archive_node: its rows count for nothing any more.
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
    -- TRUNCATE takes rows away that this snapshot does not show, and with them what targets count.
    IF current_setting('transaction_isolation') IN ('repeatable read', 'serializable')
        AND pg_relation_size({:regclass archive_node}) > 0
    THEN
        RAISE EXCEPTION USING MESSAGE = 'TRUNCATE of archive_node cannot keep archive.Node:the_total at this isolation level.',
                  ERRCODE = 'feature_not_supported',
                  HINT = 'Use READ COMMITTED for it, or DELETE.';
    END IF;

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
    AND (
        target."the_total" IS DISTINCT FROM value_1."the_total"
    );
    tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);

    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_node_along_archive_node_truncate_78baf5"() FROM PUBLIC;

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER TRUNCATE ON {archive_node}
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_archive_node_along_archive_node_truncate_78baf5"();
