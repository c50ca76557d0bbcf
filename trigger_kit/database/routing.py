"""INSTALL: which databases a rule lives in: those of its target, if its sources are there too."""

from __future__ import annotations

from collections.abc import Iterable

from django.apps.registry import Apps
from django.conf import settings
from django.db import connections, router
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Model

from trigger_kit.database.catalog import has_table

__all__ = ["is_at_home", "is_kept_apart"]


def is_at_home(
    connection: BaseDatabaseWrapper, apps: Apps, target: tuple[str, str], tables: Iterable[str], *, may_ask: bool = True
) -> bool:
    """Whether a target, and the tables that its triggers watch, belong into a database, which must be PostgreSQL.

    ``may_ask`` says that the database has the tables under these names now, so that it may be asked for them.
    """
    model, alias = apps.get_model(*target), connection.alias
    if connection.vendor != "postgresql" or not model._meta.can_migrate(alias):  # type: ignore[attr-defined]
        return False
    watched = set(tables)
    sources = [other for other in apps.get_models(include_auto_created=True) if other._meta.db_table in watched]
    return router.allow_migrate_model(alias, model) and not any(
        is_kept_apart(alias, model, source, may_ask=may_ask) for source in sources
    )


def is_kept_apart(alias: str, target: type[Model], source: type[Model], *, may_ask: bool) -> bool:
    """Whether a router lets a target into a database, and the source into others only.

    A source that it lets nowhere may be there all the same, in a schema that is migrated for all who share it: the
    database knows, and ``may_ask`` says that it may be asked.
    """
    if not router.allow_migrate_model(alias, target) or router.allow_migrate_model(alias, source):
        return False
    if any(router.allow_migrate_model(other, source) for other in settings.DATABASES):
        return True
    return may_ask and not has_table(connections[alias], source._meta.db_table)
