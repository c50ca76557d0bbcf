"""INSTALL: bring a database's triggers and values to what rules say, inside a migration or outside."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from django.apps import apps as live_apps
from django.db import DEFAULT_DB_ALIAS, connections, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from trigger_kit.database.catalog import Placement, find_triggers, trigger_status
from trigger_kit.database.changeover import READ_COMMITTED_ONLY, Run, change_triggers, runner, tables_to_lock
from trigger_kit.database.table_locks import lock_statement
from trigger_kit.exceptions import RuleError, TriggerKitError
from trigger_kit.plan.plan import Plan, plan_all
from trigger_kit.plan.plan import plan as plan_rules
from trigger_kit.plan.strategy import Measure, measure_rule
from trigger_kit.resolve.declared import declared, select
from trigger_kit.resolve.rule import resolve
from trigger_kit.rules import Denormalize, Timing
from trigger_kit.sql import CompiledTrigger, compile_plan
from trigger_kit.sql.full_values import backfill_sql
from trigger_kit.sql.shared import CREATE_OWN_TABLES
from trigger_kit.sql.text import CHECK_NOW, fill_placeholders

__all__ = [
    "backfill",
    "change_triggers",
    "chosen_plans",
    "install",
    "live_plans",
    "require_postgresql",
    "run_backfill",
    "runner",
    "script",
    "uris_of",
]


def live_plans(using: str = DEFAULT_DB_ALIAS) -> list[Plan]:
    """Return the plans of the live models whose tables belong into a database."""
    return [plan for plan in plan_all(declared(live_apps)) if router.allow_migrate_model(using, plan.model)]


def chosen_plans(uris: Sequence[str] = (), using: str = DEFAULT_DB_ALIAS) -> list[Plan]:
    """Return the plans of the live models that some rules belong to, or all.

    Raises TriggerKitError for a name that means no rule.
    """
    plans = live_plans(using)
    chosen = set(select(uris, [uri for plan in plans for uri in uris_of(plan)]))
    return [plan for plan in plans if chosen.intersection(uris_of(plan))]


def require_postgresql(using: str) -> BaseDatabaseWrapper:
    """Return the connection of an alias.

    Raises TriggerKitError where it is not PostgreSQL.
    """
    connection: BaseDatabaseWrapper = connections[using]
    if connection.vendor != "postgresql":
        raise TriggerKitError(f"The database {using!r} is {connection.display_name}; trigger_kit needs PostgreSQL.")
    return connection


def install(using: str = DEFAULT_DB_ALIAS, *, app_labels: Iterable[str] | None = None) -> list[str]:
    """Install and fill what is missing or outdated, of all apps or some, in one transaction.

    Returns the labels of the models that it changed. Models whose tables do not all exist are passed over.
    """
    connection = require_postgresql(using)
    labels = None if app_labels is None else set(app_labels)
    tables = set(connection.introspection.table_names())
    plans = [
        plan
        for plan in live_plans(using)
        if (labels is None or plan.model._meta.app_label in labels) and set(plan.tables) <= tables
    ]
    changed = []
    with transaction.atomic(using=using):
        for plan in plans:
            triggers = compile_plan(plan)
            known = find_triggers(
                connection, {str(t.name) for t in triggers}, Placement(connection, plan.target).schema
            )
            needed = [t for t in triggers if trigger_status(t, known.get(str(t.name))) in {"missing", "outdated"}]
            left = left_over(plan, triggers, connection)
            if needed or left:
                change_triggers(connection, left, needed)
                changed.append(plan)
        for plan in reversed(changed):
            backfill(plan, connection)
    return [plan.model._meta.label for plan in changed]


def left_over(
    plan: Plan, triggers: Iterable[CompiledTrigger], connection: BaseDatabaseWrapper
) -> list[CompiledTrigger]:
    """Return the installed triggers of a plan's rules as they would be with other timings: two would count twice."""
    wanted = {str(trigger.name) for trigger in triggers}
    others: dict[str, CompiledTrigger] = {}
    for timing in Timing:
        other = plan_rules(plan.model, [with_timing(measure, timing) for measure in plan.measures])
        others |= {str(t.name): t for t in compile_plan(replace(other, writes=plan.writes))}
    known = find_triggers(connection, others.keys() - wanted, Placement(connection, plan.target).schema)
    return [others[name] for name in known]


def with_timing(measure: Measure, timing: Timing) -> Denormalize:
    """Return a rule with another timing, or as it is where it cannot have that."""
    rule = measure.resolved.rule
    other = Denormalize(rule.field, rule.expression, timing=timing, guard=rule.guard, level=rule.level)
    try:
        measure_rule(resolve(other, measure.resolved.model))
    except RuleError:
        return rule
    return other


def script(using: str = DEFAULT_DB_ALIAS, uris: Sequence[str] = ()) -> str:
    """Return the whole installation as SQL for psql: locks, triggers and first fill of the targets of some rules."""
    connection = require_postgresql(using)
    parts = ["BEGIN;"]
    for plan in chosen_plans(uris, using):
        place = Placement(connection, plan.target)
        triggers = compile_plan(plan)
        parts.append(f"-- {plan.model._meta.label}: {', '.join(uris_of(plan))}")
        left = left_over(plan, triggers, connection)
        parts += [READ_COMMITTED_ONLY.strip(), fill_placeholders(CREATE_OWN_TABLES, place).strip()]
        parts += [lock_statement(tables_to_lock(connection, [*triggers, *left]))]
        parts += [trigger.render_uninstall(place) for trigger in left]
        for trigger in triggers:
            parts += [trigger.render_undo(place), trigger.render_install(place)]
        parts += [sql.strip() for sql in backfill_statements(plan, place)]
    return "\n\n".join(filter(None, [*parts, "COMMIT;"]))


def backfill_statements(plan: Plan, place: Placement, columns: Iterable[str] | None = None) -> list[str]:
    """Return the statements that write the full values, the guard told about it."""
    return _guarded(fill_placeholders(backfill_sql(plan, columns), place))


def _guarded(update: str) -> list[str]:
    """Return an UPDATE of maintained columns between the statements that tell the guard about it.

    A row that is written twice in a transaction has its deferred foreign keys checked at the end, and until then no
    index can be made on its table: the checks are brought forward, as Django's own schema changes do.
    """
    depth = "SELECT set_config('trigger_kit.depth', '{}', true);"
    return [
        depth.format(0),
        update,
        depth.format(""),
        *CHECK_NOW.splitlines(),
    ]


def run_backfill(text: str, place: Placement, run: Run) -> None:
    """Run a frozen UPDATE that fills columns."""
    for sql in _guarded(fill_placeholders(text, place)):
        run(sql)


def backfill(
    plan: Plan, connection: BaseDatabaseWrapper, columns: Iterable[str] | None = None, execute: Run | None = None
) -> None:
    """Write the full values of a plan's rules where they differ, in the current transaction."""
    run = execute or runner(connection)
    for sql in backfill_statements(plan, Placement(connection, plan.target), columns):
        run(sql)


def uris_of(plan: Plan) -> list[str]:
    """Return the URIs of a plan's rules."""
    return [measure.resolved.uri for measure in plan.measures]
