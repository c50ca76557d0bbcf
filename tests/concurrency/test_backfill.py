"""A batch of a backfill beside every kind of writer, in every order of the steps, over rows that are not filled yet.

A batch locks its rows, then computes and writes; at the end of a fill, functions that compute afresh give way to those
that add differences.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

import psycopg
import pytest
from django.db import connection
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Count, F, Max, Sum
from psycopg import IsolationLevel

from tests.archive.models import Publisher, Tag, Work
from tests.concurrency.cases import (
    ADD_A_LEAF,
    AGGREGATE,
    INSERT_REVIEW,
    MOVE_REVIEW,
    MOVE_THE_WORK,
    NOW,
    PENDING,
    RENAME_THE_WORK,
    REVIEW,
    REVIEWED,
    SHELF,
    TAGGED,
    TAGS,
    TREE,
    WORK,
    Case,
    depth,
    rollup,
    rules_of,
    title_of_work,
)
from tests.concurrency.choice import marked
from tests.concurrency.ground import Ground, Kept, drift
from tests.concurrency.schedules import COMMITTED, DEADLOCK, SERIALIZATION, Explored, Run, Session, Step
from tests.concurrency.test_interleavings import judge_outcomes, report
from trigger_kit import Timing
from trigger_kit.database.catalog import Placement
from trigger_kit.database.changes import Change
from trigger_kit.database.filling import Filling, lock_keys, write_locked
from trigger_kit.database.script import converge_script
from trigger_kit.database.wanted import Wanted
from trigger_kit.migration.batched import recomputing
from trigger_kit.plan.plan import Plan, plan_all

pytestmark = pytest.mark.django_db

DELETE_REVIEW = "DELETE FROM archive_review WHERE id = 1"
STARS = "UPDATE archive_review SET stars = 1 WHERE id = 1"
INSERT_WORK = f"{WORK} (3, NULL, 'three'); {REVIEW} (12, 3, 4, 'd')"
DELETE_WORK = "DELETE FROM archive_review WHERE work_id = 1; DELETE FROM archive_work WHERE id = 1"


@dataclass
class Borrowed:
    """A psycopg connection where one of Django's is asked for."""

    connection: psycopg.Connection

    def cursor(self) -> psycopg.Cursor[Any]:
        return self.connection.cursor()


def batch(rules: Callable[[], Any], timing: Timing) -> Session:
    """Return the steps of a batch that fills all rows there are when it begins."""
    found: list[tuple[Any, ...]] = []

    def plan() -> Plan:
        (only,) = plan_all(Case("", rules, "", ()).rules_at(timing))
        return only

    def lock(connection: psycopg.Connection) -> None:
        filling, borrowed = Filling.of(plan()), cast("BaseDatabaseWrapper", Borrowed(connection))
        found[:] = connection.execute(f"SELECT {filling.of_row('t')} FROM {filling.target} AS t".encode()).fetchall()
        lock_keys(borrowed, filling, Placement(borrowed, filling.target), found)

    def compute(connection: psycopg.Connection) -> None:
        filling, borrowed = Filling.of(plan()), cast("BaseDatabaseWrapper", Borrowed(connection))
        write_locked(borrowed, filling, Placement(borrowed, filling.target), found)

    return lock, compute


def unfilled(rules: Callable[[], Any], seed: str) -> str:
    """Return a seed whose targets have nothing but the fields' defaults."""
    model, declared = rules()[0]
    fields = [model._meta.get_field(rule.field) for rule in declared]
    settings = ", ".join(f"{field.column} = {'NULL' if field.null else repr_default(field)}" for field in fields)
    return (
        f"{seed}; SET CONSTRAINTS ALL IMMEDIATE; SET LOCAL session_replication_role = replica; "
        f"UPDATE {model._meta.db_table} SET {settings}; SET LOCAL session_replication_role = origin"
    )


def repr_default(field: Any) -> str:
    return str(field.get_default()) if field.get_default() != "" else "''"


def beside(
    name: str, rules: Callable[[], Any], seed: str, *others: Step, timings: tuple[Timing, ...] = NOW, **options: Any
) -> Iterator[Case]:
    """Yield the cases of a batch beside one writer each, at each timing."""
    for number, other in enumerate(others, 1):
        for timing in timings:
            case = Case(
                f"{name} {number}",
                rules,
                unfilled(rules, seed),
                (batch(rules, timing), (other,)),
                timings=(timing,),
                **options,
            )
            if case.possible_timings:
                yield case


def tagged() -> Any:
    return rules_of(Tag, the_count=Count("works"), the_total=Sum("works__pages", default=0))


def of_publishers() -> Any:
    return rules_of(Publisher, the_count=Count("works__reviews"), kept_number=Max("works__reviews__stars"))


def of_country() -> Any:
    return rules_of(Work, kept_text=F("publisher__country__name"))


TAGGED_WORKS = f"{TAGS}; {TAGGED} (1, 1), (2, 1)"
OF_WORKS = (INSERT_REVIEW, STARS, DELETE_REVIEW, MOVE_REVIEW, INSERT_WORK, DELETE_WORK)
CASES = [
    *beside("delta", REVIEWED["delta"], PENDING, *OF_WORKS, timings=AGGREGATE),
    *beside("extremum", REVIEWED["extremum"], PENDING, *OF_WORKS, timings=(Timing.IMMEDIATE, Timing.DEFERRED)),
    *beside("recompute", REVIEWED["recompute"], PENDING, INSERT_REVIEW, DELETE_REVIEW, MOVE_REVIEW),
    *beside("average", REVIEWED["average"], PENDING, INSERT_REVIEW, DELETE_REVIEW, MOVE_REVIEW),
    *beside("copy", title_of_work, PENDING, RENAME_THE_WORK, MOVE_REVIEW, INSERT_REVIEW),
    *beside("copy over two", of_country, SHELF, "UPDATE archive_country SET name = 'new' WHERE code = 'a'", MOVE_THE_WORK,
            "UPDATE archive_publisher SET country_id = 'b' WHERE number = 1"),
    *beside("several hops", of_publishers, SHELF, f"{REVIEW} (11, 1, 7, 'c')", MOVE_THE_WORK, DELETE_REVIEW),
    *beside("many-to-many", tagged, TAGGED_WORKS, f"{TAGGED} (1, 2)", "DELETE FROM archive_work_tags WHERE work_id = 2",
            "UPDATE archive_work SET pages = 9 WHERE id = 1"),
]  # fmt: skip
TREES = [
    *beside("rollup", rollup, TREE, ADD_A_LEAF, "UPDATE archive_node SET own = 64 WHERE id = 4", "UPDATE archive_node SET parent_id = 3 WHERE id = 4",
            deadlock="the batch goes up the tree as the change does", levels=(IsolationLevel.READ_COMMITTED,)),
    *beside("depth", depth, TREE, ADD_A_LEAF, "UPDATE archive_node SET parent_id = 3 WHERE id = 4",
            deadlock="the batch goes down the tree as the change does", levels=(IsolationLevel.READ_COMMITTED,)),
]  # fmt: skip
VARIANTS = [((case, case.timings[0]), level) for case in (*CASES, *TREES) for level in case.levels]


@pytest.fixture(scope="module")
def kept(request: pytest.FixtureRequest, ground: Ground) -> Iterator[Kept]:
    """Install the rules of a case; what has come with them goes afterwards."""
    case, timing = request.param
    with ground.installed(case, timing) as kept:
        yield kept


def variant_id(value: Any) -> str:
    return value.name.lower() if isinstance(value, IsolationLevel) else f"{value[0].name} {value[1].value}"


def complain(kept: Kept, run: Run) -> list[str]:
    """Return what is wrong once everybody has committed; whoever was refused tries again."""
    problems, text = judge_outcomes(kept.case, run), str(run)
    for name, session, outcome in zip(run.sessions, kept.case.sessions, run.outcomes, strict=True):
        if outcome in {SERIALIZATION, DEADLOCK}:
            again = kept.ground.stage.run_alone(session, run.level)
            text += f"\n{name} again, {again}"
            problems += judge_outcomes(kept.case, again)
    problems += drift(kept.rules)
    return [f"{text}\n" + "\n".join(f"  !! {problem}" for problem in problems)] if problems else []


@pytest.mark.every_combination  # choice.py chooses.
@pytest.mark.parametrize(("kept", "level"), marked(VARIANTS), ids=variant_id, indirect=["kept"], scope="module")
def test_a_batch_beside_a_writer(kept: Kept, level: IsolationLevel) -> None:
    explored, complaints, committed = Explored(), [], 0
    for run in kept.explore(level, explored):
        complaints += complain(kept, run)
        committed += run.outcomes[0] == COMMITTED
    if complaints:
        pytest.fail(report(kept.case, explored, complaints), pytrace=False)
    assert committed


# The end of a fill --------------------------------------------------------------------------------------------------


def swapped(before: Plan, after: Plan) -> str:
    """Return the statements that put the functions of one plan in the place of another's, under lock."""
    statements: list[str] = []
    converge_script(connection, [Change(Wanted(before), Wanted(after))], statements.append)
    return "\n".join(statements)


ENDS = [
    (Case(f"end of {name}", REVIEWED[name], "", ((), ()), timings=(timing,)), timing)
    for name, timing in (
        ("delta", Timing.IMMEDIATE),
        ("delta", Timing.DEFERRED),
        ("extremum", Timing.IMMEDIATE),
        ("average", Timing.IMMEDIATE),
    )
]


@pytest.mark.parametrize("other", [(INSERT_REVIEW,), (DELETE_REVIEW,), (MOVE_REVIEW,), (INSERT_REVIEW, MOVE_REVIEW)])
@pytest.mark.parametrize("kept", ENDS, ids=variant_id, indirect=True, scope="module")
def test_the_end_of_a_fill_beside_a_writer(kept: Kept, other: Session) -> None:
    rules, timing = kept.case.rules, kept.case.timings[0]
    (plan,) = plan_all(kept.rules)
    until_filled = recomputing(plan, [rule.field for rule in kept.rules[0][1]])
    seed = unfilled(rules, PENDING) + ";\n" + swapped(plan, until_filled)
    sessions = (*batch(rules, timing), "COMMIT", swapped(until_filled, plan)), other
    ending = replace(kept, case=replace(kept.case, seed=seed, sessions=sessions))
    explored, complaints = Explored(), []
    for run in ending.explore(IsolationLevel.READ_COMMITTED, explored):
        complaints += complain(ending, run)
    if complaints:
        pytest.fail(report(ending.case, explored, complaints), pytrace=False)
    assert explored.complete > 3
