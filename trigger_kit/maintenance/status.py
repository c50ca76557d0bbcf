"""OPERATE: which rules a database has installed, and in which state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.db import DEFAULT_DB_ALIAS

from trigger_kit.catalog import Placement, installed_triggers, search_path, trigger_status
from trigger_kit.compiler import compile_plan
from trigger_kit.installation import live_plans, require_postgresql
from trigger_kit.registry import select

__all__ = ["RuleStatus", "rule_statuses"]


@dataclass(frozen=True)
class RuleStatus:
    """The state of a rule's triggers in a database; ``triggers`` has name and state of those not installed."""

    uri: str
    status: str
    rule: str
    triggers: tuple[tuple[str, str], ...] = ()


def rule_statuses(using: str = DEFAULT_DB_ALIAS, uris: Sequence[str] = ()) -> list[RuleStatus]:
    """Return the status of every declared rule, then the triggers of ours that no rule explains; or of some rules."""
    connection = require_postgresql(using)
    installed = {(item.schema, item.name): item for item in installed_triggers(connection)}
    statuses, explained = [], set()
    for plan in live_plans(using):
        schema = Placement(connection, plan.target).schema
        states = {}
        for trigger in compile_plan(plan):
            key = (schema, str(trigger.name))
            explained.add(key)
            states[str(trigger.name)] = trigger_status(trigger, installed.get(key))
        problems = tuple((name, state) for name, state in states.items() if state != "installed")
        worst = next((s for s in ("missing", "disabled", "outdated") if s in states.values()), "installed")
        statuses += [
            RuleStatus(measure.resolved.uri, worst, repr(measure.resolved.rule), problems) for measure in plan.measures
        ]
    if uris:
        chosen = set(select(uris, [status.uri for status in statuses]))
        return [status for status in statuses if status.uri in chosen]
    here = search_path(connection)
    orphans = [item for key, item in installed.items() if key not in explained and item.schema in here]
    return statuses + [RuleStatus(f"{item.schema}.{item.name}", "orphaned", f"on {item.table}") for item in orphans]
