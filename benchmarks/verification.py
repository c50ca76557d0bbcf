"""Measure verify against the plain annotate query on 1,000,000 source rows: ``make bench-verify``.

Each case takes turns with the queries that Django's own ``annotate()`` runs for its rules, one per rule, their rows
fetched; the table shows the median of the ratios. ``--rows`` makes it smaller. Ranges that somebody asks for may cost
more: each of them may read all source rows again, which those that verify chooses by itself may not.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.__main__ import timed
from dev.postgres import Server, running_server

DATABASE = "trigger_kit_verification"
ROUNDS = int(os.environ.get("TRIGGER_KIT_ROUNDS", "5"))

# Triggers would keep all of this too; what is measured is not how it came to be right.
FILL = """
SET session_replication_role = replica;
INSERT INTO library_author (id, name, num_books, num_published, pages_total)
SELECT n, '', 0, 0, 0 FROM generate_series(1, {targets}) AS n;
INSERT INTO library_book (author_id, title, published, pages, price, note)
SELECT 1 + n * 7919 % {targets}, 'title ' || n, n % 3 = 0, n % 400, n % 50, ''
FROM generate_series(1, {sources}::bigint) AS n;
UPDATE library_author SET num_books = fed.num_books, num_published = fed.num_published, pages_total = fed.pages_total,
       revenue = fed.revenue
FROM (
    SELECT author_id, count(*) AS num_books, count(*) FILTER (WHERE published) AS num_published,
           sum(pages) AS pages_total, sum(price) FILTER (WHERE published) AS revenue
    FROM library_book GROUP BY author_id
) AS fed WHERE fed.author_id = library_author.id;
SET session_replication_role = origin;
VACUUM ANALYZE library_author;
VACUUM ANALYZE library_book;
"""


@dataclass(frozen=True)
class Case:
    """What is verified, beside the plain queries of the same rules: all rows, unless ``of_rows`` are drawn."""

    title: str
    uris: tuple[str, ...]
    options: dict[str, Any]


COUNT = ("library.Author:num_books",)
CASES = [
    Case("one rule", COUNT, {}),
    Case("four rules of one model", ("library.Author",), {}),
    Case("one rule, ranges of 20,000 targets", COUNT, {"batch_size": 20_000}),
    Case("one rule, a sample of 1,000 targets", COUNT, {"sample": 1_000}),
]


def prepare(server: Server, sources: int, targets: int) -> None:
    """Create the tables of the test app, and fill them."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    import django
    from django.core.management import call_command
    from django.db import connection

    django.setup()
    connection.settings_dict.update(server.django_settings)
    call_command("migrate", run_syncdb=True, verbosity=0)
    with connection.cursor() as cursor:
        for statement in FILL.format(sources=sources, targets=targets).split(";\n"):
            cursor.execute(statement)


def plain(uris: tuple[str, ...]) -> Callable[[], None]:
    """Return what runs Django's own query of each rule and fetches its rows."""
    from django.db import connection

    from tests.library.models import Author
    from trigger_kit.registry import rules_of
    from trigger_kit.relations import rule_uri

    rules = [rule for rule in rules_of(Author) if {rule_uri(Author, rule.field), "library.Author"} & set(uris)]

    def run() -> None:
        for rule in rules:
            rows = Author._base_manager.annotate(true=rule.build()).values_list("pk", rule.field, "true")
            with connection.cursor() as cursor:
                cursor.execute(*rows.query.sql_with_params())
                cursor.fetchall()

    return run


def checked(case: Case) -> Callable[[], None]:
    """Return what verifies the rules of a case, which must be in sync."""
    from trigger_kit import verify

    def run() -> None:
        found = verify(case.uris, **case.options)
        assert found.in_sync, found.drifts[:5]

    return run


def main() -> int:
    """Measure all cases and print the table."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.verification", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--rows", type=int, default=1_000_000, help="source rows (1,000,000)")
    parser.add_argument("--targets", type=int, default=100_000, help="targets (100,000)")
    options = parser.parse_args()
    console = Console(width=110, highlight=False)
    with running_server() as started:
        server = started.database(DATABASE)
        server.create()
        with console.status("filling …"):
            prepare(server, options.rows, options.targets)
        table = Table(
            title=f"verify over {options.rows:,} source rows and {options.targets:,} targets, ratio to the plain "
            f"annotate queries (median of {ROUNDS} rounds)"
        )
        for name in ("case", "plain", "verify", "ratio"):
            table.add_column(name, justify="left" if name == "case" else "right")
        for case in CASES:
            base, ours = plain(case.uris), checked(case)
            with console.status(f"{case.title} …"):
                spent = [(timed(base), timed(ours)) for _ in range(ROUNDS + 1)][1:]
            ratio = statistics.median(two / one for one, two in spent)
            one, two = (statistics.median(column) for column in zip(*spent, strict=True))
            table.add_row(case.title, f"{one * 1e3:,.0f} ms", f"{two * 1e3:,.0f} ms", f"{ratio:.2f}")
        console.print(table)
        from django.db import connection

        connection.close()
        server.drop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
