"""RESOLVE, the nouns: columns, hops from row to row, and the sources that a rule reads.

Expressions are compiled by Django's own PostgreSQL backend, which never connects here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Any

from django.db.backends.postgresql.base import DatabaseWrapper
from django.db.models import (
    DecimalField,
    DurationField,
    Field,
    FloatField,
    JSONField,
    Model,
    UniqueConstraint,
)

__all__ = [
    "Column",
    "ContentType",
    "Hop",
    "Path",
    "Source",
    "cast_type",
    "column_of",
    "full_type",
    "is_built_in",
    "is_comparable",
    "is_loose",
    "key_type",
    "make_hop",
    "offline_connection",
]


@dataclass(frozen=True, order=True)
class Column:
    """A column of a table; ``type`` is its PostgreSQL type without length or scale."""

    table: str
    name: str
    type: str


# Types that come with PostgreSQL, by the names that Django gives them; operators of others are found by search_path.
_BUILT_IN = {
    "bigint", "boolean", "bytea", "char", "character varying", "cidr", "date", "double precision", "inet", "integer",
    "interval", "jsonb", "macaddr", "numeric", "real", "smallint", "text", "time", "time without time zone",
    "timestamp with time zone", "timestamp without time zone", "tsvector", "uuid", "varchar",
}  # fmt: skip


def is_built_in(kind: str) -> bool:
    """Whether a type, or that of an array's elements, comes with PostgreSQL."""
    return kind.removesuffix("[]") in _BUILT_IN


@dataclass(frozen=True, order=True)
class ContentType:
    """What a generic relation asks of the rows that point: ``column`` names the content type of a model, by its label.

    These rows are the far side of a hop from the model to them, and the near side (``is_near``) of the way back.
    """

    column: str
    app_label: str
    model: str
    is_near: bool = False
    table: str = "django_content_type"


@dataclass(frozen=True)
class Hop:
    """One step from a row to related rows: ``far`` columns equal ``near`` columns.

    The near side is the target's. Whether a side is unique tells a parent from its children. ``child`` is the side,
    ``near`` or ``far``, that has a foreign key to the other in the database too, so that it has its parent when it is
    committed; it is empty where there is none. A side is indexed where its rows are found by an index of the field.
    """

    near: tuple[Column, ...]
    far: tuple[Column, ...]
    near_is_unique: bool
    far_is_unique: bool
    content_type: ContentType | None = None
    child: str = ""
    near_is_indexed: bool = True
    far_is_indexed: bool = True

    @property
    def points_on(self) -> bool:
        """Whether a near row points at one far row."""
        return self.child == "near" or (not self.child and self.far_is_unique)

    @property
    def points_back(self) -> bool:
        """Whether far rows point at one near row."""
        return self.child == "far" or (not self.child and self.near_is_unique)

    @property
    def is_loose(self) -> bool:
        """Whether neither row points at the other: they only have equal values."""
        return not self.points_on and not self.points_back

    @property
    def table(self) -> str:
        """The table that the hop leads to."""
        return self.far[0].table

    @property
    def far_names(self) -> list[str]:
        """The columns of the far row that the hop asks for."""
        return [*(column.name for column in self.far), *self._kind(is_near=False)]

    @property
    def near_names(self) -> list[str]:
        """The columns of the near row that the hop leaves from."""
        return [*(column.name for column in self.near), *self._kind(is_near=True)]

    def _kind(self, *, is_near: bool) -> list[str]:
        kind = self.content_type
        return [kind.column] if kind is not None and kind.is_near is is_near else []

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
    def loose_columns(self) -> frozenset[str]:
        """The columns whose equal values may differ in their text."""
        fields = [field for field in self.model._meta.concrete_fields if field.column in self.columns]
        return frozenset(str(field.column) for field in fields if is_loose(field))

    @property
    def types(self) -> dict[str, str]:
        """The types of the columns, without length or scale."""
        fields = [field for field in self.model._meta.concrete_fields if field.column in self.columns]
        return {str(field.column): column_of(field).type for field in fields}

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


_INTEGERS = {"smallint", "integer", "bigint"}


def is_comparable(kind: str, other: str) -> bool:
    """Whether PostgreSQL compares two types as they are, by an index too; a cast to the smaller one could overflow."""
    return kind == other or {kind, other} <= _INTEGERS


def key_type(column: Column) -> str:
    """Return the type of a variable that holds a key of other rows: the widest of the integers."""
    return "bigint" if column.type in _INTEGERS else column.type


def is_loose(field: Any) -> bool:
    """Whether values of a field that PostgreSQL calls equal may differ in their text: 1 and 1.0, 1 day and 24 hours."""
    while field.is_relation:
        field = field.target_field
    while hasattr(field, "base_field"):
        field = field.base_field
    if getattr(field, "generated", False):
        return is_loose(field.output_field)
    if getattr(field, "db_collation", None):
        return True
    is_unbounded = isinstance(field, DecimalField) and field.decimal_places is None
    return is_unbounded or isinstance(field, (DurationField, FloatField, JSONField))


def full_type(field: Any) -> str:
    """Return the type that a column is declared with, collation included."""
    declared = field.db_parameters(connection=offline_connection())
    return f"{declared['type']} {declared.get('collation') or ''}".strip()


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
        near_is_unique=(content_type is None or not content_type.is_near) and _is_unique(near),
        far_is_unique=(content_type is None or content_type.is_near) and _is_unique(far),
        content_type=content_type,
        child="" if content_type or len(near) > 1 else _constrained_child(near[0], far[0]),
        near_is_indexed=_is_indexed(near),
        far_is_indexed=_is_indexed(far),
    )


def _constrained_child(near: Field[Any, Any], far: Field[Any, Any]) -> str:
    """Return the side whose field is a foreign key to the other's, in the database too."""
    for side, child, parent in (("near", near, far), ("far", far, near)):
        if child.is_relation and getattr(child, "db_constraint", False):
            target: Any = child.target_field  # type: ignore[attr-defined]
            if (target.model._meta.db_table, target.column) == (parent.model._meta.db_table, parent.column):
                return side
    return ""


def _is_indexed(fields: tuple[Any, ...]) -> bool:
    """Whether one of these fields has an index of its own; those of a model's Meta do not count."""
    return any(field.db_index or field.unique for field in fields)


def _is_unique(fields: tuple[Field[Any, Any], ...]) -> bool:
    """Whether at most one row has given values in these fields."""
    names = {field.name for field in fields}
    meta = fields[0].model._meta
    keys: list[set[str]] = [{field.name for field in meta.pk_fields}, *map(set, meta.unique_together)]
    keys += [
        set(constraint.fields)
        for constraint in meta.constraints
        if isinstance(constraint, UniqueConstraint)
        and constraint.condition is None
        and constraint.deferrable is None
        and constraint.fields
    ]
    return any(key <= names for key in keys) or any(field.unique for field in fields)
