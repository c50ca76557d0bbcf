"""Measure what rules cost where many write under one parent: ``python -m benchmarks.contention``.

8 processes insert books, all under one hot author or under 100 cold ones at random, in transactions that are held for
2 ms inside the server or commit at once. Every variant has a database of its own on one server, they take turns, and
the table shows medians of the ratios of their throughput to the one without triggers.

Whoever has locked the hot author at its commit holds it until the disk has the commit, and nobody else can commit
along: DEFERRED is bound by the disk, too. The row with asynchronous commits shows it without a disk. Where commits are
instant, what does not wait for the disk or the author is bound by the CPU, which the clients share.

After each turn every stored value (with what is pending) is compared with Django's own annotate(), and once more when
the queue is flushed. The exit code is 1 on any drift.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from threading import Event
from typing import Any

import psycopg
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.soak import DATABASE, copied, django_at, make_template
from dev.postgres import Server, running_server

ROUNDS = int(os.environ.get("TRIGGER_KIT_ROUNDS", "5"))
CLIENTS = 8
SECONDS = 0.6  # of one turn
HEAD_START = 0.2  # seconds in which clients connect
COLD = 100
PAUSE = 0.05  # seconds between two flushes

BASE, BY_HAND = "no trigger", "row trigger"
TIMINGS = ("IMMEDIATE", "DEFERRED", "QUEUED")
VARIANTS = (BASE, *TIMINGS, BY_HAND)

ROW_TRIGGER = """
CREATE FUNCTION by_hand() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        UPDATE library_author SET num_books = num_books - 1, pages_total = pages_total - coalesce(OLD.pages, 0)
        WHERE id = OLD.author_id;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        UPDATE library_author SET num_books = num_books + 1, pages_total = pages_total + coalesce(NEW.pages, 0)
        WHERE id = NEW.author_id;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER by_hand_insert AFTER INSERT OR DELETE ON library_book FOR EACH ROW EXECUTE FUNCTION by_hand();
CREATE TRIGGER by_hand_update AFTER UPDATE ON library_book FOR EACH ROW
    WHEN ((OLD.author_id, OLD.pages) IS DISTINCT FROM (NEW.author_id, NEW.pages)) EXECUTE FUNCTION by_hand();
CREATE FUNCTION by_hand_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF pg_trigger_depth() < 2 THEN
        NEW.num_books := OLD.num_books; NEW.pages_total := OLD.pages_total;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER by_hand_guard BEFORE UPDATE ON library_author FOR EACH ROW EXECUTE FUNCTION by_hand_guard();
"""

INSERT = "INSERT INTO library_book (author_id, title, published, pages, note) VALUES ({parent}, '', true, {pages}, '')"
HELD = f"{INSERT}; SELECT pg_sleep(0.002); COMMIT"
AUTHORS = f"""
INSERT INTO library_author (id, name, num_books, num_published, pages_total)
SELECT n, '', 0, 0, 0 FROM generate_series(1, {COLD}) AS n
"""
FLUSH = "SELECT tk_flush_library_author(batch => 1000, skip_locked => true)"


@dataclass(frozen=True)
class Case:
    """What all clients do: under how many parents they insert, and what they send for one book."""

    title: str
    parents: int
    transaction: str


CASES = (
    Case("hot, held 2 ms", 1, f"BEGIN; {HELD}"),
    Case("the same, asynchronous commits", 1, f"BEGIN; SET LOCAL synchronous_commit = off; {HELD}"),
    Case("hot, instant", 1, INSERT),
    Case("cold, instant", COLD, INSERT),
)


@dataclass
class Findings:
    """Transactions per second by case and variant, round by round; what was pending in the end; what drifts."""

    rates: dict[tuple[Case, str], list[float]] = field(default_factory=dict)
    pending: dict[Case, list[int]] = field(default_factory=dict)
    drifts: list[str] = field(default_factory=list)


# The clients' side ---------------------------------------------------------------------------------------------------


def insert(url: str, case: Case, seed: str, start: float) -> float:
    """Insert books from the start on until the time is up; return how many came through per second."""
    dice, done = random.Random(seed), 0
    with psycopg.connect(url, autocommit=True) as link:
        time.sleep(max(0.0, start - time.monotonic()))
        began, end = time.monotonic(), start + SECONDS
        while True:
            transaction = case.transaction.format(parent=dice.randint(1, case.parents), pages=dice.randint(1, 400))
            link.execute(transaction.encode())
            if time.monotonic() > end:
                return done / (end - began)
            done += 1


# The databases -------------------------------------------------------------------------------------------------------


def rules(timing: str) -> list[Any]:
    """Return the two rules of this benchmark; Django must be set up."""
    from django.db.models import Count, Sum

    from trigger_kit import Denormalize, Timing

    return [
        Denormalize("num_books", Count("books"), timing=Timing[timing]),
        Denormalize("pages_total", Sum("books__pages", default=0), timing=Timing[timing]),
    ]


def remove_triggers(server: Server) -> None:
    """Take the rules away that the library's models declare."""
    with psycopg.connect(server.url, autocommit=True) as link:
        rows = link.execute(
            "SELECT tgname, tgrelid::regclass::text FROM pg_trigger WHERE NOT tgisinternal AND tgname ~ '^~?tk_' "
            "AND tgrelid IN ('library_author'::regclass, 'library_book'::regclass)"
        ).fetchall()
        for name, table in rows:
            link.execute(f'DROP TRIGGER "{name}" ON {table}'.encode())


def install(variant: str, server: Server) -> None:
    """Install what a variant's database has beside its tables."""
    from django.db import transaction

    from tests.archive.keeping import keep
    from tests.library.models import Author

    if variant in TIMINGS:
        with django_at(server), transaction.atomic():
            keep([(Author, rules(variant))])
    if variant == BY_HAND:
        with psycopg.connect(server.url, autocommit=True) as link:
            link.execute(ROW_TRIGGER.encode())


def reset(server: Server) -> None:
    """Begin a turn with authors that have no books."""
    with psycopg.connect(server.url, autocommit=True) as link:
        link.execute("TRUNCATE library_author, library_book RESTART IDENTITY CASCADE")
        link.execute(AUTHORS.encode())
        waiting = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relname ~ '^tk_(pending|deferred|commit)'"
        tables = [table for (table,) in link.execute(waiting)]  # as autovacuum would, sooner or later
        link.execute(f"VACUUM ANALYZE {', '.join(['library_author', 'library_book', *tables])}".encode())


def drifts(server: Server, timing: str) -> list[str]:
    """Return where a rule does not hold; with the timing IMMEDIATE, what is pending does not count."""
    from django.db import connection

    from tests.library.models import Author
    from trigger_kit.maintenance.verification import find_drift
    from trigger_kit.relations import rule_uri

    with django_at(server):
        return [
            f"{drift.uri} of {drift.key!r}: stored {drift.stored!r}, true {drift.true!r}"
            for rule in rules(timing)
            for drift in find_drift(connection, rule_uri(Author, rule.field), Author, rule)
        ]


# One turn ------------------------------------------------------------------------------------------------------------


@contextmanager
def flushing(server: Server) -> Iterator[None]:
    """Fold the queue over and over beside the clients."""
    stopped = Event()

    def fold() -> None:
        with psycopg.connect(server.url, autocommit=True) as link:
            while not stopped.wait(PAUSE):
                link.execute(FLUSH.encode())

    with ThreadPoolExecutor(1) as pool:
        work = pool.submit(fold)
        try:
            yield
        finally:
            stopped.set()
        work.result()


def turn(case: Case, variant: str, server: Server, clients: Executor, found: Findings) -> None:
    """Let a variant do its work once, and look whether its rules hold."""
    reset(server)
    with flushing(server) if variant == "QUEUED" else nullcontext():
        start = time.monotonic() + HEAD_START
        jobs = [clients.submit(insert, server.url, case, f"{case.title}/{n}", start) for n in range(CLIENTS)]
        rate = sum(job.result() for job in jobs)
    found.rates.setdefault((case, variant), []).append(rate)
    if variant == BASE:
        return
    title = f"{case.title}, {variant}: "
    found.drifts += [title + text for text in drifts(server, variant if variant in TIMINGS else "IMMEDIATE")]
    if variant == "QUEUED":
        found.pending.setdefault(case, []).append(flush_all(server))
        found.drifts += [title + f"after the flush, {text}" for text in drifts(server, "IMMEDIATE")]


def flush_all(server: Server) -> int:
    """Fold everything; return how much it was."""
    with psycopg.connect(server.url, autocommit=True) as link:
        row = link.execute("SELECT tk_flush_library_author()").fetchone()
        return int(row[0]) if row else 0


def measure(started: Server, clients: Executor, say: Callable[[str], object]) -> Findings:
    """Run all cases with all variants, in turns."""
    template, found = started.database(DATABASE), Findings()
    make_template(template)
    remove_triggers(template)
    with ExitStack() as stack:
        servers = {}
        for number, variant in enumerate(VARIANTS):
            servers[variant] = stack.enter_context(copied(template, f"trigger_kit_contention_{number}"))
            install(variant, servers[variant])
        list(clients.map(time.sleep, [1.0] * CLIENTS))  # all of them are there then
        for case in CASES:
            for number in range(ROUNDS):
                say(f"{case.title}, round {number + 1} of {ROUNDS} …")
                for variant in VARIANTS:
                    turn(case, variant, servers[variant], clients, found)
    if not template.is_throw_away:
        template.drop()
    return found


# The report ----------------------------------------------------------------------------------------------------------


def table_of(found: Findings) -> Table:
    """Return the table: the base in transactions per second, the others as ratios, round by round."""
    table = Table(title=f"Throughput of {CLIENTS} clients, ratio to no trigger, median of {ROUNDS} rounds (min – max)")
    table.add_column("work")
    for variant in VARIANTS:
        table.add_column(variant, justify="right")
    for case in CASES:
        base = found.rates[case, BASE]
        row = [case.title, f"{statistics.median(base):,.0f} / s"]
        for variant in VARIANTS[1:]:
            ratios = [rate / base[number] for number, rate in enumerate(found.rates[case, variant])]
            row.append(f"{statistics.median(ratios):.2f}  ({min(ratios):.2f} – {max(ratios):.2f})")
        table.add_row(*row)
    return table


def settings_of(server: Server) -> str:
    """Say what makes commits cheap or dear on this server."""
    names = ("server_version", "synchronous_commit", "fsync")
    with psycopg.connect(server.url, autocommit=True) as link:
        values = [link.execute("SELECT current_setting(%s)", [name]).fetchone() for name in names]
    return ", ".join(f"{name} = {value[0]}" for name, value in zip(names, values, strict=True) if value)


def report(console: Console, found: Findings, settings: str) -> None:
    """Print the table, the server's settings, what the flusher has left, and what drifts."""
    console.print(table_of(found))
    console.print(f"{settings}, {os.cpu_count()} CPUs shared by server and clients")
    left = ", ".join(f"{case.title} {statistics.median(rows):,.0f}" for case, rows in found.pending.items())
    console.print(f"Rows pending when the clients stop, median: {left}")
    for drift in found.drifts[:10]:
        console.print(f"[red]drift[/red]: {escape(drift)}")
    console.print(f"{len(found.drifts)} drifts")


def main() -> int:
    """Measure everything and print the table."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything is ended then, too
    console = Console(width=140, highlight=False)
    context = multiprocessing.get_context("spawn")
    with (
        running_server() as server,
        ProcessPoolExecutor(CLIENTS, mp_context=context) as clients,
        console.status("preparing …") as status,
    ):
        found = measure(server, clients, status.update)
        settings = settings_of(server)
    report(console, found, settings)
    return 1 if found.drifts else 0


if __name__ == "__main__":
    sys.exit(main())
