"""INSTALL: what would be done to a database, written down as a script: sqlmigrate, and ``trigger_kit sql``."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from django.db.backends.base.base import BaseDatabaseWrapper

from trigger_kit.database.catalog import InstalledTrigger
from trigger_kit.database.changes import Change, Found, Places, tables_of, unfilled
from trigger_kit.database.converge import READ_COMMITTED_ONLY, Fill, Run
from trigger_kit.database.owners import settling
from trigger_kit.database.table_locks import lock_statement
from trigger_kit.sql.compilation import drop_beside, undo_beside
from trigger_kit.sql.shared import CREATE_OWN_TABLES
from trigger_kit.sql.text import CHECK_NOW, fill_placeholders, identifier
from trigger_kit.sql.trigger import GUARD

__all__ = ["converge_script"]


def converge_script(
    connection: BaseDatabaseWrapper,
    changes: Sequence[Change],
    run: Run,
    change: Callable[[], None] | None = None,
    fill: Fill | None = None,
) -> None:
    """Write down what ``converge`` would do to a database that has what ``before`` says, for sqlmigrate."""
    run(READ_COMMITTED_ONLY.strip())
    triggers = [t for item in changes for wanted in (item.before, item.after) if wanted for t in wanted.triggers]
    places = Places(connection)
    tables = tables_of(places, triggers)
    if change is None:
        for item in changes:
            if item.after:
                place = places.of(item.after.table)
                run(fill_placeholders(item.after.belongings.refuse(), place))
                run(fill_placeholders(CREATE_OWN_TABLES, place).strip())
    if tables:
        run(lock_statement(sorted(tables, key=tables.__getitem__)))
    for item in changes:
        _drop_script(places, item, run)
    if change is not None:
        change()
    for item in changes:
        if item.after:
            _create_script(places, item, run)
    if fill is not None:
        for item in reversed(changes):
            if item.after and item.fills and (fields := unfilled(item, _as_before(item))):
                fill(item.after, fields)


def _as_before(change: Change) -> Found:
    """Return what a database has that is as the state before says."""
    found = Found({owner: {} for owner in change.owners})
    if change.before is not None:
        guard = next(trigger for trigger in change.before.triggers if trigger.role == GUARD)
        comment = guard.comment(change.before.values)
        item = InstalledTrigger(guard.name, "", guard.on, "O", comment, guard.name, "", guard.on)
        found.triggers[change.before.table] = {guard.name: item}
    return found


def _drop_script(places: Places, change: Change, run: Run) -> None:
    if change.before is None:
        return
    place = places.of(change.before.table)
    after = {trigger.name: trigger for trigger in change.after.triggers} if change.after else {}
    going = [t for t in change.before.triggers if t.name not in after or after[t.name].digest != t.digest]
    if any(trigger.name not in after or trigger.role == GUARD for trigger in going):
        for sql in CHECK_NOW.splitlines():
            run(sql)
    for trigger in going:
        if undo := undo_beside(trigger.role, trigger.owner):
            run(fill_placeholders(undo, place))
    for trigger in going:
        if trigger.name not in after:
            run(f"DROP TRIGGER IF EXISTS {identifier(trigger.placed_name(place))} ON {place(trigger.on)};")
            run(f"DROP FUNCTION IF EXISTS {identifier(place.schema)}.{identifier(trigger.name)}();")
            if drop := drop_beside(trigger.role, trigger.owner):
                run(fill_placeholders(drop, place))


def _create_script(places: Places, change: Change, run: Run) -> None:
    assert change.after is not None
    place = places.of(change.after.table)
    before = {trigger.name: trigger.digest for trigger in change.before.triggers} if change.before else {}
    coming = [trigger for trigger in change.after.triggers if before.get(trigger.name) != trigger.digest]
    for trigger in coming:
        if undo := undo_beside(trigger.role, trigger.owner):
            run(fill_placeholders(undo, place))
        run(trigger.render_install(place, change.after.values))
    if coming:
        for text in settling(change.after, place):
            run(fill_placeholders(text, place))
