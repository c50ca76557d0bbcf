"""What indexes rules want, which ones serve them, and which ones make their writes dearer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from django.contrib.postgres.constraints import ExclusionConstraint
from django.contrib.postgres.indexes import BrinIndex, GinIndex
from django.db import models
from django.db.models import Avg, Count, F, Max, Min, Model, Q, Sum
from django.db.models.functions import Upper
from django.test.utils import isolate_apps

from tests.archive.aggregates import StringAgg
from tests.archive.models import Person, Publisher, Work
from tests.unit.declaring import declare
from trigger_kit import Denormalize, Exists, First, Timing
from trigger_kit.database.indexes import KeyColumn, TableIndex, UpdateCounts, declared_indexes
from trigger_kit.maintenance.advice import (
    NAME_LENGTH,
    WantedIndex,
    hindering_indexes,
    is_short_of_room,
    make_room,
    wanted_indexes,
)
from trigger_kit.maintenance.explain import explain
from trigger_kit.plan.plan import plan

BASE = "archive_work (publisher_id)"


def wanted(expression: Any, field: str = "kept_number", model: type[Model] = Publisher, **options: Any) -> list[str]:
    """Return the indexes that a rule wants, as plan prints them."""
    (kept,) = plan(model, [Denormalize(field, expression, **options)]).kept_columns
    return [index.words for index in wanted_indexes(kept)]


def special(expression: Any, field: str = "kept_number", model: type[Model] = Publisher) -> WantedIndex:
    """Return the index of a rule that is more than what finds its rows."""
    (kept,) = plan(model, [Denormalize(field, expression)]).kept_columns
    return wanted_indexes(kept)[-1]


# Wanted -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "field", "words", "code"),
    [
        (Max("works__day"), "kept_day", "(publisher_id, day)", 'fields=["publisher", "day"], name="…"'),
        (
            First("works__title", order_by="-works__day"),
            "kept_text",
            "(publisher_id, day DESC, id)",
            'fields=["publisher", "-day", "id"], name="…"',
        ),
        (
            First("works__title", order_by=F("works__day").desc(nulls_last=True)),
            "kept_text",
            "(publisher_id, day DESC, id)",
            '"publisher", F("day").desc(nulls_last=True), F("id").asc(nulls_last=True), name="…"',
        ),
        (
            Exists("works", filter=Q(works__published=True)),
            "the_flag",
            "(publisher_id) where Q(published=True)",
            'fields=["publisher"], name="…", condition=Q(published=True)',
        ),
        (
            Exists("works", filter=Q(works__editor=3) & ~Q(works__title="")),
            "the_flag",
            "(publisher_id) where Q(editor=3)",
            'fields=["publisher"], name="…", condition=Q(editor=3)',
        ),
        (
            Min("works__pages", filter=Q(works__pages__gt=3, works__published=True)),
            "kept_number",
            "(publisher_id, pages) where (Q(pages__gt=3) & Q(published=True))",
            'fields=["publisher", "pages"], name="…", condition=(Q(pages__gt=3) & Q(published=True))',
        ),
        (
            Sum("works__pages", filter=Q(works__published=True) | Q(works__day__isnull=True)),
            "kept_number",
            "(publisher_id) where (Q(published=True) | Q(day__isnull=True))",
            'fields=["publisher"], name="…", condition=(Q(published=True) | Q(day__isnull=True))',
        ),
        (Avg("works__pages"), "kept_ratio", "(publisher_id) INCLUDE (pages)", '…"publisher"], name="…", include=["pages"]'),
        (
            StringAgg("works__title", ",", order_by=("-works__title", "works__id")),
            "kept_text",
            "(publisher_id, title DESC, id)",
            'fields=["publisher", "-title", "id"], name="…"',
        ),
    ],
)  # fmt: skip
def test_what_a_look_up_wants(expression: Any, field: str, words: str, code: str) -> None:
    assert wanted(expression, field) == [BASE, f"archive_work {words}"]
    index = special(expression, field)
    printed = index.code.replace(index.name, "…")
    assert printed.startswith("models.Index(")
    assert printed.removesuffix(")").endswith(code.lstrip("…"))
    assert len(index.name) <= NAME_LENGTH
    made = eval(index.code, {"models": models, "F": F, "Q": Q})
    assert made == index.build()


@pytest.mark.parametrize(
    ("expression", "field"),
    [
        (Count("works", filter=Q(works__published=True)), "the_count"),
        (Sum("works__pages"), "kept_number"),
        (Sum("works__pages", default=0, filter=Q(works__published=True)), "the_total"),
        (Exists("works"), "the_flag"),
        # No Q says it of the row alone, or it is not known to.
        (Exists("works", filter=~Q(works__pages=3)), "the_flag"),
        (Exists("works", filter=Q(works__pages__gt=F("works__least"))), "the_flag"),
        (Exists("works", filter=Q(works__editor__name="")), "the_flag"),
        (Exists("works", filter=Q(works__day__year=2000)), "the_flag"),
        (Exists("works", filter=Q(works__editor=3) | ~Q(works__title="")), "the_flag"),
        # An entry of a B-tree holds no long values.
        (StringAgg("works__the_label", ",", order_by=("works__id",)), "kept_text"),
    ],
)
def test_what_wants_no_more_than_the_key(expression: Any, field: str) -> None:
    assert wanted(expression, field)[0] == BASE
    assert all("where" not in words and "INCLUDE" not in words for words in wanted(expression, field))


def test_plan_warns_where_an_index_would_refuse_long_values() -> None:
    assert "(with it, PostgreSQL refuses rows whose the_label has more than 2,700 bytes)" in (
        special(Max("works__the_label"), "kept_text").gain
    )
    assert "refuses" not in special(Max("works__title"), "kept_text").gain


def test_a_key_that_waits_wants_the_same() -> None:
    assert wanted(Max("works__day"), "kept_day", timing=Timing.DEFERRED)[-1] == "archive_work (publisher_id, day)"


def test_paths_want_an_index_for_every_look_up_either_way() -> None:
    assert wanted(Sum("works__reviews__stars", default=0), "the_total") == [BASE, "archive_review (work_id)"]
    assert wanted(F("publisher__country__name"), "kept_text", Work) == [BASE, "archive_publisher (country_id)"]
    assert wanted(Max("tags__weight"), "kept_number", Work) == [
        "archive_work_tags (work_id)",
        "archive_work_tags (tag_id)",
    ]


def test_an_order_along_a_path_is_found_where_it_begins_only() -> None:
    assert wanted(First("reviews__work__title", order_by="-reviews__created"), "kept_text", Person)[-1] == (
        "archive_review (author_id, created DESC, id)"
    )
    assert "archive_review (author_id, pages)" not in wanted(Max("reviews__work__pages"), "kept_number", Person)
    printed = explain(plan(Person, [Denormalize("kept_number", Max("reviews__work__pages"))]))
    assert "kept_number: extremum, O(1), and O(group) when the extremum leaves" in printed


def test_indexes_with_other_conditions_have_other_names() -> None:
    one, two = (special(Exists("works", filter=Q(works__pages=number)), "the_flag") for number in (1, 2))
    assert one.name != two.name
    assert one.name.startswith("work_publisher_id_")


# Served -------------------------------------------------------------------------------------------------------------

DAY = KeyColumn("day")
LAST = KeyColumn("day", is_descending=True, nulls_first=True)
KEY = KeyColumn("publisher_id")
INDEX = TableIndex("an_index", "btree", (KEY, DAY), reads=frozenset({"publisher_id", "day"}))
FIRST = First("works__title", order_by=["-works__day", "-works__id"])


@pytest.mark.parametrize(
    ("index", "serves"),
    [
        (INDEX, True),
        (replace(INDEX, keys=(KEY, LAST)), True),
        (replace(INDEX, keys=(KEY, DAY, KeyColumn("id"))), True),
        (replace(INDEX, keys=(KEY,)), False),
        (replace(INDEX, keys=(DAY, KEY)), False),
        (replace(INDEX, keys=(KeyColumn(""), DAY)), False),
        (replace(INDEX, is_partial=True), False),
        (replace(INDEX, method="gist"), False),
    ],
)
def test_which_index_serves_an_extremum(index: TableIndex, serves: bool) -> None:
    assert special(Max("works__day"), "kept_day").is_served_by(index) is serves


@pytest.mark.parametrize(
    ("keys", "serves"),
    [
        ((KEY, LAST, KeyColumn("id", True, True)), True),
        ((KEY, DAY, KeyColumn("id")), True),
        ((KEY, DAY), True),
        ((KEY, LAST, KeyColumn("id")), True),
        ((KEY, KeyColumn("id"), DAY), False),
        ((KEY,), False),
        ((KEY, KeyColumn("day", is_descending=True), KeyColumn("id", True, True)), False),
    ],
)
def test_which_index_serves_an_order(keys: tuple[KeyColumn, ...], serves: bool) -> None:
    assert special(FIRST, "kept_text").is_served_by(replace(INDEX, keys=keys)) is serves


def test_a_filter_is_served_by_a_partial_index_that_reads_its_columns() -> None:
    index = special(Exists("works", filter=Q(works__published=True)), "the_flag")
    partial = TableIndex("p", "btree", (KEY,), reads=frozenset({"publisher_id", "published"}), is_partial=True)
    assert index.is_served_by(partial)
    assert not index.is_served_by(replace(partial, is_partial=False))
    assert not index.is_served_by(replace(partial, reads=frozenset({"publisher_id", "pages"})))


def test_what_is_read_beside_may_be_a_key_or_be_included() -> None:
    index = special(Avg("works__pages"), "kept_ratio")
    assert index.is_served_by(replace(INDEX, keys=(KEY, KeyColumn("pages"))))
    assert index.is_served_by(replace(INDEX, included=("pages",)))
    assert not index.is_served_by(INDEX)


def test_plan_says_which_index_is_there_and_how_to_add_another() -> None:
    printed = explain(plan(Publisher, [Denormalize("kept_day", Max("works__day"))]))
    assert f"wants an index on {BASE}: there (db_index of publisher)\n" in printed
    assert (
        "wants an index on archive_work (publisher_id, day): not there; without it, the whole group is read" in printed
    )
    assert '\n          add to archive.Work: models.Index(fields=["publisher", "day"], name="' in printed


def test_plan_knows_tables_that_have_no_model_to_write_to() -> None:
    printed = explain(plan(Work, [Denormalize("kept_number", Max("tags__weight"))]), indexes=lambda model: [])
    assert "wants an index on archive_work_tags (tag_id): not there" in printed
    assert "\n          add it by migrations.RunSQL\n" in printed


# Declared -----------------------------------------------------------------------------------------------------------


@isolate_apps("tests.library")
def test_declared_indexes_say_what_they_read() -> None:
    constraints = [
        models.UniqueConstraint(Upper("label"), name="by_expression", condition=Q(flag=True), include=["total"]),
        models.UniqueConstraint(fields=["label", "total"], name="by_fields"),
        models.CheckConstraint(condition=Q(total__gt=0), name="no_index"),
        ExclusionConstraint(name="excluding", expressions=[("total", "="), (F("label"), "=")]),
    ]
    indexes = [
        models.Index(fields=["-total", "label"], name="by_order", include=["flag"]),
        models.Index(F("total").asc(nulls_first=True), name="by_nulls", condition=Q(label__gt="")),
        GinIndex(fields=["label"], name="gin"),
        BrinIndex(fields=["total"], name="brin"),
    ]
    made = declare(
        "Kept",
        meta={"indexes": indexes, "constraints": constraints, "unique_together": [("flag", "total")]},
        label=models.CharField(max_length=9, unique=True, db_column="Label"),
        total=models.IntegerField(db_index=True),
        flag=models.BooleanField(),
    )
    found = {index.name: index for index in declared_indexes(made)}
    assert set(found) == {
        "the primary key", "unique=True of label", "db_index of total", "unique_together of flag, total",
        "by_expression", "by_fields", "excluding", "by_order", "by_nulls", "gin", "brin",
    }  # fmt: skip
    assert found["by_expression"].keys == (KeyColumn(""),)
    assert found["by_expression"].reads == {"Label", "flag", "total"}
    assert found["by_expression"].is_partial
    assert found["by_expression"].included == ("total",)
    assert found["by_order"].keys == (KeyColumn("total", True, True), KeyColumn("Label"))
    assert found["by_order"].included == ("flag",)
    assert found["by_nulls"].keys == (KeyColumn("total", nulls_first=True),)
    assert found["excluding"].method == "gist"
    assert found["excluding"].reads == {"Label", "total"}
    assert (found["gin"].method, found["brin"].method, found["by_nulls"].method) == ("gin", "brin", "btree")


@isolate_apps("tests.library")
@pytest.mark.parametrize(
    ("index", "is_named"),
    [
        (models.Index(fields=["num_books"], name="it"), True),
        (models.Index(fields=["name"], name="it", include=["num_books"]), True),
        (models.Index(fields=["name"], name="it", condition=Q(num_books__gt=0)), True),
        (models.Index(F("num_books") + 1, name="it"), True),
        (models.Index(fields=["name"], name="it"), False),
        (BrinIndex(fields=["num_books"], name="it"), False),
    ],
)
def test_an_index_over_a_kept_column_hinders_hot_updates(index: models.Index, is_named: bool) -> None:
    model = declare(
        "Writer",
        meta={"indexes": [index]},
        name=models.CharField(max_length=9),
        num_books=models.IntegerField(default=0, editable=False),
    )
    declare("Text", writer=models.ForeignKey(model, models.CASCADE, related_name="texts"))
    kept = plan(model, [Denormalize("num_books", Count("texts"))])
    assert hindering_indexes(kept, declared_indexes) == ([("it", ["num_books"])] if is_named else [])
    assert ("no HOT updates: it holds num_books" in explain(kept)) is is_named
    assert ("HOT updates: possible" in explain(kept)) is not is_named


# Room ---------------------------------------------------------------------------------------------------------------

COUNTS = UpdateCounts(all=10_000, hot=5_000, moved=5_000, fillfactor=100)


@pytest.mark.parametrize(
    ("counts", "is_short"),
    [
        (COUNTS, True),
        (replace(COUNTS, moved=None), True),
        (replace(COUNTS, moved=1_000), False),
        (replace(COUNTS, hot=9_000, moved=None), False),
        (replace(COUNTS, all=999, hot=0, moved=999), False),
        (replace(COUNTS, fillfactor=50), False),
    ],
)
def test_room_is_advised_where_updates_find_none(counts: UpdateCounts, is_short: bool) -> None:
    assert is_short_of_room(counts) is is_short
    kept = plan(Publisher, [Denormalize("the_count", Count("works"))])
    assert (make_room(kept) in explain(kept, counts=counts)) is is_short


def test_plan_says_what_a_database_has_seen() -> None:
    kept = plan(Publisher, [Denormalize("the_count", Count("works"))])
    assert "seen: 10,000 updates of archive_publisher, 50% of them HOT, 50% went to another page (fillfactor 100)" in (
        explain(kept, counts=COUNTS)
    )
    assert "seen" not in explain(kept, counts=replace(COUNTS, all=0))
    assert "SET (fillfactor = 50)" in make_room(kept)
