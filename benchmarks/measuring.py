"""Take times: the same work at several places in turn, and the ratios that come out of it."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.ground import Place

Step = str | Callable[["Place"], object]


@dataclass(frozen=True)
class Work:
    """One measured piece of work: what is there before, what is timed, and what follows (untimed).

    Each of the three is SQL or a function of the place. ``per`` is the number of statements or rows that it stands for.
    """

    title: str
    before: Step
    run: Step
    per: int = 1
    after: Step = ""


@dataclass(frozen=True)
class Ratio:
    """The median of the ratios of all rounds, the smallest and the largest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float], base: Sequence[float]) -> Ratio:
        """Divide round by round, as far as both have rounds: what disturbs a round disturbs both."""
        ratios = [value / one for value, one in zip(values, base, strict=False)]
        return cls(statistics.median(ratios), min(ratios), max(ratios))

    def __str__(self) -> str:
        if self.low == self.high:
            return short(self.median)
        return f"{short(self.median)} ({short(self.low)} – {short(self.high)})"


def short(number: float) -> str:
    """Return a number with as many digits as matter."""
    digits = 0 if abs(number) >= 100 else 1 if abs(number) >= 10 else 2
    return f"{number:,.{digits}f}"


def timed(work: Callable[[], object]) -> float:
    """Return how many seconds a call takes; no garbage is collected meanwhile."""
    was_enabled = gc.isenabled()
    gc.disable()
    started = time.perf_counter()
    try:
        work()
        return time.perf_counter() - started
    finally:
        if was_enabled:
            gc.enable()


def perform(step: Step, place: Place) -> None:
    """Run SQL at a place, or call a function with it; nothing where there is nothing to do."""
    if callable(step):
        step(place)
    elif step:
        place.run(step)


def once(place: Place, work: Work) -> float:
    """Prepare, time and finish a piece of work at one place; return the seconds."""
    perform(work.before, place)
    seconds = timed(lambda: perform(work.run, place))
    perform(work.after, place)
    return seconds


def interleaved(
    places: Mapping[str, Place], work: Work, rounds: int, *, limits: Mapping[str, int] | None = None
) -> dict[str, list[float]]:
    """Return the seconds of all rounds, by place.

    The places take turns within each round, each time another one begins: what slows the machine down for a while
    slows all of them down. ``limits`` lets a place take part in so many rounds only: 0 in none.
    """
    names, limits = list(places), limits or {}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            if number < limits.get(name, rounds):
                seconds[name].append(once(places[name], work))
    return seconds


def loop(count: int, statement: str) -> str:
    """Return a block that runs a statement again and again inside the server, with n from 1 on."""
    return f"DO $$ BEGIN FOR n IN 1..{count} LOOP {statement}; END LOOP; END $$"
