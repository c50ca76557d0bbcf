"""Let 8 processes write at random and look whether every rule still holds: ``make soak``.

Each workload of ``benchmarks/workloads.py`` runs at the same time in two equal databases, one of them without triggers:
equal seeds, equal statements, as many writers. Afterwards every stored value is compared with Django's own annotate().
The exit code is 1 on any drift, on an unexpected error, and where a workload of single statements (or, with rules that
are not IMMEDIATE, any workload) shows more deadlocks than it does without triggers. What deadlocks by the nature of its
rules is shown apart.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import re
import signal
import sys
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from threading import Event, Thread
from typing import Any

import psycopg
from psycopg import errors, sql
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.workloads import SEED, WORKLOADS, Statement, Workload, Writer
from dev.pgbouncer import pooled
from dev.postgres import Server, running_server

DATABASE = "trigger_kit_soak"
LEVELS = ("READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")
STATEMENT_TIMEOUT = 20  # seconds: a statement that takes longer is stuck
GRACE = 40  # seconds after its end in which a writer must have answered
MOST_ERRORS = 20
REFUSALS = (errors.ForeignKeyViolation, errors.UniqueViolation)
# Tables are small here and large where it matters: rows are found by indexes, and so in the order of their keys.
SETTINGS = (
    f"statement_timeout = '{STATEMENT_TIMEOUT}s'",
    "enable_seqscan = off",
    "enable_bitmapscan = off",
)
# Deadlocks are looked for early, so that one costs a moment, not a second of a short run.
EARLY = "deadlock_timeout = '50ms'"


class SilentWriterError(RuntimeError):
    """A writer has ended or hangs."""


# The writers' side ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """What a writer shall do: a workload by its number, where, with which dice, from when and for how long."""

    workload: int
    isolation: str
    url: str
    seed: int
    writer: int
    writers: int
    types: Mapping[str, int]
    start: float
    seconds: float
    may_be_cut_off: bool = False


@dataclass(frozen=True)
class Deadlock:
    """A deadlock as its victim sees it: when, in which function, who waited for whom, and the server's own words."""

    moment: float
    place: str
    pids: frozenset[int]
    text: str


@dataclass
class Tally:
    """What a writer has done; ``history`` says when it began which statement."""

    pid: int = 0
    transactions: int = 0
    rows: int = 0
    refused: int = 0
    failures: int = 0
    deadlocks: list[Deadlock] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    history: list[tuple[float, str]] = field(default_factory=list)


def serve(pipe: Connection) -> None:
    """Do one job after the other until the pipe closes; the life of a writer's process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its writers
    while True:
        try:
            job: Job = pipe.recv()
        except EOFError:
            return
        tally = Tally()
        try:
            write(job, tally)
        except Exception as error:
            tally.errors[f"the writer has ended: {error!r}"] += 1
        pipe.send(tally)


def write(job: Job, tally: Tally) -> None:
    """Send random transactions until the time is up."""
    workload = WORKLOADS[job.workload]
    writer = Writer(workload, job.seed, job.writer, job.writers, job.types)
    # Behind a pool a session has no settings and no prepared statements of its own.
    with psycopg.connect(job.url, autocommit=True, prepare_threshold=None) as link:
        tally.pid = link.info.backend_pid
        time.sleep(max(0.0, job.start - time.monotonic()))
        end = job.start + job.seconds
        # Some steps have no exact answer at the higher levels, and say so (docs/concurrency.md).
        expected = REFUSALS if job.isolation == LEVELS[0] else (*REFUSALS, errors.FeatureNotSupported)
        while time.monotonic() < end and tally.errors.total() < MOST_ERRORS:
            if job.may_be_cut_off and link.closed:
                tally.errors.clear()
                return
            transaction = writer.transaction()
            while not attempt(link, transaction, workload.is_single, tally, expected) and time.monotonic() < end:
                pass


def name_of(server: Server) -> str:
    """Return the name of a server's database."""
    return str(server.django_settings["NAME"])


def keep_settings(servers: Iterable[Server], isolation: str) -> None:
    """Set the isolation level and time limits of everybody who connects from now on."""
    for server in servers:
        with psycopg.connect(server.url, autocommit=True) as link:
            for setting in (*SETTINGS, f"default_transaction_isolation = '{isolation.lower()}'"):
                name = sql.Identifier(link.info.dbname)
                link.execute(sql.SQL("ALTER DATABASE {} SET {}").format(name, sql.SQL(setting)))
            with suppress(errors.InsufficientPrivilege):  # only superusers may; deadlocks then cost a second each
                link.execute(sql.SQL("ALTER DATABASE {} SET {}").format(name, sql.SQL(EARLY)))


def attempt(
    link: psycopg.Connection,
    transaction: Sequence[Statement],
    is_single: bool,
    tally: Tally,
    expected: tuple[type[psycopg.Error], ...],
) -> bool:
    """Run a transaction once; return whether it is done with, for good or bad."""
    try:
        if is_single:
            written = run(link, transaction[0], tally)
        else:
            with link.transaction():
                written = sum(run(link, statement, tally) for statement in transaction)
    except errors.SerializationFailure:
        tally.failures += 1
        return False
    except errors.DeadlockDetected as error:
        tally.deadlocks.append(deadlock_of(error, "; ".join(one.sql for one in transaction)))
        return False
    except expected:
        tally.refused += 1
    except psycopg.Error as error:
        message = str(error).partition("\n")[0]
        tally.errors[f"{error.sqlstate or 'no SQLSTATE'} {message} ({tally.history[-1][1]})"] += 1
    else:
        tally.transactions += 1
        tally.rows += written
    return True


def run(link: psycopg.Connection, statement: Statement, tally: Tally) -> int:
    """Run a statement, note it, and return how many rows it wrote."""
    tally.history.append((time.monotonic(), statement.title))
    return max(0, link.execute(statement.sql.encode()).rowcount)


def deadlock_of(error: errors.DeadlockDetected, sent: str) -> Deadlock:
    """Read who waited for whom out of the server's message, and in which function of ours."""
    detail, context = error.diag.message_detail or "", error.diag.context or ""
    pids = re.findall(r"Process (\d+) waits", detail)
    functions = re.findall(r"function (?:\w+\.)?\"?([^\s\"(]+)", context)
    place = (functions[0] if functions else "") + (", advisory lock" if "advisory lock" in detail else "")
    return Deadlock(time.monotonic(), place, frozenset(map(int, pids)), f"{sent[:300]}\n{detail}\n{context}")


class Crew:
    """The writers' processes: started once, given jobs, ended at the end whatever happens."""

    def __init__(self, size: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.members: list[tuple[BaseProcess, Connection]] = []
        for _ in range(size):
            ours, theirs = context.Pipe()
            process = context.Process(target=serve, args=(theirs,), daemon=True)
            process.start()
            theirs.close()
            self.members.append((process, ours))

    def do(self, jobs: Sequence[Job]) -> list[Tally]:
        """Give each writer its job and return what they have done."""
        for (_, pipe), job in zip(self.members, jobs, strict=True):
            pipe.send(job)
        limit = max(job.start + job.seconds for job in jobs) + GRACE
        return [self._answer(pipe, limit) for _, pipe in self.members]

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *error: object) -> None:
        """End all processes."""
        for process, _ in self.members:
            process.terminate()
        for process, _ in self.members:
            process.join(5)
            if process.is_alive():
                process.kill()

    @staticmethod
    def _answer(pipe: Connection, limit: float) -> Tally:
        if not pipe.poll(max(0.0, limit - time.monotonic())):
            raise SilentWriterError(f"A writer has not answered {GRACE} s after its time was up.")
        try:
            tally: Tally = pipe.recv()
        except EOFError:
            raise SilentWriterError("A writer's process has died.") from None
        return tally


# The databases -------------------------------------------------------------------------------------------------------


def make_template(server: Server) -> Mapping[str, int]:
    """Make the archive's tables with some rows in them; return the content types' keys."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    import django
    from django.core.management import call_command

    server.create()
    django.setup()
    with django_at(server):
        call_command("migrate", run_syncdb=True, verbosity=0)
    with psycopg.connect(server.url, autocommit=True) as link:
        set_defaults(link)
        link.execute(SEED.encode())
        link.execute("VACUUM ANALYZE")
        types = link.execute("SELECT model, id FROM django_content_type WHERE app_label = 'archive'").fetchall()
    return dict(types)


def set_defaults(link: psycopg.Connection) -> None:
    """Let the database fill the columns that Django would: writers name only what they mean."""
    columns = link.execute(
        "SELECT table_name, column_name, CASE data_type WHEN 'text' THEN '''''' WHEN 'boolean' THEN 'false' "
        "WHEN 'character varying' THEN '''''' WHEN 'jsonb' THEN '''{}''' WHEN 'uuid' THEN 'gen_random_uuid()' "
        "ELSE '0' END FROM information_schema.columns WHERE table_name LIKE 'archive_%' AND is_nullable = 'NO' "
        "AND column_default IS NULL AND is_identity = 'NO' AND data_type <> 'bigint'"
    ).fetchall()
    for table, column, default in columns:
        link.execute(f"ALTER TABLE {table} ALTER {column} SET DEFAULT {default}".encode())


@contextmanager
def django_at(server: Server) -> Iterator[None]:
    """Connect Django to a database."""
    from django.db import connection

    connection.settings_dict.update(server.django_settings)
    try:
        yield
    finally:
        connection.close()


@contextmanager
def copied(template: Server, name: str) -> Iterator[Server]:
    """Yield a copy of a database, and drop it, unless the whole server goes in the end: that is quicker."""
    copy = template.database(name)
    copy.drop()
    names = (sql.Identifier(name), sql.Identifier(DATABASE))
    with psycopg.connect(template.database("postgres").url, autocommit=True) as link:
        link.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(*names))
    try:
        yield copy
    finally:
        if not template.is_throw_away:
            copy.drop()


def install(workload: Workload) -> None:
    """Install a workload's rules in the database that Django is connected to."""
    from django.db import transaction

    from tests.archive.keeping import keep

    with transaction.atomic():
        keep(workload.declared())


def drifts(workload: Workload, *, at_rest: bool = False) -> list[Any]:
    """Return the rows where a rule does not hold; ``at_rest`` leaves out what is pending: nothing may be."""
    from django.db import connection

    from trigger_kit.maintenance.verify import find_drift
    from trigger_kit.resolve.rule import rule_uri

    declared = replace(workload, timing="IMMEDIATE").declared() if at_rest else workload.declared()
    return [
        drift
        for model, rules in declared
        for rule in rules
        for drift in find_drift(connection, rule_uri(model, rule.field), model, rule)
    ]


# One workload --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """What a workload has shown, with triggers and without them."""

    workload: Workload
    ours: list[Tally]
    base: list[Tally]
    drifts: list[Any]

    def total(self, name: str) -> tuple[int, int]:
        """Return the sum of a number over the writers, with triggers and without."""

        def count(value: Any) -> int:
            return value if isinstance(value, int) else len(value)

        return sum(count(getattr(one, name)) for one in self.ours), sum(count(getattr(one, name)) for one in self.base)

    def problems(self) -> list[str]:
        """Return what is wrong, each in a line."""
        found = []
        if self.drifts:
            rules = Counter(drift.uri for drift in self.drifts)
            found.append(f"drift: {', '.join(f'{count} rows of {uri}' for uri, count in sorted(rules.items()))}")
        ours, base = self.total("deadlocks")
        if self.workload.is_judged and ours > base:
            found.append(f"{ours} deadlocks, {base} without triggers")
        for tallies, where in ((self.ours, ""), (self.base, " without triggers")):
            errors_ = sum((tally.errors for tally in tallies), Counter())
            found += [f"{count} × unexpected{where}: {text}" for text, count in errors_.most_common(5)]
        if not self.total("transactions")[0]:
            found.append("no transaction came through")
        return found

    def cycles(self) -> Counter[str]:
        """Return which statements met in deadlocks, how often."""
        return Counter(cycle_of(deadlock, self.ours) for tally in self.ours for deadlock in tally.deadlocks)


def cycle_of(deadlock: Deadlock, tallies: Iterable[Tally]) -> str:
    """Say which statements the processes of a deadlock were at, and where its victim was."""
    titles = []
    for tally in tallies:
        number = bisect_right(tally.history, (deadlock.moment - 0.002, "~"))
        if tally.pid in deadlock.pids and number:
            titles.append(tally.history[number - 1][1])
    place = f", found in {deadlock.place}" if deadlock.place else ""
    return " ↔ ".join(sorted(titles)) + place


def soak(number: int, workload: Workload, template: Server, crew: Crew, job: Job) -> Outcome:
    """Run a workload in two copies of the database at once, and compare what is stored with what is true."""
    name = f"{DATABASE}_{number}"
    with copied(template, f"{name}_kept") as kept, copied(template, f"{name}_bare") as bare:
        with django_at(kept):
            install(workload)
        job = replace(job, workload=number, isolation=workload.isolation, start=time.monotonic() + 0.3)
        keep_settings((kept, bare), workload.isolation)
        urls = (replace(kept, url=job.url).database(name_of(kept)).url if job.url else kept.url, bare.url)
        jobs = [replace(job, url=url, writer=writer) for url in urls for writer in range(job.writers)]
        with flushing(workload, kept) as flushers:
            tallies = crew.do(jobs)
        with django_at(kept):
            found = drifts(workload)
            if flushers:
                flush_all(workload, kept)
                found += drifts(workload, at_rest=True)
        for flusher in flushers:
            tallies[0].errors.update(flusher.errors)
        return Outcome(workload, tallies[: job.writers], tallies[job.writers :], found)


# Flushers ------------------------------------------------------------------------------------------------------------


@dataclass
class Flusher:
    """A thread that folds the queues of a workload over and over, past what others hold."""

    url: str
    calls: list[str]
    stopped: Event = field(default_factory=Event)
    errors: Counter[str] = field(default_factory=Counter)

    def run(self) -> None:
        """Fold until told to stop."""
        with psycopg.connect(self.url, autocommit=True) as link:
            while not self.stopped.wait(0.01):
                for call in self.calls:
                    try:
                        link.execute(call.encode())
                    except psycopg.Error as error:
                        self.errors[f"a flusher: {error}"] += 1


@contextmanager
def flushing(workload: Workload, server: Server) -> Iterator[list[Flusher]]:
    """Run two flushers beside the writers, where there is a queue."""
    functions = flush_functions(workload)
    calls = [f"SELECT {function}(batch => 20, skip_locked => true)" for function in functions]
    flushers = [Flusher(server.url, calls) for _ in range(2 if calls else 0)]
    threads = [Thread(target=flusher.run, daemon=True) for flusher in flushers]
    for thread in threads:
        thread.start()
    try:
        yield flushers
    finally:
        for flusher, thread in zip(flushers, threads, strict=True):
            flusher.stopped.set()
            thread.join(GRACE)


def flush_functions(workload: Workload) -> list[str]:
    """Return the flush functions of a workload's targets."""
    if workload.timing != "QUEUED":
        return []
    return [f"tk_flush_{model._meta.db_table}" for model, _ in workload.declared()]


def flush_all(workload: Workload, server: Server) -> None:
    """Fold everything."""
    with psycopg.connect(server.url, autocommit=True) as link:
        for function in flush_functions(workload):
            link.execute(f"SELECT {function}()".encode())


# The report ----------------------------------------------------------------------------------------------------------


def table_of(outcomes: Sequence[Outcome], title: str) -> Table:
    """Return the table of what all workloads have shown."""
    table = Table(title=title, title_justify="left")
    table.add_column("workload")
    for name in ("transactions", "rows", "deadlocks", "without triggers", "40001", "refused", "drift"):
        table.add_column(name, justify="right")
    for is_inherent in (False, True):
        for outcome in (one for one in outcomes if one.workload.is_inherent == is_inherent):
            table.add_row(*cells(outcome))
        table.add_section()
    return table


def cells(outcome: Outcome) -> list[str]:
    """Return a row of the table; numbers in brackets are those without triggers."""
    workload = outcome.workload
    notes = [workload.isolation.lower()] if workload.isolation != LEVELS[0] else []
    notes += ["" if workload.timing == "IMMEDIATE" else workload.timing.lower()]
    notes += ["inherent" if workload.is_inherent else "" if workload.is_judged else "deadlocks not judged"]
    name = ", ".join([workload.name, *filter(None, notes)])
    deadlocks, without = outcome.total("deadlocks")
    failures, base_failures = outcome.total("failures")
    return [
        f"[red]{name}[/red]" if outcome.problems() else name,
        f"{outcome.total('transactions')[0]:,} [dim]({outcome.total('transactions')[1]:,})[/dim]",
        f"{outcome.total('rows')[0]:,}",
        f"{deadlocks:,}",
        f"{without:,}",
        f"{failures:,} [dim]({base_failures:,})[/dim]",
        f"{outcome.total('refused')[0]:,}",
        f"{len(outcome.drifts):,}",
    ]


def title_of(workload: Workload) -> str:
    """Return what tells a workload from the others."""
    return f"{workload.name}, {workload.timing.lower()}, {workload.isolation.lower()}"


def report(console: Console, outcomes: Sequence[Outcome], title: str, details: int = 0) -> bool:
    """Print the table, which statements met in deadlocks, and what is wrong; return whether nothing is."""
    console.print(table_of(outcomes, title))
    for outcome in outcomes:
        name = title_of(outcome.workload)
        for cycle, count in outcome.cycles().most_common(3):
            console.print(f"[dim]{name}: deadlock, {count} × {escape(cycle)}[/dim]")
        for deadlock in [one for tally in outcome.ours for one in tally.deadlocks][:details]:
            console.print(escape(deadlock.text), end="\n\n")
    for outcome in outcomes:
        for problem in outcome.problems():
            console.print(f"[red]{title_of(outcome.workload)}[/red]: {escape(problem)}")
        for drift in outcome.drifts[:3]:
            console.print(f"    {drift.uri} of {drift.key!r}: stored {drift.stored!r}, true {drift.true!r}")
    return not any(outcome.problems() for outcome in outcomes)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser("python -m benchmarks.soak", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60, help="of writing, all workloads together (60)")
    parser.add_argument("--workers", type=int, default=8, help="writers per database (8; at most 64)")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="of the writers' dice (random)")
    parser.add_argument("--isolation", type=str.upper, choices=LEVELS, help="run every workload at this level")
    parser.add_argument(
        "--only", action="append", default=[], help="part of a workload's name or timing; may be repeated"
    )
    parser.add_argument("--pgbouncer", action="store_true", help="put PgBouncer in transaction mode before the rules")
    parser.add_argument("--details", type=int, default=0, help="deadlocks per workload to print in full (0)")
    return parser.parse_args()


def chosen(options: argparse.Namespace) -> list[tuple[int, Workload]]:
    """Return the workloads to run, with their numbers; at one level there is one of each name."""
    found: dict[tuple[str, str, str], tuple[int, Workload]] = {}
    for number, workload in enumerate(WORKLOADS):
        level = options.isolation or workload.isolation
        name = f"{workload.name}, {workload.timing}"
        if not options.only or any(part.lower() in name.lower() for part in options.only):
            key = (workload.name, workload.timing, level)
            found.setdefault(key, (number, replace(workload, isolation=level)))
    if not found:
        raise SystemExit(f"No workload has {' or '.join(options.only)} in its name.")
    return list(found.values())


def main() -> int:
    """Run the workloads one after the other and print what they have shown."""
    options = arguments()
    workloads = chosen(options)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything is ended then, too
    console, outcomes = Console(width=140, highlight=False), []
    seconds = options.seconds / len(workloads)
    title = f"{options.workers} writers, {seconds:.1f} s per workload, --seed {options.seed}; in brackets: no triggers"
    stopped = ""
    try:
        with (
            running_server() as server,
            Crew(2 * options.workers) as crew,
            console.status("preparing …") as status,
            pooled(server) if options.pgbouncer else nullcontext() as pool,
        ):
            template = server.database(DATABASE)
            job = Job(
                0, "", pool.url if pool else "", options.seed, 0, options.workers, make_template(template), 0, seconds
            )
            for number, workload in workloads:
                status.update(f"{title_of(workload)} …")
                outcomes.append(soak(number, workload, template, crew, job))
            if not template.is_throw_away:
                template.drop()
    except (KeyboardInterrupt, SilentWriterError) as error:
        stopped = f"Stopped early. {error}".strip()
    is_right = report(console, outcomes, title, options.details)
    if stopped:
        console.print(f"[red]{stopped}[/red]")
    return 0 if is_right and not stopped else 1


if __name__ == "__main__":
    sys.exit(main())
