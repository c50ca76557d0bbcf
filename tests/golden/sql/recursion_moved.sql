-- title: recursion: After a changed key on archive_node: another transaction may have given it up meanwhile.

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_node_moved_3c1b13"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- After a changed key on archive_node: another transaction may have given it up meanwhile.
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
    tk_depth := set_config('trigger_kit.depth', pg_trigger_depth()::text, true);
    IF NEW."id" IS DISTINCT FROM OLD."id" THEN
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
        AND this."id" = NEW."id"
        AND (
            target."the_total" IS DISTINCT FROM value_1."the_total"
        );
    END IF;
    tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);
    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_node_moved_3c1b13"() FROM PUBLIC;

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER UPDATE OF "id" ON {archive_node}
    FOR EACH ROW
    WHEN (NEW."id" IS DISTINCT FROM OLD."id")
    EXECUTE FUNCTION {:schema}."tk_archive_node_moved_3c1b13"();
