-- title: recursion: Before UPDATE on archive_node: only maintenance writes the kept columns.

CREATE OR REPLACE FUNCTION {:schema}."~tk_archive_node_guard_51a7ad"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- Before UPDATE on archive_node: only maintenance writes the kept columns.
-- Rules of archive.Node:
--   the_total = F("own") + Sum("children__the_total", default=0)
-- Written by trigger_kit. To change it, change the rules and run makemigrations.
BEGIN
    -- This function runs as its owner: not for a table that somebody else has put it on.
    IF TG_RELID <> {:regclass archive_node} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_node} THEN
        RAISE EXCEPTION USING MESSAGE = format('This trigger function is not for %s.', TG_RELID::regclass),
                  ERRCODE = 'insufficient_privilege';
    END IF;
    -- Maintenance says at which trigger depth it writes; everybody else meets the guard.
    IF current_setting('trigger_kit.depth', true) IS DISTINCT FROM (pg_trigger_depth() - 1)::text AND (
        NEW."the_total" IS DISTINCT FROM OLD."the_total"
    ) THEN
        NEW."the_total" := OLD."the_total";
    END IF;

    IF NEW."id" IS DISTINCT FROM OLD."id" THEN
        SELECT value."the_total"
        INTO NEW."the_total"
        FROM (
            SELECT
                ("archive_node"."own" + COALESCE(SUM("T2"."the_total"), 0))::numeric(20, 4) AS "the_total"
            FROM (SELECT NEW.*) AS "archive_node"
            LEFT OUTER JOIN {archive_node} AS "T2" ON ("T2"."parent_id" = "archive_node"."id")
            GROUP BY "archive_node"."id", "archive_node"."own"
        ) AS value;
    END IF;
    RETURN NEW;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."~tk_archive_node_guard_51a7ad"() FROM PUBLIC;

CREATE OR REPLACE TRIGGER {:trigger}
    BEFORE UPDATE ON {archive_node}
    FOR EACH ROW
    EXECUTE FUNCTION {:schema}."~tk_archive_node_guard_51a7ad"();
