"""INSTALL: from one set of triggers to another, no writer in between."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from trigger_kit.database.catalog import OWN_TABLES, InstalledTrigger, Placement, find_triggers, state_sql
from trigger_kit.database.table_locks import lock_statement, patiently
from trigger_kit.exceptions import TriggerKitError
from trigger_kit.sql import CompiledTrigger
from trigger_kit.sql.shared import CREATE_OWN_TABLES
from trigger_kit.sql.text import CHECK_NOW, fill_placeholders, identifier

__all__ = ["READ_COMMITTED_ONLY", "Run", "change_triggers", "lock_order", "runner", "tables_to_lock"]

Run = Callable[[str], None]

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


def change_triggers(
    connection: BaseDatabaseWrapper,
    before: Sequence[CompiledTrigger],
    after: Sequence[CompiledTrigger],
    execute: Run | None = None,
    schema_change: Callable[[], None] | None = None,
) -> None:
    """Bring triggers from one set to another, in one transaction.

    All tables concerned are locked first, sources before the target: no writer may run between two functions of one
    edge. A trigger that somebody disabled stays so. ``execute`` takes the SQL in place of a cursor (sqlmigrate).
    ``schema_change`` runs in the middle: ``before`` names tables and columns as they are before it, ``after`` as they
    are afterwards.
    """
    if not before and not after:
        return
    run = execute or runner(connection)
    known = _installed(connection, [*before, *after])
    if not schema_change:
        _refuse_shared_targets(connection, after, known)
    # What is not installed may name tables that have gone, or have another name by now.
    are_all_there = bool(execute) if schema_change else not after
    going = [trigger for trigger in before if are_all_there or str(trigger.name) in known]
    tables = tables_to_lock(connection, going if schema_change else [*going, *after], known)

    def change() -> None:
        run(READ_COMMITTED_ONLY)
        if not schema_change:
            for owner in _by_owner(after):
                run(fill_placeholders(CREATE_OWN_TABLES, Placement(connection, owner)))
        if tables:
            run(lock_statement(tables))
        _clear(connection, before, after, known, run)
        if schema_change:
            schema_change()
        _create(connection, after, known, run)

    if execute:
        change()
        return
    with transaction.atomic(using=connection.alias):
        patiently(connection, change, tables)


def _installed(connection: BaseDatabaseWrapper, triggers: Iterable[CompiledTrigger]) -> dict[str, InstalledTrigger]:
    """Return those of some triggers that are installed, by name.

    Raises TriggerKitError where one is paused for all sessions: what it has noted would be lost with it.
    """
    found: dict[str, InstalledTrigger] = {}
    for owner, group in _by_owner(triggers).items():
        known = find_triggers(connection, {str(t.name) for t in group}, Placement(connection, owner).schema)
        if any(item.is_paused for item in known.values()):
            raise TriggerKitError(
                f"The rules that keep {owner} are paused, so that their triggers cannot change. Run manage.py "
                "trigger_kit resume first, with models that still have them; trigger_kit ls says who has paused them."
            )
        found |= known
    return found


def _refuse_shared_targets(
    connection: BaseDatabaseWrapper, triggers: Iterable[CompiledTrigger], known: Mapping[str, InstalledTrigger]
) -> None:
    """Refuse to keep one target from the tables of several schemas: its functions can read those of one only."""
    for owner, group in _by_owner(triggers).items():
        place = Placement(connection, owner)
        for trigger in group:
            installed = known.get(str(trigger.name))
            if installed and installed.table_schema != place.schema_of(trigger.on):
                raise TriggerKitError(
                    f"{place(owner)} is kept from {installed.table} already, so it cannot be kept from "
                    f"{place(trigger.on)} too: several schemas share the target, and each has a source of its own. "
                    "Let each schema have a target of its own, or remove the rule."
                )


def _by_owner(triggers: Iterable[CompiledTrigger]) -> dict[str, list[CompiledTrigger]]:
    groups: dict[str, list[CompiledTrigger]] = {}
    for trigger in triggers:
        groups.setdefault(trigger.owner, []).append(trigger)
    return groups


def tables_to_lock(
    connection: BaseDatabaseWrapper,
    triggers: Iterable[CompiledTrigger],
    known: Mapping[str, InstalledTrigger] | None = None,
) -> list[str]:
    """Return the tables that triggers concern, as SQL: sources before targets, our own last.

    A table may have another name by now: that of the installed trigger counts.
    """
    tables: dict[str, tuple[bool, bool, str]] = {}
    for owner, group in _by_owner(triggers).items():
        place = Placement(connection, owner)
        for trigger in group:
            installed = (known or {}).get(str(trigger.name))
            tables[installed.table if installed else place(trigger.on)] = _turn(trigger, trigger.on)
            tables |= {place(source): _turn(trigger, source) for source in trigger.sources}
    return sorted(tables, key=tables.__getitem__)


def lock_order(triggers: Iterable[CompiledTrigger]) -> dict[str, tuple[bool, bool, str]]:
    """Return the tables that triggers concern, by their names in Django, with what they are sorted by to be locked."""
    order: dict[str, tuple[bool, bool, str]] = {}
    for trigger in triggers:
        order |= {table: _turn(trigger, table) for table in (trigger.owner, *trigger.sources, trigger.on)}
    return order


def _turn(trigger: CompiledTrigger, table: str) -> tuple[bool, bool, str]:
    """Return what tells when a table of a trigger is locked: sources, then targets, then our own tables."""
    return table in OWN_TABLES, table == trigger.owner, table


def _clear(
    connection: BaseDatabaseWrapper,
    before: Sequence[CompiledTrigger],
    after: Sequence[CompiledTrigger],
    known: Mapping[str, InstalledTrigger],
    run: Run,
) -> None:
    """Empty what is beside installed triggers, such as queues, and drop the triggers that go."""
    kept = {trigger.name for trigger in after}
    if any(trigger.name not in kept for trigger in before):
        for sql in CHECK_NOW.splitlines():
            run(sql)
    for owner, group in _by_owner(before).items():
        place = Placement(connection, owner)
        for trigger in group:
            installed = known.get(str(trigger.name))
            if trigger.name not in kept:
                where = (installed.table, installed.trigger) if installed else ()
                run(trigger.render_uninstall(place, *where))
            elif installed and (undo := trigger.render_undo(place)):
                run(undo)


def _create(
    connection: BaseDatabaseWrapper,
    after: Sequence[CompiledTrigger],
    known: Mapping[str, InstalledTrigger],
    run: Run,
) -> None:
    """Install triggers; one that was disabled is disabled again."""
    for owner, group in _by_owner(after).items():
        place = Placement(connection, owner)
        for trigger in group:
            # Another version may have been installed behind the migrations' back.
            if undo := trigger.render_undo(place):
                run(undo)
            installed = known.get(str(trigger.name))
            if installed and installed.trigger != trigger.placed_name(place):
                run(f"DROP TRIGGER IF EXISTS {identifier(installed.trigger)} ON {place(trigger.on)};")
            run(trigger.render_install(place))
            # CREATE OR REPLACE TRIGGER enables a trigger again: put back what somebody had chosen.
            if installed and (state := state_sql(place(trigger.on), trigger.placed_name(place), installed.enabled)):
                run(state)


def runner(connection: BaseDatabaseWrapper) -> Run:
    """Return what runs SQL as it is, percent signs and all."""

    def run(sql: str) -> None:
        with connection.cursor() as cursor:
            cursor.execute(sql, None)

    return run
