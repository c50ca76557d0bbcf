"""How migrations write Rows: readable, and read back as an equal rule."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.postgres.aggregates import ArrayAgg
from django.contrib.postgres.expressions import ArraySubquery
from django.db.migrations.autodetector import OperationDependency
from django.db.migrations.writer import MigrationWriter
from django.db.models import (
    BooleanField,
    Case,
    Count,
    Exists,
    F,
    FilteredRelation,
    OuterRef,
    Q,
    Subquery,
    TextField,
    When,
)
from django.db.models.functions import Coalesce

from tests.library.models import Book
from trigger_kit import Denormalize, Rows, Timing
from trigger_kit.migration.dependencies import creates

REVIEWS = Rows("library.Review").filter(book=OuterRef("pk"))

WRITTEN: dict[str, tuple[Any, str]] = {
    "Subquery": (
        Subquery(REVIEWS.order_by("-created", "-pk").values("text")[:1]),
        "models.Subquery(trigger_kit.Rows('library.Review').filter(book=models.OuterRef('pk'))"
        ".order_by('-created', '-pk').values('text')[:1])",
    ),
    "options": (
        Subquery(REVIEWS.values("text")[1:2], output_field=TextField(), template="(%(subquery)s )"),
        "models.Subquery(trigger_kit.Rows('library.Review').filter(book=models.OuterRef('pk')).values('text')[1:2], "
        "output_field=models.TextField(), template='(%(subquery)s )')",
    ),
    "Exists": (
        Exists(REVIEWS.exclude(Q(stars=1) | Q(stars=2), text="a")),
        "models.Exists(trigger_kit.Rows('library.Review').filter(book=models.OuterRef('pk'))"
        ".exclude(models.Q(('stars', 1), ('stars', 2), _connector='OR'), text='a'))",
    ),
    "not": (
        ~Exists(REVIEWS),
        "django.db.models.expressions.NegatedExpression(models.Exists("
        "trigger_kit.Rows('library.Review').filter(book=models.OuterRef('pk'))))",
    ),
    "ArraySubquery": (
        ArraySubquery(REVIEWS.order_by("pk").values_list("text", flat=True)),
        "django.contrib.postgres.expressions.ArraySubquery(trigger_kit.Rows('library.Review')"
        ".filter(book=models.OuterRef('pk')).order_by('pk').values_list('text', flat=True))",
    ),
    "bare": (
        REVIEWS.reverse().distinct()[:],
        "trigger_kit.Rows('library.Review').filter(book=models.OuterRef('pk')).reverse().distinct()[:]",
    ),
    "in": (
        Count("reviews", filter=Q(reviews__in=Rows("library.Review").filter(stars__in=[1, 2]))),
        "django.db.models.aggregates.Count('reviews', filter=models.Q(('reviews__in', "
        "trigger_kit.Rows('library.Review').filter(stars__in=[1, 2]))))",
    ),
    "order of names": (
        Subquery(Rows("a.B").annotate(b=Count("x"), a=F("b") + 1).filter(b=1, a=2).values("a")[:1]),
        "models.Subquery(trigger_kit.Rows('a.B').annotate(b=django.db.models.aggregates.Count('x'), "
        "a=django.db.models.expressions.CombinedExpression(models.F('b'), '+', models.Value(1)))"
        ".filter(a=2, b=1).values('a')[:1])",
    ),
    "relation": (
        Exists(Rows("a.B").alias(r=FilteredRelation("c", condition=Q(c__d=1))).filter(r__d=1)),
        "models.Exists(trigger_kit.Rows('a.B').alias(r=models.FilteredRelation('c', condition=models.Q(('c__d', 1))))"
        ".filter(r__d=1))",
    ),
    "nested": (
        Exists(Rows("a.B").filter(Exists(Rows("a.C").filter(d=OuterRef(OuterRef("pk")))), e__in=Rows("a.E"))),
        "models.Exists(trigger_kit.Rows('a.B').filter(models.Exists(trigger_kit.Rows('a.C')"
        ".filter(d=models.OuterRef(models.OuterRef('pk')))), e__in=trigger_kit.Rows('a.E')))",
    ),
    "inside": (
        Coalesce(Case(When(Exists(REVIEWS), then=1)), 0),
        "django.db.models.functions.comparison.Coalesce(models.Case(models.When(models.Exists("
        "trigger_kit.Rows('library.Review').filter(book=models.OuterRef('pk'))), then=1)), 0)",
    ),
    "setting": (
        Exists(Rows("auth.User").filter(pk=OuterRef("author"))),
        "models.Exists(trigger_kit.Rows(settings.AUTH_USER_MODEL).filter(pk=models.OuterRef('author')))",
    ),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_a_migration_holds_what_its_author_wrote(name: str) -> None:
    expression, text = WRITTEN[name]
    assert MigrationWriter.serialize(expression)[0] == text


@pytest.mark.parametrize("name", WRITTEN)
def test_a_migration_reads_back_as_an_equal_rule(name: str) -> None:
    rule = Denormalize("field", WRITTEN[name][0], timing=Timing.DEFERRED)
    for _ in range(2):
        text, imports = MigrationWriter.serialize(rule)
        names: dict[str, Any] = {}
        exec("\n".join(sorted(imports)), names)
        found = eval(text, names)
        assert found == rule
        assert repr(found) == repr(rule)
        rule = found


def test_a_setting_is_imported() -> None:
    _, imports = MigrationWriter.serialize(Rows("auth.user"))
    assert imports == {"import trigger_kit", "from django.conf import settings"}
    _, imports = MigrationWriter.serialize(Rows("library.Book"))
    assert imports == {"import trigger_kit"}


def test_a_rule_over_a_model_that_may_be_swapped_waits_for_its_setting() -> None:
    waits = OperationDependency("__setting__", "AUTH_USER_MODEL", "username", OperationDependency.Type.CREATE)
    assert creates(get_user_model(), "username") == waits
    assert creates(Book, None) == OperationDependency("library", "book", None, OperationDependency.Type.CREATE)


def test_other_arguments_of_a_subquery_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"^A migration cannot hold hint of Subquery\(Rows\(.*output_field and template\.$"
    ):
        MigrationWriter.serialize(Subquery(REVIEWS, hint=1))
    with pytest.raises(
        ValueError, match="^A migration cannot hold a subquery over a queryset: write the queryset with Rows"
    ):
        MigrationWriter.serialize(Exists(Book.objects.all()))


def test_what_django_writes_is_left_alone() -> None:
    for value in (Count("books"), Q(a=1), BooleanField(), ArrayAgg("a", order_by="b"), [1, (2,)], {"a"}):
        assert "trigger_kit" not in MigrationWriter.serialize(value)[0]
