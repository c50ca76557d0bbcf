"""What one change costs as its group grows from 100 to 1,000,000 rows.

All groups are there at once, each the books of one author, so that the sizes take turns. A strategy's triggers are
installed, measured, compared with annotate(), and make room for the next ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.ground import Place, check, django_at, install, tidy
from benchmarks.measuring import loop, timed
from benchmarks.results import Cell, Plot, Result, Row
from benchmarks.tables import Options
from benchmarks.tables.keeping import fill, in_turn, prose

if TYPE_CHECKING:
    from benchmarks.ground import Rules

SIZES = (100, 1_000, 10_000, 100_000, 1_000_000)
SHORT_SIZES = SIZES[:3]
LOOPS = 50  # dead rows pile up within a transaction: few enough that they do not matter
AGAIN = 6  # how often the loop runs in a round
MOST_READ = 200_000  # rows in a round, where a step reads its whole group

# Each step undoes what the one before it did, so that the group keeps its size and its extremum.
COMES_AND_GOES = """
INSERT INTO bench_books_book (id, author_id, pages, day) VALUES (-1, {author}, 7, date '2100-01-01');
DELETE FROM bench_books_book WHERE id = -1
"""
SUMMED = "UPDATE bench_books_book SET pages = pages + 1 WHERE id = {book}"
RENAMED = "UPDATE bench_books_book SET title = 't' || clock_timestamp() WHERE id = {book}"
INDEXES = (
    "CREATE INDEX ON bench_books_book (author_id, day)",
    "CREATE INDEX ON bench_books_book (author_id, day DESC, id)",
)
NOTE = f"""One change in a loop of {LOOPS} inside the server; ratios to the group of {SIZES[0]} rows. The indexes that
`trigger_kit plan` asks for are there. StringAgg has to read its group, and shows what the others save."""


@dataclass(frozen=True)
class Case:
    """A strategy, the rule that it keeps, what one step of the loop does, and whether it reads its whole group."""

    title: str
    rule: Callable[[], Any]
    step: str
    reads_all: bool = False


def cases() -> list[Case]:
    """Return the cases; Django must be set up to build their expressions."""
    from django.db.models import Count, Max, Sum

    from trigger_kit import Denormalize, First

    return [
        Case("delta: a counted row comes and goes", lambda: Denormalize("num_books", Count("books")), COMES_AND_GOES),
        Case("delta: a summed column changes",
             lambda: Denormalize("pages_total", Sum("books__pages", default=0)), SUMMED),
        Case("extremum: comes and leaves again", lambda: Denormalize("latest", Max("books__day")), COMES_AND_GOES),
        Case("recompute: First, comes and leaves again",
             lambda: Denormalize("label", First("books__title", order_by="-books__day")), COMES_AND_GOES),
        Case("recompute: StringAgg, one text changes", lambda: Denormalize("label", joined()), RENAMED,
             reads_all=True),
    ]  # fmt: skip


def joined() -> Any:
    """Return a StringAgg of the titles; from Django 6.0 on it is Django's own and takes an expression."""
    import django
    from django.contrib.postgres import aggregates
    from django.db import models

    if django.VERSION >= (6, 0):
        return models.StringAgg("books__title", models.Value(","), order_by="books__title")
    return aggregates.StringAgg("books__title", ",", order_by="books__title")


def measure(options: Options) -> Result:
    """Measure every strategy on groups of all sizes."""
    sizes = SHORT_SIZES if options.short else SIZES
    place = options.ground.copy("groups")
    for index in INDEXES:
        place.run(index)
    options.say(f"groups: {sum(sizes):,} books …")
    fill(place, [], authors_of(sizes), *(books_of(number, size) for number, size in enumerate(sizes, start=1)))
    rows = []
    for case in cases():
        options.say(f"groups: {case.title} …")
        rows.append(row_of(case, spent(place, case, sizes, options)))
    names = tuple(f"{size:,}" for size in sizes)
    plot = Plot(kind="lines", x_label="rows in the group", y_label=f"ratio to {sizes[0]} rows",
                xs=tuple(map(float, sizes)), lines_are_rows=True, log_x=True, only=names)  # fmt: skip
    title = "One change, by the size of its group"
    return Result("groups", title, ("in µs, of the first", *names), rows, prose(NOTE), plot)


def authors_of(sizes: tuple[int, ...]) -> str:
    """Return the INSERT of an author per size."""
    return f"INSERT INTO bench_books_author (id) SELECT n FROM generate_series(1, {len(sizes)}) AS n"


def books_of(author: int, size: int) -> str:
    """Return the INSERT of the books of one author; their ids go on where the last one's end."""
    return (
        "INSERT INTO bench_books_book (author_id, title, pages, day) "
        f"SELECT {author}, 't' || n, n % 500, date '2000-01-01' + n % 5000 FROM generate_series(1, {size}) AS n"
    )


def spent(place: Place, case: Case, sizes: tuple[int, ...], options: Options) -> dict[str, list[float]]:
    """Return the seconds of one step, by the size of the group; the values are compared afterwards."""
    from benchmarks.books.models import Author

    rules: Rules = [(Author, [case.rule()])]
    install(place, rules)
    tidy(place)
    steps = {f"{size:,}": step_of(case, number, sizes) for number, size in enumerate(sizes)}

    def once(size: str) -> float:
        loops, again = LOOPS, AGAIN
        if case.reads_all:
            loops, again = max(2, min(LOOPS, MOST_READ // int(size.replace(",", "")))), 1
        work = loop(loops, steps[size])
        return timed(lambda: [place.run(work) for _ in range(again)]) / loops / again

    in_turn(list(steps), once, 1)  # so that no round has to plan
    found = in_turn(list(steps), once, options.rounds)
    check(place, rules)
    remove(place, rules)
    return found


def step_of(case: Case, number: int, sizes: tuple[int, ...]) -> str:
    """Return a step in the group of one author; the book that it changes is the seventh of them."""
    return case.step.format(author=number + 1, book=sum(sizes[:number]) + 7)


def remove(place: Place, rules: Rules) -> None:
    """Take the triggers of rules away again."""
    from django.db import connection, transaction

    from trigger_kit.database.changes import Change
    from trigger_kit.database.converge import converge
    from trigger_kit.database.wanted import Wanted
    from trigger_kit.plan.plan import plan_all

    with django_at(place), transaction.atomic():
        for plan in plan_all(rules):
            converge(connection, [Change(before=Wanted(plan))])


def row_of(case: Case, seconds: dict[str, list[float]]) -> Row:
    """Return the line of a strategy: the smallest group in microseconds, and every size as a ratio to it."""
    first = next(iter(seconds.values()))
    cells = {name: Cell.compared(values, first) for name, values in seconds.items()}
    middle = sorted(first)[len(first) // 2]
    return Row(case.title, {"in µs, of the first": Cell.absolute(middle * 1e6, "µs", first), **cells})
