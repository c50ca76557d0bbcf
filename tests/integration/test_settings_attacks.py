"""Settings of ours are everybody's to write: what a role with rights on sources alone sets switches nothing off.

Each attack is committed, and then every stored value is compared with the true one. ``trigger_kit.paused`` is left out,
which leaves notes for a repair, and ``trigger_kit.depth``, which lets those write kept columns who may update the target.
"""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from django.db import connection
from django.db.models import Avg, Count, F, Max, Q, Sum
from django.db.models.functions import Coalesce
from psycopg import IsolationLevel

from dev.postgres import Server
from tests.archive.models import Country, Node, Publisher, Work
from tests.integration.test_deferred import COUNTS, REVIEW, World, admin, at_once, later, world

__all__ = ["admin", "world"]

pytestmark = pytest.mark.django_db

# What functions of ours read, as everybody may see it.
SETTINGS = r"""
SELECT DISTINCT found[1] FROM pg_proc, regexp_matches(prosrc, '''(trigger_kit\.[a-z_0-9]+)''', 'g') AS found
WHERE proname ~ '^~?tk_' AND found[1] NOT IN ('trigger_kit.paused', 'trigger_kit.depth')
"""
EVERYTHING = ["on", "0", "1", "2", "3", "", "(0,1)"]
ONE_AFTER_ANOTHER = "SET CONSTRAINTS ALL IMMEDIATE"
HOLD = "SET CONSTRAINTS ALL DEFERRED"


@pytest.fixture
def scribe(world: World) -> Iterator[World]:
    """A world whose writer may write reviews, works and nodes, once it has become a scribe, and nothing else."""
    world.admin.execute("CREATE ROLE scribe")
    world.admin.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON archive_review TO scribe")
    yield world
    world.writer.close()
    world.admin.execute("DROP OWNED BY scribe; DROP ROLE scribe")


def become_scribe(world: World, *tables: str) -> None:
    for table in tables:
        world.admin.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO scribe".encode())
    world("SET ROLE scribe")


def say(world: World, value: str) -> None:
    """Give every setting that functions of ours read one value."""
    names = [name for (name,) in world(SETTINGS)]
    assert names
    for name in names:
        world(f"SET {name} = '{value}'")


LOCKED = {
    "a copy over two hops": (
        [at_once(Publisher, kept_text=F("country__name")), at_once(Country, the_count=Count("publishers__works"))],
        ["archive_publisher"],
        ["UPDATE archive_publisher SET country_id = 'fr'"],
    ),
    "sums over two hops": (
        [at_once(Publisher, the_count=Count("works__reviews"), kept_number=Sum("works__reviews__stars"))],
        ["archive_work"],
        ["UPDATE archive_work SET publisher_id = 3 - publisher_id", "UPDATE archive_review SET work_id = 2 WHERE id = 1"],
    ),
    "an extremum over two hops": (
        [at_once(Publisher, kept_number=Max("works__reviews__stars"), kept_amount=Avg("works__reviews__stars"))],
        ["archive_work"],
        ["UPDATE archive_work SET publisher_id = 3 - publisher_id", "UPDATE archive_review SET stars = 9 WHERE id = 1"],
    ),
    "two tables of a path in one statement": (
        [at_once(Publisher, the_count=Count("works__reviews"))],
        ["archive_work"],
        [f"WITH moved AS (UPDATE archive_work SET publisher_id = 2 WHERE id = 1) {REVIEW} VALUES (1, 5, 'x')"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("level", [IsolationLevel.READ_COMMITTED, IsolationLevel.REPEATABLE_READ])
@pytest.mark.parametrize("value", EVERYTHING)
@pytest.mark.parametrize("name", LOCKED)
def test_no_setting_makes_a_change_look_like_a_lock(
    scribe: World, name: str, value: str, level: IsolationLevel
) -> None:
    rules, tables, statements = LOCKED[name]
    scribe.keep(*rules)
    scribe.writer.isolation_level = level
    become_scribe(scribe, *tables)
    for statement in statements:
        say(scribe, value)
        scribe.commit(statement)


TWO_HOPS = {
    "sums": {"the_count": Count("works__reviews", filter=Q(works__published=True))},
    "an extremum": {"kept_number": Max("works__reviews__stars", filter=Q(works__published=True))},
}


@pytest.mark.parametrize("level", [IsolationLevel.READ_COMMITTED, IsolationLevel.REPEATABLE_READ])
@pytest.mark.parametrize("name", TWO_HOPS)
def test_a_lock_that_a_users_trigger_makes_a_change_of_is_one(world: World, name: str, level: IsolationLevel) -> None:
    """At REPEATABLE READ a row is written to lock it; what the step counts along with it must not be counted twice."""
    world.keep(at_once(Publisher, **TWO_HOPS[name]))
    world.function("publish", "NEW.published := true; RETURN NEW;")
    world.admin.execute(
        "CREATE TRIGGER publish BEFORE UPDATE ON archive_work FOR EACH ROW EXECUTE FUNCTION users.publish()"
    )
    world.writer.isolation_level = level
    world.commit(f"{REVIEW} VALUES (2, 9, 'x'), (2, 8, 'y')")
    world.commit("UPDATE archive_review SET work_id = 3 - work_id WHERE work_id < 3")
    world.commit("DELETE FROM archive_review WHERE stars > 5")


TREES = {
    "a rollup": [at_once(Node, the_total=F("own") + Sum("children__the_total", default=0))],
    "a path": [at_once(Node, kept_number=Coalesce(F("parent__kept_number"), 0) + F("own"))],
    "a rollup that also counts": [at_once(Node, the_total=F("own") + Sum("children__the_total", default=0), the_count=Count("children"))],
}  # fmt: skip


@pytest.mark.parametrize("value", EVERYTHING)
@pytest.mark.parametrize("name", TREES)
def test_no_setting_makes_a_change_look_like_the_loop_of_a_tree(scribe: World, name: str, value: str) -> None:
    scribe.keep(*TREES[name])
    become_scribe(scribe, "archive_node")
    for statement in (
        "INSERT INTO archive_node (id, parent_id, own) VALUES (8, 3, 5), (9, 8, 6)",
        "UPDATE archive_node SET own = own * 2 WHERE id = 8",
        "UPDATE archive_node SET own = CASE id WHEN 8 THEN 6 ELSE 10 END WHERE id > 7",
        "UPDATE archive_node SET parent_id = 1 WHERE id = 8",
        "UPDATE archive_node SET the_total = 77, the_count = 77, kept_number = 77",
        "DELETE FROM archive_node WHERE id = 9",
    ):
        say(scribe, value)
        scribe.commit(statement)


ON_ITSELF = at_once(Publisher, the_total=Sum("works__the_count", default=0), kept_number=Max("works__the_total"))
DEFERRED = {
    "one target": [COUNTS],
    "one that follows": [COUNTS, later(Publisher, the_total=Sum("works__the_count", default=0), kept_number=Max("works__the_count"))],
    "one at once that follows": [COUNTS, ON_ITSELF],
    "three levels": [COUNTS, later(Publisher, the_total=Sum("works__the_count", default=0)), later(Country, the_total=Sum("publishers__the_total", default=0))],
}  # fmt: skip


@pytest.mark.parametrize("early", ["", ONE_AFTER_ANOTHER, "SET CONSTRAINTS tk_commit IMMEDIATE"])
@pytest.mark.parametrize("value", EVERYTHING)
@pytest.mark.parametrize("name", DEFERRED)
def test_no_setting_keeps_the_commit_from_looking_at_notes(scribe: World, name: str, value: str, early: str) -> None:
    scribe.keep(*DEFERRED[name])
    become_scribe(scribe)
    say(scribe, value)
    scribe(*([early] if early else []), f"{REVIEW} VALUES (1, 4, 'x'), (2, 3, 'y')")
    say(scribe, value)
    scribe("UPDATE archive_review SET work_id = 3 - work_id")
    scribe(HOLD, "DELETE FROM archive_review WHERE id = 1")
    say(scribe, value)
    scribe.commit()


LATE = {
    "a count": [at_once(Work, the_count=Count("reviews"), kept_number=Max("reviews__stars"))],
    "a count, DEFERRED": [COUNTS],
    "a path": [at_once(Publisher, the_count=Count("works__reviews"), kept_number=Max("works__reviews__stars"))],
}


@pytest.mark.parametrize("value", EVERYTHING)
@pytest.mark.parametrize("name", LATE)
def test_no_setting_makes_a_settle_forget_what_has_been_missed(
    scribe: World, server: Server, name: str, value: str
) -> None:
    scribe.keep(*LATE[name])
    become_scribe(scribe)
    say(scribe, value)
    scribe(f"{REVIEW} VALUES (9, 4, 'before its work')")
    say(scribe, value)
    with psycopg.connect(server.database(connection.settings_dict["NAME"]).url) as other:
        other.execute("INSERT INTO archive_work (id, publisher_id, title) VALUES (9, 1, 'late')")
    say(scribe, value)
    scribe.commit()
