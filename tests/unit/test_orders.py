"""System checks of subqueries and ordered aggregates: which of several rows, and in which order."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.postgres.aggregates import ArrayAgg, JSONBAgg, StringAgg
from django.contrib.postgres.expressions import ArraySubquery
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import (
    Count,
    F,
    OuterRef,
    Q,
    Subquery,
    Sum,
)
from django.db.models.functions import (
    Lower,
    Upper,
)

from tests.unit.declaring import (
    assert_accepted,
    assert_refused,
    author,
    book,
    books,
    chapter,
    declared,
    keep,
)
from trigger_kit import Denormalize

pytestmark = pytest.mark.usefixtures("registry")


# Which rows, and in which order -------------------------------------------------------------------------------------


def united() -> Any:
    return Subquery(books().union(books()).values("pages")[:1])


def first_of_each() -> Any:
    return Subquery(books().order_by("title").distinct("title").values("pages")[:1])


def extra_column() -> Any:
    return Subquery(books().extra(select={"a": "pages"}).order_by("pk").values("a")[:1])


def extra_where() -> Any:
    return Subquery(books().extra(where=["library_book.pages > 1"]).order_by("pk").values("pages")[:1])


def extra_order() -> Any:
    return Subquery(books().extra(order_by=["pages"]).values("pages")[:1])


@pytest.mark.parametrize("expression", [united, first_of_each, extra_column, extra_where, extra_order])
def test_e025_subqueries_whose_columns_are_not_known(expression: Any) -> None:
    keep("total", expression)
    assert_refused("E025", "library.Author:total", "cannot be kept: ", "Write it with ")


NAMES = ArrayField(models.TextField(null=True), null=True, editable=False)


def unordered_list() -> Any:
    return ArraySubquery(books().values("title"))


def list_with_ties() -> Any:
    return ArraySubquery(books().order_by("pages").values("title"))


def one_of_the_shortest() -> Any:
    return Subquery(books().order_by("pages").values("title")[:1])


def one_of_no_order() -> Any:
    return Subquery(books().values("title")[:1])


def bare_queryset() -> Any:
    return books().order_by("pages").values("title")[:1]


def by_a_row_far_away() -> Any:
    return Subquery(books().order_by("chapters__id").values("title")[:1])


def any_three() -> Any:
    three_books = books().order_by("pages")[:3]
    return StringAgg("books__title", ",", order_by="books__id", filter=Q(books__in=three_books))


def most_frequent_with_ties() -> Any:
    return Subquery(books().values("title").annotate(n=Count("*")).order_by("-n").values("title")[:1])


@pytest.mark.parametrize(
    ("field", "expression"),
    [
        ("names", ArrayAgg("books__title")),
        ("names", ArrayAgg("books__title", distinct=True)),
        ("names", ArrayAgg("books__title", order_by="books__pages")),
        ("names", ArrayAgg("books__title", order_by="books__nickname")),
        ("names", ArrayAgg("books__chapters__name", order_by="books__id")),
        ("names", ArrayAgg("books__title", order_by="books__chapters__id")),
        ("names", ArrayAgg("books__title", order_by="friends__id")),
        ("text", StringAgg("books__title", ",")),
        ("text", StringAgg("books__title", ",", order_by="-books__pages")),
        ("document", JSONBAgg("books__pages")),
        ("names", unordered_list),
        ("names", list_with_ties),
        ("text", one_of_the_shortest),
        ("text", one_of_no_order),
        ("text", bare_queryset),
        ("text", by_a_row_far_away),
        ("text", any_three),
        ("text", most_frequent_with_ties),
    ],
)
def test_e027_order_must_be_total(field: str, expression: Any) -> None:
    author(Denormalize(field, expression), names=NAMES, friends=models.ManyToManyField("self"))
    book(nickname=models.CharField(max_length=9, unique=True, null=True))
    chapter(name=models.TextField())
    assert_refused("E027", f"library.Author:{field}", "is not total: ", "Order by a unique column as well")


def ordered_list() -> Any:
    return ArraySubquery(books().order_by("pages", "pk").values("title"))


def list_in_its_own_order() -> Any:
    return ArraySubquery(books().order_by("title").values("title"))


def shortest_title() -> Any:
    return Subquery(books().annotate(low=Lower("title")).order_by("low").values("low")[:1])


def latest() -> Any:
    return Subquery(books().order_by("-published_at", "-pk").values("title")[:1])


def second() -> Any:
    return books().order_by("code").values("title")[1:2]


def most_frequent() -> Any:
    return Subquery(books().values("title").annotate(n=Count("*")).order_by("-n", "title").values("title")[:1])


@pytest.mark.parametrize(
    ("field", "expression"),
    [
        ("names", ArrayAgg("books__title", order_by="books__title")),
        ("names", ArrayAgg("books__title", distinct=True, order_by="books__title")),
        ("names", ArrayAgg("books__title", order_by=("-books__pages", "books__id"))),
        ("names", ArrayAgg("books__title", order_by="books__code")),
        ("names", ArrayAgg(Lower("books__title"), order_by="books__title")),
        ("names", ArrayAgg("friends__label", order_by=("friends__label", "friends__id"))),
        ("names", ArrayAgg("books__author__label", order_by="books__id")),
        ("text", StringAgg("books__title", ",", order_by="books__pk")),
        ("document", JSONBAgg("books__pages", order_by="books__pages")),
        ("document", JSONBAgg("books__pages", order_by=("books__published_at", "books__id"))),
        ("names", ordered_list),
        ("names", list_in_its_own_order),
        ("text", shortest_title),
        ("text", latest),
        ("text", second),
        ("text", most_frequent),
    ],
)
def test_accepted_total_orders(field: str, expression: Any) -> None:
    author(Denormalize(field, expression), names=NAMES, friends=models.ManyToManyField("self"))
    book(code=models.CharField(max_length=9, unique=True))
    assert_accepted()


def all_pages() -> Any:
    return Subquery(books().values("pages"))


def bare_pages() -> Any:
    return books().values("pages")


def two_of_them() -> Any:
    return Subquery(books().order_by("pk").values("pages")[:2])


@pytest.mark.parametrize("expression", [all_pages, bare_pages, two_of_them])
def test_e028_subqueries_of_several_rows(expression: Any) -> None:
    keep("total", expression)
    assert_refused("E028", "library.Author:total", "a subquery may give several rows", "Take one")


def by_title() -> Any:
    return Subquery(books().values("title").annotate(total=Sum("pages")).values("total"))


def test_e028_subqueries_of_several_groups() -> None:
    keep("total", by_title)
    reason = "a subquery may give several groups"
    assert_refused("E028", "library.Author:total", reason, ".order_by().values('author').annotate(…)")


@pytest.mark.parametrize(
    ("field", "expression"),
    [
        ("total", F("books__pages")),
        ("total", F("books__pages") + Count("friends", distinct=True)),
        ("text", Upper("books__title")),
        ("flag", Q(books__published=True)),
    ],
)
def test_e028_columns_of_many_rows_without_an_aggregate(field: str, expression: Any) -> None:
    author(Denormalize(field, expression), friends=models.ManyToManyField("self"))
    book()
    reason = "of many rows of library.Book, and says not which"
    assert_refused("E028", f"library.Author:{field}", reason, "First('…', order_by=…)")


def by_key() -> Any:
    return Subquery(declared("Author").objects.filter(pk=OuterRef("parent")).values("parent__label"))


def by_two_columns() -> Any:
    return Subquery(books().filter(number=1).values("title"))


@pytest.mark.parametrize("expression", [by_key, by_two_columns])
def test_accepted_subqueries_whose_filter_names_one_row(expression: Any) -> None:
    author(
        Denormalize("text", expression),
        parent=models.ForeignKey("Author", models.CASCADE, null=True, related_name="children"),
    )
    book(
        meta={"constraints": [models.UniqueConstraint(fields=["author", "number"], name="one_number")]},
        number=models.IntegerField(),
    )
    assert_accepted()
