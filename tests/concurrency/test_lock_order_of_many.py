"""Many rows are locked in the order of their keys, wherever they are locked; who locks in no order is found.

Somebody else holds one of the rows, so that a change stops there; what it has locked by then is looked at.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import psycopg
import pytest
from django.db import connection
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Count, F, Max, Sum

from tests.archive.aggregates import StringAgg
from tests.archive.keeping import Rules, rules_of
from tests.archive.models import Country, Node, Publisher, Work
from tests.concurrency.cases import Case
from tests.concurrency.ground import Ground, Kept, drift
from tests.concurrency.held import held_up, locked
from trigger_kit import Timing
from trigger_kit.database.catalog import Placement
from trigger_kit.database.filling import Filling, last_key, lock_keys, lock_next
from trigger_kit.maintenance.pause import repair_statement
from trigger_kit.plan.plan import plan_all

pytestmark = pytest.mark.django_db

# Publishers in an order that is that of their numbers, by which works name them, and of their places in the table; the
# order of their primary keys is the opposite one. Without ORDER BY, every way but the key's index leads to the first.
NUMBERS = [4, 3, 2, 1]
HELD = 2
PUBLISHERS = "INSERT INTO archive_publisher (id, number, country_id, name) SELECT lpad((9 - n)::text, 32, '0')::uuid, n, {}, '' FROM generate_series(1, 4) AS n"
HERE = PUBLISHERS.format("NULL")
SOME_WORKS = (
    "INSERT INTO archive_work (id, publisher_id, pages, title) SELECT n, n, n, 'w' FROM generate_series(1, 4) AS n"
)
LOCK = re.compile(r"ORDER BY [^\n]*?\s+(?=(?:LIMIT \d+ )?FOR (?:NO KEY UPDATE|SHARE))")
Rewrite = Callable[[str], str]
Change = Callable[[], object]
Maker = Callable[[psycopg.Connection, Kept, Rewrite], Change]


def unchanged(text: str) -> str:
    return text


def in_no_order(text: str) -> str:
    """Take the order from the statements that lock rows."""
    return LOCK.sub("", text)


def statement(text: str) -> Maker:
    """Return what makes the change that runs some SQL."""
    return lambda session, kept, rewrite: lambda: session.execute(text.encode())


class Rewriting(psycopg.Cursor[Any]):
    """A cursor that rewrites what it is given."""

    def __init__(self, session: psycopg.Connection, rewrite: Rewrite) -> None:
        super().__init__(session)
        self.rewrite = rewrite

    def execute(self, query: Any, *args: Any, **options: Any) -> Rewriting:
        return super().execute(self.rewrite(query), *args, **options)


@dataclass(frozen=True)
class Borrowed:
    """A psycopg connection where one of Django's is asked for."""

    connection: psycopg.Connection
    rewrite: Rewrite

    def cursor(self) -> Rewriting:
        return Rewriting(self.connection, self.rewrite)


@dataclass(frozen=True)
class Place:
    """A place in which many rows are locked, and who gets there.

    What is ``held`` by somebody else is in the middle of the ``order`` in which the rows of a table are to be locked.
    ``before`` is run by the same session when nothing is held yet, ``meanwhile`` by another one after that.
    """

    rules: Rules
    change: Maker
    seed: str = HERE
    before: str = ""
    meanwhile: str = ""
    table: str = "archive_publisher"
    key: str = "number"
    order: tuple[object, ...] = tuple(NUMBERS)
    held: object = HELD
    timing: Timing = Timing.IMMEDIATE


def of_publishers(**expressions: Any) -> Rules:
    return rules_of(Publisher, **expressions)


def fill(session: psycopg.Connection, kept: Kept, rewrite: Rewrite) -> Change:
    """Lock the rows of a repair or a backfill by their keys."""
    filling, borrowed = filling_of(session, kept, rewrite)
    keys = session.execute("SELECT id FROM archive_publisher ORDER BY number").fetchall()
    return lambda: lock_keys(borrowed, filling, Placement(borrowed, filling.target), keys)


def fill_next(session: psycopg.Connection, kept: Kept, rewrite: Rewrite) -> Change:
    """Lock the next rows of a fill in batches."""
    filling, borrowed = filling_of(session, kept, rewrite)
    place = Placement(borrowed, filling.target)
    last = last_key(borrowed, filling, place)
    assert last is not None
    return lambda: lock_next(borrowed, filling, place, None, last, 9)


def filling_of(session: psycopg.Connection, kept: Kept, rewrite: Rewrite) -> tuple[Filling, BaseDatabaseWrapper]:
    # By the index of the key rows come in its order anyhow.
    session.execute("SET enable_indexscan = off; BEGIN")
    (plan,) = plan_all(kept.rules)
    return Filling.of(plan), cast("BaseDatabaseWrapper", Borrowed(session, rewrite))


def end_of_pause(session: psycopg.Connection, kept: Kept, rewrite: Rewrite) -> Change:
    """Write in a pause; the change is its end."""
    found = [(plan, list(dict.fromkeys(edge.key for edge in plan.edges))) for plan in plan_all(kept.rules)]
    repair = rewrite(repair_statement(found, connection))
    session.execute(f"BEGIN; SET LOCAL trigger_kit.paused = 'on'; {SOME_WORKS}".encode())
    return lambda: session.execute(f"SET LOCAL trigger_kit.paused = ''; {repair}; COMMIT".encode())


COUNTED = of_publishers(the_count=Count("works"), the_total=Sum("works__pages", default=0))
TEXTS = of_publishers(kept_text=StringAgg("works__title", ",", order_by=("works__title", "works__id")))
THERE = f"{HERE}; {SOME_WORKS}"
BIGGER = statement("UPDATE archive_work SET pages = pages + 1, title = 'x'")
GONE = statement("DELETE FROM archive_work")
COME = statement(SOME_WORKS)
MOVED = statement("UPDATE archive_work SET publisher_id = 5 - publisher_id")
WORKS = "INSERT INTO archive_work (id, title) VALUES (4, ''), (3, ''), (2, ''), (1, '')"
CREDITS = "; ".join(
    f"INSERT INTO archive_credit (id, person_id, work_id, role) VALUES ({n}, 1, {n}, '')" for n in (4, 3, 2, 1)
)
NODES = "INSERT INTO archive_node (id, parent_id, own, name) VALUES"

PLACES = {
    "delta, insert": Place(COUNTED, COME),
    "delta, update": Place(COUNTED, BIGGER, THERE),
    "delta, delete": Place(COUNTED, GONE, THERE),
    "delta, move": Place(COUNTED, MOVED, THERE),
    "extremum, insert": Place(of_publishers(kept_number=Max("works__pages")), COME),
    "extremum, delete": Place(of_publishers(kept_number=Max("works__pages")), GONE, THERE),
    "recompute, insert": Place(TEXTS, COME),
    "recompute, update": Place(TEXTS, BIGGER, THERE),
    "recompute, delete": Place(TEXTS, GONE, THERE),
    "path": Place(
        rules_of(Country, the_count=Count("publishers__works")),
        COME,
        f"INSERT INTO archive_country (code, name) VALUES ('a', ''); {PUBLISHERS.format(chr(39) + 'a' + chr(39))}",
    ),
    "copy": Place(rules_of(Work, kept_text=F("publisher__name")), COME),
    "commit, deltas": Place(COUNTED, statement(f"BEGIN; {SOME_WORKS}; COMMIT"), timing=Timing.DEFERRED),
    "commit, full values": Place(TEXTS, statement(f"BEGIN; {SOME_WORKS}; COMMIT"), timing=Timing.DEFERRED),
    "flush": Place(COUNTED, statement("SELECT tk_flush_archive_publisher()"), THERE, timing=Timing.QUEUED),
    "late parents": Place(COUNTED, statement("COMMIT"), "", f"BEGIN; {SOME_WORKS}", HERE),
    "end of a pause": Place(COUNTED, end_of_pause),
    "TRUNCATE": Place(
        rules_of(Work, the_count=Count("credits")),
        statement("TRUNCATE archive_credit"),
        f"{WORKS}; INSERT INTO archive_person (id, name) VALUES (1, ''); {CREDITS}",
        table="archive_work",
        key="id",
        order=(1, 2, 3, 4),
        held=3,
    ),
    "tree, leaves first": Place(
        rules_of(Node, the_total=F("own") + Sum("children__the_total", default=0)),
        statement(f"SET enable_nestloop = off; SET enable_mergejoin = off; {NODES} (6, 4, 1, ''), (7, 5, 1, '')"),
        f"{NODES} (1, NULL, 1, ''), (2, 1, 1, ''), (3, 1, 1, ''), (4, 2, 1, ''), (5, 3, 1, '')",
        table="archive_node",
        key="id",
        order=(4, 5, 2, 3, 1),
        held=2,
    ),
    "repair and backfill": Place(COUNTED, fill),
    "next batch of a backfill": Place(COUNTED, fill_next),
}


@pytest.fixture(scope="module")
def kept(request: pytest.FixtureRequest, ground: Ground) -> Iterator[Kept]:
    """Install the rules of a place, and rewrite their functions: those that other tests use stay as they are."""
    place, rewrite = request.param
    before = ground.objects()
    with ground.installed(Case("many rows", lambda: place.rules, place.seed, ()), place.timing) as kept:
        for name in ground.objects() - before:
            if name.startswith("FUNCTION "):
                rewrite_function(ground.admin, name.removeprefix("FUNCTION "), rewrite)
        yield kept


def rewrite_function(admin: psycopg.Connection, signature: str, rewrite: Rewrite) -> None:
    ((definition,),) = admin.execute("SELECT pg_get_functiondef(%s::regprocedure)", [signature]).fetchall()
    admin.execute(rewrite(definition).encode())


def at_every_place(rewrite: Rewrite) -> pytest.MarkDecorator:
    pairs = [((place, rewrite), place) for place in PLACES.values()]
    return pytest.mark.parametrize(("kept", "place"), pairs, ids=PLACES, indirect=["kept"], scope="module")


def locked_first(url: str, kept: Kept, place: Place, rewrite: Rewrite = unchanged) -> set[object]:
    """Return the rows that are locked when the change has come to the one that somebody else holds, this one too."""
    kept.reset()
    with psycopg.connect(url, autocommit=True) as mover:
        mover.execute(place.before.encode())
        kept.ground.admin.execute(place.meanwhile.encode())
        change = place.change(mover, kept, rewrite)
        held = f"{place.table} WHERE {place.key} = {place.held}"
        with held_up(url, change, held):
            return {key for (key,) in locked(url, place.table, place.key)}


@at_every_place(unchanged)
def test_many_rows_are_locked_in_their_order(kept: Kept, place: Place, url: str) -> None:
    """As all others do: two that lock in no order, or each in its own, deadlock now and then."""
    upto = place.order.index(place.held) + 1
    assert locked_first(url, kept, place) == set(place.order[:upto])
    assert drift(kept.rules) == []


@at_every_place(in_no_order)
def test_who_locks_in_no_order_is_found(kept: Kept, place: Place, url: str) -> None:
    """The test above fails once the order is taken from the statements that lock."""
    upto = place.order.index(place.held) + 1
    assert locked_first(url, kept, place, in_no_order) != set(place.order[:upto])
