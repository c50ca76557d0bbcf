"""The lean path of a row behind others: it climbs to its target by their foreign keys, over two hops and three."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models import (
    CASCADE,
    Avg,
    BigIntegerField,
    BooleanField,
    Count,
    ForeignKey,
    IntegerField,
    Max,
    Min,
    Model,
    Q,
    Sum,
)
from django.test.utils import isolate_apps

from tests.archive.keeping import Rules, assert_rules_hold, keep, make_tables, open_savepoint
from tests.archive.models import Country, Person, Publisher, Tag, Work
from trigger_kit import Denormalize, Timing
from trigger_kit.maintenance.verify import as_committed
from trigger_kit.plan.plan import Event, plan_all
from trigger_kit.sql.one_row import has_one_row_path

Sql = Callable[..., list[tuple[Any, ...]]]

HERE = "'00000000-0000-0000-0000-00000000000{n}', {n}, {country}"
SEED = (
    "INSERT INTO archive_country (code) VALUES ('a'), ('b')",
    "INSERT INTO archive_publisher (id, number, country_id) VALUES "
    + ", ".join(f"({HERE.format(n=n, country=country)})" for n, country in ((1, "'a'"), (2, "'b'"), (3, "NULL"))),
    "INSERT INTO archive_work (id, publisher_id, published) VALUES (11, 1, true), (12, 2, true), (13, 3, false), (14, NULL, true)",
)
STATEMENTS = (
    "INSERT INTO archive_review (id, work_id, stars, text) VALUES (1, 11, 5, 'x')",
    "INSERT INTO archive_review (id, work_id, stars, text) VALUES (2, 11, NULL, '')",
    "INSERT INTO archive_review (id, work_id, stars, text) VALUES (3, 12, 0, '')",
    # Its publisher has no country, its work no publisher.
    "INSERT INTO archive_review (id, work_id, stars, text) VALUES (4, 13, 4, '')",
    "INSERT INTO archive_review (id, work_id, stars, text) VALUES (5, 14, 3, 'x')",
    "UPDATE archive_review SET text = 'other' WHERE id = 1",
    "UPDATE archive_review SET stars = 2 WHERE id = 1",
    "UPDATE archive_review SET stars = 1 WHERE id = 2",
    "UPDATE archive_review SET stars = NULL WHERE id = 2",
    "UPDATE archive_review SET stars = 5 WHERE id = 4",
    "UPDATE archive_review SET stars = 5 WHERE id = 5",
    "UPDATE archive_review SET stars = stars + 1",
    # A row that moves, and the rows that it goes by.
    "UPDATE archive_review SET work_id = 12 WHERE id = 1",
    "UPDATE archive_review SET work_id = 11, stars = 4 WHERE id = 3",
    "UPDATE archive_work SET publisher_id = 2 WHERE id = 11",
    "UPDATE archive_publisher SET country_id = 'a' WHERE number = 3",
    "UPDATE archive_publisher SET country_id = NULL WHERE number = 2",
    "UPDATE archive_work SET publisher_id = 2 WHERE id = 14",
    "UPDATE archive_review SET stars = 1 WHERE id = 5",
    # Two tables of the path in one statement.
    "WITH moved AS (UPDATE archive_work SET publisher_id = 1 WHERE id = 12) UPDATE archive_review SET stars = 3 WHERE id = 1",
    "WITH gone AS (DELETE FROM archive_review WHERE id = 1) UPDATE archive_work SET publisher_id = 3 WHERE id = 12",
    "UPDATE archive_review SET created = '2025-01-01 12:00+00' WHERE id = 4",
    "UPDATE archive_review SET created = '2025-01-02 12:00+00' WHERE id = 2",
    "UPDATE archive_review SET created = '2024-01-02 12:00+00', stars = -1 WHERE id = 4",
    "UPDATE archive_review SET stars = 7 WHERE id = 4",
    "DELETE FROM archive_review WHERE id = 2",
    "DELETE FROM archive_review WHERE id = 4",
    # A child that comes before the row that it points at.
    "INSERT INTO archive_review (id, work_id, stars, text) VALUES (6, 15, 5, '')",
    "UPDATE archive_review SET stars = 4 WHERE id = 6",
    "INSERT INTO archive_work (id, publisher_id) VALUES (15, 1)",
    "INSERT INTO archive_review (id, work_id, stars, text) VALUES (7, 15, 2, '')",
    "DELETE FROM archive_review WHERE work_id = 11; DELETE FROM archive_work WHERE id = 11",
    "DELETE FROM archive_review WHERE id IN (5, 6)",
    "DELETE FROM archive_review",
)  # fmt: skip


PATHS = {Publisher: "works__reviews", Country: "publishers__works__reviews"}


def three_rules(model: type[Model], timing: Timing) -> Rules:
    path, nothing = PATHS[model], {"default": 0} if timing is Timing.QUEUED else {}
    texts = Q(**{f"{path}__text__contains": "x"})
    expressions = {
        "the_count": Count(path),
        "the_total": Sum(f"{path}__stars", default=0),
        "kept_number": Sum(f"{path}__stars", filter=texts, **nothing),
    }
    if timing is not Timing.QUEUED:
        expressions |= {"kept_moment": Max(f"{path}__created"), "kept_amount": Min(f"{path}__stars")}
    return [(model, [Denormalize(name, expression, timing=timing) for name, expression in expressions.items()])]


@pytest.mark.usefixtures("short_inserts")
@pytest.mark.parametrize("model", PATHS)
@pytest.mark.parametrize("timing", Timing)
def test_single_rows(sql: Sql, model: type[Model], timing: Timing) -> None:
    for statement in SEED:
        sql(statement)
    rules = three_rules(model, timing)
    keep(rules)
    for statement in STATEMENTS:
        sql(statement)
        assert_rules_hold(rules)
    with as_committed(connection, [(model, rule) for model, declared in rules for rule in declared]):
        if timing is not Timing.QUEUED:
            assert set(sql(f"SELECT the_count FROM {model._meta.db_table}")) == {(0,)}


@pytest.mark.usefixtures("short_inserts")
@pytest.mark.parametrize(("timing", "notes"), [(Timing.QUEUED, "tk_pending"), (Timing.DEFERRED, "tk_deferred")])
def test_what_leads_nowhere_leaves_no_note(sql: Sql, timing: Timing, notes: str) -> None:
    """A work without a publisher: a note without a key would wait for ever."""
    for statement in SEED:
        sql(statement)
    keep(three_rules(Publisher, timing))
    sql("INSERT INTO archive_review (id, work_id, stars, text) VALUES (1, 14, 5, 'x')")
    sql("UPDATE archive_review SET stars = 4 WHERE id = 1")
    assert sql(f"SELECT count(*) FROM {notes}_archive_publisher") == [(0,)]
    sql("UPDATE archive_review SET work_id = 11 WHERE id = 1")
    assert sql(f"SELECT count(*) FROM {notes}_archive_publisher") != [(0,)]


@pytest.mark.parametrize(
    ("model", "expression", "is_lean"),
    [
        (Publisher, Count("works__reviews"), True),
        (Publisher, Sum("works__reviews__stars"), True),
        (Publisher, Count("works__reviews", filter=Q(works__reviews__stars__gt=3)), True),
        (Country, Count("publishers__works__reviews"), True),
        (Publisher, Count("works__reviews", filter=Q(works__published=True)), False),
        (Publisher, Max("works__reviews__stars"), True),
        (Publisher, Avg("works__reviews__stars"), False),
        (Publisher, Count("works__tags"), True),
        (Publisher, Sum("works__tags__weight"), False),
        (Tag, Count("works__reviews"), False),
        (Person, Sum("works__pages"), False),
        (Work, Count("reviews"), True),
    ],
    ids=str,
)
def test_which_rules_it_is_for(model: Any, expression: Any, is_lean: bool) -> None:
    """A row counts for what it is by itself, and each row on the way points at the next one."""
    (plan,) = plan_all([(model, [Denormalize("kept_number", expression)])])
    path = max((feed.path for edge in plan.edges for feed in edge.feeds), key=len)
    inserts = [step for step in plan.steps if step.event is Event.INSERT and step.edge.source == path[-1].table]
    assert [has_one_row_path(plan, step) for step in inserts] == [is_lean]


@pytest.mark.parametrize("order", [("found", "hits"), ("hits", "found")])
def test_columns_that_are_called_as_a_variable_of_plpgsql(sql: Sql, order: tuple[str, str]) -> None:
    """FOUND says whether a query found a row, unless a column, kept or counted, is called that."""
    with isolate_apps("tests.archive"):

        class Shelf(Model):
            found = BigIntegerField(default=0, db_default=0)
            hits = BigIntegerField(default=0, db_default=0)
            best = BigIntegerField(null=True)

            class Meta:
                app_label = "archive"

        class Box(Model):
            shelf = ForeignKey(Shelf, CASCADE, related_name="boxes")

            class Meta:
                app_label = "archive"

        class Item(Model):
            box = ForeignKey(Box, CASCADE, related_name="items")
            found = BooleanField()
            weight = IntegerField()

            class Meta:
                app_label = "archive"

    make_tables(Shelf, Box, Item)
    sql("INSERT INTO archive_shelf (id) VALUES (1); INSERT INTO archive_box (id, shelf_id) VALUES (1, 1)")
    expressions = {
        "found": Sum("boxes__items__weight", default=0),
        "hits": Count("boxes__items", filter=Q(boxes__items__found=True)),
    }
    for chosen in ([order[0]], list(order), [*order, "best"]):
        named = expressions | {"best": Max("boxes__items__weight")}
        rules: Rules = [(Shelf, [Denormalize(name, named[name]) for name in chosen])]
        savepoint = open_savepoint()
        keep(rules)
        for statement in (
            "INSERT INTO archive_item (id, box_id, found, weight) VALUES (1, 1, true, 5)",
            "INSERT INTO archive_item (id, box_id, found, weight) VALUES (2, 1, false, 9)",
            "UPDATE archive_item SET weight = 7 WHERE id = 2",
            "UPDATE archive_item SET found = NOT found WHERE id = 1",
            "INSERT INTO archive_item (id, box_id, found, weight) VALUES (3, 2, true, 1)",
            "INSERT INTO archive_box (id, shelf_id) VALUES (2, 1)",
            "DELETE FROM archive_item WHERE id = 2",
        ):
            sql(statement)
            assert_rules_hold(rules)
        transaction.savepoint_rollback(savepoint)
