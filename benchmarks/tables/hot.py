"""What HOT updates of the target save: with more room on its pages, and without an index over the kept column.

The target has an index of its own beside the primary key, over a column that no rule writes. What is timed comes
several times in a row, without VACUUM: the first time on fresh pages, then on what the times before have left.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import psycopg

from benchmarks.ground import Place, check, install, tidy
from benchmarks.measuring import Ratio, timed
from benchmarks.results import Cell, Plot, Result, Row
from benchmarks.tables import Options
from benchmarks.tables.groups import remove
from benchmarks.tables.keeping import fill, in_turn

if TYPE_CHECKING:
    from benchmarks.ground import Rules

TARGETS, SHORT_TARGETS = 20_000, 2_000
TIMES = 4
COLUMNS = ("fillfactor 100", "90", "70", "50", "100, an index on the column")
BASE, INDEXED = COLUMNS[0], COLUMNS[-1]
SHORT_COLUMNS = (BASE, "50", INDEXED)
NOTE = f"""Ratios of the time to fillfactor 100, over {TIMES} times the same; beside it the share of HOT updates, and
the ratio of the WAL that was written."""


@dataclass(frozen=True)
class Case:
    """A piece of work: ``run`` gets the number of targets, and the time that it is done for.

    ``target`` and ``column`` are what is written. While ``is_held``, another transaction keeps dead rows from going.
    The short mode has ``is_quick`` ones only.
    """

    title: str
    target: str
    column: str
    rule: Callable[[], Any]
    run: Callable[[int, int], str]
    is_held: bool = False
    is_quick: bool = True


@dataclass(frozen=True)
class Spent:
    """What one round took: seconds, bytes of WAL, and the share of updates that were HOT."""

    seconds: float
    wal: float
    hot: float


def singles(targets: int, time: int) -> str:
    """Return one insert after the other, by chance, in short transactions."""
    return (
        f"DO $$ BEGIN FOR n IN 1..{targets // 2} LOOP "
        f"INSERT INTO bench_books_book (author_id) VALUES (1 + (n::bigint * 7919 + {time} * 104729) % {targets}); "
        "IF n % 10 = 0 THEN COMMIT; END IF; END LOOP; END $$"
    )


def bulk(targets: int, time: int) -> str:
    """Return the insert of a book for every author."""
    return f"INSERT INTO bench_books_book (author_id) SELECT n FROM generate_series(1, {targets}) AS n"


def neighbours(targets: int, time: int) -> str:
    """Return the insert of a book for each author of a tenth of the table, another one each time."""
    few = targets // 10
    return f"INSERT INTO bench_books_book (author_id) SELECT n + {time * few} FROM generate_series(1, {few}) AS n"


def renaming(targets: int, time: int) -> str:
    """Return the change of what every book has a copy of."""
    return "UPDATE bench_books_author SET name = name || 'x' WHERE id <= 100"


def cases() -> list[Case]:
    """Return the cases; Django must be set up to build their expressions."""
    from django.db.models import Count, F

    from trigger_kit import Denormalize

    author, book = "bench_books_author", "bench_books_book"

    def count() -> Any:
        return Denormalize("num_books", Count("books"))

    return [
        Case("single inserts, authors by chance", author, "num_books", count, singles),
        Case("the same while another transaction stays open", author, "num_books", count, singles,
             is_held=True, is_quick=False),
        Case("a statement over every author", author, "num_books", count, bulk),
        Case("a statement over a tenth of them, neighbours", author, "num_books", count, neighbours,
             is_quick=False),
        Case("100 authors renamed, a copy in every book", book, "copied",
             lambda: Denormalize("copied", F("author__name")), renaming),
    ]  # fmt: skip


def measure(options: Options) -> Result:
    """Measure every case at places that differ in the fillfactor and in an index."""
    targets, columns = (SHORT_TARGETS, SHORT_COLUMNS) if options.short else (TARGETS, COLUMNS)
    places = {name: options.ground.copy(f"hot, {name}") for name in columns}
    rows = []
    for case in cases():
        if options.short and not case.is_quick:
            continue
        options.say(f"hot: {case.title} …")
        rows.append(row_of(case, targets, places, options.rounds))
    plot = Plot(y_label="ratio to fillfactor 100", log_y=False)
    title = f"{TIMES} times the same work on {targets:,} targets, by the room on the target's pages"
    return Result("hot", title, columns, rows, " ".join(NOTE.split()), plot)


def row_of(case: Case, targets: int, places: dict[str, Place], rounds: int) -> Row:
    """Return the line of a case."""
    rules = rules_of(case)
    for name, place in places.items():
        prepare(name, place, case)
        install(place, rules)
    spent = in_turn(list(places), lambda name: once(places[name], case, targets), rounds)
    for place in places.values():
        check(place, rules)
        remove(place, rules)
        place.run(f"DROP INDEX IF EXISTS hot_other, hot_column; ALTER TABLE {case.target} RESET (fillfactor)")
    return Row(case.title, {name: cell(values, spent[BASE]) for name, values in spent.items()})


def prepare(name: str, place: Place, case: Case) -> None:
    """Give the target its fillfactor, an index that rules do not touch, and where it is wanted one that they do."""
    room = 100 if name in {BASE, INDEXED} else int(name)
    other = "name" if case.target == "bench_books_author" else "title"
    place.run(f"ALTER TABLE {case.target} SET (fillfactor = {room})")
    place.run(f"CREATE INDEX hot_other ON {case.target} ({other})")
    if name == INDEXED:
        place.run(f"CREATE INDEX hot_column ON {case.target} ({case.column})")


def rules_of(case: Case) -> Rules:
    """Return the rule of a case with its model."""
    from benchmarks.books.models import Author, Book

    return [(Book if case.target == "bench_books_book" else Author, [case.rule()])]


def cell(spent: list[Spent], base: list[Spent]) -> Cell:
    """Return the ratio of the seconds; the rest in words."""
    wal = Ratio.of([one.wal for one in spent], [one.wal for one in base]).median
    hot = sorted(one.hot for one in spent)[len(spent) // 2]
    words = f"{hot:.0%} HOT, WAL {wal:.2f}"
    return Cell.compared([one.seconds for one in spent], [one.seconds for one in base], words)


def once(place: Place, case: Case, targets: int) -> Spent:
    """Do the work on fresh pages, and return what it took."""
    refill(place, case, targets)
    before, updates = wal(place), counted(place, case)
    with psycopg.connect(place.url) as other:
        if case.is_held:
            other.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            other.execute("SELECT 1")
        seconds = sum(timed(partial(place.run, case.run(targets, time))) for time in range(TIMES))
    after = counted(place, case)
    return Spent(seconds, wal(place) - before, (after[1] - updates[1]) / (after[0] - updates[0]))


def refill(place: Place, case: Case, targets: int) -> None:
    """Leave nothing but fresh targets, in the order of their keys, and what they need."""
    authors = 100 if case.target == "bench_books_book" else targets
    books = targets if case.target == "bench_books_book" else 0
    fill(
        place,
        rules_of(case),
        f"INSERT INTO bench_books_author (id, name) SELECT n, 'author ' || n FROM generate_series(1, {authors}) AS n",
        "INSERT INTO bench_books_book (author_id, title, copied) "
        f"SELECT 1 + n % 100, 'a title', 'author ' || 1 + n % 100 FROM generate_series(1, {books}) AS n",
    )
    place.run(f"VACUUM FULL {case.target}")  # the values that were filled in are second versions
    tidy(place)


def wal(place: Place) -> float:
    """Return how many bytes of WAL the server has written."""
    return float(str(place.value("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')")))


def counted(place: Place, case: Case) -> tuple[int, int]:
    """Return how often a row of the target was updated, and how often that was HOT."""
    place.run("SELECT pg_stat_force_next_flush()")
    row = place.run(
        f"SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = '{case.target}'"
    ).fetchone()
    assert row is not None
    return int(row[0]), int(row[1])
