"""DEFERRED rules are exact in every committed state: real transactions, and whatever may happen in them before.

What SET CONSTRAINTS fires early is not all that a commit does: notes that are made while others are written wait for
the next round there. So these tests commit, through a connection of their own, and then look.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from django.contrib.postgres.aggregates import ArrayAgg
from django.db import connection, connections, transaction
from django.db.models import Avg, Count, F, Max, Model, Q, Sum
from psycopg import IsolationLevel
from pytest_django import DjangoDbBlocker

from dev.postgres import Server
from tests.archive.keeping import Rules, assert_rules_hold, keep
from tests.archive.models import Country, Line, Node, Person, Publisher, Series, Tag, Work
from tests.concurrency.ground import OBJECTS, archive_tables, defaults, drop_default, set_default
from trigger_kit import Denormalize, Exists, First, Guard, Timing
from trigger_kit.database.installation import backfill
from trigger_kit.maintenance.pause import paused
from trigger_kit.plan.plan import Plan

pytestmark = pytest.mark.django_db

Rule = tuple[type[Model], list[Denormalize]]

REVIEW = "INSERT INTO archive_review (work_id, stars, text)"
SEED = """
INSERT INTO archive_country (code, name, rank) VALUES ('de', 'Germany', 1), ('fr', 'France', 2);
INSERT INTO archive_publisher (id, number, name, country_id)
VALUES ('00000000-0000-0000-0000-000000000001', 1, 'one', 'de'), ('00000000-0000-0000-0000-000000000002', 2, 'two', 'fr');
INSERT INTO archive_tag (id, name, weight) VALUES (1, 'a', 1), (2, 'b', 2);
INSERT INTO archive_person (id, name) VALUES (1, 'ann'), (2, 'bob');
INSERT INTO archive_work (id, publisher_id, title, pages, price, score, published)
VALUES (1, 1, 'w1', 10, 1.5, 0.1, true), (2, 2, 'w2', 20, 2.5, 0.2, false), (3, 1, 'w3', NULL, NULL, NULL, true);
INSERT INTO archive_work_tags (work_id, tag_id) VALUES (1, 1), (2, 1), (2, 2);
INSERT INTO archive_review (id, work_id, author_id, stars, text, created) VALUES
(1, 1, 1, 5, 'one', '2024-01-01'), (2, 1, 2, 5, 'two', '2024-01-02'), (3, 1, 1, 1, 'three', NULL), (4, 2, 1, 2, 'four', NULL);
INSERT INTO archive_line (work_id, number, text) VALUES (1, 1, 'l1'), (1, 2, 'l2'), (2, 1, 'l3');
INSERT INTO archive_remark (line_work, line_number, text, weight) VALUES (1, 1, 'r1', 1), (1, 2, 'r2', 2);
INSERT INTO archive_note (content_type_id, object_id, text, weight)
SELECT id, 1, 'n', 3 FROM django_content_type WHERE app_label = 'archive' AND model IN ('work', 'person');
INSERT INTO archive_series (id, name) VALUES (1, 's');
INSERT INTO archive_node (id, parent_id, own) VALUES (1, NULL, 1), (2, 1, 2), (3, 2, 4);
"""


def rules_at(timing: Timing, model: type[Model], **expressions: Any) -> Rule:
    return model, [Denormalize(name, expression, timing=timing) for name, expression in expressions.items()]


def later(model: type[Model], **expressions: Any) -> Rule:
    return rules_at(Timing.DEFERRED, model, **expressions)


def at_once(model: type[Model], **expressions: Any) -> Rule:
    return rules_at(Timing.IMMEDIATE, model, **expressions)


@dataclass
class World:
    """The archive's tables with rules really installed: a writer's session, and one that sets up and cleans up."""

    writer: psycopg.Connection
    admin: psycopg.Connection
    before: set[str]
    rules: Rules
    plans: list[Plan]

    def keep(self, *rules: Rule) -> None:
        """Install rules over what is there."""
        self.rules = list(rules)
        with transaction.atomic():
            self.plans = keep(self.rules)

    def __call__(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements in the writer's open transaction, and return the rows of the last one."""
        rows: list[tuple[Any, ...]] = []
        for statement in statements:
            cursor = self.writer.execute(statement.encode())
            rows = cursor.fetchall() if cursor.description else []
        return rows

    def commit(self, *statements: str) -> None:
        """Run statements, commit, and compare every stored value with the true one; no note may be left."""
        if statements:
            self(*statements)
        self.writer.commit()
        assert_rules_hold(self.rules)
        assert self.left() == {}

    def left(self) -> dict[str, int]:
        """Return how many rows the tables of notes hold, where they hold any."""
        names = sorted(name.removeprefix("TABLE ") for name in self.objects() if name.startswith("TABLE "))
        # What other tests have verified is in tk_state.
        tables = [name for name in names if "tk_pending" not in name and "tk_state" not in name]
        rows = {table: self.admin.execute(f"SELECT count(*) FROM {table}".encode()).fetchone() for table in tables}
        return {table: row[0] for table, row in rows.items() if row and row[0]}

    def objects(self) -> set[str]:
        """Return the functions and tables of ours that exist now."""
        return {name for (name,) in self.admin.execute(OBJECTS)}

    def function(self, name: str, body: str) -> None:
        """Make a trigger function of the user's."""
        self.admin.execute(
            f"CREATE FUNCTION users.{name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} RETURN NULL; END $$".encode()
        )

    def clear(self) -> None:
        """Take everything away that a test has made, whatever state it is in."""
        self.writer.close()
        self.admin.execute(b"DROP SCHEMA users CASCADE")
        for name in self.objects() - self.before:
            self.admin.execute(f"DROP {name} CASCADE".encode())
        tables = [*archive_tables(), *(n.removeprefix("TABLE ") for n in self.objects() if n.startswith("TABLE "))]
        emptying = "; ".join(f"DELETE FROM {table}" for table in tables if "tk_state" not in table)
        self.admin.execute(f"BEGIN; SET LOCAL session_replication_role = replica; {emptying}; COMMIT".encode())


@pytest.fixture(scope="module")
def admin(server: Server, django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[psycopg.Connection]:
    """A session on the test database, whose archive tables take short INSERTs meanwhile."""
    url = server.database(connection.settings_dict["NAME"]).url
    with django_db_blocker.unblock(), psycopg.connect(url, autocommit=True) as session:
        for statement in defaults(set_default):
            session.execute(statement.encode())
        for table in ("review", "work", "tag", "node", "series", "remark", "note", "person"):
            session.execute(f"ALTER TABLE archive_{table} ALTER COLUMN id RESTART WITH 1000".encode())
        yield session
        for statement in defaults(drop_default):
            session.execute(statement.encode())


@pytest.fixture
def world(server: Server, admin: psycopg.Connection, db: None) -> Iterator[World]:
    """The archive's tables, filled, for rules that are really installed.

    The transaction that ``db`` has opened stays empty: what is installed goes through another connection of Django's.
    """
    url = server.database(connection.settings_dict["NAME"]).url
    made = World(psycopg.connect(url), admin, set(), [], [])
    made.before = made.objects()
    admin.execute(b"CREATE SCHEMA users")
    admin.execute(SEED.encode())
    kept = connections["default"]
    connections["default"] = kept.copy()
    yield made
    connection.close()
    connections["default"] = kept
    made.clear()


# Reading and settling -----------------------------------------------------------------------------------------------

COUNTS = later(Work, the_count=Count("reviews"), the_total=Sum("reviews__stars", default=0))
STORED = "SELECT the_count, the_total::int FROM archive_work WHERE id = 1"


def test_inside_the_transaction_the_value_is_the_one_before_it(world: World) -> None:
    world.keep(COUNTS)
    world(f"{REVIEW} VALUES (1, 4, 'x'), (1, 3, 'y')", "DELETE FROM archive_review WHERE id = 1")
    assert world(STORED) == [(3, 11)]
    world.commit()
    assert world(STORED) == [(4, 13)]


@pytest.mark.parametrize("named", ["tk_commit", "ALL"])
def test_constraints_that_are_immediate_bring_the_value_early(world: World, named: str) -> None:
    world.keep(COUNTS)
    world(f"{REVIEW} VALUES (1, 4, 'x')", f"SET CONSTRAINTS {named} IMMEDIATE")
    assert world(STORED) == [(4, 15)]
    world("DELETE FROM archive_review WHERE work_id = 1")
    assert world(STORED) == [(0, 0)]
    world(f"SET CONSTRAINTS {named} DEFERRED", f"{REVIEW} VALUES (1, 2, 'x')")
    assert world(STORED) == [(0, 0)]
    world.commit()
    assert world(STORED) == [(1, 2)]


def test_what_cancels_out_does_not_touch_the_target(world: World) -> None:
    world.keep(COUNTS)
    (before,) = world("SELECT ctid, xmin FROM archive_work WHERE id = 1")
    world.commit(f"{REVIEW} VALUES (1, 4, 'x')", "DELETE FROM archive_review WHERE text = 'x'")
    assert world("SELECT ctid, xmin FROM archive_work WHERE id = 1") == [before]


def test_a_rollback_leaves_nothing(world: World) -> None:
    world.keep(COUNTS)
    world(f"{REVIEW} VALUES (1, 4, 'x')")
    world.writer.rollback()
    world.commit(f"{REVIEW} VALUES (2, 4, 'x')")


SAVEPOINTS = {
    "the first note inside": ["SAVEPOINT a", "+", "ROLLBACK TO a", "+"],
    "the only note inside": ["SAVEPOINT a", "+", "ROLLBACK TO a"],
    "the first note outside": ["+", "SAVEPOINT a", "+", "ROLLBACK TO a", "+"],
    "the inner one of two": ["SAVEPOINT a", "+", "SAVEPOINT b", "+", "ROLLBACK TO b", "+", "RELEASE a"],
    "both": ["SAVEPOINT a", "+", "SAVEPOINT b", "+", "ROLLBACK TO a", "+", "RELEASE a", "+"],
    "the outer one after the inner was released": ["SAVEPOINT a", "SAVEPOINT b", "+", "RELEASE b", "+", "ROLLBACK TO a"],
    "a settled note": ["+", "SAVEPOINT a", "!", "+", "ROLLBACK TO a", "+"],
    "a note settled inside": ["SAVEPOINT a", "+", "!", "ROLLBACK TO a", "+"],
    "a settled note after another": ["SAVEPOINT a", "+", "SAVEPOINT b", "!", "RELEASE b", "+", "ROLLBACK TO a"],
    "a target": ["+", "SAVEPOINT a", "INSERT INTO archive_work (id) VALUES (9)", f"{REVIEW} VALUES (9, 1, '')", "ROLLBACK TO a"],
}  # fmt: skip


@pytest.mark.parametrize("name", SAVEPOINTS)
def test_a_savepoint_takes_its_notes_along(world: World, name: str) -> None:
    meaning = {"+": f"{REVIEW} VALUES (1, 4, 'x'), (2, 3, 'y')", "!": "SET CONSTRAINTS tk_commit IMMEDIATE"}
    world.keep(
        COUNTS, later(Publisher, the_total=Sum("works__the_count", default=0), kept_number=Max("works__the_count"))
    )
    world.commit(*(meaning.get(word, word) for word in SAVEPOINTS[name]))


def test_an_exception_block_takes_its_notes_along(world: World) -> None:
    world.keep(COUNTS)
    world.commit(
        f"DO $$ BEGIN FOR n IN 1..5 LOOP BEGIN {REVIEW} VALUES (1, n, 'x'); PERFORM 1 / (n % 2); "
        "EXCEPTION WHEN division_by_zero THEN NULL; END; END LOOP; END $$"
    )
    assert world(STORED) == [(6, 20)]


# Strategies, relations and writers ----------------------------------------------------------------------------------

RULES: dict[str, list[Rule]] = {
    "sums": [COUNTS],
    "sums, null over no rows": [later(Work, kept_number=Sum("reviews__stars"), the_total=Sum("notes__weight", default=0))],
    "average": [later(Work, kept_amount=Avg("reviews__stars"), kept_number=Sum("reviews__stars"), the_count=Count("reviews__stars"))],
    "computed afresh": [
        later(
            Work,
            kept_number=Max("reviews__stars"),
            the_flag=Exists("reviews", filter=Q(reviews__stars__gt=4)),
            kept_text=First("reviews__text", order_by="-reviews__stars"),
            the_count=Count("reviews__author", distinct=True),
            kept_list=ArrayAgg("reviews__text", order_by="reviews__id"),
            kept_amount=Avg("reviews__stars"),
        )
    ],
    "all on one key": [
        later(Work, the_count=Count("reviews"), kept_number=Sum("reviews__stars", filter=Q(reviews__text__gt="o")), kept_text=Max("reviews__text"), the_total=Sum("tags__weight", default=0))
    ],
    "filter over the target": [later(Work, the_count=Count("reviews", filter=Q(reviews__stars__gte=F("least"))))],
    "own column": [(Work, [Denormalize("kept_number", F("the_count") * 2), Denormalize("the_count", Count("reviews"), timing=Timing.DEFERRED)])],
    "own deferred column": [later(Work, the_count=Count("reviews"), the_total=F("the_count") * Sum("reviews__stars", default=0))],
    "to_field": [later(Publisher, the_count=Count("works"), the_total=Sum("works__pages", default=0), kept_amount=Sum("works__price"))],
    "two hops": [later(Publisher, the_count=Count("works__reviews", filter=Q(works__published=True)), kept_number=Sum("works__reviews__stars"), kept_text=Max("works__reviews__text"))],
    "three hops": [later(Country, the_count=Count("publishers__works__reviews"))],
    "many to many": [later(Tag, the_count=Count("works", filter=Q(works__published=True)), kept_number=Sum("works__pages"))],
    "many to many, the other way": [later(Work, the_count=Count("tags"), kept_number=Sum("tags__weight"), kept_text=First("tags__name", order_by="-tags__weight"))],
    "generic": [later(Work, the_count=Count("notes"), the_total=Sum("notes__weight", default=0), kept_text=Max("notes__text")), later(Person, the_count=Count("notes__author"))],
    "composite key": [later(Line, the_count=Count("remarks"), kept_number=Sum("remarks__weight"), kept_text=First("remarks__text", order_by="-remarks__weight"))],
    "inheritance": [later(Series, the_count=Count("novels", filter=Q(novels__published=True)), the_total=Sum("novels__pages", default=0), kept_number=Sum("novels__words"))],
    "tree": [later(Node, the_count=Count("children"), the_total=Sum("children__own", default=0), kept_number=Max("children__own"))],
    "two timings": [(Work, [Denormalize("the_count", Count("reviews")), Denormalize("kept_number", Sum("reviews__stars"), timing=Timing.DEFERRED), Denormalize("the_total", Sum("reviews__stars", default=0), timing=Timing.QUEUED)])],
    "later over later": [COUNTS, later(Publisher, the_total=Sum("works__the_count", default=0), kept_number=Max("works__the_count"))],
    "at once over later": [COUNTS, at_once(Publisher, the_total=Sum("works__the_count", default=0), kept_number=Max("works__the_total"))],
    "later over at once": [at_once(Work, the_count=Count("reviews")), later(Publisher, the_total=Sum("works__the_count", default=0))],
    "three levels": [COUNTS, later(Publisher, the_total=Sum("works__the_count", default=0), kept_number=Max("works__the_total")), later(Country, the_total=Sum("publishers__the_total", default=0), kept_number=Max("publishers__kept_number"))],
    "two levels in one table": [later(Node, the_count=Count("children"), the_total=Sum("children__the_count", default=0))],
    "there and back": [later(Work, the_count=Count("reviews"), kept_number=Sum("people__the_total")), at_once(Person, the_total=Sum("edited__the_count", default=0))],
}  # fmt: skip
SCRIPT = (
    f"{REVIEW} VALUES (1, 4, 'x'), (2, NULL, 'y'), (3, 7, 'z')",
    "UPDATE archive_review SET stars = stars + 1, text = text || '!'",
    "UPDATE archive_review SET work_id = 3 - work_id WHERE work_id < 3",
    "DELETE FROM archive_review WHERE stars > 5",
    "UPDATE archive_work SET publisher_id = 3 - publisher_id, pages = pages + 1, published = NOT published, least = 3",
    "INSERT INTO archive_work (id, publisher_id, pages, published) VALUES (8, 1, 5, true)",
    f"{REVIEW} VALUES (8, 2, 'x'), (9, 5, 'first of all')",
    "INSERT INTO archive_work (id, publisher_id, pages, published) VALUES (9, 2, NULL, true)",
    f"{REVIEW} VALUES (9, 6, 'y')",
    "INSERT INTO archive_work_tags (work_id, tag_id) VALUES (8, 2), (9, 1), (9, 2)",
    "UPDATE archive_tag SET weight = weight * 3",
    "DELETE FROM archive_work_tags WHERE work_id = 2",
    "UPDATE archive_note SET object_id = 3 - object_id, weight = weight + 1",
    "INSERT INTO archive_note (content_type_id, object_id, author_id) SELECT content_type_id, 8, 1 FROM archive_note",
    "UPDATE archive_remark SET line_number = 3 - line_number, weight = weight + 2",
    "DELETE FROM archive_remark WHERE weight = 3",
    "INSERT INTO archive_remark (line_work, line_number) VALUES (8, 1)",
    "INSERT INTO archive_line (work_id, number) VALUES (8, 1)",
    "INSERT INTO archive_work (id, pages, published) VALUES (20, 7, true), (21, 8, false)",
    "INSERT INTO archive_novel (work_ptr_id, words, series_id) VALUES (20, 3, 1), (21, 4, 1)",
    "UPDATE archive_work SET pages = pages + 1, published = NOT published WHERE id > 19",
    "UPDATE archive_novel SET words = 9 WHERE work_ptr_id = 20",
    "DELETE FROM archive_novel WHERE work_ptr_id = 21",
    "INSERT INTO archive_node (id, parent_id, own) VALUES (7, 6, 1), (6, 5, 2), (5, 1, 3), (8, 5, 9)",
    "UPDATE archive_node SET own = own * 2, parent_id = 5 WHERE id = 3",
    "DELETE FROM archive_node WHERE id = 7",
    "UPDATE archive_publisher SET country_id = 'de'",
    "UPDATE archive_work SET editor_id = 1 + id % 2",
    "INSERT INTO archive_credit (person_id, work_id, share) VALUES (1, 1, 1), (2, 1, 2), (1, 8, 3)",
    "UPDATE archive_credit SET person_id = 3 - person_id, share = share + 1",
    "DELETE FROM archive_review WHERE work_id = 1",
    f"{REVIEW} VALUES (2, 2, 'last'), (8, 1, 'last')",
)
EARLY = "SET CONSTRAINTS tk_commit IMMEDIATE"


@pytest.mark.parametrize(
    "mode", ["one transaction", "one each", "settled in between", "settled at once", "attempted first"]
)
@pytest.mark.parametrize("name", RULES)
def test_every_committed_state_is_exact(world: World, name: str, mode: str) -> None:
    world.keep(*RULES[name])
    if mode == "settled at once":
        world(EARLY)
    for number, statement in enumerate(SCRIPT):
        if mode == "attempted first":
            world("SAVEPOINT a", statement, *([EARLY] if number % 2 else []), "ROLLBACK TO a")
        world(statement)
        if mode == "one each" and number not in {6, 16}:  # Children that come before their parents.
            world.commit()
        elif mode == "settled in between" and number % 3 == 0:
            world(EARLY, "SET CONSTRAINTS tk_commit DEFERRED")
    world.commit()


@pytest.mark.parametrize("level", [IsolationLevel.REPEATABLE_READ, IsolationLevel.SERIALIZABLE])
@pytest.mark.parametrize("name", ["all on one key", "three levels", "inheritance"])
def test_stricter_isolation_levels(world: World, name: str, level: IsolationLevel) -> None:
    world.keep(*RULES[name])
    world.writer.isolation_level = level
    world.commit(*SCRIPT)


WRITERS = {
    "child and parent in one statement": f"WITH made AS (INSERT INTO archive_work (id, publisher_id) VALUES (9, 1) RETURNING id) {REVIEW} SELECT id, 5, 'x' FROM made, generate_series(1, 2)",
    "deleted and moved in one statement": "WITH gone AS (DELETE FROM archive_review WHERE id = 1) UPDATE archive_review SET work_id = 2, stars = 9 WHERE id = 2",
    "moved while its parent moves": "WITH moved AS (UPDATE archive_work SET publisher_id = 2 WHERE id = 1) UPDATE archive_review SET work_id = 2 WHERE work_id = 1",
    "merge": "MERGE INTO archive_review AS review USING (VALUES (1, 2), (2, 1), (50, 2)) AS wanted (id, work) ON review.id = wanted.id "
    "WHEN MATCHED AND review.id = 1 THEN DELETE WHEN MATCHED THEN UPDATE SET work_id = wanted.work, stars = 8 "
    "WHEN NOT MATCHED THEN INSERT (id, work_id, stars, text) VALUES (wanted.id, wanted.work, 3, 'm')",
    "upsert": "INSERT INTO archive_review (id, work_id, stars, text) VALUES (1, 2, 7, 'u'), (60, 1, 2, 'v') "
    "ON CONFLICT (id) DO UPDATE SET work_id = EXCLUDED.work_id, stars = EXCLUDED.stars",
    "upsert of targets": "INSERT INTO archive_work (id, publisher_id, the_count) VALUES (1, 2, 99), (9, 1, 99) "
    "ON CONFLICT (id) DO UPDATE SET publisher_id = EXCLUDED.publisher_id, the_count = 77",
}  # fmt: skip


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("rules", ["all on one key", "two hops", "three levels"])
@pytest.mark.parametrize("name", WRITERS)
def test_writers_of_many_kinds(world: World, name: str, rules: str, early: bool) -> None:
    world.keep(*RULES[rules])
    if early:
        world(EARLY)
    world(f"{REVIEW} VALUES (1, 3, 'before'), (2, 3, 'before')")
    world.commit(WRITERS[name], f"{REVIEW} VALUES (1, 4, 'after')")


def test_copy(world: World) -> None:
    world.keep(*RULES["all on one key"])
    with world.writer.cursor() as cursor, cursor.copy("COPY archive_review (work_id, stars, text) FROM STDIN") as copy:
        for number in range(20):
            copy.write_row((1 + number % 3, number, "copied"))
    world.commit()


def test_nan_does_not_cancel_out(world: World) -> None:
    world.keep(
        later(
            Publisher,
            the_total=Sum("works__price", default=0),
            kept_amount=Sum("works__price"),
            the_count=Count("works"),
        )
    )
    world.commit("UPDATE archive_work SET price = 3 WHERE id = 1", "UPDATE archive_work SET price = 'NaN' WHERE id = 1")
    assert world("SELECT the_total FROM archive_publisher WHERE number = 1")[0][0].is_nan()
    world.commit("UPDATE archive_work SET price = 'NaN'", "UPDATE archive_work SET price = 2, publisher_id = 2")
    world.commit(
        "INSERT INTO archive_work (id, publisher_id, price) VALUES (9, 1, 'NaN')",
        "DELETE FROM archive_work WHERE id = 9",
    )


def test_a_count_that_may_not_be_negative(world: World) -> None:
    """Rows leave first and come afterwards; a CHECK looks at every UPDATE."""
    world.admin.execute(b"ALTER TABLE archive_work ADD CONSTRAINT floor CHECK (the_count >= 0)")
    try:
        world.keep(COUNTS)
        world.commit("UPDATE archive_review SET work_id = 3", "UPDATE archive_review SET work_id = 1 WHERE id < 3")
        world.commit("DELETE FROM archive_review", f"{REVIEW} VALUES (1, 1, ''), (1, 1, '')")
        world.commit(EARLY, "DELETE FROM archive_review", f"{REVIEW} VALUES (1, 1, ''), (1, 1, '')")
    finally:
        world.admin.execute(b"ALTER TABLE archive_work DROP CONSTRAINT floor")


# The target's own rows ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("early", [False, True])
def test_targets_that_come_after_their_children(world: World, early: bool) -> None:
    world.keep(*RULES["all on one key"])
    world(*([EARLY] if early else []))
    world.commit(
        f"{REVIEW} VALUES (9, 1, 'a'), (9, 2, 'b'), (10, 3, 'c')",
        "INSERT INTO archive_work (id) VALUES (9), (10), (11)",
        f"{REVIEW} VALUES (9, 4, 'd'), (11, 5, 'e')",
    )


@pytest.mark.parametrize("early", [False, True])
def test_a_tree_that_comes_child_first(world: World, early: bool) -> None:
    """One of the nodes is computed afresh at commit, after another one's count has been added to."""
    world.keep(*RULES["two levels in one table"])
    world("INSERT INTO archive_node (id, parent_id) VALUES (11, 10)", "INSERT INTO archive_node (id) VALUES (10)")
    world("INSERT INTO archive_node (id, parent_id) VALUES (12, 11)", *([EARLY] if early else []))
    world.commit()


def test_rules_that_come_back_to_their_table(world: World) -> None:
    """Work -> Person -> Work: what is computed afresh at commit may hold what a note brings in the next round."""
    world.keep(*RULES["there and back"])
    world.commit("UPDATE archive_work SET editor_id = 1 WHERE id = 1")
    world.commit(
        "INSERT INTO archive_credit (work_id, person_id) VALUES (9, 1)",
        "INSERT INTO archive_work (id) VALUES (9)",
        f"{REVIEW} VALUES (1, 5, 'x')",
    )


KEYS = {
    "changed": "UPDATE archive_work SET id = 9 WHERE id = 3",
    "changed to one that has notes": "UPDATE archive_work SET id = 7 WHERE id = 3",
    "changed there and back": "UPDATE archive_work SET id = 9 WHERE id = 3; UPDATE archive_work SET id = 3 WHERE id = 9",
    "deleted": "DELETE FROM archive_work WHERE id = 3",
    "deleted and made again": "DELETE FROM archive_work WHERE id = 3; INSERT INTO archive_work (id) VALUES (3)",
    "deleted, and another takes the key": "DELETE FROM archive_work WHERE id = 3; INSERT INTO archive_work (id) VALUES (9); UPDATE archive_work SET id = 3 WHERE id = 9",
}  # fmt: skip


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("name", KEYS)
def test_a_targets_key_changes_with_notes_pending(world: World, name: str, early: bool) -> None:
    world.keep(*RULES["all on one key"])
    world(f"{REVIEW} VALUES (3, 1, 'a'), (7, 2, 'b'), (3, 3, 'c')", *([EARLY] if early else []))
    world(*KEYS[name].split("; "), f"{REVIEW} VALUES (3, 4, 'd'), (7, 5, 'e'), (9, 6, 'f')")
    world(f"{REVIEW} VALUES (1, 4, 'd')")
    ids = [key for (key,) in world("SELECT id FROM archive_work")]
    world.commit(f"DELETE FROM archive_review WHERE work_id NOT IN ({', '.join(map(str, ids))})")


def test_keys_that_are_swapped(world: World) -> None:
    world.keep(*RULES["to_field"])
    world("UPDATE archive_work SET pages = pages + 1", "INSERT INTO archive_work (publisher_id, pages) VALUES (1, 100)")
    world("UPDATE archive_publisher SET number = number + 10", "UPDATE archive_publisher SET number = 13 - number")
    world.commit("UPDATE archive_work SET pages = pages * 2 WHERE publisher_id = 1")


def test_a_composite_key_changes_with_notes_pending(world: World) -> None:
    world.keep(*RULES["composite key"])
    world(
        "UPDATE archive_remark SET weight = weight + 1", "UPDATE archive_line SET number = number + 1 WHERE work_id = 2"
    )
    world("INSERT INTO archive_remark (line_work, line_number) VALUES (2, 2), (2, 1), (1, 3)")
    world("UPDATE archive_line SET number = 3 WHERE work_id = 1 AND number = 2")
    world.commit("UPDATE archive_remark SET line_number = 3 WHERE line_number = 2 AND line_work = 1")


def test_truncate_of_a_source(world: World) -> None:
    world.keep(*RULES["generic"])
    world.commit("UPDATE archive_note SET weight = weight + 1", "TRUNCATE archive_note")
    note = "INSERT INTO archive_note (content_type_id, object_id) SELECT id, 1 FROM django_content_type WHERE model = 'work'"
    world.commit("TRUNCATE archive_note", note)


def test_truncate_of_a_target(world: World) -> None:
    world.keep(*RULES["many to many"])
    world("UPDATE archive_work SET pages = 3, published = true", "TRUNCATE archive_tag CASCADE")
    world("INSERT INTO archive_tag (id) VALUES (1), (2)")
    world.commit(
        "INSERT INTO archive_work_tags (work_id, tag_id) VALUES (1, 1), (2, 1)", "UPDATE archive_work SET pages = 4"
    )


def test_a_stale_write_keeps_the_value(world: World) -> None:
    world.keep(COUNTS)
    world.commit(
        f"{REVIEW} VALUES (1, 4, 'x')",
        "UPDATE archive_work SET the_count = 50, title = 'new'",
        f"{REVIEW} VALUES (1, 4, 'x')",
    )
    assert world("SELECT the_count, title FROM archive_work WHERE id = 1") == [(5, "new")]


def test_guard_raise(world: World) -> None:
    world.keep((Work, [Denormalize("the_count", Count("reviews"), timing=Timing.DEFERRED, guard=Guard.RAISE)]))
    world(f"{REVIEW} VALUES (1, 4, 'x')", "SAVEPOINT a")
    with pytest.raises(psycopg.IntegrityError, match="archive.Work:the_count is kept by trigger_kit"):
        world("UPDATE archive_work SET the_count = 50")
    world("ROLLBACK TO a")
    world.commit("UPDATE archive_work SET title = 'new'")


# Users' own triggers ------------------------------------------------------------------------------------------------

# Each writes source rows again; the number of its firings ends by itself.
AGAIN = {
    "after a source row": ("archive_review", "AFTER INSERT", f"IF NEW.stars < 3 THEN {REVIEW} VALUES (1 + NEW.work_id % 2, NEW.stars + 1, 'again'); END IF;"),
    "it changes the row again": ("archive_review", "AFTER INSERT", "UPDATE archive_review SET stars = NULL, work_id = 2 WHERE id = NEW.id;"),
    "it deletes the row again": ("archive_review", "AFTER INSERT", "DELETE FROM archive_review WHERE id = NEW.id;"),
    "after the target": ("archive_work", "AFTER UPDATE", f"IF NEW.the_count BETWEEN 1 AND 5 THEN {REVIEW} VALUES (1 + NEW.id % 2, 9, 'again'); END IF;"),
    "after the target, of the other": ("archive_work", "AFTER UPDATE", f"IF NEW.the_count = 5 AND NEW.id = 1 THEN {REVIEW} VALUES (9, 9, 'again'); END IF;"),
    "after the target, taking off": ("archive_work", "AFTER UPDATE", "DELETE FROM archive_review WHERE id = (SELECT min(id) FROM archive_review);"),
    "after the target's parent": ("archive_publisher", "AFTER UPDATE", f"IF NEW.the_total < 9 THEN {REVIEW} VALUES (NEW.number, 1, 'again'); END IF;"),
}  # fmt: skip
WHEN = {
    "deferred": ("CREATE CONSTRAINT TRIGGER", "DEFERRABLE INITIALLY DEFERRED"),
    "at once": ("CREATE TRIGGER", ""),
    "at once, and settled at once": ("CREATE TRIGGER", ""),
}


@pytest.mark.parametrize("when", WHEN)
@pytest.mark.parametrize("name", AGAIN)
def test_users_triggers_that_write_again(world: World, name: str, when: str) -> None:
    world.keep(
        later(
            Work, the_count=Count("reviews"), kept_text=Max("reviews__text"), the_total=Sum("tags__weight", default=0)
        ),
        later(Publisher, the_total=Sum("works__the_count", default=0)),
    )
    table, event, body = AGAIN[name]
    create, clause = WHEN[when]
    world.function("again", body)
    world.admin.execute(
        f"{create} again {event} ON {table} {clause} FOR EACH ROW EXECUTE FUNCTION users.again()".encode()
    )
    world(*([EARLY] if "settled" in when else []))
    world(f"{REVIEW} VALUES (9, 1, 'x')", "INSERT INTO archive_work (id, publisher_id) VALUES (9, 1)")
    world.commit(f"{REVIEW} VALUES (1, 1, 'x'), (1, 2, 'y')", f"{REVIEW} VALUES (2, 1, 'z')")


@pytest.mark.parametrize(
    ("timing", "early"),
    [
        (Timing.IMMEDIATE, False),
        (Timing.DEFERRED, False),
        (Timing.DEFERRED, True),
    ],
)
def test_a_sum_that_is_null_where_a_trigger_takes_the_row_back(world: World, timing: Timing, early: bool) -> None:
    """The inner statement reports first: the row leaves before it has come."""
    world.keep(rules_at(timing, Work, kept_number=Sum("reviews__stars")))
    world.function("again", "UPDATE archive_review SET stars = NULL WHERE id = NEW.id;")
    world.admin.execute(
        b"CREATE TRIGGER again AFTER INSERT ON archive_review FOR EACH ROW EXECUTE FUNCTION users.again()"
    )
    if early:
        world(EARLY)
    world.commit(f"{REVIEW} VALUES (3, 5, 'x')")


# Sessions -----------------------------------------------------------------------------------------------------------


def test_a_writer_without_rights(world: World) -> None:
    """It may write the archive, and nothing of ours; it may not make temporary tables either."""
    world.keep(*RULES["three levels"])
    name = connection.settings_dict["NAME"]
    run = [
        "CREATE ROLE tk_writer",
        f'REVOKE TEMP ON DATABASE "{name}" FROM PUBLIC',
        "GRANT SELECT, INSERT, UPDATE, DELETE ON archive_review, archive_work TO tk_writer",
    ]
    for statement in run:
        world.admin.execute(statement.encode())
    try:
        world("SET ROLE tk_writer", f"{REVIEW} VALUES (1, 4, 'x')")
        with pytest.raises(psycopg.errors.InsufficientPrivilege), world.writer.transaction():
            world("SELECT FROM tk_commit")
        with pytest.raises(psycopg.errors.InsufficientPrivilege), world.writer.transaction():
            world("CREATE TEMP TABLE t ()")
        world(EARLY, "UPDATE archive_review SET stars = 3, work_id = 2", "DELETE FROM archive_review WHERE id = 1")
        world.commit("SET CONSTRAINTS tk_commit DEFERRED", f"{REVIEW} VALUES (3, 4, 'x')")
    finally:
        world.writer.rollback()
        world("RESET ROLE")
        world.writer.commit()
        world.admin.execute(f'GRANT TEMP ON DATABASE "{name}" TO PUBLIC'.encode())
        world.admin.execute(b"DROP OWNED BY tk_writer; DROP ROLE tk_writer")


def test_a_procedure_that_commits(world: World) -> None:
    world.keep(COUNTS)
    world.writer.autocommit = True
    world(
        f"DO $$ BEGIN FOR n IN 1..4 LOOP {REVIEW} VALUES (1, n, 'x'); IF n = 2 THEN ROLLBACK; ELSE COMMIT; END IF; END LOOP; END $$"
    )
    world.commit()
    assert world(STORED) == [(6, 19)]


def test_a_prepared_transaction(world: World) -> None:
    if world.admin.execute(b"SHOW max_prepared_transactions").fetchone() == ("0",):
        pytest.skip("max_prepared_transactions is 0 on this server")
    world.keep(COUNTS)
    world(f"{REVIEW} VALUES (1, 4, 'x')", "PREPARE TRANSACTION 'tk_deferred'")
    world.admin.execute(b"COMMIT PREPARED 'tk_deferred'")
    world.commit()


def test_reset_all_with_notes_pending(world: World) -> None:
    world.keep(COUNTS)
    world.commit(f"{REVIEW} VALUES (9, 4, 'x')", "RESET ALL", "INSERT INTO archive_work (id) VALUES (9)")


def test_notes_of_a_writer_that_turns_triggers_off_afterwards(world: World) -> None:
    """Nothing could be kept then: the commit says so."""
    world.keep(COUNTS)
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="triggers were switched off after a write"):
        world.commit(f"{REVIEW} VALUES (1, 4, 'x')", "SET LOCAL session_replication_role = replica")
    world.writer.rollback()


def test_two_schemas_in_one_transaction(world: World) -> None:
    """Tenants have tables of the same names."""
    world.rules = [COUNTS]
    try:
        for schema in ("tenant_1", "tenant_2"):
            world.admin.execute(f"CREATE SCHEMA {schema}".encode())
            for table in ("archive_work", "archive_review"):
                world.admin.execute(f"CREATE TABLE {schema}.{table} (LIKE public.{table} INCLUDING ALL)".encode())
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute(f"SET LOCAL search_path = {schema}, public")
                keep(world.rules)
                cursor.execute("INSERT INTO archive_work (id) VALUES (1)")
        world(*(f"INSERT INTO tenant_{n}.archive_review (work_id, stars, text) VALUES (1, 4, 'x')" for n in (1, 2)))
        world.writer.commit()
        stored = [world(f"SELECT the_count FROM tenant_{n}.archive_work") for n in (1, 2)]
        assert stored == [[(1,)], [(1,)]]
    finally:
        world.writer.rollback()
        world.admin.execute(b"DROP SCHEMA IF EXISTS tenant_1 CASCADE; DROP SCHEMA IF EXISTS tenant_2 CASCADE")


def test_a_parent_that_comes_from_another_transaction(world: World) -> None:
    """Two keys with notes: that one of the targets is missing is seen, whatever the other finds."""
    world.keep(later(Work, the_count=Count("reviews"), kept_text=Max("lines__text")))
    world("INSERT INTO archive_line (work_id, number, text) VALUES (1, 7, 'x'), (2, 7, 'y')")
    world(f"{REVIEW} VALUES (9, 4, 'x')", EARLY)
    world.admin.execute(b"INSERT INTO archive_work (id) VALUES (9)")
    world.commit()


# Pauses and backfills -----------------------------------------------------------------------------------------------


PAUSED = {
    "at once, from two tables": at_once(Work, the_count=Count("reviews"), the_total=Sum("tags__weight", default=0)),
    "at once, from one table": at_once(Work, the_count=Count("reviews"), kept_text=Max("reviews__text")),
    "computed afresh beside sums": later(Work, the_count=Count("reviews"), kept_text=Max("reviews__text")),
}


@pytest.mark.parametrize(
    "name",
    [
        "three levels",
        "average",
        "at once, from one table",
        "all on one key",
        "at once, from two tables",
        "computed afresh beside sums",
    ],
)
def test_a_pause_with_notes_pending(world: World, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    world.keep(*(RULES[name] if name in RULES else [PAUSED[name]]))
    monkeypatch.setattr("trigger_kit.maintenance.pause.live_plans", lambda using: world.plans)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"{REVIEW} VALUES (1, 4, 'x'), (2, 5, 'y')")
        with paused():
            cursor.execute(f"{REVIEW} VALUES (1, 6, 'x'), (3, 7, 'y')")
            cursor.execute("DELETE FROM archive_review WHERE stars = 5")
            cursor.execute("INSERT INTO archive_work (id, publisher_id) VALUES (9, 1)")
            cursor.execute(f"{REVIEW} VALUES (9, 8, 'z')")
            cursor.execute("UPDATE archive_tag SET weight = 70")
        cursor.execute(f"{REVIEW} VALUES (9, 9, 'z'), (1, 1, 'z')")
    world.commit()


@pytest.mark.parametrize("name", ["all on one key", "three levels", "composite key", "tree"])
def test_a_backfill_with_notes_pending(world: World, name: str) -> None:
    world.keep(*RULES[name])
    with transaction.atomic(), connection.cursor() as cursor:
        for number, statement in enumerate(SCRIPT):
            cursor.execute(statement)
            if number in {4, 18}:
                for plan in world.plans:
                    backfill(plan, connection)
    world.commit()


# Much in one transaction --------------------------------------------------------------------------------------------

TOUCHED = "SELECT sum(seq_tup_read + idx_tup_fetch)::int FROM pg_stat_xact_all_tables WHERE relname ~ '^tk_|^archive_(work|review)$'"


def test_many_statements_in_one_transaction_touch_each_note_once(world: World) -> None:
    world.keep(COUNTS)
    touched = []
    for number in (500, 2000):
        world(f"DO $$ BEGIN FOR n IN 1..{number} LOOP {REVIEW} VALUES (1 + n % 2, n, 'x'); END LOOP; END $$", EARLY)
        touched += [world(TOUCHED)[0][0]]
        world.commit()
    assert touched[1] < 8 * touched[0]
