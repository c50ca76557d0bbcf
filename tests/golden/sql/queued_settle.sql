-- title: queued: At the end of a transaction: compute what follows for archive_work from rows that came meanwhile.

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_work_settle_25e6d0"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- At the end of a transaction: compute what follows for archive_work from rows that came meanwhile.
-- Rules of archive.Work:
--   the_count = Count("reviews", filter=Q(reviews__stars__gt=3))
--   the_total = Sum("reviews__stars", default=0)
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

    -- Rows of archive_review that came before their archive_work.
    DECLARE
        tk_parents bigint[];
    BEGIN
        WITH settled AS (
            DELETE FROM {:schema}."tk_waiting" AS noted
            WHERE noted.transaction = pg_current_xact_id()
              AND noted.target = 'archive_work' AND noted.place = '10db75'
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
            WITH taken_1 AS (
                UPDATE {:schema}."tk_pending_archive_work" AS pending
                SET "the_count" = NULL, "the_total" = NULL
                FROM {archive_work} AS this
                WHERE pending."id" = this."id"
                  AND (pending."the_count" IS NOT NULL OR pending."the_total" IS NOT NULL)
                  AND this."id" = ANY (tk_parents)
            )
            UPDATE {archive_work} AS target -- archive.Work:the_count, archive.Work:the_total
            SET
                "the_count" = value_1."the_count",
                "the_total" = value_1."the_total"
            FROM {archive_work} AS this
            CROSS JOIN LATERAL (
                SELECT
                    count(*) FILTER (WHERE "source"."stars" > 3) AS "the_count",
                    coalesce(sum("source"."stars"), 0) AS "the_total"
                FROM {archive_review} AS source
                WHERE source."work_id" = this."id"
            ) AS value_1
            WHERE target."id" = this."id"
            AND this."id" = ANY (tk_parents)
            AND (
                target."the_count" IS DISTINCT FROM value_1."the_count"
                OR target."the_total" IS DISTINCT FROM value_1."the_total"
            );
            tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);
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
REVOKE ALL ON FUNCTION {:schema}."tk_archive_work_settle_25e6d0"() FROM PUBLIC;

DROP TRIGGER IF EXISTS {:trigger} ON {tk_waiting};

CREATE CONSTRAINT TRIGGER {:trigger}
    AFTER INSERT ON {tk_waiting}
    DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW
    WHEN (NEW.target = 'archive_work')
    EXECUTE FUNCTION {:schema}."tk_archive_work_settle_25e6d0"();
