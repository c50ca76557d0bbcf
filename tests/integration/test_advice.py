"""The indexes that plan advises are the ones that PostgreSQL takes, and what it says of a database is so."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from decimal import Decimal
from io import StringIO
from typing import Any

import psycopg
import pytest
from django.core.management import call_command
from django.db import connection
from django.db.models import Avg, Count, F, Max, Min, Q, StdDev, Sum

from dev.postgres import Server
from tests.archive.aggregates import StringAgg
from tests.archive.keeping import assert_rules_hold, keep
from tests.archive.models import Publisher, Work
from tests.library.models import Author, Book
from trigger_kit import Denormalize, Exists, First, Timing
from trigger_kit.database.catalog import Placement
from trigger_kit.database.indexes import SUMMARIES_SINCE, KeyColumn, installed_indexes, update_counts
from trigger_kit.maintenance.advice import WantedIndex, hindering_indexes, wanted_indexes
from trigger_kit.plan.plan import Plan, plan
from trigger_kit.sql.fragments import values_of

Sql = Callable[..., list[tuple[Any, ...]]]
ROWS = 3_000


@pytest.fixture
def group(sql: Sql) -> int:
    """A publisher of many works, every hundredth of them published; the others' days are better."""
    Publisher.objects.bulk_create([Publisher(number=1), Publisher(number=2)])
    sql(
        f"""
        INSERT INTO archive_work (id, publisher_id, title, pages, price, score, published, data, least, day, moment,
                                  the_count, the_total, the_flag, the_label)
        SELECT n, 1, 't' || n, n, n, n, n % 100 = 0, '{{}}', 0, date '2000-01-01' + n, timestamptz '2000-01-01 00:00+00' + n * interval '1 hour', 0, 0, false, ''
        FROM generate_series(1, {ROWS}) AS n
        """
    )
    sql("SET CONSTRAINTS ALL IMMEDIATE")
    sql("ANALYZE archive_work")
    return ROWS


def add_index(wanted: WantedIndex) -> str:
    """Add an index that is advised; return its name."""
    index = wanted.build()
    with connection.schema_editor() as editor:
        editor.add_index(wanted.model, index)
    return str(index.name)


def advised(planned: Plan) -> WantedIndex:
    (kept,) = planned.kept_columns
    return wanted_indexes(kept)[-1]


IS_OLD = Q(works__day__lt=datetime.date(2000, 1, 9))
EARLY = datetime.datetime(2000, 1, 1, 8, tzinfo=datetime.UTC)
LOOK_UPS = {
    "maximum": (Max("works__day"), "kept_day"),
    "minimum with a filter": (Min("works__price", filter=Q(works__published=True)), "kept_amount"),
    "at commit": (Max("works__pages"), "kept_number"),
    "first": (First("works__title", order_by="-works__day"), "kept_text"),
    "first, nulls last": (First("works__title", order_by=F("works__day").desc(nulls_last=True)), "kept_text"),
    "exists, a boolean": (Exists("works", filter=Q(works__published=True)), "the_flag"),
    "exists, decimals": (Exists("works", filter=Q(works__price__gt=Decimal("2990.5"))), "the_flag"),
    "exists, texts": (Exists("works", filter=Q(works__title__in=["t7", "it's"])), "the_flag"),
    "exists, a pattern": (Exists("works", filter=Q(works__title__istartswith="T2999")), "the_flag"),
    "exists, days": (Exists("works", filter=IS_OLD & Q(works__pages__gte=2)), "the_flag"),
    "exists, moments": (Exists("works", filter=Q(works__moment__lt=EARLY)), "the_flag"),
    "exists, or": (Exists("works", filter=IS_OLD | Q(works__pages__isnull=True)), "the_flag"),
    "exists, in part": (Exists("works", filter=IS_OLD & ~Q(works__pages=9)), "the_flag"),
    "a sum that may be NULL": (Sum("works__pages", filter=Q(works__title="t7")), "kept_number"),
}


@pytest.mark.parametrize("title", LOOK_UPS)
def test_the_advised_index_is_used_when_a_row_leaves(title: str, group: int, sql: Sql) -> None:
    expression, field = LOOK_UPS[title]
    timing = Timing.DEFERRED if title == "at commit" else Timing.IMMEDIATE
    rules = [(Publisher, [Denormalize(field, expression, timing=timing)])]
    index = advised(plan(*rules[0]))
    name = add_index(index)
    sql("ANALYZE archive_work")
    keep(rules)
    (value,) = Publisher.objects.filter(number=1).values_list(field)[0]
    sql("SET CONSTRAINTS ALL DEFERRED")
    before = scans(name, sql)
    match expression:
        case Max() | First():
            sql("DELETE FROM archive_work WHERE id = %s", group)
        case _:
            sql("DELETE FROM archive_work WHERE id IN (7, 100)")
    sql("SET CONSTRAINTS ALL IMMEDIATE")
    assert value is not None
    assert scans(name, sql) > before
    assert_rules_hold(rules)


def scans(name: str, sql: Sql) -> int:
    """Return how often this transaction has looked into an index."""
    ((count,),) = sql("SELECT pg_stat_get_xact_numscans(%s::regclass)", name)
    return int(count)


READ_WHOLE = {
    "average": (Avg("works__pages", filter=Q(works__published=True)), "kept_ratio"),
    "inexact": (StdDev("works__score"), "kept_ratio"),
    "in an order": (StringAgg("works__title", ",", order_by=("-works__title", "works__id")), "kept_text"),
}


@pytest.mark.parametrize("title", READ_WHOLE)
def test_the_advised_index_holds_all_that_an_aggregate_reads(title: str, group: int, sql: Sql) -> None:
    expression, field = READ_WHOLE[title]
    planned = plan(Publisher, [Denormalize(field, expression)])
    name = add_index(advised(planned))
    (value,) = values_of(planned.kept_columns, "this")
    select = value.select.format_map(_Tables(Placement(connection, planned.target)))
    # No page is known to be visible to all before VACUUM: until then the smaller index costs as much.
    others = [index for index in installed_indexes(connection, Work) if index.name != name]
    (smaller,) = (index.name for index in others if index.keys == (KeyColumn("publisher_id"),))
    sql(f'DROP INDEX "{smaller}"')
    sql("SET LOCAL enable_seqscan = off")
    sql("SET LOCAL enable_bitmapscan = off")
    query = f"SELECT * FROM archive_publisher AS this CROSS JOIN LATERAL ({select}) AS value WHERE this.number = 1"
    printed = "\n".join(line for (line,) in sql(f"EXPLAIN {query}"))
    assert f"Index Only Scan using {name}" in printed


class _Tables(dict[str, str]):
    """The tables of placeholders, for ``str.format_map``."""

    def __init__(self, place: Placement) -> None:
        super().__init__()
        self.place = place

    def __missing__(self, name: str) -> str:
        return self.place(name)


@pytest.mark.parametrize("title", [*LOOK_UPS, *READ_WHOLE])
def test_the_advised_index_is_found_there_afterwards(title: str, db: None) -> None:
    expression, field = (LOOK_UPS | READ_WHOLE)[title]
    planned = plan(Publisher, [Denormalize(field, expression)])
    wanted = advised(planned)
    assert not any(map(wanted.is_served_by, installed_indexes(connection, Work)))
    name = add_index(wanted)
    assert [index.name for index in installed_indexes(connection, Work) if wanted.is_served_by(index)] == [name]


# The database -------------------------------------------------------------------------------------------------------


def test_indexes_are_read_from_the_catalog(sql: Sql) -> None:
    sql("CREATE INDEX one ON library_book (author_id DESC NULLS LAST, pages) INCLUDE (title) WHERE published")
    sql("CREATE INDEX two ON library_book (upper(title), author_id) WHERE price > 3")
    sql("ALTER TABLE library_book ADD CONSTRAINT three UNIQUE (id, note)")
    found = {index.name: index for index in installed_indexes(connection, Book)}
    assert found["one"].keys == (KeyColumn("author_id", is_descending=True), KeyColumn("pages"))
    assert found["one"].included == ("title",)
    assert found["one"].reads == {"author_id", "pages", "title", "published"}
    assert found["one"].is_partial
    assert found["two"].keys == (KeyColumn(""), KeyColumn("author_id"))
    assert found["two"].reads == {"title", "author_id", "price"}
    assert found["three"].reads == {"id", "note"}
    assert {index.method for index in found.values()} == {"btree"}


@pytest.mark.parametrize(
    ("definition", "columns"),
    [
        ("(num_books)", ["num_books"]),
        ("(name) INCLUDE (num_books)", ["num_books"]),
        ("(name) WHERE num_books > 0 AND pages_total > 0", ["num_books", "pages_total"]),
        ("((num_books + 1))", ["num_books"]),
        ("USING brin (num_books)", []),
        ("(name)", []),
    ],
)
def test_indexes_that_hinder_hot_updates(definition: str, columns: list[str], sql: Sql) -> None:
    sql(f"CREATE INDEX it ON library_author {definition}")
    planned = plan(Author, Author._meta.denormalizations)
    if "brin" in definition and connection.pg_version < SUMMARIES_SINCE:  # type: ignore[attr-defined]
        columns = ["num_books"]
    found = hindering_indexes(planned, lambda model: installed_indexes(connection, model))
    assert found == ([("it", columns)] if columns else [])
    assert hot_share(sql) == (0 if columns else 1)


def hot_share(sql: Sql) -> float:
    """Add a book to an author; return the share of HOT updates of the authors in this transaction."""
    author = Author.objects.create()
    count = (
        "SELECT pg_stat_get_xact_tuples_updated(oid), pg_stat_get_xact_tuples_hot_updated(oid) "
        "FROM pg_class WHERE oid = 'library_author'::regclass"
    )
    ((updated, hot),) = sql(count)
    Book.objects.create(author=author, pages=7)
    ((updated_now, hot_now),) = sql(count)
    return float(hot_now - hot) / (updated_now - updated)


def test_inspect_asks_the_database(sql: Sql) -> None:
    sql("CREATE INDEX by_hand ON library_author (num_books)")
    (author_index,) = (index.name for index in installed_indexes(connection, Book) if index.keys[0].name == "author_id")
    sql(f'DROP INDEX "{author_index}"')
    assert "no HOT updates" not in run("plan", "library.Author")
    printed = run("plan", "--inspect", "library.Author")
    assert "no HOT updates: by_hand holds num_books, so that" in printed
    assert "wants an index on library_book (author_id): not there; without it, every look-up reads the whole" in printed
    assert 'add to library.Book: models.Index(fields=["author"], name="book_author_id_idx")' in printed


def test_inspect_before_the_tables_are_there(sql: Sql) -> None:
    sql("DROP TABLE library_author CASCADE")
    assert update_counts(connection, Author) is None
    assert "HOT updates: possible" in run("plan", "--inspect", "library.Author")


def test_counts_come_with_the_fillfactor(sql: Sql) -> None:
    sql("ALTER TABLE library_author SET (fillfactor = 70)")
    counts = update_counts(connection, Author)
    assert counts is not None
    assert counts.fillfactor == 70
    assert counts.hot <= counts.all
    assert (counts.moved is None) is (connection.pg_version < 160000)  # type: ignore[attr-defined]


def test_there_are_at_least_as_many_updates_as_hot_ones(server: Server, sql: Sql) -> None:
    """PostgreSQL forgets updates that a TRUNCATE follows in their transaction, but not that they were HOT."""
    before = update_counts(connection, Author)
    with psycopg.connect(server.database(connection.settings_dict["NAME"]).url, autocommit=True) as other:
        other.execute(
            """
            BEGIN;
            INSERT INTO library_author (name, num_books, num_published, pages_total) VALUES ('', 0, 0, 0);
            UPDATE library_author SET name = 'x';
            TRUNCATE library_author CASCADE;
            COMMIT;
            SELECT pg_stat_force_next_flush();
            """
        )
    sql("SELECT pg_stat_clear_snapshot()")
    counts = update_counts(connection, Author)
    assert before is not None
    assert counts is not None
    assert counts.hot > before.hot
    assert counts.hot + (counts.moved or 0) <= counts.all


def test_without_inspect_no_database_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise AssertionError("plan has opened a connection")

    monkeypatch.setattr(connection, "ensure_connection", refuse)
    assert "wants an index" in run("plan")
    assert Denormalize("num_books", Count("books")) in Author._meta.denormalizations


def run(*arguments: str) -> str:
    out = StringIO()
    call_command("trigger_kit", *arguments, stdout=out, no_color=True)
    return out.getvalue()
