"""COMPILE the steps of an edge: statement-level functions that bring the touched targets up to date.

One function per event. It makes one change per target out of what the statement changed, leaves out targets that do
not change, and updates the rest: a single one directly, several after locking them in key order. It recomputes
instead of adding where a delta cannot be trusted (see ``tk_recompute`` below).
"""

from __future__ import annotations

import pgtrigger

from trigger_kit.plan.kept_columns import Strategy
from trigger_kit.plan.plan import Event, Plan, Step
from trigger_kit.rules import Timing
from trigger_kit.sql.additions import additions, floors
from trigger_kit.sql.appending import append, append_keys
from trigger_kit.sql.body import (
    DEPTH,
    FILLED,
    PLANS,
    begin,
    header,
    locking_test,
    restore_depth,
    restore_plans,
    set_depth,
    set_mark,
    set_plans,
    update_head,
)
from trigger_kit.sql.changes import changed_names, changed_rows, collect_changes, parts, touched
from trigger_kit.sql.extrema import extrema_of, extremum
from trigger_kit.sql.fragments import Values, values_of
from trigger_kit.sql.helpers import apply_changes, is_applied
from trigger_kit.sql.locks import lock_paths, lock_targets
from trigger_kit.sql.marks import mark_test
from trigger_kit.sql.notes import arrive, is_noted, note_missing, note_missing_keys, take_links
from trigger_kit.sql.one_row import has_one_row_path, one_row, one_row_declarations
from trigger_kit.sql.paths import Key
from trigger_kit.sql.pausing import is_paused, note_touched
from trigger_kit.sql.text import block, object_name, quote, table_placeholder
from trigger_kit.sql.trees import recursive_body
from trigger_kit.sql.trigger import CompiledTrigger, render
from trigger_kit.sql.truncate import truncate_body
from trigger_kit.sql.updates import add_changes, differs, join_values, refill, same_row, update_from, written

__all__ = ["compile_step"]

_REFERENCING = {
    Event.INSERT: "REFERENCING NEW TABLE AS new_rows",
    Event.UPDATE: "REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows",
    Event.DELETE: "REFERENCING OLD TABLE AS old_rows",
}
_OPERATION = {
    Event.INSERT: pgtrigger.Insert,
    Event.UPDATE: pgtrigger.Update,
    Event.DELETE: pgtrigger.Delete,
    Event.TRUNCATE: pgtrigger.Truncate,
}


def compile_step(plan: Plan, step: Step) -> CompiledTrigger:
    """Compile one step into its trigger."""
    edge, event = step.edge, step.event
    body = _compile_body(plan, step)
    clauses = [f"FOR EACH {pgtrigger.Statement}"]
    if event in _REFERENCING:
        clauses.insert(0, _REFERENCING[event])
    return render(
        name=_name(plan, step),
        on=edge.source,
        owner=edge.target,
        body=body,
        when=pgtrigger.After,
        operation=_OPERATION[event],
        clauses=clauses,
        can_pause=event is not Event.TRUNCATE,
    )


def _name(plan: Plan, step: Step) -> str:
    """Return the name of a step's trigger and function; edges of other timings have one of their own.

    ``along`` sorts before ``from``: in a circle of a tree, the former stops with an error, the latter goes on for ever.
    A tilde sorts behind all letters: steps of one event run in the order of their names, and some must have their turn
    after those of other targets.
    """
    edge, event = step.edge, step.event.value
    kind = "along" if edge.is_recursive else "from"
    identity = [edge.source, edge.target, *(column.name for column in edge.key), event]
    if edge.timing is not Timing.IMMEDIATE:
        kind = kind if edge.is_added else "afresh_from"
        identity += [edge.timing.value, kind]
    prefix = "tk_" + "~" * plan.turns.get(edge.source, 0)
    return object_name(prefix, (edge.target, kind, edge.source, event), identity)


def _compile_body(plan: Plan, step: Step) -> str:
    if step.event is Event.TRUNCATE:
        return truncate_body(plan, step)
    return recursive_body(plan, step) if step.edge.is_recursive else _body(plan, step)


def _body(plan: Plan, step: Step) -> str:
    edge, one = step.edge, has_one_row_path(plan, step)
    adds = any(kept.is_added for kept in step.kept_columns)
    # A step that only notes what has changed, or hands it on, writes no target.
    writes = one or not is_applied(edge)
    declarations = [is_paused(plan), *([DEPTH] if writes and not edge.is_deferred else [])]
    declarations += ["tk_recompute boolean := false;"] if adds else []
    declarations += one_row_declarations(step) if one else []
    lines = [
        header(plan, _sentence(step), step.kept_columns),
        "<<delta>>",
        "DECLARE",
        block("\n".join(declarations)),
        begin(edge.source),
        *([block(locking_test()) + "\n"] if step.event is Event.UPDATE and lock_paths(plan, step) else []),
    ]
    if adds:
        lines += [block(mark_test(plan, step.event)), ""]
    if one:
        lines += [block(one_row(plan, step)), ""]
    many_rows = _handed_on if is_applied(edge) else _many_rows
    return "\n".join([*lines, block(many_rows(plan, step)), "END;"])


def _sentence(step: Step) -> str:
    edge = step.edge
    keys = ", ".join(column.name for column in edge.key)
    verbs = "add the difference to" if step.strategies == (Strategy.DELTA,) else "bring up to date"
    if edge.is_deferred:
        verbs = "note for the commit what changes in"
    elif edge.is_queued:
        verbs = "append to the queue what changes in"
    return f"After {step.event.name} on {edge.source}: {verbs} {edge.target} (by {keys})."


# Many rows ----------------------------------------------------------------------------------------------------------


def _many_rows(plan: Plan, step: Step) -> str:
    """Return the block that makes one change per target and writes the targets in key order."""
    key = Key(step.edge.key)
    declarations = [*key.declarations(), *(f"{part.name} {part.type}[];" for part in parts(step)), PLANS]
    is_counted = not step.edge.is_deferred and (note_missing_keys(plan, step, counted=True) or _is_floored(step))
    declarations += ["tk_found bigint;"] if is_counted else []
    declarations += ["tk_added bigint;"] if _is_floored(step) else []
    before = _before(plan, step)
    return "\n".join(
        [
            "<<deltas>>",
            "DECLARE",
            block("\n".join(declarations)),
            "BEGIN",
            block(set_plans()),
            *([block("\n".join(before)), ""] if before else []),
            block(note_touched(plan, step, restore_plans())),
            "",
            block(_collect(step)),
            "",
            f"    IF {key.arrays[0]} IS NULL THEN",
            block(restore_plans(), 2),
            "        RETURN NULL;",
            "    END IF;",
            "",
            block(_apply(plan, step)),
            block(restore_plans()),
            block("RETURN NULL;"),
            "END;",
        ]
    )


def _handed_on(plan: Plan, step: Step) -> str:
    """Return the block that makes one change per target, and hands them to the function that writes the target."""
    key = Key(step.edge.key)
    before = _before(plan, step)
    is_alone = not before and all(feed.is_plain for feed in step.edge.feeds_of(step.event))
    declarations = [*key.declarations(), *(f"{part.name} {part.type}[];" for part in parts(step))]
    lines = [*before, "", _collect(step)] if before else [_collect(step)]
    if not is_alone:
        # What joins other tables goes by their indexes.
        declarations.append(PLANS)
        lines = [set_plans(), *lines, restore_plans()]
    return "\n".join(
        [
            "<<deltas>>",
            "DECLARE",
            block("\n".join(declarations)),
            "BEGIN",
            block("\n".join(lines)),
            block(apply_changes(plan, step, "deltas")),
            block("RETURN NULL;"),
            "END;",
        ]
    )


def _before(plan: Plan, step: Step) -> list[str]:
    """Return the statements after which what the changed rows lead to stays as it is; those that wait come first."""
    waits, notes = _notes(plan, step, waits=True), _notes(plan, step, waits=False)
    return [*_links(plan, step), *_arrivals(plan, step), *waits, *lock_paths(plan, step), *notes]


def _links(plan: Plan, step: Step) -> list[str]:
    """Return the statements by which rows that only have equal values wait for each other."""
    feeds = step.edge.feeds_of(step.event)
    return list(dict.fromkeys(line for feed in feeds for line in take_links(plan, feed.path, feed.kept_columns)))


def _arrivals(plan: Plan, step: Step) -> list[str]:
    """Return the statements that hold up those who have missed one of the rows that this step reports."""
    if step.event not in {Event.INSERT, Event.UPDATE}:
        return []
    reported = {feed.path for feed in step.edge.feeds_of(step.event) if feed.path}
    return arrive(plan, (late for late in plan.all_late_parents if late.path in reported))


def _notes(plan: Plan, step: Step, *, waits: bool) -> list[str]:
    """Return the statements for rows which the changed ones point at and which are not there: waits, or notes.

    Waits come before any lock. Missing targets are noted when they are locked.
    """
    notes = []
    for feed in step.edge.feeds_of(step.event):
        for late in plan.late_parents(feed.path, feed.kept_columns):
            is_meant = not late.is_constrained if waits else late.is_constrained and late.path
            if is_meant and is_noted(late, step.event):
                is_signed = step.event is Event.UPDATE and not feed.is_own and late.is_constrained
                conditions = ["child.tk_sign = 1"] if is_signed else []
                note = note_missing(plan, late, changed_rows(feed, step), *conditions)
                # What is appended waits for its target; the rest see _recompute_now().
                is_appended = step.edge.is_queued and not late.path
                notes.append(f"IF tk_is_paused THEN\n{block(note)}\nEND IF;" if is_appended else note)
    return list(dict.fromkeys(notes))


def _collect(step: Step) -> str:
    """Return the statements that fill the arrays: keys and parts, or keys alone where all is recomputed."""
    if not any(kept.is_added for kept in step.kept_columns):
        return collect_changes(step)
    lines = ["IF tk_recompute THEN", block(_collect_keys(step)), "ELSE", block(collect_changes(step))]
    nan = [f"'NaN' = ANY (deltas.{quote(kept.column)})" for kept in step.aggregates if kept.is_sum and kept.may_be_nan]
    if nan:
        lines += [
            "    -- NaN does not cancel out: no delta takes it away again.",
            f"    tk_recompute := coalesce({' OR '.join(nan)}, false);",
        ]
    return "\n".join([*lines, "END IF;"])


def _collect_keys(step: Step) -> str:
    key = Key(step.edge.key)
    order = ", ".join(f"touched.{name}" for name in key.names)
    selected = ", ".join(f"array_agg(touched.{name} ORDER BY {order})" for name in key.names)
    return (
        f"SELECT {selected}\n"
        f"INTO {', '.join(key.arrays)}\n"
        f"FROM (\n{block(touched(step))}\n) AS touched\n"
        f"WHERE {key.present('touched')};"
    )


def _apply(plan: Plan, step: Step) -> str:
    """Return the statements that lock the targets, all in one order, and write them; or that let them wait."""
    if step.edge.is_deferred:
        if not step.edge.is_added:
            return append(plan, step)
        keys, changes = append_keys(plan, step), append(plan, step)
        return f"IF tk_recompute THEN\n{block(keys)}\nELSE\n{block(changes)}\nEND IF;"
    if step.edge.is_queued:
        changes = block(append(plan, step))
        return f"IF NOT tk_recompute THEN\n{changes}\nELSE\n{block(_recompute_now(plan, step))}\nEND IF;"
    notes = note_missing_keys(plan, step, counted=True)
    too_early = floors(step, "change.{}")
    lines = [lock_targets(plan, step, counted=bool(notes) or _is_floored(step)), *notes, ""]
    if too_early and not _is_floored(step):
        lines += [_floor_test(step, too_early), ""]
    lines += [set_depth()]
    if not any(kept.is_added for kept in step.kept_columns):
        # A full value of what others add to.
        lines += [set_mark(plan, FILLED)] if any(kept not in plan.kept_columns for kept in step.kept_columns) else []
        return "\n".join([*lines, _recompute(plan, step), restore_depth()])
    added = [
        "IF NOT tk_recompute THEN",
        block(_add(plan, step)),
        *([block(_floored())] if _is_floored(step) else []),
        "END IF;",
        "IF tk_recompute THEN",
        f"    {set_mark(plan, FILLED)}",
        block(_recompute(plan, step)),
        "END IF;",
    ]
    return "\n".join([*lines, *added, restore_depth()])


def _is_floored(step: Step) -> bool:
    """Whether the UPDATE itself leaves out targets that must be recomputed: it writes all others, so that they miss."""
    waits = step.edge.is_deferred or step.edge.is_queued
    return bool(floors(step, "change.{}")) and step.strategies == (Strategy.DELTA,) and not waits


def _floored() -> str:
    return "\n".join(
        [
            "GET DIAGNOSTICS tk_added = ROW_COUNT;",
            "-- Rows that leave before their arrival is counted: no count is negative, not even for a moment.",
            "tk_recompute := tk_added < tk_found;",
        ]
    )


def _recompute_now(plan: Plan, step: Step) -> str:
    """Return the statements that write the full values of queued columns, less what is pending: no delta is right."""
    waits = [
        note_missing(plan, late, changed_rows(feed, step))
        for feed in step.edge.feeds_of(step.event)
        for late in plan.late_parents(feed.path, feed.kept_columns)
        if not late.path and not late.is_constrained and is_noted(late, step.event)
    ]
    notes = note_missing_keys(plan, step, counted=True)
    return "\n".join(
        [
            "-- No delta is right here: write what is true, less what is pending.",
            *dict.fromkeys(waits),
            lock_targets(plan, step, counted=bool(notes)),
            *notes,
            set_mark(plan, FILLED),
            set_depth(),
            _recompute(plan, step),
            restore_depth(),
        ]
    )


def _floor_test(step: Step, conditions: list[str]) -> str:
    """Return the test whether a count would be negative for a moment, which its CHECK would refuse.

    Rows leave before they have come where a trigger of the user's changes them again: inner statements report first.
    """
    key = Key(step.edge.key)
    names, arrays = [*key.names, *changed_names(step)], [*key.arrays, *(f"deltas.{n}" for n in changed_names(step))]
    return "\n".join(
        [
            "-- Rows that leave before their arrival is counted: no count is negative, not even for a moment.",
            "IF NOT tk_recompute THEN",
            "    tk_recompute := EXISTS (",
            "        SELECT",
            f"        FROM unnest({', '.join(arrays)}) AS change ({', '.join(names)})",
            f"        JOIN {table_placeholder(step.edge.target)} AS target ON {key.matches('target', 'change')}",
            f"        WHERE {f'{chr(10)}           OR '.join(conditions)}",
            "    );",
            "END IF;",
        ]
    )


def _recompute(plan: Plan, step: Step) -> str:
    """Return the UPDATE that writes the full values of the locked targets."""
    return refill(plan, step.kept_columns, Key(step.edge.key).is_among("this"))


def _add(plan: Plan, step: Step) -> str:
    """Return the UPDATE that adds the changes; where other strategies take part, it writes what differs only."""
    deltas = [f"deltas.{name}" for name in changed_names(step)]
    if step.strategies == (Strategy.DELTA,):
        return add_changes(plan, step, deltas)
    names, arrays = [*Key(step.edge.key).names, *changed_names(step)], [*Key(step.edge.key).arrays, *deltas]
    change = f"unnest({', '.join(arrays)})\n    AS change ({', '.join(names)})"
    added = additions(step, "change.{}")
    values = _other_values(plan, step)
    tied = Key(step.edge.key).matches("this", "change")
    source = [f"{change}\nJOIN {table_placeholder(plan.target)} AS this ON {tied}", *join_values(values)]
    settings = [*added, *(text for number, item in enumerate(values, 1) for text in written(item, f"value_{number}"))]
    differences = [part.changed.format(f"change.{part.name}") for part in parts(step) if not part.is_compared]
    differences += [differs(item, f"value_{number}") for number, item in enumerate(values, 1)]
    head = update_head(plan.target, step.kept_columns)
    return update_from(head, settings, "\n".join(source), same_row(plan, "this"), "\nOR ".join(differences))


def _other_values(plan: Plan, step: Step) -> list[Values]:
    """Return the values that are not sums: extrema, and what is computed afresh."""
    extrema = extrema_of(step)
    values = []
    if extrema:
        selected = ",\n".join(f"{extremum(plan, step, kept, n)} AS {quote(kept.column)}" for n, kept in extrema)
        values.append(Values(f"SELECT\n{block(selected)}", tuple(kept for _, kept in extrema)))
    return values + values_of([kept for kept in step.kept_columns if not kept.is_added], "this")
