"""INSTALL: bring a database's triggers and values to what rules say, inside a migration or outside."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from django.apps import apps as live_apps
from django.db import DEFAULT_DB_ALIAS, connections, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from trigger_kit.catalog import OWN_TABLES, InstalledTrigger, Placement, find_triggers, state_sql, trigger_status
from trigger_kit.compiler import CompiledTrigger, compile_plan
from trigger_kit.compiler.text import CHECK_NOW, fill_placeholders
from trigger_kit.compiler.values import backfill_sql
from trigger_kit.exceptions import RuleError, TriggerKitError
from trigger_kit.measures import Measure, measure_rule
from trigger_kit.planner import Plan, plan_all
from trigger_kit.planner import plan as plan_rules
from trigger_kit.records import CREATE_STATE
from trigger_kit.registry import declared, select
from trigger_kit.relations import resolve
from trigger_kit.rules import Denormalize, Timing

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

Run = Callable[[str], None]

CREATE_OWN_TABLES = (
    CREATE_STATE
    + """
CREATE TABLE IF NOT EXISTS {:schema}."tk_touched" (
    target text NOT NULL,
    key_column text NOT NULL,
    key text NOT NULL
);
COMMENT ON TABLE {:schema}."tk_touched" IS 'trigger_kit: targets that were touched during a pause and wait for repair';

CREATE TABLE IF NOT EXISTS {:schema}."tk_waiting" (
    transaction xid8 NOT NULL DEFAULT pg_current_xact_id(),
    target text NOT NULL,
    place text NOT NULL,
    key text[] NOT NULL
);
DO $trigger_kit$
BEGIN
    -- IF NOT EXISTS would lock the table all the same, against those who write.
    IF NOT EXISTS (SELECT FROM pg_index WHERE indrelid = {:regclass tk_waiting}) THEN
        CREATE INDEX "tk_waiting_transaction" ON {:schema}."tk_waiting" (transaction);
    END IF;
END;
$trigger_kit$;
COMMENT ON TABLE {:schema}."tk_waiting" IS 'trigger_kit: keys of rows that are not there yet, settled at commit';

CREATE UNLOGGED TABLE IF NOT EXISTS {:schema}."tk_commit" (
    transaction xid8 NOT NULL DEFAULT pg_current_xact_id(),
    rank integer NOT NULL,
    target text NOT NULL
) WITH (vacuum_truncate = false);
DO $trigger_kit$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_index WHERE indrelid = {:regclass tk_commit}) THEN
        CREATE INDEX "tk_commit_transaction" ON {:schema}."tk_commit" (transaction, rank, target);
    END IF;
END;
$trigger_kit$;
COMMENT ON TABLE {:schema}."tk_commit" IS 'trigger_kit: targets that open transactions will write when they commit';

CREATE OR REPLACE FUNCTION {:schema}."tk_commit"()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = {:search_path}
SET row_security = off
AS $trigger_kit$
-- At the end of a transaction: let its targets be written, sources before what is computed from them.
-- Each row that goes fires the trigger of its target; that may make others due.
DECLARE
    tk_target text;
BEGIN
    IF current_setting('session_replication_role') = 'replica' THEN
        RAISE EXCEPTION USING MESSAGE = 'DEFERRED columns cannot be kept: triggers were switched off after a write.',
                  ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Commit, or SET CONSTRAINTS tk_commit IMMEDIATE, before session_replication_role = replica.';
    END IF;
    -- Settled early, a target that becomes due meanwhile waits for the loop below, as it does at a commit.
    IF current_setting('trigger_kit.committing_{:schema_tag}', true) = 'on' THEN
        RETURN NULL;
    END IF;
    PERFORM set_config('trigger_kit.committing_{:schema_tag}', 'on', true);
    LOOP
        SELECT due.target INTO tk_target
        FROM {:schema}."tk_commit" AS due
        WHERE due.transaction = pg_current_xact_id()
        ORDER BY due.rank, due.target
        LIMIT 1;
        EXIT WHEN NOT FOUND;
        DELETE FROM {:schema}."tk_commit" AS due
        WHERE due.transaction = pg_current_xact_id() AND due.target = tk_target;
    END LOOP;
    PERFORM set_config('trigger_kit.committing_{:schema_tag}', '', true);
    RETURN NULL;
END;
$trigger_kit$;

DO $trigger_kit$
BEGIN
    IF NOT EXISTS (
        SELECT FROM pg_trigger WHERE tgname = 'tk_commit' AND tgrelid = {:regclass tk_commit}
    ) THEN
        CREATE CONSTRAINT TRIGGER "tk_commit"
            AFTER INSERT ON {:schema}."tk_commit"
            DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION {:schema}."tk_commit"();
    END IF;
END;
$trigger_kit$;
"""
)


# A snapshot that is older than the locks does not show what was committed before they were had.
READ_COMMITTED_ONLY = """
DO $trigger_kit$
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION USING MESSAGE = 'trigger_kit installs and fills at READ COMMITTED only.',
                  ERRCODE = 'feature_not_supported',
                  HINT = 'Run this migration with another isolation level of the connection, or of the database role.';
    END IF;
END;
$trigger_kit$;
"""


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


def change_triggers(
    connection: BaseDatabaseWrapper,
    before: Sequence[CompiledTrigger],
    after: Sequence[CompiledTrigger],
    execute: Run | None = None,
) -> None:
    """Bring one target's triggers from one set to another, in the current transaction.

    All tables concerned are locked first, sources before the target: no writer may run between two functions of one
    edge. A trigger that somebody disabled stays so. ``execute`` takes the SQL in place of a cursor (sqlmigrate).
    """
    run = execute or runner(connection)
    triggers = [*before, *after]
    if not triggers:
        return
    place = Placement(connection, triggers[0].owner)
    kept = {trigger.name for trigger in after}
    dropped = [trigger for trigger in before if trigger.name not in kept]
    known = find_triggers(connection, {str(trigger.name) for trigger in triggers}, place.schema)
    run(READ_COMMITTED_ONLY)
    if after:
        run(fill_placeholders(CREATE_OWN_TABLES, place))
    run(lock_sql([*after, *(t for t in dropped if not after or str(t.name) in known)], place, known))
    if dropped:
        for sql in CHECK_NOW.splitlines():
            run(sql)
    for trigger in dropped:
        installed = known.get(str(trigger.name))
        run(trigger.render_uninstall(place, installed.table if installed else None))
    for trigger in after:
        # What is beside a trigger, such as a queue, is emptied before it is made anew.
        if undo := trigger.render_undo(place):
            run(undo)
        run(trigger.render_install(place))
        installed = known.get(str(trigger.name))
        # CREATE OR REPLACE TRIGGER enables a trigger again: put back what somebody had chosen.
        state = state_sql(place(trigger.on), str(trigger.name), installed.enabled) if installed else None
        if state:
            run(state)


def lock_sql(
    triggers: Sequence[CompiledTrigger], place: Placement, known: Mapping[str, InstalledTrigger] | None = None
) -> str:
    """Return the statement that locks the tables of these triggers, sources before targets, our own last.

    A table may have another name by now: that of the installed trigger counts.
    """
    tables = {}
    for trigger in triggers:
        installed = (known or {}).get(str(trigger.name))
        order = (trigger.on in OWN_TABLES, trigger.on == trigger.owner, trigger.on)
        tables[installed.table if installed else place(trigger.on)] = order
        tables |= {place(source): (False, source == trigger.owner, source) for source in trigger.sources}
    return f"LOCK TABLE {', '.join(sorted(tables, key=tables.__getitem__))} IN SHARE ROW EXCLUSIVE MODE;"


def runner(connection: BaseDatabaseWrapper) -> Run:
    """Return what runs SQL as it is, percent signs and all."""

    def run(sql: str) -> None:
        with connection.cursor() as cursor:
            cursor.execute(sql, None)

    return run


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
        others |= {str(t.name): t for t in compile_plan(replace(other, rank=plan.rank, writes=plan.writes))}
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
        parts += [lock_sql([*triggers, *left], place), *(trigger.render_uninstall(place) for trigger in left)]
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
