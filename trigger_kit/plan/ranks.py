"""PLAN, ranks: how deep a target lies under the rules that read it.

At the end of a transaction, targets are written in the order of their ranks, sources before what is computed from them.
Within a statement, the steps of one table take their turns in the same order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

__all__ = ["ranks", "turns"]


def ranks(sources: dict[str, list[str]]) -> dict[str, int]:
    """Return each target's rank: one more than the highest rank among the targets that it reads, directly or not.

    Targets that read each other have one rank. Two processes must find the same ranks, so that nothing here follows the
    order of a set; and a rank says how deep a target lies, so that no other target's name can change it.
    """
    reached = {table: _reached(table, sources) for table in sources}
    return _depths(sources, reached)


def turns(sources: dict[str, list[str]]) -> dict[str, dict[str, int]]:
    """Return, for each target and each table that it reads, after how many others its steps have their turn there.

    They come after those of the targets that it reads itself. Else a statement would hold rows of the target when it
    asks for rows that whoever writes these directly holds when asking for the target's: a deadlock. Most have turn 0;
    only a target that reads another one, both over one table, is given a turn.
    """
    reached = {table: _reached(table, sources) for table in sources}
    found: dict[str, dict[str, int]] = {table: {} for table in sources}
    for source in dict.fromkeys(name for names in sources.values() for name in names):
        readers = [table for table in sources if source in sources[table]]
        for table, depth in _depths(readers, reached).items():
            found[table][source] = depth - 1
    return found


def _depths(tables: Iterable[str], reached: Mapping[str, Mapping[str, None]]) -> dict[str, int]:
    """Return how deep each of some targets lies among them."""
    found: dict[str, int] = {}
    # Who reads another target, and is not read by it, reaches more than that one does: it comes later here.
    for table in sorted(tables, key=lambda name: len(reached[name])):
        below = [found[other] for other in reached[table] if other in found and table not in reached[other]]
        found[table] = 1 + max(below, default=0)
    return found


def _reached(table: str, sources: dict[str, list[str]]) -> dict[str, None]:
    """Return a target and all that it reads, over any number of other targets."""
    reached = {table: None}
    waiting = [table]
    while waiting:
        found = [source for source in sources[waiting.pop()] if source in sources and source not in reached]
        reached |= dict.fromkeys(found)
        waiting += found
    return reached
