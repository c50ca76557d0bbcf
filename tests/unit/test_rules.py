"""Denormalize: its shape, its equality and its repr."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from django.db import models
from django.db.models import Case, Count, F, OuterRef, Q, Subquery, Sum, Value, When
from django.db.models.functions import Coalesce

from tests.library.models import Book
from trigger_kit import Denormalize, Guard, Level, Timing
from trigger_kit.notation import describe

COUNT = Count("books")


class Language(models.TextChoices):
    ENGLISH = "en"


@pytest.mark.parametrize("field", [None, 3, "", b"num_books", F("num_books")])
def test_field_must_be_a_name(field: Any) -> None:
    with pytest.raises(TypeError, match="takes the name of a field first"):
        Denormalize(field, COUNT)


def test_field_must_not_be_a_path() -> None:
    with pytest.raises(ValueError, match="'author__num_books' looks like a path.*the model that has the field"):
        Denormalize("author__num_books", COUNT)


@pytest.mark.parametrize("expression", [None, 3, "books", ["books"]])
def test_expression_must_be_one(expression: Any) -> None:
    with pytest.raises(TypeError, match=r"takes a Django expression such as Count\('books'\)"):
        Denormalize("num_books", expression)


@pytest.mark.parametrize(
    ("name", "value", "choices"),
    [
        ("timing", "deferred", "Timing.IMMEDIATE, Timing.DEFERRED, Timing.QUEUED"),
        ("guard", True, "Guard.KEEP, Guard.RAISE"),
        ("level", Timing.IMMEDIATE, "Level.STATEMENT, Level.ROW"),
    ],
)
def test_options_must_be_enum_members(name: str, value: Any, choices: str) -> None:
    with pytest.raises(TypeError) as caught:
        Denormalize("num_books", COUNT, **{name: value})
    assert f"Denormalize('num_books', …): {name} is one of {choices}, not {value!r}." == str(caught.value)


def test_options_are_keyword_only() -> None:
    with pytest.raises(TypeError):
        Denormalize("num_books", COUNT, Timing.DEFERRED)  # type: ignore[misc]


def named_function() -> Count:
    return Count("books")


@pytest.mark.parametrize(
    ("function", "name"), [(named_function, "named_function"), (lambda: COUNT, "<lambda>"), (Count, "Count")]
)
def test_a_function_is_refused_with_the_way_out(function: Any, name: str) -> None:
    with pytest.raises(TypeError) as caught:
        Denormalize("num_books", function)
    assert f"takes an expression, not the function {name}" in str(caught.value)
    assert "Subquery(Rows('library.Review').filter(book=OuterRef('pk'))" in str(caught.value)


BOOKS = Book.objects.filter(author=OuterRef("pk"))


@pytest.mark.parametrize(
    "expression",
    [
        BOOKS.values("title")[:1],
        Subquery(BOOKS.values("title")[:1]),
        models.Exists(BOOKS),
        ~models.Exists(BOOKS),
        Coalesce(Subquery(BOOKS.values("pages")[:1]), 0),
        Count("books", filter=Q(books__in=BOOKS)),
        Count("books", filter=~Q(Q(books__in=BOOKS.query), books__pages=1)),
        Case(When(models.Exists(BOOKS), then=1), default=2),
    ],
)
def test_a_queryset_is_refused_with_the_way_out(expression: Any) -> None:
    with pytest.raises(TypeError, match=r"cannot hold a queryset: write it down as Rows, such as Rows\('library"):
        Denormalize("num_books", expression)


def test_defaults() -> None:
    rule = Denormalize("num_books", COUNT)
    assert (rule.timing, rule.guard, rule.level) == (Timing.IMMEDIATE, Guard.KEEP, Level.STATEMENT)


def test_deconstruct_leaves_defaults_out() -> None:
    rule = Denormalize("num_books", COUNT, timing=Timing.IMMEDIATE, guard=Guard.KEEP, level=Level.STATEMENT)
    assert rule.deconstruct() == ("trigger_kit.Denormalize", ("num_books", COUNT), {})


def test_deconstruct_keeps_what_differs() -> None:
    rule = Denormalize("num_books", COUNT, timing=Timing.QUEUED, guard=Guard.RAISE, level=Level.ROW)
    _, _, options = rule.deconstruct()
    assert options == {"timing": Timing.QUEUED, "guard": Guard.RAISE, "level": Level.ROW}


def test_clone_is_equal_but_another_object() -> None:
    rule = Denormalize("num_books", COUNT, guard=Guard.RAISE)
    clone = rule.clone()
    assert clone == rule
    assert clone is not rule


def test_clone_keeps_a_subclass() -> None:
    class Special(Denormalize):
        pass

    assert type(Special("num_books", COUNT).clone()) is Special


def test_equal_declarations_are_equal_and_hash_alike() -> None:
    one = Denormalize("num_books", Count("books", filter=Q(books__a=1) | ~Q(books__b=2)))
    other = Denormalize("num_books", Count("books", filter=Q(books__a=1) | ~Q(books__b=2)))
    assert one == other
    assert hash(one) == hash(other)
    assert {one, other} == {one}


@pytest.mark.parametrize(
    "other",
    [
        Denormalize("num_published", COUNT),
        Denormalize("num_books", Count("books", filter=Q(books__a=1))),
        Denormalize("num_books", Sum("books")),
        Denormalize("num_books", COUNT, timing=Timing.DEFERRED),
        Denormalize("num_books", COUNT, guard=Guard.RAISE),
        Denormalize("num_books", COUNT, level=Level.ROW),
    ],
)
def test_every_part_counts_for_equality(other: Denormalize) -> None:
    assert other != Denormalize("num_books", COUNT)


def test_other_types_are_not_equal() -> None:
    assert Denormalize("num_books", COUNT) != "num_books"
    assert Denormalize("num_books", COUNT).__eq__("num_books") is NotImplemented


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (Denormalize("num_books", Count("books")), 'Denormalize("num_books", Count("books"))'),
        (
            Denormalize("total", Sum("books__pages", default=0), timing=Timing.DEFERRED, guard=Guard.RAISE),
            'Denormalize("total", Sum("books__pages", default=0), timing=Timing.DEFERRED, guard=Guard.RAISE)',
        ),
        (
            Denormalize("num_books", Count("books"), level=Level.ROW),
            'Denormalize("num_books", Count("books"), level=Level.ROW)',
        ),
    ],
)
def test_repr_is_what_its_author_would_write(rule: Denormalize, text: str) -> None:
    assert repr(rule).replace("'", '"') == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Count("books"), 'Count("books")'),
        (Count("books", filter=Q(books__lang="en")), 'Count("books", filter=Q(books__lang="en"))'),
        (Sum("books__pages", default=Decimal("0.5")), "Sum(\"books__pages\", default=Decimal('0.5'))"),
        (Coalesce(Sum("books__pages"), 0), 'Coalesce(Sum("books__pages"), 0)'),
        (F("author__name"), 'F("author__name")'),
        (Value("it's"), 'Value("it\'s")'),
        (Value('say "hi"\n'), r'Value("say \"hi\"\n")'),
        (Q(), "Q()"),
        (Q(a=None), "Q(a=None)"),
        (Q(a=Language.ENGLISH), 'Q(a="en")'),
        (Q(a=F("b")), 'Q(a=F("b"))'),
        (~Q(a=1), "~Q(a=1)"),
        (Q(a=1, b=2), "(Q(a=1) & Q(b=2))"),
        (Q(a=1) & ~Q(b=2), "(Q(a=1) & ~Q(b=2))"),
        (Q(a=1) | ~Q(b="ü"), '(Q(a=1) | ~Q(b="ü"))'),
        (Q(a=1) ^ Q(b=2), "(Q(a=1) ^ Q(b=2))"),
        (~(Q(a=1) | Q(b=2) & Q(c=3)), "~(Q(a=1) | (Q(b=2) & Q(c=3)))"),
        (~(~Q(a=1) & (Q(b=2) | Q(c=3))), "~(~Q(a=1) & (Q(b=2) | Q(c=3)))"),
    ],
)
def test_describe_writes_source_text(value: Any, text: str) -> None:
    assert describe(value) == text


@pytest.mark.parametrize(
    "q",
    [
        Q(a=1) | ~Q(b=2),
        ~(Q(a=1) | Q(b=2) & Q(c=3)),
        ~(~Q(a=1) & (Q(b=2) | Q(c=3))),
        Q(a=1) ^ (Q(b=2) | Q(c="it's")),
        ~~Q(a=1),
    ],
)
def test_described_conditions_evaluate_to_equal_ones(q: Q) -> None:
    assert describe(eval(describe(q))) == describe(q)


def test_describe_stays_on_one_line() -> None:
    assert len(describe(Q(a="\n\r\x0b\x0c\x1c\x85\u2028\u2029")).splitlines()) == 1


def test_describe_tells_an_outer_reference_from_a_field() -> None:
    assert describe(OuterRef("pk")) == 'OuterRef("pk")'
    assert describe(OuterRef(OuterRef("pk"))) == 'OuterRef(OuterRef("pk"))'


def test_describe_keeps_the_bounds_of_a_slice() -> None:
    assert describe(F("name")[0:3]) == 'Sliced(F("name"), slice(0, 3, None))'


@pytest.mark.parametrize(
    ("kind", "members"),
    [
        (Timing, {"IMMEDIATE": "immediate", "DEFERRED": "deferred", "QUEUED": "queued"}),
        (Guard, {"KEEP": "keep", "RAISE": "raise"}),
        (Level, {"STATEMENT": "statement", "ROW": "row"}),
    ],
)
def test_enums_have_these_members(kind: Any, members: dict[str, str]) -> None:
    assert {member.name: member.value for member in kind} == members
