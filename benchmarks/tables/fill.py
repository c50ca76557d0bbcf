"""What the first fill of four columns costs in batches, against one UPDATE of all rows.

A throw-away project, as in ``benchmarks.backfill``, which adds writers and a kill in the middle.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import psycopg

from benchmarks.backfill import DATABASE, FOUR_RULES, Round, Scene, fill_rounds
from benchmarks.ground import DriftError
from benchmarks.results import Cell, Plot, Result, Row
from benchmarks.tables import Options

BOOKS, SHORT_BOOKS = 1_000_000, 50_000
PER_AUTHOR = 10
ONE, BATCHES, LONGEST = "one UPDATE", "in batches", "longest batch"
NOTE = """Two counts, a sum and a maximum, behind the same guard, no writers. The longest batch of all rounds says how
long locks are held here; it depends on the machine and has no bar."""


def measure(options: Options) -> Result:
    """Fill in batches and at once, in turn."""
    books = SHORT_BOOKS if options.short else BOOKS
    authors = books // PER_AUTHOR
    with tempfile.TemporaryDirectory() as folder:
        scene = Scene(Path(folder), options.ground.server.database(DATABASE), authors, books)
        options.say(f"fill: {books:,} books …")
        scene.create()
        try:
            with psycopg.connect(scene.server.url, autocommit=True) as link:
                scene.load(link)
                come(scene)
                options.say("fill: in turn …")
                rounds = list(fill_rounds(scene, link, options.rounds))
        finally:
            scene.server.drop()
    row = row_of(row_title(books), rounds)
    title = "The first fill of four columns, ratio to one UPDATE"
    plot = Plot(y_label="ratio to one UPDATE", only=(BATCHES,), log_y=False)
    return Result("fill", title, (ONE, BATCHES, LONGEST), [row], " ".join(NOTE.split()), plot)


def row_title(books: int) -> str:
    """Return the title of the line."""
    return f"four rules, {books // PER_AUTHOR:,} targets of {books:,} rows"


def come(scene: Scene) -> None:
    """Bring the rules by a migration, which fills their columns for the first time."""
    scene.write(FOUR_RULES)
    scene.manage("makemigrations", "--verbosity", "0")
    scene.manage("migrate", "--verbosity", "0")


def row_of(title: str, rounds: list[Round]) -> Row:
    """Return the line; raise DriftError where a fill has left wrong values."""
    if wrong := sum(one.wrong for one in rounds):
        raise DriftError(f"fill: {wrong} authors are wrong")
    at_once, in_batches = [one.at_once for one in rounds], [one.in_batches for one in rounds]
    longest = [max(one.batches) for one in rounds]
    cells = {
        ONE: Cell.absolute(sorted(at_once)[len(at_once) // 2] * 1e3, "ms", at_once),
        BATCHES: Cell.compared(in_batches, at_once),
        LONGEST: Cell.absolute(max(longest) * 1e3, "ms", longest),
    }
    return Row(title, cells)
