"""Which cases run at which isolation level by default: the rest of them only where all tests are asked for.

READ COMMITTED, at which nearly all applications run, shows every case. At the higher levels the steps themselves are
the same: one case for each strategy and event at each timing, over one hop and over more, shows that they hold there, and
one for each error that a step must end with, that it does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

import pytest
from psycopg import IsolationLevel

from tests.concurrency.cases import Case, plans_at
from tests.concurrency.schedules import LEVELS
from trigger_kit import Timing
from trigger_kit.plan.plan import Event, Step

__all__ = ["Shown", "Variant", "by_default", "marked", "shown", "variants"]

Variant = tuple[tuple[Case, Timing], IsolationLevel]

_CHANGES = re.compile(r"(INSERT INTO|UPDATE|DELETE FROM|TRUNCATE) (archive_\w+)")
_EVENTS = {
    "INSERT INTO": Event.INSERT,
    "UPDATE": Event.UPDATE,
    "DELETE FROM": Event.DELETE,
    "TRUNCATE": Event.TRUNCATE,
}


class Shown(NamedTuple):
    """A kind of step that a case runs: by which strategy, after which event, when, and whether rows lie between."""

    strategy: str
    event: Event
    timing: Timing
    is_far: bool


def variants(cases: Iterable[Case]) -> list[Variant]:
    """Return every case at each of its timings, at each of its levels."""
    return [((case, timing), level) for case in cases for timing in case.possible_timings for level in case.levels]


def shown(case: Case, timing: Timing) -> frozenset[Shown]:
    """Return what kinds of steps the sessions of a case set off directly."""
    texts = [step for session in case.sessions for step in session if isinstance(step, str)]
    changes = {(table, _EVENTS[word]) for text in texts for word, table in _CHANGES.findall(text)}
    steps = [step for plan in plans_at(case, timing) for step in plan.steps]
    return frozenset(
        Shown(strategy, step.event, step.edge.timing, len(feed.path) > 1)
        for step in steps
        if (step.edge.source, step.event) in changes
        for feed in step.edge.feeds_of(step.event)
        for strategy in _strategies(step)
    )


def _strategies(step: Step) -> list[str]:
    return ["tree"] if step.edge.is_recursive else [strategy.value for strategy in step.strategies]


def by_default(found: Iterable[Variant]) -> frozenset[Variant]:
    """Return the variants that run by default: of each level but the first, the cheapest that show something new."""
    listed = list(found)
    chosen = {variant for variant in listed if variant[1] is IsolationLevel.READ_COMMITTED}
    for level in LEVELS[1:]:
        seen: set[object] = set()
        for variant in sorted((one for one in listed if one[1] is level), key=_cost):
            kinds = shown(*variant[0]) | _ends(*variant)
            if kinds - seen:
                chosen.add(variant)
                seen |= kinds
    return frozenset(chosen)


def marked(found: Iterable[Variant]) -> list[Any]:
    """Return variants as parameters of a test; those that do not run by default are thorough."""
    listed = list(found)
    chosen = by_default(listed)
    return [pytest.param(*variant, marks=() if variant in chosen else pytest.mark.thorough) for variant in listed]


def _ends(what: tuple[Case, Timing], level: IsolationLevel) -> set[tuple[Timing, str]]:
    """Return the errors that a case is about, at its timing."""
    case, timing = what
    return {(timing, error) for error in case.errors | ({"refused"} if level in case.refused_at else set())}


def _cost(variant: Variant) -> tuple[int, int]:
    """Return what the number of orders grows with."""
    sessions = variant[0][0].sessions
    return len(sessions), sum(map(len, sessions))
