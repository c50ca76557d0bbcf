"""The contenders side by side: who takes part in a piece of work, the turns, and whether the values are right then."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from benchmarks.contenders import BASE, OURS, ROW, STATEMENT, Contender, enter
from benchmarks.ground import DriftError, Ground, Place, authors, books, django_at, reset
from benchmarks.measuring import Step, Work, interleaved, perform, short
from benchmarks.results import Cell, Row

PARENTS = 1_000
SEES_NO_SQL = "sees no SQL"
ONE_ROUND = "one round"
FEW = 3  # rounds for those that are not measured closely
CLOSELY = (BASE, *(contender.name for contender in (*OURS, ROW, STATEMENT)))


@dataclass(frozen=True)
class Job:
    """One row of the table: what is there before, and what is timed.

    ``books`` are there at first, over so many ``parents`` of the ``authors``. ``per`` is the number of statements or
    rows that it stands for. ``slow`` contenders do it once. ``skipped`` ones do not take part, for a reason in words.
    The short mode leaves out what is not ``in_short``. Commits wait for the disk where ``waits_for_disk``.
    """

    title: str
    run: Step
    books: int = 0
    parents: int = PARENTS
    authors: int = PARENTS
    per: int = 1
    slow: tuple[str, ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)
    in_short: bool = True
    waits_for_disk: bool = False

    def why_not(self, contender: Contender) -> str:
        """Return why a contender takes no part, or ""."""
        return self.skipped.get(contender.name, "" if contender.sees_sql else SEES_NO_SQL)

    def act(self, place: Place, contender: Contender, made: Any) -> None:
        """Do what is timed."""
        perform(self.run, place)

    def make(self, contender: Contender) -> Any:
        """Return what the work needs; untimed."""


@dataclass(frozen=True)
class DjangoJob(Job):
    """Work by Django, with the contender's own models and receivers.

    ``prepare`` gets the models, author and book, and makes what ``by_django`` gets besides the contender. Who takes
    part is in ``contenders``.
    """

    run: Step = ""
    prepare: Callable[[Any, Any], Any] = lambda author, book: None
    by_django: Callable[[Contender, Any], object] = lambda contender, made: None
    contenders: tuple[str, ...] = ()

    def why_not(self, contender: Contender) -> str:
        """Return why a contender takes no part, or ""."""
        return self.skipped.get(contender.name, "" if contender.name in self.contenders else "–")

    def act(self, place: Place, contender: Contender, made: Any) -> None:
        """Do what is timed."""
        self.by_django(contender, made)

    def make(self, contender: Contender) -> Any:
        """Return what the work needs; untimed."""
        return self.prepare(*contender.models())


@dataclass
class Bench:
    """The contenders with their databases, and the reasons of those that are not there."""

    ground: Ground
    rounds: int
    contenders: dict[str, Contender] = field(default_factory=dict)
    places: dict[str, Place] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    def add(self, contender: Contender) -> None:
        """Let a contender in, or note why that cannot be. Commits do not wait for the disk, but in some jobs."""
        found = enter(self.ground, contender)
        if isinstance(found, str):
            self.absent[contender.name] = found
            return
        name = found.value("SELECT quote_ident(current_database())")
        found.run(f"ALTER DATABASE {name} SET synchronous_commit = off")
        self.contenders[contender.name], self.places[contender.name] = contender, found

    def measure(self, job: Job) -> Row:
        """Measure a job with all that take part; every value of every contender is compared after its turn."""
        reasons = {name: job.why_not(contender) for name, contender in self.contenders.items()}
        places = {name: place for name, place in self.places.items() if not reasons[name]}
        wrong: dict[str, int] = {}
        limits = {name: FEW for name in places if name not in CLOSELY} | dict.fromkeys(job.slow, 1)
        seconds = interleaved(places, self.work(job, wrong), self.rounds, limits=limits)
        cells = {name: Cell.said(reason) for name, reason in {**self.absent, **reasons}.items() if reason}
        for name, spent in seconds.items():
            cells[name] = self.cell(name, job, spent, seconds[BASE], wrong.get(name, 0))
        return Row(job.title, cells)

    def work(self, job: Job, wrong: dict[str, int]) -> Work:
        """Return the work of a job at any place; what is wrong after it goes to a dictionary."""
        stack, made = ExitStack(), list[Any]()

        def before(place: Place) -> None:
            contender = self.contenders[place.name]
            fill(place, contender, job)
            if isinstance(job, DjangoJob):
                from django.db import connection

                stack.enter_context(django_at(place))
                connection.ensure_connection()
                stack.enter_context(contender.at_work())
            made[:] = [job.make(contender)]

        def run(place: Place) -> None:
            job.act(place, self.contenders[place.name], made[0])

        def after(place: Place) -> None:
            stack.close()
            contender = self.contenders[place.name]
            contender.settle(place)
            if place.name != BASE:
                wrong[place.name] = max(wrong.get(place.name, 0), contender.wrong(place))

        return Work(job.title, before, run, job.per, after)

    def judge(self, place: Place) -> None:
        """Raise DriftError where a value is wrong, once what is late has been settled."""
        if place.name == BASE:
            return
        self.contenders[place.name].settle(place)
        if wrong := self.contenders[place.name].wrong(place):
            raise DriftError(f"{place.name}: the values of {wrong} authors are wrong")

    def cell(self, name: str, job: Job, spent: list[float], base: list[float], wrong: int) -> Cell:
        """Return the ratio to the base, with what is to say about it; of the base what one of it takes."""
        if name == BASE:
            return per_one(spent, job.per)
        if wrong and self.contenders[name].must_be_right:
            raise DriftError(f"{name}, {job.title}: the values of {wrong} authors are wrong")
        words = [f"wrong: {short(wrong)} of {job.authors:,} authors"] if wrong else []
        words += [ONE_ROUND] if len(spent) == 1 < len(base) else []
        return Cell.compared(spent, base, ", ".join(words))


def per_one(seconds: list[float], per: int) -> Cell:
    """Return the median time of all, in milliseconds, or of one of many, in microseconds."""
    middle = statistics.median(seconds)
    return Cell.absolute(middle / per * 1e6, "µs", seconds) if per > 1 else Cell.absolute(middle * 1e3, "ms", seconds)


def fill(place: Place, contender: Contender, job: Job) -> None:
    """Bring the tables to where a job starts while no trigger fires, and the contender's values with them."""
    place.run("SET session_replication_role = replica")
    rows = [books(job.books, job.parents)] if job.books else []
    reset(place, *([authors(job.authors)] if job.authors else []), *rows, contender.refill)
    place.run("SET session_replication_role = origin")
    if contender.tidy:
        place.run(contender.tidy)
    place.run(f"SET synchronous_commit = {'on' if job.waits_for_disk else 'off'}")
