"""The lean path of a delta: statements of one row, that come, go, change and move, whatever the columns are called."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection, models
from django.db.models import Count, Max, Min, Q, Sum
from django.test.utils import isolate_apps

from tests.archive.keeping import Rules, assert_rules_hold, keep, make_tables
from trigger_kit import Denormalize, Timing
from trigger_kit.maintenance.verify import as_committed

Sql = Callable[..., list[tuple[Any, ...]]]

# Names that the generated functions use for something else.
STATEMENTS = (
    "INSERT INTO archive_move (id, account_id, delta, before, after, found, source, locked) VALUES (1, 'b', 5, 1, 2, true, 'x', '')",
    "INSERT INTO archive_move (id, account_id, delta, before, after, found, source, locked) VALUES (2, 'a', 7, 1, 2, false, 'DRAFT', '')",
    "UPDATE archive_move SET note = 'other'",
    "UPDATE archive_move SET note = 'one' WHERE id = 1",
    "UPDATE archive_move SET delta = 9 WHERE id = 1",
    "UPDATE archive_move SET found = NOT found WHERE id = 1",
    "UPDATE archive_move SET source = 'draft' WHERE id = 1",
    "UPDATE archive_move SET account_id = 'a' WHERE id = 1",
    "UPDATE archive_move SET account_id = 'c', delta = 3 WHERE id = 1",
    "UPDATE archive_move SET account_id = NULL WHERE id = 1",
    "UPDATE archive_move SET delta = NULL WHERE id = 1",
    "UPDATE archive_move SET account_id = 'b' WHERE id = 1",
    "UPDATE archive_move SET delta = 'NaN' WHERE id = 1",
    "UPDATE archive_move SET account_id = 'a' WHERE id = 1",
    "UPDATE archive_move SET account_id = 'c', delta = 2 WHERE id = 1",
    "UPDATE archive_move SET account_id = 'd', delta = 'NaN' WHERE id = 1",
    "UPDATE archive_move SET account_id = 'b', delta = 4.50 WHERE id = 1",
    "UPDATE archive_move SET delta = 4.5 WHERE id = 1",
    "UPDATE archive_move SET account_id = account_id || '' WHERE id = 1",
    # The largest and the smallest: one that is beaten, one that is not, one that was it, one that is it again.
    "UPDATE archive_move SET before = 0 WHERE id = 1",
    "UPDATE archive_move SET before = 9 WHERE id = 1",
    "UPDATE archive_move SET before = 8, delta = 1 WHERE id = 1",
    "UPDATE archive_move SET before = 3, delta = 12 WHERE id = 1",
    "UPDATE archive_move SET account_id = 'a', delta = 2, found = true WHERE id = 2",
    "UPDATE archive_move SET account_id = 'b', before = 5 WHERE id = 2",
    "UPDATE archive_move SET before = 1 WHERE id = 2",
    "UPDATE archive_move SET found = NOT found",
    "UPDATE archive_move SET found = NOT found WHERE id = 2",
    "UPDATE archive_move SET before = before WHERE id = 2",
    "DELETE FROM archive_move WHERE id = 1",
    "DELETE FROM archive_move WHERE id = 1",
    "DELETE FROM archive_move WHERE id = 2",
    "INSERT INTO archive_move (id, account_id, delta, before, after, found, source, locked) VALUES (3, NULL, 1, 1, 2, true, 'x', '')",
    # A child that is there before its parent.
    "UPDATE archive_move SET account_id = 'late' WHERE id = 3",
    "INSERT INTO archive_account (code) VALUES ('late')",
    "UPDATE archive_move SET account_id = 'later', found = false WHERE id = 3",
    "UPDATE archive_move SET account_id = 'a' WHERE id = 3",
    "DELETE FROM archive_move",
)  # fmt: skip


@pytest.fixture
def tables() -> Iterator[tuple[type[models.Model], type[models.Model]]]:
    """Two tables whose columns are called as variables and labels of the generated functions are."""
    with isolate_apps("tests.archive"):

        class Account(models.Model):
            code = models.CharField(max_length=10, primary_key=True)
            found = models.PositiveIntegerField(db_default=0)
            delta = models.DecimalField(max_digits=20, decimal_places=4, null=True)
            deltas = models.DecimalField(max_digits=20, decimal_places=4, db_default=0)
            target = models.BigIntegerField(db_default=0)
            change = models.PositiveIntegerField(db_default=0)
            highest = models.IntegerField(null=True)
            lowest = models.DecimalField(max_digits=20, decimal_places=4, null=True)

            class Meta:
                app_label = "archive"

        class Move(models.Model):
            account = models.ForeignKey(Account, models.CASCADE, null=True, related_name="moves")
            delta = models.DecimalField(max_digits=20, decimal_places=4, null=True)
            before = models.IntegerField()
            after = models.IntegerField()
            found = models.BooleanField()
            source = models.CharField(max_length=10)
            locked = models.TextField()
            note = models.TextField(db_default="")

            class Meta:
                app_label = "archive"

        yield Account, Move


def rules_of(account: type[models.Model], timing: Timing) -> Rules:
    expressions = {
        "found": Count("moves", filter=Q(moves__found=True)),
        "delta": Sum("moves__delta", default=0) if timing is Timing.QUEUED else Sum("moves__delta"),
        "deltas": Sum("moves__delta", filter=~Q(moves__source__iexact="draft"), default=0),
        "target": Sum("moves__before", default=0),
        "change": Count("moves"),
    }
    if timing is not Timing.QUEUED:
        expressions |= {"highest": Max("moves__before"), "lowest": Min("moves__delta", filter=Q(moves__found=True))}
    return [(account, [Denormalize(name, expression, timing=timing) for name, expression in expressions.items()])]


@pytest.mark.parametrize("timing", Timing)
def test_single_rows(tables: tuple[type[models.Model], type[models.Model]], sql: Sql, timing: Timing) -> None:
    make_tables(*tables)
    sql("INSERT INTO archive_account (code) VALUES ('a'), ('b'), ('c'), ('d')")
    rules = rules_of(tables[0], timing)
    keep(rules)
    for statement in STATEMENTS:
        sql(statement)
        assert_rules_hold(rules)
    with as_committed(connection, [(model, rule) for model, declared in rules for rule in declared]):
        assert sql("SELECT count(*) FROM archive_account") == [(5,)]
        if timing is not Timing.QUEUED:
            assert sql("SELECT sum(change) FROM archive_account") == [(0,)]


@pytest.mark.parametrize(("old", "new"), [("a", "b"), ("b", "a")])
def test_a_move_writes_both_targets_directly(
    tables: tuple[type[models.Model], type[models.Model]], sql: Sql, old: str, new: str
) -> None:
    """Neither is computed afresh: what else is under them may be wrong and stays so, by the same amount."""
    make_tables(*tables)
    sql("INSERT INTO archive_account (code) VALUES ('a'), ('b')")
    keep(rules_of(tables[0], Timing.IMMEDIATE))
    values = "VALUES (%s, %s, 5, 1, 2, true, 'x', '')"
    sql(f"INSERT INTO archive_move (id, account_id, delta, before, after, found, source, locked) {values}", 1, old)
    sql(f"INSERT INTO archive_move (id, account_id, delta, before, after, found, source, locked) {values}", 2, old)
    sql("SET LOCAL trigger_kit.depth = '0'; UPDATE archive_account SET target = target + 100; RESET trigger_kit.depth")
    assert sql("SELECT code, target FROM archive_account ORDER BY target") == [(new, 100), (old, 102)]
    sql("UPDATE archive_move SET account_id = %s WHERE id = 1", new)
    assert sql("SELECT target FROM archive_account ORDER BY code") == [(101,), (101,)]


def test_a_move_to_a_row_that_comes_later(tables: tuple[type[models.Model], type[models.Model]], sql: Sql) -> None:
    """The UPDATE finds one of its two targets only: both are computed afresh, nothing counts twice."""
    make_tables(*tables)
    sql("INSERT INTO archive_account (code) VALUES ('a'), ('b')")
    rules = rules_of(tables[0], Timing.IMMEDIATE)
    keep(rules)
    sql(
        "INSERT INTO archive_move (id, account_id, delta, before, after, found, source, locked) VALUES (1, 'a', 5, 1, 2, true, 'x', '')"
    )
    sql("UPDATE archive_move SET account_id = 'z' WHERE id = 1")
    assert_rules_hold(rules)
    sql("INSERT INTO archive_account (code) VALUES ('z')")
    assert_rules_hold(rules)
    pairs = [(model, rule) for model, declared in rules for rule in declared]
    with as_committed(connection, pairs):
        assert sql("SELECT code, change FROM archive_account ORDER BY code") == [("a", 0), ("b", 0), ("z", 1)]


def test_other_statements_are_planned_as_before(
    tables: tuple[type[models.Model], type[models.Model]], sql: Sql
) -> None:
    """Steps of several targets plan their statements once; the session's own setting is back afterwards."""
    make_tables(*tables)
    sql("INSERT INTO archive_account (code) VALUES ('a'), ('b')")
    keep(rules_of(tables[0], Timing.IMMEDIATE))
    sql("SET LOCAL plan_cache_mode = 'force_custom_plan'")
    sql("SET LOCAL enable_seqscan = 'on'")
    sql(
        "INSERT INTO archive_move (account_id, delta, before, after, found, source, locked) SELECT chr(97 + n % 2), 5, 1, 2, true, 'x', '' FROM generate_series(1, 10) AS n"
    )
    assert sql("SHOW plan_cache_mode") == [("force_custom_plan",)]
    assert sql("SHOW enable_seqscan") == [("on",)]
    sql("DELETE FROM archive_move")
    assert sql("SHOW plan_cache_mode") == [("force_custom_plan",)]
    assert sql("SHOW enable_seqscan") == [("on",)]
    assert sql("SELECT change FROM archive_account") == [(0,), (0,)]


def test_extrema_are_looked_up_only_where_the_best_may_have_left(
    tables: tuple[type[models.Model], type[models.Model]], sql: Sql
) -> None:
    """What is stored may be wrong and stays so, as long as it is better than what comes and than what goes."""
    make_tables(*tables)
    sql("INSERT INTO archive_account (code) VALUES ('a')")
    keep(rules_of(tables[0], Timing.IMMEDIATE))
    row = "INSERT INTO archive_move (id, account_id, delta, before, after, found, source, locked) VALUES (%s, 'a', %s + 4, %s, 2, true, 'x', '')"
    for key in (1, 2, 3):
        sql(row, key, key, key)
    sql("SET LOCAL trigger_kit.depth = '0'; UPDATE archive_account SET highest = 100; RESET trigger_kit.depth")
    for statement in (
        "INSERT INTO archive_move (id, account_id, before, after, found, source, locked) VALUES (4, 'a', 4, 2, true, 'x', '')",
        "UPDATE archive_move SET before = 50 WHERE id = 1",
        "UPDATE archive_move SET before = 2 WHERE id = 1",
        "DELETE FROM archive_move WHERE id = 3",
    ):
        sql(statement)
        assert sql("SELECT highest FROM archive_account") == [(100,)]
    sql("UPDATE archive_move SET before = 101 WHERE id = 1")
    assert sql("SELECT highest FROM archive_account") == [(101,)]
    sql("DELETE FROM archive_move WHERE id = 1")
    assert sql("SELECT highest FROM archive_account") == [(4,)]
