-- title: recursion: After INSERT on archive_node: count the source rows that were there first.

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_node_fill_bf0d2c"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- After INSERT on archive_node: count the source rows that were there first.
-- Written by trigger_kit for the rules of archive.Node.
BEGIN
    IF TG_RELID <> {:regclass archive_node} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_node} THEN PERFORM {:schema}."tk_refuse_v1"(TG_RELID); END IF;
    IF EXISTS (
        SELECT FROM new_rows AS inserted
        CROSS JOIN LATERAL (
            SELECT
                ("archive_node"."own" + COALESCE(SUM("T2"."the_total"), 0))::numeric(20, 4) AS "the_total"
            FROM (SELECT inserted.*) AS "archive_node"
            LEFT OUTER JOIN {archive_node} AS "T2" ON ("T2"."parent_id" = "archive_node"."id")
            GROUP BY "archive_node"."id", "archive_node"."own"
            OFFSET 0
        ) AS value_1
        WHERE inserted."the_total" IS DISTINCT FROM value_1."the_total"
    ) THEN
        PERFORM {:schema}."tk_archive_node_recompute_c236de"(array_agg(this."id"), false) FROM new_rows AS this;
    END IF;
    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_node_fill_bf0d2c"() FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_node_fill_bf0d2c"() IS 'trigger_kit: keeps archive_node';

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER INSERT ON {archive_node}
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_archive_node_fill_bf0d2c"();
