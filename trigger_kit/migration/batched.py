"""MIGRATE: first fills in batches: what makemigrations writes for the rules of ``TRIGGER_KIT["BATCHED_BACKFILL"]``.

Several migrations. One adds the rules with ``fill=False``: until they are filled, functions compute every touched row
afresh, because a difference, added to a row that is not filled yet, would break its CHECKs. The next one is no
transaction: it fills the rows in batches, then puts the functions in place that add differences. New columns come
before, in a migration of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from django.db.migrations import Migration
from django.db.migrations.operations.base import Operation

from trigger_kit.conf import setting
from trigger_kit.exceptions import RuleError
from trigger_kit.migration.writing import is_batched
from trigger_kit.plan.kept_columns import KeptColumn, is_checked
from trigger_kit.plan.plan import Plan, edges_of
from trigger_kit.plan.strategy import serve_averages

__all__ = ["batched_fields", "is_listed", "names_without_rule", "recomputing", "set_apart"]


def batched_fields(plan: Plan, fields: Iterable[str]) -> list[str]:
    """Return those of some new fields of a plan whose first fill goes in batches.

    Raises RuleError for a rule that cannot wait for it.
    """
    rules = {kept.resolved.rule.field: kept for kept in plan.kept_columns}
    chosen = [field for field in fields if is_listed(rules[field].resolved.uri)]
    for field in chosen:
        require_no_check(rules[field])
    return chosen


def is_listed(uri: str) -> bool:
    """Whether the settings ask for batches: by the rule's URI, its model or its app."""
    return any(uri == name or uri.startswith((f"{name}:", f"{name}.")) for name in setting("BATCHED_BACKFILL"))


def require_no_check(kept: KeptColumn) -> None:
    """Raise RuleError where a flush could break the CHECK of a row that is not filled yet."""
    if kept.is_queued and is_checked(kept.resolved):
        raise RuleError(
            "trigger_kit.E034",
            f"{kept.resolved.uri} is QUEUED and cannot be filled in batches: a flush adds differences to rows that "
            "are not filled yet, which breaks the column's CHECK.",
            'Take it out of TRIGGER_KIT["BATCHED_BACKFILL"], or use a field without a CHECK, such as IntegerField.',
        )


def recomputing(plan: Plan, fields: Iterable[str]) -> Plan:
    """Return a plan that computes some fields afresh for every touched row; what is queued stays in the queue."""
    wanted = set(fields)

    def is_adding(kept: KeptColumn) -> bool:
        return kept.resolved.rule.field in wanted and kept.is_added and not kept.is_queued

    # An average follows from its sum and its count only where both go on by differences.
    raw = [m.afresh() if m.served_by or is_adding(m) else m for m in plan.kept_columns]
    kept_columns = serve_averages(raw)
    return replace(plan, kept_columns=tuple(kept_columns), edges=edges_of(kept_columns))


def set_apart(migrations: dict[str, list[Migration]]) -> None:
    """Cut the migrations of a run where it has batched fills, so that live writers are held up for moments only.

    The fills come in a last migration, which is no transaction. Rules come in another one than what precedes them: a
    new column keeps everybody from its table until its migration is committed.
    """
    for app_label, chain in migrations.items():
        fills = [operation for migration in chain for operation in migration.operations if is_batched(operation)]
        if not fills:
            continue
        for migration in list(chain):
            others = [operation for operation in migration.operations if not is_batched(operation)]
            first = next((n for n, item in enumerate(others) if hasattr(item, "rule")), 0)
            if first:
                before = _new_migration(app_label, f"{migration.name}_before_rules", others[:first])
                before.dependencies = migration.dependencies  # type: ignore[misc]
                migration.dependencies = [(app_label, before.name)]  # type: ignore[misc]
                chain.insert(chain.index(migration), before)
            migration.operations = others[first:]  # type: ignore[misc]
        if chain[-1].operations:
            chain.append(_new_migration(app_label, f"{chain[-1].name}_backfill", []))
            chain[-1].dependencies = [(app_label, chain[-2].name)]  # type: ignore[misc]
        chain[-1].operations = fills  # type: ignore[misc]


def _new_migration(app_label: str, name: str, operations: list[Operation]) -> Any:
    """Return a migration as Django's autodetector makes them: a class of its own."""
    made = type("Migration", (Migration,), {"operations": operations, "dependencies": []})
    return made(name, app_label)


def names_without_rule(uris: Sequence[str]) -> list[str]:
    """Return the names in ``TRIGGER_KIT["BATCHED_BACKFILL"]`` that mean none of these rules."""
    return [
        name
        for name in setting("BATCHED_BACKFILL")
        if not any(uri == name or uri.startswith((f"{name}:", f"{name}.")) for uri in uris)
    ]
