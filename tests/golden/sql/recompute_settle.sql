-- title: recompute: At the end of a transaction: compute what follows for archive_publisher from rows that came meanwhile.

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_publisher_settle_18b5a4"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- At the end of a transaction: compute what follows for archive_publisher from rows that came meanwhile.
-- Rules of archive.Publisher:
--   kept_list = ArrayAgg("works__title", order_by=["works__title", "works__id"])
--   kept_text = First("works__title", order_by="-works__day")
--   the_flag = Exists("works", filter=Q(works__published=True))
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
            UPDATE {archive_publisher} AS target -- archive.Publisher:kept_text, archive.Publisher:the_flag, archive.Publisher:kept_list
            SET
                "kept_text" = value_1."kept_text",
                "the_flag" = value_1."the_flag",
                "kept_list" = value_2."kept_list"
            FROM {archive_publisher} AS this
            CROSS JOIN LATERAL (
                SELECT
                    (
                        SELECT "source"."title"
                        FROM {archive_work} AS source
                        WHERE source."publisher_id" = this."number"
                        ORDER BY "source"."day" DESC, "source"."id" ASC
                        LIMIT 1
                    )::text AS "kept_text",
                    (EXISTS (
                        SELECT
                        FROM {archive_work} AS source
                        WHERE source."publisher_id" = this."number"
                          AND "source"."published"
                    ))::boolean AS "the_flag"
            ) AS value_1
            CROSS JOIN LATERAL (
                SELECT
                    (ARRAY_AGG("archive_work"."title" ORDER BY "archive_work"."title", "archive_work"."id"))::text[] AS "kept_list"
                FROM (SELECT this.*) AS "archive_publisher"
                LEFT OUTER JOIN {archive_work} AS "archive_work" ON ("archive_work"."publisher_id" = "archive_publisher"."number")
                GROUP BY "archive_publisher"."id"
            ) AS value_2
            WHERE target."id" = this."id"
            AND this."number" = ANY (tk_parents)
            AND (
                target."kept_text" IS DISTINCT FROM value_1."kept_text"
                OR target."the_flag" IS DISTINCT FROM value_1."the_flag"
                OR target."kept_list" IS DISTINCT FROM value_2."kept_list"
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
