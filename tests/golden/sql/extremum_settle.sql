-- title: extremum: At the end of a transaction: compute what follows for archive_publisher from rows that came meanwhile.

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_publisher_settle_18b5a4"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- At the end of a transaction: compute what follows for archive_publisher from rows that came meanwhile.
-- Written by trigger_kit for the rules of archive.Publisher.
DECLARE
    tk_parent_1s bigint[];
BEGIN
    IF TG_RELID <> {:regclass tk_waiting} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass tk_waiting} THEN PERFORM {:schema}."tk_refuse_v1"(TG_RELID); END IF;
    -- What is noted from now on is looked at again.
    PERFORM FROM {:schema}."tk_arrived_v1"({:regclass tk_waiting}, 'archive_publisher'::text, ''::text);
    -- Rows of archive_work that came before their archive_publisher.
    SELECT array_agg(settled.key[1]::bigint) INTO tk_parent_1s FROM {:schema}."tk_arrived_v1"({:regclass tk_waiting}, 'archive_publisher'::text, 'd507ea'::text) AS settled (key);
    IF tk_parent_1s IS NOT NULL THEN
        PERFORM {:schema}."tk_archive_publisher_lock_1a0ff8"(tk_parent_1s, NULL::text[], false);
        PERFORM {:schema}."tk_archive_publisher_recompute_7376e0"(array_agg(this."id")) FROM {archive_publisher} AS this WHERE this."number" = ANY (tk_parent_1s);
        IF current_setting('transaction_isolation') = 'repeatable read' AND EXISTS (
            SELECT FROM {archive_work} AS child WHERE child."publisher_id" = ANY (tk_parent_1s) AND NOT EXISTS (SELECT FROM {archive_publisher} AS parent WHERE child."publisher_id" = parent."number")
        ) THEN
            RAISE EXCEPTION USING MESSAGE = 'A row of archive_publisher was inserted by a concurrent transaction.',
                      ERRCODE = 'serialization_failure', HINT = 'Try the transaction again.';
        END IF;
    END IF;
    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_publisher_settle_18b5a4"() FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_publisher_settle_18b5a4"() IS 'trigger_kit: keeps archive_publisher';

DROP TRIGGER IF EXISTS {:trigger} ON {tk_waiting};

CREATE CONSTRAINT TRIGGER {:trigger}
    AFTER INSERT ON {tk_waiting}
    DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW
    WHEN (NEW.target = 'archive_publisher' AND NEW.place = '')
    EXECUTE FUNCTION {:schema}."tk_archive_publisher_settle_18b5a4"();
