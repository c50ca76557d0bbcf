"""Random statements over the archive: what any program may send, out of a description of its tables.

Keys come from small ranges, so that statements collide, point at rows that are not there, and bring them later. A
statement is text with its literals in it, so that a failing example prints as a short script.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.db import connection
from hypothesis import strategies as st
from psycopg import sql


@dataclass(frozen=True)
class Script:
    """SQL that runs as one client statement."""

    sql: str

    def __call__(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute(self.sql, None)

    def __repr__(self) -> str:
        return f"sql({self.sql!r})"


@dataclass(frozen=True)
class Copy:
    """Rows by COPY."""

    table: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    def __call__(self) -> None:
        columns = ", ".join(self.columns)
        with (
            connection.wrap_database_errors,
            connection.cursor() as cursor,
            cursor.copy(f"COPY {self.table} ({columns}) FROM STDIN") as copy,
        ):
            for row in self.rows:
                copy.write_row(row)


@dataclass(frozen=True)
class Table:
    """A table: its key, its columns with what they may hold, and columns that writers should leave alone but do not."""

    name: str
    key: dict[str, st.SearchStrategy[Any]]
    columns: dict[str, st.SearchStrategy[Any]]
    rekeyed: tuple[str, ...] = ()
    kept: tuple[str, ...] = field(default=("the_count", "the_label", "kept_number"))


def literal(value: Any) -> str:
    return sql.Literal(value).as_string(None)


def maybe(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.none(), values)


small = st.integers(1, 3)
works = st.integers(1, 5)
people = st.integers(1, 4)
codes = st.sampled_from(["a", "b", "c"])
names = st.sampled_from(["", "ann", "bob", "Ann's", "a%b{}", "5 long"])
number = maybe(st.sampled_from([-3, 0, 1, 2, 2, 7, 500]))
amount = maybe(st.sampled_from(["0", "0.01", "-2.50", "19.99", "19.99"]))
# Zeros are texts: a number loses its sign on the way.
ratio = maybe(st.sampled_from([0.1, 0.2, -1e9, 3.5, "0", "-0"]))
day = maybe(st.sampled_from(["2024-02-29", "2025-01-01", "2025-12-31"]))
moment = maybe(st.sampled_from(["2024-12-31 23:30:00+00", "2025-06-01 12:00:00+02", "2025-06-01 10:00:00+00"]))
flag = st.booleans()
uuids = small.map(lambda n: str(UUID(int=n)))
data = st.sampled_from(['{"size": 1}', '{"size": 1.0}', '{"size": "big"}', "{}"])
duration = maybe(st.sampled_from(["1 day", "24:00:00", "36:00:00", "1 day 12:00:00"]))
role = st.sampled_from(["author", "editor"])
# The numbers of content types differ between databases; these expressions do not.
content_types = st.sampled_from(["work", "person", "tag"])

TABLES = (
    Table("archive_country", {"code": codes}, {"name": names, "rank": number}, rekeyed=("code",)),
    Table(
        "archive_publisher",
        {"id": uuids},
        {"country_id": maybe(codes), "name": names, "number": small, "fee": amount},
        rekeyed=("number", "id"),
    ),
    Table("archive_tag", {"id": small}, {"name": names, "weight": number, "active": flag}, rekeyed=("id",)),
    Table(
        "archive_work",
        {"id": works},
        {
            "publisher_id": maybe(small),
            "editor_id": maybe(people),
            "title": names,
            "pages": number,
            "price": amount,
            "score": ratio,
            "published": flag,
            "day": day,
            "moment": moment,
            "data": data,
            "least": st.integers(0, 3),
            "reading_time": duration,
        },
        rekeyed=("id",),
    ),
    Table("archive_person", {"id": people}, {"name": names}, rekeyed=("id",)),
    Table(
        "archive_credit",
        {"id": st.integers(1, 6)},
        {"person_id": people, "work_id": works, "role": role, "share": st.integers(0, 3)},
        kept=(),
    ),
    Table(
        "archive_review",
        {"id": st.integers(1, 6)},
        {"work_id": works, "author_id": maybe(people), "stars": number, "text": names, "created": moment},
        kept=("kept_text", "kept_number"),
    ),
    Table(
        "archive_novel",
        {"work_ptr_id": works},
        {"genre": names, "words": number, "series_id": maybe(small)},
        kept=("kept_title",),
    ),
    Table("archive_series", {"id": small}, {"name": names}, rekeyed=("id",)),
    Table(
        "archive_note",
        {"id": st.integers(1, 6)},
        {
            "content_type_id": content_types,
            "object_id": works,
            "text": names,
            "weight": st.integers(0, 3),
            "author_id": maybe(people),
        },
        kept=("kept_text", "kept_number"),
    ),
    Table("archive_line", {"work_id": works, "number": small}, {"text": names}, rekeyed=("work_id", "number")),
    Table(
        "archive_remark",
        {"id": st.integers(1, 6)},
        {"line_work": maybe(works), "line_number": maybe(small), "text": names, "weight": st.integers(0, 3)},
        kept=(),
    ),
    Table(
        "archive_node",
        {"id": st.integers(1, 6)},
        {"parent_id": maybe(st.integers(1, 6)), "name": names, "own": st.integers(-2, 5)},
        rekeyed=("id",),
    ),
    Table("archive_work_tags", {"id": st.integers(1, 8)}, {"work_id": works, "tag_id": small}, kept=()),
    Table(
        "archive_person_friends", {"id": st.integers(1, 8)}, {"from_person_id": people, "to_person_id": people}, kept=()
    ),
    Table(
        "archive_person_follows", {"id": st.integers(1, 8)}, {"from_person_id": people, "to_person_id": people}, kept=()
    ),
)
BY_NAME = {table.name: table for table in TABLES}


def value_sql(column: str, value: Any) -> str:
    if column == "content_type_id":
        return f"(SELECT id FROM django_content_type WHERE app_label = 'archive' AND model = {literal(value)})"
    return literal(value)


@st.composite
def rows(draw: Any, table: Table, most: int = 4) -> list[dict[str, Any]]:
    """Rows with different keys, all columns named."""
    found = draw(st.lists(st.fixed_dictionaries({**table.key, **table.columns}), min_size=1, max_size=most))
    return list({tuple(row[name] for name in table.key): row for row in found}.values())


@st.composite
def insert(draw: Any, table: Table) -> str:
    """INSERT, with each way to deal with rows that exist."""
    found = draw(rows(table))
    columns = list(found[0])
    values = ", ".join(f"({', '.join(value_sql(name, row[name]) for name in columns)})" for row in found)
    updated = draw(st.lists(st.sampled_from(list(table.columns)), min_size=1, max_size=3, unique=True))
    key = ", ".join(table.key)
    conflict = draw(
        st.sampled_from(
            [
                "ON CONFLICT DO NOTHING",
                "ON CONFLICT DO NOTHING",
                f"ON CONFLICT ({key}) DO UPDATE SET {', '.join(f'{name} = EXCLUDED.{name}' for name in updated)}",
            ]
        )
    )
    return f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES {values} {conflict}"


@st.composite
def where(draw: Any, table: Table) -> str:
    """A condition on the key or on a column."""
    column = draw(st.sampled_from([*table.key, *table.key, *table.columns]))
    value = draw({**table.key, **table.columns}[column])
    if column == "data":
        return "data = '{}'"
    if value is None:
        return f"{column} IS NULL"
    if column == "content_type_id":
        return f"{column} = {value_sql(column, value)}"
    return f"{column} {draw(st.sampled_from(['=', '<=', '>=', '<>']))} {literal(value)}"


@st.composite
def update(draw: Any, table: Table) -> str:
    """UPDATE of some columns, of a key, or of columns that are not the writer's."""
    kind = draw(st.integers(0, 9))
    if kind == 0 and table.kept:
        settings = [f"{name} = NULL" if name.startswith("kept") else f"{name} = {name}" for name in table.kept]
        settings += ["the_count = 77"] if "the_count" in table.kept else []
        settings = settings[-2:]
    elif kind in {1, 2} and table.rekeyed:
        name = draw(st.sampled_from(table.rekeyed))
        settings = [f"{name} = {value_sql(name, draw({**table.key, **table.columns}[name]))}"]
    else:
        names_ = draw(st.lists(st.sampled_from(list(table.columns)), min_size=1, max_size=3, unique=True))
        settings = [f"{name} = {draw(setting(table, name))}" for name in names_]
    return f"UPDATE {table.name} SET {', '.join(dict.fromkeys(settings))} WHERE {draw(where(table))}"


@st.composite
def setting(draw: Any, table: Table, name: str) -> str:
    value = draw(table.columns[name])
    if isinstance(value, bool) and draw(flag):
        return f"NOT {name}"
    if isinstance(value, int) and name in {"pages", "stars", "weight", "own", "share", "words"} and draw(flag):
        return f"{name} + 1"
    return value_sql(name, value)


@st.composite
def delete(draw: Any, table: Table) -> str:
    return f"DELETE FROM {table.name} WHERE {draw(where(table))}"


@st.composite
def merge(draw: Any, table: Table) -> str:
    """MERGE with all three actions."""
    found = draw(rows(table))
    columns = list(found[0])
    selects = " UNION ALL ".join(
        "SELECT " + ", ".join(f"{value_sql(name, row[name])} AS {name}" for name in columns) for row in found
    )
    typed = f"(SELECT {', '.join(columns)} FROM {table.name} WHERE false UNION ALL {selects})"
    match = " AND ".join(f"old.{name} = new.{name}" for name in table.key)
    last = list(table.columns)[-1]
    updated = ", ".join(f"{name} = new.{name}" for name in table.columns)
    return (
        f"MERGE INTO {table.name} AS old USING {typed} AS new ON {match} "
        f"WHEN MATCHED AND old.{last} IS DISTINCT FROM new.{last} THEN UPDATE SET {updated} "
        f"WHEN MATCHED THEN DELETE "
        f"WHEN NOT MATCHED THEN INSERT ({', '.join(columns)}) VALUES ({', '.join(f'new.{name}' for name in columns)})"
    )


def change(tables: tuple[Table, ...]) -> st.SearchStrategy[str]:
    table = st.sampled_from(tables)
    return table.flatmap(lambda one: st.one_of(insert(one), insert(one), update(one), update(one), delete(one)))


@st.composite
def together(draw: Any, tables: tuple[Table, ...]) -> str:
    """Two changes in one statement, by data-modifying CTEs or by a block of code."""
    parts = draw(st.lists(change(tables), min_size=2, max_size=3))
    if draw(flag):
        return f"DO $do$ BEGIN {' '.join(part + ';' for part in parts)} END $do$"
    ctes = ", ".join(f"part_{n} AS ({part} RETURNING 1)" for n, part in enumerate(parts))
    return f"WITH {ctes} SELECT 1"


@st.composite
def copied(draw: Any, tables: tuple[Table, ...]) -> Copy:
    table = draw(st.sampled_from([t for t in tables if "content_type_id" not in t.columns]))
    found = draw(rows(table))
    columns = tuple(found[0])
    return Copy(table.name, columns, tuple(tuple(row[name] for name in columns) for row in found))


def statements(tables: tuple[Table, ...]) -> st.SearchStrategy[Callable[[], None]]:
    """Any statement over some tables."""
    simple = change(tables).map(Script)
    table = st.sampled_from(tables)
    return st.one_of(
        simple,
        simple,
        simple,
        together(tables).map(Script),
        table.flatmap(merge).map(Script),
        copied(tables),
        table.map(lambda one: Script(f"TRUNCATE {one.name} CASCADE")),
    )


# Rows to start from in half of the examples: each relation is there, with a group of several rows and an empty one.
SEED = Script(
    """
    INSERT INTO archive_country (code, name, rank) VALUES ('a', 'ann', 1), ('b', 'bob', NULL);
    INSERT INTO archive_publisher (id, country_id, name, number, fee) VALUES
        ('00000000-0000-0000-0000-000000000001', 'a', 'ann', 1, 19.99),
        ('00000000-0000-0000-0000-000000000002', 'b', '', 2, NULL);
    INSERT INTO archive_tag (id, name, weight, active) VALUES (1, 'ann', 2, true), (2, 'bob', 7, false), (3, '', 2, true);
    INSERT INTO archive_person (id, name) VALUES (1, 'ann'), (2, 'bob'), (3, '');
    INSERT INTO archive_work (id, publisher_id, editor_id, title, pages, price, score, published, day, moment, data, reading_time) VALUES
        (1, 1, 1, 'ann', 7, 19.99, 0.1, true, '2024-02-29', '2024-12-31 23:30+00', '{"size": 1}', '1 day'),
        (2, 1, 1, 'bob', 7, 0.01, '-0', false, '2025-01-01', NULL, '{"size": 1.0}', '24:00'),
        (3, 2, NULL, '', 500, NULL, NULL, true, NULL, NULL, '{}', NULL);
    INSERT INTO archive_work_tags (id, work_id, tag_id) VALUES (1, 1, 1), (2, 1, 2), (3, 2, 1), (4, 3, 3);
    INSERT INTO archive_credit (id, person_id, work_id, role, share) VALUES
        (1, 1, 1, 'author', 2), (2, 2, 1, 'editor', 1), (3, 1, 2, 'author', 3);
    INSERT INTO archive_review (id, work_id, author_id, stars, text, created) VALUES
        (1, 1, 1, 5, '5 long', '2025-06-01 10:00+00'), (2, 1, 2, 2, 'bob', '2025-06-01 10:00+00'),
        (3, 2, NULL, 7, '', NULL);
    INSERT INTO archive_person_friends (id, from_person_id, to_person_id) VALUES (1, 1, 2), (2, 2, 1);
    INSERT INTO archive_person_follows (id, from_person_id, to_person_id) VALUES (1, 1, 2), (2, 3, 2), (3, 2, 2);
    INSERT INTO archive_series (id, name) VALUES (1, 'ann'), (2, '');
    INSERT INTO archive_novel (work_ptr_id, genre, words, series_id) VALUES (1, 'ann', 7, 1), (2, '', 2, 1);
    INSERT INTO archive_note (id, content_type_id, object_id, text, weight, author_id)
        SELECT n, type.id, 1 + n % 3, 'ann', n, nullif(n % 3, 0) FROM django_content_type AS type, generate_series(1, 4) AS n
        WHERE app_label = 'archive' AND model = CASE n WHEN 4 THEN 'person' ELSE 'work' END;
    INSERT INTO archive_line (work_id, number, text) VALUES (1, 1, 'ann'), (1, 2, ''), (2, 1, 'bob');
    INSERT INTO archive_remark (id, line_work, line_number, text, weight) VALUES
        (1, 1, 1, 'ann', 2), (2, 1, 1, 'bob', 3), (3, 1, 2, '', 2), (4, NULL, 1, '', 1);
    INSERT INTO archive_node (id, parent_id, name, own) VALUES
        (1, NULL, 'ann', 1), (2, 1, 'bob', 2), (3, 1, '', 3), (4, 2, 'ann', -2), (5, NULL, '', 5);
    """
)
