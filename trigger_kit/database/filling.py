"""INSTALL: write the full values of some rows of a target while writers go on, or of all, in batches.

Rows are locked in key order first; a statement of its own then reads what is committed by then, and writes what
differs. Keys are kept as the server writes them: what order a text has depends on the column's collation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg.sql import Literal

from trigger_kit.database.catalog import Placement
from trigger_kit.plan.plan import Plan
from trigger_kit.resolve.columns import Column, key_type
from trigger_kit.sql.body import LOCKING
from trigger_kit.sql.full_values import count_differing_sql, fill_sql, key_arrays
from trigger_kit.sql.text import fill_placeholders, identifier, literal

__all__ = [
    "Filling",
    "Key",
    "count_differing",
    "drawn_keys",
    "fill_keys",
    "last_key",
    "lock_keys",
    "lock_next",
    "set_sql",
    "write_locked",
]

Key = tuple[Any, ...]

# With an index, the source rows of a batch are found one by one, wherever they lie: the planner thinks that dear, and
# would read the whole source for every batch.
PLANNING = {"enable_seqscan": "off", "jit": "off"}
# How many times as many rows as are drawn lie in the pages that are read for it.
SPREAD = 10


@dataclass(frozen=True)
class Filling:
    """What is filled: fields of a model, its table and primary key, and the statements of ``fill_sql``."""

    label: str
    fields: tuple[str, ...]
    target: str
    key: tuple[Column, ...]
    sql: str

    @classmethod
    def of(cls, plan: Plan, columns: Iterable[str] | None = None) -> Filling:
        """Return the filling of all columns of a plan, or of some."""
        wanted = None if columns is None else set(columns)
        fields = [kept.resolved.rule.field for kept in plan.kept_columns if wanted is None or kept.column in wanted]
        return cls(plan.model._meta.label, tuple(fields), plan.target, plan.key, fill_sql(plan, wanted))

    @property
    def uris(self) -> list[str]:
        """The URIs of the rules."""
        return [f"{self.label}:{field}" for field in self.fields]

    @property
    def key_names(self) -> list[str]:
        """The columns of the key, as SQL."""
        return [identifier(column.name) for column in self.key]

    def of_row(self, row: str) -> str:
        """Return the key of a row, as an SQL list."""
        return ", ".join(f"{row}.{name}" for name in self.key_names)


def fill_keys(
    connection: BaseDatabaseWrapper, plan: Plan, columns: Iterable[str] | None, keys: Sequence[Sequence[Any]]
) -> int:
    """Write the full values of the targets with these primary keys, in the open transaction; return the rows changed.

    ``columns`` is None for all columns of the plan; ``keys`` hold the values of the key's columns. Exact beside any
    writer: the rows are locked first, in key order, and are written only where they differ.
    """
    if not keys:
        return 0
    filling = Filling.of(plan, columns)
    place = Placement(connection, plan.target)
    lock_keys(connection, filling, place, keys)
    return write_locked(connection, filling, place, keys)


def lock_keys(
    connection: BaseDatabaseWrapper, filling: Filling, place: Placement, keys: Sequence[Sequence[Any]]
) -> None:
    """Lock rows in key order; at REPEATABLE READ write them too, or nobody with an older snapshot would be told."""
    table, wanted = place(filling.target), _is_among(connection, filling, "locked", keys)
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT FROM {table} AS locked WHERE {wanted} ORDER BY {filling.of_row('locked')} FOR NO KEY UPDATE", None
        )
        cursor.execute("SELECT current_setting('transaction_isolation')")
        if cursor.fetchone() == ("repeatable read",):
            unchanged = ", ".join(f"{name} = locked.{name}" for name in filling.key_names)
            cursor.execute("SELECT set_config(%s, '0', true)", [LOCKING])
            cursor.execute(f"UPDATE {table} AS locked SET {unchanged} WHERE {wanted}", None)
            cursor.execute("SELECT set_config(%s, '', true)", [LOCKING])


def lock_next(
    connection: BaseDatabaseWrapper,
    filling: Filling,
    place: Placement,
    after: Sequence[Any] | None,
    upto: Sequence[Any],
    size: int,
) -> list[Key]:
    """Lock the next rows in key order, after one key and up to another, and return their keys, as texts.

    An index leads to them. None are returned where there are no more.
    """
    bounds = [*([_compared(connection, filling, ">", after)] if after is not None else [])]
    bounds.append(_compared(connection, filling, "<=", upto))
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {_texts(filling)} FROM {place(filling.target)} AS this WHERE {' AND '.join(bounds)} "
            f"ORDER BY {filling.of_row('this')} LIMIT {size} FOR NO KEY UPDATE",
            None,
        )
        return list(cursor.fetchall())


def last_key(connection: BaseDatabaseWrapper, filling: Filling, place: Placement) -> Key | None:
    """Return the last key of a target, as texts; None where it has no rows."""
    descending = ", ".join(f"this.{name} DESC" for name in filling.key_names)
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {_texts(filling)} FROM {place(filling.target)} AS this ORDER BY {descending} LIMIT 1", None
        )
        row: Key | None = cursor.fetchone()
    return row


def _texts(filling: Filling) -> str:
    return ", ".join(f"this.{name}::text" for name in filling.key_names)


def _compared(connection: BaseDatabaseWrapper, filling: Filling, operator: str, key: Sequence[Any]) -> str:
    """Return the comparison of a row's key with another one."""
    pairs = zip(key, filling.key, strict=True)
    values = ", ".join(f"{_literal(connection, value)}::{key_type(column)}" for value, column in pairs)
    return f"({filling.of_row('this')}) {operator} ({values})"


def write_locked(
    connection: BaseDatabaseWrapper, filling: Filling, place: Placement, keys: Sequence[Sequence[Any]]
) -> int:
    """Write the full values of locked rows where they differ; return the number of rows changed."""
    text = _with_keys(connection, filling, place, filling.sql, keys)
    settings = PLANNING | {"trigger_kit.depth": "0"}
    before = _settings(connection, PLANNING) | {"trigger_kit.depth": ""}
    counts = []
    with connection.cursor() as cursor:
        cursor.execute(f"{set_sql(settings)};\n{text}\n{set_sql(before)}", None)
        counts.append(cursor.rowcount)
        while cursor.nextset():
            counts.append(cursor.rowcount)
    return int(counts[-2])


def count_differing(
    connection: BaseDatabaseWrapper, filling: Filling, plan: Plan, keys: Sequence[Sequence[Any]]
) -> int:
    """Return the number of rows, of those with these keys, that a fill would change; change nothing."""
    if not keys:
        return 0
    columns = [kept.column for kept in plan.kept_columns if kept.resolved.rule.field in filling.fields]
    place = Placement(connection, filling.target)
    text = _with_keys(connection, filling, place, count_differing_sql(plan, columns), keys)
    before = _settings(connection, PLANNING)
    with connection.cursor() as cursor:
        cursor.execute(set_sql(PLANNING), None)
        cursor.execute(text, None)
        (differing,) = cursor.fetchone()
        cursor.execute(set_sql(before), None)
    return int(differing)


def drawn_keys(connection: BaseDatabaseWrapper, filling: Filling, place: Placement, total: int, size: int) -> list[Key]:
    """Return the keys of rows drawn at random from about ``total``; of a large table only some pages are read."""
    share = 100 * SPREAD * size / max(total, 1)
    pages = f" TABLESAMPLE SYSTEM ({share:f})" if share < 100 else ""
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {_texts(filling)} FROM {place(filling.target)} AS this{pages} ORDER BY random() LIMIT {size}", None
        )
        return list(cursor.fetchall())


def _with_keys(
    connection: BaseDatabaseWrapper, filling: Filling, place: Placement, text: str, keys: Sequence[Sequence[Any]]
) -> str:
    """Return compiled text for some keys."""
    arrays = dict(zip(key_arrays(filling.key), _arrays(connection, filling, keys), strict=True))
    return fill_placeholders(text, lambda name: arrays.get(name) or place(name))


def _settings(connection: BaseDatabaseWrapper, names: Iterable[str]) -> dict[str, str]:
    """Return what some settings are now."""
    wanted = list(names)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {', '.join(f'current_setting({literal(name)})' for name in wanted)}", None)
        return dict(zip(wanted, cursor.fetchone(), strict=True))


def set_sql(settings: Mapping[str, str]) -> str:
    """Return the statement that gives settings their values, until the end of the transaction."""
    calls = [f"set_config({literal(name)}, {literal(value)}, true)" for name, value in settings.items()]
    return f"SELECT {', '.join(calls)}"


def _is_among(connection: BaseDatabaseWrapper, filling: Filling, row: str, keys: Sequence[Sequence[Any]]) -> str:
    """Return the condition under which a row has one of the keys."""
    arrays = _arrays(connection, filling, keys)
    if len(arrays) == 1:
        return f"{filling.of_row(row)} = ANY ({arrays[0]})"
    return f"({filling.of_row(row)}) IN (SELECT * FROM unnest({', '.join(arrays)}))"


def _arrays(connection: BaseDatabaseWrapper, filling: Filling, keys: Sequence[Sequence[Any]]) -> list[str]:
    """Return the keys as one SQL array per column."""
    return [
        f"{_literal(connection, list(values))}::{key_type(column)}[]"
        for values, column in zip(zip(*keys, strict=True), filling.key, strict=True)
    ]


def _literal(connection: BaseDatabaseWrapper, value: Any) -> str:
    return Literal(value).as_string(connection.connection).strip()
