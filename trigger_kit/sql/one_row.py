"""COMPILE the lean path: most statements change one row, of one target or, where it moves, of two.

The row is in variables (``changed_row.py``); one UPDATE writes what it changes, in both targets where it moves. Nothing
is gathered or sorted. What one UPDATE cannot do is left to what follows.
"""

from __future__ import annotations

from trigger_kit.plan.kept_columns import may_break_a_check
from trigger_kit.plan.plan import Event, Plan, Step
from trigger_kit.sql.additions import additions, floors, unless
from trigger_kit.sql.appending import append, has_purged, may_follow_a_cascade
from trigger_kit.sql.body import DEPTH, restore_depth, set_depth, update_head
from trigger_kit.sql.changed_row import (
    climbs,
    counts_alone,
    counts_for,
    feed_of,
    hold_values,
    is_nothing,
    key_variable,
    read_row,
    row_values,
    sides,
    unchanged,
)
from trigger_kit.sql.changes import Kind, Part, changed_names, parts
from trigger_kit.sql.climbing import READ_COMMITTED, can_climb, climb, climb_declarations
from trigger_kit.sql.extrema import (
    best_stays,
    extrema_of,
    extremum_declarations,
    fits_variables,
    new_extrema,
    read_extrema,
)
from trigger_kit.sql.pausing import is_paused
from trigger_kit.sql.text import MAX_LINE, all_of, block, if_then, quote, table_placeholder
from trigger_kit.sql.updates import set_list

__all__ = ["has_one_row_path", "one_row", "one_row_declarations"]

_DONE = "IF tk_written > 0 THEN RETURN NULL; END IF;"
_FOUND = "IF FOUND THEN RETURN NULL; END IF;"


def has_one_row_path(plan: Plan, step: Step) -> bool:
    """Whether one row has one target, named by one of its own columns or reached over others, and is all that counts.

    A row with two foreign keys to the target has two keys. What a row behind others counts for must depend on it alone.
    What a CHECK may refuse is written by functions that catch its error, which costs a subtransaction.
    """
    feeds = step.edge.feeds_of(step.event)
    if len(feeds) != 1 or not feeds[0].is_whole or any(map(may_break_a_check, step.kept_columns)):
        return False
    hop = feeds[0].path[0]
    if not all(fits_variables(kept) and hop.near_is_unique for _, kept in extrema_of(step)):
        return False
    if len(feeds[0].path) == 1:
        return len(hop.far) == 1 and hop.content_type is None and hop.near[0].type == hop.far[0].type
    return can_climb(plan, feeds[0]) and counts_alone(step)


def one_row_declarations(step: Step) -> list[str]:
    """Return the variables of the lean path besides the states of the row."""
    if not _is_dealt_with(step):
        return ["tk_is_one boolean;"]
    key = step.edge.key[0].type
    names = ["tk_key"] if climbs(step) else ["tk_left", "tk_came"] if _may_stay(step) else []
    moves = ["tk_moves boolean;"] if _may_stay(step) else []
    written = ["tk_written bigint;"] if climbs(step) or (not step.edge.is_appended and _counts_written(step)) else []
    lines = [
        *([DEPTH] if _may_write(step) else []),
        "tk_is_one boolean;",
        *moves,
        *written,
        *(f"{name} {key};" for name in names),
    ]
    return [*lines, *climb_declarations(feed_of(step)), *extremum_declarations(step)]


def _is_dealt_with(step: Step) -> bool:
    """Whether the lean path does more than to look: one that moves far from its target is left to what follows."""
    return step.event is not Event.UPDATE or not climbs(step) or bool(_added(step) or extrema_of(step))


def _may_write(step: Step) -> bool:
    """Whether the lean path writes its target: a row that is compared and leaves changes nothing, or is left."""
    adds = any(not part.is_compared for part in parts(step))
    return not step.edge.is_appended and (adds or bool(new_extrema(step, "{number}")))


def one_row(plan: Plan, step: Step) -> str:
    """Return the statements that deal with a statement of one row, and leave all others to what follows."""
    if not _is_dealt_with(step):
        return "\n".join([read_row(step), *_unless_nothing(step)])
    dealt = _update(plan, step) if step.event is Event.UPDATE else _come_or_go(plan, step)
    conditions = ["tk_is_one", "NOT tk_recompute", *_safe(plan, step), f"NOT {is_paused(plan)}"]
    return "\n".join(
        [
            read_row(step),
            *_unless_nothing(step),
            "-- Most statements change one row: one UPDATE, nothing to gather.",
            f"IF {all_of(conditions)} THEN\n{block(dealt)}\nEND IF;",
        ]
    )


def _safe(plan: Plan, step: Step) -> list[str]:
    """Return the conditions under which one UPDATE will do.

    A sum of NaN does not cancel out. What is locked and only read must be written too at REPEATABLE READ: see locks.py.
    """
    labels = [side.label for side in sides(step)]
    nan = [part for part in parts(step) if part.may_be_nan]
    conditions = [f"{counts_for(step, part, label)} <> 'NaN'" for part in nan for label in labels]
    conditions += [READ_COMMITTED] if climbs(step) or extrema_of(step) else []
    conditions += [f"NOT {has_purged(plan)}"] if may_follow_a_cascade(step) else []
    return conditions


def _unless_nothing(step: Step) -> list[str]:
    """Return the statements that end the function where nothing has changed that a rule reads, or a row counts for."""
    held = hold_values(step)
    if step.event is Event.UPDATE:
        comment = "-- Nothing that a rule reads has changed."
        return [comment, if_then(f"tk_is_one IS NULL OR tk_is_one AND {unchanged(step)}", "RETURN NULL;"), *held]
    label = sides(step)[0].label
    tests = [f"{key_variable(step, label)} IS NULL", *([empty] if (empty := is_nothing(step, label)) else [])]
    counts = tests[0] if len(tests) == 1 else f"({' OR '.join(tests)})"
    return [*held, if_then(f"tk_is_one IS NULL OR tk_is_one AND {counts}", "RETURN NULL;")]


def _may_stay(step: Step) -> bool:
    """Whether an UPDATE may change what a row counts for without moving it: by more than its key."""
    is_moved = step.event is Event.UPDATE and not climbs(step) and not extrema_of(step)
    return is_moved and any(counts_for(step, part, "after") != "1" for part in parts(step))


# A row that comes or goes -------------------------------------------------------------------------------------------


def _come_or_go(plan: Plan, step: Step) -> str:
    label = sides(step)[0].label
    key = key_variable(step, label)
    sign = "-" if step.event is Event.DELETE else ""
    by = {part.name: f"{sign}{counts_for(step, part, label)}" for part in parts(step)}
    if climbs(step):
        return _far_target(plan, step, by, key)
    return _one_target(plan, step, by, key)


def _one_target(plan: Plan, step: Step, by: dict[str, str], key: str) -> str:
    """Return the statements that write what a row changes to its target, and end the function where they have."""
    if step.edge.is_appended:
        row = [key, *(by[part.name] for part in parts(step))]
        return _append(plan, step, [row])
    if extrema_of(step) and not _is_always_written(step):
        return _compare(plan, step, by, key)
    new = new_extrema(step, "target.{column}")
    settings = [*additions(step, by.__getitem__), *(f"{column} = {value}" for _, column, value in new)]
    lock = _lock_departure(step, by, key)
    if _counts_written(step):
        return "\n".join([*lock, *_write(step, settings, by, key), _DONE])
    set_, update, _, restore = _write(step, settings, by, key)
    return "\n".join([*lock, set_, update, restore, _FOUND])


def _counts_written(step: Step) -> bool:
    """Whether the lean path counts the targets that it writes: FOUND would do, unless a column is called that."""
    is_called_so = any(value.name == '"found"' for side in sides(step) for value in row_values(step, side))
    return step.event is Event.UPDATE or climbs(step) or bool(extrema_of(step)) or is_called_so


def _is_always_written(step: Step) -> bool:
    """Whether every row that comes is counted, so that its target is written, and locked by that, in any case."""
    return step.event is Event.INSERT and is_nothing(step, "after") is None


def _far_target(plan: Plan, step: Step, by: dict[str, str], start: str) -> str:
    """Return the statements that climb to the target and write the changes; where a row is missing, others note it."""
    lines = f"IF tk_key IS NULL THEN RETURN NULL; END IF;\n{_one_target(plan, step, by, 'tk_key')}"
    return "\n".join(
        [
            "-- Lock what the path leads over, so that it cannot change meanwhile.",
            climb(plan, feed_of(step), start),
            f"IF tk_written > 0 THEN\n{block(lines)}\nEND IF;",
        ]
    )


def _compare(plan: Plan, step: Step, by: dict[str, str], key: str) -> str:
    """Return the statements that lock the target, compare its extrema, and write it where anything changes.

    Where the best value leaves, what follows looks for another one.
    """
    new = new_extrema(step, "tk_best_{number}")
    settings = [*additions(step, by.__getitem__), *(f"{column} = tk_now_{n}" for n, column, _ in new)]
    same = _same(step, by)
    write = [if_then(all_of(same), "RETURN NULL;")] if settings and same else []
    write += [*_write(step, settings, by, key), _DONE] if settings else ["RETURN NULL;"]
    return "\n".join(
        [
            "-- Lock, then compare: a row that leaves meanwhile would take the best value with it.",
            read_extrema(step, key),
            f"IF {all_of(['tk_written > 0', *best_stays(step)])} THEN",
            block("\n".join([*(f"tk_now_{n} := {value};" for n, _, value in new), *write])),
            "END IF;",
        ]
    )


def _same(step: Step, by: dict[str, str]) -> list[str]:
    """Return the conditions under which the target stays as it is."""
    numbers = [] if step.event is Event.DELETE else [n for n, _ in extrema_of(step)]
    sums = [by[part.name] for part in parts(step) if not part.is_compared]
    if any(value.removeprefix("-") == "1" for value in sums):
        return []
    tests = [f"tk_now_{n} IS NOT DISTINCT FROM tk_best_{n}" for n in numbers]
    return tests + [f"{value} = 0" for value in sums]


# A row that stays or moves ------------------------------------------------------------------------------------------


def _update(plan: Plan, step: Step) -> str:
    """Return the statements for a row that stays under its target, leaves one, comes to one, or both.

    One that moves and has rows between itself and its target, or is compared, is left to what follows.
    """
    before, after = (key_variable(step, label) for label in ("before", "after"))
    if climbs(step) or extrema_of(step):
        by = {part.name: _more(step, part) for part in parts(step)}
        more = [f"{value} := {value} - {counts_for(step, part, 'before')};" for part, value in _added(step)]
        if climbs(step):
            nothing = if_then(_is_nothing_more(step), "RETURN NULL;")
            lines = "\n".join([*more, *([] if extrema_of(step) else [nothing]), _far_target(plan, step, by, after)])
        else:
            lines = "\n".join([*more, _one_target(plan, step, by, after)])
        return f"IF {before} = {after} THEN\n{block(lines)}\nEND IF;"
    return _move(plan, step, before, after)


def _added(step: Step) -> list[tuple[Part, str]]:
    """Return what an UPDATE may change of a row's sums, with the variables that hold it."""
    held = {counts_for(step, part, "after"): part for part in parts(step) if not part.is_compared}
    return [(part, value) for value, part in held.items() if value != "1"]


def _more(step: Step, part: Part) -> str:
    """Return what a row that stays counts for more than before."""
    value = counts_for(step, part, "after")
    return "0" if value == "1" else value


def _move(plan: Plan, step: Step, before: str, after: str) -> str:
    """Return the statements that write the targets that a row leaves and comes to, or the one that it stays under.

    Both are locked in key order, then written by one UPDATE. Between two of them the triggers of the first target,
    rules over it among them, would write further rows, in no order that others could keep to as well.
    """
    left, came = ("tk_left", "tk_came") if _may_stay(step) else (before, after)
    rows = [
        [left, *(f"-{counts_for(step, part, 'before')}" for part in parts(step))],
        [came, *(_arriving(step, part) for part in parts(step))],
    ]
    chosen = _choose_targets(step, before, after) if _may_stay(step) else []
    if step.edge.is_appended:
        return "\n".join([*chosen, _append(plan, step, rows)])
    leaving = [f"{value} < 0" for part, value in _added(step) if part.kind is Kind.ROWS]
    locks = _lock(plan, step, left, came)
    if _may_stay(step):
        locks = f"IF {' OR '.join(['tk_moves', *leaving])} THEN\n{block(locks)}\nEND IF;"
    source = f"FROM {_values(step, rows)}"
    by = {name: f"change.{name}" for name in changed_names(step)}
    match = f"target.{quote(step.edge.key[0].name)} = change.tk_key"
    return "\n".join(
        [
            *chosen,
            "-- Both targets in one UPDATE, locked in key order.",
            locks,
            *_write(step, additions(step, by.__getitem__), by, "", source, match),
            if_then(f"tk_written = num_nonnulls({left}, {came})", "RETURN NULL;"),
            "-- What one target has got already counts no more.",
            "tk_recompute := tk_written > 0;",
        ]
    )


def _arriving(step: Step, part: Part) -> str:
    """Return what a row brings to the target that it comes to; to the one that it stays under, what it counts more."""
    value = counts_for(step, part, "after")
    return "tk_moves::integer" if value == "1" and _may_stay(step) else value


def _choose_targets(step: Step, before: str, after: str) -> list[str]:
    """Return the statements that find out which targets change, and end the function where none does."""
    leaves, comes = (is_nothing(step, label) for label in ("before", "after"))
    left = f"tk_moves AND NOT ({leaves})" if leaves else "tk_moves"
    empty = _is_nothing_more(step)
    came = f"NOT ({empty})" if comes else f"tk_moves OR NOT ({empty})"
    return [
        f"tk_moves := {before} IS DISTINCT FROM {after};",
        "IF NOT tk_moves THEN",
        *(f"    {value} := {value} - {counts_for(step, part, 'before')};" for part, value in _added(step)),
        "END IF;",
        f"tk_left := CASE WHEN {left} THEN {before} END;",
        f"tk_came := CASE WHEN {came} THEN {after} END;",
        "IF num_nonnulls(tk_left, tk_came) = 0 THEN RETURN NULL; END IF;",
    ]


def _is_nothing_more(step: Step) -> str:
    """Return the condition under which all that an UPDATE may change has stayed the same."""
    return " AND ".join(f"{value} = 0" for _, value in _added(step))


# Writing ------------------------------------------------------------------------------------------------------------


def _values(step: Step, rows: list[list[str]]) -> str:
    """Return the FROM item of changes that are in variables."""
    listed = [f"({', '.join(row)})" for row in rows]
    alias = f"AS change (tk_key, {', '.join(changed_names(step))})"
    line = f"(VALUES {', '.join(listed)}) {alias}"
    return line if len(line) <= MAX_LINE else f"(VALUES\n{block((',' + chr(10)).join(listed))}\n) {alias}"


def _append(plan: Plan, step: Step, rows: list[list[str]]) -> str:
    """Return the statements that append changes that are in variables, and end the function."""
    source = _values(step, rows)
    conditions = ["change.tk_key IS NOT NULL"] if len(rows) > 1 else []
    return f"{append(plan, step, source, *conditions, is_sure=True)}\nRETURN NULL;"


def _write(
    step: Step, settings: list[str], by: dict[str, str], key: str, source: str = "", match: str = ""
) -> list[str]:
    """Return the statements that write targets and count these; a count that would be negative is left out."""
    match = match or f"target.{quote(step.edge.key[0].name)} = {key}"
    where = f"WHERE {unless(match, floors(step, by.__getitem__))};"
    head = update_head(step.edge.target, step.kept_columns)
    update = "\n".join([head, set_list(settings), *([source] if source else []), where])
    return [set_depth(), update, "GET DIAGNOSTICS tk_written = ROW_COUNT;", restore_depth()]


def _lock(plan: Plan, step: Step, *keys: str) -> str:
    """Return the statement that locks the targets of some keys."""
    table, key = table_placeholder(step.edge.target), quote(step.edge.key[0].name)
    order = ", ".join(f"locked.{quote(name)}" for name in plan.key_columns)
    wanted = f"WHERE locked.{key} = ANY (ARRAY[{', '.join(keys)}]) ORDER BY {order} FOR NO KEY UPDATE;"
    return f"PERFORM FROM {table} AS locked\n{wanted}"


def _lock_departure(step: Step, by: dict[str, str], key: str) -> list[str]:
    """Return the lock of a departure, after which the UPDATE looks whether rows are left."""
    if step.event is Event.INSERT:
        return []
    leaving = [f"{by[part.name]} < 0" for part in parts(step) if part.kind is Kind.ROWS]
    if not leaving:
        return []
    table, column = table_placeholder(step.edge.target), quote(step.edge.key[0].name)
    lock = f"PERFORM FROM {table} AS locked WHERE locked.{column} = {key} FOR NO KEY UPDATE;"
    return [
        "-- Rows leave: lock, then look whether some are left.",
        f"IF {' OR '.join(leaving)} THEN\n{block(lock)}\nEND IF;",
    ]
