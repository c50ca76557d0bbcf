-- title: copy: After DELETE on archive_country: bring up to date archive_work (by publisher_id).

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_work_from_archive_country_delete_630a91"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $trigger_kit$
-- After DELETE on archive_country: bring up to date archive_work (by publisher_id).
-- Written by trigger_kit for archive.Work: the_label = Concat("title", Value(", "), "publisher__country__name")
BEGIN
    IF TG_RELID <> {:regclass archive_country} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_country} THEN PERFORM {:schema}."tk_refuse_v1"(TG_RELID); END IF;
    PERFORM {:schema}."tk_archive_work_apply_80f5a9"(array_agg(change.tk_key), NULL::text[])
    FROM (
        SELECT DISTINCT hop_1."number" AS tk_key
        FROM old_rows AS hop_2
        JOIN LATERAL (SELECT * FROM {archive_publisher} AS hop_1 WHERE hop_2."code" = hop_1."country_id" OFFSET 0) AS hop_1 ON true
        WHERE hop_1."number" IS NOT NULL
    ) AS change;
    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_work_from_archive_country_delete_630a91"() FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_work_from_archive_country_delete_630a91"() IS 'trigger_kit: keeps archive_work';

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER DELETE ON {archive_country}
    REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_archive_work_from_archive_country_delete_630a91"();
