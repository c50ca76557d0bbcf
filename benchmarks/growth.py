"""Measure one change while its group grows from 100 to 1,000,000 rows: ``make bench-growth``.

Every strategy keeps a column of one publisher with N works. The table shows the time of one single-row statement, in a
loop inside the server, as a ratio to the same statement on the smallest group: 1.0 all along is flat.
"""

from __future__ import annotations

import os
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psycopg
from rich.console import Console
from rich.table import Table

from benchmarks.__main__ import timed
from dev.postgres import Server, running_server

DATABASE = "trigger_kit_growth"
SIZES = (100, 1_000, 10_000, 100_000, 1_000_000)
ROUNDS = int(os.environ.get("TRIGGER_KIT_ROUNDS", "5"))
LOOPS = 200

PUBLISHER = "00000000-0000-0000-0000-000000000001"
COLUMNS = "id, publisher_id, title, pages, published, data, least, day, the_count, the_total, the_flag, the_label"
ROWS = f"""
INSERT INTO archive_work ({COLUMNS})
SELECT n, 1, 't' || n, n %% 500, true, '{{}}', 0, date '2000-01-01' + (n %% 5000)::integer,
       0, 0, false, ''
FROM generate_series((SELECT coalesce(max(id), 0) + 1 FROM archive_work), %s) AS n
"""
# Each step undoes what the one before it did, so that the group keeps its size and its extremum.
INSERT = f"""
INSERT INTO archive_work ({COLUMNS})
VALUES (-1, 1, '', 7, true, '{{}}', 0, date '2100-01-01', 0, 0, false, '')
"""
DELETE = "DELETE FROM archive_work WHERE id = -1"


@dataclass(frozen=True)
class Case:
    """A strategy, the rule that it keeps, and what one step of the loop does."""

    title: str
    rule: Callable[[], Any]
    step: str


def cases() -> list[Case]:
    """Return the cases; Django must be set up to build their expressions."""
    from django.db.models import Count, Max, Sum, Value

    from tests.archive.aggregates import StringAgg
    from trigger_kit import Denormalize, First

    both = f"{INSERT}; {DELETE}"
    joined = StringAgg("works__title", ",", order_by="works__title", default=Value(""))
    return [
        Case("delta: count, row comes and goes", lambda: Denormalize("the_count", Count("works")), both),
        Case("delta: sum, row changes", lambda: Denormalize("the_total", Sum("works__pages", default=0)),
             "UPDATE archive_work SET pages = pages + 1 WHERE id = 7"),
        Case("extremum: comes and leaves again", lambda: Denormalize("kept_day", Max("works__day")), both),
        Case("recompute: First, comes and leaves again",
             lambda: Denormalize("kept_text", First("works__title", order_by="-works__day")), both),
        Case("recompute: StringAgg, row changes (for comparison)",
             lambda: Denormalize("the_label", joined),
             "UPDATE archive_work SET title = 't' || clock_timestamp() WHERE id = 7"),
    ]  # fmt: skip


def prepare(server: Server) -> None:
    """Make the tables, and the indexes that ``trigger_kit plan`` asks for."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    import django
    from django.core.management import call_command
    from django.db import connection

    django.setup()
    connection.settings_dict.update(server.django_settings)
    call_command("migrate", run_syncdb=True, verbosity=0)
    with connection.cursor() as cursor:
        cursor.execute("CREATE INDEX ON archive_work (publisher_id, day)")
        cursor.execute("CREATE INDEX ON archive_work (publisher_id, day DESC, id)")


def install(case: Case) -> None:
    """Replace all triggers of ours by those of one case."""
    from django.db import connection, transaction

    from tests.archive.keeping import keep
    from tests.archive.models import Publisher

    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT tgname, tgrelid::regclass::text FROM pg_trigger WHERE tgname ~ '^~?tk_.*archive'")
        for name, table in cursor.fetchall():
            cursor.execute(f'DROP TRIGGER "{name}" ON {table}')
        keep([(Publisher, [case.rule()])])


def grow(link: psycopg.Connection, size: int) -> None:
    """Let the publisher have this many works."""
    link.execute("SET session_replication_role = replica")
    if size == SIZES[0]:
        link.execute("TRUNCATE archive_publisher CASCADE")
        link.execute(
            "INSERT INTO archive_publisher (id, name, number, the_count, the_total, the_flag, the_label) "
            f"VALUES ('{PUBLISHER}', '', 1, 0, 0, false, '')".encode()
        )
    link.execute((ROWS % size).encode())
    link.execute("SET session_replication_role = origin")
    link.execute("VACUUM ANALYZE archive_work")


def main() -> int:
    """Measure all cases on all sizes and print the table."""
    console = Console(width=110, highlight=False)
    with running_server() as started:
        server = started.database(DATABASE)
        server.create()
        prepare(server)
        spent: dict[str, list[float]] = {case.title: [] for case in cases()}
        with psycopg.connect(server.url, autocommit=True) as link, console.status("measuring …") as status:
            for size in SIZES:
                grow(link, size)
                for case in cases():
                    status.update(f"{case.title}, {size:,} rows …")
                    install(case)
                    loops = max(2, LOOPS // (size // 2_000 + 1)) if "comparison" in case.title else LOOPS
                    work = f"DO $$ BEGIN FOR n IN 1..{loops} LOOP {case.step}; END LOOP; END $$".encode()
                    spent[case.title].append(
                        statistics.median(timed(lambda work=work: link.execute(work)) for _ in range(ROUNDS)) / loops
                    )
        table = Table(
            title=f"One change, by the size of its group (median of {ROUNDS} rounds, ratio to {SIZES[0]} rows)"
        )
        table.add_column("strategy")
        for size in SIZES:
            table.add_column(f"{size:,}", justify="right")
        for title, seconds in spent.items():
            table.add_row(title, f"{seconds[0] * 1e6:,.0f} µs", *(f"{value / seconds[0]:.2f}" for value in seconds[1:]))
        console.print(table)
        from django.db import connection

        connection.close()
        server.drop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
