"""System checks of subqueries and ordered aggregates: which of several rows, and in which order."""

from __future__ import annotations

from typing import Any

import django
import pytest
from django.contrib.postgres.aggregates import ArrayAgg, JSONBAgg
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
    Value,
)
from django.db.models.fields.json import KT
from django.db.models.functions import (
    ATan2,
    Cast,
    Concat,
    Extract,
    Lower,
    Upper,
)

from tests.archive.aggregates import StringAgg
from tests.unit.declaring import (
    assert_accepted,
    assert_refused,
    author,
    book,
    books,
    chapter,
    declare,
    keep,
    only_message,
)
from trigger_kit import Denormalize, Rows

pytestmark = pytest.mark.usefixtures("registry")


# Which rows, and in which order -------------------------------------------------------------------------------------


def first_of_each() -> Any:
    return Subquery(books().order_by("title").distinct("title").values("pages")[:1])


def test_e025_subqueries_whose_columns_are_not_known() -> None:
    keep("total", first_of_each())
    assert_refused("E025", "library.Author:total", "a subquery uses distinct(fields)", "Write it with ")


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
        ("names", unordered_list()),
        ("names", list_with_ties()),
        ("text", one_of_the_shortest()),
        ("text", one_of_no_order()),
        ("text", bare_queryset()),
        ("text", by_a_row_far_away()),
        ("text", any_three()),
        ("text", most_frequent_with_ties()),
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
        ("names", ordered_list()),
        ("names", list_in_its_own_order()),
        ("text", shortest_title()),
        ("text", latest()),
        ("text", second()),
        ("text", most_frequent()),
    ],
)
def test_accepted_total_orders(field: str, expression: Any) -> None:
    author(Denormalize(field, expression), names=NAMES, friends=models.ManyToManyField("self"))
    book(code=models.CharField(max_length=9, unique=True))
    assert_accepted()


# Equal, but not alike -------------------------------------------------------------------------------------------------


def data_as_text() -> Any:
    return Cast(Subquery(books().order_by("data").values("data")[:1]), models.TextField())


def text_of_data() -> Any:
    return Subquery(books().order_by("data").annotate(text=Cast("data", models.TextField())).values("text")[:1])


def days_of_the_shortest() -> Any:
    return Subquery(books().order_by("read_in").annotate(days=Extract("read_in", "day")).values("days")[:1])


def texts_in_the_order_of_data() -> Any:
    return ArraySubquery(books().order_by("data").annotate(text=Cast("data", models.TextField())).values("text"))


def loose_columns() -> dict[str, Any]:
    return {
        "data": models.JSONField(default=dict),
        "alike": models.CharField(max_length=9, db_collation="case_insensitive"),
        "code": models.CharField(max_length=9, db_collation="case_insensitive", unique=True),
    }


LISTS = {
    "names": NAMES,
    "sizes": ArrayField(models.FloatField(null=True), null=True, editable=False),
    "spans": ArrayField(models.DurationField(null=True), null=True, editable=False),
    "papers": ArrayField(models.JSONField(null=True), null=True, editable=False),
}


@pytest.mark.parametrize(
    ("field", "expression"),
    [
        ("text", StringAgg(Cast("books__data", models.TextField()), ",", order_by="books__data")),
        ("names", ArrayAgg(Cast("books__data", models.TextField()), order_by="books__data")),
        ("names", ArrayAgg(KT("books__data__a"), order_by="books__data")),
        ("sizes", ArrayAgg(Extract("books__read_in", "day"), order_by="books__read_in")),
        ("sizes", ArrayAgg(ATan2("books__weight", Value(-1.0)), order_by="books__weight")),
        ("names", ArrayAgg(Lower("books__alike"), order_by="books__alike")),
        ("names", ArrayAgg(Concat("books__alike", Value("!")), order_by="books__alike")),
        ("text", data_as_text()),
        ("text", text_of_data()),
        ("total", days_of_the_shortest()),
        ("names", texts_in_the_order_of_data()),
    ],
)
def test_e027_what_is_made_of_values_that_are_equal_but_not_alike(field: str, expression: Any) -> None:
    author(Denormalize(field, expression), **LISTS)
    book(**loose_columns())
    assert_refused("E027", f"library.Author:{field}", "is not total: ", "Order by a unique column as well")


def least_data() -> Any:
    return Subquery(books().order_by("data").values("data")[:1])


def all_spans() -> Any:
    return ArraySubquery(books().order_by("read_in").values("read_in"))


@pytest.mark.parametrize(
    ("field", "expression"),
    [
        ("papers", ArrayAgg("books__data", order_by="books__data")),
        ("sizes", ArrayAgg("books__weight", order_by="books__weight")),
        ("sizes", ArrayAgg("books__weight", order_by="books__weight", default=Value([]))),
        ("spans", ArrayAgg("books__read_in", order_by="books__read_in")),
        ("names", ArrayAgg("books__alike", order_by="books__alike")),
        ("document", JSONBAgg("books__data", order_by="books__data")),
        ("document", least_data()),
        ("spans", all_spans()),
        ("names", ArrayAgg(Cast("books__data", models.TextField()), order_by=("books__data", "books__id"))),
        ("names", ArrayAgg("books__title", order_by="books__code")),
    ],
)
def test_accepted_orders_by_the_collected_value_itself(field: str, expression: Any) -> None:
    author(Denormalize(field, expression), **LISTS)
    book(**loose_columns())
    assert_accepted()


# Unique, deferrable, composite ----------------------------------------------------------------------------------------


def one_of_number_one() -> Any:
    return Subquery(books().filter(number=1).values("title"))


def one_of_all_authors() -> Any:
    return Subquery(books().order_by("number").values("title")[:1])


def numbered(fields: list[str], deferrable: Any = None) -> Any:
    unique = models.UniqueConstraint(fields=fields, name="one_number", deferrable=deferrable)
    return book(meta={"constraints": [unique]}, number=models.IntegerField())


@pytest.mark.parametrize("fields", [["number"], ["author", "number"]])
@pytest.mark.parametrize("deferrable", models.Deferrable)
@pytest.mark.parametrize(
    ("check_id", "field", "expression"),
    [
        ("E027", "names", ArrayAgg("books__title", order_by="books__number")),
        ("E027", "text", StringAgg("books__title", ",", order_by="books__number")),
        ("E027", "text", one_of_all_authors()),
        ("E028", "text", one_of_number_one()),
    ],
)
def test_a_deferrable_key_lets_rows_tie_for_a_while(
    check_id: str, field: str, expression: Any, deferrable: Any, fields: list[str]
) -> None:
    author(Denormalize(field, expression), names=NAMES)
    numbered(fields, deferrable)
    message = only_message()
    assert message.id == f"trigger_kit.{check_id}"


@pytest.mark.parametrize("fields", [["number"], ["author", "number"]])
@pytest.mark.parametrize(
    ("field", "expression"),
    [
        ("names", ArrayAgg("books__title", order_by="books__number")),
        ("text", StringAgg("books__title", ",", order_by="books__number")),
        ("text", one_of_all_authors()),
        ("text", one_of_number_one()),
    ],
)
def test_accepted_orders_by_a_number_within_the_parent(field: str, expression: Any, fields: list[str]) -> None:
    author(Denormalize(field, expression), names=NAMES)
    numbered(fields)
    assert_accepted()


def line() -> Any:
    return declare(
        "Line",
        pk=models.CompositePrimaryKey("author_id", "number"),
        author=models.ForeignKey("Author", models.CASCADE, related_name="lines"),
        number=models.IntegerField(),
        text=models.TextField(),
    )


@pytest.mark.parametrize("order", [["lines__number"], ["lines__text", "-lines__number"]])
def test_accepted_orders_by_the_rest_of_a_composite_key(order: list[str]) -> None:
    author(Denormalize("names", ArrayAgg("lines__text", order_by=order)), names=NAMES)
    line()
    assert_accepted()


def test_e027_a_number_within_another_row_than_the_parent() -> None:
    """Of all lines of an author's friends, several have the number 1."""
    author(
        Denormalize("names", ArrayAgg("friends__lines__text", order_by="friends__lines__number")),
        names=NAMES,
        friends=models.ManyToManyField("self"),
    )
    line()
    assert_refused("E027", "library.Author:names", "is not total: ", "Order by a unique column as well")


@pytest.mark.skipif(django.VERSION < (6,), reason="StringAgg takes a column as its delimiter from Django 6 on")
@pytest.mark.parametrize(("order", "is_total"), [("books__title", False), (["books__title", "books__pk"], True)])
def test_e027_the_delimiter_is_collected_too(order: Any, is_total: bool) -> None:
    joined = models.StringAgg("books__title", F("books__mark"), order_by=order)  # type: ignore[attr-defined]
    author(Denormalize("text", joined))
    book(mark=models.CharField(max_length=1))
    if is_total:
        assert_accepted()
    else:
        assert_refused("E027", "library.Author:text", "the order of StringAgg is not total", "Order by a unique column")


# One row --------------------------------------------------------------------------------------------------------------


def all_pages() -> Any:
    return Subquery(books().values("pages"))


def bare_pages() -> Any:
    return books().values("pages")


def two_of_them() -> Any:
    return Subquery(books().order_by("pk").values("pages")[:2])


@pytest.mark.parametrize("expression", [all_pages(), bare_pages(), two_of_them()])
def test_e028_subqueries_of_several_rows(expression: Any) -> None:
    keep("total", expression)
    assert_refused("E028", "library.Author:total", "a subquery may give several rows", "Take one")


def by_title() -> Any:
    return Subquery(books().values("title").annotate(total=Sum("pages")).values("total"))


def test_e028_subqueries_of_several_groups() -> None:
    keep("total", by_title())
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
    return Subquery(Rows("library.Author").filter(pk=OuterRef("parent")).values("parent__label"))


def by_two_columns() -> Any:
    return Subquery(books().filter(number=1).values("title"))


@pytest.mark.parametrize("expression", [by_key(), by_two_columns()])
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
