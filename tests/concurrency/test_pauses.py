"""One session paused, or two, beside one that is not: every order of their steps, and every value right at the end.

A pause puts the work of its triggers off to one more step, so that what others do between a write and its repair is
what may go wrong: the cases are those of ``cases.py`` in which it did.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.db import connection
from psycopg import IsolationLevel

from tests.concurrency.cases import CASES
from tests.concurrency.ground import Ground, Kept, drift
from tests.concurrency.schedules import COMMIT, DEADLOCK, Explored, Session, ends_transaction
from tests.concurrency.test_interleavings import judge_outcomes, variant_id
from trigger_kit import Timing
from trigger_kit.maintenance.pause import repair_statement
from trigger_kit.plan.plan import plan_all

pytestmark = pytest.mark.django_db

PAUSE, GO_ON = "SET LOCAL trigger_kit.paused = 'on'", "SET LOCAL trigger_kit.paused = ''"
NAMES = {
    "insert/delete of the only row and extremum: extremum": (Timing.IMMEDIATE, Timing.DEFERRED),
    "insert/insert: delta": tuple(Timing),
    "leaf insert/middle re-parent: delta": tuple(Timing),
    "leaf update/middle re-parent: recompute": (Timing.IMMEDIATE,),
    "M2M add/far-side flip: extremum": (Timing.IMMEDIATE,),
    "through insert/insert of a child of the far side: delta": (Timing.IMMEDIATE,),
    "chained rules: leaf insert/middle re-parent": (Timing.IMMEDIATE,),
    "copy: re-parent/change of the column": (Timing.IMMEDIATE,),
    "copy, two hops: middle re-parent/change of the column": (Timing.IMMEDIATE,),
    "child/parent insert, deferred key: delta": tuple(Timing),
    "leaf/middle insert, deferred key: extremum": (Timing.IMMEDIATE,),
    "key change/insert under the new key: delta": (Timing.IMMEDIATE,),
    "generic: child/parent insert: delta": tuple(Timing),
    "rollup: leaf insert/move of an ancestor": (Timing.IMMEDIATE,),
    "depth: move/move of an ancestor": (Timing.IMMEDIATE,),
    "TRUNCATE/insert: delta": (Timing.IMMEDIATE,),
}
FIRST, SECOND, BOTH = (0,), (1,), (0, 1)
AT = {FIRST: IsolationLevel.READ_COMMITTED, SECOND: IsolationLevel.READ_COMMITTED, BOTH: IsolationLevel.REPEATABLE_READ}
CHOSEN = [(case, timing) for case in CASES for timing in NAMES.get(case.name, ())]


@pytest.fixture(scope="module")
def kept(request: pytest.FixtureRequest, ground: Ground) -> Iterator[Kept]:
    """Install the rules of a case."""
    case, timing = request.param
    with ground.installed(case, timing) as kept:
        yield kept


def paused_session(session: Session, repair: str) -> Session:
    """Return a session that does everything in a pause, and repairs at the end as paused() does."""
    first, *rest = session
    *steps, last = (f"{PAUSE}; {first}", *rest)
    if isinstance(last, str) and ends_transaction(last):
        last = last.rstrip("; \n").removesuffix(COMMIT)
    return (*steps, last, f"{GO_ON}; {repair}")


def test_every_case_is_there() -> None:
    assert set(NAMES) <= {case.name for case in CASES}


@pytest.mark.parametrize("who", AT, ids=["the first", "the second", "both"])
@pytest.mark.parametrize("kept", CHOSEN, ids=variant_id, indirect=True, scope="module")
def test_paused_sessions(kept: Kept, who: tuple[int, ...]) -> None:
    found = [(plan, list(dict.fromkeys(edge.key for edge in plan.edges))) for plan in plan_all(kept.rules)]
    repair = repair_statement(found, connection)
    sessions = list(kept.case.sessions)
    for index in who:
        sessions[index] = paused_session(sessions[index], repair)
    problems, explored = [], Explored()
    for run in kept.ground.stage.explore(sessions, AT[who], kept.reset, explored):
        # A transaction of two statements, as the repair is one, may meet another in a circle.
        wrong = [problem for problem in judge_outcomes(kept.case, run) if DEADLOCK not in problem] + drift(kept.rules)
        problems += ["\n".join([str(run), *(f"  !! {problem}" for problem in wrong)])] if wrong else []
    assert explored.complete
    if problems:
        pytest.fail(f"{len(problems)} of {explored.complete} schedules are wrong:\n{problems[0]}", pytrace=False)
