"""OBSERVE: which indexes a table has: those that its model declares, or those that a database has installed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from django.contrib.postgres.constraints import ExclusionConstraint
from django.contrib.postgres.indexes import PostgresIndex
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import F, Index, Model, OrderBy, Q, UniqueConstraint

from trigger_kit.database.catalog import Placement, has_table

__all__ = [
    "SUMMARIES_SINCE",
    "KeyColumn",
    "TableIndex",
    "UpdateCounts",
    "declared_indexes",
    "installed_indexes",
    "update_counts",
]


SUMMARY = "brin"
SUMMARIES_SINCE = 160000


@dataclass(frozen=True)
class KeyColumn:
    """A column that an index is sorted by, and in which direction; ``name`` is empty for an expression."""

    name: str
    is_descending: bool = False
    nulls_first: bool = False

    @classmethod
    def sorted_by(cls, name: str, *, is_descending: bool = False, nulls_first: bool | None = None) -> KeyColumn:
        """Return a column with PostgreSQL's place for NULLs, unless another one is given: last, descending first."""
        return cls(name, is_descending, is_descending if nulls_first is None else nulls_first)


@dataclass(frozen=True)
class TableIndex:
    """An index: what it is sorted by, what it holds beside, and every column that it depends on (``reads``).

    ``is_summary`` is one that lets updates of its columns be HOT: BRIN, from PostgreSQL 16 on, which models presume.
    """

    name: str
    method: str
    keys: tuple[KeyColumn, ...]
    included: tuple[str, ...] = ()
    reads: frozenset[str] = frozenset()
    is_partial: bool = False
    is_summary: bool = False


@dataclass(frozen=True)
class UpdateCounts:
    """How many rows of a table were updated, by HOT updates, and (from PostgreSQL 16 on) for want of room not so."""

    all: int
    hot: int
    moved: int | None
    fillfactor: int


# Models -------------------------------------------------------------------------------------------------------------


def declared_indexes(model: type[Model]) -> list[TableIndex]:
    """Return the indexes that a model gives its table."""
    meta = model._meta
    found = [_plain("the primary key", [str(field.column) for field in meta.pk_fields])]
    fields: Iterable[Any] = meta.local_concrete_fields
    for field in fields:
        if field.unique and not field.primary_key:
            found.append(_plain(f"unique=True of {field.name}", [field.column]))
        elif field.db_index:
            found.append(_plain(f"db_index of {field.name}", [field.column]))
    found += [
        _plain(f"unique_together of {', '.join(names)}", [_column(model, name) for name in names])
        for names in meta.unique_together
    ]
    return [*found, *_by_constraints(model), *(_by_index(model, index) for index in meta.indexes)]


def _plain(name: str, columns: Iterable[str]) -> TableIndex:
    keys = tuple(map(KeyColumn, columns))
    return TableIndex(name, "btree", keys, reads=frozenset(key.name for key in keys))


def _by_constraints(model: type[Model]) -> Iterator[TableIndex]:
    for constraint in model._meta.constraints:
        condition, included = getattr(constraint, "condition", None), tuple(getattr(constraint, "include", ()))
        if isinstance(constraint, UniqueConstraint):
            keys = [KeyColumn(_column(model, name)) for name in constraint.fields]
            keys += [_key(model, expression) for expression in constraint.expressions]
            method = "btree"
            parts: list[Any] = [*constraint.fields, *constraint.expressions]
        elif isinstance(constraint, ExclusionConstraint):
            keys, method = [], constraint.index_type.lower()
            parts = [expression for expression, _ in constraint.expressions]
        else:
            continue
        yield _index(model, constraint.name, method, keys, included, [*parts, *included, condition])


def _by_index(model: type[Model], index: Index) -> TableIndex:
    keys = [
        KeyColumn.sorted_by(_column(model, name), is_descending=order == "DESC") for name, order in index.fields_orders
    ]
    keys += [_key(model, expression) for expression in index.expressions]
    parts = [*index.fields, *index.expressions, *index.include, index.condition]
    name = index.name or f"on {', '.join(index.fields)}"
    # Django's own Index is a B-tree; those of other methods have the method's name for a suffix.
    method = index.suffix if isinstance(index, PostgresIndex) else "btree"
    return _index(model, name, method, keys, tuple(index.include), parts)


def _index(
    model: type[Model], name: str, method: str, keys: list[KeyColumn], included: tuple[str, ...], parts: list[Any]
) -> TableIndex:
    """Return an index; the last of its parts is its condition."""
    reads = frozenset(_column(model, field) for part in parts for field in _names(part))
    columns = tuple(_column(model, field) for field in included)
    is_partial = parts[-1] is not None
    return TableIndex(name, method, tuple(keys), columns, reads, is_partial, is_summary=method == SUMMARY)


def _key(model: type[Model], expression: Any) -> KeyColumn:
    """Return an expression of an index as the column that it is, if it is one."""
    order = expression if isinstance(expression, OrderBy) else OrderBy(expression)
    column = _column(model, order.expression.name) if isinstance(order.expression, F) else ""  # type: ignore[attr-defined]
    first = True if order.nulls_first else False if order.nulls_last else None
    return KeyColumn.sorted_by(column, is_descending=order.descending, nulls_first=first)


def _names(part: Any) -> set[str]:
    """Return the fields that a part of an index names."""
    if part is None:
        return set()
    if isinstance(part, str):
        return {part.lstrip("-")}
    if isinstance(part, Q):
        return set(part.referenced_base_fields)
    nodes = part.flatten() if hasattr(part, "flatten") else [part]
    return {node.name for node in nodes if isinstance(node, F)}  # type: ignore[attr-defined]


def _column(model: type[Model], name: str) -> str:
    return str((model._meta.pk if name == "pk" else model._meta.get_field(name)).column)  # type: ignore[union-attr]


# Databases ----------------------------------------------------------------------------------------------------------

# What an index depends on is its columns, those of its expressions and those of its condition; one that belongs to a
# constraint leaves its own columns to it.
_INDEXES = """
SELECT class.relname, method.amname, index.indpred IS NOT NULL, index.indnkeyatts, index.indoption::int2[],
       ARRAY(
           SELECT coalesce(attribute.attname, '')
           FROM unnest(index.indkey::int2[]) WITH ORDINALITY AS held (number, place)
           LEFT JOIN pg_attribute AS attribute
               ON attribute.attrelid = index.indrelid AND attribute.attnum = held.number AND held.number <> 0
           ORDER BY held.place
       )::text[],
       ARRAY(
           SELECT attribute.attname
           FROM pg_depend AS needed
           JOIN pg_attribute AS attribute
               ON attribute.attrelid = needed.refobjid AND attribute.attnum = needed.refobjsubid
           WHERE needed.classid = 'pg_class'::regclass AND needed.objid = index.indexrelid
             AND needed.refclassid = 'pg_class'::regclass AND needed.refobjid = index.indrelid
             AND needed.refobjsubid > 0
       )::text[]
FROM pg_index AS index
JOIN pg_class AS class ON class.oid = index.indexrelid
JOIN pg_am AS method ON method.oid = class.relam
WHERE index.indrelid = to_regclass(%s) AND index.indisvalid
ORDER BY class.relname
"""

# n_tup_newpage_upd came with PostgreSQL 16; as JSON, the row says so itself.
# PostgreSQL takes back its count of updates where a TRUNCATE or DROP in their transaction follows, and adds them up at
# its end; those of HOT updates and of new pages it never takes back: there were as many updates as these, at least.
_UPDATES = """
SELECT greatest(counted.n_tup_upd, counted.n_tup_hot_upd + coalesce(newpage.updates, 0)),
       counted.n_tup_hot_upd, newpage.updates,
       coalesce((
           SELECT option.option_value::integer
           FROM pg_options_to_table(class.reloptions) AS option
           WHERE option.option_name = 'fillfactor'
       ), 100)
FROM pg_stat_all_tables AS counted
JOIN pg_class AS class ON class.oid = counted.relid
CROSS JOIN LATERAL (SELECT (to_jsonb(counted) ->> 'n_tup_newpage_upd')::bigint) AS newpage (updates)
WHERE counted.relid = to_regclass(%s)
"""


def installed_indexes(connection: BaseDatabaseWrapper, model: type[Model]) -> list[TableIndex]:
    """Return the indexes that a database has; what the model declares where the table is not there yet."""
    table = model._meta.db_table
    if not has_table(connection, table):
        return declared_indexes(model)
    with connection.cursor() as cursor:
        cursor.execute(_INDEXES, [Placement(connection, table)(table)])
        found = [_installed(*row) for row in cursor.fetchall()]
    since: bool = connection.pg_version >= SUMMARIES_SINCE  # type: ignore[attr-defined]
    return [replace(index, is_summary=since and index.method == SUMMARY) for index in found]


def _installed(
    name: str, method: str, is_partial: bool, length: int, options: list[int], held: list[str], needed: list[str]
) -> TableIndex:
    # An index that can be read in order says so by bits: 1 is descending, 2 is NULLS FIRST.
    pairs = zip(held[:length], options, strict=True)
    keys = tuple(KeyColumn(column, bool(bits & 1), bool(bits & 2)) for column, bits in pairs)
    return TableIndex(name, method, keys, tuple(held[length:]), frozenset({*held, *needed} - {""}), is_partial)


def update_counts(connection: BaseDatabaseWrapper, model: type[Model]) -> UpdateCounts | None:
    """Return how a database has updated a model's table since its statistics began, or None where there is none."""
    table = model._meta.db_table
    if not has_table(connection, table):
        return None
    with connection.cursor() as cursor:
        cursor.execute(_UPDATES, [Placement(connection, table)(table)])
        row = cursor.fetchone()
    return None if row is None else UpdateCounts(*row)
