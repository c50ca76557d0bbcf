"""Triggers as a careful person writes them by hand, as lean as they can be and right.

Both guard the columns of the author: maintenance writes from inside a trigger, users do not. (A trigger of somebody
else's that writes the columns gets past the guard.) The guard of updates is a function without a WHEN condition:
PostgreSQL keeps the plan of a function, but parses the text of a condition anew for every statement, which costs a
single insert more than the call does. New authors come by many to a statement, too: there a condition saves the calls.
"""

from __future__ import annotations

from benchmarks.contenders.base import Contender

GUARDS = """
CREATE FUNCTION by_hand_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF pg_trigger_depth() < 2 THEN
        NEW.num_books := OLD.num_books; NEW.pages_total := OLD.pages_total;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER by_hand_guard BEFORE UPDATE ON bench_books_author
    FOR EACH ROW EXECUTE FUNCTION by_hand_guard();
CREATE FUNCTION by_hand_first() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.num_books := 0; NEW.pages_total := 0;
    RETURN NEW;
END $$;
CREATE TRIGGER by_hand_first BEFORE INSERT ON bench_books_author FOR EACH ROW
    WHEN (NEW.num_books <> 0 OR NEW.pages_total <> 0) EXECUTE FUNCTION by_hand_first();
"""

ROW_TRIGGER = f"""
CREATE FUNCTION by_hand() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.author_id = OLD.author_id THEN
        UPDATE bench_books_author SET pages_total = pages_total + NEW.pages - OLD.pages WHERE id = NEW.author_id;
        RETURN NULL;
    END IF;
    IF TG_OP <> 'INSERT' THEN
        UPDATE bench_books_author SET num_books = num_books - 1, pages_total = pages_total - OLD.pages
        WHERE id = OLD.author_id;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        UPDATE bench_books_author SET num_books = num_books + 1, pages_total = pages_total + NEW.pages
        WHERE id = NEW.author_id;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER by_hand_come_and_go AFTER INSERT OR DELETE ON bench_books_book
    FOR EACH ROW EXECUTE FUNCTION by_hand();
CREATE TRIGGER by_hand_update AFTER UPDATE ON bench_books_book FOR EACH ROW
    WHEN ((OLD.author_id, OLD.pages) IS DISTINCT FROM (NEW.author_id, NEW.pages)) EXECUTE FUNCTION by_hand();
{GUARDS}
"""

STATEMENT_TRIGGER = f"""
CREATE FUNCTION by_hand_insert() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE bench_books_author AS author
    SET num_books = author.num_books + change.number, pages_total = author.pages_total + change.pages
    FROM (SELECT author_id, count(*) AS number, sum(pages) AS pages FROM new_rows GROUP BY author_id) AS change
    WHERE author.id = change.author_id;
    RETURN NULL;
END $$;
CREATE FUNCTION by_hand_delete() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE bench_books_author AS author
    SET num_books = author.num_books - change.number, pages_total = author.pages_total - change.pages
    FROM (SELECT author_id, count(*) AS number, sum(pages) AS pages FROM old_rows GROUP BY author_id) AS change
    WHERE author.id = change.author_id;
    RETURN NULL;
END $$;
CREATE FUNCTION by_hand_update() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE bench_books_author AS author
    SET num_books = author.num_books + change.number, pages_total = author.pages_total + change.pages
    FROM (
        SELECT author_id, sum(sign) AS number, sum(sign * pages) AS pages
        FROM (
            SELECT author_id, pages, -1 AS sign FROM old_rows UNION ALL SELECT author_id, pages, 1 FROM new_rows
        ) AS both_rows
        GROUP BY author_id HAVING sum(sign) <> 0 OR sum(sign * pages) <> 0
    ) AS change
    WHERE author.id = change.author_id;
    RETURN NULL;
END $$;
CREATE TRIGGER by_hand_insert AFTER INSERT ON bench_books_book REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION by_hand_insert();
CREATE TRIGGER by_hand_delete AFTER DELETE ON bench_books_book REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION by_hand_delete();
CREATE TRIGGER by_hand_update AFTER UPDATE ON bench_books_book REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION by_hand_update();
{GUARDS}
"""

ROW = Contender("row trigger", lambda place: place.run(ROW_TRIGGER))
STATEMENT = Contender("statement trigger", lambda place: place.run(STATEMENT_TRIGGER))
