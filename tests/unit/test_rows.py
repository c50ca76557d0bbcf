"""Rows: its shape, its repr, what it is equal to, and what it makes of the models at hand."""

from __future__ import annotations

import copy
import datetime
import pickle
from decimal import Decimal
from typing import Any

import pytest
from django.apps import apps as live_apps
from django.contrib.postgres.expressions import ArraySubquery
from django.core.exceptions import FieldError
from django.db import models
from django.db.migrations.state import ModelState, ProjectState
from django.db.models import (
    BooleanField,
    Case,
    Count,
    DecimalField,
    Exists,
    F,
    FilteredRelation,
    IntegerField,
    OuterRef,
    Q,
    Subquery,
    Sum,
    TextField,
    Value,
    When,
)
from django.db.models.functions import Coalesce, JSONObject
from django.test import override_settings
from django.test.utils import isolate_apps

from tests.archive.models import Review, Work
from trigger_kit import Denormalize, Rows
from trigger_kit.exceptions import RuleError
from trigger_kit.notation import canonical, describe
from trigger_kit.resolve.columns import offline_connection
from trigger_kit.resolve.rule import resolve
from trigger_kit.rows import RowsError

REVIEWS = Rows("archive.Review").filter(work=OuterRef("pk"))
LATEST = REVIEWS.order_by("-created", "-pk").values("text")[:1]


def sql_of(rows: Any) -> str:
    compiler = rows.query.get_compiler(connection=offline_connection())
    sql, params = compiler.as_sql()
    return f"{sql} {params}"


# Shape --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("label", [None, 3, "", "Review", "library.", ".Review", "a.b.Review", "library review", Rows])
def test_the_label_must_be_one(label: Any) -> None:
    with pytest.raises(TypeError, match=r"takes the label of a model, such as Rows\('library.Review'\), not"):
        Rows(label)


def test_a_model_is_refused_with_its_label() -> None:
    with pytest.raises(TypeError, match=r"not the model: Rows\('archive.Review'\)"):
        Rows(Review)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("filter", ("work",)),
        ("filter", (3,)),
        ("filter", (Q,)),
        ("exclude", ("work",)),
        ("annotate", (3,)),
        ("alias", ("stars",)),
        ("order_by", (3,)),
        ("order_by", (["stars"],)),
        ("values", (None,)),
        ("values_list", (b"stars",)),
        ("distinct", (3,)),
    ],
)
def test_arguments_must_have_the_right_shape(name: str, values: Any) -> None:
    with pytest.raises(TypeError, match=rf"{name}\(\) takes (conditions|expressions|names)"):
        getattr(Rows("archive.Review"), name)(*values)


@pytest.mark.parametrize("name", ["annotate", "alias", "values"])
def test_named_values_must_be_expressions(name: str) -> None:
    with pytest.raises(TypeError, match=rf"{name}\(\) takes expressions, such as Count\(…\), not 3"):
        getattr(Rows("archive.Review"), name)(number=3)


def test_what_no_migration_could_hold_is_refused() -> None:
    rows = Rows("archive.Review")
    with pytest.raises(TypeError, match=r"Rows.filter\(\) cannot hold a queryset: write it down as Rows"):
        rows.filter(work__in=Work.objects.all())
    with pytest.raises(TypeError, match=r"Rows.annotate\(\) cannot hold a queryset"):
        rows.annotate(a=Coalesce(Subquery(Work.objects.values("pages")[:1]), 0))
    with pytest.raises(TypeError, match=r"filter\(\) cannot hold an iterator"):
        rows.filter(Q(stars__in=iter([1])))
    with pytest.raises(TypeError, match=r"filter\(\) cannot hold an iterator"):
        rows.filter(stars__in=(n for n in (1, 2)))
    with pytest.raises(TypeError, match=r"exclude\(\) cannot hold .*compare with its key"):
        rows.exclude(work=Work(pk=1))


@pytest.mark.parametrize("name", ["all", "first", "get", "count", "union", "extra", "select_related", "aggregate"])
def test_other_methods_are_refused_with_those_that_there_are(name: str) -> None:
    with pytest.raises(AttributeError) as caught:
        getattr(Rows("archive.Review"), name)
    assert str(caught.value) == (
        f"Rows has no {name}(). It has filter, exclude, annotate, alias, order_by, reverse, distinct, values, values_list, "
        "exists and slices."
    )


def test_a_name_that_no_queryset_has_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="'Rows' object has no attribute 'filtre'"):
        Rows("archive.Review").filtre  # noqa: B018


@pytest.mark.parametrize("index", [0, -1, "a", None])
def test_one_row_is_refused_with_a_slice(index: Any) -> None:
    with pytest.raises(TypeError, match=r"is written down and not fetched.*write a slice"):
        Rows("archive.Review")[index]


def test_rows_are_not_iterated_over() -> None:
    with pytest.raises(TypeError, match="is written down and not fetched"):
        list(Rows("archive.Review"))


@pytest.mark.parametrize(
    "bounds", [slice(-1, None), slice(None, -1), slice("a", None), slice(None, 1.5), slice(None, True)]
)
def test_bounds_are_numbers_from_0_on(bounds: Any) -> None:
    with pytest.raises(ValueError, match="are numbers from 0 on"):
        Rows("archive.Review")[bounds]


def test_a_slice_has_no_step() -> None:
    with pytest.raises(ValueError, match="has no step"):
        Rows("archive.Review")[0:4:2]


def test_rows_do_not_change() -> None:
    rows = Rows("archive.Review")
    for change in (
        lambda: setattr(rows, "label", "a.B"),
        lambda: setattr(rows, "a", 1),
        lambda: delattr(rows, "label"),
    ):
        with pytest.raises(AttributeError, match="Rows do not change"):
            change()
    assert rows.filter(stars=1) is not rows
    assert rows.calls == ()


# Writing ------------------------------------------------------------------------------------------------------------

WRITTEN: list[tuple[Any, str]] = [
    (Rows("archive.Review"), 'Rows("archive.Review")'),
    (Rows("archive.review"), 'Rows("archive.Review")'),
    (Rows("archive.reviw"), 'Rows("archive.reviw")'),
    (
        LATEST,
        'Rows("archive.Review").filter(work=OuterRef("pk")).order_by("-created", "-pk").values("text")[:1]',
    ),
    (Rows("archive.Review")[2:], 'Rows("archive.Review")[2:]'),
    (Rows("archive.Review")[2:5], 'Rows("archive.Review")[2:5]'),
    (Rows("archive.Review")[:], 'Rows("archive.Review")[:]'),
    (Rows("archive.Review").reverse().distinct().order_by(), 'Rows("archive.Review").reverse().distinct().order_by()'),
    (
        Rows("archive.Review").exclude(Q(stars=1) | Q(text="a"), work__in=[1, 2]),
        'Rows("archive.Review").exclude((Q(stars=1) | Q(text="a")), work__in=[1, 2])',
    ),
    (Rows("archive.Review").values_list("text", flat=True), 'Rows("archive.Review").values_list("text", flat=True)'),
    (Rows("archive.Review").values("work", n=Count("*")), 'Rows("archive.Review").values("work", n=Count("*"))'),
    (Rows("archive.Review").order_by(F("stars").desc()), 'Rows("archive.Review").order_by(F("stars").desc())'),
    (
        Rows("archive.Work").filter(pk__in=REVIEWS.filter(author=OuterRef(OuterRef("pk"))).values("work")),
        'Rows("archive.Work").filter(pk__in=Rows("archive.Review").filter(work=OuterRef("pk"))'
        '.filter(author=OuterRef(OuterRef("pk"))).values("work"))',
    ),
    (
        Rows("archive.Work").alias(r=FilteredRelation("reviews", condition=Q(reviews__stars=5))),
        'Rows("archive.Work").alias(r=FilteredRelation("reviews", condition=Q(reviews__stars=5)))',
    ),
    (REVIEWS.exists(), 'Exists(Rows("archive.Review").filter(work=OuterRef("pk")))'),
    (~Exists(REVIEWS), '~Exists(Rows("archive.Review").filter(work=OuterRef("pk")))'),
    (Subquery(REVIEWS[:1]), 'Subquery(Rows("archive.Review").filter(work=OuterRef("pk"))[:1])'),
    (
        Subquery(REVIEWS.values("a"), output_field=TextField(), template="(%(subquery)s)"),
        'Subquery(Rows("archive.Review").filter(work=OuterRef("pk")).values("a"), output_field=TextField())',
    ),
    (
        ArraySubquery(REVIEWS.values("text"), template="array(%(subquery)s)"),
        'ArraySubquery(Rows("archive.Review").filter(work=OuterRef("pk")).values("text"), template="array(%(subquery)s)")',
    ),
    (Coalesce(Subquery(REVIEWS), 0), 'Coalesce(Subquery(Rows("archive.Review").filter(work=OuterRef("pk"))), 0)'),
]


@pytest.mark.parametrize(("value", "text"), WRITTEN)
def test_rows_are_printed_as_their_author_wrote_them(value: Any, text: str) -> None:
    assert describe(value) == text
    if not isinstance(value, Rows):
        assert repr(Denormalize("field", value)) == f"Denormalize('field', {text})"
    else:
        assert repr(value) == text


@pytest.mark.parametrize("value", [value for value, _ in WRITTEN if isinstance(value, Rows)])
def test_copies_are_equal(value: Rows) -> None:
    assert copy.copy(value) == copy.deepcopy(value) == value
    assert pickle.loads(pickle.dumps(value)) == value
    assert eval(repr(value)) == value


# Equality -----------------------------------------------------------------------------------------------------------


def latest(label: str = "library.Review", **options: Any) -> Subquery:
    return Subquery(Rows(label).filter(book=OuterRef("pk")).order_by("-created")[:1], **options)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (latest(), latest()),
        (latest(), latest("library.review")),
        (Rows("a.B").filter(b=1, a=2), Rows("a.B").filter(a=2, b=1)),
        (Rows("a.B").exclude(b=1, a=2), Rows("a.b").exclude(a=2, b=1)),
        (Rows("a.B").annotate(b=Count("x"), a=Count("y")), Rows("a.B").annotate(a=Count("y"), b=Count("x"))),
        (JSONObject(b="x", a="y"), JSONObject(a="y", b="x")),
        (Exists(REVIEWS), REVIEWS.exists()),
        (Q(a__in=Rows("a.B")), Q(a__in=Rows("a.b"))),
        (latest(template="(%(subquery)s)"), latest()),
        (Value("x"), Value(models.TextChoices("Letter", {"X": "x"}).X)),  # type: ignore[attr-defined]
        (
            Value(datetime.datetime(2024, 1, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=1)))),
            Value(datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)),
        ),
    ],
)
def test_what_is_written_alike_is_equal(one: Any, other: Any) -> None:
    assert canonical(one) == canonical(other)
    assert Denormalize("n", one) == Denormalize("n", other)
    assert hash(Denormalize("n", one)) == hash(Denormalize("n", other))
    if isinstance(one, Rows):
        assert (one, hash(one)) == (other, hash(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (latest(), latest("library.Book")),
        (latest(), latest("Library.Review")),
        (latest(), latest(output_field=TextField())),
        (latest(), latest(template="(%(subquery)s )")),
        (latest(), Exists(Rows("library.Review").filter(book=OuterRef("pk")).order_by("-created")[:1])),
        (Rows("a.B").filter(a=1), Rows("a.B").exclude(a=1)),
        (Rows("a.B").filter(a=1), Rows("a.B").filter(a=True)),
        (Rows("a.B").filter(a=1), Rows("a.B").filter(a="1")),
        (Rows("a.B").filter(a=OuterRef("b")), Rows("a.B").filter(a=F("b"))),
        (Rows("a.B").filter(a=1).filter(b=1), Rows("a.B").filter(a=1, b=1)),
        (Rows("a.B")[:1], Rows("a.B")[1:]),
        (Rows("a.B").annotate(b=F("x"), a=F("b")), Rows("a.B").annotate(a=F("b"), b=F("x"))),
        (Q(a=1) & Q(b=2), Q(a=1) | Q(b=2)),
        (Q(a=1), ~Q(a=1)),
        (Sum("a", output_field=DecimalField(max_digits=9)), Sum("a", output_field=DecimalField(max_digits=8))),
        (Value(Decimal("1.0")), Value(Decimal("1.00"))),
        (Exists(REVIEWS), ~Exists(REVIEWS)),
    ],
)
def test_what_is_written_otherwise_is_not_equal(one: Any, other: Any) -> None:
    assert canonical(one) != canonical(other)
    assert Denormalize("n", one) != Denormalize("n", other)
    assert not isinstance(one, Rows) or one != other


def test_rows_are_not_equal_to_something_else() -> None:
    assert Rows("a.B") != "Rows(a.b)"


def test_lists_are_copied() -> None:
    stars, names, weights = [1], ["a"], {"a": [1]}
    rows = (
        Rows("archive.Review").filter(Q(text__in=names), stars__in=stars).annotate(w=Value(weights, models.JSONField()))
    )
    before = repr(rows), canonical(rows), sql_of(rows.queryset())
    stars.append(2)
    names.clear()
    weights["a"].append(2)
    assert (repr(rows), canonical(rows), sql_of(rows.queryset())) == before


# What is made of them -----------------------------------------------------------------------------------------------

QUERYSETS: dict[str, Any] = {
    "all": lambda rows: rows,
    "filter": lambda rows: rows.filter(Q(stars=1) | Q(text="a"), work__pages__gt=3),
    "exclude": lambda rows: rows.exclude(work__tags__weight=3),
    "annotate": lambda rows: rows.annotate(b=Count("work__tags"), a=F("b") + 1).filter(a__gt=1),
    "positional annotation": lambda rows: rows.annotate(Count("work__tags")).values("work__tags__count"),
    "alias": lambda rows: rows.alias(b=F("stars") + 1).filter(b=2),
    "order": lambda rows: rows.order_by("-stars", F("text").asc(nulls_first=True)).reverse(),
    "distinct": lambda rows: rows.values("work").distinct(),
    "groups": lambda rows: rows.order_by().values("work").annotate(n=Count("*")).values("n"),
    "values": lambda rows: rows.values("work_id", double=F("stars") * 2),
    "values_list": lambda rows: rows.values_list("text", flat=True)[2:4],
    "named values_list": lambda rows: rows.values_list("text", "stars", named=True),
    "slice": lambda rows: rows.order_by("pk")[3:],
    "relation": lambda rows: rows.alias(t=FilteredRelation("work__tags", condition=Q(work__tags__active=True))).filter(
        t__weight=1
    ),
}


@pytest.mark.parametrize("name", QUERYSETS)
def test_a_queryset_is_what_these_calls_make(name: str) -> None:
    make = QUERYSETS[name]
    assert sql_of(make(Rows("archive.Review")).queryset()) == sql_of(make(models.QuerySet(Review)))


IN_QUERIES: dict[str, Any] = {
    "Subquery": lambda rows, of: of("Work").annotate(
        v=Subquery(rows("Review").filter(work=OuterRef("pk")).order_by("-pk").values("text")[:1])
    ),
    "bare": lambda rows, of: of("Work").annotate(
        v=rows("Review").filter(work=OuterRef("pk")).order_by("-pk").values("text")[:1]
    ),
    "Exists": lambda rows, of: of("Work").filter(Exists(rows("Review").filter(work=OuterRef("pk")).order_by("pk"))),
    "not Exists": lambda rows, of: of("Work").filter(~Exists(rows("Review").filter(work=OuterRef("pk")))),
    "ArraySubquery": lambda rows, of: of("Work").annotate(
        v=ArraySubquery(rows("Review").filter(work=OuterRef("pk")).order_by("pk").values("stars"))
    ),
    "in": lambda rows, of: of("Work").filter(publisher__in=rows("Publisher").filter(name="a")),
    "in a key": lambda rows, of: of("Work").filter(pk__in=rows("Review").filter(stars=1).values("work")),
    "not in": lambda rows, of: of("Work").exclude(pk__in=rows("Review").filter(stars=1).values("work")),
    "equal": lambda rows, of: of("Review").filter(work=rows("Work").order_by("pk").values("pk")[:1]),
    "condition": lambda rows, of: of("Work").annotate(
        v=Case(When(Exists(rows("Review").filter(work=OuterRef("pk"))), then=1), default=0)
    ),
    "typed condition": lambda rows, of: of("Work").filter(
        Subquery(rows("Tag").filter(pk=OuterRef("pages")).values("active")[:1], output_field=BooleanField())
    ),
    "filter of an aggregate": lambda rows, of: of("Publisher").annotate(
        v=Count("works", filter=Q(works__in=rows("Work").exclude(reviews__stars=5)))
    ),
    "nested": lambda rows, of: of("Publisher").annotate(
        v=Subquery(
            rows("Work")
            .filter(
                Exists(rows("Review").filter(work=OuterRef("pk"), stars__lt=OuterRef(OuterRef("number")))),
                publisher=OuterRef("number"),
            )
            .order_by("pk")
            .values("title")[:1]
        )
    ),
    "nested annotation": lambda rows, of: of("Publisher").annotate(
        v=Subquery(
            rows("Work")
            .filter(publisher=OuterRef("number"))
            .annotate(n=Subquery(rows("Review").filter(work=OuterRef("pk")).order_by("pk").values("stars")[:1]))
            .order_by("n", "pk")
            .values("n")[:1]
        )
    ),
    "arithmetic": lambda rows, of: of("Work").annotate(
        v=Coalesce(Subquery(rows("Review").filter(work=OuterRef("pk")).order_by("pk").values("stars")[:1]), 0)
        + F("pages")
    ),
    "order": lambda rows, of: of("Work").order_by(
        Subquery(rows("Review").filter(work=OuterRef("pk")).order_by("pk").values("stars")[:1]).desc()
    ),
    "another type": lambda rows, of: of("Work").annotate(
        v=Subquery(
            rows("Review").filter(work=OuterRef("pk")).order_by("pk").values("stars")[:1], output_field=TextField()
        )
    ),
}


def ordinary(name: str) -> Any:
    return models.QuerySet(live_apps.get_model("archive", name))


def written(name: str) -> Rows:
    return Rows(f"archive.{name}")


@pytest.mark.parametrize("name", IN_QUERIES)
def test_a_query_over_rows_is_that_over_a_queryset(name: str) -> None:
    make = IN_QUERIES[name]
    assert sql_of(make(written, ordinary)) == sql_of(make(ordinary, ordinary))
    # Rows that are made of Rows read the same.
    assert sql_of(make(written, written).queryset()) == sql_of(make(ordinary, ordinary))


def test_an_expression_is_resolved_as_often_as_it_is_used() -> None:
    value = Subquery(LATEST)
    texts = {sql_of(Work.objects.annotate(v=value)) for _ in range(3)}
    assert len(texts) == 1
    assert describe(value) == f"Subquery({LATEST!r})"
    assert canonical(value) == canonical(Subquery(LATEST))


def states() -> tuple[Any, Any]:
    """Return the apps of two points of a history, between which columns change their names and types."""
    found = []
    for text, kind in (("text", models.IntegerField()), ("body", models.DecimalField(max_digits=9, decimal_places=2))):
        state = ProjectState()
        key = models.BigAutoField(primary_key=True)
        cascade: Any = models.CASCADE
        state.add_model(ModelState("archive", "Work", [("id", key)]))
        fields = [("id", key.clone()), ("work", models.ForeignKey("archive.Work", cascade)), (text, kind)]
        state.add_model(ModelState("archive", "Review", fields))
        found.append(state.apps)
    return found[0], found[1]


def test_the_models_are_those_of_the_query_around() -> None:
    before, after = states()
    value = Subquery(REVIEWS.values("text")[:1])
    for _ in range(2):
        query = models.QuerySet(before.get_model("archive", "Work")).annotate(v=value)
        assert type(query.query.annotations["v"].output_field) is IntegerField
        assert query.query.annotations["v"].field.model is before.get_model("archive", "Review")
        live = models.QuerySet(Work).annotate(v=value)
        assert type(live.query.annotations["v"].output_field) is models.TextField
    with pytest.raises(FieldError, match="Cannot resolve keyword 'text'"):
        models.QuerySet(after.get_model("archive", "Work")).annotate(v=value)


def test_the_type_is_asked_for() -> None:
    with pytest.raises(
        FieldError, match=r"is not known before it is resolved: say it, as in Subquery\(…, output_field="
    ):
        Subquery(LATEST).output_field  # noqa: B018


# Errors -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("label", "hint"),
    [
        ("archive.Reviw", "Did you mean 'archive.Review'?"),
        ("archiv.Review", "Did you mean 'archive.Review'?"),
        ("Archive.review", "Did you mean 'archive.Review'?"),
        ("library.Xyz", "Choose one of: library.Author, "),
        ("xyz.Xyz", "Choose one of: archive.Country, "),
    ],
)
def test_an_unknown_model_has_a_hint(label: str, hint: str) -> None:
    rows = Rows(label).filter()
    with pytest.raises(RowsError) as caught:
        Work.objects.filter(pk__in=rows)
    assert caught.value.problem == f"there is no model {label}"
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("expression", "reason", "hint"),
    [
        (Subquery(Rows("archive.Reviw").values("text")), "there is no model archive.Reviw.", "'archive.Review'?"),
        (Subquery(REVIEWS.values("txt")[:1]), "Cannot resolve keyword 'txt'", "Did you mean 'text'?"),
        (Subquery(REVIEWS.order_by("-creatd")[:1]), "Cannot resolve keyword 'creatd'", "Did you mean 'created'?"),
        (Exists(REVIEWS.filter(star=1)), "Cannot resolve keyword 'star'", "Did you mean 'stars'?"),
        (Exists(Rows("archive.Review").filter(work=OuterRef("titel"))), "keyword 'titel'", "Did you mean 'title'?"),
        (Exists(REVIEWS[:1].filter(stars=1)), "Cannot filter a query once a slice has been taken", "accepts"),
        (Exists(REVIEWS.filter(stars="many")), "expected a number but got 'many'", "accepts"),
        (
            Case(When(Q(Subquery(REVIEWS.values("text")[:1])), then=1)),
            "Cannot filter against a non-conditional",
            "output_field=BooleanField()",
        ),
    ],
)
def test_a_rule_that_cannot_be_resolved_says_why(expression: Any, reason: str, hint: str) -> None:
    with pytest.raises(RuleError) as caught:
        resolve(Denormalize("kept_text", expression), Work)
    assert caught.value.check_id == "trigger_kit.E005"
    assert reason in caught.value.reason
    assert hint in caught.value.hint


def test_a_swapped_model_is_refused_with_its_setting() -> None:
    user, other = (
        ModelState("auth", "User", [("id", models.AutoField(primary_key=True))], {"swappable": "AUTH_USER_MODEL"}),
        ModelState("accounts", "Member", [("id", models.AutoField(primary_key=True))]),
    )
    state = ProjectState({("auth", "user"): user, ("accounts", "member"): other})
    with override_settings(AUTH_USER_MODEL="accounts.Member"):
        apps = state.apps
        with pytest.raises(RowsError) as caught:
            Rows("auth.User").queryset(apps)
        assert Rows("accounts.Member").queryset(apps).model is apps.get_model("accounts", "member")
    assert caught.value.problem == "auth.User is swapped for accounts.Member, and has no table"
    assert "Rows(settings.AUTH_USER_MODEL)" in caught.value.hint


@isolate_apps("tests.library")
def test_rows_are_those_of_no_manager() -> None:
    class Shown(models.Manager):  # type: ignore[type-arg]
        def get_queryset(self) -> Any:
            return super().get_queryset().filter(shown=True)

    class Page(models.Model):
        shown = models.BooleanField()
        objects = Shown()

        class Meta:
            app_label = "library"
            base_manager_name = "objects"

    assert "WHERE" in sql_of(Page._base_manager.all())
    assert "WHERE" not in sql_of(Rows("library.Page").queryset(Page._meta.apps))
    query = models.QuerySet(Page).filter(pk__in=Rows("library.Page"))
    assert sql_of(query).count("WHERE") == 1
