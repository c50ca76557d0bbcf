"""What several tables share: places with rules, rows that are there before, and turns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from benchmarks.contenders import ours
from benchmarks.ground import Place, check, django_at, flush, install, reset, tidy
from benchmarks.tables import Options

if TYPE_CHECKING:
    from benchmarks.ground import Rules

T = TypeVar("T")


def one_sum(timing: str = "IMMEDIATE") -> Rules:
    """Return the rule of one column: the sum of the pages of an author's books."""
    model, (_, pages) = ours.rules(timing)[0]
    return [(model, [pages])]


def kept(options: Options, name: str, rules: Rules) -> Place:
    """Return a fresh place with the triggers of rules."""
    place = options.ground.copy(name)
    install(place, rules)
    return place


def fill(place: Place, rules: Rules, *statements: str) -> None:
    """Empty all tables and fill them while no trigger fires, then write the values of rules: quick, and right."""
    from django.db import connection, transaction

    from trigger_kit.database.installation import backfill
    from trigger_kit.plan.plan import plan_all

    place.run("SET session_replication_role = replica")
    reset(place, *statements)
    place.run("SET session_replication_role = origin")
    if not rules:
        return
    with django_at(place), transaction.atomic():
        for plan in reversed(plan_all(rules)):
            backfill(plan, connection)
    tidy(place)


def settle(place: Place, rules: Rules) -> None:
    """Raise DriftError where a stored value, with what is pending, is not the true one; then fold what is pending."""
    check(place, rules)
    if flush(place):
        check(place, rules)


def in_turn(names: Sequence[str], do: Callable[[str], T], rounds: int) -> dict[str, list[T]]:
    """Do something for every name, round by round, each round beginning with another one; return what came out."""
    found: dict[str, list[T]] = {name: [] for name in names}
    for number in range(rounds):
        first = number % len(names)
        for name in (*names[first:], *names[:first]):
            found[name].append(do(name))
    return found


def prose(text: str) -> str:
    """Return a text that is wrapped in the source as one line."""
    return " ".join(text.split())
