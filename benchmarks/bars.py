"""What must hold: the bars that the ratios are held against by ``make bench-check``.

A bar compares the *median* of the ratios with its limit, widened by a margin for noise. The bound of the spread that
favours us would be the other choice, and a bad one: the smallest of many rounds falls with their number, so that a bar
would get softer the longer it is measured, and one lucky round would hide what all the others say. The median comes
nearer to the truth with every round; what is left of the noise is what the margin is for.

Its size was measured: two equal databases without triggers against each other, five interleaved rounds, six times, on a
machine of two cores that others used as well. The medians, which would all be 1 without noise, lay between 0.96 and
1.06 for single inserts in a loop inside the server, between 0.99 and 1.10 for inserts of 100,000 rows, and between 0.94
and 1.13 for single inserts from a client; single rounds lay between 0.53 and 1.67.

How long a batch of a first fill holds its locks has no bar: it is a time, not a ratio. The table "fill" shows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.measuring import Ratio, short
from benchmarks.results import Result

STEADY = 0.10  # work inside the server
SHAKY = 0.20  # the disk, the scheduler or the network take part


@dataclass(frozen=True)
class Bar:
    """A limit for one cell: of its own ratio, or of its times to those of another column of the row (``against``).

    ``is_at_most`` is False where the ratio has to reach the limit. An ``is_optional`` one is about a contender that may
    not be installed.
    """

    table: str
    row: str
    column: str
    limit: float
    source: str
    against: str = ""
    is_at_most: bool = True
    margin: float = STEADY
    is_optional: bool = False

    @property
    def allowed(self) -> float:
        """The limit with its margin."""
        return self.limit * (1 + self.margin) if self.is_at_most else self.limit / (1 + self.margin)

    def holds(self, ratio: Ratio) -> bool:
        """Say whether the median is on the right side."""
        return ratio.median <= self.allowed if self.is_at_most else ratio.median >= self.allowed


# From the table of bars in the project's design: the sentence of each is its source.
BULK = "a statement of 100,000 rows over 1,000 parents"
SPREAD = "a statement of 100,000 rows over 10,000 parents"
HOT = "20,000 rows under one parent"
SINGLE = "a single row, loop in the server"
CLIENTS = "8 clients under one hot parent"
FEW = "two to four rows per statement"
FORUM = "one post in a forum with 24 rules"
FLAT = "the cost of one change stays as its group grows from 100 to 1,000,000 rows"
ROW_TRIGGER, OURS = "row trigger", "IMMEDIATE"

BARS = (
    Bar("writes", "insert 100,000 rows over 1,000 parents", OURS, 1.10, BULK),
    Bar("writes", "move 100,000 rows to other parents", OURS, 1.10, BULK),
    Bar("writes", "insert 100,000 rows over 10,000 parents", OURS, 1.30, SPREAD),
    Bar("writes", "move 100,000 rows over 10,000 parents", OURS, 1.30, SPREAD),
    Bar("writes", "update the summed column of 100,000 rows", OURS, 1.20, BULK),
    Bar("writes", "insert 20,000 rows under one parent", OURS, 1.20, HOT),
    *(
        Bar("writes", row, ROW_TRIGGER, 50, HOT, OURS, is_at_most=False)
        for row in (
            "insert 20,000 rows under one parent",
            "move 20,000 rows of one parent to another",
            "delete 20,000 rows of one parent",
        )
    ),
    Bar("writes", "single insert, loop in the server", OURS, 1.30, SINGLE, ROW_TRIGGER),
    Bar("writes", "single insert, loop in the server", "pg_ivm", 5, SINGLE, OURS, is_at_most=False, is_optional=True),
    Bar("writes", "single update of another column, loop in the server", OURS, 2.00, SINGLE),
    Bar(
        "writes",
        "single update of another column, from a client",
        OURS,
        1.15,
        "a single row, from a client",
        margin=SHAKY,
    ),
    Bar(
        "writes",
        "20,000 single inserts in one transaction, ratio to 10,000",
        OURS,
        2.00,
        "linear while deferred foreign keys are pending",
        margin=SHAKY,
    ),
    Bar(
        "writes",
        "10,000 new books: bulk_create(), for signals save()",
        "signals",
        20,
        "10,000 rows with rules, against save() with signals",
        OURS,
        is_at_most=False,
    ),
    *(
        Bar("writes", f"{work}: four rules, ratio to one", OURS, 1.30, "four rules on one relation against one")
        for work in ("insert 100,000 rows over 1,000 parents", "single insert, loop in the server")
    ),
    Bar("writes", "insert 100,000 parents without children", OURS, 1.30, "100,000 targets that can have no children"),
    Bar("writes", "insert 100,000 children with a copied column", OURS, 2.00, "100,000 children with a copied column"),
    Bar("clients", "hot parent: QUEUED", "8", 0.85, CLIENTS, is_at_most=False, margin=SHAKY),
    Bar("clients", "hot parent: DEFERRED", "8", 0.70, CLIENTS, is_at_most=False, margin=SHAKY),
    Bar("clients_instant", "hot parent: QUEUED", "8", 0.70, CLIENTS, is_at_most=False, margin=SHAKY),
    *(
        Bar("groups", row, "1,000,000", 1.30, FLAT, margin=SHAKY)
        for row in (
            "delta: a counted row comes and goes",
            "delta: a summed column changes",
            "extremum: comes and leaves again",
        )
    ),
    Bar("fill", "four rules, 100,000 targets of 1,000,000 rows", "in batches", 2.00, "backfill", margin=SHAKY),
    Bar("verify", "one rule", "verify", 1.50, "verify of 1,000,000 rows", margin=SHAKY),
    Bar("verify", "four rules of one model", "verify", 1.50, "verify of 1,000,000 rows", margin=SHAKY),
    *(
        Bar("levels", str(size), f"{OURS}, {kind}", 1.30, FEW, f"{ROW_TRIGGER}, {kind}")
        for size in (2, 3, 4)
        for kind in ("one parent", "many parents")
    ),
    Bar("commits", "single insert", "DEFERRED", 2.00, "a DEFERRED commit of one row", OURS),
    Bar("forum", "the first post of a fresh connection", OURS, 3.00, FORUM, ROW_TRIGGER, margin=SHAKY),
    Bar("forum", "a post, loop in the server", OURS, 2.00, FORUM, ROW_TRIGGER),
    Bar("forum", "a post, from a client, asynchronous commits", OURS, 1.50, FORUM, ROW_TRIGGER, margin=SHAKY),
    Bar("forum", "an edit of a post's body, loop in the server", OURS, 3.00, FORUM),
)


@dataclass(frozen=True)
class Verdict:
    """How a bar is kept; without a ratio ``reason`` says why there is none."""

    bar: Bar
    holds: bool
    ratio: Ratio | None = None
    reason: str = ""

    def __str__(self) -> str:
        bar = self.bar
        sign = "≤" if bar.is_at_most else "≥"
        against = f" against {bar.against}" if bar.against else ""
        seen = f"{self.ratio}" if self.ratio else self.reason
        limit = f"{sign} {short(bar.limit)}, with the margin {sign} {short(bar.allowed)}"
        return f"{bar.table}: {bar.row}, {bar.column}{against}: {seen}; {limit} ({bar.source})"


def tables() -> list[str]:
    """Return the names of the tables that bars are about."""
    return list(dict.fromkeys(bar.table for bar in BARS))


def check(results: Sequence[Result], bars: Sequence[Bar]) -> list[Verdict]:
    """Hold bars against results: what is not there, or was measured in short, does not hold."""
    by_name = {result.name: result for result in results}
    return [judged(bar, by_name.get(bar.table)) for bar in bars]


def judged(bar: Bar, result: Result | None) -> Verdict:
    """Hold one bar against its table."""
    if result is None:
        return Verdict(bar, holds=False, reason="the table was not measured")
    if result.is_short:
        return Verdict(bar, holds=False, reason="measured in short: the bar is about the full size")
    found = [result.cell(bar.row, column) for column in (bar.column, bar.against) if column]
    if any(cell is None for cell in found):
        return Verdict(bar, holds=False, reason="the results do not hold this row and column")
    cells = [cell for cell in found if cell]
    ratio = Ratio.of(cells[0].seconds, cells[1].seconds) if bar.against and all(c.seconds for c in cells) else None
    if not bar.against:
        ratio = cells[0].ratio
    if ratio is None:
        words = next((cell.words for cell in cells if cell.words), "")
        return Verdict(bar, holds=bar.is_optional, reason=words or "no ratio was measured")
    return Verdict(bar, bar.holds(ratio), ratio)
