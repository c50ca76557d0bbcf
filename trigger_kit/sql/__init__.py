"""COMPILE: a Plan -> CompiledTriggers, readable SQL in frozen text."""

from __future__ import annotations

from trigger_kit.plan.plan import Plan
from trigger_kit.sql.deferred import compile_commit
from trigger_kit.sql.events import compile_step
from trigger_kit.sql.late_parents import compile_waiting
from trigger_kit.sql.marks import compile_weave
from trigger_kit.sql.queued import compile_queue
from trigger_kit.sql.target import compile_target
from trigger_kit.sql.trigger import TEMPLATE_VERSION, CompiledTrigger, Sql, comment_digest

__all__ = ["TEMPLATE_VERSION", "CompiledTrigger", "Sql", "comment_digest", "compile_plan"]


def compile_plan(plan: Plan) -> tuple[CompiledTrigger, ...]:
    """Compile all that keeps one target: its own triggers, the watch over its paths, one per step, what waits."""
    steps = (compile_step(plan, step) for step in plan.steps)
    later = (*compile_waiting(plan), *compile_commit(plan), *compile_queue(plan))
    return (*compile_target(plan), *compile_weave(plan), *steps, *later)
