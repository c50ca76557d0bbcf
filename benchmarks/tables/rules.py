"""What 1 to 8 rules on one relation cost, in single inserts and in a bulk insert."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.contenders import BASE
from benchmarks.ground import authors, books, check, reset
from benchmarks.measuring import Work, interleaved, loop
from benchmarks.results import Cell, Plot, Result, Row
from benchmarks.tables import Options
from benchmarks.tables.keeping import kept, prose

if TYPE_CHECKING:
    from benchmarks.ground import Place, Rules

NUMBERS = (1, 2, 3, 4, 5, 6, 7, 8)
SHORT_NUMBERS = (1, 2, 4, 8)
PARENTS = 1_000
SINGLE, SHORT_SINGLE = 5_000, 1_000
BULK, SHORT_BULK = 100_000, 20_000
ONE_BOOK = f"INSERT INTO bench_books_book (author_id, pages, published) VALUES (1 + n % {PARENTS}, n % 400, n % 3 = 0)"
NOTE = f"""Four counts and four sums, all but two with a filter of their own, share one relation. Rows over {PARENTS:,}
parents; the single inserts run in a loop inside the server. Rules between the same two tables share their triggers and
one UPDATE."""


def chosen(number: int) -> Rules:
    """Return the first of eight rules."""
    from django.db.models import Count, Q, Sum

    from benchmarks.books.models import Author
    from trigger_kit import Denormalize

    filters = (Q(), Q(books__published=True), Q(books__pages__gte=200), Q(books__pages__lt=100))
    values = []
    for condition in filters:
        options: dict[str, Any] = {"filter": condition} if condition else {}
        values += [Count("books", **options), Sum("books__pages", default=0, **options)]
    return [(Author, [Denormalize(f"column_{at}", value) for at, value in enumerate(values[:number], start=1)])]


def measure(options: Options) -> Result:
    """Measure single inserts and a bulk insert with more and more rules."""
    numbers = SHORT_NUMBERS if options.short else NUMBERS
    places = {BASE: options.ground.copy(BASE)}
    places |= {str(number): kept(options, str(number), chosen(number)) for number in numbers}
    single = SHORT_SINGLE if options.short else SINGLE
    bulk = SHORT_BULK if options.short else BULK
    works = (
        Work("single inserts", start, loop(single, ONE_BOOK), per=single, after=compared),
        Work(f"insert of {bulk:,} rows", start, books(bulk, PARENTS), per=bulk, after=compared),
    )
    cells: dict[str, dict[str, Cell]] = {str(number): {} for number in numbers}
    for work in works:
        options.say(f"rules: {work.title} …")
        seconds = interleaved(places, work, options.rounds)
        for name, found in cells.items():
            found[f"{work.title}, to no trigger"] = Cell.compared(seconds[name], seconds[BASE])
            found[f"{work.title}, to one rule"] = Cell.compared(seconds[name], seconds[str(numbers[0])])
    rows = [Row("1 rule" if name == "1" else f"{name} rules", found) for name, found in cells.items()]
    plot = Plot(kind="lines", x_label="rules", y_label="ratio", xs=tuple(map(float, numbers)), log_y=False)
    title = "Rules on one relation, by their number"
    return Result("rules", title, tuple(rows[0].cells), rows, prose(NOTE), plot)


def start(place: Place) -> None:
    """Begin with authors that have no books."""
    reset(place, authors(PARENTS))


def compared(place: Place) -> None:
    """Compare the values with annotate()."""
    if place.name != BASE:
        check(place, chosen(int(place.name)))
