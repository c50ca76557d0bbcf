"""Filling rows that exist already: some keys, whole targets in batches, every kind of key, interrupted, beside writers."""

from __future__ import annotations

import random
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from io import StringIO
from typing import Any

import psycopg
import pytest
from django.contrib.contenttypes.models import ContentType
from django.core.management import CommandError, call_command
from django.core.management.base import OutputWrapper
from django.db import IntegrityError, connection, models, transaction
from django.db.models import Count, F, Max, Model, Q, Sum
from django.test.utils import isolate_apps

from dev.postgres import Server
from tests.archive.keeping import Rules, assert_rules_hold, make_tables, timed
from tests.archive.models import (
    Country,
    Credit,
    Line,
    Node,
    Note,
    Novel,
    Person,
    Publisher,
    Remark,
    Review,
    Series,
    Tag,
    Work,
)
from tests.archive.rules import POOLS, Pool
from trigger_kit import Denormalize, First, Timing, backfill
from trigger_kit.checks.settings import check_fills
from trigger_kit.database import batches
from trigger_kit.database.batches import Progress, backfilling, fill_all
from trigger_kit.database.catalog import Placement
from trigger_kit.database.changes import Change
from trigger_kit.database.converge import converge
from trigger_kit.database.filling import Filling, fill_keys
from trigger_kit.database.progress import ProgressReport
from trigger_kit.database.wanted import Wanted
from trigger_kit.exceptions import TriggerKitError
from trigger_kit.migration import first_fill
from trigger_kit.migration.first_fill import batches_script
from trigger_kit.plan.plan import Plan, plan_all

Sql = Callable[..., list[tuple[Any, ...]]]
Declare = Callable[[Rules], Rules]


def choices(pool: Pool) -> int:
    return max(map(len, pool.values()))


CASES = [(model, number) for model, pool in POOLS.items() for number in range(choices(pool))]
each_case = pytest.mark.parametrize(
    ("model", "number"), CASES, ids=[f"{model.__name__}-{number}" for model, number in CASES]
)


def write_archive() -> None:
    """Write some rows of every model; the last of each has nothing that belongs to it."""
    Country.objects.bulk_create([Country(code=code, name=f"land {code}", rank=n) for n, code in enumerate("cAbZ")])
    countries = ["c", "A", "A", None]
    Publisher.objects.bulk_create(
        [
            Publisher(id=uuid.UUID(int=7 - n), number=n, name=f"house {n}", country_id=code, fee=Decimal("2.50") * n)
            for n, code in enumerate(countries)
        ]
    )
    Series.objects.bulk_create([Series(id=n, name=f"series {n}") for n in (1, 2)])
    Person.objects.bulk_create([Person(id=n, name=name) for n, name in enumerate(("ann", "bob", "cy", "dot"), 1)])
    Tag.objects.bulk_create([Tag(id=n, name=f"tag {n}", weight=n, active=n != 2) for n in range(1, 5)])
    for n in range(1, 7):
        Novel.objects.create(
            id=n, publisher_id=n % 3 if n < 6 else None, editor_id=n % 2 + 1, title=f"title {n % 4}", pages=n * 10,
            price=Decimal(n) / 4, score=n / 2, published=n % 2 == 0, day=date(2026, 1, n), data={"size": str(n)},
            moment=datetime(2026, 1, n, tzinfo=UTC), reading_time=timedelta(days=n), genre="g", words=n * 100,
            series_id=1 if n < 4 else None,
        )  # fmt: skip
    stars = [5, 2, 3, None, 5, 1, 4, 2]
    Review.objects.bulk_create(
        Review(id=n, work_id=n % 4 + 1, author_id=n % 3 + 1, stars=s, text=f"text {n}", created=datetime(2026, 2, n, tzinfo=UTC))
        for n, s in enumerate(stars, 1)
    )  # fmt: skip
    Credit.objects.bulk_create(Credit(work_id=n % 4 + 1, person_id=n % 3 + 1, role="author", share=n) for n in range(6))
    Work.tags.through.objects.bulk_create(
        Work.tags.through(work_id=w, tag_id=t) for w, t in ((1, 1), (1, 2), (2, 3), (4, 1))
    )
    ann, bob = Person.objects.filter(pk__lte=2)
    ann.friends.add(bob)
    ann.follows.add(bob)
    bob.follows.add(3)
    of_works, of_persons = (ContentType.objects.get_for_model(model) for model in (Work, Person))
    Note.objects.bulk_create(
        Note(content_type=kind, object_id=n % 3 + 1, text=f"note {n}", weight=n, author_id=n % 2 + 1)
        for n, kind in enumerate([of_works, of_persons] * 4)
    )
    Line.objects.bulk_create(Line(work_id=n % 3 + 1, number=n, text=f"line {n}") for n in range(5))
    Remark.objects.bulk_create(
        Remark(line_work=n % 3 + 1, line_number=n, text=f"remark {n}", weight=n) for n in range(4)
    )
    Node.objects.bulk_create(
        Node(id=n, parent_id=parent, name=f"node {n}", own=n) for n, parent in enumerate([None, 1, 1, 2, 4, None, 6], 1)
    )


def install_unfilled(rules: Rules) -> list[Plan]:
    """Install the triggers of rules for rows that are there already, and fill nothing."""
    plans = plan_all(rules)
    for plan in plans:
        converge(connection, [Change(after=Wanted(plan))])
    return plans


def keys_of(model: type[Model]) -> list[tuple[Any, ...]]:
    names = [field.attname for field in model._meta.pk_fields]
    return list(model._base_manager.order_by("pk").values_list(*names))


def stored(plan: Plan) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """Return the kept values of every row by its key, as texts."""
    table, columns = plan.target, ", ".join(f"{kept.column}::text" for kept in plan.kept_columns)
    keys = ", ".join(plan.key_columns)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {keys}, {columns} FROM {table}")
        return {row[: len(plan.key)]: row[len(plan.key) :] for row in cursor.fetchall()}


# Some keys ----------------------------------------------------------------------------------------------------------


def each_case_at_its_turn() -> pytest.MarkDecorator:
    """Every case at every timing; by default each at one of them, in turn."""
    turns = [
        pytest.param(*case, timing, marks=() if place == turn % len(Timing) else pytest.mark.thorough)
        for turn, case in enumerate(CASES)
        for place, timing in enumerate(Timing)
    ]
    names = [f"{model.__name__}-{number}-{timing.value}" for model, number in CASES for timing in Timing]
    return pytest.mark.parametrize(("model", "number", "timing"), turns, ids=names)


@each_case_at_its_turn()
def test_some_keys_of_any_rule(db: None, model: type[Model], number: int, timing: Timing) -> None:
    chosen = {name: expressions[number % len(expressions)] for name, expressions in POOLS[model].items()}
    write_archive()
    rules = timed([(model, [Denormalize(name, expression, timing=timing) for name, expression in chosen.items()])])
    (plan,) = install_unfilled(rules)
    keys, before = keys_of(model), stored(plan)
    some = keys[::2]
    is_tree = any(edge.is_recursive for edge in plan.edges)
    assert fill_keys(connection, plan, None, some) > 0
    after = stored(plan)
    assert is_tree or all(after[key] == before[key] for key in keys if key not in some)
    fill_keys(connection, plan, None, keys)
    assert_rules_hold(rules)
    assert is_tree or all(stored(plan)[key] == after[key] for key in some)
    assert fill_keys(connection, plan, None, keys) == 0


# Whole targets, in batches ------------------------------------------------------------------------------------------


@pytest.fixture
def declare(monkeypatch: pytest.MonkeyPatch) -> Declare:
    """Let the live models declare rules, as long as a test runs."""

    def declare_rules(rules: Rules) -> Rules:
        for model, declared in rules:
            monkeypatch.setattr(model._meta, "denormalizations", declared, raising=False)
        return rules

    return declare_rules


# Other apps of the tests have rules too.
OURS = ["archive"]
COUNTS: Rules = [
    (Work, [Denormalize("the_count", Count("reviews")), Denormalize("kept_number", Max("reviews__stars"))])
]


@pytest.fixture
def unfilled(db: None, declare: Declare) -> Rules:
    """Rules that are declared and installed, over rows that are not filled."""
    write_archive()
    install_unfilled(COUNTS)
    return declare(COUNTS)


def run(*arguments: str) -> str:
    out = StringIO()
    call_command("trigger_kit", *arguments, stdout=out)
    return out.getvalue()


KEYS: dict[str, tuple[Any, list[Any]]] = {
    "bigint": (models.BigIntegerField, [-(2**40), -1, 0, 7, 2**40]),
    "uuid": (models.UUIDField, [uuid.UUID(int=n * 2**100) for n in (5, 1, 3, 2, 4)]),
    "text": (models.TextField, ["", "'%s\\", "a", "B", "ä{}"]),
    "text of a collation": (lambda **k: models.TextField(db_collation="C", **k), ["a", "B", "ä", "b", "Z"]),
    "decimal": (lambda **k: models.DecimalField(max_digits=9, decimal_places=3, **k), [Decimal(n) / 8 for n in (9, -1, 4, 0, 2)]),
    "date": (models.DateField, [date(2026, 1, n) for n in (5, 1, 3, 2, 4)]),
    "moment": (models.DateTimeField, [datetime(2026, 1, n, 3, tzinfo=UTC) for n in (5, 1, 3, 2, 4)]),
    "duration": (models.DurationField, [timedelta(hours=n) for n in (50, 1, 3, 2, 4)]),
    "address": (models.GenericIPAddressField, ["::1", "10.0.0.2", "9.0.0.1", "10.0.0.10", "fe80::"]),
    "bytes": (models.BinaryField, [b"\x00", b"'", b"\\", b"", b"\xff"]),
}  # fmt: skip


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("batch_size", [1, 2, 5, 9])
@isolate_apps("tests.archive")
def test_any_kind_of_key(sql: Sql, kind: str, batch_size: int) -> None:
    field, keys = KEYS[kind]

    class Shelf(models.Model):
        code = field(primary_key=True)
        number = models.IntegerField(default=0)

        class Meta:
            app_label = "archive"

    class Item(models.Model):
        shelf = models.ForeignKey(Shelf, models.CASCADE, related_name="items")

        class Meta:
            app_label = "archive"

    make_tables(Shelf, Item)
    Shelf.objects.bulk_create([Shelf(pk=key) for key in keys])
    Item.objects.bulk_create(Item(shelf_id=key) for number, key in enumerate(keys) for _ in range(number))
    rules: Rules = [(Shelf, [Denormalize("number", Count("items"))])]
    (plan,) = install_unfilled(rules)
    batches: list[int] = []
    done = fill_all(
        connection, Filling.of(plan), batch_size=batch_size, on_batch=lambda found: batches.append(found.rows)
    )
    assert_rules_hold(rules)
    assert (done.rows, done.changed) == (5, 4)
    assert batches == [*range(batch_size, 5, batch_size), 5]


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_a_composite_key(db: None, batch_size: int) -> None:
    write_archive()
    rules: Rules = [(Line, [Denormalize("the_count", Count("remarks")), Denormalize("kept_text", F("work__title"))])]
    (plan,) = install_unfilled(rules)
    batches: list[Any] = []
    fill_all(connection, Filling.of(plan), batch_size=batch_size, on_batch=lambda found: batches.append(found.after))
    assert_rules_hold(rules)
    assert batches[-1] == ("3", "2")
    assert batches == sorted(batches)


@each_case
def test_batches_of_any_rule(db: None, model: type[Model], number: int) -> None:
    chosen = {name: expressions[number % len(expressions)] for name, expressions in POOLS[model].items()}
    write_archive()
    rules: Rules = [(model, [Denormalize(name, expression) for name, expression in chosen.items()])]
    (plan,) = install_unfilled(rules)
    fill_all(connection, Filling.of(plan), batch_size=2)
    assert_rules_hold(rules)
    assert fill_all(connection, Filling.of(plan), batch_size=2).changed == 0


def test_rules_over_rules_are_filled_from_the_top(db: None, declare: Declare) -> None:
    write_archive()
    rules = declare(
        [
            (Publisher, [Denormalize("the_total", Sum("works__the_count", default=0))]),
            (Work, [Denormalize("the_count", Count("reviews"))]),
        ]
    )
    install_unfilled(rules)
    assert [done.label for done in backfill(OURS, batch_size=2)] == ["archive.Publisher", "archive.Work"]
    assert_rules_hold(rules)


def test_a_batch_reads_nothing_but_its_own_rows(sql: Sql) -> None:
    works = Work.objects.bulk_create(Work() for _ in range(2_000))
    Review.objects.bulk_create(Review(work=work, stars=n % 5) for n, work in enumerate(works * 5))
    sql("ANALYZE archive_review, archive_work")
    Tag.objects.bulk_create(Tag(weight=n) for n in range(3))
    (plan,) = install_unfilled(
        [
            (
                Work,
                [
                    Denormalize("the_count", Count("reviews")),
                    Denormalize("kept_number", Max("reviews__stars")),
                    Denormalize("kept_text", First("reviews__text", order_by="reviews__stars")),
                    Denormalize("the_total", Count("reviews__author")),
                ],
            )
        ]
    )
    counters = "SELECT seq_tup_read, idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'archive_review'"
    ((whole, found),) = sql(counters)
    assert fill_keys(connection, plan, None, [(work.pk,) for work in works[:100]]) == 100
    ((whole_after, found_after),) = sql(counters)
    assert (whole_after, found_after - found <= 100 * 5 * 3) == (whole, True)


# Interrupted --------------------------------------------------------------------------------------------------------


def interrupt(after: int) -> Callable[[Progress], None]:
    def stop(found: Progress) -> None:
        if found.rows >= after:
            raise KeyboardInterrupt

    return stop


def test_it_goes_on_where_it_was_interrupted(unfilled: Rules) -> None:
    with pytest.raises(KeyboardInterrupt):
        backfill(OURS, batch_size=2, on_batch=interrupt(after=4))
    (found,) = backfilling(connection, "public").values()
    assert (found.label, found.fields) == ("archive.Work", ("kept_number", "the_count"))
    assert (found.rows, found.total, found.share) == (4, 6, 4 / 6)
    rows: list[int] = []
    (done,) = backfill(OURS, batch_size=1, on_batch=lambda found: rows.append(found.rows))
    assert (rows, done.done) == ([5, 6], 2)
    assert_rules_hold(unfilled)
    assert backfilling(connection, "public") == {}


def test_it_can_start_anew(unfilled: Rules) -> None:
    with pytest.raises(KeyboardInterrupt):
        backfill(OURS, batch_size=2, on_batch=interrupt(after=4))
    (done,) = backfill(OURS, restart=True)
    assert done.done == 6


def test_it_starts_anew_for_other_columns(unfilled: Rules) -> None:
    with pytest.raises(KeyboardInterrupt):
        backfill(["archive.Work:the_count"], batch_size=2, on_batch=interrupt(after=4))
    (done,) = backfill(OURS)
    assert done.done == 6
    assert_rules_hold(unfilled)


def test_it_starts_anew_when_triggers_have_changed(unfilled: Rules) -> None:
    with pytest.raises(KeyboardInterrupt):
        backfill(OURS, batch_size=2, on_batch=interrupt(after=4))
    wanted = Wanted(plan_all(unfilled)[0])
    converge(connection, [Change(before=wanted)])
    Review.objects.all().delete()
    converge(connection, [Change(after=wanted)])
    (done,) = backfill(OURS)
    assert done.done == 6
    assert_rules_hold(unfilled)


def test_rows_that_come_meanwhile_are_not_run_after(unfilled: Rules) -> None:
    def write(found: Progress) -> None:
        work = Work.objects.create(pk=1000 + found.rows)
        Review.objects.create(pk=1000 + found.rows, work=work, stars=found.rows)

    (done,) = backfill(OURS, batch_size=1, on_batch=write)
    assert done.rows == 6
    assert_rules_hold(unfilled)


def test_a_row_whose_key_moves_behind_the_fill(sql: Sql, declare: Declare) -> None:
    write_archive()
    rules = declare([(Review, [Denormalize("kept_text", F("work__title"))])])
    install_unfilled(rules)

    def move(found: Progress) -> None:
        if found.rows == 1:
            sql("UPDATE archive_review SET id = 0 WHERE id = 8")

    backfill(OURS, batch_size=1, on_batch=move)
    assert_rules_hold(rules)


def test_no_rows(db: None, declare: Declare) -> None:
    declare(COUNTS)
    install_unfilled(COUNTS)
    (done,) = backfill(OURS)
    assert (done.rows, done.changed, done.share) == (0, 0, 1.0)


# What is asked for --------------------------------------------------------------------------------------------------


def test_some_rules(unfilled: Rules) -> None:
    (done,) = backfill(["archive.Work:the_count"])
    assert done.fields == ("the_count",)
    assert set(Work.objects.values_list("kept_number", flat=True)) == {None}
    assert sum(Work.objects.values_list("the_count", flat=True)) == 8


def test_a_rate(unfilled: Rules) -> None:
    begun = time.monotonic()
    (done,) = backfill(OURS, batch_size=1, rate=20)
    assert time.monotonic() - begun >= 6 / 20
    assert done.rate <= 25


def test_what_cannot_be_filled(db: None, declare: Declare) -> None:
    with pytest.raises(TriggerKitError, match="There is no rule archive.Works"):
        backfill(["archive.Works"])
    declare(COUNTS)
    with pytest.raises(TriggerKitError, match="triggers of archive.Work are not installed in the database 'default'"):
        backfill(["archive.Work"])
    with pytest.raises(CommandError, match="manage.py migrate") as raised:
        run("backfill", "archive.Work")
    assert raised.value.returncode == 2


@pytest.mark.parametrize("name", ["batch_size", "rate"])
def test_numbers_are_one_or_more(db: None, name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is 1 or more, not 0"):
        backfill(OURS, **{name: 0})


# The command --------------------------------------------------------------------------------------------------------


def test_the_command(unfilled: Rules) -> None:
    text = run("backfill", "archive.Work", "--batch-size", "2", "--rate", "1000")
    assert re.fullmatch(r"archive\.Work: 6 rows looked at, 4 changed, in 0\.\d s\n", text)
    assert_rules_hold(unfilled)


def test_the_command_says_what_it_would_do(unfilled: Rules, sql: Sql) -> None:
    before = sql("SELECT id, xmin::text FROM archive_work ORDER BY id")
    assert run("backfill", "archive.Work", "--dry-run") == (
        "archive.Work (kept_number, the_count): about 6 rows. 4 of 6 drawn at random differ, so that about 4 rows would "
        "be changed.\n"
    )
    assert sql("SELECT id, xmin::text FROM archive_work ORDER BY id") == before
    with pytest.raises(KeyboardInterrupt):
        backfill(OURS, batch_size=3, on_batch=interrupt(after=3))
    assert "about 6 rows, 3 of them filled already" in run("backfill", "archive.Work", "--dry-run")


def test_the_command_is_interrupted(unfilled: Rules, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ProgressReport, "add", lambda self, found: interrupt(after=2)(found))
    with pytest.raises(CommandError, match="goes on where this one has stopped"):
        run("backfill", "archive.Work", "--batch-size", "2")
    monkeypatch.undo()


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_has_one_line_that_changes() -> None:
    out = Terminal()
    report = ProgressReport(OutputWrapper(out))
    report.told = 0
    report.add(Progress("archive.Work", ("the_count",), 4_000, rows=1_000, changed=10, seconds=2.0, done=1_000))
    assert out.getvalue() == (
        "\x1b7\x1b[Karchive.Work [#####...............] 1,000 rows, 25%, 500 rows/s, 6.0 s left \x1b8"
    )
    report.finish(Progress("archive.Work", ("the_count",), 4_000, rows=4_000, changed=1, seconds=200.0, done=4_000))
    assert out.getvalue().endswith("\x1b[Karchive.Work: 4,000 rows looked at, 1 changed, in 3 min\n")


def test_elsewhere_there_is_a_line_a_second() -> None:
    out = StringIO()
    report = ProgressReport(OutputWrapper(out))
    report.add(Progress("archive.Work", ("the_count",), 4_000, rows=500))
    assert out.getvalue() == ""
    report.told -= 1
    report.add(Progress("archive.Work", ("the_count",), 4_000, rows=1_000, seconds=2.0, done=1_000))
    report.add(Progress("archive.Work", ("the_count",), 4_000, rows=2_000))
    assert out.getvalue() == "archive.Work: 1,000 of about 4,000 rows (25%), 500 rows/s, 6.0 s left\n"


def test_within_the_line_of_migrate_a_terminal_shows_little() -> None:
    out = Terminal()
    report = ProgressReport(OutputWrapper(out), is_within_line=True)
    report.told = 0
    progress = Progress("archive.Work", ("the_count",), 4_000, rows=1_000, seconds=2.0, done=1_000)
    report.add(progress)
    report.finish(progress)
    assert out.getvalue() == "\x1b7\x1b[K25%, 500 rows/s, 6.0 s left \x1b8\x1b[K"


# Real sessions ------------------------------------------------------------------------------------------------------


@pytest.fixture
def url(server: Server) -> str:
    return server.database(connection.settings_dict["NAME"]).url


@pytest.fixture
def committed(transactional_db: None, declare: Declare) -> Iterator[Callable[[Rules], Rules]]:
    """Install rules for everybody, over rows that are not filled."""
    plans: list[Plan] = []

    def install(rules: Rules) -> Rules:
        with transaction.atomic():
            plans.extend(install_unfilled(rules))
        return declare(rules)

    yield install
    with transaction.atomic():
        for plan in plans:
            converge(connection, [Change(before=Wanted(plan))])


SCRIPTED: list[Rules] = [
    COUNTS,
    [(Line, [Denormalize("the_count", Count("remarks")), Denormalize("kept_text", F("work__title"))])],
    [(Country, [Denormalize("the_count", Count("publishers__works")), Denormalize("kept_number", Max("publishers__number"))])],
    [(Publisher, [Denormalize("the_count", Count("works"), timing=Timing.QUEUED)])],
    [(Publisher, [Denormalize("the_total", Sum("works__pages", default=0), timing=Timing.DEFERRED)])],
]  # fmt: skip


@pytest.mark.parametrize("rules", SCRIPTED, ids=lambda rules: rules[0][1][0].expression.__class__.__name__)
def test_the_script_for_a_dba(
    committed: Callable[[Rules], Rules], url: str, rules: Rules, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_archive()
    committed(rules)
    (plan,) = plan_all(rules)
    scripts: list[str] = []
    monkeypatch.setattr(first_fill, "SCRIPT_ROWS", 2)
    batches_script(Filling.of(plan), Placement(connection, plan.target), scripts.append)
    with psycopg.connect(url, autocommit=True) as psql:
        psql.execute(scripts[0].encode())
    assert_rules_hold(rules)


def test_each_batch_is_committed(committed: Callable[[Rules], Rules], url: str) -> None:
    write_archive()
    rules = committed(COUNTS)
    seen: list[int] = []
    with psycopg.connect(url, autocommit=True) as other:

        def look(found: Progress) -> None:
            ((filled,),) = other.execute("SELECT count(*) FROM archive_work WHERE the_count > 0").fetchall()
            seen.append(filled)

        backfill(OURS, batch_size=1, on_batch=look)
    assert seen == [1, 2, 3, 4, 4, 4]
    assert_rules_hold(rules)


def test_two_at_once(committed: Callable[[Rules], Rules], monkeypatch: pytest.MonkeyPatch) -> None:
    write_archive()
    committed(COUNTS)
    monkeypatch.setattr(batches, "PATIENCE", "50ms")

    def again(found: Progress) -> None:
        def other() -> None:
            with pytest.raises(CommandError, match=r"archive\.Work is being filled already, by process \d+") as raised:
                run("backfill", "archive.Work")
            assert raised.value.returncode == 2
            connection.close()

        with ThreadPoolExecutor(1) as pool:
            pool.submit(other).result()

    backfill(OURS, batch_size=3, on_batch=again)
    backfill(OURS)


def test_whoever_waits_for_a_row_holds_no_other(
    committed: Callable[[Rules], Rules], url: str, stack: ExitStack
) -> None:
    write_archive()
    rules = committed(COUNTS)
    holder, writer = (stack.enter_context(psycopg.connect(url)) for _ in range(2))
    holder.execute("SELECT FROM archive_work WHERE id = 4 FOR UPDATE")

    def fill() -> None:
        backfill(OURS)
        connection.close()

    with ThreadPoolExecutor(1) as pool:
        filling = pool.submit(fill)
        held = f"SELECT true FROM pg_stat_activity WHERE {holder.info.backend_pid} = ANY (pg_blocking_pids(pid))"
        while not filling.done() and not writer.execute(held.encode()).fetchone():
            writer.commit()
            time.sleep(0.01)
        writer.execute("SET lock_timeout = '1s'")
        for key in (1, 2, 3, 5, 6):
            writer.execute("UPDATE archive_work SET title = 'x' WHERE id = %s", [key])
            writer.commit()
        assert not filling.done()
        holder.rollback()
        filling.result()
    assert_rules_hold(rules)


LIVE: Rules = [
    (
        Work,
        [
            Denormalize("the_count", Count("reviews")),
            Denormalize("the_total", Sum("reviews__stars", default=0)),
            Denormalize("kept_number", Max("reviews__stars")),
            Denormalize("kept_text", First("reviews__text", order_by="-reviews__stars")),
        ],
    ),
    (Publisher, [Denormalize("the_count", Count("works__reviews"))]),
    (Tag, [Denormalize("the_count", Count("works")), Denormalize("kept_number", Sum("works__pages"))]),
    (Node, [Denormalize("the_total", F("own") + Sum("children__the_total", default=0))]),
    (Note, [Denormalize("kept_text", F("work__title"))]),
]
STATEMENTS = (
    "INSERT INTO archive_review (work_id, stars, text, the_count, the_total, the_flag, the_label) "
    "VALUES ({work}, {n}, 't{n}', 0, 0, false, '')",
    "UPDATE archive_review SET stars = {n}, text = 'u{n}' WHERE id = {review}",
    "UPDATE archive_review SET work_id = {work} WHERE id = {review}",
    "DELETE FROM archive_review WHERE id = {review}",
    "UPDATE archive_work SET pages = {n}, title = 'v{n}' WHERE id = {work}",
    "UPDATE archive_work SET publisher_id = {n} % 3 WHERE id = {work}",
    "INSERT INTO archive_work_tags (work_id, tag_id) VALUES ({work}, {tag}) ON CONFLICT DO NOTHING",
    "DELETE FROM archive_work_tags WHERE work_id = {work} AND tag_id = {tag}",
    "UPDATE archive_node SET own = {n} WHERE id = {node}",
    "UPDATE archive_node SET parent_id = {node} / 2 WHERE id = {node}",
)


def write_many() -> None:
    """Write enough rows for a fill to take a while."""
    write_archive()
    Work.objects.bulk_create(Work(id=n, publisher_id=n % 3, title=f"w{n}", pages=n % 9) for n in range(10, 600))
    Review.objects.bulk_create(
        Review(id=100 + n, work_id=10 + n % 590, stars=n % 7, text=f"r{n}") for n in range(4_000)
    )
    Tag.objects.bulk_create(Tag(id=n) for n in range(10, 60))
    Work.tags.through.objects.bulk_create(
        Work.tags.through(work_id=n, tag_id=10 + (n + step) % 50) for n in range(10, 600) for step in (1, 2)
    )
    Node.objects.bulk_create(Node(id=n, parent_id=n // 2 if n >= 20 else 1, own=1) for n in range(10, 200))
    kind = ContentType.objects.get_for_model(Work)
    Note.objects.bulk_create(Note(content_type=kind, object_id=10 + n % 590) for n in range(600))


def keep_writing(url: str, seed: int, is_over: threading.Event, wrote: threading.Event) -> None:
    """Write at random until it is over, and tell so each time. Whoever deadlocks tries something else."""
    dice = random.Random(seed)
    with psycopg.connect(url, autocommit=True) as session:
        session.execute("SELECT setseed(0.5)")
        while not is_over.is_set():
            statement = dice.choice(STATEMENTS).format(
                work=dice.randint(10, 599), review=dice.randint(1, 4_000), tag=dice.randint(10, 59),
                node=dice.randint(20, 199), n=dice.randint(0, 9),
            )  # fmt: skip
            with suppress(psycopg.errors.DeadlockDetected):
                session.execute(statement.encode())
                wrote.set()


def test_writers_go_on_all_the_while(committed: Callable[[Rules], Rules], url: str, sql: Sql) -> None:
    write_many()
    sql("SELECT setval('archive_review_id_seq', 10000)")
    rules = committed(LIVE)
    is_over, wrote = threading.Event(), [threading.Event() for _ in range(4)]
    seen: list[Progress] = []

    def all_write(progress: Progress | None = None) -> None:
        """Go on when every writer has written something since the last batch."""
        seen.extend([progress] if progress else [])
        for event in wrote:
            event.clear()
        assert all(event.wait(60) for event in wrote)

    with ThreadPoolExecutor(4) as pool:
        writers = [pool.submit(keep_writing, url, seed, is_over, wrote[seed]) for seed in range(4)]
        try:
            all_write()
            done = backfill(OURS, batch_size=20, on_batch=all_write)
        finally:
            is_over.set()
        for writer in writers:
            writer.result()
    assert {found.label for found in done} == {model._meta.label for model, _ in rules}
    assert len(seen) > 20
    assert_rules_hold(rules)


# Checks -------------------------------------------------------------------------------------------------------------


def batched(settings: Any, *names: str) -> list[str]:
    """Return the ids of what is found where the settings ask for batches."""
    settings.TRIGGER_KIT = {"BATCHED_BACKFILL": names}
    return [str(message.id) for message in check_fills(None)]


def test_e034_a_queue_under_a_check(settings: Any, monkeypatch: pytest.MonkeyPatch, declare: Declare) -> None:
    constraint = models.CheckConstraint(condition=Q(the_count__gte=0), name="counted")
    monkeypatch.setattr(Work._meta, "constraints", [constraint])
    declare([(Work, [Denormalize("the_count", Count("reviews"), timing=Timing.QUEUED)])])
    assert batched(settings, "archive.Work") == ["trigger_kit.E034"]
    assert batched(settings, "archive") == ["trigger_kit.E034"]
    assert batched(settings, "library") == []
    declare(COUNTS)
    assert batched(settings, "archive.Work:the_count") == []


def test_w016_a_name_that_is_no_rule(settings: Any, declare: Declare) -> None:
    declare(COUNTS)
    assert batched(settings, "archive.Works", "archive.Work:the_total", "arch") == ["trigger_kit.W016"] * 3
    assert batched(settings, "archive.Work", "archive.Work:the_count", "archive", "archive.Tag", "auth") == []


def test_a_flush_would_break_a_check(sql: Sql) -> None:
    """What E034 prevents: 0 stored, -1 pending."""
    sql("ALTER TABLE archive_work ADD CONSTRAINT counted CHECK (the_count >= 0)")
    write_archive()
    install_unfilled([(Work, [Denormalize("the_count", Count("reviews"), timing=Timing.QUEUED)])])
    Review.objects.filter(pk=1).delete()
    with pytest.raises(IntegrityError, match="counted"), transaction.atomic():
        sql("SELECT tk_flush_archive_work()")
