"""OPERATE: install, backfill, verify and repair what is declared, in one database."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from django.apps import apps as live_apps
from django.db import DEFAULT_DB_ALIAS, connections, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import F, Model

from trigger_kit.catalog import InstalledTrigger, Placement, find_triggers, installed_triggers, trigger_status
from trigger_kit.compiler import CompiledTrigger, compile_plan
from trigger_kit.compiler.text import fill_placeholders, quote
from trigger_kit.compiler.values import backfill_sql, repair_sql
from trigger_kit.exceptions import InstallationError, TriggerKitError
from trigger_kit.planner import Plan, plan_all
from trigger_kit.registry import declared, select
from trigger_kit.relations import rule_uri
from trigger_kit.rules import Denormalize

__all__ = [
    "Drift",
    "RuleStatus",
    "Verification",
    "backfill",
    "change_triggers",
    "install",
    "live_plans",
    "paused",
    "rule_statuses",
    "script",
    "verify",
]

TOUCHED_TABLE = """
CREATE TABLE IF NOT EXISTS {:schema}."tk_touched" (
    target text NOT NULL,
    key_column text NOT NULL,
    key text NOT NULL
);
COMMENT ON TABLE {:schema}."tk_touched" IS 'trigger_kit: targets that were touched during a pause and wait for repair';
"""


def live_plans(using: str = DEFAULT_DB_ALIAS) -> list[Plan]:
    """Return the plans of the live models whose tables belong into a database."""
    return [plan for plan in plan_all(declared(live_apps)) if router.allow_migrate_model(using, plan.model)]


def require_postgresql(using: str) -> BaseDatabaseWrapper:
    """Return the connection of an alias.

    Raises TriggerKitError where it is not PostgreSQL.
    """
    connection: BaseDatabaseWrapper = connections[using]
    if connection.vendor != "postgresql":
        raise TriggerKitError(f"The database {using!r} is {connection.display_name}; trigger_kit needs PostgreSQL.")
    return connection


# Installation -------------------------------------------------------------------------------------------------------


def change_triggers(
    connection: BaseDatabaseWrapper,
    before: Sequence[CompiledTrigger],
    after: Sequence[CompiledTrigger],
    execute: Any = None,
) -> None:
    """Bring one target's triggers from one set to another, in the current transaction.

    All tables concerned are locked first, sources before the target: no writer may run between two functions of one
    edge. A trigger that somebody disabled stays so. ``execute`` takes the SQL in place of a cursor (sqlmigrate).
    """
    run = execute or _runner(connection)
    triggers = [*before, *after]
    if not triggers:
        return
    place = Placement(connection, triggers[0].owner)
    kept = {trigger.name for trigger in after}
    dropped = [trigger for trigger in before if trigger.name not in kept]
    known = find_triggers(connection, {str(trigger.name) for trigger in triggers}, place.schema)
    run(lock_sql(after or dropped, place, known))
    if after:
        run(fill_placeholders(TOUCHED_TABLE, place))
    for trigger in dropped:
        run(_drop_sql(trigger, known.get(str(trigger.name)), place))
    for trigger in after:
        run(trigger.render_install(place))
        _restore_state(run, trigger, known.get(str(trigger.name)), place)


def lock_sql(
    triggers: Sequence[CompiledTrigger], place: Placement, known: Mapping[str, InstalledTrigger] | None = None
) -> str:
    """Return the statement that locks the tables of these triggers, sources before targets.

    A table may have another name by now: that of the installed trigger counts.
    """
    tables = {}
    for trigger in triggers:
        installed = (known or {}).get(str(trigger.name))
        tables[installed.table if installed else place(trigger.on)] = (trigger.on == trigger.owner, trigger.on)
    return f"LOCK TABLE {', '.join(sorted(tables, key=tables.__getitem__))} IN SHARE ROW EXCLUSIVE MODE;"


def _runner(connection: BaseDatabaseWrapper) -> Any:
    def run(sql: str) -> None:
        with connection.cursor() as cursor:
            cursor.execute(sql, None)

    return run


def _drop_sql(trigger: CompiledTrigger, installed: InstalledTrigger | None, place: Placement) -> str:
    """Return the SQL that drops a trigger; its table may have another name by now."""
    if installed is None:
        return trigger.render_uninstall(place)
    name = quote(installed.name)
    sql = f"DROP TRIGGER IF EXISTS {name} ON {{table}};\nDROP FUNCTION IF EXISTS {{:schema}}.{name}();"
    return fill_placeholders(sql, lambda key: installed.table if key == "table" else place(key))


def _restore_state(run: Any, trigger: CompiledTrigger, known: InstalledTrigger | None, place: Placement) -> None:
    """CREATE OR REPLACE TRIGGER enables a trigger again: put back what somebody had chosen."""
    modes = {"D": "DISABLE", "R": "ENABLE REPLICA", "A": "ENABLE ALWAYS"}
    if known is not None and known.enabled in modes:
        run(f"ALTER TABLE {place(trigger.on)} {modes[known.enabled]} TRIGGER {quote(str(trigger.name))};")


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
        if (labels is None or plan.model._meta.app_label in labels)
        and {plan.target, *(edge.source for edge in plan.edges)} <= tables
    ]
    changed = []
    with transaction.atomic(using=using):
        for plan in plans:
            triggers = compile_plan(plan)
            known = find_triggers(
                connection, {str(t.name) for t in triggers}, Placement(connection, plan.target).schema
            )
            needed = [t for t in triggers if trigger_status(t, known.get(str(t.name))) in {"missing", "outdated"}]
            if needed:
                change_triggers(connection, (), needed)
                changed.append(plan)
        for plan in reversed(changed):
            backfill(plan, connection)
    return [plan.model._meta.label for plan in changed]


def script(using: str = DEFAULT_DB_ALIAS, uris: Sequence[str] = ()) -> str:
    """Return the whole installation as SQL for psql: locks, triggers and first fill of the targets of some rules."""
    connection = require_postgresql(using)
    plans = live_plans(using)
    chosen = set(select(uris, [uri for plan in plans for uri in _uris(plan)]))
    parts = ["BEGIN;"]
    for plan in (plan for plan in plans if chosen.intersection(_uris(plan))):
        place = Placement(connection, plan.target)
        triggers = compile_plan(plan)
        parts += [f"-- {plan.model._meta.label}: {', '.join(_uris(plan))}", lock_sql(triggers, place)]
        parts.append(fill_placeholders(TOUCHED_TABLE, place).strip())
        parts += [trigger.render_install(place) for trigger in triggers]
        parts += [sql.strip() for sql in backfill_statements(plan, place)]
    return "\n\n".join([*parts, "COMMIT;"])


def backfill_statements(plan: Plan, place: Placement, columns: Iterable[str] | None = None) -> list[str]:
    """Return the statements that write the full values, the guard told about it."""
    return [
        "SELECT set_config('trigger_kit.depth', '0', true);",
        fill_placeholders(backfill_sql(plan, columns), place),
        "SELECT set_config('trigger_kit.depth', '', true);",
    ]


def backfill(
    plan: Plan, connection: BaseDatabaseWrapper, columns: Iterable[str] | None = None, execute: Any = None
) -> None:
    """Write the full values of a plan's rules where they differ, in the current transaction."""
    run = execute or _runner(connection)
    for sql in backfill_statements(plan, Placement(connection, plan.target), columns):
        run(sql)


# Status -------------------------------------------------------------------------------------------------------------


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
    orphans = [item for key, item in installed.items() if key not in explained]
    return statuses + [RuleStatus(f"{item.schema}.{item.name}", "orphaned", f"on {item.table}") for item in orphans]


def _uris(plan: Plan) -> list[str]:
    return [measure.resolved.uri for measure in plan.measures]


# Verification -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Drift:
    """A row whose stored value is not the value of the rule's expression."""

    uri: str
    key: Any
    stored: Any
    true: Any


@dataclass(frozen=True)
class Verification:
    """What verify found: the rules that it looked at, the rows of each, and every drift."""

    rows: dict[str, int]
    drifts: list[Drift]

    @cached_property
    def in_sync(self) -> bool:
        """Whether no row has drifted."""
        return not self.drifts


def verify(uris: Sequence[str] = (), *, using: str = DEFAULT_DB_ALIAS) -> Verification:
    """Compare stored with true values, of all rules or some, and change nothing.

    The true value is Django's own: ``Model._base_manager.annotate(…)``, assignment-cast to the column's type. One
    statement reads both, so that a writer in flight raises no false alarm.
    """
    connection = require_postgresql(using)
    pairs = {
        rule_uri(model, rule.field): (model, rule)
        for model, rules in declared(live_apps)
        for rule in rules
        if router.allow_migrate_model(using, model)
    }
    with _read_only(connection):
        chosen = {uri: pairs[uri] for uri in select(uris, list(pairs))}
        drifts = [drift for uri, (model, rule) in chosen.items() for drift in find_drift(connection, uri, model, rule)]
        rows = {uri: model._base_manager.using(using).count() for uri, (model, _) in chosen.items()}
    return Verification(rows, drifts)


def find_drift(connection: BaseDatabaseWrapper, uri: str, model: type[Model], rule: Denormalize) -> list[Drift]:
    """Return the rows of one rule whose stored value differs from Django's own, in key order."""
    field = model._meta.get_field(rule.field)
    kind = field.cast_db_type(connection)  # type: ignore[union-attr]
    keys = [key.attname for key in model._meta.pk_fields]
    rows = model._base_manager.using(connection.alias).annotate(tk_stored=F(rule.field), tk_true=rule.expression)
    sql, params = rows.order_by().values_list(*keys, "tk_stored", "tk_true").query.sql_with_params()
    names = [f"key_{number}" for number in range(len(keys))]
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {', '.join(names)}, stored, computed::{kind} "
            f"FROM ({sql}) AS compared ({', '.join(names)}, stored, computed) "
            f"WHERE stored IS DISTINCT FROM computed::{kind} ORDER BY {', '.join(names)}",
            params,
        )
        found = cursor.fetchall()
    return [Drift(uri, key[0] if len(key) == 1 else tuple(key), stored, true) for *key, stored, true in found]


@contextmanager
def _read_only(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """Run in a READ ONLY transaction, or as part of one that is open already."""
    if connection.in_atomic_block:
        yield
        return
    with transaction.atomic(using=connection.alias):
        _runner(connection)("SET TRANSACTION READ ONLY")
        yield


# Pause --------------------------------------------------------------------------------------------------------------


@contextmanager
def paused(using: str = DEFAULT_DB_ALIAS) -> Iterator[None]:
    """Stop maintaining in this transaction, for a bulk load; on leaving, repair what was touched.

    Opens a transaction, or a savepoint where one is open. Inside, the triggers only note the touched keys and stored
    values are out of date; other connections see nothing of it.
    """
    connection = require_postgresql(using)
    with transaction.atomic(using=using):
        run = _runner(connection)
        run("SELECT set_config('trigger_kit.paused', 'on', true)")
        yield
        run("SELECT set_config('trigger_kit.paused', '', true)")
        for plan in reversed(live_plans(using)):
            repair_touched(plan, connection)


def repair_touched(plan: Plan, connection: BaseDatabaseWrapper) -> None:
    """Recompute the targets of a plan that a pause has noted, and forget the notes."""
    place = Placement(connection, plan.target)
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('trigger_kit.depth', '0', true)")
        for edge in plan.edges:
            cursor.execute(fill_placeholders(repair_sql(edge), place), None)
        cursor.execute("SELECT set_config('trigger_kit.depth', '', true)")


def require_installed(using: str = DEFAULT_DB_ALIAS) -> None:
    """Raise InstallationError unless every declared rule is installed as it is declared."""
    problems = [item for item in rule_statuses(using) if item.status not in {"installed", "orphaned"}]
    if problems:
        names = ", ".join(f"{item.uri} ({item.status})" for item in problems)
        raise InstallationError(f"Not every rule is installed in {using!r}: {names}. Run manage.py migrate.")
