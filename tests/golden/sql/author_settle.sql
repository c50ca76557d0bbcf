-- title: author: At the end of a transaction: compute what follows for library_author from rows that came meanwhile.

CREATE OR REPLACE FUNCTION {:schema}."tk_library_author_settle_efa00a"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- At the end of a transaction: compute what follows for library_author from rows that came meanwhile.
-- Written by trigger_kit for the rules of library.Author.
DECLARE
    tk_parent_1s bigint[];
BEGIN
    IF TG_RELID <> {:regclass tk_waiting} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass tk_waiting} THEN PERFORM {:schema}."tk_refuse_v1"(TG_RELID); END IF;
    -- What is noted from now on is looked at again.
    PERFORM FROM {:schema}."tk_arrived_v1"({:regclass tk_waiting}, 'library_author'::text, ''::text);
    -- Rows of library_book that came before their library_author.
    SELECT array_agg(settled.key[1]::bigint) INTO tk_parent_1s FROM {:schema}."tk_arrived_v1"({:regclass tk_waiting}, 'library_author'::text, '441c33'::text) AS settled (key);
    IF tk_parent_1s IS NOT NULL THEN
        PERFORM {:schema}."tk_library_author_lock_423827"(tk_parent_1s, NULL::text[], false);
        PERFORM {:schema}."tk_library_author_recompute_12b95b"(tk_parent_1s);
        IF current_setting('transaction_isolation') = 'repeatable read' AND EXISTS (
            SELECT FROM {library_book} AS child WHERE child."author_id" = ANY (tk_parent_1s) AND NOT EXISTS (SELECT FROM {library_author} AS parent WHERE child."author_id" = parent."id")
        ) THEN
            RAISE EXCEPTION USING MESSAGE = 'A row of library_author was inserted by a concurrent transaction.',
                      ERRCODE = 'serialization_failure', HINT = 'Try the transaction again.';
        END IF;
    END IF;
    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_library_author_settle_efa00a"() FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_library_author_settle_efa00a"() IS 'trigger_kit: keeps library_author';

DROP TRIGGER IF EXISTS {:trigger} ON {tk_waiting};

CREATE CONSTRAINT TRIGGER {:trigger}
    AFTER INSERT ON {tk_waiting}
    DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW
    WHEN (NEW.target = 'library_author' AND NEW.place = '')
    EXECUTE FUNCTION {:schema}."tk_library_author_settle_efa00a"();
