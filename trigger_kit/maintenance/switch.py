"""OPERATE: install and uninstall, enable and disable the triggers of targets, while everybody else goes on.

Tables are locked for a moment each, and let go when somebody is in the way. What has to be filled is filled under a
pause: the triggers note what is touched, the rows are filled in batches, and the end of the pause repairs the rest.
Whatever stops this leaves the pause, which ``ls`` shows and ``resume`` ends.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from django.db import DEFAULT_DB_ALIAS
from django.db.backends.base.base import BaseDatabaseWrapper

from trigger_kit.database.catalog import InstalledTrigger, Placement, find_triggers, trigger_status
from trigger_kit.database.changes import Change, Places, owned_by, tables_of
from trigger_kit.database.converge import converge, runner
from trigger_kit.database.installation import chosen_plans, require_postgresql
from trigger_kit.database.owners import is_settled
from trigger_kit.database.records import forget_record, read_records, write_record
from trigger_kit.database.table_locks import lock_tables
from trigger_kit.database.wanted import Wanted
from trigger_kit.exceptions import TriggerKitError
from trigger_kit.maintenance.long_pauses import PAUSE, end_pause, pause_installed, paused_functions, rule_names
from trigger_kit.maintenance.switched import Switched, counted, each_target, read_committed
from trigger_kit.plan.plan import Plan
from trigger_kit.resolve.declared import select
from trigger_kit.sql.compilation import compile_plan
from trigger_kit.sql.text import CHECK_NOW, advisory_number, identifier
from trigger_kit.sql.trigger import CompiledTrigger

__all__ = ["companions", "disable", "enable", "install_rules", "uninstall"]

# The kind of record that says in which state disabled triggers were before.
DISABLED = "disabled"


def install_rules(
    uris: Sequence[str] = (), *, using: str = DEFAULT_DB_ALIAS, dry_run: bool = False
) -> Iterator[Switched]:
    """Install the triggers of all rules, or of some, that are missing or outdated, and fill their columns.

    All rules of a target share their triggers, so that they are installed together.
    """
    connection = require_postgresql(using)
    tables = set(connection.introspection.table_names())

    def change(plan: Plan) -> Switched:
        if dry_run:
            return install(plan)
        with _alone(connection, plan):
            return install(plan)

    def install(plan: Plan) -> Switched:
        label = plan.model._meta.label
        if missing := _missing_tables(plan, connection, tables):
            raise TriggerKitError(f"{', '.join(missing)} does not exist. Run manage.py migrate.")
        triggers, known = compiled_and_known(connection, plan)
        states = {t.name: trigger_status(t, known.get(t.name)) for t in triggers}
        needed = [trigger for trigger in triggers if states[trigger.name] in {"missing", "outdated"}]
        left = left_over(connection, plan)
        if not needed and not left and not is_settled(Placement(connection, plan.target), Wanted(plan)):
            return _settle(connection, plan, dry_run=dry_run)
        if not needed and not left:
            disabled = sum(state == "disabled" for state in states.values())
            advice = f"{counted(disabled, 'trigger')} disabled: see trigger_kit enable" if disabled else ""
            return Switched(" ", label, "is installed", advice)
        require_running(connection, plan)
        text = f"{rule_names(plan)}: {_what(Counter(states.values()), len(left))}"
        if dry_run:
            return Switched("+", label, f"{text}; values filled")
        with read_committed(connection):
            converge(connection, [Change(after=Wanted(plan))], fill=_at_the_end_of_the_pause)
            pause_installed(connection, plan, "install")
        changed, _ = end_pause(connection, plan)
        return Switched("+", label, f"{text}; {counted(changed, 'value')} changed")

    return each_target(chosen_plans(uris, using), change)


def uninstall(uris: Sequence[str] = (), *, using: str = DEFAULT_DB_ALIAS, dry_run: bool = False) -> Iterator[Switched]:
    """Drop the triggers and functions of the targets of all rules, or of some; stored values stay as they are.

    What is pending for QUEUED rules is folded first.

    Raises TriggerKitError for a part of a target's rules: they share their triggers, and what would be left of these is
    what no migration knows.
    """
    connection = require_postgresql(using)

    def change(plan: Plan) -> Switched:
        label = plan.model._meta.label
        _, known = compiled_and_known(connection, plan)
        left = left_over(connection, plan)
        if not known and not left:
            return Switched(" ", label, "is not installed")
        require_running(connection, plan)
        text = f"{rule_names(plan)}: {counted(len(known) + len(left), 'trigger')} dropped; stored values stay"
        if not dry_run:
            with read_committed(connection):
                converge(connection, [Change(table=plan.target)])
                forget_record(connection, Placement(connection, plan.target).schema, label, DISABLED)
        advice = f"an INSERT must name them where they are NOT NULL; back by trigger_kit install {label}"
        return Switched("-", label, text, advice)

    return each_target(_whole_plans(uris, using), change)


def disable(uris: Sequence[str] = (), *, using: str = DEFAULT_DB_ALIAS, dry_run: bool = False) -> Iterator[Switched]:
    """Disable the triggers of the targets of all rules, or of some: nothing maintains or guards them any more.

    Raises TriggerKitError for a part of a target's rules: they share their triggers.
    """
    connection = require_postgresql(using)

    def change(plan: Plan) -> Switched:
        label = plan.model._meta.label
        _, known = compiled_and_known(connection, plan)
        enabled = [item for item in known.values() if item.enabled != "D"]
        if not enabled:
            return Switched(" ", label, "is disabled already" if known else "is not installed")
        require_running(connection, plan)
        if not dry_run:
            with read_committed(connection):
                _lock(connection, plan)
                _remember(connection, plan, enabled)
                _switch(connection, enabled, dict.fromkeys((item.name for item in enabled), "D"))
        text = f"{rule_names(plan)}: {counted(len(enabled), 'trigger')} disabled"
        advice = (
            "values go out of date, anybody may write them, and an INSERT must name them where they are NOT NULL; "
            f"back by trigger_kit enable {label}"
        )
        return Switched("~", label, text, advice)

    return each_target(_whole_plans(uris, using), change)


def enable(
    uris: Sequence[str] = (), *, using: str = DEFAULT_DB_ALIAS, fill: bool = True, dry_run: bool = False
) -> Iterator[Switched]:
    """Enable the triggers of the targets of all rules, or of some, and fill their columns.

    What has changed meanwhile is not known, so that every row is computed. ``fill=False`` leaves that out: values may
    be wrong then. All rules of a target share their triggers, so that they are enabled together.
    """
    connection = require_postgresql(using)

    def change(plan: Plan) -> Switched:
        label = plan.model._meta.label
        triggers, known = compiled_and_known(connection, plan)
        disabled = [item for item in known.values() if item.enabled == "D"]
        if not disabled:
            return Switched(" ", label, "is enabled" if known else "is not installed")
        made = {trigger.name: trigger for trigger in triggers}
        if len(known) < len(triggers) or any(not item.is_made_from(made[name]) for name, item in known.items()):
            raise TriggerKitError(
                f"its triggers are not those of today's rules: run trigger_kit install {label} first."
            )
        text = f"{rule_names(plan)}: {counted(len(disabled), 'trigger')} enabled"
        advice = "" if fill else f"values may be wrong: look with trigger_kit verify {label}"
        if dry_run:
            return Switched("~", label, f"{text}; values filled" if fill else text, advice)
        schema = Placement(connection, plan.target).schema
        with read_committed(connection):
            _lock(connection, plan)
            before = read_records(connection, schema, DISABLED).get(label, {})
            _switch(connection, disabled, before)
            forget_record(connection, schema, label, DISABLED)
            if fill:
                pause_installed(connection, plan, "enable")
        if not fill:
            return Switched("~", label, text, advice)
        changed, _ = end_pause(connection, plan)
        return Switched("~", label, f"{text}; {counted(changed, 'value')} changed")

    return each_target(chosen_plans(uris, using), change)


def companions(uris: Sequence[str], using: str = DEFAULT_DB_ALIAS) -> dict[str, list[str]]:
    """Return the rules that share their triggers with those that are named, by the label of their model."""
    plans = chosen_plans(uris, using)
    named = set(select(uris, [uri for plan in plans for uri in plan.uris]))
    found = {plan.model._meta.label: [uri for uri in plan.uris if uri not in named] for plan in plans}
    return {label: others for label, others in found.items() if others}


@contextmanager
def _alone(connection: BaseDatabaseWrapper, plan: Plan) -> Iterator[None]:
    """Let who installs the same target meanwhile wait: it would find the pause under which this one fills the rows."""
    number = advisory_number("install", Placement(connection, plan.target).schema, plan.target)
    run = runner(connection)
    if connection.in_atomic_block:
        run(f"SELECT pg_advisory_xact_lock({number})")
        yield
        return
    run(f"SELECT pg_advisory_lock({number})")
    try:
        yield
    finally:
        # A connection that is lost has let go of it.
        if connection.is_usable():
            run(f"SELECT pg_advisory_unlock({number})")


def _whole_plans(uris: Sequence[str], using: str) -> list[Plan]:
    for label, others in companions(uris, using).items():
        raise TriggerKitError(
            f"All rules of {label} share their triggers, {', '.join(others)} too. Name {label} to mean all of them; to "
            "be rid of one, remove it from Meta.denormalizations and migrate."
        )
    return chosen_plans(uris, using)


def compiled_and_known(
    connection: BaseDatabaseWrapper, plan: Plan
) -> tuple[tuple[CompiledTrigger, ...], dict[str, InstalledTrigger]]:
    """Return the triggers of a plan, and those of them that are installed, by name."""
    triggers = compile_plan(plan)
    names = {trigger.name for trigger in triggers}
    return triggers, find_triggers(connection, names, Placement(connection, plan.target).schema)


def require_running(connection: BaseDatabaseWrapper, plan: Plan) -> None:
    """Raise TriggerKitError where a plan is paused for all sessions."""
    label = plan.model._meta.label
    records = read_records(connection, Placement(connection, plan.target).schema, PAUSE)
    if label in records or any(paused_functions(connection, plan).values()):
        raise TriggerKitError(f"it is paused: run trigger_kit resume {label} first.")


def _settle(connection: BaseDatabaseWrapper, plan: Plan, *, dry_run: bool) -> Switched:
    """Give what is installed to the owner of the target's table, and let it look where nobody else may create."""
    if not dry_run:
        with read_committed(connection):
            converge(connection, [Change(after=Wanted(plan), fills=False)])
    return Switched("~", plan.model._meta.label, f"{rule_names(plan)}: owner and search_path of functions set")


def _at_the_end_of_the_pause(wanted: Wanted, fields: list[str]) -> None:
    """Leave the values to the end of the pause, which fills every row; an interrupted one is shown until then."""


def left_over(connection: BaseDatabaseWrapper, plan: Plan) -> list[InstalledTrigger]:
    """Return the installed triggers of a target that its rules do not need any more: they would count twice."""
    wanted = {trigger.name for trigger in compile_plan(plan)}
    return [item for item in owned_by(connection, plan.target) if item.name not in wanted]


def _missing_tables(plan: Plan, connection: BaseDatabaseWrapper, tables: set[str]) -> list[str]:
    there = {table for table in plan.tables if table in tables or _exists(connection, table)}
    return [table for table in plan.tables if table not in there]


def _exists(connection: BaseDatabaseWrapper, table: str) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass(%s)", [connection.ops.quote_name(table)])
        (found,) = cursor.fetchone()
    return found is not None


def _what(states: Counter[str], left: int) -> str:
    """Return what an installation does to triggers, in words."""
    parts = [(states["missing"], "installed"), (states["outdated"], "replaced"), (left, "dropped")]
    return ", ".join(f"{counted(number, 'trigger')} {verb}" for number, verb in parts if number)


def _lock(connection: BaseDatabaseWrapper, plan: Plan) -> None:
    """Lock the tables of a plan's triggers; checks that wait for the end of the transaction come first."""
    triggers, known = compiled_and_known(connection, plan)
    tables = tables_of(Places(connection), [t for t in triggers if t.name in known])
    lock_tables(connection, sorted(tables, key=tables.__getitem__))
    for sql in CHECK_NOW.splitlines():
        runner(connection)(sql)


def _switch(connection: BaseDatabaseWrapper, items: Iterable[InstalledTrigger], states: dict[str, Any]) -> None:
    """Give triggers the states of pg_trigger.tgenabled that are given, by default the usual one."""
    verbs = {"D": "DISABLE", "R": "ENABLE REPLICA", "A": "ENABLE ALWAYS"}
    for item in items:
        verb = verbs.get(states.get(item.name, "O"), "ENABLE")
        runner(connection)(f"ALTER TABLE {item.table} {verb} TRIGGER {identifier(item.trigger)}")


def _remember(connection: BaseDatabaseWrapper, plan: Plan, items: Iterable[InstalledTrigger]) -> None:
    """Note which triggers fire always, or on replicas, for the day when they are enabled again."""
    schema, label = Placement(connection, plan.target).schema, plan.model._meta.label
    states = read_records(connection, schema, DISABLED).get(label, {})
    states |= {item.name: item.enabled for item in items if item.enabled in {"A", "R"}}
    write_record(connection, schema, label, DISABLED, states)
