"""Folding what is pending: flush(), the command once and following, several at once, and after a crash; and Exact."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from io import StringIO
from typing import Any

import psycopg
import pytest
from django.core.exceptions import FieldError
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.db.models import Count, ExpressionWrapper, F, IntegerField, Max, Model, OuterRef, Q, Subquery, Sum, Value
from django.db.models.lookups import Exact as Equal
from django.db.models.lookups import GreaterThan

from dev.postgres import Server
from tests.archive.keeping import Rules, assert_rules_hold, install, keep
from tests.archive.models import Line, Novel, Person, Publisher, Remark, Review, Work
from trigger_kit import Denormalize, Exact, Timing, flush, verify
from trigger_kit.database.changes import Change
from trigger_kit.database.converge import converge
from trigger_kit.database.wanted import Wanted
from trigger_kit.exceptions import DriftError, TriggerKitError
from trigger_kit.maintenance.flush import Queue, follow, pending_rows, queues
from trigger_kit.plan.plan import plan_all
from trigger_kit.sql.appending import follower_lock
from trigger_kit.testing import assert_in_sync

Sql = Callable[..., list[tuple[Any, ...]]]
Connect = Callable[[], psycopg.Connection]
Declare = Callable[[Rules], Rules]
QUEUED = Timing.QUEUED

# As models declare them: a work counts its reviews, a person the works that it edits.
WORK = Denormalize("the_count", Count("reviews"), timing=QUEUED)
PERSON = Denormalize("the_count", Count("edited"), timing=QUEUED)
TOP = Denormalize("kept_number", Max("reviews__stars"))
LIVE: Rules = [(Work, [WORK, TOP]), (Person, [PERSON])]
# What never touches a work, for sessions of which one holds it.
FLOWING: Rules = [(Work, [WORK]), (Person, [PERSON])]
PATIENCE = 60.0


@pytest.fixture
def declare(monkeypatch: pytest.MonkeyPatch) -> Declare:
    """Let the live models declare rules, as long as a test runs."""

    def declare_rules(rules: Rules) -> Rules:
        for model, declared in rules:
            monkeypatch.setattr(model._meta, "denormalizations", declared, raising=False)
        return rules

    return declare_rules


@pytest.fixture
def live(sql: Sql, declare: Declare) -> Rules:
    """Rules that are declared and installed, inside of the test's transaction."""
    keep(LIVE)
    return declare(LIVE)


def review(work: Work | int, number: int = 1, stars: int = 1) -> None:
    key = work if isinstance(work, int) else work.pk
    Review.objects.bulk_create([Review(work_id=key, stars=stars) for _ in range(number)])


def stored(model: type[Model] = Work) -> list[int]:
    return list(model._base_manager.order_by("pk").values_list("the_count", flat=True))


def run(*arguments: str) -> str:
    out = StringIO()
    call_command("trigger_kit", *arguments, stdout=out, no_color=True)
    return out.getvalue()


# flush() ------------------------------------------------------------------------------------------------------------


def test_flush_folds_all_targets_and_says_how_much(live: Rules) -> None:
    editor = Person.objects.create()
    work = Work.objects.create(editor=editor)
    review(work, 2)
    review(work, 3)
    assert flush() == 3
    assert (stored(), stored(Person)) == ([5], [1])
    assert flush() == 0


@pytest.mark.parametrize("uri", ["archive.Work", "archive.Work:the_count"])
def test_flush_of_some_rules(live: Rules, uri: str) -> None:
    work = Work.objects.create(editor=Person.objects.create())
    review(work)
    assert flush([uri]) == 1
    assert (stored(), stored(Person)) == ([1], [0])


def test_flush_of_a_rule_that_does_not_exist(live: Rules) -> None:
    with pytest.raises(TriggerKitError, match="There is no rule archive.Works. Did you mean archive.Work:"):
        flush(["archive.Works"])


def test_flush_where_nothing_is_queued(db: None) -> None:
    assert flush() == 0


def test_flush_where_the_queue_is_not_installed(declare: Declare, db: None) -> None:
    declare(LIVE)
    with pytest.raises(
        TriggerKitError, match="The queue of archive.Work is not installed in the database 'default'. Run"
    ):
        flush(["archive.Work"])
    with pytest.raises(CommandError, match="is not installed") as raised:
        run("flush", "archive.Work")
    assert raised.value.returncode == 2


@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
def test_flush_in_batches(live: Rules, batch_size: int) -> None:
    works = Work.objects.bulk_create(Work() for _ in range(3))
    for _ in range(3):
        for work in works:
            review(work)
    batches: list[tuple[str, int]] = []
    assert flush(batch_size=batch_size, on_batch=lambda queue, rows: batches.append((queue.label, rows))) == 9
    assert stored() == [3, 3, 3]
    assert {label for label, _ in batches} == {"archive.Work"}
    assert sum(rows for _, rows in batches) == 9
    assert len(batches) == {1: 3, 100: 1}.get(batch_size, len(batches))


@pytest.mark.parametrize("batch_size", [0, -1])
def test_flush_wants_a_batch_size_of_one_or_more(live: Rules, batch_size: int) -> None:
    review(Work.objects.create())
    with pytest.raises(ValueError, match="batch_size"), transaction.atomic():
        flush(batch_size=batch_size)


def test_flush_leaves_what_has_no_target(live: Rules) -> None:
    review(77, 2)
    work = Work.objects.create()
    review(work)
    (queue,) = queues(["archive.Work"])
    assert flush(batch_size=1) == 1
    assert pending_rows(queue) == 1
    assert queue == Queue("archive.Work", "archive_work", "public", (("id",),))
    Review.objects.filter(work=77).delete()


def test_a_flush_that_is_rolled_back_loses_nothing(live: Rules) -> None:
    work = Work.objects.create()
    review(work, 2)
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        flush()
        assert stored() == [2]
        raise ZeroDivisionError
    assert stored() == [0]
    assert_rules_hold(live)
    flush()
    assert stored() == [2]


def test_flush_in_a_transaction_brings_deferred_columns_up_to_date(sql: Sql, declare: Declare) -> None:
    later = Denormalize("the_total", Sum("reviews__stars", default=0), timing=Timing.DEFERRED)
    rules = declare([(Work, [WORK, later])])
    keep(rules)
    work = Work.objects.create()
    review(work, 2, stars=3)
    flush()
    work.refresh_from_db()
    assert [work.the_count, work.the_total] == [2, 6]
    review(work, 1, stars=4)
    assert_rules_hold(rules)


def test_verify_and_assert_in_sync_count_what_is_pending(sql: Sql, live: Rules) -> None:
    work = Work.objects.create()
    review(work, 2)
    assert stored() == [0]
    assert verify(["archive.Work"]).in_sync
    assert_in_sync(Work, Person)
    sql("DELETE FROM tk_pending_archive_work")
    (drift,) = verify(["archive.Work:the_count"]).drifts
    assert (drift.key, drift.stored, drift.true) == (work.pk, 0, 2)
    with pytest.raises(DriftError, match="stored 0, true 2"):
        assert_in_sync(Work)


# The command, once --------------------------------------------------------------------------------------------------


def test_the_command_says_what_it_folded(live: Rules) -> None:
    editor = Person.objects.create()
    for _ in range(2):
        review(Work.objects.create(editor=editor))
    Work.objects.update(editor=None)
    Work.objects.update(editor=editor)
    printed = run("flush", "archive.Work", "archive.Person")
    assert sorted(printed.splitlines()) == [
        "archive.Person: 4 pending rows folded",
        "archive.Work: 2 pending rows folded",
    ]
    assert stored() == [1, 1]


def test_the_command_knows_one_and_none(live: Rules) -> None:
    review(Work.objects.create())
    assert run("flush", "archive.Work:the_count") == "archive.Work: 1 pending row folded\n"
    assert run("flush", "archive.Work:the_count") == "archive.Work: 0 pending rows folded\n"


def test_the_command_counts_thousands(sql: Sql, live: Rules) -> None:
    work = Work.objects.create()
    sql("INSERT INTO tk_pending_archive_work (id, the_count) SELECT %s, 0 FROM generate_series(1, 1234)", work.pk)
    assert run("flush", "archive.Work", "--batch-size", "100") == "archive.Work: 1,234 pending rows folded\n"


def test_the_command_where_nothing_is_queued(db: None) -> None:
    assert run("flush") == "None of these rules is QUEUED: nothing can be pending.\n"
    assert run("flush", "library.Author", "--follow") == "None of these rules is QUEUED: nothing can be pending.\n"


def test_the_command_with_an_unknown_rule(live: Rules) -> None:
    with pytest.raises(CommandError, match="There is no rule archive.Works") as raised:
        run("flush", "archive.Works")
    assert raised.value.returncode == 2


@pytest.mark.parametrize("size", ["0", "-1", "many"])
def test_the_command_wants_a_size_of_one_or_more(live: Rules, size: str) -> None:
    with pytest.raises(CommandError, match="--batch-size"):
        run("flush", "--batch-size", size)


# Exact --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def library(live: Rules) -> list[Work]:
    """Three works with 0, 1 and 2 reviews, partly pending; the last two have an editor."""
    editor = Person.objects.create(name="e")
    works = [Work.objects.create(title=f"w{n}", editor=editor if n else None, pages=n) for n in range(3)]
    review(works[2])
    flush()
    review(works[1], stars=5)
    review(works[2], stars=4)
    return works


def titles(rows: Any) -> list[str]:
    return list(rows.values_list("title", flat=True))


def test_exact_in_annotate_and_alias(library: list[Work]) -> None:
    rows = Work.objects.order_by("pk")
    assert list(rows.annotate(n=Exact("the_count")).values_list("n", "the_count")) == [(0, 0), (1, 0), (2, 1)]
    assert titles(rows.alias(n=Exact("the_count")).filter(n__gt=0)) == ["w1", "w2"]
    assert list(rows.values_list(Exact("the_count"), flat=True)) == [0, 1, 2]


def test_exact_in_filter_and_exclude(library: list[Work]) -> None:
    rows = Work.objects.order_by("pk")
    assert titles(rows.filter(GreaterThan(Exact("the_count"), 1))) == ["w2"]
    assert titles(rows.filter(pages=Exact("the_count"))) == ["w0", "w1", "w2"]
    assert titles(rows.filter(the_count__lt=Exact("the_count"))) == ["w1", "w2"]
    assert titles(rows.exclude(the_count=Exact("the_count"))) == ["w1", "w2"]
    assert titles(rows.exclude(Q(pk=0) | Q(Equal(Exact("the_count"), 2)))) == ["w0", "w1"]


def test_exact_in_order_by(library: list[Work]) -> None:
    assert titles(Work.objects.order_by(Exact("the_count").desc())) == ["w2", "w1", "w0"]
    assert titles(Work.objects.order_by(Exact("the_count"), "pk")) == ["w0", "w1", "w2"]
    assert titles(Work.objects.order_by(Exact("the_count").desc()).reverse()) == ["w0", "w1", "w2"]


def test_exact_in_arithmetic(library: list[Work]) -> None:
    rows = Work.objects.order_by("pk").annotate(n=Exact("the_count") * 10 + F("pages") - Exact("the_count"))
    assert list(rows.values_list("n", flat=True)) == [0, 10, 20]
    wrapped = ExpressionWrapper(Exact("the_count") + Value(1), output_field=IntegerField())
    assert Work.objects.filter(pk=library[2].pk).values_list(wrapped, flat=True).get() == 3


def test_exact_in_aggregates(library: list[Work]) -> None:
    assert Work.objects.aggregate(n=Sum(Exact("the_count")), top=Max(Exact("the_count"))) == {"n": 3, "top": 2}
    assert Work.objects.annotate(n=Exact("the_count")).aggregate(s=Sum("n")) == {"s": 3}
    assert Work.objects.aggregate(n=Sum(Exact("the_count"), filter=Q(pages__lt=2))) == {"n": 1}
    groups = Work.objects.values("editor__name").annotate(n=Sum(Exact("the_count"))).order_by("n")
    assert list(groups) == [{"editor__name": None, "n": 0}, {"editor__name": "e", "n": 3}]


def test_exact_in_an_aggregate_over_a_subquery(library: list[Work]) -> None:
    assert Work.objects.order_by("pk")[:2].aggregate(n=Sum(Exact("the_count"))) == {"n": 1}
    assert Work.objects.annotate(c=Count("reviews")).aggregate(n=Sum(Exact("the_count"))) == {"n": 3}
    assert Work.objects.distinct().aggregate(n=Sum(Exact("the_count"))) == {"n": 3}


def test_exact_beside_an_aggregate_is_grouped_by(library: list[Work]) -> None:
    rows = Work.objects.annotate(n=Exact("the_count"), c=Count("reviews")).order_by("pk")
    assert list(rows.values_list("n", "c")) == [(0, 0), (1, 1), (2, 2)]
    counted = Work.objects.annotate(n=Exact("the_count")).values("n").annotate(works=Count("pk")).order_by("n")
    assert list(counted.values_list("n", "works")) == [(0, 1), (1, 1), (2, 1)]


def test_exact_over_a_relation(library: list[Work]) -> None:
    rows = Work.objects.order_by("pk").annotate(n=Exact("editor__the_count"))
    assert list(rows.values_list("n", flat=True)) == [None, 2, 2]
    assert list(Review.objects.order_by("pk").values_list(Exact("work__editor__the_count"), flat=True)) == [2, 2, 2]
    backwards = Person.objects.order_by("edited__pk").values_list(Exact("edited__the_count"), flat=True)
    assert list(backwards) == [1, 2]
    both = Review.objects.annotate(n=Exact("work__the_count") + Exact("work__editor__the_count"))
    assert list(both.order_by("pk").values_list("n", flat=True)) == [4, 3, 4]


def test_exact_in_a_subquery(library: list[Work]) -> None:
    inner = Work.objects.filter(editor=OuterRef("pk")).order_by(Exact("the_count").desc())
    rows = Person.objects.annotate(best=Subquery(inner.values(n=Exact("the_count"))[:1]))
    assert list(rows.values_list("best", flat=True)) == [2]
    outer = Work.objects.annotate(n=Exact("the_count")).filter(pk__in=Work.objects.filter(pages=Exact("the_count")))
    assert outer.count() == 3
    same = Work.objects.filter(pages=OuterRef("n")).values("title")
    assert list(
        Work.objects.annotate(n=Exact("the_count"))
        .annotate(t=Subquery(same))
        .order_by("pk")
        .values_list("t", flat=True)
    ) == ["w0", "w1", "w2"]


def test_exact_in_combined_queries(library: list[Work]) -> None:
    few = Work.objects.annotate(n=Exact("the_count")).filter(n__lt=1)
    many = Work.objects.annotate(n=Exact("the_count")).filter(n__gt=1)
    assert sorted(few.union(many).values_list("title", "n")) == [("w0", 0), ("w2", 2)]
    assert titles((few | many).order_by("pk")) == ["w0", "w2"]


def test_exact_in_update(library: list[Work]) -> None:
    assert Work.objects.filter(the_count__lt=Exact("the_count")).update(pages=Exact("the_count") * 7) == 2
    assert list(Work.objects.order_by("pk").values_list("pages", flat=True)) == [0, 7, 14]


def test_exact_of_a_column_that_does_not_wait_is_the_column(library: list[Work]) -> None:
    rows = Work.objects.annotate(n=Exact("kept_number"))
    assert "tk_pending" not in str(rows.query)
    assert list(rows.order_by("pk").values_list("n", flat=True)) == [None, 5, 4]


def test_exact_of_a_column_of_a_parent(library: list[Work]) -> None:
    novel = Novel.objects.create()
    review(novel.pk, 3)
    assert Novel.objects.values_list(Exact("the_count"), flat=True).get() == 3


def test_exact_of_rows_with_composite_and_other_keys(sql: Sql, declare: Declare) -> None:
    remarks = Denormalize("the_count", Count("remarks"), timing=QUEUED)
    works = Denormalize("the_count", Count("works"), timing=QUEUED)
    keep(declare([(Line, [remarks]), (Publisher, [works])]))
    work = Work.objects.create(publisher=Publisher.objects.create(number=3))
    Line.objects.create(work=work, number=1)
    Remark.objects.create(line_work=work.pk, line_number=1)
    assert Line.objects.values_list(Exact("the_count"), flat=True).get() == 1
    assert Remark.objects.values_list(Exact("line__the_count"), flat=True).get() == 1
    assert Work.objects.values_list(Exact("publisher__the_count"), flat=True).get() == 1


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("number_of_pages", "Cannot resolve keyword 'number_of_pages'"),
        ("title", "no rule keeps archive.Work:title"),
        ("editor__name", "no rule keeps archive.Person:name"),
        ("editor", "no rule keeps archive.Work:editor"),
        ("counted", "takes the name of a column that a rule keeps"),
        ("kept_json__a", "takes the name of a column that a rule keeps"),
    ],
)
def test_exact_of_what_no_rule_keeps(live: Rules, name: str, words: str) -> None:
    with pytest.raises(FieldError, match=words):
        list(Work.objects.annotate(counted=Count("reviews")).annotate(n=Exact(name)))


# Real sessions ------------------------------------------------------------------------------------------------------


@pytest.fixture
def url(server: Server) -> str:
    return server.database(connection.settings_dict["NAME"]).url


@pytest.fixture
def connect(url: str, transactional_db: None, stack: ExitStack) -> Connect:
    """Open sessions on the test database; they are closed before the rules go."""
    return lambda: stack.enter_context(psycopg.connect(url, autocommit=True))


@pytest.fixture
def committed(transactional_db: None, declare: Declare) -> Iterator[Rules]:
    """Rules that are declared and installed for everybody."""
    plans = plan_all(FLOWING)
    with transaction.atomic():
        install(plans)
    yield declare(FLOWING)
    with transaction.atomic():
        for plan in plans:
            converge(connection, [Change(before=Wanted(plan))])


def wait_for(condition: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come"
        time.sleep(0.01)


def ask(statement: str, *params: Any) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(statement, params)
        return cursor.fetchone()[0]


def waiting() -> bool:
    """Whether a session waits for a lock."""
    return bool(ask("SELECT count(*) FROM pg_locks WHERE NOT granted"))


def holders() -> list[int]:
    """The backends that hold the lock of a follower of works that waits for a notification."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT lock.pid FROM pg_locks AS lock JOIN pg_stat_activity AS activity USING (pid) "
            "WHERE locktype = 'advisory' AND mode = 'ExclusiveLock' AND granted AND state = 'idle' "
            "AND (classid::bigint << 32) | objid::bigint = %s",
            [follower_lock("archive_work")],
        )
        return [pid for (pid,) in cursor.fetchall()]


def is_at_rest() -> bool:
    """Whether a follower of works waits, and what it has folded stands in its report: it asks what is left after that.

    A value is seen as soon as the server has committed it, which is before the follower itself hears of it.
    """
    query = "SELECT count(*) FROM pg_stat_activity WHERE pid = ANY (%s) AND query LIKE 'SELECT EXISTS%%'"
    return bool(ask(query, holders()))


@contextmanager
def locked(connect: Connect, work: Work) -> Iterator[None]:
    holder = connect()
    with holder.transaction():
        holder.execute("SELECT FROM archive_work WHERE id = %s FOR NO KEY UPDATE", [work.pk])
        yield


@pytest.mark.parametrize(
    "batch_size",
    [
        1,
        100,
    ],
)
def test_a_flush_folds_past_locked_targets_and_then_waits(connect: Connect, committed: Rules, batch_size: int) -> None:
    one, two = Work.objects.create(), Work.objects.create()
    review(one)
    review(two, 2)
    with ThreadPoolExecutor(1) as pool:
        with locked(connect, one):
            done = pool.submit(in_a_thread, lambda: flush(["archive.Work"], batch_size=batch_size))
            wait_for(waiting, "a flush that waits")
            folded = stored()
            assert not done.done()
        assert done.result() == 2
    assert (folded, stored()) == ([0, 2], [1, 2])


def in_a_thread(function: Callable[[], Any]) -> Any:
    """Run what uses Django's connection, which is another one in every thread, and close it."""
    try:
        return function()
    finally:
        connection.close()


def test_the_function_skips_locked_targets_if_told(connect: Connect, committed: Rules) -> None:
    one, two = Work.objects.create(), Work.objects.create()
    review(one)
    review(two, 2)
    with locked(connect, one):
        assert ask("SELECT tk_flush_archive_work(skip_locked => true)") == 1
        assert stored() == [0, 2]
        assert_rules_hold(committed)
    assert ask("SELECT tk_flush_archive_work(skip_locked => true)") == 1
    assert stored() == [1, 2]


@pytest.mark.parametrize("skip_locked", [True, False])
def test_several_flushers_and_writers_fold_everything_once(
    connect: Connect, committed: Rules, skip_locked: bool
) -> None:
    works = [work.pk for work in Work.objects.bulk_create(Work() for _ in range(4))]
    review(works[0], 8)
    ((columns,),) = (
        connect()
        .execute(
            "SELECT string_agg(column_name, ', ') FROM information_schema.columns "
            "WHERE table_name = 'archive_review' AND column_name NOT IN ('id', 'work_id')"
        )
        .fetchall()
    )
    stop = threading.Event()

    def fold(session: psycopg.Connection) -> int:
        taken = 0
        while not stop.is_set():
            taken += session.execute("SELECT tk_flush_archive_work(2, %s)", [skip_locked]).fetchone()[0]  # type: ignore[index]
        return taken

    def write(session: psycopg.Connection, number: int) -> None:
        for turn in range(15):
            work = works[(number + turn) % 4]
            session.execute(
                f"INSERT INTO archive_review (work_id, {columns}) "  # type: ignore[arg-type]
                f"SELECT {work}, {columns} FROM archive_review ORDER BY id LIMIT 2"
            )
            session.execute(
                f"DELETE FROM archive_review WHERE id IN (SELECT id FROM archive_review "  # type: ignore[arg-type]
                f"WHERE work_id = {work} AND id > 8 ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED)"
            )

    with ThreadPoolExecutor(4) as pool:
        flushers = [pool.submit(fold, connect()) for _ in range(2)]
        writers = [pool.submit(write, connect(), number) for number in range(2)]
        try:
            for writer in writers:
                writer.result(PATIENCE)
                assert_rules_hold(committed)
        finally:
            stop.set()
        assert sum(flusher.result(PATIENCE) for flusher in flushers) > 0
    assert_rules_hold(committed)
    flush()
    assert stored() == [Review.objects.filter(work=work).count() for work in works]


def test_a_flusher_whose_session_is_terminated_loses_nothing(connect: Connect, committed: Rules) -> None:
    work = Work.objects.create()
    review(work, 2)
    session = connect()
    session.execute("BEGIN")
    session.execute("SELECT tk_flush_archive_work()")
    ask("SELECT pg_terminate_backend(%s, 60000)", session.info.backend_pid)
    session.close()
    assert stored() == [0]
    assert_rules_hold(committed)
    flush()
    assert stored() == [2]


# Following ----------------------------------------------------------------------------------------------------------


CHILD = """
import json, sys
from django.conf import settings
settings.DATABASES["default"].update(json.loads(sys.argv[1]))
import django
django.setup()
from tests.archive.models import Person, Work
from tests.integration.test_flush import FLOWING
for model, rules in FLOWING:
    model._meta.denormalizations = rules
from django.core.management import execute_from_command_line
execute_from_command_line(["manage.py", "trigger_kit", *sys.argv[2:]])
"""


Command = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def command(committed: Rules) -> Iterator[Command]:
    """Start the command as a process of its own, with what the models declare here."""
    names = ("ENGINE", "NAME", "USER", "PASSWORD", "HOST", "PORT", "OPTIONS")
    settings = json.dumps({name: connection.settings_dict[name] for name in names})
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings", "PYTHONUNBUFFERED": "1"}
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str, under: Sequence[str] = ()) -> subprocess.Popen[str]:
        line = [*under, sys.executable, "-c", CHILD, settings, *arguments]
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(line, stdout=pipe, stderr=pipe, text=True, env=environment))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def stop(process: subprocess.Popen[str], number: signal.Signals = signal.SIGTERM) -> tuple[int, str, str]:
    process.send_signal(number)
    out, error = process.communicate(timeout=PATIENCE)
    return process.returncode, out, error


@contextmanager
def following(number: int = 1, interval: float = 3600.0) -> Iterator[tuple[list[Exception], list[Future[None]]]]:
    """Follow works in threads; a long interval has them wait for notifications alone."""
    done, lost = threading.Event(), list[Exception]()

    def run_one() -> None:
        in_a_thread(lambda: follow(["archive.Work"], interval=interval, until=done.is_set, on_loss=lost.append))

    with ThreadPoolExecutor(number) as pool:
        followers = [pool.submit(run_one) for _ in range(number)]
        try:
            wait_for(lambda: holders() or any(follower.done() for follower in followers), "a follower that waits")
            yield lost, followers
        finally:
            done.set()
            while not all(follower.done() for follower in followers):
                with connection.cursor() as cursor:
                    cursor.execute("NOTIFY tk_pending_archive_work")
                time.sleep(0.05)
        for follower in followers:
            follower.result()


# A shell that ignores both signals, as nohup and scripts do for what they start in the background.
DEAF = ("sh", "-c", 'trap "" INT TERM; exec "$@"', "sh")


@pytest.mark.parametrize("under", [(), DEAF], ids=["plain", "signals ignored by the parent"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_follows_until_it_is_interrupted(
    command: Command, number: signal.Signals, under: Sequence[str]
) -> None:
    process = command("flush", "--follow", "archive.Work", under=under)
    wait_for(holders, "a follower that waits")
    work = Work.objects.create()
    review(work, 3)
    wait_for(lambda: stored() == [3], "the value")
    wait_for(is_at_rest, "a follower that has told what it did")
    code, out, error = stop(process, number)
    assert (code, error) == (0, "")
    assert out.splitlines() == [
        "Following archive.Work. Interrupt to stop.",
        "archive.Work: 1 pending row folded",
    ]


def test_the_command_follows_all_queues(command: Command) -> None:
    process = command("flush", "--follow")
    wait_for(holders, "a follower that waits")
    review(Work.objects.create(editor=Person.objects.create()))
    wait_for(lambda: (stored(), stored(Person)) == ([1], [1]), "the values")
    wait_for(is_at_rest, "a follower that has told what it did")
    code, out, _ = stop(process)
    assert code == 0
    assert sorted(out.splitlines()[1:]) == [
        "archive.Person: 1 pending row folded",
        "archive.Work: 1 pending row folded",
    ]


def test_the_command_connects_again(command: Command) -> None:
    process = command("flush", "--follow", "archive.Work")
    wait_for(holders, "a follower that waits")
    (pid,) = holders()
    ask("SELECT pg_terminate_backend(%s, 60000)", pid)
    work = Work.objects.create()
    review(work)
    wait_for(lambda: stored() == [1] or process.poll() is not None, "the value")
    code, out, error = stop(process)
    assert (code, error) == (0, "")
    assert "Interrupted, trying again" in out


def test_a_command_that_is_killed_folds_nothing_twice(connect: Connect, command: Command) -> None:
    one, two = Work.objects.create(), Work.objects.create()
    review(one)
    review(two, 2)
    with locked(connect, one):
        process = command("flush", "--batch-size", "1", "archive.Work")
        wait_for(waiting, "a flush that waits")
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=PATIENCE)
        assert_rules_hold(FLOWING)
    wait_for(lambda: not waiting(), "the end of the backend")
    assert_rules_hold(FLOWING)
    flush()
    assert stored() == [1, 2]


def test_a_follower_hears_of_what_is_written(connect: Connect, committed: Rules) -> None:
    work = Work.objects.create()
    with following():
        for number in (1, 2, 3):
            review(work)
            wait_for(lambda number=number: stored() == [number], "the value")  # type: ignore[misc]
            wait_for(holders, "a follower that waits again")


def test_a_follower_folds_what_was_there_before(committed: Rules) -> None:
    review(Work.objects.create(), 2)
    with following():
        assert stored() == [2]


def test_a_follower_folds_what_an_open_transaction_wrote_before_it_came(connect: Connect, committed: Rules) -> None:
    """Its writer has found nobody who follows, and notifies nobody."""
    work = Work.objects.create()
    review(work, 2)
    flush()
    writer = connect()
    writer.execute("BEGIN")
    writer.execute("DELETE FROM archive_review")
    with ThreadPoolExecutor(1) as pool:
        done = threading.Event()
        follower = pool.submit(in_a_thread, lambda: follow(["archive.Work"], interval=3600, until=done.is_set))
        wait_for(
            lambda: ask("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%%tk_pending_archive_work%%'"), "it"
        )
        writer.execute("COMMIT")
        wait_for(lambda: stored() == [0] or follower.done(), "the value")
        wait_for(holders, "a follower that waits")
        done.set()
        connect().execute("NOTIFY tk_pending_archive_work")
        follower.result(PATIENCE)


def test_a_follower_connects_again(connect: Connect, committed: Rules) -> None:
    work = Work.objects.create()
    with following() as (lost, followers):
        ask("SELECT pg_terminate_backend(%s, 60000)", holders()[0])
        review(work)
        wait_for(lambda: stored() == [1] or followers[0].done(), "the value")
        assert len(lost) == 1
        wait_for(holders, "a follower that waits")


def test_several_followers_share_the_work(connect: Connect, committed: Rules) -> None:
    works = Work.objects.bulk_create(Work() for _ in range(3))
    with following(3):
        for work in works:
            review(work, 2)
            Review.objects.filter(work=work).latest("pk").delete()
        wait_for(lambda: stored() == [1, 1, 1], "the values")
        assert_rules_hold(committed)
        wait_for(holders, "a follower that waits")


def test_a_follower_goes_past_locked_targets_and_comes_back(connect: Connect, committed: Rules) -> None:
    one, two = Work.objects.create(), Work.objects.create()
    with following():
        with locked(connect, one):
            review(one)
            review(two)
            wait_for(lambda: stored() == [0, 1], "the value of the target that nobody holds")
        wait_for(lambda: stored() == [1, 1], "the value of the target that was held")
        wait_for(holders, "a follower that waits")


def test_a_follower_rests_where_only_rows_without_target_are_left(connect: Connect, committed: Rules) -> None:
    """What has no target can wait for years: it must not keep a follower awake."""
    session = connect()
    session.execute("INSERT INTO tk_pending_archive_work (id, the_count) VALUES (-1, 1)")
    rounds: list[int] = []

    def until() -> bool:
        rounds.append(len(rounds))
        return len(rounds) > 6

    with ThreadPoolExecutor(1) as pool:
        follower = pool.submit(in_a_thread, lambda: follow(["archive.Work"], interval=3600, until=until))
        time.sleep(3)
        awake = follower.done()
        while not follower.done():
            session.execute("NOTIFY tk_pending_archive_work")
            time.sleep(0.05)
    session.execute("DELETE FROM tk_pending_archive_work")
    assert not awake


def test_nobody_is_notified_where_nobody_follows(connect: Connect, committed: Rules) -> None:
    listener, follower = connect(), connect()
    listener.execute("LISTEN tk_pending_archive_work")
    work = Work.objects.create()
    review(work)
    listener.execute("SELECT 1")
    assert list(listener.notifies(timeout=0)) == []
    follower.execute("SELECT pg_advisory_lock(%s)", [follower_lock("archive_work")])
    review(work)
    assert [note.channel for note in listener.notifies(timeout=PATIENCE, stop_after=1)] == ["tk_pending_archive_work"]
