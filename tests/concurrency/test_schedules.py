"""The harness itself: it must meet the races, deadlocks and dead ends that it is there to find."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
import pytest
from django.db import connection
from psycopg import IsolationLevel
from pytest_django import DjangoDbBlocker

from dev.postgres import Server
from tests.concurrency import schedules as harness
from tests.concurrency.schedules import (
    COMMIT,
    COMMITTED,
    DEADLOCK,
    LEVELS,
    SERIALIZATION,
    SNAPSHOT,
    Explored,
    Run,
    Schedule,
    Session,
    Stage,
    StuckError,
    all_wait_for,
    complete,
    is_serial,
    schedules,
)

READ_COMMITTED, REPEATABLE_READ, SERIALIZABLE = LEVELS
Explore = Callable[..., list[Run]]

TABLES = """
CREATE TABLE race_parent (id integer PRIMARY KEY, total integer NOT NULL DEFAULT 0);
CREATE TABLE race_child (id integer PRIMARY KEY, parent_id integer NOT NULL, amount integer NOT NULL);
CREATE FUNCTION race_naive() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE race_parent
    SET total = (SELECT sum(child.amount) FROM race_child AS child WHERE child.parent_id = new.parent_id)
    WHERE id = new.parent_id;
    RETURN NULL;
END $$;
CREATE TRIGGER race_naive AFTER INSERT ON race_child FOR EACH ROW EXECUTE FUNCTION race_naive();
"""
RESET = "TRUNCATE race_parent, race_child; INSERT INTO race_parent VALUES (1), (2)"
UPDATE = "UPDATE race_parent SET total = total + 1 WHERE id = {}"


# Orders -------------------------------------------------------------------------------------------------------------


def orders(level: IsolationLevel, *sessions: Session) -> list[Schedule]:
    return list(schedules([complete(session, level) for session in sessions]))


def test_two_statements_and_two_commits_have_six_orders() -> None:
    found = orders(READ_COMMITTED, ("a",), ("b",))
    assert found == [(0, 0, 1, 1), (0, 1, 0, 1), (0, 1, 1, 0), (1, 0, 0, 1), (1, 0, 1, 0), (1, 1, 0, 0)]
    assert [order for order in found if is_serial(order)] == [(0, 0, 1, 1), (1, 1, 0, 0)]


@pytest.mark.parametrize("level", [REPEATABLE_READ, SERIALIZABLE])
def test_a_snapshot_may_be_taken_before_the_other_commits(level: IsolationLevel) -> None:
    found = orders(level, ("a",), ("b",))
    assert len(found) == 8
    assert (0, 0, 1, 0, 1, 1) in found  # A is about to commit when B takes its snapshot
    assert (0, 1, 0, 0, 1, 1) not in found  # the same, written otherwise


def test_more_steps_and_sessions() -> None:
    assert len(orders(READ_COMMITTED, ("a", "b"), ("c",))) == 10
    assert len(orders(READ_COMMITTED, ("a",), ("b",), ("c; COMMIT",))) == 30


def test_a_session_may_commit_by_itself() -> None:
    assert complete(("a",), READ_COMMITTED) == ("a", COMMIT)
    assert complete(("a; commit;\n",), READ_COMMITTED) == ("a; commit;\n",)
    assert complete(("a", "ROLLBACK"), READ_COMMITTED) == ("a", "ROLLBACK")
    assert complete((print,), SERIALIZABLE) == (SNAPSHOT, print, COMMIT)


@pytest.mark.parametrize(
    ("blockers", "held"),
    [
        ({2: {1}}, True),
        ({2: {1}, 3: {2}}, True),
        ({2: set()}, False),
        ({2: {3}, 3: {2}}, False),
        ({2: {3}, 3: {2, 1}}, False),
        ({2: {99}}, False),
        ({2: {1, 99}}, False),
    ],
    ids=["idle", "behind", "runs", "circle", "circle that also waits", "stranger", "stranger too"],
)
def test_a_step_is_held_where_all_that_it_waits_for_is_idle(blockers: dict[int, set[int]], held: bool) -> None:
    assert all_wait_for({1}, blockers) is held


def test_what_comes_after_a_dead_end_is_not_tried() -> None:
    explored = Explored()
    explored.learn(Run((0, 1, 1, 0), READ_COMMITTED, ["A", "B"], played=(0, 1, 1)))
    assert not explored.is_new((0, 1, 1, 0))
    assert explored.is_new((0, 1, 0, 1))
    assert explored.unreachable == 2


def test_what_differs_in_dropped_steps_only_is_not_run_twice() -> None:
    explored = Explored()
    explored.learn(
        Run((0, 1, 0, 1), READ_COMMITTED, ["A", "B"], played=(0, 1, 0), failures={(0, 1): {1}}, is_complete=True)
    )
    assert not explored.is_new((0, 1, 1, 0))
    assert explored.is_new((0, 0, 1, 1))
    assert (explored.complete, explored.repeated) == (1, 1)


# Runs ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def url(server: Server, django_db_setup: None) -> str:
    return server.database(connection.settings_dict["NAME"]).url


@pytest.fixture(scope="module")
def stage(url: str, django_db_blocker: DjangoDbBlocker) -> Iterator[Stage]:
    """Three sessions, two tables, and a trigger that forgets that others write too."""
    with psycopg.connect(url, autocommit=True) as admin, Stage(url) as stage:
        admin.execute(TABLES)
        yield stage
        admin.execute("DROP TABLE race_parent, race_child; DROP FUNCTION race_naive")


@pytest.fixture
def reset(stage: Stage) -> Callable[[], None]:
    return lambda: stage.monitor.execute(RESET) and None


@pytest.fixture
def explore(stage: Stage, reset: Callable[[], None], db: None) -> Explore:
    """Run all schedules of some sessions."""

    def explore(
        *sessions: Session, level: IsolationLevel = READ_COMMITTED, explored: Explored | None = None
    ) -> list[Run]:
        return list(stage.explore(sessions, level, reset, explored or Explored()))

    return explore


def insert(key: int, amount: int) -> Session:
    return (f"INSERT INTO race_child VALUES ({key}, 1, {amount})",)


@pytest.mark.parametrize("level", LEVELS)
def test_a_lost_update_is_met(stage: Stage, reset: Callable[[], None], db: None, level: IsolationLevel) -> None:
    """The second session waits for the parent, and then writes what it has summed before."""
    lost, query = [], "SELECT total FROM race_parent WHERE id = 1"
    for run in stage.explore((insert(1, 5), insert(2, 7)), level, reset, Explored()):
        (total,) = stage.monitor.execute(query).fetchone()
        if run.outcomes == [COMMITTED, COMMITTED] and total != 12:
            lost.append(run)
    if level is READ_COMMITTED:
        assert [run.schedule for run in lost] == [(0, 1, 0, 1), (1, 0, 1, 0)]
    else:
        assert not lost


def test_a_held_step_goes_on_when_the_other_commits(stage: Stage, reset: Callable[[], None], db: None) -> None:
    reset()
    run = stage.run(
        [("UPDATE race_parent SET total = 3", COMMIT), (UPDATE.format(1), COMMIT)], (0, 1, 0, 1), READ_COMMITTED
    )
    assert str(run).splitlines() == [
        "A B A B at READ COMMITTED:",
        "   1. A  UPDATE race_parent SET total = 3   -- done",
        "   2. B  UPDATE race_parent SET total = total + 1 WHERE id = 1   -- waits for A",
        "   3. A  COMMIT   -- done",
        "      B  goes on: UPDATE race_parent SET total = total + 1 WHERE id = 1   -- done",
        "   4. B  COMMIT   -- done",
        "  => A committed, B committed",
    ]
    assert stage.monitor.execute("SELECT total FROM race_parent WHERE id = 1").fetchone() == (4,)


def test_schedules_that_cannot_happen_are_counted(explore: Explore) -> None:
    explored = Explored()
    runs = explore((UPDATE.format(1),), (UPDATE.format(1),), explored=explored)
    assert [run.schedule for run in runs] == [(0, 0, 1, 1), (0, 1, 0, 1), (1, 0, 1, 0), (1, 1, 0, 0)]
    assert (explored.complete, explored.unreachable, explored.repeated) == (4, 2, 0)


def test_a_deadlock_is_reported(explore: Explore) -> None:
    explored = Explored()
    runs = explore((UPDATE.format(1), UPDATE.format(2)), (UPDATE.format(2), UPDATE.format(1)), explored=explored)
    dead = [run for run in runs if DEADLOCK in run.outcomes]
    assert dead
    for run in dead:
        assert sorted(run.outcomes) == [DEADLOCK, COMMITTED]
        assert f"ERROR {DEADLOCK}" in str(run)
    assert explored.complete + explored.unreachable + explored.repeated == 20
    assert explored.repeated
    assert all(run.outcomes == [COMMITTED, COMMITTED] for run in runs if is_serial(run.schedule))


def test_a_session_that_fails_drops_its_steps_and_its_locks(explore: Explore) -> None:
    explored = Explored()
    failing = (UPDATE.format(1), "SELECT 1 / 0", UPDATE.format(2))
    runs = explore(failing, (UPDATE.format(1),), explored=explored)
    assert {tuple(run.outcomes) for run in runs} == {("22012", COMMITTED)}
    assert all(run.played.count(0) == 2 for run in runs)
    assert explored.complete + explored.unreachable + explored.repeated == 15
    assert explored.repeated


@pytest.mark.parametrize("level", [REPEATABLE_READ, SERIALIZABLE])
def test_who_cannot_be_serialized_is_reported_and_may_run_again(
    stage: Stage, explore: Explore, level: IsolationLevel
) -> None:
    runs = explore((UPDATE.format(1),), (UPDATE.format(1),), level=level)
    assert {tuple(sorted(run.outcomes)) for run in runs if not is_serial(run.schedule)} == {(SERIALIZATION, COMMITTED)}
    assert {tuple(run.outcomes) for run in runs if is_serial(run.schedule)} == {(COMMITTED, COMMITTED)}
    assert stage.run_alone((UPDATE.format(1),), level).outcomes == [COMMITTED]


def test_a_step_may_be_a_function(stage: Stage, reset: Callable[[], None], db: None) -> None:
    def add_two(session: psycopg.Connection) -> None:
        session.execute("UPDATE race_parent SET total = total + %s WHERE id = %s", [2, 1])

    reset()
    run = stage.run([(add_two, COMMIT), (UPDATE.format(1), COMMIT)], (0, 1, 0, 1), READ_COMMITTED)
    assert "A  add_two   -- done" in str(run)
    assert run.outcomes == [COMMITTED, COMMITTED]
    assert stage.monitor.execute("SELECT total FROM race_parent WHERE id = 1").fetchone() == (3,)


def test_an_error_that_is_not_the_servers_is_raised(stage: Stage, db: None) -> None:
    def fail(session: psycopg.Connection) -> None:
        raise LookupError("a mistake in the test")

    with pytest.raises(LookupError, match="a mistake in the test"):
        stage.run_alone((UPDATE.format(1), fail), READ_COMMITTED)
    assert stage.run_alone((UPDATE.format(1),), READ_COMMITTED).outcomes == [COMMITTED]


def test_sessions_may_wait_behind_one_another(stage: Stage, reset: Callable[[], None], db: None) -> None:
    """C waits for B, which waits for A. (Of two that wait for the same row, either may be the first to get it.)"""
    reset()
    sessions = [(UPDATE.format(1), COMMIT), (UPDATE.format(2), UPDATE.format(1), COMMIT), (UPDATE.format(2), COMMIT)]
    run = stage.run(sessions, (0, 1, 1, 2, 0, 1, 2), READ_COMMITTED)
    assert run.is_complete
    assert run.outcomes == [COMMITTED] * 3
    assert [line.rpartition("-- ")[2] for line in run.lines if "waits" in line] == ["waits for A", "waits for B"]
    assert stage.monitor.execute("SELECT total FROM race_parent ORDER BY id").fetchall() == [(2,), (2,)]
    assert not stage.run(sessions, (0, 1, 1, 2, 0, 2, 1), READ_COMMITTED).is_complete


def test_a_step_that_a_stranger_holds_fails_with_a_report(
    stage: Stage, url: str, reset: Callable[[], None], db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    reset()
    monkeypatch.setattr(harness, "LIMIT", 0.2)
    with psycopg.connect(url) as stranger:
        stranger.execute(UPDATE.format(2).encode())
        with pytest.raises(StuckError, match=r"session B, step 1: UPDATE race_parent .* id = 2   -- .*'Lock'"):
            stage.run([(UPDATE.format(1), COMMIT), (UPDATE.format(2), COMMIT)], (0, 1, 0, 1), READ_COMMITTED)
        stranger.rollback()
    monkeypatch.undo()
    assert stage.run_alone((UPDATE.format(2),), READ_COMMITTED).outcomes == [COMMITTED]
