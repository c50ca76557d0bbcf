"""COMPILE the lean path: most statements change one row, of one target or, where it moves, of two.

The row is in variables (``changed_row.py``); one UPDATE writes what it changes, in both targets where it moves. Nothing
is summed or sorted.
"""

from __future__ import annotations

from trigger_kit.plan.plan import Event, Plan, Step
from trigger_kit.sql.additions import additions, floors, unless
from trigger_kit.sql.appending import append_rows, has_purged, may_follow_a_cascade
from trigger_kit.sql.body import restore_depth, set_depth, update_head
from trigger_kit.sql.changed_row import (
    climbs,
    counts,
    counts_alone,
    counts_for,
    feed_of,
    held_value,
    hold_values,
    row_key,
    with_row,
)
from trigger_kit.sql.changes import Kind, Part, changed_names, parts
from trigger_kit.sql.climbing import READ_COMMITTED, can_climb, climb, climb_declarations
from trigger_kit.sql.extrema import (
    extrema_of,
    extremum_declarations,
    fits_variables,
    keep_extrema,
    read_extrema,
)
from trigger_kit.sql.text import block, quote, table_placeholder

__all__ = ["has_one_row_path", "one_row", "one_row_declarations"]

_DONE = "IF tk_written > 0 THEN\n    RETURN NULL;\nEND IF;"


def has_one_row_path(plan: Plan, step: Step) -> bool:
    """Whether one row has one target, named by one of its own columns or reached over others, and is all that counts.

    A row with two foreign keys to the target has two keys. What a row behind others counts for must depend on it alone.
    """
    feeds = step.edge.feeds_of(step.event)
    if len(feeds) != 1 or not feeds[0].is_whole:
        return False
    hop = feeds[0].path[0]
    if not all(fits_variables(kept) and hop.near_is_unique for _, kept in extrema_of(step)):
        return False
    if len(feeds[0].path) == 1:
        return len(hop.far) == 1 and hop.content_type is None and hop.near[0].type == hop.far[0].type
    return can_climb(plan, feeds[0]) and counts_alone(step)


def one_row_declarations(step: Step) -> list[str]:
    """Return the variables of the lean path: the row's key and what it changes, named as the columns."""
    moves = step.event is Event.UPDATE and not climbs(step)
    booleans = ["tk_is_one", *(["tk_leaves", "tk_comes"] if moves else [])]
    lines = [*(f"{name} boolean;" for name in booleans), "tk_written bigint;", f"tk_key {step.edge.key[0].type};"]
    changed = [f"{part.name} {part.type};" for part in parts(step)]
    return [*lines, *climb_declarations(feed_of(step)), *extremum_declarations(step), *changed]


def one_row(plan: Plan, step: Step) -> str:
    """Return the statements that deal with a statement of one row, and leave all others to what follows."""
    dealt = _update(plan, step) if step.event is Event.UPDATE else _come_or_go(plan, step)
    comment = "-- Most statements change one row: nothing to sum, one UPDATE per target."
    # What is locked and only read must be written too at REPEATABLE READ: see locks.py.
    reads = [READ_COMMITTED] if climbs(step) or extrema_of(step) else []
    conditions = ["NOT tk_is_paused", "NOT tk_recompute", *reads]
    return f"{comment}\nIF {' AND '.join(conditions)} THEN\n{block(with_row(step, dealt))}\nEND IF;"


# What a row changes -------------------------------------------------------------------------------------------------


def _leaves(before: dict[Part, str]) -> dict[Part, str]:
    """Return the changes of a target that a row leaves."""
    return {part: _gone(part, value) for part, value in before.items()}


def _gone(part: Part, value: str) -> str:
    if part.is_compared:
        return value if part.kind is Kind.LEFT else "NULL"
    return f"-{value}"


def _comes(after: dict[Part, str]) -> dict[Part, str]:
    """Return the changes of a target that a row comes to."""
    return {part: "NULL" if part.is_compared and part.kind is Kind.LEFT else value for part, value in after.items()}


def _stays(before: dict[Part, str], after: dict[Part, str]) -> dict[Part, str]:
    """Return the changes of a target that a row stays under."""
    return {part: _difference(part, before[part], after[part]) for part in before}


def _difference(part: Part, before: str, after: str) -> str:
    if part.is_compared:
        value = before if part.kind is Kind.LEFT else after
        return f"CASE WHEN {before} IS DISTINCT FROM {after} THEN {value} END"
    return "0" if after == before else f"{after} - {before}"


def _assign(deltas: dict[Part, str], key: str = "") -> str:
    """Return the statements that set the changes of one target, and its key."""
    lines = [f"delta.{part.name} := {delta};" for part, delta in deltas.items()]
    return "\n".join([*([f"tk_key := {key};"] if key else []), *lines])


# Writing ------------------------------------------------------------------------------------------------------------


def _come_or_go(plan: Plan, step: Step) -> str:
    """Return the statements for a row that comes or goes."""
    label, change = ("after", _comes) if step.event is Event.INSERT else ("before", _leaves)
    deltas = change({part: counts_for(step, part, label) for part in parts(step)})
    key = f"{label}.{quote(row_key(step).name)}"
    if climbs(step):
        return f"{_assign(deltas)}\n{_far_target(plan, step, deltas, key)}"
    return f"{_assign(deltas, key)}\n{_one_target(plan, step, deltas)}"


def _one_target(plan: Plan, step: Step, deltas: dict[Part, str]) -> str:
    """Return the statements that write the changes to their target."""
    return f"{_unless_nothing(deltas, 'tk_key')}\n{_write(plan, step)}\n{_DONE}"


def _far_target(plan: Plan, step: Step, deltas: dict[Part, str], key: str) -> str:
    """Return the statements that climb to the target and write the changes; where a row is missing, others note it."""
    return "\n".join(
        [
            _unless_nothing(deltas, key),
            "-- Lock what the path leads over, so that it cannot change meanwhile.",
            climb(plan, feed_of(step), key),
            "IF tk_written > 0 THEN",
            block(f"IF tk_key IS NULL THEN\n    RETURN NULL;\nEND IF;\n{_write(plan, step)}\n{_DONE}"),
            "END IF;",
        ]
    )


def _update(plan: Plan, step: Step) -> str:
    """Return the statements for a row that stays under its target, leaves one, comes to one, or both.

    One that moves and has rows between itself and its target, or is compared, is left to what follows.
    """
    before, after = (f"{label}.{quote(row_key(step).name)}" for label in ("before", "after"))
    was, now = ({part: held_value(step, part, label) for part in parts(step)} for label in ("before", "after"))
    stays = _stays(was, now)
    if climbs(step):
        lines = [*hold_values(step), _assign(stays), _far_target(plan, step, stays, after)]
        return f"IF {before} IS NOT DISTINCT FROM {after} THEN\n{block(chr(10).join(lines))}\nEND IF;"
    one_target = [
        "IF tk_leaves THEN",
        block(_assign(_leaves(was), before)),
        "ELSIF tk_comes THEN",
        block(_assign(_comes(now), after)),
        f"ELSIF {before} = {after} THEN",
        block(_assign(stays, after)),
        "END IF;",
        _one_target(plan, step, stays),
    ]
    lines = [
        *hold_values(step),
        f"tk_leaves := {before} IS DISTINCT FROM {after} AND {counts(step, 'before')};",
        f"tk_comes := {before} IS DISTINCT FROM {after} AND {counts(step, 'after')};",
    ]
    one = block("\n".join(one_target))
    if extrema_of(step):
        return "\n".join([*lines, "IF NOT tk_leaves OR NOT tk_comes THEN", one, "END IF;"])
    return "\n".join([*lines, "IF tk_leaves AND tk_comes THEN", block(_move(plan, step)), "ELSE", one, "END IF;"])


def _move(plan: Plan, step: Step) -> str:
    """Return the statements for a row that leaves one target and comes to another.

    Both are locked in key order, then written by one UPDATE. Between two of them the triggers of the first target,
    rules over it among them, would write further rows, in no order that others could keep to as well.
    """
    near, far = quote(row_key(step).name), quote(step.edge.key[0].name)
    signs = {"before": "-", "after": ""}
    rows = [
        [f"{label}.{near}", *(f"{sign}{held_value(step, part, label)}" for part in parts(step))]
        for label, sign in signs.items()
    ]
    safe = [f"{held_value(step, part, label)} <> 'NaN'" for label in signs for part in _may_be_nan(step)]
    if step.edge.is_queued or step.edge.is_deferred:
        safe += [f"NOT {has_purged(plan)}"] if may_follow_a_cascade(step) else []
        return _if_safe(safe, f"{append_rows(plan, step, rows)}\nRETURN NULL;")
    values = block(",\n".join(f"({', '.join(row)})" for row in rows), 2)
    source = f"FROM (\n    VALUES\n{values}\n) AS change (tk_key, {', '.join(changed_names(step))})\n"
    order = ", ".join(f"locked.{quote(name)}" for name in plan.key_columns)
    lines = [
        "-- Both targets in one UPDATE, locked in key order: what follows from one of them comes after both.",
        _lock(step, f"= ANY (ARRAY[before.{near}, after.{near}])\nORDER BY {order}"),
        *_update_target(step, additions(step, "change.{}"), source, f"target.{far} = change.tk_key", "change.{}"),
        "IF tk_written = 2 THEN\n    RETURN NULL;\nEND IF;",
        "-- What one target has got already counts no more.",
        "tk_recompute := tk_written = 1;",
    ]
    return _if_safe(safe, "\n".join(lines))


def _unless_nothing(deltas: dict[Part, str], key: str) -> str:
    """Return the statement that ends the function where no target changes."""
    is_counted = any(delta.removeprefix("-") == "1" for delta in deltas.values())
    unchanged = "\n    AND ".join(_is_unchanged(part) for part in deltas)
    is_nothing = f"{key} IS NULL" if is_counted else f"{key} IS NULL OR (\n    {unchanged}\n)"
    return f"IF {is_nothing} THEN\n    RETURN NULL;\nEND IF;"


def _is_unchanged(part: Part) -> str:
    return f"delta.{part.name} IS NULL" if part.is_compared else f"delta.{part.name} = 0"


def _write(plan: Plan, step: Step) -> str:
    """Return the statements that write the target, or what waits for it; ``tk_written`` is 0 where they cannot.

    A count would be negative, a sum of NaN does not cancel out, or the target is not there yet.
    """
    safe = [f"delta.{part.name} <> 'NaN'" for part in _may_be_nan(step)]
    if step.edge.is_queued or step.edge.is_deferred:
        safe += [f"NOT {has_purged(plan)}"] if may_follow_a_cascade(step) else []
        row = ["tk_key", *(f"delta.{part.name}" for part in parts(step))]
        return _if_safe(safe, f"{append_rows(plan, step, [row])}\ntk_written := 1;", "tk_written := 0;")
    added = additions(step, "delta.{}")
    lines = [*_lock_departure(step), *_update_target(step, added, "", _match(step), "delta.{}")]
    if extrema_of(step):
        compared = " OR ".join(f"delta.{part.name} IS NOT NULL" for part in parts(step) if part.is_compared)
        only_added = ["ELSE", block("\n".join(lines)), "END IF;"]
        lines = [f"IF {compared} THEN", block(_compare(plan, step)), *only_added] if added else [_compare(plan, step)]
    return _if_safe(safe, "\n".join(lines), "tk_written := 0;")


def _compare(plan: Plan, step: Step) -> str:
    """Return the statements that lock the target, compare its extrema, and write it where anything changes."""
    found = extrema_of(step)
    same = [f"tk_now_{n} IS NOT DISTINCT FROM tk_best_{n}" for n, _ in found]
    same += [_is_unchanged(part) for part in parts(step) if not part.is_compared]
    settings = [*additions(step, "delta.{}"), *(f"{quote(kept.column)} = tk_now_{n}" for n, kept in found)]
    lines = [
        keep_extrema(plan, step),
        f"IF {f'{chr(10)}   AND '.join(same)}\nTHEN\n    RETURN NULL;\nEND IF;",
        *_update_target(step, settings, "", _match(step), "delta.{}"),
    ]
    return f"{read_extrema(step)}\nIF tk_written > 0 THEN\n{block(chr(10).join(lines))}\nEND IF;"


def _match(step: Step) -> str:
    return f"target.{quote(step.edge.key[0].name)} = tk_key"


def _may_be_nan(step: Step) -> list[Part]:
    """Return the parts that are sums of what may be NaN."""
    return [part for part in parts(step) if part.kind is Kind.SUM and part.kept is not None and part.kept.may_be_nan]


def _update_target(step: Step, settings: list[str], source: str, match: str, template: str) -> list[str]:
    """Return the statements that write targets and count these."""
    where = f"WHERE {unless(match, floors(step, template))};"
    head = update_head(step.edge.target, step.kept_columns)
    update = f"{head}\nSET\n{block(f',{chr(10)}'.join(settings))}\n{source}{where}"
    return [set_depth(), update, "GET DIAGNOSTICS tk_written = ROW_COUNT;", restore_depth()]


def _lock(step: Step, wanted: str) -> str:
    """Return the statement that locks the targets whose key is what is wanted."""
    table, key = table_placeholder(step.edge.target), quote(step.edge.key[0].name)
    return f"PERFORM\nFROM {table} AS locked\nWHERE locked.{key} {wanted}\nFOR NO KEY UPDATE;"


def _lock_departure(step: Step) -> list[str]:
    """Return the lock of a departure, after which the UPDATE looks whether rows are left."""
    leaving = [f"delta.{part.name} < 0" for part in parts(step) if part.kind is Kind.ROWS]
    if step.event is Event.INSERT or not leaving:
        return []
    comment = "-- Rows leave: lock, then look whether some are left."
    return [comment, f"IF {' OR '.join(leaving)} THEN", block(_lock(step, "= tk_key")), "END IF;"]


def _if_safe(conditions: list[str], statements: str, otherwise: str = "") -> str:
    if not conditions:
        return statements
    other = f"ELSE\n{block(otherwise)}\n" if otherwise else ""
    return f"IF {' AND '.join(conditions)} THEN\n{block(statements)}\n{other}END IF;"
