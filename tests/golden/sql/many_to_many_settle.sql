-- title: many_to_many: At the end of a transaction: compute what follows for archive_work from rows that came meanwhile.

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_work_settle_25e6d0"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- At the end of a transaction: compute what follows for archive_work from rows that came meanwhile.
-- Rules of archive.Work:
--   the_count = Count("tags", filter=Q(tags__active=True))
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
    IF current_setting('trigger_kit.waiting_8545a5_{:schema_tag}', true) IS DISTINCT FROM 'on' THEN
        RETURN NULL;
    END IF;
    PERFORM set_config('trigger_kit.waiting_8545a5_{:schema_tag}', '', true);

    -- Rows of archive_work_tags that came before their archive_work.
    DECLARE
        tk_parents bigint[];
    BEGIN
        WITH settled AS (
            DELETE FROM {:schema}."tk_waiting" AS noted
            WHERE noted.transaction = pg_current_xact_id()
              AND noted.target = 'archive_work' AND noted.place = '30c6f5'
            RETURNING noted.key
        )
        SELECT array_agg(settled.key[1]::bigint)
        INTO tk_parents
        FROM settled;
        IF tk_parents IS NOT NULL THEN
            -- Lock in key order, so that two bulk statements cannot deadlock.
            PERFORM
            FROM {archive_work} AS locked
            WHERE locked."id" = ANY (tk_parents)
            ORDER BY locked."id"
            FOR NO KEY UPDATE;
            IF current_setting('transaction_isolation') = 'repeatable read' THEN
                PERFORM set_config('trigger_kit.locking', pg_trigger_depth()::text, true);
                UPDATE {archive_work} AS locked
                SET "id" = locked."id"
                WHERE locked."id" = ANY (tk_parents);
                PERFORM set_config('trigger_kit.locking', '', true);
            END IF;
            PERFORM set_config('trigger_kit.filled_8545a5', extract(epoch FROM statement_timestamp())::text, true);
            tk_depth := set_config('trigger_kit.depth', pg_trigger_depth()::text, true);
            UPDATE {archive_work} AS target -- archive.Work:the_count
            SET
                "the_count" = value_1."the_count"
            FROM {archive_work} AS this
            CROSS JOIN LATERAL (
                SELECT
                    count("hop_1"."tag_id") FILTER (WHERE "hop_2"."active") AS "the_count"
                FROM {archive_work_tags} AS hop_1
                JOIN {archive_tag} AS hop_2
                    ON hop_2."id" = hop_1."tag_id"
                WHERE hop_1."work_id" = this."id"
            ) AS value_1
            WHERE target."id" = this."id"
            AND this."id" = ANY (tk_parents)
            AND (
                target."the_count" IS DISTINCT FROM value_1."the_count"
            );
            tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);
            IF current_setting('transaction_isolation') = 'repeatable read' AND EXISTS (
                SELECT FROM {archive_work_tags} AS child
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

    -- Rows of archive_work_tags that came before their archive_tag.
    DECLARE
        tk_parents bigint[];
        tk_keys bigint[];
    BEGIN
        WITH settled AS (
            DELETE FROM {:schema}."tk_waiting" AS noted
            WHERE noted.transaction = pg_current_xact_id()
              AND noted.target = 'archive_work' AND noted.place = '3fd59e'
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
                    hop_1."work_id" AS tk_key
                FROM (SELECT * FROM {archive_tag} AS this WHERE this."id" = ANY (tk_parents)) AS hop_2
                JOIN LATERAL (
                    SELECT * FROM {archive_work_tags} AS hop_1
                    WHERE hop_2."id" = hop_1."tag_id"
                    OFFSET 0
                ) AS hop_1 ON true
            ) AS touched
            WHERE touched.tk_key IS NOT NULL;
            IF tk_keys IS NOT NULL THEN
                -- Lock in key order, so that two bulk statements cannot deadlock.
                PERFORM
                FROM {archive_work} AS locked
                WHERE locked."id" = ANY (tk_keys)
                ORDER BY locked."id"
                FOR NO KEY UPDATE;
                IF current_setting('transaction_isolation') = 'repeatable read' THEN
                    PERFORM set_config('trigger_kit.locking', pg_trigger_depth()::text, true);
                    UPDATE {archive_work} AS locked
                    SET "id" = locked."id"
                    WHERE locked."id" = ANY (tk_keys);
                    PERFORM set_config('trigger_kit.locking', '', true);
                END IF;
                PERFORM set_config('trigger_kit.filled_8545a5', extract(epoch FROM statement_timestamp())::text, true);
                tk_depth := set_config('trigger_kit.depth', pg_trigger_depth()::text, true);
                UPDATE {archive_work} AS target -- archive.Work:the_count
                SET
                    "the_count" = value_1."the_count"
                FROM {archive_work} AS this
                CROSS JOIN LATERAL (
                    SELECT
                        count("hop_1"."tag_id") FILTER (WHERE "hop_2"."active") AS "the_count"
                    FROM {archive_work_tags} AS hop_1
                    JOIN {archive_tag} AS hop_2
                        ON hop_2."id" = hop_1."tag_id"
                    WHERE hop_1."work_id" = this."id"
                ) AS value_1
                WHERE target."id" = this."id"
                AND this."id" = ANY (tk_keys)
                AND (
                    target."the_count" IS DISTINCT FROM value_1."the_count"
                );
                tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);
            END IF;
            IF current_setting('transaction_isolation') = 'repeatable read' AND EXISTS (
                SELECT FROM {archive_work_tags} AS child
                WHERE (child."tag_id") IN (SELECT * FROM unnest(tk_parents))
                  AND NOT EXISTS (SELECT FROM {archive_tag} AS parent
                                  WHERE parent."id" = child."tag_id")
            ) THEN
                RAISE EXCEPTION USING
                    MESSAGE = 'A row of archive_tag was inserted by a concurrent transaction.',
                    ERRCODE = 'serialization_failure',
                    HINT = 'Try the transaction again.';
            END IF;
        END IF;
    END;

    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_work_settle_25e6d0"() FROM PUBLIC;

DROP TRIGGER IF EXISTS {:trigger} ON {tk_waiting};

CREATE CONSTRAINT TRIGGER {:trigger}
    AFTER INSERT ON {tk_waiting}
    DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW
    WHEN (NEW.target = 'archive_work')
    EXECUTE FUNCTION {:schema}."tk_archive_work_settle_25e6d0"();
