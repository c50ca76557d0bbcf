"""The two aggregates that Django does not have: ``Exists`` and ``First``."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import FieldError
from django.db.models import F, Model, Q
from django.db.models.expressions import Col
from django.db.models.functions import Lower
from django.db.models.sql import Query

from tests.archive.models import Line, Person, Publisher, Work
from trigger_kit import Denormalize, Exists, First
from trigger_kit.notation import describe
from trigger_kit.resolve.columns import offline_connection


def resolved(model: type[Model], expression: Any) -> Any:
    query = Query(model)
    query.add_annotation(expression, "value")
    return query.annotations["value"]


def sql_of(model: type[Model], expression: Any) -> str:
    query = Query(model)
    query.add_annotation(expression, "value")
    compiler = query.get_compiler(connection=offline_connection())
    sql, _ = compiler.compile(query.annotations["value"])
    return str(sql.replace('"', ""))


def names(expressions: Any) -> list[str]:
    """Return ``table.column`` of resolved columns, with ``-`` where the order descends."""
    columns = [(getattr(item, "expression", item), getattr(item, "descending", False)) for item in expressions]
    assert all(isinstance(column, Col) for column, _ in columns)
    return [f"{'-' * down}{column.target.model._meta.model_name}.{column.target.column}" for column, down in columns]


# Declaration --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [3, None, Lower("reviews__text"), Q(reviews__text="a")])
def test_first_takes_a_path(path: Any) -> None:
    with pytest.raises(TypeError, match=r"First takes the path of a column, such as First\('posts__title'\)"):
        First(path)


@pytest.mark.parametrize("order_by", [3, [3], None, ["title", None]])
def test_first_takes_names_or_expressions_to_order_by(order_by: Any) -> None:
    with pytest.raises(TypeError, match="order_by takes names of columns or expressions, not"):
        First("reviews__text", order_by=order_by)


def test_neither_takes_distinct() -> None:
    for kind in (Exists, First):
        with pytest.raises(TypeError, match="does not allow distinct"):
            kind("reviews", distinct=True)


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        (Exists("reviews"), 'Exists("reviews")'),
        (Exists("reviews", filter=Q(reviews__stars=5)), 'Exists("reviews", filter=Q(reviews__stars=5))'),
        (First("reviews__text"), 'First("reviews__text")'),
        (
            First("reviews__text", order_by=["-reviews__stars", F("reviews__created").desc()], default=""),
            'First("reviews__text", order_by=["-reviews__stars", F("reviews__created").desc()], default="")',
        ),
    ],
)
def test_description_is_what_its_author_wrote(expression: Any, text: str) -> None:
    assert describe(expression) == text
    assert repr(Denormalize("field", expression)) == f"Denormalize('field', {text})"


@pytest.mark.parametrize(
    ("expression", "name", "args", "kwargs"),
    [
        (Exists("reviews"), "Exists", ("reviews",), {}),
        (Exists("reviews", filter=Q(a=1)), "Exists", ("reviews",), {"filter": Q(a=1)}),
        (First("a__b", order_by="-a__c"), "First", ("a__b",), {"order_by": "-a__c"}),
        (First("a__b", default=3), "First", ("a__b",), {"default": 3}),
    ],
)
def test_migrations_hold_the_public_name(expression: Any, name: str, args: Any, kwargs: Any) -> None:
    assert expression.deconstruct() == (f"trigger_kit.{name}", args, kwargs)
    assert type(expression)(*args, **kwargs) == expression


def test_equality() -> None:
    def make() -> First:
        return First("a__b", order_by="-a__c", filter=Q(a__d=1), default=0)

    assert make() == make()
    assert hash(make()) == hash(make())
    others = [First("a__b"), First("a__b", order_by="a__c"), First("a__x", order_by="-a__c"), Exists("a__b")]
    assert [other for other in others if other == make()] == []


# Resolution ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "expression", "value", "order"),
    [
        (Work, First("reviews__text"), "review.text", ["review.id"]),
        (Work, First("reviews__text", order_by="-reviews__created"), "review.text", ["-review.created", "review.id"]),
        (Work, First("reviews", order_by="reviews__stars"), "review.id", ["review.stars", "review.id"]),
        (Work, First(F("reviews__text")), "review.text", ["review.id"]),
        (Work, First("reviews__author", order_by="title"), "review.author_id", ["work.title", "review.id"]),
        (Work, First("reviews__author__name"), "person.name", ["review.id"]),
        (Work, First("reviews__work__publisher__name"), "publisher.name", ["review.id"]),
        (Publisher, First("works__reviews__text"), "review.text", ["review.id"]),
        (Work, First("lines__text"), "line.text", ["line.work_id", "line.number"]),
        (Line, First("remarks__text"), "remark.text", ["remark.id"]),
        (Work, First("notes__text"), "note.text", ["note.id"]),
    ],
)
def test_ties_are_broken_by_the_key_of_the_last_row(
    model: type[Model], expression: First, value: str, order: list[str]
) -> None:
    first = resolved(model, expression)
    assert names([first.value]) == [value]
    assert names(first.order) == order


@pytest.mark.parametrize(
    ("model", "path", "key"),
    [
        (Work, "tags__name", "work_tags.tag_id"),
        (Person, "works__title", "credit.work_id"),
        (Person, "friends__name", "person_friends.to_person_id"),
        (Person, "followers__name", "person_follows.from_person_id"),
    ],
)
def test_over_many_to_many_the_key_is_that_of_the_far_row(model: type[Model], path: str, key: str) -> None:
    assert names(resolved(model, First(path)).order) == [key]


def test_the_declared_expression_is_not_changed_by_resolving_it() -> None:
    expression = First("reviews__text", order_by="-reviews__stars")
    before = expression.deconstruct()
    assert sql_of(Work, expression) == sql_of(Work, expression)
    assert expression.deconstruct() == before
    assert len(expression.order) == 1


@pytest.mark.parametrize("path", ["title", "publisher__name", "editor"])
def test_first_needs_related_rows(path: str) -> None:
    with pytest.raises(FieldError, match="First takes a path over related rows"):
        resolved(Work, First(path))


@pytest.mark.parametrize("expression", [First("nope__a"), First("reviews__nope"), First("reviews", order_by="nope")])
def test_names_must_exist(expression: First) -> None:
    with pytest.raises(FieldError):
        resolved(Work, expression)


def test_the_type_is_that_of_the_value() -> None:
    assert resolved(Work, First("reviews__stars")).output_field.get_internal_type() == "IntegerField"
    assert resolved(Work, Exists("reviews")).output_field.get_internal_type() == "BooleanField"


# SQL ----------------------------------------------------------------------------------------------------------------


def test_sql_of_first() -> None:
    sql = sql_of(Work, First("reviews__text", order_by="-reviews__stars", filter=Q(reviews__text__gt="a")))
    assert sql == (
        "(ARRAY_AGG(archive_review.text ORDER BY archive_review.stars DESC, archive_review.id ASC) "
        "FILTER (WHERE archive_review.id IS NOT NULL AND archive_review.text > %s))[1]"
    )


def test_sql_of_a_default() -> None:
    assert sql_of(Work, First("reviews__text", default="none")).startswith("COALESCE((ARRAY_AGG(")
    assert sql_of(Work, First("reviews__stars", filter=~Q(pk__in=[]), default=0)).endswith("[1], %s)")


@pytest.mark.parametrize(
    ("expression", "sql"),
    [
        (Exists("reviews"), "(COUNT(archive_review.id) > 0)"),
        (Exists("lines"), "(COUNT(archive_line.work_id) > 0)"),
        (
            Exists("reviews", filter=Q(reviews__stars=5)),
            "(COUNT(archive_review.id) FILTER (WHERE archive_review.stars = %s) > 0)",
        ),
    ],
)
def test_sql_of_exists(expression: Exists, sql: str) -> None:
    assert sql_of(Work, expression) == sql


def test_over_no_rows_there_is_none() -> None:
    assert Exists.empty_result_set_value is False
    assert First.empty_result_set_value is None
