"""OPERATE: what a command does to each target, one after the other, as lines for people."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from django.db import DatabaseError, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from trigger_kit.database.converge import READ_COMMITTED_ONLY, runner
from trigger_kit.exceptions import TriggerKitError
from trigger_kit.plan.plan import Plan

__all__ = ["Switched", "counted", "each_target", "read_committed"]


@dataclass(frozen=True)
class Switched:
    """What was done to a target, or would be.

    ``symbol`` is ``+`` for what comes, ``~`` for what changes, ``-`` for what goes, a blank where nothing is to do, and
    ``!`` where it could not be done. ``advice`` is what to know or to do next.
    """

    symbol: str
    label: str
    text: str
    advice: str = ""

    @property
    def is_failure(self) -> bool:
        """Whether it could not be done."""
        return self.symbol == "!"


def each_target(plans: Iterable[Plan], change: Callable[[Plan], Switched]) -> Iterator[Switched]:
    """Change one target after the other; one that cannot be changed does not keep the others from it."""
    for plan in plans:
        try:
            yield change(plan)
        except (TriggerKitError, DatabaseError) as error:
            yield Switched("!", plan.model._meta.label, str(error).strip())


@contextmanager
def read_committed(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """Open a READ COMMITTED transaction, whatever the connection's level is; an open one must be of this level."""
    is_own = not connection.in_atomic_block
    with transaction.atomic(using=connection.alias):
        runner(connection)("SET TRANSACTION ISOLATION LEVEL READ COMMITTED" if is_own else READ_COMMITTED_ONLY)
        yield


def counted(number: int, noun: str) -> str:
    """Return a number and its noun: ``1 row``, ``2,000 rows``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
