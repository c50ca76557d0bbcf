"""What rules over 1 to 4 hops cost: single inserts, a bulk insert, and a change in the middle of the path.

A count and a sum of scans are kept on the item, on its shelf, on its store or on its region, each in a database of its
own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from benchmarks.contenders import BASE
from benchmarks.contenders.ours import TIMINGS
from benchmarks.ground import Place, tidy
from benchmarks.measuring import Work, interleaved, loop
from benchmarks.results import Cell, Plot, Result, Row
from benchmarks.tables import Options
from benchmarks.tables.keeping import fill, kept, prose, settle

if TYPE_CHECKING:
    from benchmarks.ground import Rules

HOPS = (1, 2, 3, 4)
REGIONS, STORES, SHELVES, ITEMS = 500, 1_000, 2_000, 10_000
SCANS, SHORT_SCANS = 100_000, 10_000
BULK = 20_000
SINGLE, SHORT_SINGLE = 2_000, 300
MOVES, SHORT_MOVES = 500, 100
SHORT_TIMINGS = TIMINGS[:1]
NAMES = {1: "1 hop", 2: "2 hops", 3: "3 hops", 4: "4 hops"}

CHAIN = (
    f"INSERT INTO bench_books_region (id) SELECT n FROM generate_series(1, {REGIONS}) AS n",
    f"INSERT INTO bench_books_store (id, region_id) SELECT n, 1 + n % {REGIONS} FROM generate_series(1, {STORES}) AS n",
    f"INSERT INTO bench_books_shelf (id, store_id) SELECT n, 1 + n % {STORES} FROM generate_series(1, {SHELVES}) AS n",
    f"INSERT INTO bench_books_item (id, shelf_id) SELECT n, 1 + n % {SHELVES} FROM generate_series(1, {ITEMS}) AS n",
)
ONE_SCAN = f"INSERT INTO bench_books_scan (item_id, weight) VALUES (1 + n * 7 % {ITEMS}, n % 50)"
MOVE = f"UPDATE bench_books_shelf SET store_id = 1 + store_id % {STORES} WHERE id = n"
NOTE = f"""A count and a sum, kept over so many hops: on the item, the shelf, the store or the region of a scan.
{ITEMS:,} items on {SHELVES:,} shelves of {STORES:,} stores in {REGIONS:,} regions. Single inserts and moves run in a
loop inside the server and in one transaction, whose only commit is what DEFERRED waits for; what is QUEUED is folded
afterwards, untimed. A move of a shelf changes no value over 1 or 2 hops."""


def scans(count: int) -> str:
    """Return the INSERT of scans, spread over all items."""
    return (
        "INSERT INTO bench_books_scan (item_id, weight) "
        f"SELECT 1 + n % {ITEMS}, n % 50 FROM generate_series(1, {count}) AS n"
    )


def works(*, is_short: bool) -> tuple[Work, ...]:
    """Return what is measured."""
    single, moves = (SHORT_SINGLE, SHORT_MOVES) if is_short else (SINGLE, MOVES)
    return (
        Work("a scan is inserted", "", loop(single, ONE_SCAN), per=single),
        Work(f"{BULK:,} scans are inserted", "", scans(BULK), per=BULK),
        Work("a shelf moves", "", loop(moves, MOVE), per=moves),
    )


def rules(hops: int, timing: str) -> Rules:
    """Return the two rules on the model that is so many hops away from the scans."""
    from django.db.models import Count, Sum

    from benchmarks.books.models import Item, Region, Shelf, Store
    from trigger_kit import Denormalize, Timing

    path = ("stores", "shelves", "items", "item_scans")[-hops:]
    scans = "__".join(path)
    return [
        (
            (Item, Shelf, Store, Region)[hops - 1],
            [
                Denormalize("scans", Count(scans), timing=Timing[timing]),
                Denormalize("weight_total", Sum(f"{scans}__weight", default=0), timing=Timing[timing]),
            ],
        )
    ]


def measure(options: Options) -> Result:
    """Measure all works with rules over all distances, in every timing."""
    options.say("hops: tables and rules …")
    timings = SHORT_TIMINGS if options.short else TIMINGS
    declared = {name_of(hops, timing): rules(hops, timing) for timing in timings for hops in HOPS}
    places = {BASE: options.ground.copy(BASE)}
    places |= {name: kept(options, name, rules) for name, rules in declared.items()}
    for name, place in places.items():
        fill(place, declared.get(name, []), *CHAIN, scans(SHORT_SCANS if options.short else SCANS))
    rows: list[Row] = []
    for work in works(is_short=options.short):
        options.say(f"hops: {work.title} …")
        rows += rows_of(work, timings, measured(places, declared, work, options.rounds))
    plot = Plot(kind="lines", x_label="hops", xs=tuple(map(float, HOPS)), lines_are_rows=True,
                only=tuple(NAMES.values()))  # fmt: skip
    title = "Rules over one to four hops"
    return Result("hops", title, (BASE, *NAMES.values()), rows, prose(NOTE), plot)


def name_of(hops: int, timing: str) -> str:
    """Return the name of a place."""
    return f"{timing}, {NAMES[hops]}"


def measured(
    places: Mapping[str, Place], declared: Mapping[str, Rules], work: Work, rounds: int
) -> dict[str, list[float]]:
    """Return the seconds of all rounds, by place; after each round what is pending is folded and all is compared."""

    def settled(place: Place) -> None:
        settle(place, declared.get(place.name, []))
        tidy(place)

    return interleaved(places, Work(work.title, work.before, work.run, work.per, settled), rounds)


def rows_of(work: Work, timings: Sequence[str], seconds: Mapping[str, list[float]]) -> list[Row]:
    """Return a line per timing: a single statement or row without triggers in microseconds, and ratios to it."""
    base = seconds[BASE]
    middle = sorted(base)[len(base) // 2] / work.per * 1e6
    rows = []
    for timing in timings:
        cells = {NAMES[hops]: Cell.compared(seconds[name_of(hops, timing)], base) for hops in HOPS}
        rows.append(Row(f"{work.title}, {timing}", {BASE: Cell.absolute(middle, "µs", base), **cells}))
    return rows
