"""PLAN, locks: which rows along a path a step locks before it reads them, in which mode and order.

A step finds its targets by a path, and computes from the rows beside it. Another transaction may change one of these
rows meanwhile, and neither sees what the other has not committed. So that one of the two waits:

* a row that changes locks the rows that it *points at*, along the path in both directions: a leaf its middle row, a
  row of a many-to-many table the tag at its far side;
* a row that is pointed at cannot lock rows that it does not see; it has been written itself, which conflicts.

Two changes that both point at one row, from either side of a path, would share its lock and miss each other: there,
at the *peak* of a path, the lock is exclusive.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from trigger_kit.resolve.columns import Column, Hop, Path, Source

__all__ = ["LateParent", "Link", "PathLock", "Strength", "late_parents", "links", "path_locks"]


class Strength(enum.Enum):
    """The mode of a row lock."""

    SHARE = "FOR SHARE"
    NO_KEY_UPDATE = "FOR NO KEY UPDATE"


@dataclass(frozen=True)
class PathLock:
    """Rows that a step locks, from the changed rows at level ``start`` of a ``path`` to those at its level ``level``.

    Level 0 is the target. Where ``level`` is smaller the rows lie between the changed ones and the target, where it is
    larger behind them; ``path`` is as long as the larger of the two. ``order`` are the columns of the primary key.
    """

    path: Path
    start: int
    level: int
    order: tuple[str, ...]
    strength: Strength

    @property
    def table(self) -> str:
        """The table whose rows are locked."""
        return self.path[self.level - 1].table

    def __str__(self) -> str:
        return f"{self.table}: the rows along the path, {self.strength.value}, in key order"


def path_locks(start: Path, sources: Iterable[Source], written: Collection[str]) -> tuple[PathLock, ...]:
    """Return the locks of a step whose changed rows lie at the end of a path, in the order in which it takes them.

    ``sources`` are all rows that the step's rules read. ``written`` are the tables that triggers of the same event
    update: the strongest lock that the event needs is taken first.

    Of rows that point on and on, the last come first: a change there is written first, and then passed on to those that
    point at it. What they point at may be another row by the time that they are locked, so that the way is gone again.
    """
    known = {source.path: source for source in sources}
    onward = [path for path in sorted(known, key=len) if _leads_on(start, path)]
    again = [path for path in onward if len(path) > len(start) + 1]
    ahead = [*reversed(onward), *again]
    nearer = [start[:level] for level in range(len(start) - 1, 0, -1) if start[level].points_back]
    locks = []
    for path in [*ahead, *nearer]:
        order = tuple(str(field.column) for field in known[path].model._meta.pk_fields)
        exclusive = path[-1].table in written or _is_peak(path, start, known)
        strength = Strength.NO_KEY_UPDATE if exclusive else Strength.SHARE
        longer = path if len(path) > len(start) else start
        locks.append(PathLock(longer, len(start), len(path), order, strength))
    return tuple(locks)


def _leads_on(start: Path, path: Path) -> bool:
    """Whether a path goes on from the changed rows to rows that they point at, one after the other."""
    onward = path[len(start) :]
    return bool(onward) and path[: len(start)] == start and all(hop.points_on for hop in onward)


def _is_peak(path: Path, start: Path, paths: Iterable[Path]) -> bool:
    """Whether rows on both sides point at the rows at the end of a path: those before it, and some behind."""
    longer = {other for other in (start, *paths) if len(other) > len(path) and other[: len(path)] == path}
    return path[-1].points_on and any(other[len(path)].points_back for other in longer)


# Links --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Link:
    """Rows that neither point at each other nor are pointed at: they have equal values, and no row to lock.

    ``path`` ends with the hop between them. Its near side takes the link exclusively, the far side shares it.
    """

    path: Path
    is_exclusive: bool

    def __str__(self) -> str:
        return f"an advisory lock of the link {self.path[-1]}, {'exclusive' if self.is_exclusive else 'shared'}"


def links(start: Path, sources: Iterable[Source]) -> tuple[Link, ...]:
    """Return the links that changed rows at the end of a path take part in."""
    found = {}
    for path in {source.path for source in sources}:
        for number, hop in enumerate(path, 1):
            if hop.is_loose and (start[:number] == path[:number] or path[: len(start)] == start):
                found[path[:number]] = len(start) < number
    return tuple(Link(path, exclusive) for path, exclusive in sorted(found.items(), key=str))


# Late parents -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LateParent:
    """Where a row may come after the rows that point at it, because two transactions bring them at once.

    Each of the two looks for the other, and does not see what is not committed. ``path`` leads from the target to the
    parent row (the target itself, where it is empty); ``hop`` is the one between the two rows, of which the row that
    points is the near or the far one.
    """

    path: Path
    hop: Hop
    child_is_far: bool

    @property
    def parent(self) -> tuple[Column, ...]:
        """The columns that the child names its parent by."""
        return self.hop.near if self.child_is_far else self.hop.far

    @property
    def child(self) -> tuple[Column, ...]:
        """The columns in which the child does so."""
        return self.hop.far if self.child_is_far else self.hop.near

    @property
    def is_constrained(self) -> bool:
        """Whether the child cannot be committed without its parent."""
        return bool(self.hop.child)


def late_parents(start: Path, sources: Iterable[Source]) -> tuple[LateParent, ...]:
    """Return the parents of changed rows at the end of a path that may come later than these."""
    back = [LateParent(start[:-1], start[-1], child_is_far=True)] if start and start[-1].points_back else []
    paths = sorted({source.path for source in sources if len(source.path) == len(start) + 1}, key=str)
    return (*back, *(LateParent(path, path[-1], child_is_far=False) for path in paths if _leads_on(start, path)))
