"""OPERATE: what the triggers of a database cannot see, and what undoes their work, as far as its catalog tells.

``docs/blind_spots.md`` has the whole list; what leaves no trace in the catalog is found by ``verify``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from trigger_kit.database.catalog import InstalledTrigger, Placement, installed_triggers
from trigger_kit.maintenance.catalog_queries import CATALOG_QUERIES, COMMIT, EDITED, ELSEWHERE, ROLE, CatalogQuery
from trigger_kit.plan.plan import Plan
from trigger_kit.rules import Timing
from trigger_kit.sql.pending import queue_table
from trigger_kit.sql.text import fill_placeholders, identifier
from trigger_kit.sql.trigger import CompiledTrigger

__all__ = ["BlindSpot", "blind_spots", "is_edited"]


@dataclass(frozen=True)
class BlindSpot:
    """A way for values of some rules to drift without a trace, seen in the catalog.

    ``is_certain`` says that ordinary writes make them drift; otherwise only special ones do, such as those that name a
    partition. ``subject`` is the table, trigger, function or role that it is about.
    """

    kind: str
    subject: str
    uris: tuple[str, ...]
    reason: str
    hint: str
    is_certain: bool = True

    def __str__(self) -> str:
        return f"{self.reason} {self.hint}"


@dataclass(frozen=True)
class Sight:
    """What one query has found for one plan."""

    query: CatalogQuery
    table: str
    subject: str
    plan: Plan


class Ground:
    """What the catalog has of one plan: where its tables are, by their SQL, and its triggers that are installed."""

    def __init__(
        self, connection: BaseDatabaseWrapper, plan: Plan, installed: Iterable[InstalledTrigger], *, is_current: bool
    ) -> None:
        self.plan = plan
        self.place = Placement(connection, plan.target)
        # Where everything is as it is compiled, the catalog says what is the plan's.
        self.compiled: dict[str, CompiledTrigger] = {} if is_current else _compiled(plan)
        self.known = {
            item.name: item
            for item in installed
            if item.schema == self.place.schema
            and (item.target == plan.target if is_current else item.name in self.compiled)
        }
        self.queue = fill_placeholders(queue_table(plan.target), self.place) if plan.folds(Timing.QUEUED) else ""
        self.target = self.place(plan.target)

    @property
    def names(self) -> list[str]:
        """The SQL of every table that may be asked about."""
        on = (trigger.on for trigger in self.compiled.values())
        return [*map(self.place, dict.fromkeys((*self.plan.tables, *on))), *([self.queue] if self.queue else [])]

    def tables(self, of: str) -> list[str]:
        """Return the SQL of the tables that a query is about."""
        sources = [edge.source for edge in self.plan.edges]
        names = {"all": self.plan.tables, "sources": sources, "target": [self.plan.target]}[of]
        return list(dict.fromkeys(map(self.place, names)))


def _compiled(plan: Plan) -> dict[str, CompiledTrigger]:
    from trigger_kit.sql.compilation import compile_plan

    return {trigger.name: trigger for trigger in compile_plan(plan)}


def blind_spots(connection: BaseDatabaseWrapper, plans: Sequence[Plan], *, is_current: bool = False) -> list[BlindSpot]:
    """Return what the catalog tells about writes that the triggers of these plans do not see.

    ``is_current`` says that all of them are known to be what they are compiled to, on the tables where they should be.
    """
    installed = installed_triggers(connection)
    grounds = [Ground(connection, plan, installed, is_current=is_current) for plan in plans]
    tables = _present(connection, {name for ground in grounds for name in ground.names})
    asked = {"tables": list(set(tables.values())), "triggers": [item.trigger for item in installed]}
    answers = {query: _answers(connection, query, asked) for query in CATALOG_QUERIES}
    roles = [subject for _, subject in _rows(connection, ROLE.sql)]
    sights: list[Sight] = []
    for ground in grounds:
        if ground.target in tables:
            sights += [Sight(ROLE, "", role, ground.plan) for role in roles]
            sights += _seen(ground, tables, answers)
            sights += _without_commit(connection, ground)
            if not is_current:
                sights += _elsewhere(ground, tables)
                sights += _edited(connection, ground)
    return _spots(sights)


def is_edited(connection: BaseDatabaseWrapper, plans: Sequence[Plan]) -> bool:
    """Whether somebody has edited a function or trigger of some plans."""
    installed = installed_triggers(connection)
    grounds = (Ground(connection, plan, installed, is_current=False) for plan in plans)
    return any(True for ground in grounds for _ in _edited(connection, ground))


def _present(connection: BaseDatabaseWrapper, names: Iterable[str]) -> dict[str, str]:
    """Return the tables that exist, as PostgreSQL writes them, by their SQL."""
    sql = "SELECT name, to_regclass(name)::text FROM unnest(%(names)s::text[]) AS name"
    return {name: table for name, table in _rows(connection, sql, {"names": list(names)}) if table is not None}


def _answers(connection: BaseDatabaseWrapper, query: CatalogQuery, asked: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the subjects of a query by table."""
    found: dict[str, list[str]] = {}
    for table, subject in _rows(connection, query.sql, asked):
        found.setdefault(table, []).append(subject)
    return found


def _seen(
    ground: Ground, tables: Mapping[str, str], answers: Mapping[CatalogQuery, Mapping[str, list[str]]]
) -> Iterator[Sight]:
    """Tell which answers concern a plan."""
    own = {item.trigger for item in ground.known.values()}
    others = {"target": tables.get(ground.target), "queue": tables.get(ground.queue)}
    for query, found in answers.items():
        for table in (tables[name] for name in ground.tables(query.of) if name in tables):
            other = others.get(query.unless)
            if not query.unless:
                subjects = [name for name in found.get(table, ()) if not query.is_own or name in own]
                yield from (Sight(query, table, subject, ground.plan) for subject in subjects)
            elif table in found and other is not None and other not in found:
                yield Sight(query, table, other, ground.plan)


def _elsewhere(ground: Ground, tables: Mapping[str, str]) -> Iterator[Sight]:
    """Tell whether triggers are on other tables than those that have the names of the plan's by now."""
    for name, item in ground.known.items():
        expected = tables.get(ground.place(ground.compiled[name].on))
        if expected not in {None, item.table}:
            yield Sight(ELSEWHERE, item.table, str(expected), ground.plan)


def _edited(connection: BaseDatabaseWrapper, ground: Ground) -> Iterator[Sight]:
    """Tell which functions and triggers of a plan somebody has edited."""
    from trigger_kit.maintenance.edits import edited_objects

    for name in edited_objects(connection, ground.place, ground.compiled, ground.known):
        yield Sight(EDITED, "", name, ground.plan)


def _without_commit(connection: BaseDatabaseWrapper, ground: Ground) -> Iterator[Sight]:
    """Tell whether DEFERRED rules of a plan have nobody to settle them; their notes are written all the same."""
    is_needed = any(item.table_name == "tk_commit" for item in ground.known.values())
    if is_needed and not _rows(connection, COMMIT.sql, {"schema": ground.place.schema}):
        yield Sight(COMMIT, ground.place("tk_commit"), "tk_commit", ground.plan)


def _spots(sights: Iterable[Sight]) -> list[BlindSpot]:
    """Put together what was found for several plans, and write it down."""
    plans: dict[tuple[CatalogQuery, str, str], dict[Plan, None]] = {}
    for sight in sights:
        plans.setdefault((sight.query, sight.table, sight.subject), {})[sight.plan] = None
    return [
        BlindSpot(
            query.kind,
            subject,
            tuple(uri for plan in concerned for uri in plan.uris),
            *_texts(query, table, subject, concerned),
            query.is_certain,
        )
        for (query, table, subject), concerned in plans.items()
    ]


def _texts(query: CatalogQuery, table: str, subject: str, plans: Iterable[Plan]) -> tuple[str, str]:
    models = " ".join(plan.model._meta.label for plan in plans)
    words = {"table": table, "subject": subject, "quoted": identifier(subject), "models": models}
    return query.reason.format(**words), query.hint.format(**words)


def _rows(connection: BaseDatabaseWrapper, sql: str, params: Mapping[str, Any] | None = None) -> list[tuple[str, Any]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return list(cursor.fetchall())
