"""The main job on real data: 336,776 flights, written in every way, and the counters right after each step.

Run it with `make demo`. It starts an embedded PostgreSQL, migrates, writes as users do, and after each step compares
every stored value with the one that Django computes afresh; beside it, what counters kept by Python signals hold.
`make demo KEEP=1` keeps the database in .demo/, and `make psql` opens psql on it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
KEPT = ROOT / ".demo" / "postgres"
DATABASE = "trigger_kit_demo"
sys.path[:0] = [str(HERE), str(ROOT)]

from dev.postgres import NoServerError, Server, running_server  # noqa: E402

console = Console(width=118, highlight=False)


class Demo:
    """Runs the steps and keeps their results."""

    def __init__(self, server: Server, keep: bool) -> None:
        self.server = server
        self.keep = keep
        self.failures = 0
        self.table = Table(title="After each step: stored values against values computed afresh")
        for name, justify in (("step", "left"), ("writer", "left"), ("rows", "right"), ("seconds", "right")):
            self.table.add_column(name, justify=justify)
        self.table.add_column("rules", justify="right")
        self.table.add_column("wrong counters:\ntrigger_kit", justify="right")
        self.table.add_column("\nPython signals", justify="right")

    def step(self, title: str, writer: str, action: Callable[[], int]) -> None:
        """Run one step, time it, and check every rule."""
        with console.status(f"{title} …"):
            started = time.perf_counter()
            rows = action()
            seconds = time.perf_counter() - started
        with console.status(f"{title}: comparing …"):
            self.check(title, writer, rows, seconds)

    def check(self, title: str, writer: str, rows: int, seconds: float) -> None:
        """Compare every stored value with its expression, and the signals' counters with the truth."""
        from trigger_kit import verify

        found = verify()
        wrong = wrong_signal_counters()
        self.failures += len(found.drifts)
        self.table.add_row(
            title,
            writer,
            f"{rows:,}",
            f"{seconds:.2f}",
            str(len(found.rows)),
            "[green]0[/]" if found.in_sync else f"[red]{len(found.drifts)}[/]",
            f"[red]{wrong:,}[/]" if wrong else "[green]0[/]",
        )
        for drift in found.drifts[:5]:
            console.print(f"[red]{drift.uri} of {drift.key}: stored {drift.stored}, true {drift.true}[/]")
        verdict = "[green]no drift[/]" if found.in_sync else f"[red]{len(found.drifts)} values have drifted[/]"
        console.print(f"  {title:<28} {writer:<18} {rows:>9,} rows  {seconds:>6.2f} s   {verdict}")


def wrong_signal_counters() -> int:
    """Return how many counters of airlines and planes the Python signals got wrong."""
    from django.db.models import Count, F, Q
    from flights.models import Airline, Plane

    count, cancelled = Count("flights"), Count("flights", filter=Q(flights__cancelled=True))
    return (
        Airline.objects.annotate(n=count).exclude(n=F("signal_num_flights")).count()
        + Airline.objects.annotate(n=cancelled).exclude(n=F("signal_num_cancelled")).count()
        + Plane.objects.annotate(n=count).exclude(n=F("signal_num_flights")).count()
    )


def run_steps(demo: Demo) -> None:
    """Write as users do, one way after the other."""
    from django.core.management import call_command
    from django.db import connection
    from django.utils.timezone import now
    from flights import data
    from flights.models import Airline, Airport, Flight, Plane

    def execute(sql: str) -> int:
        with connection.cursor() as cursor:
            cursor.execute(sql)
            return int(cursor.rowcount)

    def targets() -> int:
        created = (
            Airline.objects.bulk_create(data.airlines()),
            Airport.objects.bulk_create(data.airports()),
            Plane.objects.bulk_create(data.planes()),
        )
        return sum(map(len, created))

    def weather() -> int:
        rows = list(data.weather())
        with (
            connection.cursor() as cursor,
            cursor.copy(f"COPY flights_weather ({data.WEATHER_COLUMNS}) FROM STDIN") as copy,
        ):
            for row in rows:
                copy.write_row(row)
        return len(rows)

    def flights() -> int:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "flights.csv"
            count = data.write_flights(path)
            psql(demo.server, f"\\copy flights_flight ({data.FLIGHT_COLUMNS}) FROM '{path}' WITH (FORMAT csv)")
        return count

    def saved() -> int:
        for number in range(100):
            Flight.objects.create(
                airline_id="UA", plane_id="N14228", origin_id="EWR", number=number, scheduled_at=now(), distance=100
            )
        return 100

    def bulk_created() -> int:
        flights = [
            Flight(airline_id="B6", origin_id="JFK", destination_id="BOS", number=n, scheduled_at=now(), distance=187)
            for n in range(5000)
        ]
        return len(Flight.objects.bulk_create(flights))

    def reassigned() -> int:
        return Flight.objects.filter(airline_id="9E", scheduled_at__month=1).update(airline_id="MQ")

    def moved() -> int:
        flight = Flight.objects.filter(airline_id="UA", plane__isnull=False).order_by("pk")[0]
        flight.airline_id, flight.plane_id, flight.cancelled = "DL", "N10156", True
        flight.save()
        return 1

    def migrated() -> int:
        call_command("migrate", "flights", verbosity=0)
        return Flight.objects.filter(dep_delay__gt=600).count() + 32

    def stale() -> int:
        airlines = list(Airline.objects.all())
        Flight.objects.filter(airline_id="UA", pk__lte=5000).delete()
        for airline in airlines:
            airline.name = airline.name.strip()
            airline.save()
        return len(airlines)

    def other_program() -> int:
        command = [sys.executable, str(HERE / "other_program.py"), demo.server.url]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    def truncated() -> int:
        count = Flight.objects.count()
        execute("TRUNCATE flights_flight")
        return count

    demo.step("airlines, airports, planes", "bulk_create()", targets)
    demo.step("weather", "COPY, psycopg", weather)
    demo.step("all flights of 2013", "COPY, psql", flights)
    print_airlines()
    demo.step("100 flights, one by one", "save()", saved)
    demo.step("5,000 flights at once", "bulk_create()", bulk_created)
    demo.step("another airline, January", "QuerySet.update()", reassigned)
    demo.step("another airline and plane", "save()", moved)
    demo.step("July in kilometres", "raw SQL", lambda: execute(KILOMETRES))
    demo.step("one airline merges", "data migration", migrated)
    demo.step("snow: flights cancelled", "raw SQL, filter", lambda: execute(SNOW))
    demo.step("insert, update, delete", "raw SQL, MERGE", lambda: execute(MERGE))
    demo.step("four clients at once", "another program", other_program)
    demo.step("stale rows saved back", "delete(), save()", stale)
    demo.step("December is deleted", "raw SQL", lambda: execute(DECEMBER))
    if not demo.keep:
        demo.step("everything goes", "TRUNCATE", truncated)


KILOMETRES = """
UPDATE flights_flight SET distance = round(distance * 1.609) WHERE extract(month FROM scheduled_at) = 7
"""
SNOW = """
UPDATE flights_flight SET cancelled = NOT cancelled WHERE scheduled_at::date IN ('2013-02-08', '2013-02-09')
"""
DECEMBER = """
DELETE FROM flights_flight WHERE scheduled_at >= '2013-12-01' AND scheduled_at < '2014-01-01'
"""
MERGE = """
MERGE INTO flights_flight AS flight
USING (SELECT id, id % 3 AS what FROM flights_flight WHERE airline_id = 'AA' AND id % 10 = 0
       UNION ALL SELECT -number, 3 FROM generate_series(1, 1000) AS number) AS wanted
ON flight.id = wanted.id
WHEN MATCHED AND wanted.what = 0 THEN DELETE
WHEN MATCHED THEN UPDATE SET airline_id = 'US', distance = flight.distance + 5, destination_id = 'LAX'
WHEN NOT MATCHED THEN INSERT (airline_id, origin_id, number, scheduled_at, distance, cancelled)
                      VALUES ('AA', 'LGA', 1, '2013-06-01', 733, false)
"""


def print_airlines() -> None:
    """Show stored values beside those that Django computes now."""
    from django.db.models import Count, Q, Sum
    from flights.models import Airline

    table = Table(title="What one COPY has left behind: stored / computed afresh", title_justify="left")
    for name in ("airline", "num_flights", "num_cancelled", "miles_total", "signals' num_flights"):
        table.add_column(name, justify="left" if name == "airline" else "right")
    rows = Airline.objects.annotate(
        flights_now=Count("flights"),
        cancelled_now=Count("flights", filter=Q(flights__cancelled=True)),
        miles_now=Sum("flights__distance", default=0),
    )
    for row in rows.order_by("-num_flights")[:5]:
        table.add_row(
            row.name,
            f"{row.num_flights:,} / {row.flights_now:,}",
            f"{row.num_cancelled:,} / {row.cancelled_now:,}",
            f"{row.miles_total:,} / {row.miles_now:,}",
            f"[red]{row.signal_num_flights:,}[/]",
        )
    console.print()
    console.print(table)
    console.print()


def psql(server: Server, command: str) -> None:
    """Run one command in a real psql."""
    subprocess.run([server.psql, server.url, "-qX", "-v", "ON_ERROR_STOP=1", "-c", command], check=True)


def main() -> int:
    """Run the demo; return 1 when anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", action="store_true", help="keep the database in .demo/")
    parser.add_argument("--psql", action="store_true", help="open psql on the database that --keep has kept")
    options = parser.parse_args()
    if options.psql:
        return open_psql()
    with running_server(KEPT if options.keep else None) as server:
        database = server.database(DATABASE)
        database.create()
        os.environ["TRIGGER_KIT_DATABASE_URL"] = database.url
        return run(database, options.keep)


def run(server: Server, keep: bool) -> int:
    """Migrate, run the steps and print the result."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
    import django
    from django.core.management import call_command
    from django.db import connection

    django.setup()
    with connection.cursor() as cursor:
        cursor.execute("SHOW server_version")
        console.print(f"[bold]PostgreSQL {cursor.fetchone()[0]}[/] ({server.origin}), Django {django.__version__}")
    call_command("makemigrations", "--check", "--dry-run", verbosity=1)
    started = time.perf_counter()
    call_command("migrate", "flights", "0002", verbosity=0)
    console.print(f"makemigrations --check: clean. migrate: {time.perf_counter() - started:.2f} s\n")
    connect_signals()
    demo = Demo(server, keep)
    run_steps(demo)
    console.print()
    console.print(demo.table)
    print_result(demo)
    connection.close()
    return 1 if demo.failures else 0


def connect_signals() -> None:
    """Let Python signals count beside the rules."""
    from flights import signals

    signals.connect()


def print_result(demo: Demo) -> None:
    """Say what the table shows, and what to do next."""
    if demo.failures:
        console.print(f"\n[red bold]{demo.failures} stored values were wrong: this is a bug in trigger_kit.[/]")
        return
    console.print(
        "\n[green bold]No drift:[/] every stored value was right after every step. Nothing is left running."
        if not demo.keep
        else "\n[green bold]No drift.[/] The database is kept in .demo/: `make psql` opens psql on it."
    )
    if not demo.keep:
        console.print("`make demo KEEP=1` keeps the database, `make psql` then opens psql on it; try \\sf tk_<TAB>.")


def open_psql() -> int:
    """Start the kept server, hand the terminal to psql, and stop the server again."""
    if not KEPT.exists():
        console.print("There is no kept database. Run `make demo KEEP=1` first.")
        return 1
    with running_server(KEPT) as server:
        return subprocess.run([server.psql, server.database(DATABASE).url]).returncode


if __name__ == "__main__":
    try:
        sys.exit(main())
    except NoServerError as error:
        sys.exit(str(error))
