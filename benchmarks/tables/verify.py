"""What verify costs, against the plain queries that annotate() runs for the same rules, their rows fetched."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from benchmarks.ground import DriftError, authors, django_at, install
from benchmarks.measuring import timed
from benchmarks.results import Cell, Plot, Result, Row
from benchmarks.tables import Options
from benchmarks.tables.bench import per_one
from benchmarks.tables.keeping import fill
from benchmarks.tables.write_extras import four_rules

if TYPE_CHECKING:
    from benchmarks.ground import Rules

SOURCES, TARGETS = 1_000_000, 100_000
SHORT_SOURCES, SHORT_TARGETS = 50_000, 5_000
PLAIN, OURS = "annotate()", "verify"
MODEL = "bench_books.Author"
NOTE = """Ranges that somebody asks for may cost more: each of them may read all source rows again, which those that
verify chooses by itself may not."""


@dataclass(frozen=True)
class Case:
    """What is verified, beside the plain queries of the same rules."""

    title: str
    uris: tuple[str, ...]
    options: dict[str, Any] = field(default_factory=dict)


COUNT = (f"{MODEL}:num_books",)
CASES = (
    Case("one rule", COUNT),
    Case("four rules of one model", (MODEL,)),
    Case("one rule, ranges of 20,000 targets", COUNT, {"batch_size": 20_000}),
    Case("one rule, a sample of 1,000 targets", COUNT, {"sample": 1_000}),
)


def measure(options: Options) -> Result:
    """Measure all cases on many rows."""
    sources, targets = (SHORT_SOURCES, SHORT_TARGETS) if options.short else (SOURCES, TARGETS)
    return measured(options, sources, targets)


def measured(options: Options, sources: int, targets: int) -> Result:
    """Measure all cases on so many rows."""
    place, rules = options.ground.copy("verify"), four_rules("IMMEDIATE")
    options.say(f"verify: {sources:,} books …")
    install(place, rules)
    fill(place, rules, authors(targets), books_anywhere(sources, targets))
    with declaring(rules), django_at(place):
        rows = [row_of(case, rules, options) for case in CASES]
    title = f"verify over {sources:,} source rows and {targets:,} targets, ratio to annotate()"
    plot = Plot(y_label="ratio to annotate()", only=(OURS,))
    return Result("verify", title, (PLAIN, OURS), rows, " ".join(NOTE.split()), plot)


def books_anywhere(sources: int, targets: int) -> str:
    """Return the INSERT of books; those of one author lie anywhere in their table."""
    return (
        "INSERT INTO bench_books_book (author_id, title, published, pages, price) "
        f"SELECT 1 + n * 7919 % {targets}, 'title ' || n, n % 3 = 0, n % 400, n % 50 "
        f"FROM generate_series(1, {sources}::bigint) AS n"
    )


@contextmanager
def declaring(rules: Rules) -> Iterator[None]:
    """Let models declare rules for a while, as their Meta would: verify looks for them there."""
    for model, declared in rules:
        model._meta.denormalizations = declared  # type: ignore[attr-defined]
    try:
        yield
    finally:
        for model, _ in rules:
            del model._meta.denormalizations  # type: ignore[attr-defined]


def row_of(case: Case, rules: Rules, options: Options) -> Row:
    """Return the line of a case; the first round is for the caches."""
    options.say(f"verify: {case.title} …")
    base, ours = plain(rules, case.uris), checked(case)
    spent = [(timed(base), timed(ours)) for _ in range(options.rounds + 1)][1:]
    one, two = ([pair[0] for pair in spent], [pair[1] for pair in spent])
    return Row(case.title, {PLAIN: per_one(one, 1), OURS: Cell.compared(two, one)})


def plain(rules: Rules, uris: Sequence[str]) -> Callable[[], None]:
    """Return what runs Django's own query of each rule and fetches its rows."""
    from django.db import connection
    from django.db.models import QuerySet

    from trigger_kit.resolve.rule import rule_uri

    ((model, declared),) = rules
    chosen = [rule for rule in declared if {rule_uri(model, rule.field), MODEL} & set(uris)]

    def run() -> None:
        for rule in chosen:
            rows = QuerySet(model).annotate(true=rule.expression).values_list("pk", rule.field, "true")
            with connection.cursor() as cursor:
                cursor.execute(*rows.query.sql_with_params())
                cursor.fetchall()

    return run


def checked(case: Case) -> Callable[[], None]:
    """Return what verifies the rules of a case, which must be in sync."""
    from trigger_kit import verify

    def run() -> None:
        found = verify(case.uris, **case.options)
        if not found.in_sync:
            raise DriftError(f"{case.title}: {found.drifts[:5]}")

    return run
