-- title: path: At the end of a transaction: compute what follows for archive_publisher from rows that came meanwhile.

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_publisher_settle_18b5a4"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- At the end of a transaction: compute what follows for archive_publisher from rows that came meanwhile.
-- Rules of archive.Publisher:
--   the_total = Sum("works__reviews__stars", default=0)
-- Written by trigger_kit. To change it, change the rules and run makemigrations.
DECLARE
    tk_depth text;
    tk_outer_depth text := coalesce(current_setting('trigger_kit.depth', true), '');
BEGIN
    -- This function runs as its owner: not for a table that somebody else has put it on.
    IF TG_RELID <> {:regclass tk_waiting} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass tk_waiting} THEN
        RAISE EXCEPTION USING MESSAGE = format('This trigger function is not for %s.', TG_RELID::regclass),
                  ERRCODE = 'insufficient_privilege';
    END IF;
    -- The first note settles them all; those that come meanwhile say so again.
    IF current_setting('trigger_kit.waiting_f5afcb_{:schema_tag}', true) IS DISTINCT FROM 'on' THEN
        RETURN NULL;
    END IF;
    PERFORM set_config('trigger_kit.waiting_f5afcb_{:schema_tag}', '', true);

    -- Rows of archive_work that came before their archive_publisher.
    DECLARE
        tk_parents bigint[];
    BEGIN
        WITH settled AS (
            DELETE FROM {:schema}."tk_waiting" AS noted
            WHERE noted.transaction = pg_current_xact_id()
              AND noted.target = 'archive_publisher' AND noted.place = 'd507ea'
            RETURNING noted.key
        )
        SELECT array_agg(settled.key[1]::bigint)
        INTO tk_parents
        FROM settled;
        IF tk_parents IS NOT NULL THEN
            -- Lock in key order, so that two bulk statements cannot deadlock.
            PERFORM
            FROM {archive_publisher} AS locked
            WHERE locked."number" = ANY (tk_parents)
            ORDER BY locked."id"
            FOR NO KEY UPDATE;
            IF current_setting('transaction_isolation') = 'repeatable read' THEN
                PERFORM set_config('trigger_kit.locking', pg_trigger_depth()::text, true);
                UPDATE {archive_publisher} AS locked
                SET "id" = locked."id"
                WHERE locked."number" = ANY (tk_parents);
                PERFORM set_config('trigger_kit.locking', '', true);
            END IF;
            PERFORM set_config('trigger_kit.filled_f5afcb', extract(epoch FROM statement_timestamp())::text, true);
            tk_depth := set_config('trigger_kit.depth', pg_trigger_depth()::text, true);
            UPDATE {archive_publisher} AS target -- archive.Publisher:the_total
            SET
                "the_total" = value_1."the_total"
            FROM {archive_publisher} AS this
            CROSS JOIN LATERAL (
                SELECT
                    coalesce(sum("hop_2"."stars"), 0) AS "the_total"
                FROM {archive_work} AS hop_1
                JOIN {archive_review} AS hop_2
                    ON hop_2."work_id" = hop_1."id"
                WHERE hop_1."publisher_id" = this."number"
            ) AS value_1
            WHERE target."id" = this."id"
            AND this."number" = ANY (tk_parents)
            AND (
                target."the_total" IS DISTINCT FROM value_1."the_total"
            );
            tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);
            IF current_setting('transaction_isolation') = 'repeatable read' AND EXISTS (
                SELECT FROM {archive_work} AS child
                WHERE (child."publisher_id") IN (SELECT * FROM unnest(tk_parents))
                  AND NOT EXISTS (SELECT FROM {archive_publisher} AS parent
                                  WHERE child."publisher_id" = parent."number")
            ) THEN
                RAISE EXCEPTION USING
                    MESSAGE = 'A row of archive_publisher was inserted by a concurrent transaction.',
                    ERRCODE = 'serialization_failure',
                    HINT = 'Try the transaction again.';
            END IF;
        END IF;
    END;

    -- Rows of archive_review that came before their archive_work.
    DECLARE
        tk_parents bigint[];
        tk_keys bigint[];
    BEGIN
        WITH settled AS (
            DELETE FROM {:schema}."tk_waiting" AS noted
            WHERE noted.transaction = pg_current_xact_id()
              AND noted.target = 'archive_publisher' AND noted.place = '686adc'
            RETURNING noted.key
        )
        SELECT array_agg(settled.key[1]::bigint)
        INTO tk_parents
        FROM settled;
        IF tk_parents IS NOT NULL THEN
            SELECT array_agg(touched.tk_key)
            INTO tk_keys
            FROM (
                SELECT DISTINCT
                    source."publisher_id" AS tk_key
                FROM (SELECT * FROM {archive_work} AS this WHERE this."id" = ANY (tk_parents)) AS source
            ) AS touched
            WHERE touched.tk_key IS NOT NULL;
            IF tk_keys IS NOT NULL THEN
                -- Lock in key order, so that two bulk statements cannot deadlock.
                PERFORM
                FROM {archive_publisher} AS locked
                WHERE locked."number" = ANY (tk_keys)
                ORDER BY locked."id"
                FOR NO KEY UPDATE;
                IF current_setting('transaction_isolation') = 'repeatable read' THEN
                    PERFORM set_config('trigger_kit.locking', pg_trigger_depth()::text, true);
                    UPDATE {archive_publisher} AS locked
                    SET "id" = locked."id"
                    WHERE locked."number" = ANY (tk_keys);
                    PERFORM set_config('trigger_kit.locking', '', true);
                END IF;
                PERFORM set_config('trigger_kit.filled_f5afcb', extract(epoch FROM statement_timestamp())::text, true);
                tk_depth := set_config('trigger_kit.depth', pg_trigger_depth()::text, true);
                UPDATE {archive_publisher} AS target -- archive.Publisher:the_total
                SET
                    "the_total" = value_1."the_total"
                FROM {archive_publisher} AS this
                CROSS JOIN LATERAL (
                    SELECT
                        coalesce(sum("hop_2"."stars"), 0) AS "the_total"
                    FROM {archive_work} AS hop_1
                    JOIN {archive_review} AS hop_2
                        ON hop_2."work_id" = hop_1."id"
                    WHERE hop_1."publisher_id" = this."number"
                ) AS value_1
                WHERE target."id" = this."id"
                AND this."number" = ANY (tk_keys)
                AND (
                    target."the_total" IS DISTINCT FROM value_1."the_total"
                );
                tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);
            END IF;
            IF current_setting('transaction_isolation') = 'repeatable read' AND EXISTS (
                SELECT FROM {archive_review} AS child
                WHERE (child."work_id") IN (SELECT * FROM unnest(tk_parents))
                  AND NOT EXISTS (SELECT FROM {archive_work} AS parent
                                  WHERE child."work_id" = parent."id")
            ) THEN
                RAISE EXCEPTION USING
                    MESSAGE = 'A row of archive_work was inserted by a concurrent transaction.',
                    ERRCODE = 'serialization_failure',
                    HINT = 'Try the transaction again.';
            END IF;
        END IF;
    END;

    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_publisher_settle_18b5a4"() FROM PUBLIC;

DROP TRIGGER IF EXISTS {:trigger} ON {tk_waiting};

CREATE CONSTRAINT TRIGGER {:trigger}
    AFTER INSERT ON {tk_waiting}
    DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW
    WHEN (NEW.target = 'archive_publisher')
    EXECUTE FUNCTION {:schema}."tk_archive_publisher_settle_18b5a4"();
