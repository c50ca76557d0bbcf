"""verify and repair beside writers: in every order of their steps, and with many writers at once."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from django.db import connection
from django.db.models import Count, F, Max, Model, Sum

from dev.postgres import Server
from tests.archive.keeping import Rules
from tests.archive.models import Country, Node, Publisher, Work
from tests.concurrency.cases import (
    FLUSH,
    INSERT_REVIEW,
    MOVE_REVIEW,
    PENDING,
    WORK,
    Case,
    counted_and_summed,
    of_all_timings,
    rules_of,
)
from tests.concurrency.ground import Ground, Kept, drift
from tests.concurrency.schedules import COMMITTED, DEADLOCK, Explored, Step, is_serial
from trigger_kit import Denormalize, Timing, repair, verify
from trigger_kit.database.catalog import Placement
from trigger_kit.database.filling import Filling, lock_keys
from trigger_kit.maintenance.comparison import passes
from trigger_kit.maintenance.repair import write_wrong
from trigger_kit.plan.plan import plan_all
from trigger_kit.resolve.rule import rule_uri

READ_COMMITTED = psycopg.IsolationLevel.READ_COMMITTED
COUNTRIES = "INSERT INTO archive_country (code, name) VALUES ('a', 'a'), ('b', 'b')"
PUBLISHER = "00000000-0000-0000-0000-00000000000"
PUBLISHERS = (
    f"{COUNTRIES}; INSERT INTO archive_publisher (id, number, country_id, name) "
    f"VALUES ('{PUBLISHER}1', 1, 'a', 'old'), ('{PUBLISHER}2', 2, 'b', 'two'); "
    f"{WORK} (1, 1, 'one'), (2, 1, 'two')"
)
NODES = "INSERT INTO archive_node (id, parent_id, name, own) VALUES (1, NULL, '', 1), (2, 1, '', 2), (3, 2, '', 3)"


def spoilt(*updates: str) -> str:
    """Return the end of a seed: updates that no trigger sees, in a transaction of their own."""
    return "; ".join(["COMMIT; BEGIN", "SET LOCAL session_replication_role = replica", *updates])


DRIFT = spoilt("UPDATE archive_work SET the_count = the_count + 5, the_total = the_total + 7 WHERE id = 1")


def tree() -> Rules:
    return rules_of(Node, the_total=F("own") + Sum("children__the_total", default=0))


def steps_of(rules: Rules, timing: Timing, keys: dict[type[Model], list[Any]]) -> list[Step]:
    """Return the steps of a repair of some rows: lock, then compare and write, model after model."""
    timed = [
        (m, [Denormalize(r.field, r.expression, timing=r.timing if timing is None else timing) for r in rs])
        for m, rs in rules
    ]
    plans = {plan.model: plan for plan in plan_all(timed)}
    steps: list[Step] = []
    for model, declared in timed:
        for one in passes(model, [(rule_uri(model, rule.field), rule) for rule in declared]):
            steps += steps_of_pass(one, Filling.of(plans[model], [r.field for _, r in one.rules]), keys[model])
    return steps


def steps_of_pass(one: Any, filling: Filling, keys: list[Any]) -> tuple[Step, Step]:
    rows = [(key,) for key in keys]

    def lock(session: psycopg.Connection) -> None:
        lock_keys(DJANGO[session], filling, Placement(DJANGO[session], filling.target), rows)

    def write(session: psycopg.Connection) -> None:
        write_wrong(DJANGO[session], one, filling, rows)

    return lock, write


# The sessions of a stage that are Django's.
DJANGO: dict[psycopg.Connection, Any] = {}


def repairing(
    name: str,
    rules: Callable[[], Rules],
    seed: str,
    keys: dict[type[Model], list[Any]],
    *others: tuple[Step, ...],
    timings: Sequence[Timing] = (Timing.IMMEDIATE,),
    **options: Any,
) -> list[tuple[Case, Timing]]:
    """Return a case per timing: a repair beside others, from values that have drifted."""
    return [
        (
            Case(name, rules, seed, (tuple(steps_of(rules(), timing, keys)), *others), timings=(timing,), **options),
            timing,
        )
        for timing in timings
    ]


EVERY = tuple(Timing)
WORK_1 = {Work: [1]}
SPOILT = f"{PENDING}; {DRIFT}"
CASES = [
    *repairing("insert", counted_and_summed, SPOILT, WORK_1, (INSERT_REVIEW,), timings=EVERY),
    *repairing(
        "update",
        counted_and_summed,
        SPOILT,
        WORK_1,
        ("UPDATE archive_review SET stars = 9 WHERE id = 1",),
        timings=EVERY,
    ),
    *repairing("move", counted_and_summed, SPOILT, {Work: [1, 2]}, (MOVE_REVIEW,), timings=EVERY),
    *repairing(
        "move/delete",
        counted_and_summed,
        SPOILT,
        {Work: [1, 2]},
        (MOVE_REVIEW,),
        ("DELETE FROM archive_review WHERE id = 2",),
        timings=EVERY,
    ),
    *repairing(
        "insert twice",
        counted_and_summed,
        SPOILT,
        WORK_1,
        (INSERT_REVIEW, INSERT_REVIEW.replace("11", "12")),
        timings=EVERY,
    ),
    *repairing(
        "a row that goes",
        counted_and_summed,
        SPOILT,
        WORK_1,
        ("DELETE FROM archive_review WHERE work_id = 1", "DELETE FROM archive_work WHERE id = 1"),
        timings=EVERY,
    ),
    *repairing("flush", counted_and_summed, SPOILT, WORK_1, (FLUSH,), timings=(Timing.QUEUED,)),
    *repairing(
        "insert/flush", counted_and_summed, SPOILT, WORK_1, (INSERT_REVIEW,), (FLUSH,), timings=(Timing.QUEUED,)
    ),
    *repairing(
        "extremum/delete of the largest",
        lambda: rules_of(Work, kept_number=Max("reviews__stars")),
        f"{PENDING}; {spoilt('UPDATE archive_work SET kept_number = 99 WHERE id = 1')}",
        WORK_1,
        ("DELETE FROM archive_review WHERE id = 1",),
        timings=(Timing.IMMEDIATE, Timing.DEFERRED),
    ),
    *repairing(
        "extremum/insert of a smaller one",
        lambda: rules_of(Work, kept_number=Max("reviews__stars")),
        f"{PENDING}; {spoilt('UPDATE archive_work SET kept_number = 99 WHERE id = 1')}",
        WORK_1,
        (INSERT_REVIEW,),
        timings=(Timing.IMMEDIATE, Timing.DEFERRED),
    ),
    *repairing(
        "copy/rename",
        lambda: rules_of(Work, kept_text=F("publisher__name")),
        f"{PUBLISHERS}; {spoilt('UPDATE archive_work SET kept_text = NULL')}",
        {Work: [1, 2]},
        ("UPDATE archive_publisher SET name = 'new' WHERE number = 1",),
    ),
    *repairing(
        "copy/move",
        lambda: rules_of(Work, kept_text=F("publisher__name")),
        f"{PUBLISHERS}; {spoilt('UPDATE archive_work SET kept_text = NULL')}",
        {Work: [1, 2]},
        ("UPDATE archive_work SET publisher_id = 2 WHERE id = 1",),
        ("UPDATE archive_publisher SET name = 'new' WHERE number = 2",),
    ),
    *repairing(
        "path/move of its middle",
        lambda: rules_of(Country, the_count=Count("publishers__works")),
        f"{PUBLISHERS}; {spoilt('UPDATE archive_country SET the_count = 7')}",
        {Country: ["a", "b"]},
        ("UPDATE archive_publisher SET country_id = 'b' WHERE number = 1",),
        (f"{WORK} (11, 1, 'w')",),
        timings=(Timing.IMMEDIATE, Timing.DEFERRED),
    ),
    *repairing(
        "tree/insert",
        tree,
        f"{NODES}; {spoilt('UPDATE archive_node SET the_total = the_total + 3 WHERE id < 3')}",
        {Node: [1, 2, 3]},
        ("INSERT INTO archive_node (id, parent_id, name, own) VALUES (11, 3, '', 7)",),
        deadlock="the writer goes up from the leaves",
    ),
    *repairing(
        "chain/insert",
        lambda: [
            *rules_of(Work, the_count=Count("reviews")),
            *rules_of(Publisher, the_total=Sum("works__the_count", default=0)),
        ],
        f"{PUBLISHERS}; INSERT INTO archive_review (id, work_id, stars, text) VALUES (1, 1, 5, 'a'); "
        + spoilt("UPDATE archive_work SET the_count = 9", "UPDATE archive_publisher SET the_total = 99"),
        {Work: [1, 2], Publisher: [f"{PUBLISHER}1", f"{PUBLISHER}2"]},
        ("INSERT INTO archive_review (id, work_id, stars, text) VALUES (11, 1, 7, 'c')",),
    ),
    *repairing(
        "chain/move of its middle",
        lambda: [
            *rules_of(Work, the_count=Count("reviews")),
            *rules_of(Publisher, the_total=Sum("works__the_count", default=0)),
        ],
        f"{PUBLISHERS}; INSERT INTO archive_review (id, work_id, stars, text) VALUES (1, 1, 5, 'a'); "
        + spoilt("UPDATE archive_work SET the_count = 9", "UPDATE archive_publisher SET the_total = 99"),
        {Work: [1, 2], Publisher: [f"{PUBLISHER}1", f"{PUBLISHER}2"]},
        ("UPDATE archive_work SET publisher_id = 2 WHERE id = 1",),
    ),
]
# Each at its first timing, and the first one at all.
BY_DEFAULT = CASES[:3] + list({case.name: (case, timing) for case, timing in reversed(CASES[3:])}.values())


@pytest.fixture(scope="module")
def django_ground(ground: Ground) -> Iterator[Ground]:
    """The stage's first session is Django's, as a repair needs it."""
    wrapper: Any = connection.copy("default")
    wrapper.inc_thread_sharing()
    player = ground.stage.players[0]

    def connect() -> psycopg.Connection:
        DJANGO.clear()
        wrapper.connect()
        session: psycopg.Connection = wrapper.connection
        session.autocommit = False
        session.execute("SET deadlock_timeout = '10ms'")
        session.commit()
        DJANGO[session] = wrapper
        return session

    player.connect = connect
    yield ground
    player.abandon()
    DJANGO.clear()
    player.connect = ground.stage.connect
    player.renew()


@pytest.fixture(scope="module")
def kept(request: pytest.FixtureRequest, django_ground: Ground) -> Iterator[Kept]:
    case, timing = request.param
    with django_ground.installed(case, timing) as kept:
        yield kept


@pytest.mark.django_db
@pytest.mark.parametrize(
    "kept",
    [pytest.param(one, marks=[] if one in BY_DEFAULT else pytest.mark.thorough) for one in CASES],
    ids=lambda value: f"{value[0].name}, {value[1].value}",
    indirect=True,
    scope="module",
)
def test_a_repair_is_exact_in_every_order(kept: Kept) -> None:
    kept.reset()
    assert drift(kept.rules), "a case starts with drift"
    explored = Explored()
    for run in kept.explore(READ_COMMITTED, explored):
        allowed = {COMMITTED} | ({DEADLOCK} if kept.case.deadlock and not is_serial(run.schedule) else set())
        assert set(run.outcomes) <= allowed, str(run)
        if run.outcomes[0] == COMMITTED:
            assert not drift(kept.rules), f"{run}\n{drift(kept.rules)}"
    assert explored.complete > 2


# Many writers at once -----------------------------------------------------------------------------------------------


@contextmanager
def declared(monkeypatch: pytest.MonkeyPatch, rules: Rules) -> Iterator[None]:
    with monkeypatch.context() as patch:
        for model, model_rules in rules:
            patch.setattr(model._meta, "denormalizations", model_rules, raising=False)
        yield


WRITES = [
    "INSERT INTO archive_review (work_id, stars, text) SELECT 1 + (random() * 39)::int, (random() * 9)::int, md5(random()::text) FROM generate_series(1, {n})",
    "UPDATE archive_review SET stars = (random() * 9)::int WHERE id % 7 = {n}",
    "UPDATE archive_review SET work_id = 1 + (work_id + 5) % 40 WHERE id % 11 = {n}",
    "DELETE FROM archive_review WHERE id % 13 = {n}",
    "UPDATE archive_work SET title = 'x' || {n} WHERE id = {n}",
]


@contextmanager
def writers(url: str, number: int) -> Iterator[None]:
    """Let sessions write until the block ends, but once at least; what they fail at, but for deadlocks, fails here."""
    stop = threading.Event()

    def write(seed: int) -> None:
        dice, count = random.Random(seed), 0
        with psycopg.connect(url) as session:
            while not stop.is_set() or not count:
                try:
                    for _ in range(dice.randint(1, 3)):
                        session.execute(dice.choice(WRITES).format(n=dice.randint(0, 6)).encode())
                    session.commit()
                    count += 1
                except psycopg.errors.DeadlockDetected:
                    session.rollback()

    with ThreadPoolExecutor(number) as pool:
        work = [pool.submit(write, seed) for seed in range(number)]
        try:
            yield
        finally:
            stop.set()
        for one in work:
            one.result()


LIVE = Case(
    "live",
    lambda: [
        *of_all_timings(),
        (Publisher, [Denormalize("the_total", Sum("works__the_count", default=0))]),
    ],
    f"{COUNTRIES}; INSERT INTO archive_publisher (id, number, country_id, name) VALUES ('{PUBLISHER}1', 1, 'a', 'old'); "
    f"INSERT INTO archive_work (id, publisher_id, title) SELECT n, 1, '' FROM generate_series(1, 40) AS n",
    (),
    keeps_timings=True,
)


@pytest.fixture
def live(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kept]:
    with ground.installed(LIVE) as kept, declared(monkeypatch, kept.rules):
        kept.reset()
        yield kept
        connection.close()


@pytest.fixture
def url(server: Server) -> str:
    return server.database(connection.settings_dict["NAME"]).url


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, marks=pytest.mark.thorough),
        {"batch_size": 3},
        pytest.param({"sample": 10}, marks=pytest.mark.thorough),
    ],
    ids=str,
)
def test_no_false_alarm_while_others_write(live: Kept, url: str, options: dict[str, Any]) -> None:
    with writers(url, 3):
        for _ in range(25):
            found = verify(["archive"], **options)
            assert found.in_sync, found.drifts[:5]
    assert verify(["archive"]).in_sync


@pytest.mark.parametrize("batch_size", [3, pytest.param(500, marks=pytest.mark.thorough)])
def test_a_repair_while_others_write_ends_without_drift(live: Kept, url: str, batch_size: int) -> None:
    for _ in range(2):
        live.ground.admin.execute(
            "BEGIN; SET LOCAL session_replication_role = replica; UPDATE archive_work SET the_count = the_count + 5, "
            "the_total = the_total - 7, kept_number = kept_number + 1, kept_text = '?' WHERE id % 3 = 0; "
            "UPDATE archive_publisher SET the_total = 1; COMMIT"
        )
        with writers(url, 3):
            done = repair(["archive"], batch_size=batch_size)
            assert done.is_complete, done.left
            assert 0 < done.changed["archive.Work:the_count"] <= 13
            for _ in range(3):
                found = verify(["archive"])
                assert found.in_sync, found.drifts[:5]
    assert repair(["archive"]).changed == {}


def test_a_row_that_somebody_holds_is_waited_for_alone(live: Kept, url: str) -> None:
    """Whoever needs the other rows of the batch does not wait for it too."""
    admin = live.ground.admin
    admin.execute("BEGIN; SET LOCAL session_replication_role = replica; UPDATE archive_work SET the_count = 5; COMMIT")

    def work() -> Any:
        try:
            return repair(["archive.Work:the_count"])
        finally:
            connection.close()

    with psycopg.connect(url) as holder, ThreadPoolExecutor(1) as pool:
        holder.execute("SELECT FROM archive_work WHERE id = 20 FOR UPDATE")
        done = pool.submit(work)
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE %s = ANY (pg_blocking_pids(pid))"
        fixed = "SELECT count(*) FROM (SELECT FROM archive_work WHERE the_count = 0 FOR UPDATE SKIP LOCKED) AS free"
        deadline = time.monotonic() + 20
        while admin.execute(fixed).fetchone() != (19,) or admin.execute(
            waiting, [holder.info.backend_pid]
        ).fetchone() != (1,):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        holder.commit()
        assert done.result(20).changed["archive.Work:the_count"] == 40
    assert verify(["archive"]).in_sync
