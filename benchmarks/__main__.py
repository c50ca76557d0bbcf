"""Measure what four rules on one relation cost: ``make bench``.

Every case runs in turn without triggers, with trigger_kit and with a hand-written row trigger that keeps the same four
columns behind the same kind of guard, on the same tables of one server; the table shows medians of the ratios to the
run without triggers. Absolute times say nothing on another machine, ratios do.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import psycopg
from rich.console import Console
from rich.table import Table

from dev.postgres import Server, running_server

ROUNDS = int(os.environ.get("TRIGGER_KIT_ROUNDS", "5"))
DATABASE = "trigger_kit_bench"
VARIANTS = ("no trigger", "trigger_kit", "row trigger")

ROW_TRIGGER = """
CREATE FUNCTION by_hand() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        UPDATE library_author SET num_books = num_books - 1, num_published = num_published - OLD.published::int,
               pages_total = pages_total - coalesce(OLD.pages, 0),
               revenue = revenue - CASE WHEN OLD.published THEN coalesce(OLD.price, 0) ELSE 0 END
        WHERE id = OLD.author_id;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        UPDATE library_author SET num_books = num_books + 1, num_published = num_published + NEW.published::int,
               pages_total = pages_total + coalesce(NEW.pages, 0),
               revenue = coalesce(revenue, 0) + CASE WHEN NEW.published THEN coalesce(NEW.price, 0) ELSE 0 END
        WHERE id = NEW.author_id;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER by_hand_insert AFTER INSERT OR DELETE ON library_book FOR EACH ROW EXECUTE FUNCTION by_hand();
CREATE TRIGGER by_hand_update AFTER UPDATE ON library_book FOR EACH ROW
    WHEN ((OLD.author_id, OLD.published, OLD.pages, OLD.price) IS DISTINCT FROM
          (NEW.author_id, NEW.published, NEW.pages, NEW.price)) EXECUTE FUNCTION by_hand();
CREATE FUNCTION by_hand_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF pg_trigger_depth() < 2 THEN
        NEW.num_books := OLD.num_books; NEW.num_published := OLD.num_published;
        NEW.pages_total := OLD.pages_total; NEW.revenue := OLD.revenue;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER by_hand_guard BEFORE UPDATE ON library_author FOR EACH ROW EXECUTE FUNCTION by_hand_guard();
"""

INSERT = "INSERT INTO library_book (author_id, title, published, pages, price, note) "
AUTHORS = "INSERT INTO library_author (id, name, num_books, num_published, pages_total) SELECT n, '', 0, 0, 0 FROM "


@dataclass(frozen=True)
class Case:
    """One measured piece of work: what is there before, and what is timed."""

    title: str
    before: str
    work: str
    slow_by_row: bool = False


def books(count: int, parents: int) -> str:
    """Return the INSERT of some books spread over some authors."""
    return (
        INSERT + f"SELECT 1 + n % {parents}, '', n % 3 = 0, n % 400, n % 50, '' FROM generate_series(1, {count}) AS n"
    )


def loop(count: int, statement: str) -> str:
    """Return a block that runs a statement again and again inside the server."""
    return f"DO $$ BEGIN FOR n IN 1..{count} LOOP {statement}; END LOOP; END $$"


ONE_BOOK = INSERT + "VALUES (1 + n % 1000, '', n % 3 = 0, n % 400, n % 50, '')"
CASES = [
    Case("insert 20,000 rows under one parent", "", books(20_000, 1), slow_by_row=True),
    Case("insert 100,000 rows over 1,000 parents", "", books(100_000, 1_000)),
    Case("insert 100,000 rows over 10,000 parents", "", books(100_000, 10_000)),
    Case(
        "update the summed column of 100,000 rows",
        books(100_000, 1_000),
        "UPDATE library_book SET pages = pages + 1",
    ),
    Case(
        "move 100,000 rows to other parents",
        books(100_000, 1_000),
        "UPDATE library_book SET author_id = 1 + author_id % 1000",
    ),
    Case("delete 20,000 rows of one parent", books(20_000, 1), "DELETE FROM library_book", slow_by_row=True),
    Case("10,000 single inserts, in-server loop", "", loop(10_000, ONE_BOOK)),
    Case(
        "10,000 unrelated single updates, in-server loop",
        books(10_000, 1_000),
        loop(10_000, "UPDATE library_book SET note = 'x' WHERE id = n"),
    ),
    Case(
        "insert 100,000 parents without children",
        "TRUNCATE library_author CASCADE",
        AUTHORS + "generate_series(1, 100000) AS n",
    ),
]


def prepare(server: Server) -> None:
    """Create the tables of the test app with their rules, and the triggers by hand beside them."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    import django
    from django.core.management import call_command
    from django.db import connection

    django.setup()
    connection.settings_dict.update(server.django_settings)
    call_command("migrate", run_syncdb=True, verbosity=0)
    connection.close()
    with psycopg.connect(server.url, autocommit=True) as link:
        link.execute(ROW_TRIGGER)


def switch(link: psycopg.Connection, variant: str) -> None:
    """Enable the triggers of one variant and disable the others'."""
    rows = link.execute(
        "SELECT tgrelid::regclass::text, tgname FROM pg_trigger WHERE NOT tgisinternal AND tgname ~ '^(~?tk_|by_hand)'"
    ).fetchall()
    for table, name in rows:
        wanted = variant == ("row trigger" if name.startswith("by_hand") else "trigger_kit")
        link.execute(f'ALTER TABLE {table} {"ENABLE" if wanted else "DISABLE"} TRIGGER "{name}"'.encode())


def reset(link: psycopg.Connection, case: Case) -> None:
    """Bring the tables to where the case starts."""
    link.execute("TRUNCATE library_author, library_book RESTART IDENTITY CASCADE")
    link.execute((AUTHORS + "generate_series(1, 10000) AS n").encode())
    if case.before:
        link.execute(case.before.encode())
    link.execute("VACUUM ANALYZE library_author, library_book")


def measure(link: psycopg.Connection, case: Case) -> dict[str, list[float]]:
    """Return the seconds of every round, per variant."""
    seconds: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    for _ in range(ROUNDS):
        for variant in VARIANTS:
            if variant == "row trigger" and case.slow_by_row and seconds[variant]:
                continue
            switch(link, variant)
            reset(link, case)
            seconds[variant].append(timed(lambda: link.execute(case.work.encode())))
    return seconds


def timed(work: Callable[[], object]) -> float:
    """Return how many seconds a call takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def growth(link: psycopg.Connection) -> float:
    """Return time(20,000) / time(10,000) of single inserts in one transaction from a client, foreign keys pending."""
    switch(link, "trigger_kit")
    ratios = []
    for _ in range(ROUNDS):
        spent = []
        for count in (10_000, 20_000):
            reset(link, CASES[0])

            def insert(count: int = count) -> None:
                with link.transaction():
                    for n in range(count):
                        link.execute((INSERT + "VALUES (%s, '', true, 3, 1, '')").encode(), [1 + n % 1000])

            spent.append(timed(insert))
        ratios.append(spent[1] / spent[0])
    return statistics.median(ratios)


def main() -> int:
    """Measure all cases and print the table."""
    console = Console(width=118, highlight=False)
    with running_server() as started:
        server = started.database(DATABASE)
        server.create()
        prepare(server)
        table = Table(title=f"Ratio to no trigger, median of {ROUNDS} interleaved rounds (min – max)")
        for name in ("work", "no trigger", "trigger_kit", "row trigger"):
            table.add_column(name, justify="left" if name == "work" else "right")
        with psycopg.connect(server.url, autocommit=True) as link, console.status("measuring …") as status:
            for case in CASES:
                status.update(f"{case.title} …")
                table.add_row(case.title, *cells(measure(link, case)))
            status.update("single inserts from a client …")
            grown = growth(link)
        console.print(table)
        console.print(f"20,000 single inserts in one transaction from a client take {grown:.2f} × as long as 10,000.")
        server.drop()
    return 0


def cells(seconds: dict[str, list[float]]) -> list[str]:
    """Return the table's cells: the base in milliseconds, the others as ratios, round by round."""
    base = seconds["no trigger"]
    found = [f"{statistics.median(base) * 1000:,.0f} ms"]
    for variant in VARIANTS[1:]:
        ratios = [value / base[number] for number, value in enumerate(seconds[variant])]
        found.append(f"{statistics.median(ratios):.2f}  ({min(ratios):.2f} – {max(ratios):.2f})")
    return found


if __name__ == "__main__":
    sys.exit(main())
