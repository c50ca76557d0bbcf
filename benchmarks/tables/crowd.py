"""Many clients at once: processes that insert books under one hot parent or under many, and how much comes through.

Whoever has locked the hot author at its commit holds it until the disk has the commit, and nobody else can commit
along: DEFERRED is bound by the disk, too. Asynchronous commits show it without a disk. Where commits are instant, what
waits neither for the disk nor for the author is bound by the CPU, which the clients share with the server.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.synchronize import Barrier
from threading import Event

import psycopg

from benchmarks.contenders import BASE, NOTHING, OURS, ROW
from benchmarks.contenders.ours import TIMINGS, rules
from benchmarks.ground import Place, authors, check, flush, reset
from benchmarks.measuring import Ratio
from benchmarks.results import Cell, Plot, Result, Row
from benchmarks.tables import Options
from benchmarks.tables.keeping import in_turn, prose

CLIENTS = (1, 2, 4, 8, 16)
SHORT_CLIENTS = (8,)
MOST_ROUNDS = 3  # but those of MAIN clients, which the bars are about, have all that are asked for
MAIN = 8
SECONDS, SHORT_SECONDS = 0.6, 0.25  # of one turn
HEAD_START = 0.15  # seconds in which clients connect
PATIENCE = 120.0  # seconds in which all processes have started
PAUSE = 0.05  # seconds between two flushes
CONTENDERS = (NOTHING, *OURS, ROW)

INSERT = "INSERT INTO bench_books_book (author_id, pages) VALUES ({parent}, {pages})"
FLUSH = "SELECT tk_flush_bench_books_author(batch => 1000, skip_locked => true)"
ROUNDS = f" All but {MAIN} clients have {MOST_ROUNDS} rounds at most."
PENDING = " Rows pending when the clients stop, median: {pending}."


@dataclass(frozen=True)
class Case:
    """What all clients do: under how many parents they insert, what they send for one book, and how many they are."""

    title: str
    parents: int
    transaction: str
    clients: tuple[int, ...] = CLIENTS
    is_long: bool = False

    def of(self, name: str) -> str:
        """Return the title of a contender's line."""
        return f"{self.title}: {name}"


@dataclass
class Findings:
    """Transactions per second by case, clients and contender, round by round; what was pending when clients stopped."""

    rates: dict[tuple[Case, int], dict[str, list[float]]] = field(default_factory=dict)
    pending: dict[Case, list[int]] = field(default_factory=dict)


# The clients' side ---------------------------------------------------------------------------------------------------


def insert(url: str, case: Case, seed: str, start: float, seconds: float) -> float:
    """Insert books from the start on until the time is up; return how many came through per second."""
    dice, done = random.Random(seed), 0
    with psycopg.connect(url, autocommit=True) as link:
        time.sleep(max(0.0, start - time.monotonic()))
        end = time.monotonic() + seconds
        while True:
            transaction = case.transaction.format(parent=dice.randint(1, case.parents), pages=dice.randint(1, 400))
            link.execute(transaction.encode())
            if time.monotonic() > end:
                return done / seconds
            done += 1


def gather(barrier: Barrier) -> None:
    """Wait until everybody is there; what each process does first."""
    barrier.wait(PATIENCE)


@contextmanager
def crew(number: int) -> Iterator[Executor]:
    """Start the processes of the clients, and let nothing begin before all of them are there."""
    # Not forked: a child must not inherit the connections of its parent.
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(number + 1)
    with ProcessPoolExecutor(number, mp_context=context, initializer=gather, initargs=(barrier,)) as clients:
        for _ in range(number):
            clients.submit(time.sleep, 0)  # a process is started where none is idle, and none is before all have met
        gather(barrier)
        yield clients


# One turn ------------------------------------------------------------------------------------------------------------


@contextmanager
def flushing(place: Place) -> Iterator[None]:
    """Fold the queue over and over beside the clients."""
    stopped = Event()

    def fold() -> None:
        with psycopg.connect(place.url, autocommit=True) as link:
            while not stopped.wait(PAUSE):
                link.execute(FLUSH.encode())

    with ThreadPoolExecutor(1) as pool:
        work = pool.submit(fold)
        try:
            yield
        finally:
            stopped.set()
        work.result()


def turn(case: Case, number: int, place: Place, clients: Executor, found: Findings, seconds: float) -> float:
    """Let clients work at a place, and look whether its values are right; return the transactions per second."""
    reset(place, authors(case.parents))
    with flushing(place) if place.name == "QUEUED" else nullcontext():
        start = time.monotonic() + HEAD_START
        jobs = [clients.submit(insert, place.url, case, f"{case.title}/{n}", start, seconds) for n in range(number)]
        rate = sum(job.result() for job in jobs)
    if place.name != BASE:
        check(place, rules(place.name if place.name in TIMINGS else "IMMEDIATE"))
    if place.name == "QUEUED":
        found.pending.setdefault(case, []).append(flush(place))
        check(place, rules("IMMEDIATE"))
    return rate


def crowd(name: str, title: str, note: str, cases: Sequence[Case], options: Options) -> Result:
    """Run all cases with all contenders, in turns, and return the table."""
    if options.short:
        cases = [case for case in cases if not case.is_long]
    places = {}
    for contender in CONTENDERS:
        places[contender.name] = options.ground.copy(contender.name)
        contender.install(places[contender.name])
    found = Findings()
    numbers = SHORT_CLIENTS if options.short else CLIENTS
    with crew(max(numbers)) as clients:
        for case in cases:
            for number in (number for number in numbers if number in case.clients):
                options.say(f"{name}: {case.title}, {number} clients …")
                found.rates[case, number] = rates(case, number, places, clients, found, options)
    rows = [row for case in cases for row in rows_of(case, found)]
    columns = tuple(map(str, numbers))
    plot = Plot(kind="lines", x_label="clients", y_label="throughput, ratio to no trigger",
                xs=tuple(map(float, numbers)), lines_are_rows=True, log_x=True, log_y=False,
                better="higher is better", rows=drawn(cases))  # fmt: skip
    settings = settings_of(places[BASE])
    return Result(name, title, columns, rows, prose(note + ROUNDS + pending(found) + settings), plot)


def rates(
    case: Case, number: int, places: Mapping[str, Place], clients: Executor, found: Findings, options: Options
) -> dict[str, list[float]]:
    """Let the places take turns; return the transactions per second of all rounds."""
    seconds = SHORT_SECONDS if options.short else SECONDS
    once = partial(turn, case, number, clients=clients, found=found, seconds=seconds)
    rounds = options.rounds if number == MAIN else min(options.rounds, 1 if options.short else MOST_ROUNDS)
    return in_turn(list(places), lambda name: once(place=places[name]), rounds)


def drawn(cases: Sequence[Case]) -> tuple[str, ...]:
    """Return the titles of the lines of the plot: those of cases with several numbers of clients."""
    keepers = [contender.name for contender in CONTENDERS if contender.name != BASE]
    return tuple(case.of(name) for case in cases if len(case.clients) > 1 for name in keepers)


# The report ----------------------------------------------------------------------------------------------------------


def rows_of(case: Case, found: Findings) -> list[Row]:
    """Return the lines of a case: the base in transactions per second, the others as ratios, round by round."""
    cells: dict[str, dict[str, Cell]] = {contender.name: {} for contender in CONTENDERS}
    for (about, number), rates in found.rates.items():
        if about is not case:
            continue
        for name, values in rates.items():
            seconds = tuple(1 / value for value in values if value)  # of one transaction
            cells[name][str(number)] = (
                Cell(words=f"{statistics.median(values):,.0f} / s", seconds=seconds)
                if name == BASE
                else Cell(ratio=Ratio.of(values, rates[BASE]), seconds=seconds)
            )
    return [Row(case.of(name), found) for name, found in cells.items()]


def pending(found: Findings) -> str:
    """Say what the flusher has left."""
    if not found.pending:
        return ""
    left = ", ".join(f"{case.title} {statistics.median(rows):,.0f}" for case, rows in found.pending.items())
    return PENDING.format(pending=left)


def settings_of(place: Place) -> str:
    """Say what makes commits cheap or dear on this server."""
    settings = [f"{name} = {place.value(f'SHOW {name}')}" for name in ("synchronous_commit", "fsync")]
    return f" {', '.join(settings)}; {os.cpu_count()} CPUs, shared by server and clients."
