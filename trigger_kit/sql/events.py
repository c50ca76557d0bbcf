"""COMPILE the steps of an edge: statement-level functions that bring the touched targets up to date.

One function per event. It makes one change per target out of what the statement changed, leaves out targets that do
not change, and hands the rest on to the function that writes the target; that of a single row it writes itself. Targets
are recomputed where a delta cannot be trusted (``tk_recompute``).
"""

from __future__ import annotations

import pgtrigger

from trigger_kit.plan.kept_columns import Strategy
from trigger_kit.plan.plan import Event, Plan, Step
from trigger_kit.rules import Timing
from trigger_kit.sql.appending import append, may_follow_a_cascade, still_counts
from trigger_kit.sql.body import FILLED, FRESH, begin, header, is_marked, locking_test, set_mark
from trigger_kit.sql.changed_row import reads_key_only, sides, variables
from trigger_kit.sql.changes import change_rows, changed_rows, joins_onward, parts, something
from trigger_kit.sql.function import PLANS
from trigger_kit.sql.helpers import apply_changes, apply_touched
from trigger_kit.sql.locks import lock_paths
from trigger_kit.sql.notes import arrive, is_noted, note_missing, take_links
from trigger_kit.sql.one_row import has_one_row_path, one_row, one_row_declarations
from trigger_kit.sql.pausing import is_paused
from trigger_kit.sql.text import block, object_name
from trigger_kit.sql.trees import own_loop_test
from trigger_kit.sql.trigger import CompiledTrigger, render
from trigger_kit.sql.truncate import truncate_body

__all__ = ["compile_step"]

_REFERENCING = {
    Event.INSERT: pgtrigger.Referencing(new="new_rows"),
    Event.UPDATE: pgtrigger.Referencing(old="old_rows", new="new_rows"),
    Event.DELETE: pgtrigger.Referencing(old="old_rows"),
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
    return render(
        name=_name(plan, step),
        on=edge.source,
        owner=edge.target,
        body=body,
        when=pgtrigger.After,
        operation=_OPERATION[event],
        level=pgtrigger.Statement,
        referencing=_REFERENCING.get(event),
        can_pause=event is not Event.TRUNCATE,
        settings=() if event is Event.TRUNCATE or _is_alone(plan, step) else PLANS,
    )


def _is_alone(plan: Plan, step: Step) -> bool:
    """Whether a step reads nothing but what has changed: what joins other tables goes by their indexes."""
    if step.edge.is_recursive:
        return True
    return not _before(plan, step) and all(
        feed.is_own or len(feed.whole or feed.path) == 1 for feed in step.edge.feeds_of(step.event)
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
    one = not step.edge.is_recursive and has_one_row_path(plan, step)
    found = sides(step) if one and not reads_key_only(step) else []
    text = "\n".join(
        [*_tests(plan, step), *([one_row(plan, step)] if one else []), _many_rows(plan, step), "RETURN NULL;"]
    )
    for side in found[1:]:
        text = f"<<{side.label}>>\nDECLARE\n{block(chr(10).join(variables(step, side)))}\nBEGIN\n{block(text)}\nEND;"
    declarations = _declarations(plan, step, one)
    return "\n".join(
        [
            header(plan, _sentence(step), step.kept_columns),
            *([f"<<{found[0].label}>>"] if found else []),
            *(["DECLARE", block("\n".join(declarations))] if declarations else []),
            begin(step.edge.source),
            block(text),
            "END;",
        ]
    )


def _declarations(plan: Plan, step: Step, one: bool) -> list[str]:
    marks = [FILLED] if step.event is Event.INSERT else [FILLED, FRESH]
    marked = " OR ".join(is_marked(plan, mark) for mark in marks)
    lines = [f"tk_recompute boolean := {marked};"] if parts(step) else []
    if one:
        held = sides(step) if reads_key_only(step) else sides(step)[:1]
        lines += [*one_row_declarations(step), *(line for side in held for line in variables(step, side))]
    return lines


def _tests(plan: Plan, step: Step) -> list[str]:
    """Return the statements that end the function where an UPDATE is none of a writer's."""
    if step.event is not Event.UPDATE:
        return []
    is_joined = step.edge.source in plan.joined_tables
    differs = [set_mark(plan, FILLED)] if is_joined else []
    differs += ["tk_recompute := true;"] if is_joined and parts(step) else []
    is_tested = step.edge.is_recursive or is_joined or lock_paths(plan, step)
    tests = [locking_test(*differs)] if is_tested else []
    return [*tests, *([own_loop_test(step)] if step.edge.is_recursive else [])]


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
    """Return the statements that make one change per target, and hand them on or let them wait."""
    before = [] if step.edge.is_recursive else _before(plan, step)
    if not step.edge.is_appended:
        return "\n".join([*before, apply_changes(plan, step)])
    now = [is_paused(plan), *(["tk_recompute"] if step.edge.is_queued else [])]
    # NaN does not cancel out: no difference takes it away again.
    nan = [f"change.{part.name} = 'NaN'" for part in parts(step) if part.may_be_nan]
    if nan and step.edge.is_queued:
        now.append(f"EXISTS (\n    SELECT FROM {block(change_rows(step)).strip()}\n    WHERE {' OR '.join(nan)}\n)")
    return "\n".join(
        [
            *before,
            f"IF {' OR '.join(now)} THEN",
            block(apply_touched(plan, step)),
            "    RETURN NULL;",
            "END IF;",
            _appended(plan, step, nan),
        ]
    )


def _appended(plan: Plan, step: Step, nan: list[str]) -> str:
    """Return the statements that append one change per target; the commit computes some of these afresh."""
    differs = something("change.{}".format, parts(step))
    matters = f"({' OR '.join(differs)})" if len(differs) > 1 else "".join(differs)
    counted = [still_counts(plan, step)] if may_follow_a_cascade(step) else []
    if not step.edge.is_deferred or not parts(step):
        return append(plan, step, change_rows(step), *([matters] if matters else []), *counted)
    if joins_onward(step):
        # What is farther from the target may be gone in this very statement.
        touched = append(plan, step, change_rows(step, keys_only=True), keys_only=True)
        changed = append(plan, step, change_rows(step), matters, *counted, afresh=" OR ".join(nan))
        return f"IF tk_recompute THEN\n{block(touched)}\nELSE\n{block(changed)}\nEND IF;"
    matters = f"({' OR '.join(['tk_recompute', *differs])})"
    return append(plan, step, change_rows(step), matters, *counted, afresh=" OR ".join(["tk_recompute", *nan]))


def _before(plan: Plan, step: Step) -> list[str]:
    """Return the statements after which what the changed rows lead to stays as it is; those that wait come first."""
    waits, notes = _notes(plan, step, waits=True), _notes(plan, step, waits=False)
    locks = lock_paths(plan, step)
    # What is locked by writing it may have been changed by a user's trigger, and counted with these rows by its step.
    again = [f"tk_recompute := tk_recompute OR {is_marked(plan, FILLED)};"] if locks and parts(step) else []
    return [*_links(plan, step), *_arrivals(plan, step), *waits, *locks, *again, *notes]


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
                # What is appended waits for its target; the rest are locked and written now.
                is_appended = step.edge.is_queued and not late.path
                notes.append(f"IF {is_paused(plan)} THEN\n{block(note)}\nEND IF;" if is_appended else note)
    return list(dict.fromkeys(notes))
