"""OPERATE: which rules a database has installed, and in which state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import DEFAULT_DB_ALIAS
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.state import ProjectState

from trigger_kit.database.batches import Progress, backfilling
from trigger_kit.database.catalog import (
    InstalledTrigger,
    Placement,
    installed_triggers,
    search_path,
    trigger_status,
)
from trigger_kit.database.installation import require_postgresql
from trigger_kit.database.owners import is_settled
from trigger_kit.database.records import read_records
from trigger_kit.database.wanted import Wanted
from trigger_kit.exceptions import TriggerKitError
from trigger_kit.maintenance.blind_spots import is_edited
from trigger_kit.maintenance.current import live_state, seen, write_down
from trigger_kit.maintenance.long_pauses import PAUSE, since
from trigger_kit.maintenance.pause import noted_keys
from trigger_kit.maintenance.verify import LastVerification, last_verification
from trigger_kit.plan.live import live_plans
from trigger_kit.plan.plan import Plan
from trigger_kit.resolve.declared import select
from trigger_kit.sql.compilation import compile_plan

__all__ = ["RuleStatus", "note_current", "paused_targets", "rule_statuses"]

# Of several states, the first is told.
WORST_FIRST = ("missing", "disabled", "outdated")


@dataclass(frozen=True)
class RuleStatus:
    """The state of a rule in a database.

    ``triggers`` has name and state of those that are not as they should be, ``detail`` what else there is to say of
    the state. ``model`` is the label of the rule's model, empty for what no rule explains, ``verified`` what the last
    verify found.
    """

    uri: str
    status: str
    rule: str
    triggers: tuple[tuple[str, str], ...] = ()
    detail: str = ""
    model: str = ""
    verified: LastVerification | None = None

    @property
    def is_kept(self) -> bool:
        """Whether the triggers keep the rule's column."""
        return self.status == "installed"


def rule_statuses(using: str = DEFAULT_DB_ALIAS, uris: Sequence[str] = ()) -> list[RuleStatus]:
    """Return the status of every declared rule, then the triggers of ours that no rule explains; or of some rules."""
    connection = require_postgresql(using)
    installed = {(item.schema, item.name): item for item in installed_triggers(connection)}
    knowledge = SchemaKnowledge(connection)
    statuses, explained = [], set()
    for plan in live_plans(using):
        schema = Placement(connection, plan.target).schema
        found = {t.name: installed.get((schema, t.name)) for t in compile_plan(plan)}
        explained |= {(schema, name) for name in found}
        statuses += _statuses(plan, found, knowledge.of(schema))
    if uris:
        chosen = set(select(uris, [status.uri for status in statuses]))
        return [status for status in statuses if status.uri in chosen]
    here = search_path(connection)
    orphans = [item for key, item in installed.items() if key not in explained and item.schema in here]
    return statuses + [RuleStatus(f"{item.schema}.{item.trigger}", "orphaned", f"on {item.table}") for item in orphans]


def paused_targets(using: str = DEFAULT_DB_ALIAS, uris: Sequence[str] = ()) -> dict[str, str]:
    """Return what there is to say of targets whose rules are paused, by the labels of their models."""
    statuses = rule_statuses(using, uris)
    return {status.model: status.detail for status in statuses if status.status == "paused"}


def note_current(connection: BaseDatabaseWrapper, state: ProjectState) -> None:
    """Write down that a database has exactly what a state wants, today's models want the same, and nobody edited it."""
    found = seen(connection, state)
    if found is None or found != seen(connection, live_state()):
        return
    try:
        statuses = rule_statuses(connection.alias)
        plans = live_plans(connection.alias)
    except TriggerKitError:  # Other checks tell of rules that are refused.
        return
    settled = all(is_settled(Placement(connection, plan.target), Wanted(plan)) for plan in plans)
    if settled and all(status.is_kept for status in statuses) and not is_edited(connection, plans):
        write_down(connection, found)


def _statuses(plan: Plan, found: Mapping[str, InstalledTrigger | None], known: Knowledge) -> list[RuleStatus]:
    """Return the statuses of a plan's rules, which share their triggers."""
    states = {t.name: trigger_status(t, found[t.name]) for t in compile_plan(plan)}
    problems = tuple((name, state) for name, state in states.items() if state != "installed")
    status = next((state for state in WORST_FIRST if state in states.values()), "installed")
    detail = ""
    if status == "installed":
        is_paused = any(item.is_paused for item in found.values() if item)
        status, detail = known.state_of(plan, is_paused=is_paused)
    return [
        RuleStatus(
            kept.resolved.uri,
            status,
            repr(kept.resolved.rule),
            problems,
            detail,
            plan.model._meta.label,
            known.verified.get(kept.resolved.uri),
        )
        for kept in plan.kept_columns
    ]


@dataclass(frozen=True)
class Knowledge:
    """What is written in a schema: who has paused what, what waits for a repair, is being filled, was verified."""

    pauses: dict[str, Any]
    noted: dict[str, list[str]]
    fills: dict[str, Progress]
    verified: dict[str, LastVerification]

    def state_of(self, plan: Plan, *, is_paused: bool) -> tuple[str, str]:
        """Return the status of a plan whose triggers are all there, and what else there is to say of it."""
        label = plan.model._meta.label
        record = self.pauses.get(label)
        if is_paused or record:
            unfilled = ", its rows are not all filled yet" if record and record.get("to_fill") else ""
            return "paused", f"paused{since(record)}{unfilled}: values are out of date until trigger_kit resume {label}"
        if plan.target in self.noted:
            return "paused", f"touched by a session that had set trigger_kit.paused: run trigger_kit resume {label}"
        if label in self.fills:
            return "backfilling", f"{self.fills[label].share:.0%} of its rows are filled"
        return "installed", ""


class SchemaKnowledge:
    """What is written in each schema, read once."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self.connection = connection
        self._known: dict[str, Knowledge] = {}

    def of(self, schema: str) -> Knowledge:
        """Return what is written in a schema."""
        if schema not in self._known:
            self._known[schema] = Knowledge(
                read_records(self.connection, schema, PAUSE),
                noted_keys(self.connection, schema),
                backfilling(self.connection, schema),
                last_verification(self.connection, schema),
            )
        return self._known[schema]
