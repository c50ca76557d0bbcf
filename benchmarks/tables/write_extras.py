"""The rows of the table "writes" with rules of their own: copied columns, four rules, one long transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.contenders import BASE
from benchmarks.contenders.by_hand import ROW, STATEMENT
from benchmarks.contenders.ours import TIMINGS
from benchmarks.ground import Ground, Place, authors, books, check, flush, install, reset
from benchmarks.measuring import Work, interleaved, loop
from benchmarks.results import Cell, Row
from benchmarks.tables.bench import PARENTS, Bench, per_one
from benchmarks.tables.write_works import SINGLES, Sizes, move

if TYPE_CHECKING:
    from benchmarks.ground import Rules

Say = Callable[[str], object]
Build = Callable[[str], "Rules"]

ONE, FOUR = "one rule", "four rules"
TO_ONE = ", ratio to one"


def copy_rules(timing: str) -> Rules:
    """Return the rule of a column that every book copies from its author."""
    from django.db.models import F

    from benchmarks.books.models import Book
    from trigger_kit import Denormalize, Timing

    return [(Book, [Denormalize("copied", F("author__name"), timing=Timing[timing])])]


def four_rules(timing: str) -> Rules:
    """Return two counts and two sums of one relation, two with a filter, one NULL over no rows where that may wait."""
    from django.db.models import Count, Q, Sum

    from benchmarks.books.models import Author
    from trigger_kit import Denormalize, Timing

    published, late = Q(books__published=True), Timing[timing]
    nothing = 0 if timing == "QUEUED" else None
    return [
        (
            Author,
            [
                Denormalize("num_books", Count("books"), timing=late),
                Denormalize("column_1", Count("books", filter=published), timing=late),
                Denormalize("pages_total", Sum("books__pages", default=0), timing=late),
                Denormalize("revenue", Sum("books__price", filter=published, default=nothing), timing=late),
            ],
        )
    ]


def one_rule(timing: str) -> Rules:
    """Return the first of the four."""
    ((model, rules),) = four_rules(timing)
    return [(model, rules[:1])]


def measure_copies(ground: Ground, base: Place, sizes: Sizes, rounds: int, say: Say) -> Iterator[Row]:
    """Yield what a copied column costs its children; it can only be kept at once."""
    places = {BASE: base, "IMMEDIATE": kept(ground, "IMMEDIATE", copy_rules)}
    for title, there, statement in copy_works(sizes):
        say(f"writes: {title} …")
        work = Work(title, partial(begin, there=there), statement, after=partial(judge, build=copy_rules))
        seconds = interleaved(places, work, rounds)
        others = {name: Cell.said("cannot wait") for name in TIMINGS}
        ours = Cell.compared(seconds["IMMEDIATE"], seconds[BASE])
        cells = {BASE: per_one(seconds[BASE], 1), **others, "IMMEDIATE": ours}
        yield Row(title, cells)


def copy_works(sizes: Sizes) -> list[tuple[str, str, str]]:
    """Return the work with a copied column: its title, what is there before, and the statement."""
    number = sizes.bulk
    return [
        (f"insert {number:,} children with a copied column", "", books(number, PARENTS)),
        (f"move {number:,} children with a copied column", books(number, PARENTS), move(PARENTS)),
    ]


def measure_four(
    ground: Ground, base: Place, timings: Sequence[str], sizes: Sizes, rounds: int, say: Say
) -> Iterator[Row]:
    """Yield what four rules on one relation cost, against no trigger and against one of them."""
    places = {BASE: base}
    for timing in timings:
        places[f"{timing} {ONE}"] = kept(ground, f"{timing} {ONE}", one_rule)
        places[f"{timing} {FOUR}"] = kept(ground, f"{timing} {FOUR}", four_rules)
    for title, statement in four_works(sizes):
        say(f"writes: {title}, four rules …")
        seconds = interleaved(places, Work(title, begin, statement, after=judge_number), rounds)
        four = {timing: seconds[f"{timing} {FOUR}"] for timing in timings}
        yield Row(f"{title}: four rules", {name: Cell.compared(spent, seconds[BASE]) for name, spent in four.items()})
        against_one = {name: Cell.compared(spent, seconds[f"{name} {ONE}"]) for name, spent in four.items()}
        yield Row(f"{title}: four rules{TO_ONE}", against_one)


def four_works(sizes: Sizes) -> list[tuple[str, str]]:
    """Return the work with four rules, title and statement."""
    return [
        (f"insert {sizes.bulk:,} rows over {PARENTS:,} parents", books(sizes.bulk, PARENTS)),
        ("single insert, loop in the server", loop(sizes.single, SINGLES["single insert"].format(n="n"))),
    ]


def measure_growth(bench: Bench, sizes: Sizes, rounds: int, say: Say) -> Iterator[Row]:
    """Yield how long a transaction with twice as many single inserts takes, foreign keys pending: 2 is linear."""
    title, few, many = growth_title(sizes), sizes.bulk // 10, sizes.bulk // 5
    say(f"writes: {title} …")
    places = {name: bench.places[name] for name in (BASE, *TIMINGS, ROW.name, STATEMENT.name) if name in bench.places}
    spent: dict[int, dict[str, list[float]]] = {number: {name: [] for name in places} for number in (few, many)}
    for _ in range(rounds):
        for number, found in spent.items():
            work = Work(title, begin, partial(in_one_transaction, number), after=bench.judge)
            for name, seconds in interleaved(places, work, 1).items():
                found[name] += seconds
    yield Row(title, {name: Cell.compared(spent[many][name], spent[few][name]) for name in places})


def growth_title(sizes: Sizes) -> str:
    """Return the title of the line."""
    return f"{sizes.bulk // 5:,} single inserts in one transaction, ratio to {sizes.bulk // 10:,}"


def extra_titles(sizes: Sizes) -> list[str]:
    """Return the titles of all these lines."""
    four = [f"{title}: four rules{end}" for title, _ in four_works(sizes) for end in ("", TO_ONE)]
    return [growth_title(sizes), *(title for title, _, _ in copy_works(sizes)), *four]


def in_one_transaction(number: int, place: Place) -> None:
    """Insert books one by one from a client; their foreign keys are checked at the end."""
    text = b"INSERT INTO bench_books_book (author_id, pages) VALUES (%s, 3)"
    with place.link.transaction():
        for n in range(number):
            place.link.execute(text, [1 + n % PARENTS])


def kept(ground: Ground, name: str, build: Build) -> Place:
    """Return a fresh place with rules of a timing, which is the first word of the name."""
    place = ground.copy(name)
    install(place, build(name.partition(" ")[0]))
    return place


def begin(place: Place, there: str = "") -> None:
    """Begin with authors, and with what else is to be there."""
    reset(place, authors(PARENTS), *([there] if there else []))


def judge(place: Place, build: Build) -> None:
    """Raise DriftError where the rules do not hold; what was pending has been folded then, too."""
    if place.name == BASE:
        return
    rules = build(place.name.partition(" ")[0])
    check(place, rules)
    if flush(place):
        check(place, rules)


def judge_number(place: Place) -> None:
    """Judge a place with one rule or with four."""
    judge(place, one_rule if place.name.endswith(ONE) else four_rules)
