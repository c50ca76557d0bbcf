"""Fixtures: tables of the archive that take short INSERTs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.apps import apps
from django.db import transaction
from psycopg.sql import Literal

from tests.archive.keeping import open_savepoint


@pytest.fixture
def short_inserts(sql: Callable[..., list[tuple[Any, ...]]]) -> Iterator[None]:
    """Raw INSERTs need not name what they do not care about; rows that a test leaves without their parents are gone
    before foreign keys are checked."""
    savepoint = open_savepoint()
    for model in apps.get_app_config("archive").get_models():
        fields = [field for field in model._meta.local_concrete_fields if field.has_default()]
        values = {f.column: "{}" if f.get_internal_type() == "JSONField" else f.get_default() for f in fields}
        changes = [f"ALTER COLUMN {name} SET DEFAULT {Literal(value).as_string()}" for name, value in values.items()]
        changes += ["ALTER COLUMN id RESTART WITH 1000"] if model._meta.auto_field else []
        if changes:
            sql(f"ALTER TABLE {model._meta.db_table} {', '.join(changes)}")
    yield
    transaction.savepoint_rollback(savepoint)
