"""The tables of the benchmarks: each a function of the options that returns a result, in a module of its own."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.ground import Ground
from benchmarks.results import Result


@dataclass(frozen=True)
class Options:
    """What a table is asked for: on which ground, how long, how many rounds, and whom it tells how far it is.

    The ground is shared: a table makes its own copies of the template, and they are dropped after it.
    """

    ground: Ground
    short: bool
    rounds: int
    say: Callable[[str], object]


Measure = Callable[[Options], Result]

# In the order in which they run. Each is a module here: the first line of its docstring says what it measures, and its
# function ``measure`` does so.
TABLES = (
    "writes",
    "commits",
    "sizes",
    "groups",
    "rules",
    "hops",
    "clients",
    "clients_instant",
    "break_even",
    "reading",
    "levels",
    "advice",
    "hot",
    "verify",
    "fill",
    "forum",
)


def title_of(name: str) -> str:
    """Return what a table measures, in a line."""
    return (importlib.import_module(f"benchmarks.tables.{name}").__doc__ or "").partition("\n")[0]


def table(name: str) -> Measure:
    """Return the function of a table."""
    measure: Measure = importlib.import_module(f"benchmarks.tables.{name}").measure
    return measure
