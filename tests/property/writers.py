"""Random writers: strategies of statements that real programs send, each as a named, printable step.

A step is a function of no arguments with a readable ``repr``, so that a failing example prints as a short script.
Keys come from small ranges: steps are meant to collide, to point at rows that are not there, and to bring them later.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.db import connection
from hypothesis import strategies as st

import trigger_kit
from tests.library.models import Author, Book, Category

AUTHORS = st.integers(1, 4)
BOOKS = st.integers(1, 6)
NODES = st.integers(1, 6)
PORTS = st.sampled_from(["A", "B", "C"])
MAYBE_AUTHOR = st.one_of(st.none(), AUTHORS)
PAGES = st.one_of(st.none(), st.sampled_from([0, 1, -7, 2**31 - 1, -(2**31)]))
PRICE = st.sampled_from([None, "0", "0.01", "-2.50", "99999999.99", "NaN"])
TITLE = st.sampled_from(["", "A DRAFT'%{} copy", "draft", "draft'%{}"])


@dataclass(frozen=True)
class Statement:
    """One SQL statement with its parameters."""

    sql: str
    params: tuple[Any, ...] = ()

    def __call__(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute(self.sql, self.params or None)


@dataclass(frozen=True)
class Call:
    """A call of the ORM."""

    name: str
    call: Callable[..., Any]
    args: tuple[Any, ...] = ()

    def __call__(self) -> None:
        self.call(*self.args)

    def __repr__(self) -> str:
        return f"{self.name}{self.args!r}"


BOOK_COLUMNS = "id, author_id, title, published, pages, price, note"
book_row = st.tuples(BOOKS, MAYBE_AUTHOR, TITLE, st.booleans(), PAGES, PRICE, st.just(""))
book_rows = st.lists(book_row, min_size=1, max_size=5, unique_by=lambda row: row[0])


def _values(rows: list[tuple[Any, ...]]) -> tuple[str, tuple[Any, ...]]:
    """Return typed VALUES for book rows, and their parameters."""
    one = "(%s::bigint, %s::bigint, %s::text, %s::boolean, %s::integer, %s::numeric, %s::text)"
    return ", ".join([one] * len(rows)), tuple(value for row in rows for value in row)


def insert_books(rows: list[tuple[Any, ...]], conflict: str) -> Statement:
    values, params = _values(rows)
    return Statement(f"INSERT INTO library_book ({BOOK_COLUMNS}) VALUES {values} {conflict}", params)


CONFLICTS = [
    "ON CONFLICT DO NOTHING",
    "ON CONFLICT (id) DO UPDATE SET author_id = EXCLUDED.author_id",
    "ON CONFLICT (id) DO UPDATE SET author_id = EXCLUDED.author_id, published = NOT library_book.published, "
    "pages = EXCLUDED.pages, price = EXCLUDED.price, title = EXCLUDED.title",
]


def merge_books(rows: list[tuple[Any, ...]]) -> Statement:
    values, params = _values(rows)
    return Statement(
        f"MERGE INTO library_book AS b USING (VALUES {values}) AS v ({BOOK_COLUMNS}) ON b.id = v.id "
        "WHEN MATCHED AND v.published THEN UPDATE SET author_id = v.author_id, price = v.price, pages = v.pages "
        "WHEN MATCHED THEN DELETE "
        f"WHEN NOT MATCHED THEN INSERT ({BOOK_COLUMNS}) VALUES (v.id, v.author_id, v.title, v.published, v.pages, v.price, v.note)",
        params,
    )


def copy_rows(target: str, rows: list[tuple[Any, ...]]) -> Callable[[], None]:
    def run() -> None:
        with (
            connection.wrap_database_errors,
            connection.cursor() as cursor,
            cursor.copy(f"COPY {target} FROM STDIN") as copy,
        ):
            for row in rows:
                copy.write_row(row)

    return Call(f"copy {target} {rows}", run)


UPDATES = [
    "UPDATE library_book SET author_id = %s WHERE id <= %s",
    "UPDATE library_book SET author_id = %s, published = NOT published WHERE id >= %s",
    "UPDATE library_book SET published = NOT published, author_id = coalesce(author_id, %s) WHERE id <> %s",
    "UPDATE library_book SET pages = -coalesce(pages, %s), note = 'x' WHERE id <= %s",
    "UPDATE library_book SET author_id = 1 + (author_id + %s) %% 4, id = id WHERE id >= %s",
    "DELETE FROM library_book WHERE author_id = %s OR id = %s",
    "WITH gone AS (DELETE FROM library_book WHERE author_id = %s RETURNING *) "
    "INSERT INTO library_book (id, title, published, pages, price, note, author_id) "
    "SELECT id + 10 + %s, title, published, pages, price, note, 1 + author_id %% 4 FROM gone ON CONFLICT DO NOTHING",
    "WITH moved AS (UPDATE library_book SET author_id = %s WHERE id = %s RETURNING id) "
    "DELETE FROM library_book WHERE id IN (SELECT id + 1 FROM moved)",
    "UPDATE library_author SET name = 'n', num_books = %s WHERE id <= %s",
    "UPDATE library_author SET id = id + 2 - %s %% 2, revenue = 0 WHERE id = %s",
    "UPDATE library_author SET id = 5 - id, num_books = %s - %s WHERE id BETWEEN 1 AND 4",
    "DELETE FROM library_author WHERE id = %s AND id <> %s",
    "INSERT INTO library_author (id, name) SELECT g, '' FROM generate_series(%s, %s) g ON CONFLICT DO NOTHING",
    "INSERT INTO library_author (id, name, num_books, revenue) VALUES (%s, '', 7, %s) ON CONFLICT (id) DO UPDATE "
    "SET num_books = EXCLUDED.num_books, revenue = 3",
    "WITH a AS (INSERT INTO library_author (id, name) VALUES (%s, '') ON CONFLICT DO NOTHING RETURNING id), "
    "b AS (UPDATE library_book SET author_id = (SELECT id FROM a) WHERE id <= %s RETURNING id) SELECT count(*) FROM b",
    "WITH a AS (UPDATE library_author SET id = 9 - id WHERE id = %s RETURNING id) "
    "UPDATE library_book SET author_id = (SELECT id FROM a), pages = 1 WHERE id <= %s",
    "WITH a AS (INSERT INTO library_author (id, name) SELECT g, '' FROM generate_series(%s, 4) g ON CONFLICT DO NOTHING) "
    "INSERT INTO library_book (author_id, title, published, pages, note) "
    "SELECT 1 + g %% 4, '', true, g, '' FROM generate_series(1, %s) g",
    "DO $$ BEGIN INSERT INTO library_author (id, name) VALUES (4, '') ON CONFLICT DO NOTHING; "
    "INSERT INTO library_book (author_id, title, published, pages, note) VALUES (4, '', true, %s, ''), (%s, '', false, 2, ''); "
    "UPDATE library_book SET published = NOT published WHERE author_id = 4; END $$",
]
update_statement = st.builds(lambda sql, a, b: Statement(sql, (a, b)), st.sampled_from(UPDATES), AUTHORS, BOOKS)

TRUNCATES = [
    "TRUNCATE library_book",
    "TRUNCATE library_author CASCADE",
    "TRUNCATE library_category CASCADE",
    'TRUNCATE "select"',
]


def save_stale(key: int, value: int) -> None:
    for author in Author.objects.filter(pk=key):
        Book.objects.create(author=author, pages=value)
        author.num_books = value
        author.save()


def update_in_bulk(pages: int | None, author: int | None) -> None:
    books = list(Book.objects.all())
    for book in books:
        book.pages, book.author_id = pages, author
    Book.objects.bulk_update(books, ["pages", "author"])


def upsert(rows: list[tuple[Any, ...]]) -> None:
    names = BOOK_COLUMNS.split(", ")
    books = [Book(**dict(zip(names, row, strict=True))) for row in rows if row[5] != "NaN"]
    Book.objects.bulk_create(
        books, update_conflicts=True, unique_fields=["id"], update_fields=["author_id", "published", "price"]
    )


def paused_writes(rows: list[tuple[Any, ...]]) -> None:
    with trigger_kit.paused():
        insert_books(rows, CONFLICTS[2])()
        Category.objects.update(shelf_id=1)
        Book.objects.filter(id__lte=2).delete()


orm_step = st.one_of(
    st.builds(lambda k, v: Call("save_stale", save_stale, (k, v)), AUTHORS, BOOKS),
    st.builds(lambda p, a: Call("update_in_bulk", update_in_bulk, (p, a)), st.integers(-3, 3), MAYBE_AUTHOR),
    st.builds(lambda r: Call("upsert", upsert, (r,)), book_rows),
    st.builds(lambda k: Call("delete author", lambda key: Author.objects.filter(pk=key).delete(), (k,)), AUTHORS),
    st.builds(lambda k: Call("delete book", lambda key: Book.objects.filter(pk__gte=key).delete(), (k,)), BOOKS),
    st.builds(lambda r: Call("paused", paused_writes, (r,)), book_rows),
)

TREE = [
    "UPDATE library_category SET parent_id = %s WHERE id = %s",
    "UPDATE library_category SET shelf_id = 1 + %s %% 3, num_children = 5 WHERE id <= %s",
    "UPDATE library_category SET id = id + 10, parent_id = parent_id + 10 WHERE id >= %s AND id < %s + 3",
    "UPDATE library_category SET id = 7 - id WHERE id BETWEEN 1 AND 6 AND %s < %s",
    "DELETE FROM library_category WHERE id IN (%s, %s)",
    "INSERT INTO library_shelf (id) SELECT g FROM generate_series(%s, %s) g ON CONFLICT DO NOTHING",
    "DELETE FROM library_shelf WHERE id = %s OR id = %s",
    "WITH s AS (INSERT INTO library_shelf (id) VALUES (%s) ON CONFLICT DO NOTHING) "
    "UPDATE library_category SET shelf_id = %s",
    "UPDATE library_shelf SET id = id + 1 WHERE id IN (%s, %s)",
]
tree_row = st.tuples(
    st.integers(7, 12), st.one_of(st.none(), st.integers(1, 3)), st.one_of(st.none(), st.integers(1, 12)), st.just(9)
)
tree_step = st.one_of(
    st.builds(lambda sql, a, b: Statement(sql, (a, b)), st.sampled_from(TREE), st.integers(1, 3), NODES),
    st.builds(
        lambda rows: copy_rows("library_category (id, shelf_id, parent_id, num_children)", rows),
        st.lists(tree_row, min_size=1, max_size=5, unique_by=lambda row: row[0]),
    ),
    st.builds(
        lambda rows: Call(
            "insert nodes",
            lambda rows: Category.objects.bulk_create(
                [Category(id=i, shelf_id=s, parent_id=p) for i, s, p in rows], ignore_conflicts=True
            ),
            (rows,),
        ),
        st.lists(st.tuples(NODES, st.integers(1, 3), NODES), min_size=1, max_size=4),
    ),
)

SEA = [
    """INSERT INTO "Port of call {x}" ("PortCode") VALUES (%s), (%s) ON CONFLICT DO NOTHING""",
    """INSERT INTO "select" (id, "From", destination_id, "group", cancelled)
       VALUES (gen_random_uuid(), %s, %s, 9223372036854775807, false), (gen_random_uuid(), 'C', NULL, -1, true)""",
    """UPDATE "select" SET "From" = destination_id, destination_id = "From", cancelled = NOT cancelled
       WHERE destination_id = %s OR "From" = %s""",
    """UPDATE "select" SET destination_id = %s, "group" = 7 WHERE "From" = %s""",
    """UPDATE "Port of call {x}" SET "PortCode" = CASE "PortCode" WHEN %s THEN 'Z' ELSE %s END WHERE "PortCode" IN ('A', 'Z')""",
    """DELETE FROM "select" WHERE "From" = %s OR destination_id = %s""",
    """DELETE FROM "Port of call {x}" WHERE "PortCode" IN (%s, %s)""",
    """UPDATE "Port of call {x}" SET arrivals = 3 WHERE "PortCode" IN (%s, %s)""",
]
sea_step = st.builds(lambda sql, a, b: Statement(sql, (a, b)), st.sampled_from(SEA), PORTS, PORTS)

book_step = st.one_of(
    st.builds(insert_books, book_rows, st.sampled_from(CONFLICTS)),
    st.builds(merge_books, book_rows),
    st.builds(
        lambda rows: copy_rows("library_book (author_id, title, published, pages, price, note)", [r[1:] for r in rows]),
        book_rows,
    ),
    update_statement,
    orm_step,
    st.builds(Statement, st.sampled_from(TRUNCATES)),
)
step = st.one_of(book_step, tree_step, sea_step)

# Triggers of the user's own: they change the row that fires them, and create the parent that it points at.
USER_TRIGGERS = """
CREATE FUNCTION pg_temp.move_book() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE library_book SET author_id = 1 + (NEW.author_id + 1) % 4, pages = 3 WHERE id = NEW.id;
    RETURN NULL;
END $$;
CREATE TRIGGER move_book AFTER INSERT OR UPDATE ON library_book FOR EACH ROW
    WHEN (NEW.pages = 1) EXECUTE FUNCTION pg_temp.move_book();
CREATE FUNCTION pg_temp.add_author() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO library_author (id, name) VALUES (NEW.author_id, '') ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;
CREATE TRIGGER add_author AFTER INSERT OR UPDATE ON library_book FOR EACH ROW
    WHEN (NEW.published AND NEW.author_id IS NOT NULL) EXECUTE FUNCTION pg_temp.add_author();
CREATE FUNCTION pg_temp.orphan_book() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.author_id := NULL;
    RETURN NEW;
END $$;
CREATE TRIGGER orphan_book BEFORE INSERT OR UPDATE ON library_book FOR EACH ROW
    WHEN (NEW.title = 'draft') EXECUTE FUNCTION pg_temp.orphan_book();
"""
