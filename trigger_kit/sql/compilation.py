"""COMPILE a Plan into its CompiledTriggers: all that keeps one target, readable SQL."""

from __future__ import annotations

from weakref import WeakKeyDictionary

from trigger_kit.plan.plan import Plan
from trigger_kit.sql.deferred import compile_commit, undo_notes
from trigger_kit.sql.events import compile_step
from trigger_kit.sql.helpers import drop_helpers
from trigger_kit.sql.late_parents import compile_waiting
from trigger_kit.sql.marks import compile_marks
from trigger_kit.sql.queued import compile_queue, drop_queue, undo_queue
from trigger_kit.sql.target import compile_target
from trigger_kit.sql.trigger import GUARD, NOTES, QUEUE, CompiledTrigger

__all__ = ["compile_plan", "drop_beside", "undo_beside"]


# A command asks several times for what one plan compiles to.
_compiled: WeakKeyDictionary[Plan, tuple[CompiledTrigger, ...]] = WeakKeyDictionary()


def compile_plan(plan: Plan) -> tuple[CompiledTrigger, ...]:
    """Compile all that keeps one target: its own triggers, the watch over its paths, one per step, what waits."""
    if plan not in _compiled:
        _compiled[plan] = _compile(plan)
    return _compiled[plan]


def _compile(plan: Plan) -> tuple[CompiledTrigger, ...]:
    steps = (compile_step(plan, step) for step in plan.steps)
    later = (*compile_waiting(plan), *compile_commit(plan), *compile_queue(plan))
    return (*compile_target(plan), *compile_marks(plan), *steps, *later)


def undo_beside(role: str, table: str) -> str:
    """Return the SQL that makes room for another version of what a role brings along: what waits there is settled."""
    undo = {QUEUE: undo_queue, NOTES: undo_notes, GUARD: drop_helpers}
    return undo[role](table) if role in undo else ""


def drop_beside(role: str, table: str) -> str:
    """Return the SQL that drops what is then left of it."""
    return drop_queue(table) if role == QUEUE else ""
