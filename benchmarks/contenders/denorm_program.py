"""rivethealth's denorm: a program that writes SQL, with which statement triggers keep a table of totals."""

from __future__ import annotations

import io
import json
from contextlib import nullcontext
from importlib.util import find_spec

from benchmarks.contenders.base import TRUE, Contender
from benchmarks.ground import Place

TARGET = "bench_books_totals"  # emptied and vacuumed with the others of this prefix
TABLE = f"CREATE TABLE {TARGET} (author_id bigint PRIMARY KEY, num_books bigint, pages_total bigint, _count bigint)"
CONFIG = {
    "id": "book_totals",
    "source": {"name": "bench_books_book"},
    "target": {"name": TARGET},
    "groups": {"author_id": "author_id"},
    "aggregates": {"num_books": {"value": "sum(sign)"}, "pages_total": {"value": "sum(sign * pages)"}},
}


def missing(place: Place) -> str:
    """Say that the program is not there."""
    return "" if find_spec("denorm") else "not installed"


def install(place: Place) -> None:
    """Make the table, and run what the program writes."""
    from denorm.agg import AggIo, create_agg  # type: ignore[import-untyped]

    written = io.StringIO()
    create_agg(AggIo(config=lambda: io.StringIO(json.dumps(CONFIG)), output=lambda: nullcontext(written)))
    place.run(TABLE)
    place.run(written.getvalue())


DENORM = Contender(
    "denorm",
    install,
    missing=missing,
    stored=f"SELECT author_id, num_books, pages_total FROM {TARGET}",
    refill=f"INSERT INTO {TARGET} SELECT author_id, num_books, pages_total, num_books FROM ({TRUE}) AS fed",
)
