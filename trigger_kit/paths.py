"""RESOLVE, the nouns: columns, hops from row to row, and the sources that a rule reads.

Expressions are compiled by Django's own PostgreSQL backend, which never connects here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Any

from django.db.backends.postgresql.base import DatabaseWrapper
from django.db.models import Field, Model, UniqueConstraint

__all__ = ["Column", "ContentType", "Hop", "Path", "Source", "cast_type", "column_of", "make_hop", "offline_connection"]


@dataclass(frozen=True, order=True)
class Column:
    """A column of a table; ``type`` is its PostgreSQL type without length or scale."""

    table: str
    name: str
    type: str


@dataclass(frozen=True, order=True)
class ContentType:
    """What a generic relation asks of its far side: ``column`` names the content type of a model, by its label."""

    column: str
    app_label: str
    model: str
    table: str = "django_content_type"


@dataclass(frozen=True)
class Hop:
    """One step from a row to related rows: ``far`` columns equal ``near`` columns.

    The near side is the target's. Whether a side is unique tells a parent from its children.
    """

    near: tuple[Column, ...]
    far: tuple[Column, ...]
    near_is_unique: bool
    far_is_unique: bool
    content_type: ContentType | None = None

    @property
    def table(self) -> str:
        """The table that the hop leads to."""
        return self.far[0].table

    def __str__(self) -> str:
        far, near = (", ".join(column.name for column in side) for side in (self.far, self.near))
        return f"{self.table}.{far} = {self.near[0].table}.{near}"


Path = tuple[Hop, ...]


@dataclass(frozen=True, eq=False)
class Source:
    """Rows that a rule reads: ``columns`` of the ``model`` at the end of a ``path`` from the target.

    An empty path is the target's row itself.
    """

    model: type[Model]
    path: Path
    columns: tuple[str, ...]

    @property
    def table(self) -> str:
        """The source's table."""
        return self.model._meta.db_table


@cache
def offline_connection() -> DatabaseWrapper:
    """Return a PostgreSQL backend that never connects: it quotes and compiles for the oldest supported server."""
    connection = DatabaseWrapper({"NAME": "offline", "OPTIONS": {}, "TIME_ZONE": None}, alias="trigger_kit_offline")
    connection.__dict__["pg_version"] = 150000
    return connection


def column_of(field: Any) -> Column:
    """Return a field's column; the type is the one a foreign key to it would have, so serials become integers."""
    connection = offline_connection()
    declared = field.target_field.rel_db_type(connection) if field.is_relation else field.rel_db_type(connection)
    kind = re.sub(r"\(.*?\)", "", declared or "").strip()
    return Column(table=field.model._meta.db_table, name=field.column, type=kind)


def cast_type(field: Any) -> str:
    """Return the type that a value is cast to on its way into a field's column, length and scale included."""
    stored = field.target_field if field.is_relation else field
    return str(stored.cast_db_type(offline_connection()) or stored.rel_db_type(offline_connection()))


def make_hop(
    near: tuple[Field[Any, Any], ...], far: tuple[Field[Any, Any], ...], content_type: ContentType | None = None
) -> Hop:
    """Return the hop between two rows of fields that are equal."""
    return Hop(
        near=tuple(map(column_of, near)),
        far=tuple(map(column_of, far)),
        near_is_unique=_is_unique(near),
        far_is_unique=content_type is None and _is_unique(far),
        content_type=content_type,
    )


def _is_unique(fields: tuple[Field[Any, Any], ...]) -> bool:
    """Whether at most one row has given values in these fields."""
    names = {field.name for field in fields}
    meta = fields[0].model._meta
    keys: list[set[str]] = [{field.name for field in meta.pk_fields}, *map(set, meta.unique_together)]
    keys += [
        set(constraint.fields)
        for constraint in meta.constraints
        if isinstance(constraint, UniqueConstraint) and constraint.condition is None and constraint.fields
    ]
    return any(key <= names for key in keys) or any(field.unique for field in fields)
