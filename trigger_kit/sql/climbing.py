"""COMPILE the climb from one changed row to its target, over rows that point on: a lock and a look per row in between.

What many rows do in three statements per level, in key order (lock, look for what is missing, join), one row does in
one: the lock returns the row as it is once it is held. The order of the levels is the same, from the changed row on.
"""

from __future__ import annotations

from collections.abc import Sequence

from trigger_kit.plan.plan import Feed, Plan
from trigger_kit.resolve.columns import Path, is_comparable
from trigger_kit.sql.paths import row_name
from trigger_kit.sql.text import block, quote, table_placeholder

__all__ = ["READ_COMMITTED", "can_climb", "climb", "climb_declarations"]

# At REPEATABLE READ what is locked must be written too: see locks.py.
READ_COMMITTED = "current_setting('transaction_isolation') <> 'repeatable read'"


def can_climb(plan: Plan, feed: Feed) -> bool:
    """Whether a row at the end of a feed's path has one target, which it reaches by the foreign keys of rows.

    Nothing but these rows is to be locked on the way.
    """
    path = feed.path
    hops_are_plain = all(
        hop.child == "far"
        and hop.near_is_unique
        and len(hop.far) == 1
        and hop.content_type is None
        and is_comparable(hop.near[0].type, hop.far[0].type)
        for hop in path
    )
    locked = [(lock.start, lock.level) for lock in plan.path_locks(path, feed.kept_columns)]
    wanted = [(len(path), level) for level in _levels(path)]
    return hops_are_plain and locked == wanted and not plan.links(path, feed.kept_columns)


def _levels(path: Path) -> Sequence[int]:
    """Return the levels between the changed row and the target, in the order in which they are locked."""
    return range(len(path) - 1, 0, -1)


def climb_declarations(feed: Feed) -> list[str]:
    """Return the variables of a climb: what each row in between names the next one by."""
    path = feed.path
    return [f"tk_{row_name(path, level)} {path[level - 1].far[0].type};" for level in _levels(path) if level > 1]


def climb(plan: Plan, feed: Feed, start: str) -> str:
    """Return the statements that set ``tk_key`` to the target's key; ``tk_written`` is 0 where a row is missing.

    FOUND would say so as well, unless a column is called that.
    """
    locks = {lock.level: lock for lock in plan.path_locks(feed.path, feed.kept_columns)}
    text, named = "", {len(feed.path): start}
    for level in _levels(feed.path):
        row, nearer, farther = row_name(feed.path, level), feed.path[level - 1], feed.path[level]
        into = "tk_key" if level == 1 else f"tk_{row}"
        named[level] = into
        look = (
            f"SELECT {row}.{quote(nearer.far[0].name)}\nINTO {into}\n"
            f"FROM {table_placeholder(nearer.table)} AS {row}\n"
            f"WHERE {row}.{quote(farther.near[0].name)} = {named[level + 1]}\n{locks[level].strength.value};\n"
            "GET DIAGNOSTICS tk_written = ROW_COUNT;"
        )
        text = look if not text else f"{text}\nIF tk_written > 0 THEN\n{block(look)}\nEND IF;"
    return text
