"""PLAN, refusals: rules that are well, each by itself, and cannot be kept together."""

from __future__ import annotations

from collections.abc import Iterable
from graphlib import CycleError, TopologicalSorter

from trigger_kit.exceptions import RuleError
from trigger_kit.resolve.rule import ResolvedRule
from trigger_kit.rules import Timing

__all__ = ["require_acyclic", "require_unread"]


def require_acyclic(resolved: Iterable[ResolvedRule]) -> None:
    """Raise RuleError where a column's value depends on itself, with the cycle in the message."""
    rules = {(rule.column.table, rule.column.name): rule for rule in resolved}
    reads = {column: sorted(rules.keys() & rule.required) for column, rule in rules.items()}
    try:
        list(TopologicalSorter(reads).static_order())
    except CycleError as error:
        cycle = [rules[column] for column in error.args[1]]
        trail = " <- ".join(rule.uri for rule in cycle)
        raise RuleError(
            "trigger_kit.E021",
            f"{cycle[0].uri} cannot be kept: its value depends on itself ({trail}).",
            "Break the cycle: let one of these rules read columns that no rule keeps.",
        ) from error


def require_unread(resolved: Iterable[ResolvedRule]) -> None:
    """Raise RuleError where a rule reads a column whose changes wait in a queue: its value is not the true one."""
    rules = list(resolved)
    queued = {(rule.column.table, rule.column.name): rule for rule in rules if rule.rule.timing is Timing.QUEUED}
    for rule in rules:
        for column in sorted(queued.keys() & rule.required):
            raise RuleError(
                "trigger_kit.E032",
                f"{rule.uri} cannot be kept: it reads {queued[column].uri}, which is QUEUED.",
                f"Let {queued[column].uri} be IMMEDIATE or DEFERRED, or read what it is computed from.",
            )
