"""What a contender is: a way to keep the number and the pages of an author's books."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from benchmarks.ground import Place

# What every contender keeps, as a query: author, number of books, sum of their pages.
TRUE = (
    "SELECT author_id, count(*) AS num_books, coalesce(sum(pages), 0) AS pages_total FROM bench_books_book GROUP BY 1"
)
COLUMNS = "SELECT id AS author_id, num_books, pages_total FROM bench_books_author"
REFILL = f"""
UPDATE bench_books_author AS author SET num_books = fed.num_books, pages_total = fed.pages_total
FROM ({TRUE}) AS fed WHERE fed.author_id = author.id
"""

Models = tuple[Any, Any]


def plain_models() -> Models:
    """Return the models of the benchmarks, author and book."""
    from benchmarks.books.models import Author, Book

    return Author, Book


def nothing(place: Place) -> None:
    """Do nothing: there is nothing to install, or to settle."""


def always(place: Place) -> str:
    """Give no reason against a contender."""
    return ""


@dataclass(frozen=True)
class Contender:
    """A way to keep two values.

    ``install`` puts it into a database of its own; ``missing`` says first why that cannot be ("" if it can). ``stored``
    is the query of its values, ``refill`` the statement that writes them anew while no trigger fires; ``tidy`` is run
    on the way. ``settle`` brings late values up to date, untimed.

    By Django: ``models`` are those that its work is written with, ``at_work`` is entered around it, ``bulk_create`` and
    ``update`` are its own ways to write many rows, where the usual ones leave its values behind. One that ``sees_sql``
    keeps its values whoever writes. Where one that ``must_be_right`` is wrong, nothing is measured.
    """

    name: str
    install: Callable[[Place], object]
    missing: Callable[[Place], str] = always
    stored: str = COLUMNS
    refill: str = REFILL
    tidy: str = ""
    settle: Callable[[Place], object] = nothing
    sees_sql: bool = True
    must_be_right: bool = False
    models: Callable[[], Models] = plain_models
    at_work: Callable[[], AbstractContextManager[object]] = nullcontext
    bulk_create: Callable[[Sequence[Any]], object] | None = None
    update: Callable[[Any, dict[str, Any]], object] | None = None

    def wrong(self, place: Place) -> int:
        """Return the number of authors whose stored values are not the true ones."""
        return int(
            str(
                place.value(f"""
SELECT count(*) FROM bench_books_author AS author
LEFT JOIN ({TRUE}) AS fed ON fed.author_id = author.id
LEFT JOIN ({self.stored}) AS stored ON stored.author_id = author.id
WHERE (coalesce(stored.num_books, 0), coalesce(stored.pages_total, 0))
   <> (coalesce(fed.num_books, 0), coalesce(fed.pages_total, 0))
""")
            )
        )
