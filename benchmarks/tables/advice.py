"""What the indexes save that ``trigger_kit plan`` advises: one change with and without them, by the size of the group.

Two places hold the same books; at one of them the index is added that plan prints for the rule. The books of a group
lie scattered among those of others, as they do where they came one by one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.ground import Place, check, django_at, install, tidy
from benchmarks.measuring import loop, timed
from benchmarks.results import Cell, Plot, Result, Row
from benchmarks.tables import Options
from benchmarks.tables.groups import remove
from benchmarks.tables.keeping import fill, in_turn

if TYPE_CHECKING:
    from benchmarks.ground import Rules
    from trigger_kit.maintenance.advice import WantedIndex

SIZES = (100, 1_000, 10_000, 100_000)
SHORT_SIZES = (100, 5_000)
OTHERS, SHORT_OTHERS = 200_000, 10_000  # books of other authors
FEW = 1_000  # other authors
MOST_READ = 100_000  # rows of a group in a round
MOST_STEPS = 50
INSERTED, SHORT_INSERTED = 20_000, 2_000
WITHOUT, WITH = "without", "with"
COST = "20,000 books come"
SHORT_COST = "2,000 books come"

# Each step undoes what the one before it did. No other book of a group is published.
COMES_AND_GOES = """
INSERT INTO bench_books_book (id, author_id, pages, price, day, published)
VALUES (-1, {author}, 7, -1, date '2100-01-01', true);
DELETE FROM bench_books_book WHERE id = -1
"""
SUMMED = "UPDATE bench_books_book SET pages = pages + 1 WHERE id = {book}"
NOTE = """Ratios to the same change without the index, where only the foreign key's own is there. The last column is
about one statement that inserts many books of other authors: it pays for the index, and gains from it where its rule
reads groups afresh. The average's change is an update of what its index holds, which is in the figure."""


@dataclass(frozen=True)
class Case:
    """A rule, and what one step changes in a group."""

    title: str
    rule: Callable[[], Any]
    step: str


def cases() -> list[Case]:
    """Return the cases; Django must be set up to build their expressions."""
    from django.db.models import Avg, Max, Min, Q, Sum

    from trigger_kit import Denormalize, First

    is_published = Q(books__published=True)
    latest = First("books__title", order_by="-books__day")
    latest_published = First("books__title", order_by="-books__day", filter=is_published)
    return [
        Case("Max, the extremum leaves", lambda: Denormalize("latest", Max("books__day")), COMES_AND_GOES),
        Case("First, it leaves", lambda: Denormalize("label", latest), COMES_AND_GOES),
        Case("Min with a filter, the only row leaves",
             lambda: Denormalize("revenue", Min("books__price", filter=is_published)), COMES_AND_GOES),
        Case("First with a filter, the only row leaves", lambda: Denormalize("label", latest_published),
             COMES_AND_GOES),
        Case("Sum that may be NULL, the only row leaves",
             lambda: Denormalize("revenue", Sum("books__price", filter=is_published)), COMES_AND_GOES),
        Case("Avg alone, one row changes", lambda: Denormalize("revenue", Avg("books__pages")), SUMMED),
        Case("StringAgg in an order, one row changes", lambda: Denormalize("label", numbers()), SUMMED),
    ]  # fmt: skip


def numbers() -> Any:
    """Return a StringAgg of short values; from Django 6.0 on it is Django's own and takes an expression."""
    import django
    from django.contrib.postgres import aggregates
    from django.db import models
    from django.db.models.functions import Cast

    pages, order = Cast("books__pages", models.TextField()), ("books__pages", "books__id")
    if django.VERSION >= (6, 0):
        return models.StringAgg(pages, models.Value(","), order_by=order)
    return aggregates.StringAgg(pages, ",", order_by=order)


def measure(options: Options) -> Result:
    """Measure every advised index on groups of all sizes."""
    sizes = SHORT_SIZES if options.short else SIZES
    others = SHORT_OTHERS if options.short else OTHERS
    places = {name: options.ground.copy(f"advice, {name}") for name in (WITHOUT, WITH)}
    for place in places.values():
        options.say(f"advice: {sum(sizes) + others:,} books …")
        fill(place, [], authors_of(sizes), books_of(sizes, others))
    rows = []
    for case in cases():
        options.say(f"advice: {case.title} …")
        rows.append(row_of(case, places, sizes, options))
    columns = tuple(f"{size:,}" for size in sizes)
    plot = Plot(kind="lines", x_label="rows in the group", y_label="ratio to the same without the index",
                xs=tuple(map(float, sizes)), lines_are_rows=True, log_x=True, only=columns)  # fmt: skip
    title = "One change with an advised index, as a ratio to the same change without it"
    cost = SHORT_COST if options.short else COST
    return Result("advice", title, ("index", *columns, cost), rows, " ".join(NOTE.split()), plot)


def authors_of(sizes: tuple[int, ...]) -> str:
    """Return the INSERT of an author per size, and of others."""
    return f"INSERT INTO bench_books_author (id) SELECT n FROM generate_series(1, {len(sizes) + FEW}) AS n"


def books_of(sizes: tuple[int, ...], others: int) -> str:
    """Return the INSERT of all books in an order by chance, the same each time."""
    groups = [f"SELECT {number} FROM generate_series(1, {size})" for number, size in enumerate(sizes, start=1)]
    groups.append(f"SELECT {len(sizes)} + 1 + n % {FEW} FROM generate_series(1, {others}) AS n")
    return (
        "INSERT INTO bench_books_book (author_id, title, pages, price, day) "
        "SELECT author, 't' || n, n % 500, n % 1000, date '2000-01-01' + (n % 5000)::integer FROM ("
        f"SELECT author, row_number() OVER () AS n FROM ({' UNION ALL '.join(groups)}) AS grouped (author)"
        ") AS numbered ORDER BY hashint8(n)"
    )


def row_of(case: Case, places: dict[str, Place], sizes: tuple[int, ...], options: Options) -> Row:
    """Return the line of a rule: its index, and each size as a ratio to the place without it."""
    from benchmarks.books.models import Author

    rules: Rules = [(Author, [case.rule()])]
    index = advised(rules)
    for name, place in places.items():
        if name == WITH:
            change_index(place, index, is_added=True)
        install(place, rules)
        tidy(place)
    cells = {"index": Cell.said(index.words.partition(" ")[2])}
    for number, size in enumerate(sizes, start=1):
        cells[f"{size:,}"] = compared(turns(case, number, size, places, options))
    cost = SHORT_COST if options.short else COST
    cells[cost] = compared(inserts(SHORT_INSERTED if options.short else INSERTED, len(sizes), places, options))
    for name, place in places.items():
        check(place, rules)
        remove(place, rules)
        if name == WITH:
            change_index(place, index, is_added=False)
    return Row(case.title, cells)


def compared(seconds: dict[str, list[float]]) -> Cell:
    """Return the ratio of the place with the index to the other."""
    return Cell.compared(seconds[WITH], seconds[WITHOUT])


def advised(rules: Rules) -> WantedIndex:
    """Return the index that plan advises for a rule beside the one of the foreign key."""
    from trigger_kit.maintenance.advice import wanted_indexes
    from trigger_kit.plan.plan import plan

    ((model, declared),) = rules
    (kept,) = plan(model, declared).kept_columns
    _, index = wanted_indexes(kept)
    return index


def change_index(place: Place, index: WantedIndex, *, is_added: bool) -> None:
    """Add an index at a place, or drop it."""
    from django.db import connection

    with django_at(place), connection.schema_editor() as editor:
        (editor.add_index if is_added else editor.remove_index)(index.model, index.build())


def turns(case: Case, author: int, size: int, places: dict[str, Place], options: Options) -> dict[str, list[float]]:
    """Return the seconds of one step in the group of an author, by place."""
    book = places[WITHOUT].value(f"SELECT min(id) FROM bench_books_book WHERE author_id = {author}")
    steps = max(2, min(MOST_STEPS, MOST_READ // size))
    work = loop(steps, case.step.format(author=author, book=book))

    def once(name: str) -> float:
        return timed(lambda: places[name].run(work)) / steps

    in_turn(list(places), once, 1)  # so that no round has to plan
    return in_turn(list(places), once, options.rounds)


def inserts(count: int, sizes: int, places: dict[str, Place], options: Options) -> dict[str, list[float]]:
    """Return the seconds in which books of other authors are inserted, by place; they are deleted again."""
    work = (
        "INSERT INTO bench_books_book (id, author_id, title, pages, price, day) "
        f"SELECT -1 - n, {sizes} + 1 + n % {FEW}, 't' || n, n % 500, n % 1000, date '2000-01-01' + n % 5000 "
        f"FROM generate_series(1, {count}) AS n"
    )

    def once(name: str) -> float:
        seconds = timed(lambda: places[name].run(work))
        places[name].run("DELETE FROM bench_books_book WHERE id < 0")
        tidy(places[name], ["bench_books_book"])
        return seconds

    return in_turn(list(places), once, options.rounds)
