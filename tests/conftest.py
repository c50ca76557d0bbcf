"""Fixtures: a real PostgreSQL server, started when the first test asks for the database."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest
from django.db import connection

from dev.postgres import NoServerError, Server, running_server
from tests.combinations import repeats


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that runs what is left out by default."""
    parser.addoption(
        "--all",
        action="store_true",
        help="Run every combination of parameters, the tests marked as thorough, and eight times the examples per property.",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Tell the properties, which read it when they are imported."""
    os.environ.setdefault("TRIGGER_KIT_EXAMPLES", "120" if config.getoption("--all") else "15")


def pytest_report_header(config: pytest.Config) -> str:
    """Say what is left out."""
    if config.getoption("--all"):
        return "all tests"
    return "one test for each value of each parameter, not for each combination, and none marked as thorough: see --all"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is thorough, and combinations that show nothing new, unless all is asked for."""
    if config.getoption("--all") or any("::" in argument for argument in config.args):
        return
    thorough = {item for item in items if item.get_closest_marker("thorough")}
    left_out = thorough | repeats(item for item in items if item not in thorough)
    config.hook.pytest_deselected(items=[item for item in items if item in left_out])
    items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """The server that the suite runs on."""
    try:
        with running_server() as running:
            if running.is_throw_away:
                wait_for_no_disk(running)
            yield running
    except NoServerError as error:
        pytest.exit(str(error), returncode=2)


def wait_for_no_disk(server: Server) -> None:
    """Let a server that goes with the tests leave its files to the operating system."""
    with psycopg.connect(server.url, autocommit=True) as connection:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            connection.execute(f"ALTER SYSTEM SET {setting} = off".encode())
        connection.execute("SELECT pg_reload_conf()")


@pytest.fixture(scope="session")
def django_db_modify_db_settings(server: Server, django_db_modify_db_settings_parallel_suffix: None) -> None:
    """Point Django at the server before the test database is made."""
    name = connection.settings_dict["TEST"].get("NAME")
    connection.settings_dict.update(server.django_settings)
    connection.settings_dict["TEST"]["NAME"] = name or "test_trigger_kit"


@pytest.fixture(autouse=True)
def new_session(django_db_blocker: Any) -> Iterator[None]:
    """Give the next test a session of its own.

    A session keeps the plans of functions that a rollback has taken back, and looks them over at every change of a
    table: after some hundred tests that make triggers, most of the time goes there.
    """
    yield
    if connection.connection is not None and not connection.in_atomic_block:
        with django_db_blocker.unblock():
            connection.close()


@pytest.fixture
def sql(db: None) -> Callable[..., list[tuple[Any, ...]]]:
    """Run raw SQL and return its rows."""

    def run(statement: str, *params: Any) -> list[tuple[Any, ...]]:
        with connection.cursor() as cursor:
            cursor.execute(statement, list(params) or None)
            return cursor.fetchall() if cursor.description else []

    return run


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Close what a test opens."""
    with ExitStack() as opened:
        yield opened
