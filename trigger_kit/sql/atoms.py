"""COMPILE which columns are computed afresh together: each full value stands in a database once.

One function writes the full values of an atom, columns of which no trigger ever computes one without the others:
``tk_…_recompute``. Whoever computes columns afresh calls those of their atoms.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from weakref import WeakKeyDictionary

from trigger_kit.plan.kept_columns import KeptColumn, Strategy
from trigger_kit.plan.plan import Plan, Step
from trigger_kit.resolve.columns import Hop
from trigger_kit.sql.function import call
from trigger_kit.sql.paths import Key
from trigger_kit.sql.text import object_name

__all__ = ["Atom", "atoms", "by_key", "is_recursive", "recompute", "recompute_name", "recompute_rows", "waited_for"]

Atom = tuple[KeptColumn, ...]

_atoms: WeakKeyDictionary[Plan, tuple[Atom, ...]] = WeakKeyDictionary()


def atoms(plan: Plan) -> tuple[Atom, ...]:
    """Return the kept columns of a target, parted so that whoever computes one of a part computes all."""
    if plan not in _atoms:
        together = [frozenset(group) for group in _computed_together(plan)]
        parts: dict[tuple[bool, ...], list[KeptColumn]] = {}
        for kept in plan.kept_columns:
            parts.setdefault(tuple(kept.column in group for group in together), []).append(kept)
        _atoms[plan] = tuple(map(tuple, parts.values()))
    return _atoms[plan]


def _computed_together(plan: Plan) -> Iterator[Iterable[str]]:
    """Yield the names of columns that some trigger computes afresh at a time."""
    groups: list[Iterable[KeptColumn]] = [*by_key(plan).values(), plan.pointing]
    groups.append([kept for kept in plan.kept_columns if waited_for([kept])])
    groups += [[kept for kept in plan.kept_columns if kept.empty is None]]
    groups += [[kept for kept in plan.kept_columns if kept.resolved.is_recursive]]
    groups += [plan.reading(late) for late in plan.all_late_parents]
    for edge in plan.edges:
        steps = [Step(edge, event).kept_columns for event in edge.events]
        groups += steps
        groups += [[kept for kept in step if kept.strategy is Strategy.EXTREMUM] for step in steps]
        groups += [[kept for kept in step if not kept.is_added] for step in steps]
    return ([kept.column for kept in group] for group in groups)


def waited_for(kept_columns: Iterable[KeptColumn]) -> list[Hop]:
    """Return the hops to rows that may be there before their target."""
    hops = [source.path[0] for kept in kept_columns for source in kept.resolved.sources if source.path]
    return [hop for hop in dict.fromkeys(hops) if hop.near_is_unique]


def by_key(plan: Plan) -> dict[tuple[str, ...], list[KeptColumn]]:
    """Return the kept columns by the columns of the target that other rows point at."""
    groups: dict[tuple[str, ...], list[KeptColumn]] = {}
    for kept in plan.kept_columns:
        columns = tuple(sorted({column.name for hop in waited_for([kept]) for column in hop.near}))
        if columns:
            groups.setdefault(columns, []).append(kept)
    return groups


def recompute_name(plan: Plan, atom: Atom) -> str:
    """Return the name of the function that writes the full values of an atom."""
    return object_name("tk_", (plan.target, "recompute"), (plan.target, "recompute", *(kept.column for kept in atom)))


def recompute(plan: Plan, kept_columns: Iterable[KeptColumn], *arrays: str, is_loop: bool = False) -> list[str]:
    """Return the statements that compute some columns afresh; ``arrays`` hold the primary keys of locked targets.

    ``is_loop`` says that the loop over the levels of a tree does.
    """
    return [f"PERFORM {_call(plan, atom, arrays, is_loop)};" for atom in _chosen(plan, kept_columns)]


def is_recursive(atom: Atom) -> bool:
    """Whether an atom is computed level by level: its function is told whether the loop over these calls it."""
    return any(kept.resolved.is_recursive for kept in atom)


def recompute_rows(plan: Plan, kept_columns: Iterable[KeptColumn], rows: str) -> list[str]:
    """Return the statements that compute some columns afresh, for the targets of a FROM item with the alias ``this``.

    The rows of the item have the columns of the target's primary key.
    """
    arrays = [f"array_agg({column})" for column in Key(plan.key).of("this")]
    return [f"PERFORM {_call(plan, atom, arrays)} FROM {rows};" for atom in _chosen(plan, kept_columns)]


def _call(plan: Plan, atom: Atom, arrays: Iterable[str], is_loop: bool = False) -> str:
    loop = [str(is_loop).lower()] if is_recursive(atom) else []
    return call(recompute_name(plan, atom), *arrays, *loop)


def _chosen(plan: Plan, kept_columns: Iterable[KeptColumn]) -> list[Atom]:
    names = {kept.column for kept in kept_columns}
    return [atom for atom in atoms(plan) if names & {kept.column for kept in atom}]
