"""PLAN, ranks: how deep a target lies under the rules that read it.

At the end of a transaction, targets are written in the order of their ranks, sources before what is computed from them.
"""

from __future__ import annotations

__all__ = ["ranks"]


def ranks(sources: dict[str, list[str]]) -> dict[str, int]:
    """Return each target's rank: one more than the highest rank among the targets that it reads, directly or not.

    Targets that read each other have one rank. Two processes must find the same ranks, so that nothing here follows the
    order of a set; and a rank says how deep a target lies, so that no other target's name can change it.
    """
    reached = {table: _reached(table, sources) for table in sources}
    found: dict[str, int] = {}
    # Who reads another target, and is not read by it, reaches more than that one does: it comes later here.
    for table in sorted(reached, key=lambda name: len(reached[name])):
        below = [found[other] for other in reached[table] if table not in reached[other]]
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
