"""INSTALL: bring a database from whatever it has to what rules want, no writer in between.

Locks come first, then the catalog is read: what it says of ownership is all that counts, whatever was faked, has failed
in the middle, or is being done by another process. Of the targets concerned, everything that is not wanted is dropped;
what differs is created. No other target is touched.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from django.db import DatabaseError, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from trigger_kit.database.catalog import InstalledTrigger, Placement, state_sql
from trigger_kit.database.changes import Change, Found, Places, is_outdated, is_there, tables_of, turn_of, unfilled
from trigger_kit.database.owners import is_settled, settling
from trigger_kit.database.table_locks import lock_statement, patiently
from trigger_kit.database.wanted import Wanted
from trigger_kit.exceptions import TriggerKitError
from trigger_kit.sql.compilation import drop_beside, undo_beside
from trigger_kit.sql.owners import REFUSED, refuse_foreign
from trigger_kit.sql.shared import CREATE_OWN_TABLES
from trigger_kit.sql.text import CHECK_NOW, fill_placeholders, identifier
from trigger_kit.sql.trigger import GUARD

__all__ = ["READ_COMMITTED_ONLY", "Fill", "Run", "converge", "runner"]

Run = Callable[[str], None]
Fill = Callable[[Wanted, list[str]], None]

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


def converge(
    connection: BaseDatabaseWrapper,
    changes: Sequence[Change],
    change: Callable[[], None] | None = None,
    fill: Fill | None = None,
) -> None:
    """Bring the triggers of some targets to what is wanted, in one transaction.

    All tables concerned are locked first, sources before targets: no writer may run between two functions of one edge.
    A trigger that somebody disabled stays so. ``change`` runs in the middle: before it, tables and columns have the
    names that ``before`` says, afterwards those of ``after``. ``fill`` writes the values of fields that are not filled,
    targets before the sources that they sum: filling a source then sends its differences to targets that are right.

    Raises TriggerKitError where triggers that have to change are paused for all sessions.
    """
    owners = set[str]().union(*(item.owners for item in changes)) if changes else set()
    run = runner(connection)
    with transaction.atomic(using=connection.alias):
        places = Places(connection)
        tables = _tables_to_lock(places, changes, Found.read(places, owners))

        def attempt() -> None:
            run(READ_COMMITTED_ONLY)
            if tables:
                run(lock_statement(tables))
            _bring(connection, changes, owners, run, change, fill)

        patiently(connection, attempt, tables)


def _bring(
    connection: BaseDatabaseWrapper,
    changes: Sequence[Change],
    owners: set[str],
    run: Run,
    change: Callable[[], None] | None,
    fill: Fill | None,
) -> None:
    """Do what a look at the catalog says, under the locks."""
    places = Places(connection)
    found = Found.read(places, owners)
    _require_running(places, changes, found)
    open_fields = {id(item): unfilled(item, found) for item in changes if item.after}
    _drop(places, changes, found, run)
    if change is not None:
        change()
        places = Places(connection)
    for item in changes:
        if item.after:
            _create(
                places, item, found, _noted(item, open_fields[id(item)], may_fill=fill is not None and item.fills), run
            )
    if fill is not None:
        for item in reversed(changes):
            if item.after and item.fills and open_fields[id(item)]:
                fill(item.after, open_fields[id(item)])


def _noted(change: Change, open_fields: Sequence[str], *, may_fill: bool) -> dict[str, str]:
    """Return what the guard's COMMENT says of the values; nothing of those that stay unfilled."""
    assert change.after is not None
    return {n: "" if n in open_fields and not may_fill else value for n, value in change.after.values.items()}


# Locks --------------------------------------------------------------------------------------------------------------


def _tables_to_lock(places: Places, changes: Sequence[Change], found: Found) -> list[str]:
    """Return the tables of triggers that go or come, as SQL, without those that only a change will make."""
    tables: dict[str, tuple[bool, bool, str]] = {}
    for item in changes:
        installed = found.of(item)
        going = [trigger for trigger in installed.values() if is_outdated(places, item, trigger)]
        for trigger in going:
            tables[trigger.sql_table] = turn_of(trigger.target, trigger.table_name)
        for wanted in (item.before, item.after):
            if wanted is not None:
                # Values are filled again beside writers: nobody may write meanwhile.
                differing = [t for t in wanted.triggers if item.refill or not is_there(places, t, installed)]
                tables |= tables_of(places, differing) if differing else {}
    return sorted(tables, key=tables.__getitem__)


def _require_running(places: Places, changes: Sequence[Change], found: Found) -> None:
    """Raise TriggerKitError where triggers that change are paused: what they have noted would be lost."""
    for change in changes:
        paused = [item for item in found.of(change).values() if item.is_paused and is_outdated(places, change, item)]
        if paused:
            raise TriggerKitError(
                f"The rules that keep {paused[0].target} are paused, so that their triggers cannot change. Run "
                "manage.py trigger_kit resume first, with models that still have them; trigger_kit ls says who has "
                "paused them."
            )


# Drop and create ----------------------------------------------------------------------------------------------------


def _drop(places: Places, changes: Sequence[Change], found: Found, run: Run) -> None:
    """Settle what waits beside triggers that change, and drop those that nobody wants."""
    going = [(change, item) for change in changes for item in found.of(change).values()]
    going = [(change, item) for change, item in going if is_outdated(places, change, item)]
    _refuse_strangers(places, [item for _, item in going], run)
    unwanted = [(change, item) for change, item in going if not _is_wanted(change, item)]
    if unwanted or any(item.comment.role == GUARD for _, item in going):
        # The functions that the guard brings along are dropped: nothing may wait that calls them.
        for sql in CHECK_NOW.splitlines():
            run(sql)
    for _, item in going:
        if undo := undo_beside(item.comment.role, item.target):
            run(fill_placeholders(undo, places.of(item.target, item.schema)))
    for _, item in unwanted:
        run(f"DROP TRIGGER IF EXISTS {identifier(item.trigger)} ON {item.sql_table};")
        run(f"DROP FUNCTION IF EXISTS {identifier(item.schema)}.{identifier(item.name)}();")
        if drop := drop_beside(item.comment.role, item.target):
            run(fill_placeholders(drop, places.of(item.target, item.schema)))


def _refuse_strangers(places: Places, items: Sequence[InstalledTrigger], run: Run) -> None:
    """Refuse to settle what is not ours: anybody may write our COMMENT at a trigger on a table of his own."""
    names: dict[tuple[str, str], list[str]] = {}
    for item in items:
        names.setdefault((item.target, item.schema), []).append(item.name)
    for (target, schema), functions in names.items():
        place = places.of(target, schema)
        if place.has(target):
            run(fill_placeholders(refuse_foreign(target, functions), place))


def _is_wanted(change: Change, item: InstalledTrigger) -> bool:
    return change.after is not None and any(trigger.name == item.name for trigger in change.after.triggers)


def _create(places: Places, change: Change, found: Found, values: Mapping[str, str], run: Run) -> None:
    """Create the triggers of a target that are missing or differ; one that was disabled is disabled again."""
    assert change.after is not None
    place, installed = places.of(change.after.table), found.of(change)
    _refuse_shared_target(place, change.after, installed)
    differing = [trigger for trigger in change.after.triggers if not is_there(places, trigger, installed)]
    must_settle = bool(differing) or not is_settled(place, change.after)
    if must_settle:
        run(fill_placeholders(change.after.belongings.refuse(), place))
    if differing:
        run(fill_placeholders(CREATE_OWN_TABLES, place))
    for trigger in differing:
        # Another version may have been installed behind the migrations' back.
        if undo := undo_beside(trigger.role, trigger.owner):
            run(fill_placeholders(undo, place))
        item = installed.get(trigger.name)
        if item and (item.trigger, item.sql_table) != (trigger.placed_name(place), place(trigger.on)):
            run(f"DROP TRIGGER IF EXISTS {identifier(item.trigger)} ON {item.sql_table};")
        run(trigger.render_install(place, values))
        # CREATE OR REPLACE TRIGGER enables a trigger again: put back what somebody had chosen.
        if item and (state := state_sql(place(trigger.on), trigger.placed_name(place), item.enabled)):
            run(state)
    for text in settling(change.after, place) if must_settle else ():
        run(fill_placeholders(text, place))
    if must_settle and not differing:
        run(fill_placeholders(change.after.belongings.pin(), place))
    for trigger in change.after.triggers:
        if trigger not in differing and trigger.role == GUARD and found.values(change) != values:
            run(trigger.render_comment(place, values))


def _refuse_shared_target(place: Placement, wanted: Wanted, installed: Mapping[str, InstalledTrigger]) -> None:
    """Refuse to keep one target from the tables of several schemas: its functions can read those of one only."""
    for trigger in wanted.triggers:
        item = installed.get(trigger.name)
        if item and item.table_schema != place.schema_of(trigger.on):
            raise TriggerKitError(
                f"{place(wanted.table)} is kept from {item.table} already, so it cannot be kept from "
                f"{place(trigger.on)} too: several schemas share the target, and each has a source of its own. "
                "Let each schema have a target of its own, or remove the rule."
            )


def runner(connection: BaseDatabaseWrapper) -> Run:
    """Return what runs SQL as it is, percent signs and all; what a block of ours refuses is an error of one line."""

    def run(sql: str) -> None:
        try:
            with connection.cursor() as cursor:
                cursor.execute(sql, None)
        except DatabaseError as error:
            if getattr(error.__cause__, "sqlstate", "") != REFUSED:
                raise
            told: Any = error.__cause__
            raise TriggerKitError(f"{told.diag.message_primary} {told.diag.message_hint}") from error

    return run
