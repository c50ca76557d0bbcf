"""Every writer that the contract names keeps the values right; the rows of each test are few and its numbers exact."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection, transaction

from dev.postgres import Server
from tests.library.models import Author, Book, Person, Port, Profile, Voyage
from trigger_kit.testing import assert_in_sync

Sql = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
def author(db: None) -> Author:
    return Author.objects.create(name="Ursula K. Le Guin")


def counters(author: Author) -> tuple[Any, ...]:
    assert_in_sync()
    author.refresh_from_db()
    return author.num_books, author.num_published, author.pages_total, author.revenue


def test_save_and_delete(author: Author) -> None:
    book = Book.objects.create(author=author, published=True, pages=300, price="9.50")
    assert counters(author) == (1, 1, 300, 9.5)
    book.published = False
    book.save()
    assert counters(author) == (1, 0, 300, None)
    book.delete()
    assert counters(author) == (0, 0, 0, None)


def test_bulk_create_update_and_queryset_update(author: Author) -> None:
    books = Book.objects.bulk_create([Book(author=author, pages=n, published=n > 1) for n in range(3)])
    assert counters(author) == (3, 1, 3, None)
    for book in books:
        book.pages = 10
    Book.objects.bulk_update(books, ["pages"])
    assert counters(author) == (3, 1, 30, None)
    Book.objects.update(published=True)
    assert counters(author) == (3, 3, 30, None)


@pytest.mark.parametrize("options", [{"ignore_conflicts": True}, {"update_conflicts": True}])
def test_bulk_create_with_conflicts(author: Author, options: dict[str, Any]) -> None:
    Book.objects.create(id=1, author=author, pages=1)
    if "update_conflicts" in options:
        options |= {"unique_fields": ["id"], "update_fields": ["pages", "author"]}
    Book.objects.bulk_create([Book(id=1, pages=5), Book(id=2, author=author, pages=7)], **options)
    assert counters(author)[:3] == ((1, 0, 7) if "update_conflicts" in options else (2, 0, 8))


def test_raw_delete_and_cascade(author: Author) -> None:
    other = Author.objects.create(name="other")
    Book.objects.bulk_create([Book(author=author), Book(author=other), Book(author=other)])
    Book.objects.filter(author=author)._raw_delete("default")
    assert counters(author)[0] == 0
    other.delete()
    assert_in_sync()


def test_a_moved_foreign_key_and_a_flipped_filter_in_one_update(author: Author) -> None:
    other = Author.objects.create(name="other")
    rows = [(a, p) for a in (author, other) for p in (True, False)]
    Book.objects.bulk_create([Book(author=a, published=p, pages=1) for a, p in rows])
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE library_book SET published = NOT published, author_id = %s - author_id", [author.pk + other.pk]
        )
    assert counters(author) == (2, 1, 2, None)
    assert counters(other) == (2, 1, 2, None)


def test_null_foreign_keys_count_for_nobody(author: Author) -> None:
    book = Book.objects.create(pages=5)
    book.author = author
    book.save()
    assert counters(author)[2] == 5
    Book.objects.update(author=None)
    assert counters(author)[2] == 0


def test_a_sum_without_default_is_null_over_no_rows(author: Author) -> None:
    book = Book.objects.create(author=author, published=True, price=0)
    assert counters(author)[3] == 0
    Book.objects.create(author=author, published=True, price=None)
    book.price = None
    book.save()
    assert counters(author)[3] is None


def test_nan_comes_and_goes(author: Author, sql: Sql) -> None:
    sql(
        "INSERT INTO library_book (id, author_id, title, published, price, note) VALUES (1, %s, '', true, 'NaN', '')",
        author.pk,
    )
    assert counters(author)[3].is_nan()
    Book.objects.create(id=2, author=author, published=True, price="2.5")
    assert counters(author)[3].is_nan()
    sql("UPDATE library_book SET price = 1 WHERE id = 1")
    assert counters(author)[3] == 3.5


def test_one_statement_that_deletes_and_inserts(author: Author, sql: Sql) -> None:
    Book.objects.create(author=author, pages=4)
    sql(
        "WITH gone AS (DELETE FROM library_book RETURNING author_id, pages) "
        "INSERT INTO library_book (author_id, pages, title, note, published) "
        "SELECT author_id, pages * n, '', '', true FROM gone, generate_series(2, 3) AS n"
    )
    assert counters(author) == (2, 2, 20, None)


def test_merge_with_all_three_actions(author: Author, sql: Sql) -> None:
    Book.objects.bulk_create([Book(id=n, author=author, pages=n) for n in (1, 2)])
    sql(
        "MERGE INTO library_book AS book USING generate_series(1, 3) AS n ON book.id = n "
        "WHEN MATCHED AND n = 1 THEN DELETE WHEN MATCHED THEN UPDATE SET pages = 20 "
        "WHEN NOT MATCHED THEN INSERT (id, author_id, pages, title, note, published) VALUES (n, %s, 300, '', '', true)",
        author.pk,
    )
    assert counters(author) == (2, 1, 320, None)


def test_copy(author: Author) -> None:
    with (
        connection.cursor() as cursor,
        cursor.copy("COPY library_book (author_id, pages, title, note, published) FROM STDIN") as copy,
    ):
        for pages in range(5):
            copy.write_row((author.pk, pages, "", "", True))
    assert counters(author) == (5, 5, 10, None)


def test_truncate(author: Author, sql: Sql) -> None:
    sql("SET CONSTRAINTS ALL IMMEDIATE")
    Book.objects.create(author=author, published=True, price=3)
    sql("TRUNCATE library_book")
    assert counters(author) == (0, 0, 0, None)


def test_a_rolled_back_savepoint_leaves_nothing(author: Author) -> None:
    class Undo(Exception):
        pass

    with pytest.raises(Undo), transaction.atomic():
        Book.objects.create(author=author)
        raise Undo
    assert counters(author)[0] == 0


def test_a_cascade_that_the_database_runs(author: Author, sql: Sql) -> None:
    """Three levels in one statement: shelf, category, child categories."""
    sql("INSERT INTO library_shelf (id) VALUES (1), (2)")
    sql(
        "DO $$ BEGIN EXECUTE (SELECT 'ALTER TABLE library_category DROP CONSTRAINT ' || conname FROM pg_constraint "
        "WHERE conrelid = 'library_category'::regclass AND confrelid = 'library_category'::regclass); END $$"
    )
    sql(
        "ALTER TABLE library_category ADD CONSTRAINT down FOREIGN KEY (parent_id) "
        "REFERENCES library_category ON DELETE CASCADE"
    )
    sql(
        "INSERT INTO library_category (id, shelf_id, parent_id) VALUES (1, 1, NULL), (2, 2, 1), (3, 2, 2), (4, 1, NULL)"
    )
    sql("SET CONSTRAINTS ALL IMMEDIATE")
    sql("DELETE FROM library_category WHERE id = 1")
    assert_in_sync()
    assert sql("SELECT num_categories, num_children FROM library_shelf ORDER BY id") == [(1, 0), (0, 0)]


def test_two_foreign_keys_to_one_target(db: None) -> None:
    here, there = Port.objects.create(code="HERE"), Port.objects.create(code="GONE")
    Voyage.objects.bulk_create([Voyage(origin=here, destination=there, miles=2**60) for _ in range(16)])
    Voyage.objects.filter(origin=here).update(origin=there, destination=here)
    here.refresh_from_db()
    assert (here.departures, here.arrivals, here.miles_in) == (0, 16, 2**64)
    assert_in_sync()


def test_a_one_to_one_relation_with_uuid_keys(db: None) -> None:
    person = Person.objects.create()
    profile = Profile.objects.create(person=person, karma=-3)
    person.refresh_from_db()
    assert (person.num_profiles, person.karma) == (1, -3)
    profile.delete()
    person.refresh_from_db()
    assert (person.num_profiles, person.karma) == (0, None)


def test_loaddata_brings_children_first_and_stale_values(db: None, tmp_path: Path) -> None:
    rows = [
        {"model": "library.book", "pk": 1, "fields": {"author": 7, "pages": 5, "published": True, "price": "1.00"}},
        {
            "model": "library.author",
            "pk": 7,
            "fields": {"name": "x", "num_books": 99, "pages_total": -1, "revenue": "8"},
        },
        {"model": "library.book", "pk": 2, "fields": {"author": 7, "pages": 6}},
    ]
    fixture = tmp_path / "rows.json"
    fixture.write_text(json.dumps(rows))
    call_command("loaddata", str(fixture), verbosity=0)
    assert counters(Author.objects.get()) == (2, 1, 11, 1)


def test_numeric_overflow_is_postgresqls_error_and_changes_nothing(author: Author, sql: Sql) -> None:
    sql("SELECT set_config('trigger_kit.depth', '0', true)")
    sql("UPDATE library_author SET num_books = 2147483647")
    with (
        pytest.raises(
            Exception,
            match=r"integer out of range(.|\n)*library.Author:num_books(.|\n)*tk_library_author_from_library_book_insert",
        ),
        transaction.atomic(),
    ):
        Book.objects.create(author=author)
    assert not Book.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_psql_and_a_second_program(server: Server) -> None:
    """Two programs that know nothing of Django write committed rows."""
    author = Author.objects.create(name="a")
    url = server.database(connection.settings_dict["NAME"]).url
    insert = (
        f"INSERT INTO library_book (author_id, pages, title, note, published) VALUES ({author.pk}, 10, '', '', true)"
    )
    subprocess.run([server.psql, url, "-qXc", insert], check=True)
    program = f"import psycopg; psycopg.connect({url!r}, autocommit=True).execute({insert!r})"
    subprocess.run([sys.executable, "-c", program], check=True)
    assert counters(author) == (2, 2, 20, None)
