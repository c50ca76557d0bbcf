"""What row level wins and loses against statement level, by the number of rows per statement.

A count and a sum, kept by the triggers of trigger_kit, by a row trigger and by a statement trigger written by hand. The
rows of a statement belong to one parent, or each to another one.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import psycopg
from psycopg import errors

from benchmarks.contenders import BASE, NOTHING, OURS, ROW, STATEMENT, Contender
from benchmarks.contenders.ours import rules
from benchmarks.ground import Place, authors, check, reset
from benchmarks.measuring import loop, short, timed
from benchmarks.results import Cell, Plot, Result, Row
from benchmarks.tables import Options
from benchmarks.tables.keeping import in_turn, prose

SIZES = (1, 2, 3, 4, 5, 10, 30, 100, 1_000)
SHORT_SIZES = (1, 3, 10, 100)
PARENTS = 1_000
LEAST, SHORT_LEAST = 6_000, 1_500  # rows that are written in a round
FEWEST = 5  # statements
WARM_UP = 6  # statements after which PL/pgSQL has chosen its plans
KINDS = {"one parent": "1 + n % {parents}", "many parents": "1 + (n * {size} + {row}) % {parents}"}
KEEPERS: tuple[Contender, ...] = (OURS[0], ROW, STATEMENT)
OURS_AT, ROW_AT = (keeper.name for keeper in KEEPERS[:2])

CLIENTS = 4
SECONDS, SHORT_SECONDS = 2.0, 0.4  # in which deadlocks are counted
WIDE = 20  # parents of one statement
MIXED = "INSERT INTO bench_books_book (author_id, pages) SELECT author, 1 FROM unnest(%s::bigint[]) AS author"

NOTE = """INSERTs of so many rows in a loop inside the server, all in one transaction; the next statement has other
parents. Ratios to no trigger. Updates and deletes: see the table "sizes". {verdict} Deadlocks of {clients} clients
whose statements insert {wide} rows over {wide} parents in an order of chance, of so many statements: {deadlocks}."""

# What the planner would have to know, and cannot.
CONCLUSION = """ It costs {most} times less where it wins most, and {least} times more where it loses most; the wins
belong to small statements and are bounded, the losses grow with the statement. A trigger is installed once for all
statements to come, whose size no plan knows, and a row trigger takes the locks of its parents in the order of the rows:
the planner has no reason to choose row level by itself."""


def measure(options: Options) -> Result:
    """Measure inserts of 1 to 1,000 rows, and count deadlocks."""
    places = {}
    for contender in (NOTHING, *KEEPERS):
        places[contender.name] = options.ground.copy(contender.name)
        contender.install(places[contender.name])
    rows = []
    for size in SHORT_SIZES if options.short else SIZES:
        options.say(f"levels: {size:,} rows per statement …")
        rows.append(row_of(size, turns(places, size, options)))
    options.say("levels: deadlocks …")
    counted = [f"{keeper.name} {deadlocks(places[keeper.name], options)}" for keeper in KEEPERS]
    columns = tuple(column_of(keeper.name, kind) for kind in KINDS for keeper in KEEPERS)
    xs = tuple(float(row.title.replace(",", "")) for row in rows)
    plot = Plot(kind="lines", x_label="rows per statement", xs=xs, log_x=True)
    note = NOTE.format(clients=CLIENTS, wide=WIDE, deadlocks=", ".join(counted), verdict=verdict(rows))
    title = "Statement level and row level, by the number of rows per statement"
    return Result("levels", title, columns, rows, prose(note), plot)


def column_of(name: str, kind: str) -> str:
    """Return the name of a column."""
    return f"{name}, {kind}"


def turns(places: Mapping[str, Place], size: int, options: Options) -> dict[str, list[dict[str, float]]]:
    """Let the places take turns; return the seconds of all rounds."""
    return in_turn(list(places), lambda name: turn(places[name], size, options), options.rounds)


def turn(place: Place, size: int, options: Options) -> dict[str, float]:
    """Insert rows at a place, under one parent per statement and under many; return the seconds of each kind."""
    reset(place, authors(PARENTS))
    count = max(FEWEST, (SHORT_LEAST if options.short else LEAST) // size)
    seconds = {}
    for kind in KINDS:
        place.run(loop(WARM_UP, statement(size, kind)))
        work = loop(count, statement(size, kind))
        seconds[kind] = timed(partial(place.run, work))
    compare(place)
    return seconds


def statement(size: int, kind: str) -> str:
    """Return the n-th INSERT of so many rows."""
    parent = KINDS[kind].format(size=size, parents=PARENTS, row="0" if size == 1 else "i")
    columns = "INSERT INTO bench_books_book (author_id, pages)"
    if size == 1:
        return f"{columns} VALUES ({parent}, n % 400)"
    return f"{columns} SELECT {parent}, i % 400 FROM generate_series(1, {size}) AS i"


def compare(place: Place) -> None:
    """Compare the values with annotate(), where any are kept."""
    if place.name != BASE:
        check(place, rules("IMMEDIATE"))


def row_of(size: int, found: dict[str, list[dict[str, float]]]) -> Row:
    """Return the line of a size: ratios to no trigger."""
    cells = {}
    for kind in KINDS:
        base = [one[kind] for one in found[BASE]]
        for keeper in KEEPERS:
            seconds = [one[kind] for one in found[keeper.name]]
            cells[column_of(keeper.name, kind)] = Cell.compared(seconds, base)
    return Row(f"{size:,}", cells)


def verdict(rows: list[Row]) -> str:
    """Say at which sizes the row trigger is the cheaper one, and what that means for the planner."""
    said, gains = [], [1.0]
    for kind in KINDS:
        gain = {row.title: value(row, OURS_AT, kind) / value(row, ROW_AT, kind) for row in rows}
        cheaper = [title for title, factor in gain.items() if factor > 1]
        sizes = f"for {', '.join(cheaper)} rows" if cheaper else "at no number of rows"
        said.append(f"With {kind} the row trigger is cheaper than {OURS_AT} {sizes}.")
        gains += gain.values()
    return " ".join(said) + CONCLUSION.format(most=short(max(gains)), least=short(1 / min(gains)))


def value(row: Row, name: str, kind: str) -> float:
    """Return the median of a cell."""
    return row.cells[column_of(name, kind)].value or math.nan


# Deadlocks -----------------------------------------------------------------------------------------------------------


def deadlocks(place: Place, options: Options) -> str:
    """Let clients write the same parents in different orders; return how many statements ended in a deadlock."""
    reset(place, authors(PARENTS))
    end = time.monotonic() + (SHORT_SECONDS if options.short else SECONDS)
    with ThreadPoolExecutor(CLIENTS) as pool:
        done = list(pool.map(partial(write, place.url, end), range(CLIENTS)))
    compare(place)
    failed, sent = (sum(numbers) for numbers in zip(*done, strict=True))
    return f"{failed:,} of {sent:,}"


def write(url: str, end: float, seed: int) -> tuple[int, int]:
    """Insert until the time is up; return the numbers of deadlocks and of statements."""
    dice, failed, sent = random.Random(seed), 0, 0
    with psycopg.connect(url, autocommit=True) as link:
        link.execute("SET deadlock_timeout = '20ms'")  # found early, so that they do not fill the time
        while time.monotonic() < end:
            sent += 1
            try:
                link.execute(MIXED, [dice.sample(range(1, WIDE + 1), WIDE)])
            except errors.DeadlockDetected:
                failed += 1
    return failed, sent
