"""The races: rules, rows to start from, and what two or three sessions do at once.

A case is run in every order of its steps at every isolation level, once per timing. Another case is another entry
here: SQL that inserts need not name columns with a default (the test gives them one in the database), ids are given
by hand, and each session has one statement or two, or the number of orders explodes. A session may commit by itself:
``"INSERT …; COMMIT"`` is one step, which keeps cases of three sessions small. A step may also be a function of the
session's psycopg connection: flushing, a batch of a backfill, a repair.

Within one statement nothing is interleaved, unless a third session makes it wait in the middle: a *gate*, which locks
a row that the statement needs and then commits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

import psycopg
from django.db.models import Avg, Count, F, Max, Model, Q, Sum, TextField
from django.db.models.functions import Coalesce, Concat
from psycopg import IsolationLevel

from tests.archive.aggregates import StringAgg
from tests.archive.keeping import CANNOT_WAIT, Rules, rules_of
from tests.archive.models import Country, Line, Node, Note, Novel, Person, Publisher, Review, Series, Tag, Work
from tests.concurrency.schedules import LEVELS, Session, Step
from trigger_kit import Denormalize, Exists, First, Timing
from trigger_kit.exceptions import RuleError
from trigger_kit.plan.plan import Plan, plan, plan_all
from trigger_kit.sql.full_values import backfill_sql
from trigger_kit.sql.text import SCHEMA, fill_placeholders

__all__ = ["CASES", "Case", "plans_at"]

# A case runs with each timing that its rules can have; some are about one timing only.
NOW = (Timing.IMMEDIATE,)
AGGREGATE = tuple(Timing)
LATER = (Timing.DEFERRED, Timing.QUEUED)

NO_SUCH_PARENT = frozenset({"23503"})
TAKEN = frozenset({"23505"})
OWN_ANCESTOR = frozenset({"23000"})
# A child without a parent, and no constraint that would find it at commit: a snapshot cannot see who comes meanwhile.
NO_MEETING = (IsolationLevel.REPEATABLE_READ,)
# TRUNCATE takes rows away that a snapshot does not show.
SNAPSHOTS = (IsolationLevel.REPEATABLE_READ, IsolationLevel.SERIALIZABLE)


@dataclass(frozen=True)
class Case:
    """A race. ``errors`` are the SQLSTATEs that a session may end with at any level, besides the general ones.

    The general ones are 40001 at the two higher levels, 40P01 where ``deadlock`` says why it cannot be helped, and
    0A000 at the levels of ``refused_at``, where a step cannot be made exact. ``levels`` leaves out those that have
    hundreds of orders and nothing to show.
    """

    name: str
    rules: Callable[[], Rules]
    seed: str
    sessions: tuple[Session, ...]
    errors: frozenset[str] = frozenset()
    deadlock: str = ""
    refused_at: tuple[IsolationLevel, ...] = ()
    timings: tuple[Timing, ...] = NOW
    levels: tuple[IsolationLevel, ...] = LEVELS
    notes: str = ""
    keeps_timings: bool = False

    @property
    def possible_timings(self) -> list[Timing]:
        """The timings that all rules of the case may have: the others are refused by a system check."""
        return [timing for timing in self.timings if self._is_possible(timing)]

    def _is_possible(self, timing: Timing) -> bool:
        try:
            plans_at(self, timing)
        except RuleError as error:
            if error.check_id not in CANNOT_WAIT:
                raise
            return False
        return True

    def rules_at(self, timing: Timing) -> Rules:
        """Return the rules, each with this timing, unless the case is about rules of several."""
        if self.keeps_timings:
            return self.rules()
        return [
            (model, [Denormalize(r.field, r.expression, timing=timing, guard=r.guard, level=r.level) for r in declared])
            for model, declared in self.rules()
        ]


@cache
def plans_at(case: Case, timing: Timing) -> list[Plan]:
    """Return the plans of a case's rules."""
    return plan_all(case.rules_at(timing))


def aggregates(model: type[Model], path: str, number: str, text: str) -> dict[str, Callable[[], Rules]]:
    """Return rules over one path by the strategy that keeps them."""
    number, text, key = f"{path}__{number}", f"{path}__{text}", f"{path}__id"
    return {
        "delta": lambda: rules_of(model, the_count=Count(path), the_total=Sum(number, default=0)),
        "nullable sum": lambda: rules_of(model, kept_number=Sum(number)),
        "average": lambda: rules_of(model, kept_amount=Avg(number), kept_number=Sum(number), the_count=Count(number)),
        "extremum": lambda: rules_of(model, kept_number=Max(number)),
        "recompute": lambda: rules_of(model, kept_text=StringAgg(text, ",", order_by=(text, key))),
        "lookup": lambda: rules_of(model, the_flag=Exists(path), kept_text=First(text, order_by=f"-{number}")),
        "distinct": lambda: rules_of(model, the_count=Count(path, distinct=True)),
    }


def by_strategy(
    name: str, rules: dict[str, Callable[[], Rules]], strategies: str, seed: str, *sessions: Session, **options: Any
) -> Iterable[Case]:
    """Yield one case per strategy, ``strategies`` being their names with commas between."""
    for strategy in strategies.split(", "):
        yield Case(f"{name}: {strategy}", rules[strategy], seed, sessions, **options)


COUNTRY = "INSERT INTO archive_country (code, name) VALUES"
CREDIT = "INSERT INTO archive_credit (id, person_id, work_id, share, role) VALUES"
NODE = "INSERT INTO archive_node (id, parent_id, own, name) VALUES"
NOTE = (
    "INSERT INTO archive_note (id, object_id, weight, text, content_type_id) "
    "SELECT {}, id FROM django_content_type WHERE (app_label, model) = ('archive', 'work')"
)
PERSON = "INSERT INTO archive_person (id, name) VALUES"
PUBLISHER = "INSERT INTO archive_publisher (id, number, country_id, name) VALUES"
REVIEW = "INSERT INTO archive_review (id, work_id, stars, text) VALUES"
TAG = "INSERT INTO archive_tag (id, weight, name) VALUES"
TAGGED = "INSERT INTO archive_work_tags (work_id, tag_id) VALUES"
WORK = "INSERT INTO archive_work (id, publisher_id, title) VALUES"

# One hop ------------------------------------------------------------------------------------------------------------

REVIEWED = aggregates(Work, "reviews", "stars", "text")
WORKS = f"{WORK} (1, NULL, 'one'), (2, NULL, 'two')"
MOST = "delta, extremum, recompute"

ONE_HOP = [
    *by_strategy(
        "insert/insert",
        REVIEWED,
        f"{MOST}, lookup",
        f"{WORKS}; {REVIEW} (1, 1, 5, 'a')",
        (f"{REVIEW} (11, 1, 7, 'b')",),
        (f"{REVIEW} (12, 1, 9, 'c')",),
        timings=AGGREGATE,
        notes="Two rows raise a maximum; two rows go into one text.",
    ),
    *by_strategy(
        "insert/delete of the only row and extremum",
        REVIEWED,
        f"{MOST}, nullable sum, average, lookup",
        f"{WORKS}; {REVIEW} (1, 1, 10, 'a')",
        (f"{REVIEW} (11, 1, 5, 'b')",),
        ("DELETE FROM archive_review WHERE id = 1",),
        timings=AGGREGATE,
        notes="The new row changes nothing as long as the old one is there, and all when it goes.",
    ),
    *by_strategy(
        "insert/delete of the extremum, rolled back",
        REVIEWED,
        "extremum, recompute",
        f"{WORKS}; {REVIEW} (1, 1, 10, 'a')",
        (f"{REVIEW} (11, 1, 5, 'b')",),
        ("DELETE FROM archive_review WHERE id = 1", "ROLLBACK"),
        timings=AGGREGATE,
    ),
    *by_strategy(
        "insert/update of the extremum",
        REVIEWED,
        f"{MOST}, average",
        f"{WORKS}; {REVIEW} (1, 1, 10, 'z')",
        (f"{REVIEW} (11, 1, 5, 'b')",),
        ("UPDATE archive_review SET stars = 3, text = 'a' WHERE id = 1",),
        timings=AGGREGATE,
    ),
    *by_strategy(
        "delete/delete of equal rows",
        REVIEWED,
        "delta, nullable sum, extremum, distinct, lookup",
        f"{WORKS}; {REVIEW} (1, 1, 10, 'a'), (2, 1, 10, 'a')",
        ("DELETE FROM archive_review WHERE id = 1",),
        ("DELETE FROM archive_review WHERE id = 2",),
        timings=AGGREGATE,
        notes="Each sees the other's row and an unchanged value; a REPEATABLE READ step must write it all the same.",
    ),
    *by_strategy(
        "re-parent/re-parent in opposite directions",
        REVIEWED,
        MOST,
        f"{WORKS}; {REVIEW} (1, 1, 5, 'a'), (2, 2, 7, 'b')",
        ("UPDATE archive_review SET work_id = 2 WHERE id = 1",),
        ("UPDATE archive_review SET work_id = 1 WHERE id = 2",),
        timings=AGGREGATE,
    ),
    *by_strategy(
        "update/update of one row",
        REVIEWED,
        MOST,
        f"{WORKS}; {REVIEW} (1, 1, 5, 'a'), (2, 1, 6, 'b')",
        ("UPDATE archive_review SET stars = stars + 2, text = text || 'x' WHERE id = 1",),
        ("UPDATE archive_review SET stars = stars - 3, text = 'y' || text, work_id = 2 WHERE id = 1",),
        timings=AGGREGATE,
    ),
    *by_strategy(
        "insert/upsert of the same key",
        REVIEWED,
        "delta, extremum",
        f"{WORKS}; {REVIEW} (1, 1, 5, 'a')",
        (f"{REVIEW} (11, 1, 9, 'b')",),
        (f"{REVIEW} (11, 1, 3, 'c') ON CONFLICT (id) DO UPDATE SET stars = excluded.stars, text = excluded.text",),
        errors=frozenset({"23505"}),
        timings=AGGREGATE,
    ),
    *by_strategy(
        "insert/stale save of the parent",
        REVIEWED,
        "delta, extremum",
        WORKS,
        (f"{REVIEW} (11, 1, 9, 'b')",),
        ("UPDATE archive_work SET title = 'new', the_count = 0, the_total = 0, kept_number = NULL WHERE id = 1",),
        timings=AGGREGATE,
    ),
    *by_strategy(
        "insert/delete of the parent",
        REVIEWED,
        "delta, recompute",
        WORKS,
        (f"{REVIEW} (11, 1, 9, 'b')",),
        ("DELETE FROM archive_work WHERE id = 1",),
        errors=NO_SUCH_PARENT,
        timings=AGGREGATE,
    ),
    *by_strategy(
        "insert/parent deleted and back",
        REVIEWED,
        "delta, recompute",
        WORKS,
        (f"{REVIEW} (11, 1, 9, 'b')",),
        (f"DELETE FROM archive_work WHERE id = 1; {WORK} (1, NULL, 'back')",),
        errors=NO_SUCH_PARENT,
        timings=AGGREGATE,
        notes="Whoever waits for the old row never meets the new one, and its key is good at commit.",
    ),
    Case(
        "insert/change of the target's own column",
        lambda: rules_of(Work, the_count=Count("reviews", filter=Q(reviews__stars__gte=F("least")))),
        f"{WORKS}; {REVIEW} (1, 1, 5, 'a')",
        ((f"{REVIEW} (11, 1, 6, 'b')",), ("UPDATE archive_work SET least = 6 WHERE id = 1",)),
    ),
    *by_strategy(
        "TRUNCATE/insert",
        aggregates(Work, "credits", "share", "role"),
        MOST,
        f"{WORKS}; {PERSON} (1, 'p'); {CREDIT} (1, 1, 1, 5, 'a'), (2, 1, 2, 4, 'b')",
        ("TRUNCATE archive_credit",),
        (f"{CREDIT} (11, 1, 1, 3, 'c')",),
        timings=AGGREGATE,
        refused_at=SNAPSHOTS,
    ),
    *by_strategy(
        "insert/delete of the extremum/insert",
        REVIEWED,
        "extremum, recompute",
        f"{WORKS}; {REVIEW} (1, 1, 10, 'a')",
        (f"{REVIEW} (11, 1, 5, 'b')",),
        ("DELETE FROM archive_review WHERE id = 1",),
        (f"{REVIEW} (12, 1, 7, 'c'); COMMIT",),
        timings=AGGREGATE,
    ),
    *by_strategy(
        "bulk inserts in opposite key orders before a gate",
        REVIEWED,
        MOST,
        WORKS,
        (f"{REVIEW} (11, 1, 5, 'a'), (12, 2, 6, 'b'); COMMIT",),
        (f"{REVIEW} (22, 2, 7, 'c'), (21, 1, 8, 'd'); COMMIT",),
        ("UPDATE archive_work SET title = 'gate' WHERE id = 1",),
        timings=AGGREGATE,
        notes="Both wait for work 1; whoever has locked work 2 before deadlocks.",
    ),
    *by_strategy(
        "bulk moves in opposite directions before a gate",
        REVIEWED,
        "delta, recompute",
        f"{WORKS}; {REVIEW} (1, 1, 5, 'a'), (2, 2, 7, 'b')",
        ("UPDATE archive_review SET work_id = 2 WHERE id = 1; COMMIT",),
        ("UPDATE archive_review SET work_id = 1 WHERE id = 2; COMMIT",),
        ("UPDATE archive_work SET title = 'gate' WHERE id = 1",),
        timings=AGGREGATE,
    ),
]

# Several hops -------------------------------------------------------------------------------------------------------

PUBLISHED = aggregates(Publisher, "works__reviews", "stars", "text")
SHELF = (
    f"{COUNTRY} ('a', 'Ay'), ('b', 'Be'); "
    f"{PUBLISHER} (lpad('1', 32, '0')::uuid, 1, 'a', 'p1'), (lpad('2', 32, '0')::uuid, 2, 'b', 'p2'); "
    f"{WORK} (1, 1, 'one'), (2, 2, 'two'); {REVIEW} (1, 1, 5, 'a'), (2, 2, 3, 'b')"
)
MOVE_THE_WORK = "UPDATE archive_work SET publisher_id = 2 WHERE id = 1"
MOVE_THE_PUBLISHER = "UPDATE archive_publisher SET country_id = 'b' WHERE number = 1"
ABROAD = aggregates(Country, "publishers__works__reviews", "stars", "text")

SEVERAL_HOPS = [
    *by_strategy(
        "leaf insert/middle re-parent",
        PUBLISHED,
        MOST,
        SHELF,
        (f"{REVIEW} (11, 1, 7, 'c')",),
        (MOVE_THE_WORK,),
        timings=AGGREGATE,
    ),
    *by_strategy(
        "leaf update/middle re-parent",
        PUBLISHED,
        "delta, recompute",
        SHELF,
        ("UPDATE archive_review SET stars = 9, text = 'z' WHERE id = 1",),
        (MOVE_THE_WORK,),
        timings=AGGREGATE,
    ),
    *by_strategy(
        "leaf delete/middle re-parent",
        PUBLISHED,
        "delta, extremum",
        SHELF,
        ("DELETE FROM archive_review WHERE id = 1",),
        (MOVE_THE_WORK,),
        timings=AGGREGATE,
    ),
    *by_strategy(
        "leaf insert/middle delete",
        PUBLISHED,
        "delta, recompute",
        f"{SHELF}; {WORK} (3, 1, 'three')",
        (f"{REVIEW} (11, 3, 7, 'c')",),
        ("DELETE FROM archive_work WHERE id = 3",),
        errors=NO_SUCH_PARENT,
        timings=AGGREGATE,
    ),
    *by_strategy(
        "leaf moves/middle re-parent",
        PUBLISHED,
        "delta, extremum",
        SHELF,
        ("UPDATE archive_review SET work_id = 1 WHERE id = 2",),
        (MOVE_THE_WORK,),
        timings=AGGREGATE,
    ),
    Case(
        "leaf insert/middle filter flip",
        lambda: rules_of(Publisher, the_count=Count("works__reviews", filter=Q(works__published=True))),
        SHELF,
        ((f"{REVIEW} (11, 1, 7, 'c')",), ("UPDATE archive_work SET published = true WHERE id = 1",)),
        timings=AGGREGATE,
    ),
    *by_strategy(
        "leaf insert/top re-parent, three hops",
        ABROAD,
        "delta, extremum, distinct",
        SHELF,
        (f"{REVIEW} (11, 1, 7, 'c')",),
        (MOVE_THE_PUBLISHER,),
        timings=AGGREGATE,
    ),
    *by_strategy(
        "middle re-parent/top re-parent, three hops",
        ABROAD,
        "delta, distinct",
        f"{SHELF}; {PUBLISHER} (lpad('3', 32, '0')::uuid, 3, 'a', 'p3')",
        ("UPDATE archive_work SET publisher_id = 3 WHERE id = 1",),
        ("UPDATE archive_publisher SET country_id = 'b' WHERE number = 3",),
        timings=AGGREGATE,
        notes="The rows that change meet at neither end: the work comes to the publisher that goes.",
    ),
    *by_strategy(
        "leaf insert/middle re-parent/top re-parent, three hops",
        ABROAD,
        "delta",
        SHELF,
        (f"{REVIEW} (11, 1, 7, 'c')",),
        (MOVE_THE_WORK,),
        ("UPDATE archive_publisher SET country_id = 'a' WHERE number = 2; COMMIT",),
        timings=AGGREGATE,
    ),
    *by_strategy(
        "leaf insert/top re-parent, then a leaf of the new top, before a gate",
        ABROAD,
        "delta, extremum, distinct",
        SHELF,
        (f"{REVIEW} (11, 1, 7, 'c'); COMMIT",),
        (f"{MOVE_THE_PUBLISHER}; COMMIT", f"{REVIEW} (12, 2, 9, 'd')"),
        ("UPDATE archive_work SET title = 'gate' WHERE id = 1",),
        timings=AGGREGATE,
        levels=(IsolationLevel.READ_COMMITTED,),
        notes="While A waits for the work, its path comes to another country, whose row somebody else then holds.",
    ),
    *by_strategy(
        "leaf bulk inserts in opposite key orders before a gate",
        PUBLISHED,
        "delta, recompute",
        SHELF,
        (f"{REVIEW} (11, 1, 5, 'a'), (12, 2, 6, 'b'); COMMIT",),
        (f"{REVIEW} (22, 2, 7, 'c'), (21, 1, 8, 'd'); COMMIT",),
        ("UPDATE archive_work SET title = 'gate' WHERE id = 1",),
        timings=AGGREGATE,
    ),
]


def count_of_counts() -> Rules:
    return [
        *rules_of(Publisher, the_total=Sum("works__the_count", default=0)),
        *rules_of(Work, the_count=Count("reviews")),
    ]


CHAINS = [
    Case(
        "chained rules: leaf insert/leaf insert",
        count_of_counts,
        f"{SHELF}; {WORK} (3, 1, 'three')",
        ((f"{REVIEW} (11, 1, 7, 'c')",), (f"{REVIEW} (12, 3, 7, 'd')",)),
        timings=AGGREGATE,
    ),
    Case(
        "chained rules: leaf insert/middle re-parent",
        count_of_counts,
        SHELF,
        ((f"{REVIEW} (11, 1, 7, 'c')",), (MOVE_THE_WORK,)),
        timings=AGGREGATE,
    ),
]

# Many-to-many -------------------------------------------------------------------------------------------------------

ACTIVE = Q(tags__active=True)
TAGS = f"{WORKS}; {TAG} (1, 5, 'x'), (2, 3, 'y')"
FLIP = "UPDATE archive_tag SET active = NOT active WHERE id = 1"
ACTIVE_TAGS: dict[str, Callable[[], Rules]] = {
    "delta": lambda: rules_of(Work, the_count=Count("tags", filter=ACTIVE)),
    "extremum": lambda: rules_of(Work, kept_number=Max("tags__weight", filter=ACTIVE)),
    "recompute": lambda: rules_of(
        Work, kept_text=StringAgg("tags__name", ",", order_by=("tags__name", "tags__id"), filter=ACTIVE)
    ),
}
CREDITED = aggregates(Person, "works__reviews", "stars", "text")
CREDITS = f"{WORKS}; {PERSON} (1, 'p'), (2, 'q'); {CREDIT} (1, 2, 1, 1, ''); {REVIEW} (1, 1, 5, 'a')"

MANY_TO_MANY = [
    *by_strategy(
        "M2M add/far-side flip",
        ACTIVE_TAGS,
        MOST,
        f"{TAGS}; {TAGGED} (1, 2)",
        (f"{TAGGED} (1, 1)",),
        (FLIP,),
        timings=AGGREGATE,
    ),
    *by_strategy(
        "M2M remove/far-side flip",
        ACTIVE_TAGS,
        "delta, extremum",
        f"{TAGS}; {TAGGED} (1, 1), (1, 2)",
        ("DELETE FROM archive_work_tags WHERE (work_id, tag_id) = (1, 1)",),
        (FLIP,),
        timings=AGGREGATE,
    ),
    *by_strategy(
        "M2M add/far-side delete",
        ACTIVE_TAGS,
        "delta, recompute",
        TAGS,
        (f"{TAGGED} (1, 1)",),
        ("DELETE FROM archive_tag WHERE id = 1",),
        errors=NO_SUCH_PARENT,
        timings=AGGREGATE,
    ),
    *by_strategy(
        "M2M bulk adds in opposite key orders before a gate",
        ACTIVE_TAGS,
        "delta",
        TAGS,
        (f"{TAGGED} (1, 1), (2, 2); COMMIT",),
        (f"{TAGGED} (2, 1), (1, 2); COMMIT",),
        ("UPDATE archive_tag SET name = 'gate' WHERE id = 1",),
        timings=AGGREGATE,
    ),
    *by_strategy(
        "TRUNCATE of the through table/far-side flip",
        ACTIVE_TAGS,
        "delta",
        f"{TAGS}; {TAGGED} (1, 1), (1, 2)",
        ("TRUNCATE archive_work_tags",),
        (FLIP,),
        timings=AGGREGATE,
        refused_at=SNAPSHOTS,
    ),
    Case(
        "M2M add/near-side flip, seen from the tag",
        lambda: rules_of(Tag, the_count=Count("works", filter=Q(works__published=True))),
        TAGS,
        ((f"{TAGGED} (1, 1)",), ("UPDATE archive_work SET published = true WHERE id = 1",)),
        timings=AGGREGATE,
    ),
    *by_strategy(
        "through insert/insert of a child of the far side",
        CREDITED,
        "delta, extremum, recompute",
        CREDITS,
        (f"{CREDIT} (11, 1, 1, 1, '')",),
        (f"{REVIEW} (11, 1, 7, 'b')",),
        timings=AGGREGATE,
        notes="Neither row points at the other: their common row is the work between them, which nobody writes.",
    ),
    *by_strategy(
        "through insert/re-parent of a child of the far side",
        CREDITED,
        "delta, distinct",
        f"{CREDITS}; {REVIEW} (2, 2, 3, 'b')",
        (f"{CREDIT} (11, 1, 1, 1, '')",),
        ("UPDATE archive_review SET work_id = 1 WHERE id = 2",),
        timings=AGGREGATE,
    ),
    Case(
        "M2M add/M2M add of another row to the shared tag",
        lambda: rules_of(Work, the_count=Count("tags__works")),
        TAGS,
        ((f"{TAGGED} (1, 1)",), (f"{TAGGED} (2, 1)",)),
        notes="One table twice on a path: each new row is the other's near and far end.",
    ),
]

# Copies -------------------------------------------------------------------------------------------------------------


def title_of_work() -> Rules:
    return rules_of(Review, kept_text=F("work__title"))


def name_of_publisher() -> Rules:
    return rules_of(Review, kept_text=F("work__publisher__name"))


RENAME_THE_WORK = "UPDATE archive_work SET title = 'new' WHERE id = 1"
RENAME_THE_PUBLISHER = "UPDATE archive_publisher SET name = 'new' WHERE number = 1"
ADD_A_REVIEW = f"{REVIEW} (11, 1, 7, 'c')"
MOVE_A_REVIEW = "UPDATE archive_review SET work_id = 1 WHERE id = 2"

COPIES = [
    Case("copy: insert/change of the column", title_of_work, SHELF, ((ADD_A_REVIEW,), (RENAME_THE_WORK,))),
    Case("copy: re-parent/change of the column", title_of_work, SHELF, ((MOVE_A_REVIEW,), (RENAME_THE_WORK,))),
    Case(
        "copy: insert/insert/change of the column",
        title_of_work,
        SHELF,
        ((ADD_A_REVIEW,), (RENAME_THE_WORK,), (f"{REVIEW} (12, 1, 7, 'd'); COMMIT",)),
    ),
    Case(
        "copy: bulk inserts in opposite key orders before a gate",
        title_of_work,
        WORKS,
        (
            (f"{REVIEW} (11, 1, 5, 'a'), (12, 2, 6, 'b'); COMMIT",),
            (f"{REVIEW} (22, 2, 7, 'c'), (21, 1, 8, 'd'); COMMIT",),
            ("UPDATE archive_work SET title = 'gate' WHERE id = 1",),
        ),
    ),
    Case(
        "copy: insert/parent deleted and back",
        title_of_work,
        WORKS,
        ((ADD_A_REVIEW,), (f"DELETE FROM archive_work WHERE id = 1; {WORK} (1, NULL, 'back')",)),
        errors=NO_SUCH_PARENT,
    ),
    Case(
        "copy, two hops: insert/change of the column",
        name_of_publisher,
        SHELF,
        ((ADD_A_REVIEW,), (RENAME_THE_PUBLISHER,)),
    ),
    Case(
        "copy, two hops: re-parent/change of the column",
        name_of_publisher,
        SHELF,
        ((MOVE_A_REVIEW,), (RENAME_THE_PUBLISHER,)),
    ),
    Case(
        "copy, two hops: insert/change of the column, before a gate",
        name_of_publisher,
        SHELF,
        (
            (f"{ADD_A_REVIEW}; COMMIT",),
            (f"{RENAME_THE_PUBLISHER}; COMMIT",),
            ("UPDATE archive_work SET title = 'gate' WHERE id = 1",),
        ),
    ),
    Case(
        "copies below each other: change of the middle/change of the top, before a gate",
        lambda: [
            *rules_of(Work, kept_text=F("publisher__name")),
            *rules_of(Review, kept_text=F("work__publisher__name"), kept_number=F("work__pages")),
        ],
        SHELF,
        (
            ("UPDATE archive_work SET pages = 9 WHERE id = 1; COMMIT",),
            (f"{RENAME_THE_PUBLISHER}; COMMIT",),
            ("UPDATE archive_review SET text = 'gate' WHERE id = 1",),
        ),
        notes="The top writes the middle before the bottom, whatever their tables are called; else each holds the other's.",
    ),
    Case("copy, two hops: insert/middle re-parent", name_of_publisher, SHELF, ((ADD_A_REVIEW,), (MOVE_THE_WORK,))),
    Case(
        "copy, two hops: middle re-parent/change of the column",
        name_of_publisher,
        SHELF,
        ((MOVE_THE_WORK,), ("UPDATE archive_publisher SET name = 'new' WHERE number = 2",)),
    ),
    Case(
        "copy of a copy: insert/change of the column",
        lambda: [*rules_of(Work, kept_text=F("publisher__name")), *rules_of(Review, kept_text=F("work__kept_text"))],
        SHELF,
        ((ADD_A_REVIEW,), (RENAME_THE_PUBLISHER,)),
    ),
    Case(
        "copy from two parents: change/change",
        lambda: rules_of(Review, kept_text=Concat("work__title", "author__name", output_field=TextField())),
        f"{SHELF}; {PERSON} (1, 'p'); UPDATE archive_review SET author_id = 1",
        ((RENAME_THE_WORK,), ("UPDATE archive_person SET name = 'q' WHERE id = 1",)),
        notes="Both fan out to one row; who comes second must see what the first has written.",
    ),
    Case(
        "copy from parent and grandparent: change/change",
        lambda: rules_of(Review, kept_text=Concat("work__title", "work__publisher__name", output_field=TextField())),
        SHELF,
        ((RENAME_THE_WORK,), (RENAME_THE_PUBLISHER,)),
    ),
    Case(
        "copy across inherited tables: insert/change of the column",
        lambda: rules_of(Novel, kept_title=F("title")),
        WORKS,
        (("INSERT INTO archive_novel (work_ptr_id, genre) VALUES (1, 'g')",), (RENAME_THE_WORK,)),
    ),
    Case(
        "copy into a row with a composite key: insert/change of the column",
        lambda: rules_of(Line, kept_text=F("work__title")),
        WORKS,
        (("INSERT INTO archive_line (work_id, number) VALUES (1, 1)",), (RENAME_THE_WORK,)),
    ),
    Case(
        "filter across inherited tables: insert/flip",
        lambda: rules_of(Series, the_count=Count("novels", filter=Q(novels__published=True))),
        f"{WORKS}; INSERT INTO archive_series (id) VALUES (1)",
        (
            ("INSERT INTO archive_novel (work_ptr_id, genre, series_id) VALUES (1, 'g', 1)",),
            ("UPDATE archive_work SET published = true WHERE id = 1",),
        ),
    ),
]

# Up and down one edge -----------------------------------------------------------------------------------------------


def up_and_down() -> Rules:
    return [
        *rules_of(Work, the_count=Count("reviews"), the_total=Sum("reviews__stars", default=0)),
        *rules_of(Review, kept_text=F("work__title")),
    ]


def up_and_back() -> Rules:
    return [*rules_of(Work, the_count=Count("reviews")), *rules_of(Review, kept_number=F("work__the_count"))]


DELTA_AGAINST_COPY = "a delta goes up the edge that a copy fans out along"

BOTH_WAYS = [
    Case(
        "up and down: insert/insert",
        up_and_down,
        SHELF,
        ((ADD_A_REVIEW,), (f"{REVIEW} (12, 1, 8, 'd')",)),
        notes="A shared lock for the copy that becomes an exclusive one for the delta deadlocks.",
    ),
    Case("up and down: insert/change of the column", up_and_down, SHELF, ((ADD_A_REVIEW,), (RENAME_THE_WORK,))),
    Case(
        "up and down: re-parent/re-parent in opposite directions",
        up_and_down,
        SHELF,
        ((MOVE_A_REVIEW,), ("UPDATE archive_review SET work_id = 2 WHERE id = 1",)),
    ),
    Case(
        "up and down: bulk inserts in opposite key orders before a gate",
        up_and_down,
        WORKS,
        (
            (f"{REVIEW} (11, 1, 5, 'a'), (12, 2, 6, 'b'); COMMIT",),
            (f"{REVIEW} (22, 2, 7, 'c'), (21, 1, 8, 'd'); COMMIT",),
            ("UPDATE archive_work SET title = 'gate' WHERE id = 1",),
        ),
    ),
    Case(
        "up and down: update of a child/change of the column, before a gate",
        up_and_down,
        SHELF,
        (
            ("UPDATE archive_review SET stars = 9 WHERE id = 1; COMMIT",),
            (f"{RENAME_THE_WORK}; COMMIT",),
            ("UPDATE archive_review SET text = 'gate' WHERE id = 1",),
        ),
        deadlock=DELTA_AGAINST_COPY,
    ),
    Case(
        "copy down to the middle of a path: leaf insert/change of the column, before a gate",
        lambda: [
            *rules_of(Publisher, the_count=Count("works__reviews")),
            *rules_of(Work, kept_text=F("publisher__name")),
        ],
        SHELF,
        (
            (f"{ADD_A_REVIEW}; COMMIT",),
            (f"{RENAME_THE_PUBLISHER}; COMMIT",),
            ("UPDATE archive_publisher SET fee = 1 WHERE number = 1",),
        ),
        deadlock=DELTA_AGAINST_COPY,
    ),
    Case("up and back: insert/insert", up_and_back, SHELF, ((ADD_A_REVIEW,), (f"{REVIEW} (12, 1, 8, 'd')",))),
    Case(
        "up and back: insert/delete of a sibling",
        up_and_back,
        SHELF,
        ((ADD_A_REVIEW,), ("DELETE FROM archive_review WHERE id = 1",)),
        deadlock=DELTA_AGAINST_COPY,
    ),
]

# A child before its parent ------------------------------------------------------------------------------------------

ADD_WORK_9 = f"{WORK} (9, 1, 'nine')"
ADD_TO_WORK_9 = f"{REVIEW} (11, 9, 7, 'c')"

# There, a parent that never comes is SQLSTATE 40001 instead of 23503 (docs/concurrency.md).
NOT_REPEATABLE_READ = tuple(level for level in LEVELS if level is not IsolationLevel.REPEATABLE_READ)

BEFORE_THE_PARENT = [
    *by_strategy(
        "child/parent insert, deferred key",
        REVIEWED,
        f"{MOST}, nullable sum",
        SHELF,
        (ADD_TO_WORK_9,),
        (ADD_WORK_9,),
        errors=NO_SUCH_PARENT,
        timings=AGGREGATE,
    ),
    *by_strategy(
        "child/parent/child insert, deferred key",
        REVIEWED,
        "delta",
        SHELF,
        (ADD_TO_WORK_9,),
        (ADD_WORK_9,),
        (f"{REVIEW} (12, 9, 8, 'd'); COMMIT",),
        errors=NO_SUCH_PARENT,
        timings=AGGREGATE,
    ),
    *by_strategy(
        "leaf/middle insert, deferred key",
        PUBLISHED,
        MOST,
        SHELF,
        (ADD_TO_WORK_9,),
        (ADD_WORK_9,),
        errors=NO_SUCH_PARENT,
        timings=AGGREGATE,
    ),
    *by_strategy(
        "middle/target insert, deferred key",
        ABROAD,
        "delta, distinct",
        SHELF,
        ("UPDATE archive_publisher SET country_id = 'c' WHERE number = 1",),
        (f"{COUNTRY} ('c', 'Ce')",),
        errors=NO_SUCH_PARENT,
        timings=AGGREGATE,
    ),
    *by_strategy(
        "middle, then leaf/target insert, deferred key",
        PUBLISHED,
        f"{MOST}, nullable sum",
        SHELF,
        (f"{WORK} (9, 9, 'nine')", ADD_TO_WORK_9),
        (f"{PUBLISHER} (lpad('9', 32, '0')::uuid, 9, NULL, 'p9')",),
        errors=NO_SUCH_PARENT,
        timings=AGGREGATE,
        levels=NOT_REPEATABLE_READ,
        notes="The work counts for nothing when its publisher is missed, and for a review later on.",
    ),
    *by_strategy(
        "middle moves, then leaf/target insert, deferred key",
        ABROAD,
        "delta",
        SHELF,
        (
            "UPDATE archive_publisher SET country_id = 'c' WHERE number = 1",
            "DELETE FROM archive_review WHERE id = 1",
            f"{REVIEW} (11, 1, 7, 'c')",
        ),
        (f"{COUNTRY} ('c', 'Ce')",),
        errors=NO_SUCH_PARENT,
        timings=AGGREGATE,
        levels=NOT_REPEATABLE_READ,
    ),
    *by_strategy(
        "through/far M2M insert, deferred key",
        ACTIVE_TAGS,
        MOST,
        TAGS,
        (f"{TAGGED} (1, 9)",),
        (f"{TAG} (9, 9, 'z')",),
        errors=NO_SUCH_PARENT,
        timings=AGGREGATE,
    ),
    *by_strategy(
        "through/near M2M insert, deferred key",
        ACTIVE_TAGS,
        "delta",
        TAGS,
        (f"{TAGGED} (9, 1)",),
        (f"{WORK} (9, NULL, 'nine')",),
        errors=NO_SUCH_PARENT,
        timings=AGGREGATE,
    ),
    Case(
        "copy: child/parent insert, deferred key",
        title_of_work,
        SHELF,
        ((ADD_TO_WORK_9,), (ADD_WORK_9,)),
        errors=NO_SUCH_PARENT,
    ),
    Case(
        "copy, two hops: child/middle insert, deferred key",
        name_of_publisher,
        SHELF,
        ((ADD_TO_WORK_9,), (ADD_WORK_9,)),
        errors=NO_SUCH_PARENT,
    ),
    Case(
        "copy, two hops: middle/far insert, deferred key",
        name_of_publisher,
        SHELF,
        (
            ("UPDATE archive_work SET publisher_id = 9 WHERE id = 1",),
            (f"{PUBLISHER} (lpad('9', 32, '0')::uuid, 9, NULL, 'p9')",),
        ),
        errors=NO_SUCH_PARENT,
    ),
    Case(
        "up and down: child/parent insert, deferred key",
        up_and_down,
        SHELF,
        ((ADD_TO_WORK_9,), (ADD_WORK_9,)),
        errors=NO_SUCH_PARENT,
    ),
]

# Keys that change ---------------------------------------------------------------------------------------------------

WORKED = aggregates(Publisher, "works", "pages", "title")
EMPTY_SHELF = f"{PUBLISHER} (lpad('1', 32, '0')::uuid, 1, NULL, 'p1'), (lpad('2', 32, '0')::uuid, 2, NULL, 'p2')"
NEW_KEY = "UPDATE archive_publisher SET number = 7 WHERE number = 1"
NEW_WORK = "INSERT INTO archive_work (id, publisher_id, pages, title) VALUES"

KEYS = [
    *by_strategy(
        "key change/insert under the new key",
        WORKED,
        MOST,
        EMPTY_SHELF,
        (NEW_KEY,),
        (f"{NEW_WORK} (11, 7, 5, 'a')",),
        errors=NO_SUCH_PARENT,
        timings=AGGREGATE,
    ),
    *by_strategy(
        "key change/re-parent to the new key",
        WORKED,
        "delta, extremum",
        f"{EMPTY_SHELF}; {NEW_WORK} (1, 2, 5, 'a')",
        (NEW_KEY,),
        ("UPDATE archive_work SET publisher_id = 7 WHERE id = 1",),
        errors=NO_SUCH_PARENT,
        timings=AGGREGATE,
    ),
    *by_strategy(
        "key change/insert under the old key",
        WORKED,
        "delta, recompute",
        EMPTY_SHELF,
        (NEW_KEY,),
        (f"{NEW_WORK} (11, 1, 5, 'a')",),
        errors=NO_SUCH_PARENT,
        timings=AGGREGATE,
    ),
    Case(
        "copy: key change/insert under the new key",
        lambda: rules_of(Work, kept_text=F("publisher__name")),
        EMPTY_SHELF,
        ((NEW_KEY,), (f"{NEW_WORK} (11, 7, 5, 'a')",)),
        errors=NO_SUCH_PARENT,
    ),
    Case(
        "key change of the middle/leaf insert",
        lambda: rules_of(Country, the_count=Count("publishers__works")),
        f"{COUNTRY} ('a', 'Ay'); {PUBLISHER} (lpad('1', 32, '0')::uuid, 1, 'a', 'p1')",
        ((NEW_KEY,), (f"{NEW_WORK} (11, 7, 5, 'a')",)),
        errors=NO_SUCH_PARENT,
        timings=AGGREGATE,
    ),
]

# Generic relations --------------------------------------------------------------------------------------------------

# The value over no rows follows from the target's own row: what it starts from is read, too.
NOTED = aggregates(Work, "notes", "weight", "text") | {
    "expression": lambda: rules_of(Work, the_total=Coalesce("pages", 3) + Sum("notes__weight", default=0)),
}


def note(key: int, work: int, weight: int) -> str:
    return NOTE.format(f"{key}, {work}, {weight}, 'n{key}'")


GENERIC = [
    *by_strategy(
        "generic: child/parent insert",
        NOTED,
        f"{MOST}, expression",
        SHELF,
        (note(11, 9, 5),),
        (ADD_WORK_9,),
        refused_at=NO_MEETING,
        timings=AGGREGATE,
        notes="No constraint tells the child at commit whether its parent has come.",
    ),
    *by_strategy(
        "generic: child/parent insert, rolled back",
        NOTED,
        "delta",
        SHELF,
        (note(11, 9, 5),),
        (ADD_WORK_9, "ROLLBACK"),
        refused_at=NO_MEETING,
        timings=AGGREGATE,
    ),
    *by_strategy(
        "generic: child/parent/child insert",
        NOTED,
        "delta",
        SHELF,
        (note(11, 9, 5),),
        (ADD_WORK_9,),
        (f"{note(12, 9, 6)}; COMMIT",),
        refused_at=NO_MEETING,
        timings=AGGREGATE,
    ),
    *by_strategy(
        "generic: child delete/parent insert",
        NOTED,
        f"{MOST}, expression",
        f"{SHELF}; {note(1, 9, 5)}",
        ("DELETE FROM archive_note WHERE id = 1",),
        (ADD_WORK_9,),
        refused_at=NO_MEETING,
        timings=AGGREGATE,
    ),
    *by_strategy(
        "generic: child moves away/parent insert",
        NOTED,
        "delta",
        f"{SHELF}; {note(1, 9, 5)}",
        ("UPDATE archive_note SET object_id = 1 WHERE id = 1",),
        (ADD_WORK_9,),
        refused_at=NO_MEETING,
        timings=AGGREGATE,
    ),
    *by_strategy(
        "generic: child update/parent insert",
        NOTED,
        "delta",
        f"{SHELF}; {note(1, 9, 5)}",
        ("UPDATE archive_note SET weight = 8 WHERE id = 1",),
        (ADD_WORK_9,),
        refused_at=NO_MEETING,
        timings=AGGREGATE,
    ),
    *by_strategy(
        "generic: child insert/parent delete",
        NOTED,
        "delta",
        WORKS,
        (note(11, 1, 5),),
        ("DELETE FROM archive_work WHERE id = 1",),
        refused_at=NO_MEETING,
        timings=AGGREGATE,
    ),
    *by_strategy(
        "generic: child insert/parent delete/another parent of its key",
        NOTED,
        MOST,
        WORKS,
        (note(11, 1, 5),),
        ("DELETE FROM archive_work WHERE id = 1",),
        (f"{WORK} (1, NULL, 'new'); COMMIT",),
        errors=TAKEN,
        levels=NOT_REPEATABLE_READ,
        timings=AGGREGATE,
        notes="The child has seen a parent, which is gone when it can lock it. At REPEATABLE READ: a key taken over.",
    ),
    *by_strategy(
        "generic: child update/parent replaced/the new parent is deleted and comes back",
        NOTED,
        MOST,
        f"{WORKS}; {note(1, 1, 5)}",
        ("UPDATE archive_note SET weight = 8 WHERE id = 1",),
        (f"DELETE FROM archive_work WHERE id = 1; {WORK} (1, NULL, 'new')",),
        (f"DELETE FROM archive_work WHERE id = 1; {WORK} (1, NULL, 'newer'); COMMIT",),
        errors=TAKEN,
        deadlock="whoever replaces a parent holds the old one, and waits for those who have missed it meanwhile",
        levels=NOT_REPEATABLE_READ,
        timings=AGGREGATE,
    ),
    *by_strategy(
        "generic, in the middle: child insert/row between deleted/another one of its key",
        aggregates(Publisher, "works__notes", "weight", "text"),
        MOST,
        SHELF,
        (note(11, 2, 5),),
        ("DELETE FROM archive_review WHERE id = 2; DELETE FROM archive_work WHERE id = 2",),
        (f"{WORK} (2, 1, 'new'); COMMIT",),
        errors=TAKEN,
        levels=NOT_REPEATABLE_READ,
        timings=AGGREGATE,
    ),
    *by_strategy(
        "generic, in the middle: child update/row between deleted/another one of its key",
        aggregates(Publisher, "works__notes", "weight", "text"),
        MOST,
        f"{SHELF}; {note(1, 2, 5)}",
        ("UPDATE archive_note SET weight = 8, text = 'x' WHERE id = 1",),
        ("DELETE FROM archive_review WHERE id = 2; DELETE FROM archive_work WHERE id = 2",),
        (f"{WORK} (2, 1, 'new'); COMMIT",),
        errors=TAKEN,
        levels=NOT_REPEATABLE_READ,
        timings=AGGREGATE,
    ),
    Case(
        "generic: copy, insert/the row is deleted/another one of its key",
        lambda: rules_of(Note, kept_text=F("work__title")),
        WORKS,
        ((note(11, 1, 5),), ("DELETE FROM archive_work WHERE id = 1",), (f"{WORK} (1, NULL, 'new'); COMMIT",)),
        errors=TAKEN,
        levels=NOT_REPEATABLE_READ,
    ),
]

# Trees --------------------------------------------------------------------------------------------------------------


def rollup() -> Rules:
    return rules_of(Node, the_total=F("own") + Sum("children__the_total", default=0))


def depth() -> Rules:
    return rules_of(Node, kept_number=Coalesce(F("parent__kept_number"), 0) + 1)


# 1 has 2 and 3; 2 has 4, 3 has 5.
TREE = f"{NODE} (1, NULL, 1, 'r'), (2, 1, 2, 'a'), (3, 1, 4, 'b'), (4, 2, 8, 'c'), (5, 3, 16, 'd')"
ADD_A_LEAF = f"{NODE} (11, 4, 32, 'e')"
MOVE_2_UNDER_3 = "UPDATE archive_node SET parent_id = 3 WHERE id = 2"

TREES = [
    Case("rollup: leaf insert/move of an ancestor", rollup, TREE, ((ADD_A_LEAF,), (MOVE_2_UNDER_3,))),
    Case(
        "rollup: moves in opposite directions",
        rollup,
        TREE,
        (
            ("UPDATE archive_node SET parent_id = 3 WHERE id = 4",),
            ("UPDATE archive_node SET parent_id = 2 WHERE id = 5",),
        ),
    ),
    Case(
        "rollup: moves under one another",
        rollup,
        TREE,
        ((MOVE_2_UNDER_3,), ("UPDATE archive_node SET parent_id = 2 WHERE id = 3",)),
        errors=OWN_ANCESTOR,
        notes="Each move alone is fine; both together would make a circle.",
    ),
    Case(
        "rollup: two leaves under one root",
        rollup,
        TREE,
        ((f"{NODE} (11, 4, 32, 'e')",), (f"{NODE} (12, 5, 64, 'f')",)),
    ),
    Case(
        "rollup: leaf update/delete of a leaf",
        rollup,
        TREE,
        (("UPDATE archive_node SET own = 32 WHERE id = 4",), ("DELETE FROM archive_node WHERE id = 5",)),
    ),
    Case(
        "rollup: child/parent insert, deferred key",
        rollup,
        TREE,
        ((f"{NODE} (11, 9, 32, 'e')",), (f"{NODE} (9, 3, 64, 'f')",)),
        errors=NO_SUCH_PARENT,
    ),
    Case(
        "rollup: leaf insert/move to another tree, then a leaf there, before a gate",
        rollup,
        f"{NODE} (1, 2, 1, 'leaf'), (2, 3, 2, 'a'), (3, NULL, 4, 'root'), (4, NULL, 8, 'other root')",
        (
            (f"{NODE} (11, 1, 16, 'e'); COMMIT",),
            ("UPDATE archive_node SET parent_id = 4 WHERE id = 2; COMMIT", f"{NODE} (12, 4, 32, 'f')"),
            ("UPDATE archive_node SET name = 'gate' WHERE id = 1",),
        ),
        levels=(IsolationLevel.READ_COMMITTED,),
        notes="While A waits for the first row of its path, the path comes to a root that it has not locked.",
    ),
    Case("depth: leaf insert/move of an ancestor", depth, TREE, ((ADD_A_LEAF,), (MOVE_2_UNDER_3,))),
    Case(
        "depth: move/move of an ancestor",
        depth,
        TREE,
        (("UPDATE archive_node SET parent_id = 4 WHERE id = 5",), (MOVE_2_UNDER_3,)),
    ),
]

# What waits ---------------------------------------------------------------------------------------------------------

FLUSH = "SELECT tk_flush_archive_work()"
FLUSH_UNLOCKED = "SELECT tk_flush_archive_work(batch => 1, skip_locked => true)"
SETTLE = "SET CONSTRAINTS tk_commit IMMEDIATE"
QUEUED = (Timing.QUEUED,)
PENDING = f"{WORKS}; {REVIEW} (1, 1, 5, 'a'), (2, 2, 3, 'b')"


def counted_and_summed() -> Rules:
    return rules_of(Work, the_count=Count("reviews"), the_total=Sum("reviews__stars", default=0))


def of_all_timings() -> Rules:
    """Three columns over one path, each with a timing of its own."""
    return [
        (
            Work,
            [
                Denormalize("the_count", Count("reviews")),
                Denormalize("the_total", Sum("reviews__stars", default=0), timing=Timing.QUEUED),
                Denormalize("kept_number", Sum("reviews__stars"), timing=Timing.DEFERRED),
                Denormalize("kept_text", First("reviews__text", order_by="-reviews__stars"), timing=Timing.DEFERRED),
            ],
        )
    ]


def compute_afresh(timing: Timing) -> Step:
    """Return the step that writes the full values of all rows, as a backfill's batch or a repair: lock, then compute."""

    def compute(connection: psycopg.Connection) -> None:
        rules = [Denormalize(rule.field, rule.expression, timing=timing) for rule in counted_and_summed()[0][1]]
        update = fill_placeholders(backfill_sql(plan(Work, rules)), in_public)
        connection.execute("SELECT set_config('trigger_kit.depth', '0', true)")
        connection.execute("SELECT FROM archive_work ORDER BY id FOR NO KEY UPDATE")
        connection.execute(update.encode())
        connection.execute("SELECT set_config('trigger_kit.depth', '', true)")

    return compute


def full_values(name: str, *others: Session) -> list[Case]:
    """Return a case per timing in which all values are computed beside other sessions."""
    return [
        Case(
            name,
            counted_and_summed,
            PENDING,
            ((compute_afresh(timing),), *others),
            timings=(timing,),
            levels=(IsolationLevel.READ_COMMITTED,),
            notes="A backfill and a repair run at READ COMMITTED.",
        )
        for timing in Timing
    ]


def in_public(placeholder: str) -> str:
    """Resolve the placeholders of compiled text in the schema ``public``."""
    return '"public"' if placeholder == SCHEMA else f'"public"."{placeholder}"'


def waiting(name: str, *sessions: Session, seed: str = PENDING, **options: Any) -> Case:
    """Return a case of queued columns."""
    return Case(name, counted_and_summed, seed, sessions, timings=QUEUED, **options)


INSERT_REVIEW = f"{REVIEW} (11, 1, 7, 'c')"
MOVE_REVIEW = "UPDATE archive_review SET work_id = 2 WHERE id = 1"

WAITING = [
    Case(
        "inserts under two parents in opposite orders",
        counted_and_summed,
        WORKS,
        ((INSERT_REVIEW, f"{REVIEW} (12, 2, 1, 'd')"), (f"{REVIEW} (13, 2, 2, 'e')", f"{REVIEW} (14, 1, 3, 'f')")),
        timings=LATER,
        notes="Each transaction holds what the other asks for, unless it takes both at its end.",
    ),
    Case(
        "settled early/insert",
        counted_and_summed,
        PENDING,
        ((f"{INSERT_REVIEW}; {SETTLE}", f"{REVIEW} (12, 1, 1, 'd')"), (f"{REVIEW} (13, 1, 2, 'e')",)),
        timings=(Timing.DEFERRED,),
    ),
    Case(
        "child, settled early/parent insert, deferred key",
        counted_and_summed,
        WORKS,
        ((f"{REVIEW} (11, 3, 7, 'c')", SETTLE), (f"{WORK} (3, NULL, 'three')",)),
        errors=NO_SUCH_PARENT,
        timings=(Timing.DEFERRED,),
        notes="The parent is not there when the note reaches it, and there when its key is checked.",
    ),
    Case(
        "children of two parents/insert of one, deferred key, before a gate",
        counted_and_summed,
        WORKS,
        (
            (f"{INSERT_REVIEW}; {REVIEW} (12, 3, 1, 'd')",),
            (f"{WORK} (3, NULL, 'three'); COMMIT",),
            ("UPDATE archive_work SET title = 'gate' WHERE id = 1",),
        ),
        errors=NO_SUCH_PARENT,
        timings=(Timing.DEFERRED,),
        levels=(IsolationLevel.READ_COMMITTED,),
        notes="While the commit waits for the first parent, the second one comes.",
    ),
    Case(
        "all timings: insert/delete",
        of_all_timings,
        PENDING,
        ((INSERT_REVIEW,), ("DELETE FROM archive_review WHERE id = 1",)),
        keeps_timings=True,
    ),
    Case(
        "all timings: insert/move/flush",
        of_all_timings,
        PENDING,
        ((f"{INSERT_REVIEW}; COMMIT",), ("UPDATE archive_review SET work_id = 2 WHERE id = 1",), (f"{FLUSH}; COMMIT",)),
        keeps_timings=True,
        levels=(IsolationLevel.READ_COMMITTED,),
    ),
    waiting("flush/insert/flush", (FLUSH,), (INSERT_REVIEW,), (FLUSH,), levels=(IsolationLevel.READ_COMMITTED,)),
    waiting(
        "flush/insert/flush, each in one step",
        (f"{FLUSH}; COMMIT",),
        (f"{INSERT_REVIEW}; COMMIT",),
        (f"{FLUSH}; COMMIT",),
        levels=SNAPSHOTS,
    ),
    waiting("flush/insert", (FLUSH,), (INSERT_REVIEW,)),
    waiting("flush/flush", (FLUSH,), (FLUSH,)),
    waiting("flush, rolled back/flush", (FLUSH, "ROLLBACK"), (FLUSH,)),
    waiting("flush/flush of what is not locked", (FLUSH,), (FLUSH_UNLOCKED, FLUSH_UNLOCKED)),
    waiting("flush/move", (FLUSH,), ("UPDATE archive_review SET work_id = 3 - work_id",)),
    waiting("flush/update of the parent", (FLUSH,), ("UPDATE archive_work SET title = 'x', the_count = 9",)),
    waiting("flush/delete of the parent", (FLUSH,), ("DELETE FROM archive_review; DELETE FROM archive_work",)),
    waiting(
        "flush/key change",
        (FLUSH,),
        ("DELETE FROM archive_review WHERE work_id = 1; UPDATE archive_work SET id = 5 WHERE id = 1",),
    ),
    waiting(
        "flush/parent deleted and back",
        (FLUSH,),
        (f"DELETE FROM archive_review; DELETE FROM archive_work WHERE id = 1; {WORK} (1, NULL, 'back')",),
    ),
    waiting(
        "flush/parent insert/child insert, deferred key",
        (FLUSH,),
        (f"{WORK} (3, NULL, 'three')",),
        (f"{REVIEW} (11, 3, 7, 'c')",),
        errors=NO_SUCH_PARENT,
        levels=(IsolationLevel.READ_COMMITTED,),
    ),
    Case(
        "flush/TRUNCATE",
        lambda: rules_of(Work, the_count=Count("credits"), the_total=Sum("credits__share", default=0)),
        f"{WORKS}; {PERSON} (1, 'p'); {CREDIT} (1, 1, 1, 5, 'a'), (2, 1, 2, 4, 'b')",
        ((FLUSH,), ("TRUNCATE archive_credit",)),
        refused_at=SNAPSHOTS,
        timings=QUEUED,
    ),
    Case(
        "flush/TRUNCATE/insert",
        lambda: rules_of(Work, the_count=Count("credits"), the_total=Sum("credits__share", default=0)),
        f"{WORKS}; {PERSON} (1, 'p'); {CREDIT} (1, 1, 1, 5, 'a'), (2, 1, 2, 4, 'b')",
        ((FLUSH,), ("TRUNCATE archive_credit",), (f"{CREDIT} (11, 1, 1, 3, 'c')",)),
        timings=QUEUED,
        levels=(IsolationLevel.READ_COMMITTED,),
    ),
    waiting("flush/TRUNCATE of the target", (FLUSH,), ("TRUNCATE archive_work CASCADE",), refused_at=SNAPSHOTS),
    *full_values("backfill/insert", (INSERT_REVIEW,)),
    *full_values("repair/update", ("UPDATE archive_review SET stars = 9 WHERE id = 1",)),
    *full_values("repair/move/delete", (MOVE_REVIEW,), ("DELETE FROM archive_review WHERE id = 2",)),
    waiting("backfill/flush", (compute_afresh(Timing.QUEUED),), (FLUSH,), levels=(IsolationLevel.READ_COMMITTED,)),
    waiting(
        "backfill/insert/flush",
        (compute_afresh(Timing.QUEUED),),
        (INSERT_REVIEW,),
        (FLUSH,),
        levels=(IsolationLevel.READ_COMMITTED,),
    ),
    waiting(
        "row counted by a statement that recomputes/insert/flush",
        (f"WITH new AS ({WORK} (3, NULL, 'three') RETURNING id) {REVIEW} (12, 3, 7, 'd')",),
        (INSERT_REVIEW,),
        (FLUSH,),
        levels=(IsolationLevel.READ_COMMITTED,),
    ),
]

CASES: tuple[Case, ...] = (
    *ONE_HOP,
    *SEVERAL_HOPS,
    *CHAINS,
    *MANY_TO_MANY,
    *COPIES,
    *BOTH_WAYS,
    *BEFORE_THE_PARENT,
    *KEYS,
    *GENERIC,
    *TREES,
    *WAITING,
)
