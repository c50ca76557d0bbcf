"""Fixtures: sessions on the test database."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from django.db import connection
from pytest_django import DjangoDbBlocker

from dev.postgres import Server
from tests.concurrency.ground import Ground, defaults, drop_default, set_default
from tests.concurrency.schedules import Stage


@pytest.fixture(scope="module")
def ground(server: Server, django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[Ground]:
    """Sessions on the test database, whose archive tables take short INSERTs meanwhile."""
    url = server.database(connection.settings_dict["NAME"]).url
    with django_db_blocker.unblock(), Stage(url) as stage:
        ground = Ground(stage, psycopg.connect(url, autocommit=True))
        for statement in defaults(set_default):
            ground.admin.execute(statement.encode())
        ground.look_around()
        yield ground
        ground.reset()
        for statement in defaults(drop_default):
            ground.admin.execute(statement.encode())
        ground.admin.close()


@pytest.fixture
def url(server: Server, db: None) -> str:
    """The test database, for sessions of a test's own."""
    return server.database(connection.settings_dict["NAME"]).url
