"""Two real sessions at READ COMMITTED: races that a naive trigger loses, and bulk statements in opposite orders."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from django.db import connection

from dev.postgres import Server
from tests.library.models import Author, Book
from trigger_kit.testing import assert_in_sync

Connect = Callable[[], psycopg.Connection]
BOOK = "INSERT INTO library_book (author_id, title, published, price, pages, note) "

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def connect(server: Server, transactional_db: None) -> Iterator[Connect]:
    """Open sessions on the test database; they are closed at the end."""
    opened: list[psycopg.Connection] = []

    def open_session() -> psycopg.Connection:
        opened.append(psycopg.connect(server.database(connection.settings_dict["NAME"]).url))
        return opened[-1]

    yield open_session
    for session in opened:
        session.close()


def blocked(session: psycopg.Connection) -> bool:
    """Whether a session waits for a lock."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT cardinality(pg_blocking_pids(%s)) > 0", [session.info.backend_pid])
        return bool(cursor.fetchone()[0])


def start(pool: ThreadPoolExecutor, session: psycopg.Connection, statement: str) -> Future[Any]:
    """Run a statement in another thread and return once it has finished or waits for a lock."""
    future = pool.submit(session.execute, statement.encode())
    while not future.done() and not blocked(session):
        time.sleep(0.005)
    return future


@pytest.mark.parametrize("first", ["INSERT", "DELETE"])
def test_the_last_row_leaves_while_another_comes(connect: Connect, first: str) -> None:
    """A nullable sum looks whether rows are left: it must see what was committed while it waited."""
    author = Author.objects.create()
    old = Book.objects.create(author=author, published=True, price=10)
    statements = {
        "INSERT": BOOK + f"VALUES ({author.pk}, '', true, 5, 1, '')",
        "DELETE": f"DELETE FROM library_book WHERE id = {old.pk}",
    }
    one, two = connect(), connect()
    one.execute(statements.pop(first).encode())
    (second,) = statements.values()
    with ThreadPoolExecutor(1) as pool:
        waiting = start(pool, two, second)
        assert not waiting.done()
        one.commit()
        waiting.result()
        two.commit()
    assert_in_sync()
    author.refresh_from_db()
    assert author.revenue == 5


def test_two_rows_leave_at_once(connect: Connect) -> None:
    author = Author.objects.create()
    books = Book.objects.bulk_create([Book(author=author, published=True, price=n) for n in (1, 2)])
    one, two = connect(), connect()
    one.execute("DELETE FROM library_book WHERE id = %s", [books[0].pk])
    with ThreadPoolExecutor(1) as pool:
        waiting = start(pool, two, f"DELETE FROM library_book WHERE id = {books[1].pk}")
        one.commit()
        waiting.result()
        two.commit()
    assert_in_sync()
    author.refresh_from_db()
    assert author.revenue is None


def test_nan_leaves_while_a_row_comes(connect: Connect) -> None:
    author = Author.objects.create()
    one, two = connect(), connect()
    one.execute((BOOK + f"VALUES ({author.pk}, '', true, 'NaN', 1, '')").encode())
    one.commit()
    one.execute((BOOK + f"VALUES ({author.pk}, '', true, 5, 1, '')").encode())
    with ThreadPoolExecutor(1) as pool:
        waiting = start(pool, two, "DELETE FROM library_book WHERE price = 'NaN'")
        one.commit()
        waiting.result()
        two.commit()
    assert_in_sync()
    author.refresh_from_db()
    assert author.revenue == 5


def test_a_stale_save_meets_a_running_delta(connect: Connect) -> None:
    """The guard keeps the value that is stored when it gets the row, not the one that the writer has read."""
    author = Author.objects.create(name="a")
    one, two = connect(), connect()
    one.execute((BOOK + f"VALUES ({author.pk}, '', true, 5, 7, '')").encode())
    with ThreadPoolExecutor(1) as pool:
        waiting = start(pool, two, f"UPDATE library_author SET name = 'b', num_books = 0 WHERE id = {author.pk}")
        assert not waiting.done()
        one.commit()
        waiting.result()
        two.commit()
    assert_in_sync()
    author.refresh_from_db()
    assert (author.name, author.num_books, author.pages_total) == ("b", 1, 7)


def test_bulk_statements_in_opposite_key_orders_do_not_deadlock(connect: Connect) -> None:
    """Targets are locked in key order, whatever the order of the rows."""
    Author.objects.bulk_create([Author(id=n) for n in range(1, 201)])
    barrier = threading.Barrier(2)

    def work(session: psycopg.Connection, direction: str) -> None:
        for _ in range(15):
            barrier.wait()
            rows = f"SELECT n, '', true, 1, 1, '' FROM generate_series(1, 200) AS n ORDER BY n {direction}"
            session.execute((BOOK + rows).encode())
            session.commit()

    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(work, connect(), direction) for direction in ("ASC", "DESC")]
        for future in futures:
            future.result()
    assert_in_sync()
    assert set(Author.objects.values_list("num_books", flat=True)) == {30}


def test_verify_raises_no_false_alarm_under_live_writers(connect: Connect) -> None:
    Author.objects.bulk_create([Author(id=n) for n in range(1, 11)])
    session, stop = connect(), threading.Event()

    def write() -> None:
        n = 0
        while not stop.is_set():
            n += 1
            session.execute((BOOK + f"VALUES ({1 + n % 10}, '', true, {n % 7}, {n % 5}, '')").encode())
            session.execute(
                f"UPDATE library_book SET author_id = 1 + (author_id + 3) % 10 WHERE id % 3 = {n % 3}".encode()
            )
            session.commit()

    with ThreadPoolExecutor(1) as pool:
        writer = pool.submit(write)
        try:
            for _ in range(20):
                assert_in_sync(Author)
        finally:
            stop.set()
        writer.result()
    assert Book.objects.exists()


def test_a_child_comes_before_its_parent_in_another_transaction(connect: Connect) -> None:
    child, parent = connect(), connect()
    child.execute((BOOK + "VALUES (7, '', true, 5, 1, '')").encode())
    parent.execute("INSERT INTO library_author (id, name) VALUES (7, '')")
    parent.commit()
    child.commit()
    assert_in_sync()
