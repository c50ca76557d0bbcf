"""INSTALL: what becomes of targets, and what a database has of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from django.db.backends.base.base import BaseDatabaseWrapper

from trigger_kit.database.catalog import OWN_TABLES, InstalledTrigger, Placement, installed_triggers
from trigger_kit.database.owners import is_settled
from trigger_kit.database.wanted import Wanted
from trigger_kit.sql.trigger import GUARD, CompiledTrigger

__all__ = [
    "Change",
    "Found",
    "Places",
    "is_outdated",
    "is_there",
    "needed",
    "owned_by",
    "tables_of",
    "turn_of",
    "unfilled",
]


@dataclass(frozen=True, eq=False)
class Change:
    """What becomes of one target: None where it had no rules before, or has none afterwards.

    ``table`` is that of a target which only the catalog knows. ``keeps_values`` says that the values stay what they
    are, as a rename leaves them: fields are paired by their position. ``fills`` says that unfilled fields are filled;
    ``refill`` are fields that are filled in any case, ``filled`` those that have just been.
    """

    before: Wanted | None = None
    after: Wanted | None = None
    table: str = ""
    keeps_values: bool = False
    fills: bool = True
    refill: frozenset[str] = frozenset()
    filled: frozenset[str] = frozenset()

    @property
    def owners(self) -> set[str]:
        """The tables whose triggers are looked for."""
        return {wanted.table for wanted in (self.before, self.after) if wanted} | ({self.table} - {""})


class Places:
    """Where the tables of some targets are, asked once: until a change gives them other names."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self.connection = connection
        self._places: dict[tuple[str, str | None], Placement] = {}

    def of(self, owner: str, schema: str | None = None) -> Placement:
        """Return where the tables of a target are."""
        return self._places.setdefault((owner, schema), Placement(self.connection, owner, schema))


@dataclass
class Found:
    """What a database has for some targets: their triggers by the table that owns them, and by name."""

    triggers: dict[str, dict[str, InstalledTrigger]] = field(default_factory=dict)

    @classmethod
    def read(cls, places: Places, owners: Iterable[str]) -> Found:
        """Read the catalog.

        A table may have had another name when its triggers were made: those whose guard sits on it are its own.
        """
        found = cls()
        installed = installed_triggers(places.connection)
        for owner in sorted(owners):
            place = places.of(owner)
            here = [item for item in installed if item.schema == place.schema]
            names = {owner}
            if place.has(owner):
                table = place(owner)
                names |= {item.target for item in here if item.comment.role == GUARD and item.sql_table == table}
            found.triggers[owner] = {item.name: item for item in here if item.target in names}
        return found

    def all(self) -> list[InstalledTrigger]:
        """Return every trigger once."""
        return list(
            {(item.schema, item.name): item for group in self.triggers.values() for item in group.values()}.values()
        )

    def of(self, change: Change) -> dict[str, InstalledTrigger]:
        """Return the triggers of one target."""
        return {name: item for owner in sorted(change.owners) for name, item in self.triggers[owner].items()}

    def values(self, change: Change) -> dict[str, str]:
        """Return what the fields of a target were filled with."""
        return {
            name: value
            for item in self.of(change).values()
            if item.comment.role == GUARD
            for name, value in item.comment.values.items()
        }


def unfilled(change: Change, found: Found) -> list[str]:
    """Return the fields of a target whose rows were not filled with what their rules mean."""
    assert change.after is not None
    known = found.values(change)
    wanted = change.after.values
    before = change.before.values if change.before else {}
    old_names = (
        dict(zip(wanted, before, strict=True)) if len(before) == len(wanted) else {name: name for name in wanted}
    )

    def is_filled(name: str) -> bool:
        if name in change.refill:
            return False
        if not wanted[name] or known.get(name) == wanted[name] or name in change.filled:
            return True
        old = old_names[name]
        return change.keeps_values and bool(before.get(old)) and known.get(old) == before[old]

    return [name for name in wanted if not is_filled(name)]


def is_there(places: Places, trigger: CompiledTrigger, installed: Mapping[str, InstalledTrigger]) -> bool:
    """Whether a trigger is installed as it is compiled, on the table that has this name now."""
    item = installed.get(trigger.name)
    return item is not None and item.is_made_from(trigger) and item.sql_table == places.of(trigger.owner)(trigger.on)


def is_outdated(places: Places, change: Change, item: InstalledTrigger) -> bool:
    """Whether an installed trigger goes, or is replaced."""
    wanted = {trigger.name: trigger for trigger in change.after.triggers} if change.after else {}
    return item.name not in wanted or not is_there(places, wanted[item.name], {item.name: item})


def tables_of(places: Places, triggers: Iterable[CompiledTrigger]) -> dict[str, tuple[bool, bool, str]]:
    """Return the tables that triggers concern and that are there, as SQL, with what they are sorted by to be locked."""
    tables: dict[str, tuple[bool, bool, str]] = {}
    for trigger in triggers:
        place = places.of(trigger.owner)
        for table in (trigger.owner, *trigger.sources, trigger.on):
            if place.has(table):
                turn = turn_of(trigger.owner, table)
                tables[place(table)] = max(turn, tables.get(place(table), turn))
    return tables


def turn_of(owner: str, table: str) -> tuple[bool, bool, str]:
    """Return what tells when a table is locked: sources, then targets, then our own tables."""
    return table in OWN_TABLES, table == owner, table


def needed(connection: BaseDatabaseWrapper, changes: Sequence[Change]) -> list[Change]:
    """Return the changes that have something to do: of triggers, values that are not filled, or owners."""
    places = Places(connection)
    found = Found.read(places, set[str]().union(*(item.owners for item in changes)) if changes else ())
    return [item for item in changes if is_needed(places, item, found)]


def is_needed(places: Places, change: Change, found: Found) -> bool:
    """Whether a database, of which ``found`` is read, is not what one change wants, or belongs to somebody else."""
    installed = found.of(change)
    if any(is_outdated(places, change, item) for item in installed.values()):
        return True
    if change.after is None:
        return False
    if any(trigger.name not in installed for trigger in change.after.triggers) or unfilled(change, found):
        return True
    return not is_settled(places.of(change.after.table), change.after)


def owned_by(connection: BaseDatabaseWrapper, table: str) -> list[InstalledTrigger]:
    """Return the installed triggers of a target, whatever its table was called when they were made."""
    return Found.read(Places(connection), [table]).all()
