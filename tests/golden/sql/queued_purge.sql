-- title: queued: After DELETE of archive_work: what was pending for its rows goes with them.

CREATE TABLE {:schema}."tk_pending_archive_work" (
    "id" bigint,
    "the_count" bigint,
    "the_total" bigint
);
CREATE INDEX ON {:schema}."tk_pending_archive_work" ("id");
ALTER TABLE {:schema}."tk_pending_archive_work" REPLICA IDENTITY FULL;
COMMENT ON TABLE {:schema}."tk_pending_archive_work" IS 'trigger_kit: changes that wait to be added to archive_work, by SELECT tk_flush_archive_work()';

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_work_purge_301246"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- After DELETE of archive_work: what was pending for its rows goes with them.
-- Written by trigger_kit for the rules of archive.Work:
--   the_count = Count("reviews", filter=Q(reviews__stars__gt=3))
--   the_total = Sum("reviews__stars", default=0)
BEGIN
    IF TG_RELID <> {:regclass archive_work} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_work} THEN PERFORM {:schema}."tk_refuse_v1"(TG_RELID); END IF;
    DELETE FROM {:schema}."tk_pending_archive_work" AS pending
    WHERE pending."id" = ANY (ARRAY(
        SELECT gone."id"
        FROM old_rows AS gone
        WHERE (SELECT true FROM {archive_work} AS there WHERE there."id" = gone."id" LIMIT 1) IS NULL
    ));
    -- Rows that the database deletes along with them are reported later.
    PERFORM set_config('trigger_kit.purged_8545a5_{:schema_tag}', 'on', true);
    RETURN NULL;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_work_purge_301246"() FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_archive_work_purge_301246"() IS 'trigger_kit: keeps archive_work';

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER DELETE ON {archive_work}
    REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_archive_work_purge_301246"();

SELECT set_config('trigger_kit.is_new', (to_regprocedure($tk_name${:schema}."tk_flush_archive_work"(bigint, boolean)$tk_name$) IS NULL)::text, true);

CREATE OR REPLACE FUNCTION {:schema}."tk_flush_archive_work"(batch bigint DEFAULT NULL, skip_locked boolean DEFAULT false)
RETURNS bigint
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $trigger_kit$
-- Fold what is pending for archive_work: all of it, or all for the targets of so many pending rows. Targets that others have locked are waited for or left out. Returns how many pending rows it took.
-- Written by trigger_kit for the rules of archive.Work:
--   the_count = Count("reviews", filter=Q(reviews__stars__gt=3))
--   the_total = Sum("reviews__stars", default=0)
DECLARE
    tk_depth text;
    tk_outer_depth text := coalesce(current_setting('trigger_kit.depth', true), '');
    tk_taken bigint := 0;
    tk_rows bigint;
    tk_keys bigint[];
BEGIN
    -- What is written below, before anything is locked or read: a migration would wait for both.
    LOCK TABLE {archive_work} IN ROW EXCLUSIVE MODE;
    -- The lock of a target guards its pending rows: what is taken below is all that is committed by then.
    IF skip_locked THEN
        SELECT array_agg(locked.tk_key)
        INTO tk_keys
        FROM (
            SELECT target."id" AS tk_key
            FROM {archive_work} AS target
            WHERE target."id" = ANY (ARRAY(
                SELECT pending."id"
                FROM {:schema}."tk_pending_archive_work" AS pending
                WHERE (SELECT true FROM {archive_work} AS there WHERE there."id" = pending."id" LIMIT 1)
                LIMIT batch
            ))
            ORDER BY target."id"
            FOR NO KEY UPDATE SKIP LOCKED
        ) AS locked;
    ELSE
        SELECT array_agg(locked.tk_key)
        INTO tk_keys
        FROM (
            SELECT target."id" AS tk_key
            FROM {archive_work} AS target
            WHERE target."id" = ANY (ARRAY(
                SELECT pending."id"
                FROM {:schema}."tk_pending_archive_work" AS pending
                WHERE (SELECT true FROM {archive_work} AS there WHERE there."id" = pending."id" LIMIT 1)
                LIMIT batch
            ))
            ORDER BY target."id"
            FOR NO KEY UPDATE
        ) AS locked;
    END IF;
    IF tk_keys IS NOT NULL THEN
        tk_depth := set_config('trigger_kit.depth', pg_trigger_depth()::text, true);
        WITH taken AS (
            DELETE FROM {:schema}."tk_pending_archive_work" AS pending
            WHERE pending."id" = ANY (tk_keys)
            RETURNING pending.*
        ), change AS (
            SELECT
                taken."id" AS tk_key,
                coalesce(sum(taken."the_count"), 0)::bigint AS "the_count",
                coalesce(sum(taken."the_total"), 0)::bigint AS "the_total",
                count(*) AS tk_rows
            FROM taken
            GROUP BY taken."id"
        ), written AS (
            UPDATE {archive_work} AS target -- archive.Work:the_count, archive.Work:the_total
            SET
                "the_count" = target."the_count" + change."the_count",
                "the_total" = target."the_total" + change."the_total"
            FROM change
            WHERE target."id" = change.tk_key
              AND (change."the_count" <> 0
                OR change."the_total" <> 0)
        )
        SELECT coalesce(sum(change.tk_rows), 0) INTO tk_rows FROM change;
        tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);
        tk_taken := tk_taken + tk_rows;
    END IF;
    RETURN tk_taken;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_flush_archive_work"(bigint, boolean) FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_flush_archive_work"(bigint, boolean) IS 'trigger_kit: keeps archive_work';

DO $trigger_kit$
DECLARE
    tk_role text;
BEGIN
    FOR tk_role IN
        SELECT CASE WHEN acl.grantee = 0 THEN 'PUBLIC' ELSE acl.grantee::regrole::text END
        FROM pg_proc AS function
        CROSS JOIN aclexplode(coalesce(function.proacl, acldefault('f', function.proowner))) AS acl
        WHERE function.oid = $tk_name${:schema}."tk_flush_archive_work"(bigint, boolean)$tk_name$::regprocedure AND acl.grantee <> function.proowner
          AND (acl.grantee = 0 OR current_setting('trigger_kit.is_new') = 'true')
    LOOP
        EXECUTE $tk_role$REVOKE ALL ON FUNCTION {:schema}."tk_flush_archive_work"(bigint, boolean) FROM $tk_role$ || tk_role;
    END LOOP;
END;
$trigger_kit$;

DO $trigger_kit$
BEGIN
    IF EXISTS (
        SELECT FROM pg_proc AS function JOIN pg_class AS target ON target.relnamespace = function.pronamespace
        WHERE function.proname = 'tk_exact_archive_work'
          AND target.oid = {:regclass archive_work}
          AND replace(pg_get_function_result(function.oid), '"', '') <> 'TABLE(id bigint, the_count integer, the_total numeric)'
    ) THEN
        DROP VIEW IF EXISTS {:schema}."tk_exact_archive_work";
        DROP FUNCTION {:schema}."tk_exact_archive_work"();
    END IF;
END;
$trigger_kit$;

SELECT set_config('trigger_kit.is_new', (to_regprocedure($tk_name${:schema}."tk_exact_archive_work"()$tk_name$) IS NULL)::text, true);

CREATE OR REPLACE FUNCTION {:schema}."tk_exact_archive_work"()
RETURNS TABLE("id" bigint, "the_count" integer, "the_total" numeric)
LANGUAGE sql
STABLE
AS $trigger_kit$
SELECT
    target."id",
    (target."the_count" + coalesce((
        SELECT sum(pending."the_count") FROM {:schema}."tk_pending_archive_work" AS pending
        WHERE pending."id" = target."id"
    ), 0))::integer,
    (target."the_total" + coalesce((
        SELECT sum(pending."the_total") FROM {:schema}."tk_pending_archive_work" AS pending
        WHERE pending."id" = target."id"
    ), 0))::numeric
FROM {archive_work} AS target
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_exact_archive_work"() FROM PUBLIC;
COMMENT ON FUNCTION {:schema}."tk_exact_archive_work"() IS 'trigger_kit: keeps archive_work';

DO $trigger_kit$
DECLARE
    tk_role text;
BEGIN
    FOR tk_role IN
        SELECT CASE WHEN acl.grantee = 0 THEN 'PUBLIC' ELSE acl.grantee::regrole::text END
        FROM pg_proc AS function
        CROSS JOIN aclexplode(coalesce(function.proacl, acldefault('f', function.proowner))) AS acl
        WHERE function.oid = $tk_name${:schema}."tk_exact_archive_work"()$tk_name$::regprocedure AND acl.grantee <> function.proowner
          AND (acl.grantee = 0 OR current_setting('trigger_kit.is_new') = 'true')
    LOOP
        EXECUTE $tk_role$REVOKE ALL ON FUNCTION {:schema}."tk_exact_archive_work"() FROM $tk_role$ || tk_role;
    END LOOP;
END;
$trigger_kit$;

CREATE OR REPLACE VIEW {:schema}."tk_exact_archive_work" AS SELECT * FROM {:schema}."tk_exact_archive_work"();

DO $trigger_kit$
DECLARE
    tk_reader text;
BEGIN
    FOR tk_reader IN
        SELECT DISTINCT CASE WHEN acl.grantee = 0 THEN 'PUBLIC' ELSE acl.grantee::regrole::text END
        FROM (
            SELECT relacl FROM pg_class WHERE oid = {:regclass archive_work}
            UNION ALL SELECT attacl FROM pg_attribute WHERE attrelid = {:regclass archive_work}
        ) AS given (rights) CROSS JOIN aclexplode(given.rights) AS acl
        WHERE has_column_privilege(acl.grantee, {:regclass archive_work}, 'id', 'SELECT')
          AND has_column_privilege(acl.grantee, {:regclass archive_work}, 'the_count', 'SELECT')
          AND has_column_privilege(acl.grantee, {:regclass archive_work}, 'the_total', 'SELECT')
    LOOP
        EXECUTE $grant$GRANT SELECT ON {:schema}."tk_pending_archive_work", {:schema}."tk_exact_archive_work" TO $grant$ || tk_reader;
        EXECUTE $grant$GRANT EXECUTE ON FUNCTION {:schema}."tk_exact_archive_work"() TO $grant$ || tk_reader;
    END LOOP;
END;
$trigger_kit$;
