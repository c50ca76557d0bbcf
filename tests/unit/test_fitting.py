"""System checks of values: types that do not fit, NULL into NOT NULL, generated columns."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.postgres.aggregates import ArrayAgg
from django.contrib.postgres.fields import ArrayField, DateRangeField
from django.db import models
from django.db.models import (
    Avg,
    Case,
    Count,
    Exists,
    F,
    Max,
    Min,
    Q,
    Subquery,
    Sum,
    Value,
    When,
)
from django.db.models.functions import (
    Cast,
    Coalesce,
    Concat,
    Greatest,
    Length,
    NullIf,
    Upper,
)

from tests.archive.aggregates import StringAgg
from tests.unit.declaring import (
    assert_accepted,
    assert_refused,
    author,
    book,
    books,
    counted,
    keep,
)
from trigger_kit import Denormalize, First

pytestmark = pytest.mark.usefixtures("registry")
TEXT = models.TextField()
NAMES = ArrayField(models.TextField(), null=True, editable=False)


# Whether the field takes the value ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "expression", "reason"),
    [
        ("text", Count("books"), "a number does not fit a TextField"),
        ("num_books", First("books__title", default=""), "a text does not fit an IntegerField"),
        ("day", Max("books__published_at"), "a time stamp does not fit a DateField"),
        ("flag", Count("books"), "a number does not fit a BooleanField"),
        ("text", F("document__a"), "a JSON value does not fit a TextField"),
        ("short", F("label"), "texts of any length do not fit into 3 characters"),
        ("short", Max("books__title"), "texts of up to 200 characters do not fit into 3 characters"),
        ("names", ArrayAgg("books__pages", order_by="books__id"), "the array's elements are of another type"),
        ("num_books", Coalesce("label", "newest"), "the type of its value is not known"),
        (
            "newest",
            First("friends"),
            "it is a foreign key to library.Book.id, and the value comes from library.Author.id",
        ),
        ("newest", Max("books__pages"), "it is a foreign key to library.Book.id"),
    ],
)
def test_e013_field_must_hold_the_value(field: str, expression: Any, reason: str) -> None:
    author(
        Denormalize(field, expression),
        short=models.CharField(max_length=3, null=True, editable=False),
        names=ArrayField(models.TextField(), null=True, editable=False),
        newest=models.ForeignKey("Book", models.SET_NULL, null=True, related_name="+", editable=False),
        friends=models.ManyToManyField("self"),
    )
    book()
    assert_refused("E013", f"library.Author:{field}", reason, "")


def whole_rows() -> Any:
    return books().order_by("pk")[:1]


def test_e013_a_queryset_must_give_one_column() -> None:
    keep("num_books", whole_rows())
    assert_refused("E013", "library.Author:num_books", "the type of its value is not known", ".values('…')")


@pytest.mark.parametrize(
    ("field", "expression", "reason"),
    [
        ("flag", Max("books__published", default=False), "no max() of a truth value"),
        ("flag", Min("books__published", default=False), "no min() of a truth value"),
        ("code", Max("books__code"), "no max() of a UUID"),
        ("code", Min("books__code"), "no min() of a UUID"),
        ("document", Max("books__data"), "no max() of a JSON value"),
        ("cover", Min("books__cover"), "no min() of a binary value"),
        ("text", Sum("books__title"), "no sum() of a text"),
        ("text", Avg("books__title"), "no avg() of a text"),
        ("total", Avg("books__published"), "no avg() of a truth value"),
        ("total", Coalesce(Avg("books__title", output_field=models.FloatField()) + 1, 0.0), "no avg() of a text"),
    ],
)
def test_e013_aggregates_that_postgresql_does_not_have(field: str, expression: Any, reason: str) -> None:
    author(
        Denormalize(field, expression),
        code=models.UUIDField(null=True, editable=False),
        cover=models.BinaryField(null=True, editable=False),
    )
    book(code=models.UUIDField(null=True), cover=models.BinaryField(null=True), data=models.JSONField(null=True))
    assert_refused("E013", f"library.Author:{field}", f"PostgreSQL has {reason}", "Use BoolOr() or BoolAnd()")


@pytest.mark.parametrize(
    ("field", "expression"),
    [
        ("names", First("books__names", order_by="books__title")),
        ("names", First("books__names", order_by="books__title", default=Value([]))),
        ("names", Coalesce(First("books__names"), Value([]))),
        ("span", First("books__span", order_by="books__title")),
        ("span", First("books__span", default=Value(None))),
    ],
)
def test_e005_the_first_of_arrays_and_ranges(field: str, expression: Any) -> None:
    author(Denormalize(field, expression), names=NAMES, span=DateRangeField(null=True, editable=False))
    book(names=ArrayField(models.TextField()), span=DateRangeField(null=True))
    assert_refused("E005", f"library.Author:{field}", "First", ".annotate()")


def latest_names() -> Any:
    return Subquery(books().order_by("-pk").values("names")[:1])


@pytest.mark.parametrize("expression", [latest_names(), ArrayAgg("books__title", order_by="books__id")])
def test_accepted_arrays(expression: Any) -> None:
    author(Denormalize("names", expression), names=NAMES)
    book(names=ArrayField(models.TextField()))
    assert_accepted()


def latest_pages() -> Any:
    return Subquery(books().order_by("-pk").values("pages")[:1])


@pytest.mark.parametrize(
    ("field", "expression"),
    [
        ("num_books", Sum("books__pages")),
        ("num_books", Sum("books__pages") + 1),
        ("num_books", Max("books__pages", default=None)),
        ("num_books", First("books__pages")),
        ("num_books", latest_pages()),
        ("num_books", F("total") * 2),
        ("num_books", Length("text")),
        ("num_books", Cast("total", models.IntegerField())),
        ("num_books", NullIf("num_pens", Value(0))),
        ("num_books", Case(When(flag=True, then=Value(1)))),
        ("num_books", Case(When(flag=True, then="total"), default=Value(0), output_field=models.IntegerField())),
        ("num_books", Greatest("total", Cast("total", models.DecimalField()))),
        ("label", Upper("text")),
        ("label", F("parent__label")),
        ("label", Cast(F("document__a"), TEXT)),
        ("label", StringAgg("books__title", ",", order_by="books__id")),
        ("flag", Q(total__gt=1)),
        ("flag", Q(total__gt=1, flag=True)),
        ("flag", Q(parent__flag=True)),
    ],
)
def test_e014_null_needs_a_nullable_field(field: str, expression: Any) -> None:
    author(
        Denormalize(field, expression),
        num_pens=models.IntegerField(default=0),
        parent=models.ForeignKey("Author", models.CASCADE, null=True, related_name="children"),
    )
    book()
    assert_refused("E014", f"library.Author:{field}", "its value can be NULL", "Set null=True on the field")


def test_e014_generated_columns_may_be_null() -> None:
    doubled = models.GeneratedField(expression=F("pages") * 2, output_field=models.IntegerField(), db_persist=True)
    author()
    rules = [Denormalize("shown", F("doubled_of__doubled"))]
    book(
        meta={"denormalizations": rules},
        doubled=doubled,
        doubled_of=models.ForeignKey("Book", models.CASCADE, related_name="+"),
        shown=models.IntegerField(editable=False),
    )
    assert_refused("E014", "library.Book:shown", "its value can be NULL", "Set null=True on the field")


def has_books() -> Any:
    return Exists(books())


def number_of_books() -> Any:
    grouped = books().order_by().values("author").annotate(number=Count("*"))
    return Coalesce(Subquery(grouped.values("number")), 0)


@pytest.mark.parametrize(
    ("field", "expression"),
    [
        ("num_books", Coalesce(Sum("books__pages") + 1, 0)),
        ("num_books", Sum("books__pages", default=7)),
        ("num_books", number_of_books()),
        ("num_books", Greatest("num_cats", "num_pens")),
        (
            "num_books",
            Case(When(total__isnull=False, then="total"), default=Value(0), output_field=models.IntegerField()),
        ),
        ("num_books", Case(When(total__gt=3, then="total"), default=Value(0), output_field=models.IntegerField())),
        ("label", Concat("text", "text")),
        ("label", Coalesce("text", Value(""), output_field=TEXT)),
        ("label", First("books__title", default="none")),
        ("flag", has_books()),
        ("flag", Q(total__isnull=True)),
        ("flag", ~Q(total=3)),
        ("flag", Q(total__gt=1, total__isnull=False)),
        ("flag", Q(total__gt=1) | Q(total__isnull=True)),
        ("flag", Coalesce(Q(total__gt=1), False)),
    ],
)
def test_accepted_values_that_are_never_null(field: str, expression: Any) -> None:
    author(
        Denormalize(field, expression),
        num_pens=models.IntegerField(default=0),
        num_cats=models.IntegerField(null=True),
    )
    book()
    assert_accepted()


# Generated columns --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("expression", [counted(books__double__gt=1), Count("books__double")])
def test_e023_virtual_generated_columns(expression: Any) -> None:
    author(Denormalize("num_books", expression))
    book(double=models.GeneratedField(expression=F("pages") * 2, output_field=models.IntegerField(), db_persist=False))
    reason = "library.Book.double is a virtual generated column, which triggers see as NULL"
    assert_refused("E023", "library.Author:num_books", reason, "Set db_persist=True on it.")


def test_e023_a_generated_column_of_the_same_row() -> None:
    double = models.GeneratedField(expression=F("pens") * 2, output_field=models.IntegerField(), db_persist=True)
    author(Denormalize("total", F("double") + 1), pens=models.IntegerField(), double=double)
    reason = "library.Author.double is a generated column of the same row"
    assert_refused("E023", "library.Author:total", reason, "Write the expression of the generated column")


@pytest.mark.parametrize("expression", [counted(books__double__gt=1), Count("books__double")])
def test_accepted_stored_generated_column(expression: Any) -> None:
    author(Denormalize("num_books", expression))
    book(double=models.GeneratedField(expression=F("pages") * 2, output_field=models.IntegerField(), db_persist=True))
    assert_accepted()
