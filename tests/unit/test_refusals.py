"""System checks of expressions: functions and settings that no trigger can follow, and what must not be refused."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from django.contrib.postgres.aggregates import JSONBAgg
from django.contrib.postgres.fields import ArrayField, DateRangeField, DateTimeRangeField
from django.contrib.postgres.functions import RandomUUID, TransactionNow
from django.contrib.postgres.lookups import SearchLookup, TrigramSimilar, Unaccent
from django.contrib.postgres.search import SearchHeadline, SearchQuery, SearchRank, SearchVector
from django.db import models
from django.db.models import (
    Case,
    Count,
    Exists,
    ExpressionWrapper,
    F,
    Func,
    Max,
    Q,
    Subquery,
    Sum,
    Value,
    When,
    Window,
)
from django.db.models.expressions import RawSQL
from django.db.models.functions import (
    Cast,
    Coalesce,
    Concat,
    Greatest,
    JSONArray,
    JSONObject,
    Lower,
    Now,
    NullIf,
    Random,
    RowNumber,
    TruncDate,
    TruncHour,
    TruncMonth,
    Upper,
)
from django.test.utils import register_lookup
from django.utils import timezone

from tests.archive.aggregates import StringAgg
from tests.unit.declaring import (
    assert_accepted,
    assert_refused,
    author,
    book,
    books,
    chapter,
    counted,
    keep,
    only_message,
)
from trigger_kit import Denormalize, First, Rows
from trigger_kit.plan.plan import plan
from trigger_kit.sql.compilation import compile_plan

pytestmark = pytest.mark.usefixtures("registry")
TEXT, DAY, MOMENT, GAP = models.TextField(), models.DateField(), models.DateTimeField(), models.DurationField()


# What Django cannot resolve, and what reads nothing -----------------------------------------------------------------


@pytest.mark.parametrize("expression", [Count("boks"), F("boks__title"), counted(boks__pages=1)])
def test_e005_path_must_resolve(expression: Any) -> None:
    keep("num_books", expression)
    assert_refused("E005", "library.Author:num_books", "Django cannot resolve", "Did you mean 'books'?")


@pytest.mark.parametrize(
    "expression",
    [
        counted(books__title__size=3),
        Count("books__nope"),
        Max(Count("books")),
        Concat(F("num_books") + F("label"), Value("!"), output_field=TEXT),
    ],
)
def test_e005_annotate_must_accept_it(expression: Any) -> None:
    keep("num_books", expression)
    assert_refused("E005", "library.Author:num_books", "Django cannot", "that .annotate() accepts")


def test_e005_tells_which_column_is_not_there() -> None:
    keep("num_books", counted(books__shown=True))
    assert_refused("E005", "library.Author:num_books", "Django cannot", "'shown' is neither a field there nor a lookup")


@pytest.mark.parametrize(
    ("field", "expression"),
    [
        ("num_books", counted(books__printed_on__gt="01/02/2024")),
        ("num_books", counted(books__published_at__lt="yesterday")),
        ("num_books", counted(books__code="no uuid")),
        ("num_books", counted(books__code__in=["no uuid"])),
        ("num_books", counted(books__published="perhaps")),
        ("num_books", counted(books__price__gt="cheap")),
        ("num_books", counted(books__pages="many")),
        ("num_books", counted(books__pages__range=(1,))),
        ("num_books", counted(books__cover="x")),
        ("num_books", counted(books__data__contains={"a": Decimal(1)})),
        ("num_books", counted(books__data__a=Decimal(1))),
        ("day", Max("books__printed_on", default="x")),
    ],
)
def test_e005_constants_that_do_not_fit_their_column(field: str, expression: Any) -> None:
    author(Denormalize(field, expression))
    book(code=models.UUIDField(null=True), cover=models.BinaryField(null=True), data=models.JSONField(null=True))
    assert_refused("E005", f"library.Author:{field}", "Django cannot", "that .annotate() accepts")


@pytest.mark.parametrize(
    ("field", "expression"),
    [
        ("num_books", counted(books__printed_on__gt="2024-02-01")),
        ("num_books", counted(books__code="11111111-1111-1111-1111-111111111111")),
        ("num_books", counted(books__code__in=[UUID(int=1)])),
        ("num_books", counted(books__published="t")),
        ("num_books", counted(books__price__gt="1.5")),
        ("num_books", counted(books__pages="3")),
        ("num_books", counted(books__cover=b"x")),
        ("num_books", counted(books__data__contains={"a": 1.5})),
        ("day", Max("books__printed_on", default=datetime.date(2024, 2, 1))),
    ],
)
def test_accepted_constants(field: str, expression: Any) -> None:
    author(Denormalize(field, expression))
    book(code=models.UUIDField(null=True), cover=models.BinaryField(null=True), data=models.JSONField(null=True))
    assert_accepted()


@pytest.mark.parametrize("expression", [Value(1), Count("*"), Value(1) + Value(2), Q()])
def test_e006_a_constant_is_no_rule(expression: Any) -> None:
    keep("num_books", expression)
    assert_refused("E006", "library.Author:num_books", "reads no column", "Use db_default for a constant.")


@pytest.mark.parametrize(
    "expression", [counted(books__printed_on="x"), counted(books__pages__range=(1,)), Exists(Rows("library.Bok"))]
)
def test_messages_end_in_one_full_stop(expression: Any) -> None:
    keep("num_books", expression)
    assert re.search(r"[^.]\.$", only_message().msg)


# Functions ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "name"), [(Now(), "Now"), (Random(), "Random"), (TransactionNow(), "TransactionNow")]
)
def test_e020_functions_of_the_clock_and_of_chance(function: Any, name: str) -> None:
    column = "weight" if name == "Random" else "published_at"
    keep("num_books", counted(**{f"books__{column}__lt": function}))
    reason = f"it calls {name}(), whose value changes although no row does"
    assert_refused("E020", "library.Author:num_books", reason, "Compare with a stored column or a constant.")


@pytest.mark.parametrize(
    ("field", "expression"),
    [
        ("moment", Coalesce("moment", Now())),
        ("num_books", counted(books__printed_on=TruncDate(Now()))),
        ("num_books", counted(books__published_at__range=(Now(), Now()))),
        ("text", First("books__title", order_by=Random())),
        ("text", Concat("label", Cast(RandomUUID(), TEXT), output_field=TEXT)),
        ("num_books", Case(When(moment__gt=Now(), then=1), default=2)),
    ],
)
def test_e020_wherever_it_stands(field: str, expression: Any) -> None:
    keep(field, expression)
    assert_refused("E020", f"library.Author:{field}", "whose value changes although no row does", "Compare")


@pytest.mark.parametrize(
    ("field", "function"),
    [("moment", Now()), ("moment", TransactionNow()), ("num_books", Random())],
)
def test_e020_comes_before_the_lack_of_columns(field: str, function: Any) -> None:
    keep(field, function)
    assert_refused("E020", f"library.Author:{field}", "whose value changes although no row does", "Compare")


def any_book() -> Any:
    return Subquery(books().order_by("?").values("pages")[:1])


def test_e020_rows_at_random() -> None:
    keep("total", any_book())
    assert_refused("E020", "library.Author:total", "it takes rows at random", "Order by columns.")


def test_e020_windows() -> None:
    keep("num_books", Window(RowNumber(), order_by="label"))
    assert_refused("E020", "library.Author:num_books", "a window function", "First('…', order_by=…)")


def test_e020_raw_sql() -> None:
    keep("num_books", F("num_books") + RawSQL("total", []))
    assert_refused("E020", "library.Author:num_books", "RawSQL does not say which columns", "Django's expressions")


@pytest.mark.parametrize(
    "vector",
    [
        SearchVector("label"),
        SearchVector("label", config=F("text")),
        SearchVector("label", config="english", weight=F("text")),
    ],
)
def test_e020_text_search_follows_a_setting(vector: Any) -> None:
    author(
        Denormalize("ratio", SearchRank(vector, SearchQuery("a", config="english"))),
        ratio=models.FloatField(editable=False),
    )
    assert_refused("E020", "library.Author:ratio", "config", "config='english'")


@pytest.mark.parametrize(
    "expression",
    [SearchHeadline("label", SearchQuery("a", config="english")), SearchHeadline("label", SearchQuery("a"))],
)
def test_e020_headlines_need_a_configuration_too(expression: Any) -> None:
    keep("text", expression)
    assert_refused("E020", "library.Author:text", "without config", "config='english'")


@pytest.mark.parametrize("lookup", [SearchLookup, TrigramSimilar, Unaccent])
def test_e020_lookups_that_follow_settings_and_dictionaries(lookup: Any) -> None:
    with register_lookup(models.CharField, lookup):
        keep("num_books", counted(**{f"books__title__{lookup.lookup_name}": "a"}))
        reason = f"the lookup {lookup.lookup_name} follows settings and dictionaries"
        assert_refused("E020", "library.Author:num_books", reason, "SearchVector with config")


class Foreign(models.Transform):
    lookup_name = "foreign"
    function = "now_or_never"


class Median(models.Aggregate):
    function = "median"


class Today(models.Expression):
    output_field = models.DateField()

    def as_sql(self, compiler: Any, connection: Any) -> Any:
        return "current_date", []


@pytest.mark.parametrize(
    ("field", "expression", "name"),
    [
        ("num_books", Func("num_books", function="my_abs"), "my_abs"),
        ("text", Upper("label", function="my_upper"), "my_upper"),
        ("num_books", Count("books", template="pg_backend_pid()"), "pg_backend_pid()"),
        ("total", Median("books__pages"), "median"),
        ("day", Coalesce("day", Today()), "Today"),
        ("num_books", counted(books__title__foreign="a"), "now_or_never"),
    ],
)
def test_e026_functions_that_are_not_known(field: str, expression: Any, name: str) -> None:
    with register_lookup(models.CharField, Foreign):
        keep(field, expression)
        reason = f"it uses {name}, which is not known to be immutable"
        assert_refused("E026", f"library.Author:{field}", reason, "GeneratedField")


def test_the_list_that_an_array_is_compared_with_is_no_unknown_function() -> None:
    author(Denormalize("flag", Q(names__contains=["a"])), names=ArrayField(models.TextField()))
    assert_accepted()


# The settings of a session ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "condition",
    [
        Q(books__published_at__startswith="2020-01"),
        Q(books__printed_on__contains="2020"),
        Q(books__printed_on__regex="2020"),
        Q(books__weight__contains="1.5"),
        Q(books__read_in__startswith="1 day"),
    ],
)
def test_e012_searching_the_text_of_dates_and_floats(condition: Q) -> None:
    keep("num_books", Count("books", filter=condition))
    assert_refused("E012", "library.Author:num_books", "it searches the text of a", "store the text in a column")


@pytest.mark.parametrize(
    "condition", [Q(books__printed_on__lt=F("books__published_at")), Q(books__published_at__gt=F("day"))]
)
def test_e012_comparing_dates_with_times(condition: Q) -> None:
    keep("num_books", Count("books", filter=condition))
    assert_refused("E012", "library.Author:num_books", "it compares a date with a time", "Compare columns of one type.")


AWARE = datetime.datetime(2024, 1, 2, tzinfo=datetime.UTC)
NEW_YEAR = datetime.date(2024, 1, 1)


@pytest.mark.parametrize(
    "condition",
    [
        Q(books__span__contains=NEW_YEAR),
        Q(books__span__contains=F("day")),
        Q(books__span__contains=F("books__printed_on")),
        Q(books__span__startswith=F("day")),
        Q(books__span__endswith__gt=F("day")),
        Q(books__published_at__range=(F("day"), AWARE)),
        Q(books__published_at__range=(AWARE, F("books__printed_on"))),
        Q(books__published_at__in=[F("day")]),
        Q(books__published_at__gt=Value(NEW_YEAR)),
        Q(books__printed_on__gt=Greatest("moment", "moment")),
    ],
)
def test_e012_dates_beside_times_in_ranges_and_lists(condition: Q) -> None:
    author(Denormalize("num_books", Count("books", filter=condition)))
    book(span=DateTimeRangeField(null=True))
    assert_refused("E012", "library.Author:num_books", "it compares a date with a time", "Compare columns of one type.")


@pytest.mark.parametrize(
    "condition",
    [
        Q(books__printed_on__gt=Value("01/02/2024")),
        Q(books__published_at__gt=Value("2024-01-01 00:00")),
        Q(books__printed_on__in=[NEW_YEAR, Value("01/02/2024")]),
        Q(books__printed_on=F("label")),
        Q(books__read_in__gt=Value("1 day")),
    ],
)
def test_e012_comparing_dates_with_texts(condition: Q) -> None:
    keep("num_books", Count("books", filter=condition))
    assert_refused(
        "E012", "library.Author:num_books", "with a text, which is read as the session", "Write the constant"
    )


@pytest.mark.parametrize(
    "difference", [F("books__published_at") - F("books__printed_on"), F("books__published_at") - Value(NEW_YEAR)]
)
def test_e012_subtracting_a_date_from_a_time(difference: Any) -> None:
    author(Denormalize("gap", Max(difference, output_field=GAP)), gap=models.DurationField(null=True, editable=False))
    book()
    assert_refused("E012", "library.Author:gap", "subtracts dates and times of different types", "of one type")


@pytest.mark.parametrize(
    "condition",
    [
        Q(books__span__contains=AWARE),
        Q(books__span__contains=F("books__published_at")),
        Q(books__span__contains=F("moment")),
        Q(books__span__startswith__gt=AWARE),
        Q(books__span__overlap=(AWARE, None)),
        Q(books__days__contains=NEW_YEAR),
        Q(books__days__contains=F("day")),
        Q(books__published_at__range=(F("moment"), AWARE)),
        Q(books__published_at__in=[AWARE, F("moment")]),
        Q(books__published_at__date=F("day")),
        Q(books__printed_on__range=(NEW_YEAR, F("day"))),
        Q(books__printed_on=TruncDate("books__published_at")),
        Q(books__printed_on__gt=Value(NEW_YEAR)),
        Q(books__read_in__gt=F("books__published_at") - F("moment")),
        Q(books__read_in__gt=F("books__printed_on") - F("day")),
        Q(books__read_in__gt=datetime.timedelta(days=1)),
        Q(books__title=Value("01/02/2024")),
    ],
)
def test_accepted_comparisons_of_one_type(condition: Q) -> None:
    author(Denormalize("num_books", Count("books", filter=condition)))
    book(span=DateTimeRangeField(null=True), days=DateRangeField(null=True))
    assert_accepted()


@pytest.mark.parametrize(
    ("field", "expression"),
    [
        ("text", Cast("day", TEXT)),
        ("text", Cast("moment", TEXT)),
        ("text", Cast("ratio", TEXT)),
        ("text", Cast("gap", TEXT)),
        ("text", Cast("raw", TEXT)),
        ("text", Cast("days", TEXT)),
        ("text", Cast(F("moment") - F("moment"), TEXT)),
        ("text", Concat("label", "day", output_field=TEXT)),
        ("text", Concat("label", "ratio", output_field=TEXT)),
        ("text", Concat("label", Value(datetime.date(2020, 1, 2)), output_field=TEXT)),
        ("text", ExpressionWrapper(F("moment"), TEXT)),
        ("text", Case(When(flag=True, then="moment"), output_field=TEXT)),
        ("text", Coalesce("moment", "label", output_field=TEXT)),
        ("text", StringAgg(Cast("books__printed_on", TEXT), ",", order_by="books__id")),
        ("document", JSONObject(a="moment")),
        ("document", JSONObject(a="ratio")),
        ("document", JSONObject(a="gap")),
        ("document", JSONArray("label", "moment")),
        ("document", JSONBAgg("books__published_at", order_by="books__id")),
        ("document", JSONBAgg(JSONObject(a="books__published_at"), order_by="books__id")),
        ("day", Cast("moment", DAY)),
        ("day", Cast("label", DAY)),
        ("moment", Cast("day", MOMENT)),
        ("moment", Cast(Value("2020-01-02"), MOMENT) + F("gap")),
        ("moment", ExpressionWrapper(F("day"), MOMENT)),
        ("moment", Coalesce("moment", "day", output_field=MOMENT)),
        ("moment", Greatest("moment", "day", output_field=MOMENT)),
        ("moment", NullIf("moment", "day", output_field=MOMENT)),
    ],
)
def test_e012_conversions_that_follow_a_setting(field: str, expression: Any) -> None:
    author(
        Denormalize(field, expression),
        ratio=models.FloatField(),
        gap=models.DurationField(),
        raw=models.BinaryField(),
        days=ArrayField(models.DateField()),
    )
    book()
    message = only_message()
    assert message.id == "trigger_kit.E012"
    assert re.search("as the session's settings say|of a text, as DateStyle|depends on the time zone", message.msg)


@pytest.mark.parametrize(
    "expression", [TruncMonth("moment"), TruncHour("moment"), Max(TruncHour("books__published_at"))]
)
def test_e012_truncated_times_have_no_time_zone(expression: Any) -> None:
    keep("moment", expression)
    reason = "gives a time without time zone, which every session reads in its own"
    assert_refused("E012", "library.Author:moment", reason, "output_field=DateField()")


@pytest.mark.parametrize(
    "duration", [datetime.timedelta(days=1), datetime.timedelta(hours=-1), datetime.timedelta(days=30), F("gap")]
)
def test_e012_how_long_a_day_is_depends_on_the_time_zone(duration: Any) -> None:
    author(Denormalize("moment", F("moment") + duration), gap=models.DurationField())
    assert_refused("E012", "library.Author:moment", "it adds days to a time", "Compare the difference of two times")


def test_e012_a_date_plus_a_duration_is_a_time() -> None:
    keep("moment", F("day") + datetime.timedelta(days=1))
    assert_refused("E012", "library.Author:moment", "it adds a duration to a date", "output_field=DateField()")


@pytest.mark.parametrize("values", [{8, 16}, frozenset({8})])
def test_e012_a_set_has_no_order(values: Any) -> None:
    keep("num_books", counted(books__pages__in=values))
    assert_refused("E012", "library.Author:num_books", "lists values in a set", "Use a list or a tuple.")


@pytest.mark.parametrize("values", [(n for n in (8, 16)), iter([8]), map(int, "8")])
def test_e012_an_iterator_can_be_read_once(values: Any) -> None:
    keep("num_books", counted(books__pages__in=values))
    assert_refused("E012", "library.Author:num_books", "lists values in an iterator", "Use a list or a tuple.")


@pytest.mark.parametrize("values", [[8, 16], (8,), range(8), {8: "a"}.keys()])
def test_accepted_lists_of_values(values: Any) -> None:
    keep("num_books", counted(books__pages__in=values))
    assert_accepted()


@pytest.mark.parametrize(
    ("field", "expression"),
    [("num_books", counted(books__title="a\x00")), ("text", Concat("label", Value("a\x00"), output_field=TEXT))],
)
def test_e012_a_nul_character(field: str, expression: Any) -> None:
    keep(field, expression)
    assert_refused("E012", f"library.Author:{field}", "NUL character", "Remove it.")


@pytest.mark.parametrize(
    "condition",
    [
        Q(books__published_at__year=2020),
        Q(books__published_at__date=datetime.date(2020, 1, 1)),
        Q(books__published_at__gt=datetime.datetime(2020, 1, 1)),
        Q(books__published_at__gt=Value(datetime.datetime(2020, 1, 1))),
    ],
)
def test_e012_a_time_without_time_zone(settings: Any, condition: Q) -> None:
    settings.USE_TZ = False
    keep("num_books", Count("books", filter=condition))
    assert_refused("E012", "library.Author:num_books", "time", "USE_TZ = True")


# What must not be refused -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "expression"),
    [
        ("num_books", Count("books__title", distinct=True)),
        ("num_books", Sum(F("books__pages") + 1, default=0)),
        ("num_books", Sum(Case(When(books__published=True, then="books__pages"), default=Value(1)), default=0)),
        ("num_books", Count(Lower("books__title"))),
        ("num_books", Coalesce(Count("books"), 0)),
        ("num_books", Coalesce(Sum("books__pages", filter=Q(books__published=True)), Value(0))),
        ("num_books", Sum("books__pages", default=Decimal(1))),
        ("num_books", Count("books") + Count("books__title", distinct=True)),
        ("num_books", counted(books__title=Concat("books__title", Value("!")))),
        ("num_books", counted(books__pages=F("num_pens"))),
        ("num_books", counted(books__chapters__isnull=False)),
        ("num_books", Count(TruncMonth("books__published_at"), distinct=True)),
        ("total", Sum("books__weight")),
        ("total", Max("books__pages") - 1),
        ("total", F("num_pens") / 2),
        ("text", Upper("label")),
        ("text", Cast("num_pens", TEXT)),
        ("text", Cast(Cast("ratio", models.DecimalField(max_digits=9, decimal_places=3)), TEXT)),
        ("day", TruncDate("moment")),
        ("day", TruncMonth("moment", output_field=DAY)),
        ("day", ExpressionWrapper(F("due") + datetime.timedelta(days=7), output_field=DAY)),
        ("moment", F("since") + datetime.timedelta(hours=1)),
        ("moment", Coalesce(Max("books__published_at"), "since")),
        ("moment", NullIf("since", "till")),
        ("day", NullIf("due", Value(datetime.date(2024, 2, 1)))),
        ("text", NullIf("label", Value("2024-01-01"), output_field=TEXT)),
        ("document", JSONObject(a="label", b="num_pens", c="day")),
        ("flag", Q(label__startswith=F("label"))),
    ],
)
def test_accepted_expressions(field: str, expression: Any) -> None:
    author(
        Denormalize(field, expression),
        num_pens=models.IntegerField(default=0),
        ratio=models.FloatField(),
        due=models.DateField(),
        since=models.DateTimeField(),
        till=models.DateTimeField(),
    )
    book()
    chapter()
    assert_accepted()


@pytest.mark.parametrize(
    "condition",
    [
        Q(books__published=True) & ~Q(books__title="draft"),
        ~(Q(books__pages=1) | ~Q(books__pages=2)) | Q(books__title="it's 100%"),
        Q(books__pages=1) ^ Q(books__published=True),
        Q(books__pages__in=[1, 2, None]),
        Q(books__pages__in=[]),
        Q(books__pages__isnull=True),
        Q(books__pages__range=(1, 2)),
        Q(books__pages__gt=F("books__weight")),
        Q(books__title=F("books__title")),
        Q(books__title=Lower("books__title")),
        Q(books__title__iregex=r"^a{2}\d"),
        Q(books__published_at__year=2020),
        Q(books__published_at__year__gte=2020),
        Q(books__published_at__date=datetime.date(2020, 1, 2)),
        Q(books__published_at__gt=datetime.datetime(2020, 1, 2, tzinfo=datetime.UTC)),
        Q(books__author=7),
        Q(),
    ],
)
def test_accepted_filters_compile(condition: Q) -> None:
    rule = Denormalize("num_books", Count("books", filter=condition))
    model = author(rule)
    book()
    assert_accepted()
    assert compile_plan(plan(model, [rule]))


@pytest.mark.parametrize(
    "condition", [Q(books__published_at__year=2020), Q(books__published_at__date=datetime.date(2020, 1, 2))]
)
def test_text_does_not_follow_the_active_time_zone(condition: Q) -> None:
    rule = Denormalize("num_books", Count("books", filter=condition))
    model = author()
    book()
    text = compile_plan(plan(model, [rule]))
    with timezone.override("Asia/Tokyo"):
        assert compile_plan(plan(model, [rule])) == text


def naming(name: str) -> Callable[[], Any]:
    """Return the triggers of a rule whose column has a certain name."""
    rule = Denormalize("num_books", Count("books"))
    model = author(num_books=models.IntegerField(default=0, db_column=name))
    book()
    return lambda: compile_plan(plan(model, [rule]))


def test_column_names_may_contain_names_of_ours() -> None:
    assert [trigger for trigger in naming("n_tk_keys")() if '"n_tk_key"' in trigger.text] == []


def test_line_breaks_of_a_column_name_do_not_end_a_comment() -> None:
    for trigger in naming("n\nb")():
        assert not re.search(r'^b = Count\("books"\)', trigger.text, re.MULTILINE)
