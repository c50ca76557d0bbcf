-- title: recursion: Before INSERT on archive_node: start from the value over no rows, whatever the writer sent.

CREATE OR REPLACE FUNCTION {:schema}."~tk_archive_node_first_5fcfa2"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- Before INSERT on archive_node: start from the value over no rows, whatever the writer sent.
-- Written by trigger_kit for the rules of archive.Node.
BEGIN
    IF TG_RELID <> {:regclass archive_node} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_node} THEN PERFORM {:schema}."tk_refuse_v1"(TG_RELID); END IF;
    SELECT value."the_total"
    INTO NEW."the_total"
    FROM (
        SELECT
            ("archive_node"."own" + COALESCE(SUM("T2"."the_total"), 0))::numeric(20, 4) AS "the_total"
        FROM (SELECT NEW.*) AS "archive_node"
        LEFT OUTER JOIN {archive_node} AS "T2" ON ("T2"."parent_id" = "archive_node"."id")
        GROUP BY "archive_node"."id", "archive_node"."own"
    ) AS value;
    RETURN NEW;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."~tk_archive_node_first_5fcfa2"() FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."~tk_archive_node_first_5fcfa2"() IS 'trigger_kit: keeps archive_node';

CREATE OR REPLACE TRIGGER {:trigger}
    BEFORE INSERT ON {archive_node}
    FOR EACH ROW
    EXECUTE FUNCTION {:schema}."~tk_archive_node_first_5fcfa2"();
