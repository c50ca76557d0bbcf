"""What reading the stored value saves on a list page of 50 parents with 100,000 children each, read by Django."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.contenders import ours
from benchmarks.ground import DriftError, check, django_at, install, tidy
from benchmarks.measuring import timed
from benchmarks.results import Cell, Plot, Result, Row
from benchmarks.tables import Options
from benchmarks.tables.keeping import fill, in_turn, prose

if TYPE_CHECKING:
    from django.db.models import QuerySet

PAGE = 50
PARENTS = 1_000
CHILDREN, SHORT_CHILDREN = 100_000, 1_000
CHILDREN_OF_OTHERS = 20
FASTEST = 0.05  # seconds that a short query is repeated for in a round
NOTE = """Ratios to the stored columns; Django builds the queries, sends them and makes the objects. The page has 50
authors by their keys; sorted are all {parents:,}, of whom the others have {others} books each. Books of an author are
stored one after the other, which suits annotate(): scattered over a large table they cost more. Everything is in
memory. PostgreSQL may use parallel workers."""

Values = list[tuple[Any, ...]]


@dataclass(frozen=True)
class Reading:
    """A way to read a page: what it is called, which values the page shows, and its query."""

    title: str
    values: tuple[str, ...]
    query: Callable[[], QuerySet[Any]]
    is_stored: bool = False


def readings() -> list[list[Reading]]:
    """Return the ways to read each of the two pages; the first of each reads what is stored."""
    from django.db.models import Count, OuterRef, Subquery, Sum, Value
    from django.db.models.functions import Coalesce

    from benchmarks.books.models import Author, Book

    count, total = Count("books"), Sum("books__pages", default=0)
    page = Author.objects.filter(id__lte=PAGE).order_by("id")
    # The empty order_by() takes a default ordering of the model out of the GROUP BY.
    counted = Book.objects.filter(author=OuterRef("pk")).order_by().values("author").annotate(number=Count("*"))
    subquery = Coalesce(Subquery(counted.values("number")), Value(0))
    return [
        [
            Reading("page: both columns stored", ("num_books", "pages_total"), page.all, is_stored=True),
            Reading("page: annotate(Count)", ("number",), lambda: page.annotate(number=count)),
            Reading("page: annotate(Sum)", ("total",), lambda: page.annotate(total=total)),
            Reading("page: annotate(Count, Sum)", ("number", "total"),
                    lambda: page.annotate(number=count, total=total)),
            Reading("page: correlated Subquery of the count", ("number",), lambda: page.annotate(number=subquery)),
        ],
        [
            Reading("sorted: the stored count", ("num_books",),
                    lambda: Author.objects.order_by("-num_books", "id")[:PAGE], is_stored=True),
            Reading("sorted: annotate(Count)", ("number",),
                    lambda: Author.objects.annotate(number=count).order_by("-number", "id")[:PAGE]),
            Reading("sorted: correlated Subquery of the count", ("number",),
                    lambda: Author.objects.annotate(number=subquery).order_by("-number", "id")[:PAGE]),
        ],
    ]  # fmt: skip


def books_of_all(children: int) -> tuple[str, ...]:
    """Return the INSERTs of the books of the authors on the page, and of the others."""
    insert = "INSERT INTO bench_books_book (author_id, pages) SELECT author, n % 400 FROM generate_series"
    return (
        f"{insert}(1, {PAGE}) AS author, generate_series(1, {children} + author) AS n",
        f"{insert}({PAGE + 1}, {PARENTS}) AS author, generate_series(1, {CHILDREN_OF_OTHERS}) AS n",
    )


def measure(options: Options) -> Result:
    """Measure all ways to read the two pages."""
    children = SHORT_CHILDREN if options.short else CHILDREN
    place = options.ground.copy("reading")
    options.say(f"reading: {PAGE * children:,} books …")
    authors = f"INSERT INTO bench_books_author (id) SELECT n FROM generate_series(1, {PARENTS}) AS n"
    fill(place, [], authors, *books_of_all(children))
    install(place, ours.rules("IMMEDIATE"))
    tidy(place)
    check(place, ours.rules("IMMEDIATE"))
    rows: list[Row] = []
    with django_at(place):
        for ways in readings():
            rows += read(ways, options)
    title = f"A page of {PAGE} parents with {children:,} children each, and a page sorted by the value"
    note = prose(NOTE.format(parents=PARENTS, others=CHILDREN_OF_OTHERS))
    plot = Plot(y_label="ratio to the stored columns", only=("ratio to stored",))
    return Result("reading", title, ("a page takes", "ratio to stored"), rows, note, plot)


def read(ways: list[Reading], options: Options) -> list[Row]:
    """Let the ways to read a page take turns, and see to it that they show the same."""
    by_title = {way.title: way for way in ways}
    options.say(f"reading: {ways[0].title} …")
    loops = {way.title: compared(way, ways[0]) for way in ways}

    def once(title: str) -> float:
        query, count = by_title[title].query, loops[title]
        return timed(lambda: [list(query()) for _ in range(count)]) / count

    seconds = in_turn(list(by_title), once, options.rounds)
    return [row_of(title, seconds[title], seconds[ways[0].title]) for title in by_title]


def compared(way: Reading, stored: Reading) -> int:
    """Compare what a query reads with what is stored; return how often it shall run in a round, by its time."""
    found: list[Any] = []
    seconds = timed(lambda: found.extend(way.query()))
    names = {"number": "num_books", "total": "pages_total"}
    true = list(stored.query())
    for name in way.values:
        ours, theirs = ([(row.pk, getattr(row, at)) for row in rows] for rows, at in
                        ((true, names.get(name, name)), (found, name)))  # fmt: skip
        if ours != theirs:
            raise DriftError(f"{way.title}: {name} is not what is stored.")
    return max(1, int(FASTEST / seconds))


def row_of(title: str, seconds: list[float], base: list[float]) -> Row:
    """Return the line of a query: its time, and its ratio to the stored columns."""
    middle = sorted(seconds)[len(seconds) // 2]
    return Row(title, {"a page takes": Cell.absolute(middle * 1e3, "ms", seconds),
                       "ratio to stored": Cell.compared(seconds, base)})  # fmt: skip
