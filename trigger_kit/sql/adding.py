"""COMPILE what ``tk_…_apply`` does with differences: it adds to locked targets, or compares with what they have.

Where a difference does not hold (``tk_recompute``), the caller computes the targets afresh.
"""

from __future__ import annotations

from trigger_kit.plan.plan import Plan, Step
from trigger_kit.sql.additions import additions, floors
from trigger_kit.sql.atoms import recompute
from trigger_kit.sql.body import DEPTH, restore_depth, set_depth, update_head
from trigger_kit.sql.changes import parts
from trigger_kit.sql.extrema import best_may_leave, extrema_of, extremum
from trigger_kit.sql.fragments import Values, values_of
from trigger_kit.sql.paths import Key
from trigger_kit.sql.text import block, quote, table_placeholder
from trigger_kit.sql.trees import outer_loops, told_apart
from trigger_kit.sql.updates import add_changes, differs, join_values, same_row, update_from, without_row, written

__all__ = ["add_to_targets", "adding_declarations", "is_floored"]

_NEVER_NEGATIVE = "-- Rows that leave before their arrival is counted: no count is negative, not even for a moment."


def adding_declarations(plan: Plan, step: Step) -> list[str]:
    """Return the variables of these statements; ``tk_found`` is the number of locked targets."""
    lines = ["tk_found bigint;", "tk_added bigint;"] if is_floored(step) else []
    lines += [f"{name} {kind};" for name, kind in _left(Key(plan.key))] if extrema_of(step) else []
    return [*lines, DEPTH, *outer_loops(plan, step.kept_columns)]


def is_floored(step: Step) -> bool:
    """Whether the UPDATE itself leaves out targets that must be recomputed: it writes all others, so that they miss."""
    return bool(floors(step, "change.{}".format)) and _only_adds(step)


def _only_adds(step: Step) -> bool:
    return all(kept.is_added for kept in step.kept_columns) and not extrema_of(step)


def _left(key: Key) -> list[tuple[str, str]]:
    """Return the arrays of the targets whose best value may have left."""
    return list(zip(_left_names(key), key.array_types(), strict=True))


def _left_names(key: Key) -> list[str]:
    return [name.replace("tk_key", "tk_left_key") for name in key.arrays]


def add_to_targets(plan: Plan, step: Step, arrays: list[str]) -> list[str]:
    """Return the statements that add to locked targets, and compare with what they have, unless that does not hold.

    ``arrays`` hold the differences, in the order of the step's parts.
    """
    pairs = zip(arrays, parts(step), strict=True)
    nan = [f"'NaN' = ANY ({array})" for array, part in pairs if part.may_be_nan]
    lines = []
    if nan:
        lines += ["-- NaN does not cancel out: no difference takes it away again."]
        lines += [f"tk_recompute := tk_recompute OR coalesce({' OR '.join(nan)}, false);"]
    if is_floored(step):
        add = [
            set_depth(),
            add_changes(plan, step, arrays),
            "GET DIAGNOSTICS tk_added = ROW_COUNT;",
            restore_depth(),
            _NEVER_NEGATIVE,
            "tk_recompute := tk_added < tk_found;",
        ]
    elif _only_adds(step):
        add = [set_depth(), add_changes(plan, step, arrays), restore_depth()]
    else:
        lines += _floor_test(step, arrays)
        add = _add_and_compare(plan, step, arrays)
    add = [without_row(plan, step.kept_columns, "\n".join(add), *Key(step.edge.key).arrays)]
    return [*lines, "IF NOT tk_recompute THEN", *map(block, add), "END IF;"]


def _change(step: Step, arrays: list[str]) -> str:
    """Return the FROM item of the changes, of the alias ``change``."""
    key = Key(step.edge.key)
    names = [*key.names, *(part.name for part in parts(step))]
    return f"unnest({', '.join([*key.arrays, *arrays])})\n    AS change ({', '.join(names)})"


def _floor_test(step: Step, arrays: list[str]) -> list[str]:
    """Return the test whether a count would be negative for a moment, which its CHECK would refuse.

    Rows leave before they have come where a trigger of the user's changes them again: inner statements report first.
    """
    conditions = floors(step, "change.{}".format)
    if not conditions:
        return []
    match = Key(step.edge.key).matches("target", "change")
    return [
        _NEVER_NEGATIVE,
        "tk_recompute := tk_recompute OR EXISTS (",
        f"    SELECT FROM {block(_change(step, arrays)).strip()}",
        f"    JOIN {table_placeholder(step.edge.target)} AS target ON {match}",
        f"    WHERE {f'{chr(10)}       OR '.join(conditions)}",
        ");",
    ]


def _add_and_compare(plan: Plan, step: Step, arrays: list[str]) -> list[str]:
    """Return the UPDATE that adds and compares, and computes the rest afresh; it writes what differs only.

    Where the best value may have left, another one is looked up afterwards.
    """
    tied = Key(step.edge.key).matches("this", "change")
    rows = f"{_change(step, arrays)}\nJOIN {table_placeholder(plan.target)} AS this ON {tied}"
    values = _other_values(step)
    settings = additions(step, "change.{}".format)
    settings += [text for number, item in enumerate(values, 1) for text in written(item, f"value_{number}")]
    differences = [f"change.{part.name} <> 0" for part in parts(step) if not part.is_compared]
    differences += [differs(item, f"value_{number}") for number, item in enumerate(values, 1)]
    source = "\n".join([rows, *join_values(values)])
    head = update_head(plan.target, step.kept_columns)
    update = update_from(head, settings, source, same_row(plan, "this"), "\nOR ".join(differences))
    lines = [told_apart(plan, step.kept_columns, "\n".join([set_depth(), update, restore_depth()]))]
    if not extrema_of(step):
        return lines
    found, left = extrema_of(step), Key(plan.key)
    leaves = "\n   OR ".join(best_may_leave(step, kept, number) for number, kept in found)
    select = ", ".join(f"array_agg({column})" for column in left.of("this"))
    names = _left_names(left)
    looked_up = recompute(plan, [kept for _, kept in found], *names)
    return [
        f"SELECT {select} INTO {', '.join(names)}\nFROM {rows}\nWHERE {leaves};",
        *lines,
        f"IF {names[0]} IS NOT NULL THEN",
        *map(block, looked_up),
        "END IF;",
    ]


def _other_values(step: Step) -> list[Values]:
    """Return the values that are not sums: extrema, and what is computed afresh."""
    extrema = extrema_of(step)
    values = []
    if extrema:
        selected = ",\n".join(f"{extremum(step, kept, n)} AS {quote(kept.column)}" for n, kept in extrema)
        values.append(Values(f"SELECT\n{block(selected)}", tuple(kept for _, kept in extrema)))
    return values + values_of([kept for kept in step.kept_columns if not kept.is_added], "this")
