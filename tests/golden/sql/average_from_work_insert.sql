-- title: average: After INSERT on archive_work: add the difference to archive_publisher (by number).

CREATE OR REPLACE FUNCTION {:schema}."tk_archive_publisher_from_archive_work_insert_ca0ba1"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- After INSERT on archive_work: add the difference to archive_publisher (by number).
-- Rules of archive.Publisher:
--   kept_amount = Avg("works__pages")
--   kept_number = Sum("works__pages")
--   the_count = Count("works__pages")
-- Written by trigger_kit. To change it, change the rules and run makemigrations.
<<delta>>
DECLARE
    tk_is_paused boolean := {:schema}."tk_is_paused_v1"('archive_publisher'::text);
    tk_depth text;
    tk_outer_depth text := coalesce(current_setting('trigger_kit.depth', true), '');
    tk_recompute boolean := false;
    tk_is_one boolean;
    tk_written bigint;
    tk_key integer;
    "kept_number" bigint;
    tk_rows_2 bigint;
    "the_count" bigint;
BEGIN
    -- This function runs as its owner: not for a table that somebody else has put it on.
    IF TG_RELID <> {:regclass archive_work} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {:regclass archive_work} THEN
        RAISE EXCEPTION USING MESSAGE = format('This trigger function is not for %s.', TG_RELID::regclass),
                  ERRCODE = 'insufficient_privilege';
    END IF;
    -- A full value that this very statement has written may hold these rows already.
    IF current_setting('trigger_kit.filled_f5afcb', true) <> '' THEN
        tk_recompute := current_setting('trigger_kit.filled_f5afcb', true) = extract(epoch FROM statement_timestamp())::text;
    END IF;

    -- Most statements change one row: nothing to sum, one UPDATE per target.
    IF NOT tk_is_paused AND NOT tk_recompute THEN
        <<after>>
        DECLARE
            "publisher_id" integer;
            "pages" integer;
        BEGIN
            SELECT
                NOT EXISTS (SELECT FROM new_rows OFFSET 1),
                new_rows."publisher_id", new_rows."pages"
            INTO
                tk_is_one,
                after."publisher_id", after."pages"
            FROM new_rows
            LIMIT 1;
            IF tk_is_one IS NULL THEN
                RETURN NULL;
            END IF;
            IF tk_is_one THEN
                tk_key := after."publisher_id";
                delta."kept_number" := coalesce("after"."pages", 0)::bigint;
                delta.tk_rows_2 := CASE WHEN "after"."pages" IS NOT NULL THEN 1 ELSE 0 END;
                delta."the_count" := CASE WHEN "after"."pages" IS NOT NULL THEN 1 ELSE 0 END;
                IF tk_key IS NULL OR (
                    delta."kept_number" = 0
                    AND delta.tk_rows_2 = 0
                    AND delta."the_count" = 0
                ) THEN
                    RETURN NULL;
                END IF;
                tk_depth := set_config('trigger_kit.depth', pg_trigger_depth()::text, true);
                UPDATE {archive_publisher} AS target -- archive.Publisher:kept_amount, archive.Publisher:kept_number, archive.Publisher:the_count
                SET
                    "kept_amount" = (coalesce(target."kept_number", 0) + delta."kept_number")::numeric / nullif(coalesce(target."the_count", 0) + delta."the_count", 0),
                    "kept_number" = CASE
                        WHEN delta.tk_rows_2 > 0 THEN coalesce(target."kept_number", 0) + delta."kept_number"
                        ELSE target."kept_number" + delta."kept_number"
                    END,
                    "the_count" = target."the_count" + delta."the_count"
                WHERE target."number" = tk_key;
                GET DIAGNOSTICS tk_written = ROW_COUNT;
                tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);
                IF tk_written > 0 THEN
                    RETURN NULL;
                END IF;
            END IF;
        END;
    END IF;

    <<deltas>>
    DECLARE
        tk_keys bigint[];
        "kept_number" bigint[];
        tk_rows_2 bigint[];
        "the_count" bigint[];
    BEGIN
        IF tk_recompute THEN
            SELECT array_agg(touched.tk_key ORDER BY touched.tk_key)
            INTO tk_keys
            FROM (
                SELECT DISTINCT source."publisher_id" AS tk_key
                FROM new_rows AS source
            ) AS touched
            WHERE touched.tk_key IS NOT NULL;
        ELSE
            -- One change per target, in key order; targets that do not change are left out.
            SELECT
                array_agg(change.tk_key),
                array_agg(change."kept_number"),
                array_agg(change.tk_rows_2),
                array_agg(change."the_count")
            INTO tk_keys, "kept_number", tk_rows_2, "the_count"
            FROM (
                SELECT
                    source."publisher_id" AS tk_key,
                    coalesce(sum("source"."pages"), 0) AS "kept_number",
                    count("source"."pages") AS tk_rows_2,
                    count("source"."pages") AS "the_count"
                FROM new_rows AS source
                WHERE source."publisher_id" IS NOT NULL
                GROUP BY source."publisher_id"
                ORDER BY tk_key
            ) AS change
            WHERE change."kept_number" <> 0
               OR change.tk_rows_2 <> 0
               OR change."the_count" <> 0;
        END IF;
        PERFORM {:schema}."tk_archive_publisher_apply_1fe184"(tk_keys, deltas."kept_number", deltas.tk_rows_2, deltas."the_count", tk_recompute, tk_is_paused, ARRAY['d507ea']::text[]);
        RETURN NULL;
    END;
END;
$trigger_kit$;
REVOKE ALL ON FUNCTION {:schema}."tk_archive_publisher_from_archive_work_insert_ca0ba1"() FROM PUBLIC;

CREATE OR REPLACE TRIGGER {:trigger}
    AFTER INSERT ON {archive_work}
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT
    EXECUTE FUNCTION {:schema}."tk_archive_publisher_from_archive_work_insert_ca0ba1"();
