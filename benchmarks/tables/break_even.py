"""When to store a value and when to annotate() it: the writes per read at which both cost the same.

A rule makes a write dearer, annotate() a read. Where there are fewer writes per read than the figure, storing the value
saves work.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from benchmarks.contenders import BASE
from benchmarks.contenders.ours import TIMINGS
from benchmarks.ground import Place, books, check, flush, tidy
from benchmarks.ground import authors as authors_of
from benchmarks.measuring import Ratio, loop, timed
from benchmarks.results import Cell, Plot, Result, Row
from benchmarks.tables import Options
from benchmarks.tables.keeping import fill, in_turn, kept, one_sum, prose

GROUPS = (10, 100, 1_000, 10_000, 100_000)
SHORT_GROUPS = GROUPS[:4]
PARENTS = 4
WRITES, SHORT_WRITES = 2_000, 500
MOST_READ = 1_000_000  # rows that annotate() reads in a round
MOST_READS, LEAST_READS = 1_000, 5
STORED, ANNOTATED = "stored", "annotate()"
READ_SAVES = "a read saves"

WRITE = f"INSERT INTO bench_books_book (author_id, pages) VALUES (1 + n % {PARENTS}, n % 400); COMMIT"
NOTE = """Fewer writes per read than the figure: store the value; more: annotate() it. The value is the sum of one
column over all rows of a parent, read for one parent by its key; a write is one INSERT that commits by itself. Both run
in loops inside the server, what they have in common is subtracted, commits do not wait for the disk, everything is in
memory, and all rows of a parent lie close together: of a large table, annotate() reads more pages. The figure of QUEUED
includes its share of the flush, and is that of reading the column as it is, without what is pending. Which timing:
IMMEDIATE, unless many clients write under one parent (tables "clients" and "clients_instant"). Then DEFERRED, where
transactions last and the value must be exact at every commit; or QUEUED, where it may be behind a little, or is read
through Exact."""

Seconds = dict[str, list[float]]


def measure(options: Options) -> Result:
    """Measure what a write costs more and what a read saves, by the number of rows per parent."""
    declared = {timing: one_sum(timing) for timing in TIMINGS}
    places = {BASE: options.ground.copy(BASE)}
    places |= {timing: kept(options, timing, rules) for timing, rules in declared.items()}
    for place in places.values():
        place.run("SET synchronous_commit = off")
    rows = []
    for size in SHORT_GROUPS if options.short else GROUPS:
        options.say(f"break_even: {size:,} rows per parent …")
        for name, place in places.items():
            fill(place, declared.get(name, []), authors_of(PARENTS), books(size * PARENTS, PARENTS))
        reads = read_seconds(places[TIMINGS[0]], size, options.rounds)
        rows.append(row_of(size, reads, write_seconds(places, options)))
    sizes = tuple(float(row.title.replace(",", "")) for row in rows)
    plot = Plot(kind="lines", x_label="rows per parent", y_label="writes per read",
                xs=sizes, log_x=True, level=None, only=TIMINGS,
                better="cheaper below a line: the stored value; above it: annotate()")  # fmt: skip
    costs = tuple(cost_of(timing) for timing in TIMINGS)
    title = "Writes per read up to which storing the value beats annotate()"
    return Result("break_even", title, (READ_SAVES, *costs, *TIMINGS), rows, prose(NOTE), plot)


def cost_of(timing: str) -> str:
    """Return the name of the column with what a write costs more."""
    return f"a write costs, {timing}"


def queries() -> dict[str, str]:
    """Return the two readings of one parent as SQL, as Django writes it; n counts the readings."""
    from django.db.models import Sum
    from django.db.models.expressions import RawSQL

    from benchmarks.books.models import Author

    one: Any = Author.objects.filter(pk=RawSQL(f"1 + mod(n, {PARENTS})", ()))
    return {
        STORED: str(one.values("pk", "pages_total").query),
        ANNOTATED: str(one.values("pk").annotate(total=Sum("books__pages", default=0)).query),
    }


def read_seconds(place: Place, size: int, rounds: int) -> Seconds:
    """Return the seconds of one reading, stored and annotated."""
    loops = max(LEAST_READS, min(MOST_READS, MOST_READ // size))
    works = {name: loop(loops, f"PERFORM found.* FROM ({query}) AS found") for name, query in queries().items()}
    for work in works.values():
        place.run(work)  # so that all rows are in memory, and no round has to mark them as visible
    return in_turn(list(works), lambda name: timed(partial(place.run, works[name])) / loops, rounds)


def write_seconds(places: Mapping[str, Place], options: Options) -> Seconds:
    """Return the seconds of one write, by timing; a QUEUED one with its share of the flush."""
    writes = SHORT_WRITES if options.short else WRITES

    def once(name: str) -> float:
        place = places[name]
        tidy(place)
        seconds = timed(lambda: place.run(loop(writes, WRITE)))
        if name in TIMINGS:
            check(place, one_sum(name))
            seconds += timed(lambda: flush(place)) if name == "QUEUED" else 0
            check(place, one_sum())
        return seconds / writes

    return in_turn(list(places), once, options.rounds)


def row_of(size: int, reads: Seconds, writes: Seconds) -> Row:
    """Return the line of a size: what is saved, what it costs, and how often it may be written for one reading."""
    saved = differences(reads[ANNOTATED], reads[STORED])
    cells = {READ_SAVES: in_microseconds(saved)}
    for timing in TIMINGS:
        costs = differences(writes[timing], writes[BASE])
        cells[cost_of(timing)] = in_microseconds(costs)
        is_clear = min(saved) > 0 and min(costs) > 0
        cells[timing] = Cell(ratio=Ratio.of(saved, costs)) if is_clear else Cell.said("within the noise")
    return Row(f"{size:,}", cells)


def differences(more: list[float], less: list[float]) -> list[float]:
    """Subtract round by round."""
    return [one - other for one, other in zip(more, less, strict=True)]


def in_microseconds(seconds: list[float]) -> Cell:
    """Return the median of seconds."""
    return Cell.absolute(sorted(seconds)[len(seconds) // 2] * 1e6, "µs", seconds)
