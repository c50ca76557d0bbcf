"""Pauses and switches while writers go on: nobody waits long for them, and afterwards every value is right."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest
from django.db import connection, transaction
from django.db.models import Count, F, Max, Sum
from psycopg import IsolationLevel

import trigger_kit
from dev.postgres import Server
from tests.archive.keeping import Rules, assert_rules_hold
from tests.archive.models import Node, Person, Publisher, Work
from tests.combinations import in_turn
from tests.concurrency.cases import Case
from tests.concurrency.ground import Ground
from tests.library.models import Author, Book, Category, Shelf
from trigger_kit import Denormalize, Timing
from trigger_kit.maintenance import long_pauses
from trigger_kit.maintenance.long_pauses import pause, resume
from trigger_kit.maintenance.status import rule_statuses
from trigger_kit.maintenance.switch import disable, enable, install_rules, uninstall
from trigger_kit.sql.text import advisory_number
from trigger_kit.testing import assert_in_sync

pytestmark = pytest.mark.django_db(transaction=True)

WRITERS = 3
AUTHORS, SHELVES = 12, 4
STATEMENTS = (
    "INSERT INTO library_book (author_id, title, published, price, pages, note) "
    "SELECT 1 + (n + {a}) % 12, '', n % 2 = 0, n % 7, n % 5, '' FROM generate_series(1, {b}) AS n",
    "UPDATE library_book SET author_id = 1 + (author_id + {b}) % 12 WHERE id % 7 = {c}",
    "UPDATE library_book SET published = NOT published, pages = {a} WHERE id % 5 = {c}",
    "DELETE FROM library_book WHERE id % 11 = {a} % 11",
    "INSERT INTO library_category (shelf_id, parent_id, num_children) VALUES (1 + {a} % 4, NULL, 0)",
    "INSERT INTO library_category (shelf_id, parent_id, num_children) "
    "SELECT 1 + {a} % 4, max(id), 0 FROM library_category",
    "UPDATE library_category SET shelf_id = 1 + (shelf_id + {b}) % 4 WHERE id % 5 = {c}",
    "UPDATE library_author SET name = name || 'x', num_books = 0 WHERE id = 1 + {a} % 12",
)
# What writers run into without us: rows are written in any order.
HARMLESS = (psycopg.errors.DeadlockDetected,)


@dataclass
class Traffic:
    """Writers, each with a session of its own, and how many statements they have run.

    ``lengths`` are the numbers of statements that a transaction may have, ``patience`` the longest wait for a lock.
    """

    url: str
    lengths: tuple[int, ...] = (1, 1, 2)
    texts: Sequence[str] = STATEMENTS
    stop: threading.Event = field(default_factory=threading.Event)
    patience: str = "0"
    statements: int = 0
    errors: list[Exception] = field(default_factory=list)

    def write(self, seed: int) -> None:
        """Write until told to stop."""
        chance = random.Random(seed)
        # Writers that wait for each other in a circle shall not count as waiting for us.
        options = f"-c deadlock_timeout=10ms -c lock_timeout={self.patience}"
        with psycopg.connect(self.url, options=options) as session:
            while not self.stop.is_set():
                try:
                    for _ in range(chance.choice(self.lengths)):
                        self._execute(session, chance)
                    session.commit()
                except HARMLESS:
                    session.rollback()
                except psycopg.Error as error:
                    self.errors.append(error)
                    return

    def _execute(self, session: psycopg.Connection, chance: random.Random) -> None:
        numbers = {"a": chance.randrange(12), "b": chance.randrange(1, 4), "c": chance.randrange(5)}
        session.execute(chance.choice(self.texts).format(**numbers).encode())
        self.statements += 1

    def go_on(self, statements: int = 60) -> None:
        """Return when so many more statements have run."""
        until = self.statements + statements
        while self.statements < until and not self.errors:
            time.sleep(0.01)


@pytest.fixture
def url(server: Server, transactional_db: None) -> str:
    return server.database(connection.settings_dict["NAME"]).url


@pytest.fixture
def rows(transactional_db: None) -> None:
    Author.objects.bulk_create([Author(id=n) for n in range(1, AUTHORS + 1)])
    Shelf.objects.bulk_create([Shelf(id=n) for n in range(1, SHELVES + 1)])
    root = Category.objects.create(shelf_id=1)
    Category.objects.bulk_create([Category(shelf_id=1 + n % SHELVES, parent=root) for n in range(20)])
    Book.objects.bulk_create([Book(author_id=1 + n % AUTHORS, pages=n % 7, published=n % 2 == 0) for n in range(300)])


@contextmanager
def traffic(
    url: str, lengths: tuple[int, ...] = (1, 1, 2), statements: Sequence[str] = STATEMENTS, patience: str = "0"
) -> Iterator[Traffic]:
    """Let writers write; one that waits for a lock for longer than its ``patience`` has an error."""
    running = Traffic(url, lengths, statements, patience=patience)
    with ThreadPoolExecutor(WRITERS) as pool:
        futures = [pool.submit(running.write, seed) for seed in range(WRITERS)]
        try:
            yield running
        finally:
            running.stop.set()
        for future in futures:
            future.result()
    assert running.errors == []
    assert running.statements > 100


def run(changes: Iterator[Any]) -> None:
    assert [str(change) for change in changes if change.is_failure] == []


def assert_all_well() -> None:
    assert {status.status for status in rule_statuses()} == {"installed"}
    assert_in_sync()
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM tk_touched")
        assert cursor.fetchone() == (0,)


@pytest.mark.parametrize("batch_size", [2, 1000])
def test_pause_and_resume(rows: None, url: str, monkeypatch: pytest.MonkeyPatch, batch_size: int) -> None:
    monkeypatch.setattr(long_pauses, "BATCH_SIZE", batch_size)
    with traffic(url, patience="2s") as writers:
        for uris in ((), ["library.Author"], ["library.Category", "library.Shelf"]):
            run(pause(uris))
            writers.go_on()
            run(resume())
            writers.go_on()
    assert_all_well()


def test_disable_and_enable(rows: None, url: str) -> None:
    with traffic(url, patience="2s") as writers:
        for uris in ((), ["library.Category"]):
            run(disable(uris))
            writers.go_on()
            run(enable())
            writers.go_on()
    assert_all_well()


def test_uninstall_and_install(rows: None, url: str) -> None:
    with traffic(url, patience="2s") as writers:
        for uris in ((), ["library.Author"]):
            run(uninstall(uris))
            writers.go_on()
            run(install_rules())
            writers.go_on()
    assert_all_well()


def test_paused_blocks_beside_writers(rows: None, url: str) -> None:
    # Statements one by one take their locks in the order in which the repair does.
    with traffic(url, (1,)) as writers:
        for number in range(8):
            with trigger_kit.paused():
                Book.objects.bulk_create([Book(author_id=1 + n % AUTHORS, pages=n) for n in range(40)])
                Category.objects.create(shelf_id=1 + number % SHELVES)
                if number % 2:
                    Book.objects.filter(pages__gt=3).delete()
            writers.go_on(20)
    assert_all_well()


def start(pool: ThreadPoolExecutor, act: Callable[[], Any]) -> Future[Any]:
    def work() -> Any:
        try:
            return act()
        finally:
            connection.close()

    return pool.submit(work)


WRITING = "INSERT INTO library_book (author_id, title, published, note) VALUES (1, '', true, '')"
READING = "SELECT count(*) FROM library_book"


@pytest.mark.parametrize(
    ("switch", "holding"),
    [
        (uninstall, WRITING),
        (uninstall, READING),
        *(pytest.param(switch, WRITING, marks=pytest.mark.thorough) for switch in (disable, resume, enable)),
        (install_rules, WRITING),
    ],
    ids=["uninstall", "uninstall, a reader", "disable", "resume", "enable", "install"],
)
def test_nobody_queues_behind_a_switch_that_waits(
    rows: None, url: str, switch: Callable[..., Iterator[Any]], holding: str
) -> None:
    """A long transaction holds the source: the switch tries again and again, and writers pass in between."""
    before = {enable: disable, install_rules: uninstall, resume: pause}.get(switch)
    if before:
        run(before(["library.Author"]))
    with psycopg.connect(url) as long, psycopg.connect(url, autocommit=True) as writer, ThreadPoolExecutor(1) as pool:
        long.execute(holding.encode())
        # The server's own measure of waiting for locks: a busy machine does not count.
        writer.execute("SET lock_timeout = '1s'")
        switching = start(pool, lambda: list(switch(["library.Author"])))
        for _ in range(20):
            writer.execute("INSERT INTO library_book (author_id, title, published, note) VALUES (2, '', true, '')")
            writer.execute("SELECT count(*) FROM library_author")
            time.sleep(0.05)
        assert not switching.done()
        long.commit()
        done = switching.result(timeout=30)
    assert not any(change.is_failure for change in done)
    run(install_rules())
    run(enable())
    assert_all_well()


def test_who_installs_waits_for_another_one_that_fills(rows: None, url: str) -> None:
    """It would find the pause under which the other one fills the rows, and refuse."""
    run(uninstall(["library.Author"]))
    number = advisory_number("install", "public", "library_author")
    with psycopg.connect(url, autocommit=True) as other, ThreadPoolExecutor(1) as pool:
        other.execute("SELECT pg_advisory_lock(%s)", [number])
        installing = start(pool, lambda: list(install_rules(["library.Author"])))
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        deadline = time.monotonic() + 20
        while other.execute(waiting).fetchone() != (1,):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        other.execute("SELECT pg_advisory_unlock(%s)", [number])
        assert [change.symbol for change in installing.result(timeout=30)] == ["+"]
        assert other.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchone() == (0,)
    assert_all_well()


def test_a_switch_that_gets_no_lock_gives_up_and_says_who_is_in_the_way(rows: None, url: str, settings: Any) -> None:
    settings.TRIGGER_KIT = {"LOCK_PATIENCE": 0.5}
    with psycopg.connect(url, application_name="nightly report") as long:
        long.execute(WRITING.encode())
        for switch in (uninstall, disable):
            (change,) = switch(["library.Author"])
            assert change.is_failure
            assert "nightly report" in change.text
        long.rollback()
    assert_all_well()


def test_a_resume_that_gets_no_lock_leaves_the_pause(rows: None, url: str, settings: Any) -> None:
    settings.TRIGGER_KIT = {"LOCK_PATIENCE": 0.5}
    run(pause(["library.Author"]))
    with psycopg.connect(url) as long:
        long.execute(WRITING.encode())
        (change,) = resume(["library.Author"])
        assert change.is_failure
        long.commit()
    assert {status.status for status in rule_statuses(uris=["library.Author"])} == {"paused"}
    run(resume())
    assert_all_well()


def test_a_target_that_somebody_holds_is_left_to_the_next_round(rows: None, url: str) -> None:
    run(pause(["library.Author"]))
    Book.objects.bulk_create([Book(author_id=1 + n % AUTHORS) for n in range(40)])
    with psycopg.connect(url) as holder, ThreadPoolExecutor(1) as pool:
        holder.execute("UPDATE library_author SET name = 'held' WHERE id = 3")
        resuming = start(pool, lambda: list(resume()))
        time.sleep(1.5)
        assert not resuming.done()
        holder.execute("INSERT INTO library_book (author_id, title, published, note) VALUES (3, '', true, '')")
        holder.commit()
        resuming.result(timeout=30)
    assert_all_well()


def test_two_resumes_at_once(rows: None, url: str) -> None:
    for _ in range(3):
        run(pause())
        Book.objects.bulk_create([Book(author_id=1 + n % AUTHORS) for n in range(40)])
        with ThreadPoolExecutor(2) as pool:
            for future in [start(pool, lambda: run(resume())) for _ in range(2)]:
                future.result(timeout=60)
    assert_all_well()


def test_fresh_sessions_and_old_ones_agree(rows: None, url: str) -> None:
    """Sessions that have compiled the functions before notice both swaps."""
    insert = WRITING.encode()
    with psycopg.connect(url, autocommit=True) as session:
        session.execute(insert)
        run(pause())
        session.execute(insert)
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM tk_touched")
            assert cursor.fetchone() == (1,)
        run(resume())
        session.execute(insert)
    assert_all_well()


def test_a_connection_at_repeatable_read(rows: None, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Switches run at READ COMMITTED, whatever level the project's connections have; paused() at that level."""
    monkeypatch.setitem(connection.settings_dict["OPTIONS"], "isolation_level", IsolationLevel.REPEATABLE_READ)
    connection.close()
    for off, on in ((pause, resume), (disable, enable), (uninstall, install_rules)):
        run(off())
        Book.objects.create(author_id=1, pages=3)
        run(on())
        assert_all_well()
    with trigger_kit.paused():
        Book.objects.create(author_id=1, pages=3)
    assert_all_well()
    connection.close()


# Every strategy and timing -------------------------------------------------------------------------------------------

SEED = (
    "INSERT INTO archive_publisher (id, number, name) SELECT lpad(n::text, 32, '0')::uuid, n, '' "
    "FROM generate_series(1, 4) AS n; "
    "INSERT INTO archive_work (id, publisher_id, title) SELECT n, 1 + n % 4, '' FROM generate_series(1, 12) AS n; "
    "INSERT INTO archive_person (id, name) SELECT n, '' FROM generate_series(1, 5) AS n; "
    "INSERT INTO archive_review (id, work_id, author_id, stars, text) SELECT n, 1 + n % 12, 1 + n % 5, n % 5, '' "
    "FROM generate_series(1, 60) AS n; "
    "INSERT INTO archive_node (id, parent_id, own, name) SELECT n, nullif(n / 2, 0), n, '' "
    "FROM generate_series(1, 15) AS n"
)
ARCHIVE = (
    "INSERT INTO archive_review (work_id, author_id, stars, text) "
    "SELECT 1 + (n + {a}) % 12, 1 + {c}, n, 'x' FROM generate_series(1, {b}) AS n",
    "UPDATE archive_review SET work_id = 1 + (work_id + {b}) % 12 WHERE id % 7 = {c}",
    "UPDATE archive_review SET stars = {a} WHERE id % 5 = {c}",
    "DELETE FROM archive_review WHERE id % 11 = {a} % 11",
    "UPDATE archive_work SET publisher_id = 1 + (publisher_id + {b}) % 4 WHERE id = 1 + {a}",
    "UPDATE archive_publisher SET name = 'n{a}' WHERE number = 1 + {c} % 4",
    "UPDATE archive_node SET own = {a} WHERE id = 1 + {a}",
    "UPDATE archive_node SET parent_id = 1 + {c} % 3 WHERE id = 8 + {a} % 8",
)


def every_kind() -> Rules:
    return [
        (
            Work,
            [
                Denormalize("the_count", Count("reviews"), timing=Timing.QUEUED),
                Denormalize("the_total", Sum("reviews__stars", default=0)),
                Denormalize("kept_number", Max("reviews__stars")),
                Denormalize("kept_text", F("publisher__name")),
            ],
        ),
        (
            Person,
            [
                Denormalize("the_count", Count("reviews"), timing=Timing.DEFERRED),
                Denormalize("kept_number", Max("reviews__stars"), timing=Timing.DEFERRED),
            ],
        ),
        (
            Publisher,
            [
                Denormalize("the_count", Count("works__reviews", distinct=True)),
                Denormalize("the_total", Sum("works__the_total", default=0)),
                Denormalize("kept_number", Max("works__reviews__stars")),
            ],
        ),
        (Node, [Denormalize("the_total", F("own") + Sum("children__the_total", default=0))]),
    ]


@pytest.mark.parametrize(
    "switches", [(pause, resume), *in_turn([(disable, enable), (uninstall, install_rules)], of=3, turn=2)]
)
def test_every_strategy_and_timing(
    ground: Ground, url: str, monkeypatch: pytest.MonkeyPatch, switches: tuple[Any, Any]
) -> None:
    off, on = switches
    rules = every_kind()
    case = Case("live", every_kind, SEED, (), keeps_timings=True)
    monkeypatch.setattr("trigger_kit.plan.live.declared", lambda apps: rules)
    with ground.installed(case) as kept:
        kept.reset()
        ground.admin.execute("SELECT setval('archive_review_id_seq', 1000)")
        with traffic(url, statements=ARCHIVE) as writers:
            for _ in range(2):
                run(off())
                writers.go_on()
                run(on())
                writers.go_on()
        with transaction.atomic():
            assert_rules_hold(rules)
        assert {status.status for status in rule_statuses() if status.model} == {"installed"}
