"""Logical replication of all tables and of the sources only, and a physical standby: on a server of their own."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from dev.postgres import Restartable, restartable_server
from tests.migration import shop
from tests.migration.conftest import Workshop
from tests.migration.programs import moved
from tests.migration.project import Project

# What takes longer hangs.
SECONDS = 60


@pytest.fixture(scope="module")
def machine() -> Iterator[Restartable]:
    """Start a server that keeps what replication needs."""
    with restartable_server() as machine:
        with psycopg.connect(machine.server.url, autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET wal_level = logical")
        machine.stop()
        machine.start()
        yield machine


@pytest.fixture(scope="module")
def origin(workshop: Workshop, machine: Restartable, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Migrate a project there once, without rows: databases are copied from it."""
    machine.server.database("origin").create()
    built = workshop.build(shop=shop.MODELS)
    project = moved(built, machine.server, "origin", tmp_path_factory.mktemp("origin") / "project")
    project.manage("migrate")
    project.close()
    return project


@pytest.fixture
def publisher(origin: Project, tmp_path: Path) -> Iterator[Project]:
    """Copy it, and give the copy rows, some of them pending."""
    project = copied(origin, "publisher", tmp_path)
    project.psql(shop.ROWS)
    yield project
    project.close()
    project.server.database("publisher").drop()


@pytest.fixture
def subscriber(origin: Project, publisher: Project, tmp_path: Path) -> Iterator[Project]:
    """Make another copy, without rows; the subscription is taken back before the databases go."""
    project = copied(origin, "subscriber", tmp_path)
    project.sql("TRUNCATE django_migrations")
    yield project
    project.sql("ALTER SUBSCRIPTION shop DISABLE")
    project.sql("ALTER SUBSCRIPTION shop SET (slot_name = NONE)")
    project.sql("DROP SUBSCRIPTION shop")
    project.close()
    wait_until(publisher, "SELECT NOT active FROM pg_replication_slots WHERE slot_name = 'shop'")
    publisher.sql("SELECT pg_drop_replication_slot('shop')")
    project.server.database("subscriber").drop()


def copied(origin: Project, database: str, folder: Path) -> Project:
    project = moved(origin, origin.server, database, folder / database)
    with psycopg.connect(origin.server.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {database} TEMPLATE origin")
    return project


def replicate(publisher: Project, subscriber: Project, tables: str) -> None:
    """Publish tables and subscribe to them; both databases are of one server, so that the slot comes first."""
    publisher.sql(f"CREATE PUBLICATION shop FOR {tables}")
    publisher.sql("SELECT pg_create_logical_replication_slot('shop', 'pgoutput')")
    subscriber.sql(f"CREATE SUBSCRIPTION shop CONNECTION '{publisher.url}' PUBLICATION shop WITH (create_slot = false)")
    catch_up(publisher, subscriber)


def catch_up(publisher: Project, subscriber: Project) -> None:
    """Wait until everything that the publisher has committed is there."""
    wait_until(subscriber, "SELECT NOT EXISTS (SELECT FROM pg_subscription_rel WHERE srsubstate <> 'r')")
    end = publisher.value("SELECT pg_current_wal_lsn()")
    has_come = f"SELECT confirmed_flush_lsn >= '{end}' FROM pg_replication_slots WHERE slot_name = 'shop'"
    is_refused = "SELECT apply_error_count > 0 FROM pg_stat_subscription_stats WHERE subname = 'shop'"
    until = time.monotonic() + SECONDS
    while not publisher.value(has_come):
        assert not subscriber.value(is_refused), "The subscriber refuses what comes."
        assert time.monotonic() < until
        publisher.sql("SELECT pg_sleep(0.05)")


def wait_until(project: Project, question: str) -> None:
    """Ask until the answer is yes."""
    end = time.monotonic() + SECONDS
    while not project.value(question):
        assert time.monotonic() < end, question
        project.sql("SELECT pg_sleep(0.05)")


# A row comes for an author who comes later; an author goes with what is pending for it; a source is emptied.
MORE = """
SELECT tk_flush_shop_author();
INSERT INTO shop_sale (author_id, copies) VALUES (1, 1), (50, 2); INSERT INTO shop_author (id, name) VALUES (50, '');
INSERT INTO shop_book (author_id, title, pages) VALUES (51, '', 2); INSERT INTO shop_author (id, name) VALUES (51, '');
DELETE FROM shop_sale WHERE author_id = 50; DELETE FROM shop_author WHERE id = 50;
INSERT INTO shop_sale (author_id, copies) VALUES (1, 7), (2, 8);
"""


def drifted(project: Project) -> set[str]:
    """Return the rules that verify finds drifted."""
    lines = project.manage("trigger_kit verify", code=None).stdout.splitlines()
    return {line.split()[0] for line in lines if line.endswith("drifted")}


def known(project: Project) -> set[tuple[str, str]]:
    """Return the kinds and subjects of the blind spots of a project's database."""
    code = (
        "from django.db import connection; from trigger_kit.plan.live import live_plans;"
        "from trigger_kit.maintenance.blind_spots import blind_spots;"
        "print(*(f'spot {s.kind} {s.subject}' for s in blind_spots(connection, live_plans())), sep=chr(10))"
    )
    lines = [line.split() for line in project.manage(f"shell -c {shlex.quote(code)}").stdout.splitlines()]
    return {(words[1], words[2]) for words in lines if words[:1] == ["spot"]}


def test_all_tables(publisher: Project, subscriber: Project) -> None:
    """Values arrive, pending ones too, and nothing is counted twice; afterwards the copy can take over."""
    replicate(publisher, subscriber, "ALL TABLES")
    assert subscriber.rows() == publisher.rows()
    publisher.sql(shop.CHURN)
    publisher.sql(MORE)
    catch_up(publisher, subscriber)
    publisher.assert_in_sync()
    assert subscriber.rows() == publisher.rows()
    subscriber.assert_in_sync()
    assert set(subscriber.statuses().values()) == {"installed"}
    assert known(subscriber) == known(publisher) == set()
    subscriber.sql("ALTER SUBSCRIPTION shop DISABLE")
    subscriber.sql("SELECT setval('shop_book_id_seq', 1000), setval('shop_sale_id_seq', 1000)")
    subscriber.sql("SELECT setval('shop_author_id_seq', 1000)")
    subscriber.sql(shop.CHURN)
    subscriber.assert_in_sync()


def test_both_sides_verify(publisher: Project, subscriber: Project) -> None:
    replicate(publisher, subscriber, "ALL TABLES")
    for project in (subscriber, publisher, subscriber, publisher):
        project.assert_in_sync()
    publisher.sql(shop.CHURN)
    catch_up(publisher, subscriber)
    assert subscriber.rows() == publisher.rows()


def test_a_publication_of_all_tables_needs_nothing_else(publisher: Project) -> None:
    publisher.sql("CREATE PUBLICATION shop FOR ALL TABLES")
    try:
        publisher.sql(MORE)
    finally:
        publisher.sql("ROLLBACK")


def test_sources_without_their_targets(publisher: Project, subscriber: Project) -> None:
    """What is not published stays as it was: a target, or what is pending for one."""
    subscriber.sql("INSERT INTO shop_publisher (id, name) VALUES (1, ''), (2, ''), (3, '')")
    replicate(publisher, subscriber, "TABLE shop_author, shop_book, shop_sale, shop_folder")
    left = {"shop.Publisher:num_authors", "shop.Publisher:num_books"}
    assert drifted(subscriber) == {*left, "shop.Author:num_sales"}
    spots = {("subscription", "shop_publisher"), ("queue_subscription", "tk_pending_shop_author")}
    assert known(subscriber) == spots
    publisher.sql("SELECT tk_flush_shop_author()")
    publisher.sql(shop.CHURN.replace("INSERT INTO shop_sale (author_id, copies) VALUES (1, 1), (2, 2);", ""))
    publisher.sql("SELECT tk_flush_shop_author()")
    catch_up(publisher, subscriber)
    assert drifted(subscriber) == left
    subscriber.manage("trigger_kit repair shop.Publisher")
    subscriber.assert_in_sync()


def test_a_guard_that_always_fires(publisher: Project, subscriber: Project) -> None:
    """It takes the publisher's values for those of a mistaken writer."""
    guard = "SELECT tgname FROM pg_trigger WHERE tgrelid = 'shop_author'::regclass AND tgname LIKE '%guard%'"
    name = subscriber.value(guard)
    subscriber.sql(f'ALTER TABLE shop_author ENABLE ALWAYS TRIGGER "{name}"')
    replicate(publisher, subscriber, "ALL TABLES")
    publisher.sql(shop.CHURN)
    catch_up(publisher, subscriber)
    assert "shop.Author:num_books" in drifted(subscriber)
    assert known(subscriber) == {("guarded_subscription", name)}
    subscriber.sql(f'ALTER TABLE shop_author ENABLE TRIGGER "{name}"')
    subscriber.manage("trigger_kit repair")
    subscriber.assert_in_sync()


def test_a_standby(publisher: Project, machine: Restartable, tmp_path: Path) -> None:
    """Values are there, verify and ls read them, and nothing is written; once it is promoted, it keeps them itself."""
    with machine.standby() as server:
        standby = moved(publisher, server, publisher.database, tmp_path / "standby")
        publisher.sql(shop.CHURN)
        end = publisher.value("SELECT pg_current_wal_lsn()")
        wait_until(standby, f"SELECT pg_last_wal_replay_lsn() >= '{end}'")
        counts = "SELECT id, num_books, num_sales FROM tk_exact_shop_author JOIN shop_author USING (id, num_sales)"
        assert standby.value("SELECT pg_is_in_recovery()")
        assert standby.sql(counts) == publisher.sql(counts) != []
        standby.assert_in_sync()
        assert set(standby.statuses().values()) == {"installed"}
        assert known(standby) == set()
        assert "read-only" in standby.manage("trigger_kit flush", code=None).stderr
        standby.sql("SELECT pg_promote()")
        standby.sql(shop.CHURN)
        standby.sql("SELECT tk_flush_shop_author()")
        standby.assert_in_sync()
        standby.close()


def test_a_crash_empties_an_unlogged_source(origin: Project, machine: Restartable, tmp_path: Path) -> None:
    project = copied(origin, "unlogged", tmp_path)
    project.sql("ALTER TABLE shop_sale SET UNLOGGED")
    project.psql(shop.ROWS)
    assert known(project) == {("unlogged", "shop_author")}
    project.close()
    machine.kill()
    machine.start()
    assert project.value("SELECT count(*) FROM shop_sale") == 0
    assert drifted(project) == {"shop.Author:num_sales"}
    project.manage("trigger_kit repair shop.Author")
    project.assert_in_sync()
    project.close()
    machine.server.database("unlogged").drop()
