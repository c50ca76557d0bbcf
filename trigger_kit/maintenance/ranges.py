"""OPERATE: in which pieces to go through a table: all its rows by ranges of the primary key, or rows drawn at random.

Keys are ordered, compared and kept as the server does it: what order a text has depends on the column's collation.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Model

from trigger_kit.database.batches import estimated_rows
from trigger_kit.maintenance.comparison import Key, KeyRange, KeySet, Pass, plan_of, reading

__all__ = ["Piece", "Sample", "about_rows", "pieces", "range_rows", "sampled"]

# A statement may cost as much, in the planner's units, before a table is read in ranges: some seconds.
CALM = 1_000_000
# Above this, some minutes, ranges may read together what one statement would read several times.
HEAVY = 50_000_000
# How much more all ranges together may cost than one statement, up to there.
SURPLUS = 1.3
# Of a sample: its most rows, and the rows of one statement.
SAMPLE_MOST = 1_000_000
SAMPLE_BATCH = 1_000
# Pages are read that hold about so many times as many rows as are drawn, and at least so many.
SPREAD = 10
SPREAD_LEAST = 10_000


@dataclass(frozen=True)
class Piece:
    """Some rows of a table: how many there are, or were a moment ago, and the condition that finds them."""

    rows: int
    condition: KeyRange | None


@dataclass(frozen=True)
class Sample:
    """How many rows to draw: ``rows``, or ``percent`` of all."""

    rows: int = 0
    percent: float = 0

    @classmethod
    def of(cls, text: str | int) -> Sample:
        """Return what ``"500"`` or ``"1%"`` says.

        Raises ValueError for anything else.
        """
        text = str(text).strip()
        if text.endswith("%"):
            sample = cls(percent=float(text[:-1]))
            if not 0 < sample.percent <= 100:
                raise ValueError(text)
            return sample
        sample = cls(rows=int(text))
        if sample.rows < 1:
            raise ValueError(text)
        return sample

    def of_rows(self, rows: int) -> int:
        """Return the number of rows to draw from about so many."""
        return min(self.rows or math.ceil(rows * self.percent / 100), SAMPLE_MOST)


def pieces(connection: BaseDatabaseWrapper, model: type[Model], size: int | None) -> Iterator[Piece]:
    """Yield ranges of so many rows, in key order, or one piece with all rows where no size is given.

    Whatever comes and goes meanwhile, a row that is there all the time under the same key is in exactly one range.
    """
    if size is None:
        yield Piece(_count(connection, model, None), None)
        return
    after: Key | None = None
    while True:
        upto = _key_at(connection, model, after, size)
        condition = KeyRange(model, after, upto)
        yield Piece(size if upto else _count(connection, model, condition), condition)
        if upto is None:
            return
        after = upto


def sampled(connection: BaseDatabaseWrapper, model: type[Model], sample: Sample) -> Iterator[Piece]:
    """Yield rows drawn at random, some at a time, in key order.

    Of a large table only some pages are read, those of ten times as many rows.
    """
    keys = _draw(connection, model, sample)
    for start in range(0, len(keys), SAMPLE_BATCH):
        batch = keys[start : start + SAMPLE_BATCH]
        yield Piece(len(batch), KeySet(model, batch))


def range_rows(connection: BaseDatabaseWrapper, one_pass: Pass) -> int | None:
    """Return the number of rows per range, or None where one statement may read all.

    Ranges are as small as is cheap: where the planner reads all source rows for each range again, few are better.
    """
    with reading(connection):
        whole = plan_of(connection, *one_pass.statement(connection))["Total Cost"]
        if whole <= CALM:
            return None
        rows = about_rows(connection, one_pass.model)
        chosen, cost, parts = None, whole, 1
        while cost > CALM and rows // (parts * 2) >= 1_000:
            parts *= 2
            size = rows // parts + 1
            upto = _key_at(connection, one_pass.model, None, size)
            part = plan_of(connection, *one_pass.statement(connection, KeyRange(one_pass.model, upto=upto)))
            if part["Total Cost"] * parts > SURPLUS * whole and cost <= HEAVY:
                break
            chosen, cost = size, part["Total Cost"]
    return chosen


def about_rows(connection: BaseDatabaseWrapper, model: type[Model]) -> int:
    """Return the number of rows, exact where these are few, else the planner's idea."""
    return estimated_rows(connection, _table(connection, model))


def _key_at(connection: BaseDatabaseWrapper, model: type[Model], after: Key | None, size: int) -> Key | None:
    """Return the key of the last of so many rows after a key, or None where there are not as many."""
    columns = _columns(connection, model)
    where, params = _after(columns, after)
    with reading(connection), connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {_texts(columns)} FROM {_table(connection, model)} AS this{where} "
            f"ORDER BY {', '.join(columns)} OFFSET %s LIMIT 1",
            [*params, size - 1],
        )
        key: Key | None = cursor.fetchone()
    return key


def _count(connection: BaseDatabaseWrapper, model: type[Model], condition: KeyRange | None) -> int:
    """Return the number of rows after a key, or of all."""
    where, params = _after(_columns(connection, model), condition.after if condition is not None else None)
    with reading(connection), connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {_table(connection, model)} AS this{where}", params)
        return int(cursor.fetchone()[0])


def _draw(connection: BaseDatabaseWrapper, model: type[Model], sample: Sample) -> list[Key]:
    """Return the keys of rows drawn at random, in key order.

    Where pages hold fewer rows than the planner thinks, more of them are read.
    """
    with reading(connection):
        rows = about_rows(connection, model)
        wanted = sample.of_rows(rows)
        share = 100 * max(SPREAD * wanted, SPREAD_LEAST) / max(rows, 1)
        keys = _draw_from(connection, model, share, wanted)
        while len(keys) < wanted and share < 100:
            share *= 10
            keys = _draw_from(connection, model, share, wanted)
        return keys


def _draw_from(connection: BaseDatabaseWrapper, model: type[Model], share: float, wanted: int) -> list[Key]:
    """Return the keys of rows drawn from a share of the pages, in per cent."""
    columns = _columns(connection, model)
    table = _table(connection, model)
    pages = f" TABLESAMPLE SYSTEM ({share})" if share < 100 else ""
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {_texts(columns)} FROM (SELECT {', '.join(columns)} FROM {table} AS this{pages} "
            f"ORDER BY random() LIMIT %s) AS this ORDER BY {', '.join(columns)}",
            [wanted],
        )
        return list(cursor.fetchall())


def _after(columns: list[str], after: Key | None) -> tuple[str, list[Any]]:
    """Return the WHERE that asks for the rows after a key, and its parameters."""
    if after is None:
        return "", []
    return f" WHERE ({', '.join(columns)}) > ({', '.join(['%s'] * len(columns))})", list(after)


def _columns(connection: BaseDatabaseWrapper, model: type[Model]) -> list[str]:
    """Return the columns of the key; an ORDER BY without ``this`` would mean the text that is selected."""
    return [f"this.{connection.ops.quote_name(str(field.column))}" for field in model._meta.pk_fields]


def _texts(columns: list[str]) -> str:
    return ", ".join(f"{column}::text" for column in columns)


def _table(connection: BaseDatabaseWrapper, model: type[Model]) -> str:
    return connection.ops.quote_name(model._meta.db_table)
