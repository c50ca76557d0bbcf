"""PLAN, the noun: a column with the strategy that keeps it."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, replace

from django.db.models import CheckConstraint, Count

from trigger_kit.plan.aggregates import PathAggregate
from trigger_kit.resolve.rule import ResolvedRule
from trigger_kit.rules import Timing

__all__ = ["KeptAggregate", "KeptColumn", "Strategy", "is_checked", "may_break_a_check", "queued"]


class Strategy(enum.Enum):
    """How a step brings the target up to date."""

    DELTA = "delta"
    EXTREMUM = "extremum"
    RECOMPUTE = "recompute"
    COPY = "copy"


@dataclass(frozen=True, eq=False)
class KeptColumn:
    """A column with the strategy that keeps it.

    ``empty`` is the SQL literal of the value over no rows, or None where that follows from the target's row.
    """

    resolved: ResolvedRule
    strategy: Strategy
    empty: str | None

    @property
    def column(self) -> str:
        """The column's name."""
        return self.resolved.column.name

    @property
    def timing(self) -> Timing:
        """When changes reach the column."""
        return self.resolved.rule.timing

    @property
    def is_queued(self) -> bool:
        """Whether changes wait in a queue."""
        return self.timing is Timing.QUEUED

    @property
    def is_added(self) -> bool:
        """Whether a change is added to the value or compared with it, where it need not be recomputed."""
        return self.strategy in {Strategy.DELTA, Strategy.EXTREMUM}

    @property
    def null_when_empty(self) -> bool:
        """Whether the value over no rows is NULL, so that arrivals and departures have to be told apart."""
        return self.empty == "NULL"

    @property
    def served_by(self) -> tuple[str, ...]:
        """The columns of the same row that the value follows from."""
        return ()

    def afresh(self) -> KeptColumn:
        """Return the column as a change keeps it where there is nothing to add to."""
        return self


@dataclass(frozen=True, eq=False)
class KeptAggregate(KeptColumn):
    """A column whose value is one aggregate over one path: such columns can share a pass over their rows.

    ``exact_type`` is a type in which sums neither round nor overflow. ``may_be_nan`` says that the summed value can be
    NaN, which no delta takes out again. ``average_of`` names the columns of a sum and a count over the same rows.
    """

    aggregate: PathAggregate
    exact_type: str = ""
    may_be_nan: bool = False
    average_of: tuple[str, str] | None = None

    @property
    def is_sum(self) -> bool:
        """Whether the column is kept by adding signed deltas."""
        return self.strategy is Strategy.DELTA and self.average_of is None

    @property
    def must_not_be_negative(self) -> bool:
        """Whether a CHECK may refuse negative numbers, which it may not do for a passing moment.

        No count is ever negative; of sums, the model says whether a CHECK looks at them.
        """
        return self.is_sum and (self.aggregate.function is Count or is_checked(self.resolved))

    @property
    def served_by(self) -> tuple[str, ...]:
        """The columns of a sum and a count that an average follows from."""
        return self.average_of or ()

    def afresh(self) -> KeptAggregate:
        """Return the column as a change keeps it where there is nothing to add to: its value is recomputed."""
        if not self.is_added:
            return self
        return replace(self, strategy=Strategy.RECOMPUTE, average_of=None)


def is_checked(resolved: ResolvedRule) -> bool:
    """Whether the model has a CHECK on the column."""
    return _is_positive(resolved) or _has_constraint(resolved)


def may_break_a_check(kept: KeptColumn) -> bool:
    """Whether maintenance may write a value that a CHECK of the model refuses: never a count below zero."""
    is_count = isinstance(kept, KeptAggregate) and kept.aggregate.function is Count
    return _has_constraint(kept.resolved) or (_is_positive(kept.resolved) and not is_count)


def _is_positive(resolved: ResolvedRule) -> bool:
    return resolved.field.get_internal_type().startswith("Positive")


def _has_constraint(resolved: ResolvedRule) -> bool:
    names = {resolved.field.name, resolved.field.attname}
    checks = [item for item in resolved.model._meta.constraints if isinstance(item, CheckConstraint)]
    read = [getattr(item.condition, "referenced_base_fields", names) for item in checks]
    return any(names & set(item) for item in read)


def queued(kept_columns: Iterable[KeptColumn]) -> list[KeptAggregate]:
    """Return the columns whose changes wait in a queue: only what is added over a path can wait."""
    return [kept for kept in kept_columns if isinstance(kept, KeptAggregate) and kept.is_queued]
