-- title: copy: At the end of a transaction: compute what follows for archive_work from rows that came meanwhile.

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_work_settle_25e6d0"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $trigger_kit$
-- At the end of a transaction: compute what follows for archive_work from rows that came meanwhile.
-- Written by trigger_kit for the rules of archive.Work.
DECLARE
    tk_parent_1s bigint[];
    tk_key_1s bigint[];
    tk_parent_2s varchar[];
    tk_key_2s bigint[];
BEGIN
    IF TG_RELID <> {:regclass tk_waiting} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass tk_waiting} THEN PERFORM {:schema}."tk_refuse_v1"(TG_RELID); END IF;
    -- What is noted from now on is looked at again.
    PERFORM FROM {:schema}."tk_arrived_v1"({:regclass tk_waiting}, 'archive_work'::text, ''::text);
    -- Rows of archive_work that came before their archive_publisher.
    SELECT array_agg(settled.key[1]::bigint) INTO tk_parent_1s FROM {:schema}."tk_arrived_v1"({:regclass tk_waiting}, 'archive_work'::text, 'd75feb'::text) AS settled (key);
    IF tk_parent_1s IS NOT NULL THEN
        PERFORM {:schema}."tk_archive_work_hold_archive_country_9e39dd"(array_agg(hop_1."country_id"))
        FROM (SELECT * FROM {archive_publisher} AS this WHERE this."number" = ANY (tk_parent_1s)) AS hop_1;
        SELECT array_agg(touched.tk_key_1)
        INTO tk_key_1s
        FROM (
            SELECT DISTINCT
                source."number" AS tk_key_1
            FROM (SELECT * FROM {archive_publisher} AS this WHERE this."number" = ANY (tk_parent_1s)) AS source
        ) AS touched
        WHERE touched.tk_key_1 IS NOT NULL;
        IF tk_key_1s IS NOT NULL THEN
            PERFORM {:schema}."tk_archive_work_lock_71eb5b"(tk_key_1s, NULL::text[], false);
            PERFORM {:schema}."tk_archive_work_recompute_b848b2"(array_agg(this."id")) FROM {archive_work} AS this WHERE this."publisher_id" = ANY (tk_key_1s);
        END IF;
        IF current_setting('transaction_isolation') = 'repeatable read' AND EXISTS (
            SELECT FROM {archive_work} AS child WHERE child."publisher_id" = ANY (tk_parent_1s) AND NOT EXISTS (SELECT FROM {archive_publisher} AS parent WHERE parent."number" = child."publisher_id")
        ) THEN
            RAISE EXCEPTION USING MESSAGE = 'A row of archive_publisher was inserted by a concurrent transaction.',
                      ERRCODE = 'serialization_failure', HINT = 'Try the transaction again.';
        END IF;
    END IF;
    -- Rows of archive_publisher that came before their archive_country.
    SELECT array_agg(settled.key[1]::varchar) INTO tk_parent_2s FROM {:schema}."tk_arrived_v1"({:regclass tk_waiting}, 'archive_work'::text, 'f20afb'::text) AS settled (key);
    IF tk_parent_2s IS NOT NULL THEN
        SELECT array_agg(touched.tk_key_2)
        INTO tk_key_2s
        FROM (
            SELECT DISTINCT
                hop_1."number" AS tk_key_2
            FROM (SELECT * FROM {archive_country} AS this WHERE this."code" = ANY (tk_parent_2s)) AS hop_2
            JOIN LATERAL (SELECT * FROM {archive_publisher} AS hop_1 WHERE hop_2."code" = hop_1."country_id" OFFSET 0) AS hop_1 ON true
        ) AS touched
        WHERE touched.tk_key_2 IS NOT NULL;
        IF tk_key_2s IS NOT NULL THEN
            PERFORM {:schema}."tk_archive_work_lock_71eb5b"(tk_key_2s, NULL::text[], false);
            PERFORM {:schema}."tk_archive_work_recompute_b848b2"(array_agg(this."id")) FROM {archive_work} AS this WHERE this."publisher_id" = ANY (tk_key_2s);
        END IF;
        IF current_setting('transaction_isolation') = 'repeatable read' AND EXISTS (
            SELECT FROM {archive_publisher} AS child WHERE child."country_id" = ANY (tk_parent_2s) AND NOT EXISTS (SELECT FROM {archive_country} AS parent WHERE parent."code" = child."country_id")
        ) THEN
            RAISE EXCEPTION USING MESSAGE = 'A row of archive_country was inserted by a concurrent transaction.',
                      ERRCODE = 'serialization_failure', HINT = 'Try the transaction again.';
        END IF;
    END IF;
    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_work_settle_25e6d0"() FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_work_settle_25e6d0"() IS 'trigger_kit: keeps archive_work';

DROP TRIGGER IF EXISTS {:trigger} ON {tk_waiting};

CREATE CONSTRAINT TRIGGER {:trigger}
    AFTER INSERT ON {tk_waiting}
    DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW
    WHEN (NEW.target = 'archive_work' AND NEW.place = '')
    EXECUTE FUNCTION {:schema}."tk_archive_work_settle_25e6d0"();
