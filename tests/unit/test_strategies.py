"""Which strategy keeps which expression."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.postgres.aggregates import ArrayAgg, BoolOr, JSONBAgg
from django.db.models import (
    Avg,
    Case,
    Count,
    F,
    Max,
    Min,
    Model,
    OuterRef,
    Q,
    StdDev,
    Subquery,
    Sum,
    Value,
    When,
)
from django.db.models import Exists as DjangoExists
from django.db.models.functions import Abs, Coalesce, Concat, Length, Lower, Upper

from tests.archive.aggregates import StringAgg
from tests.archive.models import Country, Line, Node, Note, Novel, Person, Publisher, Review, Series, Tag, Work
from trigger_kit import Denormalize, Exists, First, Rows
from trigger_kit.maintenance.explain import explain
from trigger_kit.plan.kept_columns import KeptColumn, Strategy
from trigger_kit.plan.plan import plan
from trigger_kit.plan.strategy import kept_column, serve_averages
from trigger_kit.resolve.rule import resolve

Case_ = tuple[type[Model], str, Any]


def latest_text() -> Any:
    return Subquery(Rows("archive.Review").filter(work=OuterRef("pk")).order_by("-created", "-pk").values("text")[:1])


def has_review() -> Any:
    return DjangoExists(Rows("archive.Review").filter(work=OuterRef("pk")))


DELTA: list[Case_] = [
    (Work, "the_count", Count("reviews")),
    (Work, "the_count", Count("reviews__stars")),
    (Work, "the_count", Count("reviews", filter=Q(reviews__stars__gte=2))),
    (Work, "the_count", Count("reviews", filter=Q(reviews__author__name="ann"))),
    (Work, "the_count", Count("tags")),
    (Work, "the_count", Count("notes")),
    (Work, "the_count", Count("lines")),
    (Work, "the_count", Coalesce(Count("reviews"), 0)),
    (Line, "the_count", Count("remarks")),
    (Tag, "the_count", Count("works", filter=Q(works__published=True))),
    (Person, "the_count", Count("credits__work")),
    (Publisher, "the_count", Count("works__reviews")),
    (Country, "the_count", Count("publishers__works__reviews")),
    (Node, "the_count", Count("children")),
    (Series, "the_total", Sum("novels__words", default=0)),
    (Publisher, "the_total", Sum("works__price", default=0)),
    (Publisher, "kept_amount", Sum("works__price")),
    (Publisher, "the_total", Sum(F("works__price") * F("works__pages"), default=0)),
    (Work, "the_total", Sum("reviews__stars", default=0)),
    (Publisher, "the_total", Sum("works__doubled", default=0)),
    (Publisher, "kept_number", Sum(Case(When(works__published=True, then=1)))),
    (Work, "kept_number", Sum(Length("reviews__text"))),
    (Work, "kept_number", Sum(Abs("reviews__stars"))),
    (Work, "kept_number", Sum(F("reviews__stars") % 3)),
    (Person, "the_count", Count("written__work")),
]
EXTREMUM: list[Case_] = [
    (Work, "kept_number", Max("reviews__stars")),
    (Work, "kept_moment", Min("reviews__created")),
    (Work, "kept_text", Max("reviews__text")),
    (Publisher, "kept_text", Max("works__title")),
    (Publisher, "kept_amount", Min("works__price")),
    (Publisher, "kept_number", Max("works__reviews__stars")),
    (Node, "kept_number", Max("children__own")),
]
RECOMPUTE: list[Case_] = [
    (Work, "kept_amount", Avg("reviews__stars")),
    (Work, "kept_ratio", StdDev("reviews__stars")),
    (Publisher, "kept_ratio", Sum("works__score")),
    (Publisher, "kept_ratio", Sum("works__price")),
    (Publisher, "kept_ratio", Sum("works__id")),
    (Publisher, "kept_ratio", Sum("works__pages")),
    (Note, "kept_number", Count("work__notes")),
    (Work, "the_total", Sum("reviews__stars", default=7)),
    (Work, "kept_number", Max("reviews__stars", default=7)),
    (Publisher, "kept_number", Max(F("works__pages") + 1)),
    (Work, "the_count", Count("reviews__author", distinct=True)),
    (Work, "the_count", Count("reviews", filter=Q(reviews__stars__gte=F("least")))),
    (Work, "the_count", Count("reviews__author", filter=Q(reviews__author__name__isnull=True))),
    (Person, "the_count", Count("follows__followers")),
    (Node, "the_count", Count("children__children")),
    (Work, "the_flag", Exists("reviews")),
    (Work, "kept_text", First("reviews__text", order_by="-reviews__created")),
    (Person, "last_review", First("reviews", order_by="-reviews__created")),
    (Work, "kept_flag", BoolOr("people__the_flag")),
    (Work, "kept_list", ArrayAgg("reviews__text", order_by="reviews__id")),
    (Work, "kept_text", StringAgg("reviews__text", ",", order_by="reviews__id")),
    (Work, "kept_json", JSONBAgg("reviews__stars", order_by="reviews__stars")),
    (Work, "the_total", F("least") + Count("reviews")),
    (Work, "kept_text", latest_text()),
    (Work, "the_flag", has_review()),
    (Node, "the_total", F("own") + Sum("children__the_total", default=0)),
    (Node, "kept_text", Coalesce(Concat("parent__kept_text", Value("/"), "name"), "name", output_field=Node._meta.get_field("kept_text").clone())),
]  # fmt: skip
COPY: list[Case_] = [
    (Review, "kept_text", F("work__title")),
    (Review, "kept_text", Upper("work__publisher__name")),
    (Review, "kept_number", Case(When(stars__gt=2, then=F("work__pages")), default=Value(1))),
    (Line, "kept_text", F("work__title")),
    (Note, "kept_text", F("work__title")),
    (Note, "kept_number", F("person__the_count")),
    (Novel, "kept_title", F("title")),
    (Novel, "kept_title", F("publisher__country__name")),
    (Node, "kept_text", F("parent__name")),
    (Work, "kept_number", F("pages") * 2),
    (Work, "the_label", Lower("title")),
    (Work, "kept_flag", Q(pages__gt=1) | Q(title="")),
    (Work, "kept_json", F("data__size")),
]
ALL = [
    (strategy, *case)
    for strategy, cases in (
        (Strategy.DELTA, DELTA),
        (Strategy.EXTREMUM, EXTREMUM),
        (Strategy.RECOMPUTE, RECOMPUTE),
        (Strategy.COPY, COPY),
    )
    for case in cases
]


def kept(model: type[Model], field: str, expression: Any) -> KeptColumn:
    return kept_column(resolve(Denormalize(field, expression), model))


@pytest.mark.parametrize(("strategy", "model", "field", "expression"), ALL)
def test_strategy(strategy: Strategy, model: type[Model], field: str, expression: Any) -> None:
    assert kept(model, field, expression).strategy is strategy


@pytest.mark.parametrize(("strategy", "model", "field", "expression"), ALL)
def test_the_plan_names_the_strategy(strategy: Strategy, model: type[Model], field: str, expression: Any) -> None:
    made = plan(model, [Denormalize(field, expression)])
    assert f"strategy: {strategy.value}\n" in explain(made) + "\n"
    # What a copy reads of its own row, the guard sees.
    assert {*made.steps} or strategy is Strategy.COPY


@pytest.mark.parametrize(
    ("expression", "empty"),
    [
        (Count("works"), "0"),
        (Sum("works__pages"), "NULL"),
        (Sum("works__pages", default=0), "0"),
        (Max("works__pages"), "NULL"),
        (Coalesce(Sum("works__pages"), Value(None)), "NULL"),
        (Sum("works__pages", default=3), None),
        (F("number") + Count("works"), None),
        (Count("works", filter=Q(works__pages=F("number"))), None),
    ],
)
def test_value_over_no_rows(expression: Any, empty: str | None) -> None:
    assert kept(Publisher, "kept_number", expression).empty == empty


def test_sums_of_small_integers_are_added_as_bigint_and_decimals_may_be_nan() -> None:
    small, decimal = (kept(Publisher, "the_total", Sum(f"works__{name}", default=0)) for name in ("pages", "price"))
    assert (small.exact_type, small.may_be_nan) == ("bigint", False)
    assert (decimal.exact_type, decimal.may_be_nan) == ("numeric", True)


def test_a_sum_that_the_column_would_round_is_recomputed() -> None:
    assert kept(Publisher, "kept_number", Sum("works__price")).strategy is Strategy.RECOMPUTE


def average_beside(*others: tuple[str, Any]) -> KeptColumn:
    rules = [("kept_amount", Avg("works__pages")), *others]
    return serve_averages([kept(Publisher, field, expression) for field, expression in rules])[0]


def test_an_average_is_served_from_its_sum_and_count() -> None:
    served = average_beside(("the_total", Sum("works__pages", default=0)), ("the_count", Count("works__pages")))
    assert served.strategy is Strategy.DELTA
    assert served.served_by == ("the_total", "the_count")
    assert not served.is_sum


@pytest.mark.parametrize(
    "others",
    [
        [],
        [("the_total", Sum("works__pages", default=0))],
        [("the_count", Count("works__pages"))],
        [("the_total", Sum("works__pages", default=0)), ("the_count", Count("works"))],
        [("the_total", Sum("works__price", default=0)), ("the_count", Count("works__pages"))],
        [
            ("the_total", Sum("works__pages", default=0)),
            ("the_count", Count("works__pages", filter=Q(works__published=True))),
        ],
    ],
)
def test_an_average_needs_both_over_the_same_rows(others: list[tuple[str, Any]]) -> None:
    assert average_beside(*others).strategy is Strategy.RECOMPUTE


def test_an_average_of_a_column_that_is_never_null_is_served_from_a_count_of_rows() -> None:
    rules = [
        ("kept_amount", Avg("credits__share")),
        ("the_total", Sum("credits__share", default=0)),
        ("the_count", Count("credits")),
    ]
    served = serve_averages([kept(Person, field, expression) for field, expression in rules])[0]
    assert served.served_by == ("the_total", "the_count")


def test_a_tree_is_recursive_and_a_count_of_children_is_not() -> None:
    tree = kept(Node, "the_total", F("own") + Sum("children__the_total", default=0))
    assert tree.resolved.is_recursive
    assert not kept(Node, "the_count", Count("children")).resolved.is_recursive
    (edge,) = [edge for edge in plan(Node, [tree.resolved.rule]).edges if edge.is_recursive]
    assert (edge.source, edge.target) == ("archive_node", "archive_node")
