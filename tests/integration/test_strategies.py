"""Each strategy keeps its values exact, says what it is, and leaves targets alone that do not change; and odd names."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.contrib.postgres.aggregates import ArrayAgg, BoolAnd, BoolOr, JSONBAgg
from django.db import DatabaseError, models, transaction
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
    Variance,
    When,
)
from django.db.models.functions import Abs, Cast, Coalesce, Length, Upper
from django.test.utils import isolate_apps

from tests.archive.aggregates import StringAgg
from tests.archive.keeping import Rules, assert_rules_hold, check, keep, make_tables, rules_of
from tests.archive.models import Person, Publisher, Review, Tag, Work
from trigger_kit import Exists, First, Rows
from trigger_kit.maintenance.explain import explain

Sql = Callable[..., list[tuple[Any, ...]]]

pytestmark = pytest.mark.usefixtures("short_inserts")


def truncate(sql: Sql, tables: str) -> None:
    """Truncate tables without the one foreign key that leads back to all others."""
    sql("SET CONSTRAINTS ALL IMMEDIATE")
    sql("ALTER TABLE archive_person DROP COLUMN last_review_id")
    sql(f"TRUNCATE {tables}")


def latest_text() -> Any:
    reviews = Rows("archive.Review").filter(work=OuterRef("pk")).order_by("-created", "-pk")
    return Subquery(reviews.values("text")[:1])


def good_reviews() -> Any:
    counted = Rows("archive.Review").filter(work=OuterRef("pk"), stars__gte=2).order_by().values("work")
    return Coalesce(Subquery(counted.annotate(number=Count("*")).values("number")), 0)


def latest_review() -> Any:
    return Subquery(Rows("archive.Review").filter(author=OuterRef("pk")).order_by("-created", "-pk").values("pk")[:1])


# The strategy, the model, the column, the expression.
STRATEGIES: dict[str, tuple[str, type[Model], str, Any]] = {
    "count": ("delta", Work, "the_count", Count("reviews")),
    "count of a column": ("delta", Work, "the_count", Count("reviews__stars", filter=Q(reviews__text__contains="o"))),
    "sum": ("delta", Work, "the_total", Sum("reviews__stars", default=0)),
    "sum that is null over no rows": ("delta", Work, "kept_number", Sum("reviews__stars")),
    "sum over an expression": ("delta", Publisher, "the_total", Sum(F("works__pages") * F("works__price"), default=0)),
    "count over two hops": ("delta", Publisher, "the_count", Count("works__reviews")),
    "count over many to many": ("delta", Tag, "the_count", Count("works", filter=Q(works__published=True))),
    "count over a generic relation": ("delta", Work, "the_count", Count("notes")),
    "maximum": ("extremum", Work, "kept_number", Max("reviews__stars")),
    "minimum": ("extremum", Work, "kept_moment", Min("reviews__created")),
    "maximum of a text": ("extremum", Work, "kept_text", Max("reviews__text")),
    "maximum over two hops": ("extremum", Publisher, "kept_number", Max("works__reviews__stars")),
    "average": ("recompute", Work, "kept_amount", Avg("reviews__stars")),
    "float sum": ("recompute", Publisher, "kept_ratio", Sum("works__score")),
    "distinct": ("recompute", Work, "the_count", Count("reviews__author", distinct=True)),
    "sum with another default": ("recompute", Work, "the_total", Sum("reviews__stars", default=7)),
    "exists": ("recompute", Work, "the_flag", Exists("reviews", filter=Q(reviews__stars__gt=1))),
    "first": ("recompute", Work, "kept_text", First("reviews__text", order_by="-reviews__stars")),
    "array": ("recompute", Work, "kept_list", ArrayAgg("reviews__text", order_by="reviews__id", filter=Q(reviews__stars__gt=0))),
    "arithmetic": ("recompute", Work, "the_total", F("least") + Count("reviews")),
    "decimal sum in a float": ("recompute", Publisher, "kept_ratio", Sum("works__price")),
    "sum of a generated column": ("delta", Publisher, "kept_number", Sum("works__doubled")),
    "sum of a case without default": ("delta", Publisher, "kept_number", Sum(Case(When(works__published=True, then=1)))),
    "sum of lengths": ("delta", Work, "kept_number", Sum(Length("reviews__text"))),
    "sum of absolute values": ("delta", Work, "the_total", Sum(Abs("reviews__stars"), default=0)),
    "sum of remainders": ("delta", Work, "kept_number", Sum(F("reviews__stars") % 3)),
    "subquery": ("recompute", Work, "kept_text", latest_text()),
    "subquery count": ("recompute", Work, "the_count", good_reviews()),
    "filter over the target": ("recompute", Work, "the_count", Count("reviews", filter=Q(reviews__stars__gte=F("least")))),
    "copy": ("copy", Review, "kept_text", F("work__title")),
    "copy over two hops": ("copy", Review, "kept_text", Upper("work__publisher__name")),
    "own columns": ("copy", Work, "kept_number", F("pages") * 2),
}  # fmt: skip
ROWS = """
INSERT INTO archive_publisher (id, number, name) VALUES (gen_random_uuid(), 1, 'one'), (gen_random_uuid(), 2, 'two');
INSERT INTO archive_tag (id, name) VALUES (1, 't');
INSERT INTO archive_work (id, publisher_id, title, pages, price, score, published)
VALUES (1, 1, 'w1', 10, 1.5, 0.1, true), (2, 2, 'w2', 20, 2.5, 0.2, false);
INSERT INTO archive_work_tags (work_id, tag_id) VALUES (1, 1), (2, 1);
INSERT INTO archive_person (id, name) VALUES (1, 'ann'), (2, 'bob');
INSERT INTO archive_review (id, work_id, author_id, stars, text, created) VALUES
(1, 1, 1, 5, 'one', '2024-01-01'), (2, 1, 2, 5, 'two', '2024-01-02'), (3, 1, 1, 1, 'three', '2024-01-03'), (4, 2, 1, 2, 'four', NULL);
INSERT INTO archive_note (content_type_id, object_id) SELECT id, 1 FROM django_content_type WHERE model = 'work';
"""
STATEMENTS = (
    "UPDATE archive_review SET stars = stars + 1, text = text || '!'",
    "UPDATE archive_review SET stars = NULL WHERE id IN (1, 4)",
    "UPDATE archive_review SET work_id = 3 - work_id, created = now()",
    "UPDATE archive_work SET publisher_id = 3 - publisher_id, pages = pages + 1, published = NOT published, least = 2, score = NULL",
    "UPDATE archive_publisher SET name = 'x' || name",
    "DELETE FROM archive_work_tags WHERE work_id = 1",
    "UPDATE archive_note SET object_id = 2",
    "DELETE FROM archive_review WHERE id IN (2, 3)",
    "DELETE FROM archive_review",
    "INSERT INTO archive_review (id, work_id, stars, text, author_id) VALUES (8, 1, -4, 'o', 1), (9, 1, NULL, 'p', 1)",
    "DELETE FROM archive_work WHERE id = 1",
)


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_plan_names_the_strategy_and_it_holds(sql: Sql, name: str) -> None:
    strategy, model, column, expression = STRATEGIES[name]
    rules = rules_of(model, **{column: expression})
    sql(ROWS)
    (plan,) = keep(rules)
    assert f"strategy: {strategy}\n" in explain(plan) + "\n"
    assert_rules_hold(rules)
    for statement in STATEMENTS:
        sql(statement)
        assert_rules_hold(rules)


UNRELATED = (
    "UPDATE archive_review SET kept_json = '1', kept_amount = 3",
    "UPDATE archive_review SET stars = stars, work_id = work_id, text = text, created = created, author_id = author_id",
    "UPDATE archive_review SET stars = 0 WHERE false",
    "DELETE FROM archive_review WHERE false",
    "UPDATE archive_publisher SET kept_json = '1', fee = 2",
    "UPDATE archive_work_tags SET tag_id = tag_id",
    "UPDATE archive_note SET object_id = object_id",
    "UPDATE archive_work SET kept_json = '1', editor_id = 1, data = '{\"a\": 1}'",
    "UPDATE archive_tag SET weight = 4",
)


@pytest.mark.parametrize("name", STRATEGIES)
def test_what_does_not_concern_a_target_leaves_its_row_alone(sql: Sql, name: str) -> None:
    _, model, column, expression = STRATEGIES[name]
    sql(ROWS)
    keep(rules_of(model, **{column: expression}))
    table = model._meta.db_table
    for statement in UNRELATED:
        if f"UPDATE {table} " not in statement:
            before = sql(f"SELECT ctid, xmin FROM {table} ORDER BY 1")
            sql(statement)
            assert sql(f"SELECT ctid, xmin FROM {table} ORDER BY 1") == before, statement


@pytest.mark.parametrize("name", ["exists", "first", "maximum", "distinct", "array", "subquery count"])
def test_a_value_that_stays_is_not_written_again(sql: Sql, name: str) -> None:
    """The group is read again, but what comes out is what is stored."""
    _, model, column, expression = STRATEGIES[name]
    rules = rules_of(model, **{column: expression})
    sql(ROWS)
    keep(rules)
    before = sql("SELECT ctid FROM archive_work WHERE id = 1")
    sql("INSERT INTO archive_review (work_id, author_id, stars, text) VALUES (1, 1, 0, 'zero')")
    sql("UPDATE archive_review SET stars = -1 WHERE text = 'zero'")
    sql("DELETE FROM archive_review WHERE text = 'zero'")
    assert sql("SELECT ctid FROM archive_work WHERE id = 1") == before
    assert_rules_hold(rules)


EMPTY: dict[str, tuple[str, Any, Any]] = {
    "count": ("the_count", Count("reviews"), 0),
    "sum": ("kept_number", Sum("reviews__stars"), None),
    "sum with a default": ("the_total", Sum("reviews__stars", default=7), 7),
    "sum of a case": ("kept_number", Sum(models.Case(models.When(reviews__stars__gt=1, then=2), default=1)), 1),
    "max": ("kept_number", Max("reviews__stars"), None),
    "min with a default": ("kept_number", Min("reviews__stars", default=3), 3),
    "average": ("kept_ratio", Avg("reviews__stars"), None),
    "average with a default": ("kept_ratio", Avg("reviews__stars", default=1.5), 1.5),
    "exists": ("the_flag", Exists("reviews"), False),
    "first": ("kept_text", First("reviews__text", order_by="reviews__stars"), None),
    "first with a default": ("the_label", First("reviews__text", order_by="reviews__stars", default=Value("-")), "-"),
    "array": ("kept_list", ArrayAgg("reviews__text", order_by="reviews__id"), [None]),
    "array of some": ("kept_list", ArrayAgg("reviews__text", order_by="reviews__id", filter=Q(reviews__stars__gt=1)), None),
    "json": ("kept_json", JSONBAgg("reviews__stars", order_by="reviews__id"), [None]),
    "json with a default": ("kept_json", JSONBAgg("reviews__stars", order_by="reviews__id", default=Value([])), [None]),
    "string": ("kept_text", StringAgg("reviews__text", Value(","), order_by="reviews__id"), None),
    "bool and": ("kept_flag", BoolAnd(Q(reviews__stars__gt=1)), None),
    "bool or of what is missing": ("kept_flag", BoolOr(Q(reviews__stars__isnull=True)), True),
    "count without": ("the_count", Count("id", filter=Q(reviews__isnull=True)), 1),
    "max of a constant": ("kept_number", Max(Coalesce("reviews__stars", 4)), 4),
    "variance": ("kept_ratio", Variance("reviews__stars"), None),
}  # fmt: skip


@pytest.mark.parametrize("name", EMPTY)
def test_the_value_over_no_rows_is_djangos(sql: Sql, name: str) -> None:
    column, expression, value = EMPTY[name]
    rules = rules_of(Work, **{column: expression})
    keep(rules)
    work = Work.objects.create()
    assert check(rules, Work, column) == [(value,)]
    for statement in (
        f"INSERT INTO archive_review (work_id, stars, text) VALUES ({work.pk}, NULL, 'n'), ({work.pk}, 3, 'y')",
        "UPDATE archive_review SET stars = NULL",
        "UPDATE archive_work SET id = 99",
        "DELETE FROM archive_review",
        "UPDATE archive_work SET id = 98",
    ):
        sql(statement)
        assert_rules_hold(rules)
    sql("INSERT INTO archive_review (work_id, stars, text) VALUES (98, 1, 'z')")
    truncate(sql, "archive_review")
    assert check(rules, Work, column) == [(value,)]


# Extremum -----------------------------------------------------------------------------------------------------------

EXTREMA = rules_of(
    Publisher,
    kept_number=Max("works__pages"),
    kept_amount=Min("works__price"),
    kept_day=Max("works__day"),
    kept_moment=Min("works__moment"),
    kept_text=Max("works__title"),
    kept_ratio=Max("works__score", filter=Q(works__published=True)),
)


def test_extrema_with_ties_nulls_dates_and_texts(sql: Sql) -> None:
    sql("INSERT INTO archive_publisher (id, number) VALUES (gen_random_uuid(), 1), (gen_random_uuid(), 2)")
    keep(EXTREMA)
    stored = lambda: check(EXTREMA, Publisher, "number", "kept_number", "kept_amount", "kept_day", "kept_text")  # noqa: E731
    sql("INSERT INTO archive_work (id, publisher_id) VALUES (1, 1), (2, 1), (3, 2)")
    assert sorted(stored()) == [(1, None, None, None, ""), (2, None, None, None, "")]
    sql(
        "UPDATE archive_work SET pages = 7, price = '1.50', day = '2024-02-29', title = 'B', score = 'NaN', published = true"
    )
    sql("UPDATE archive_work SET title = 'a', day = '2023-01-01', score = 'Infinity' WHERE id = 2")
    assert sorted(stored())[0][:4] == (1, 7, Decimal("1.5"), date(2024, 2, 29))
    for statement in (
        "DELETE FROM archive_work WHERE id = 1",
        "UPDATE archive_work SET pages = 3, score = '-Infinity'",
        "UPDATE archive_work SET pages = -pages, price = -price",
        "INSERT INTO archive_work (publisher_id, pages, price, title, moment) VALUES (1, -9, 'NaN', 'ä', '2020-01-01'), (1, NULL, NULL, 'Z', NULL)",
        "UPDATE archive_work SET publisher_id = 3 - publisher_id, pages = pages + 1",
        "UPDATE archive_work SET published = NOT published, score = 1",
        "UPDATE archive_work SET pages = CASE WHEN pages = (SELECT max(pages) FROM archive_work) THEN -50 ELSE pages + 5 END",
        "UPDATE archive_work SET publisher_id = NULL WHERE price = 'NaN'",
        "UPDATE archive_work SET publisher_id = 1",
        "DELETE FROM archive_work WHERE publisher_id = 1",
    ):
        sql(statement)
        assert_rules_hold(EXTREMA)
    assert {row[1:] for row in stored()} == {(None, None, None, None)}


# Averages -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "served"),
    [
        (rules_of(Work, the_total=Sum("reviews__stars", default=0), the_count=Count("reviews__stars"), kept_amount=Avg("reviews__stars")), True),
        (rules_of(Work, kept_number=Sum("reviews__stars"), the_count=Count("reviews__stars"), kept_ratio=Avg("reviews__stars")), True),
        (rules_of(Work, kept_number=Sum("reviews__stars"), the_count=Count("reviews__stars"), kept_ratio=Avg("reviews__stars", default=0)), True),
        (
            rules_of(
                Work,
                kept_number=Sum("reviews__stars", filter=Q(reviews__text="o")),
                the_count=Count("reviews__stars", filter=Q(reviews__text="o")),
                kept_ratio=Avg("reviews__stars", filter=Q(reviews__text="o")),
            ),
            True,
        ),
        (rules_of(Work, the_total=Sum("notes__weight", default=0), the_count=Count("notes"), kept_ratio=Avg("notes__weight")), True),
        (rules_of(Work, kept_number=Sum("reviews__stars"), the_count=Count("reviews"), kept_ratio=Avg("reviews__stars")), False),
        (rules_of(Work, kept_number=Sum("reviews__stars"), the_count=Count("reviews__stars"), kept_ratio=Avg("reviews__stars", filter=Q(reviews__text="o"))), False),
        (rules_of(Work, kept_number=Sum("reviews__stars"), kept_ratio=Avg("reviews__stars")), False),
        (rules_of(Publisher, the_total=Sum("works__price", default=0), the_count=Count("works__price"), kept_amount=Avg("works__price")), True),
        (rules_of(Publisher, kept_amount=Sum("works__reviews__stars"), the_count=Count("works__reviews__stars"), kept_ratio=Avg("works__reviews__stars")), True),
    ],
)  # fmt: skip
def test_an_average_is_served_from_sum_and_count_over_the_same_rows(sql: Sql, rules: Rules, served: bool) -> None:
    sql(ROWS)
    (plan,) = keep(rules)
    assert ("served from" in explain(plan)) is served
    assert_rules_hold(rules)
    for statement in (*STATEMENTS[:8], "UPDATE archive_work SET price = 'NaN' WHERE id = 1", *STATEMENTS[8:]):
        sql(statement)
        assert_rules_hold(rules)
    sql("INSERT INTO archive_work (id, publisher_id) VALUES (1, 1)")
    assert_rules_hold(rules)
    truncate(sql, "archive_review, archive_note")
    assert_rules_hold(rules)


def test_an_average_in_numbers(sql: Sql) -> None:
    rules = rules_of(Work, the_total=Sum("reviews__stars", default=0), the_count=Count("reviews__stars"), kept_amount=Avg("reviews__stars"))  # fmt: skip
    sql(ROWS)
    keep(rules)
    assert check(rules, Work, "kept_amount") == [(Decimal("3.6667"),), (Decimal("2.0000"),)]
    sql("UPDATE archive_review SET stars = NULL WHERE id = 3")
    sql("UPDATE archive_review SET work_id = 1 WHERE work_id = 2")
    assert check(rules, Work, "kept_amount") == [(Decimal("4.0000"),), (None,)]


# First, Exists, floats, overflow ------------------------------------------------------------------------------------


def test_first_and_exists_are_ordinary_aggregates(sql: Sql) -> None:
    sql(ROWS)
    works = Work.objects.annotate(
        first=First("reviews__text", order_by=["-reviews__stars", "reviews__author__name"]),
        tie=First("reviews", order_by="-reviews__stars"),
        late=First("reviews__text", order_by=F("reviews__created").desc(nulls_last=True), filter=Q(reviews__stars=9), default=Value("none")),
        good=Exists("reviews", filter=Q(reviews__stars=5)),
    )  # fmt: skip
    found = works.order_by("id").values_list("first", "tie", "late", "good")
    assert list(found) == [("one", 1, "none", True), ("four", 4, "none", False)]
    assert list(works.filter(good=True).values_list("id", flat=True)) == [1]
    by_publisher = Work.objects.values("publisher__name").annotate(
        first=First("reviews__text", order_by="reviews__text")
    )
    assert list(by_publisher.order_by("publisher__name").values_list("first", flat=True)) == ["one", "four"]


@pytest.mark.parametrize("expression", [First("reviews", order_by=["-reviews__created"]), latest_review()])
def test_a_foreign_key_to_the_latest_child(sql: Sql, expression: Any) -> None:
    rules = rules_of(Person, last_review=expression)
    sql(ROWS + "UPDATE archive_review SET created = '2024-01-04' WHERE id = 4")
    keep(rules)
    assert check(rules, Person, "last_review") == [(4,), (2,)]
    for write, values in (
        (lambda: Review.objects.get(pk=4).delete(), [(3,), (2,)]),
        (lambda: Review.objects.filter(pk=3).update(author=2), [(1,), (3,)]),
        (lambda: Review.objects.filter(pk=1).update(id=77), [(77,), (3,)]),
        (lambda: Review.objects.filter(pk=2).update(created="2024-01-03T00:00:00Z"), None),
        (lambda: Work.objects.all().delete(), [(None,), (None,)]),
    ):
        write()
        stored = check(rules, Person, "last_review")
        assert values is None or stored == values
    sql("SET CONSTRAINTS ALL IMMEDIATE")


def test_the_first_row_may_point_at_nothing(sql: Sql) -> None:
    """A forward hop behind the rows leaves none of them out: the first review's author is nobody."""
    rules = rules_of(Work, kept_text=First("reviews__author__name", order_by="-reviews__stars"))
    sql(ROWS)
    keep(rules)
    Review.objects.create(work_id=1, stars=9)
    assert check(rules, Work, "kept_text") == [(None,), ("ann",)]
    Review.objects.filter(stars=9).update(author=2)
    assert check(rules, Work, "kept_text") == [("bob",), ("ann",)]
    Person.objects.filter(pk=2).delete()
    assert check(rules, Work, "kept_text") == [(None,), ("ann",)]


def test_float_sums_do_not_drift(sql: Sql) -> None:
    rules = rules_of(Publisher, kept_ratio=Sum("works__score"), the_count=Count("works"))
    sql("INSERT INTO archive_publisher (id, number) VALUES (gen_random_uuid(), 1)")
    keep(rules)
    # Nothing that cancels out: there the sum depends on the order of the rows, for annotate() as well.
    for score in ("0.1", "1e300", "1e16", "0.2", "Infinity", "-Infinity", "NaN"):
        sql(f"INSERT INTO archive_work (publisher_id, score) VALUES (1, '{score}')")
        assert_rules_hold(rules)
    sql("DELETE FROM archive_work WHERE score NOT BETWEEN 0.05 AND 0.3")
    assert check(rules, Publisher, "kept_ratio", "the_count") == [(0.1 + 0.2, 2)]
    sql("UPDATE archive_work SET score = score * 10")
    assert check(rules, Publisher, "kept_ratio") == [(3.0,)]


@pytest.mark.parametrize(("column", "large", "little"), [("price", "9999999.99", "0.01"), ("id", 2**60, 1)])
def test_sums_in_a_float_column_do_not_drift(sql: Sql, column: str, large: Any, little: Any) -> None:
    """A float cannot hold both numbers at once: what a delta took away would take digits of the other along."""
    rules = rules_of(Publisher, kept_ratio=Sum(f"works__{column}"))
    sql("INSERT INTO archive_publisher (id, number) VALUES (gen_random_uuid(), 1)")
    keep(rules)
    for number in (large, little):
        sql(f"INSERT INTO archive_work (publisher_id, {column}) VALUES (1, %s)", number)
        assert_rules_hold(rules)
    sql(f"DELETE FROM archive_work WHERE {column} = %s", large)
    assert check(rules, Publisher, "kept_ratio") == [(float(little),)]


@pytest.mark.parametrize(
    "expression", [Sum("reviews__stars", default=0), Sum("reviews__stars", default=1), Count("reviews") * 2147483647]
)
def test_numeric_overflow_is_postgresqls_error_and_names_the_function(sql: Sql, expression: Any) -> None:
    rules = rules_of(Work, the_count=expression)
    work = Work.objects.create()
    keep(rules)
    Review.objects.create(work=work, stars=2147483647)
    with pytest.raises(DatabaseError) as caught, transaction.atomic():
        Review.objects.bulk_create([Review(work=work, stars=1), Review(work=work, stars=2)])
    error: Any = caught.value.__cause__
    assert error.sqlstate == "22003"
    assert "tk_archive_work_from_archive_review_insert" in error.diag.context
    assert_rules_hold(rules)


def test_a_rounding_column_is_recomputed(sql: Sql) -> None:
    rules = rules_of(Publisher, the_total=Sum(F("works__price") / 3, default=0), kept_amount=StdDev("works__price"))
    sql("INSERT INTO archive_publisher (id, number) VALUES (gen_random_uuid(), 1)")
    keep(rules)
    for _ in range(10):
        sql("INSERT INTO archive_work (publisher_id, price) VALUES (1, 0.01)")
        assert_rules_hold(rules)
    assert check(rules, Publisher, "the_total") == [(Decimal("0.0333"),)]


MOVED_ON = """
CREATE FUNCTION pg_temp.move_on() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN UPDATE archive_child SET parent_id = 2 WHERE id = NEW.id; RETURN NULL; END $$;
CREATE TRIGGER a_first AFTER INSERT ON archive_child FOR EACH ROW EXECUTE FUNCTION pg_temp.move_on()
"""


@pytest.mark.parametrize("is_checked", [False, True])
@pytest.mark.parametrize("kind", [models.IntegerField, models.PositiveIntegerField])
@isolate_apps("tests.archive")
def test_a_number_never_passes_through_minus_one(sql: Sql, kind: Any, is_checked: bool) -> None:
    """The UPDATE of a user's trigger reports before the INSERT that fired it."""

    class Parent(models.Model):
        number = kind(default=0)
        total = kind(default=0)

        class Meta:
            app_label = "archive"
            constraints = [
                models.CheckConstraint(condition=Q(**{f"{name}__gte": 0}), name=f"{name}_is_not_negative")
                for name in (("number", "total") if is_checked else ())
            ]

    class Child(models.Model):
        parent = models.ForeignKey(Parent, models.CASCADE, related_name="children")
        weight = models.IntegerField(default=1, db_default=1)

        class Meta:
            app_label = "archive"

    rules = rules_of(Parent, number=Count("children"), total=Sum("children__weight", default=0))
    make_tables(Parent, Child)
    keep(rules)
    sql(MOVED_ON)
    sql("INSERT INTO archive_parent (id, number, total) VALUES (1, 0, 0), (2, 0, 0)")
    for statement in (
        "INSERT INTO archive_child (id, parent_id) VALUES (1, 1)",
        "INSERT INTO archive_child (id, parent_id, weight) VALUES (2, 1, 5), (3, 2, 1)",
        "WITH gone AS (DELETE FROM archive_child WHERE id = 1) INSERT INTO archive_child (id, parent_id) VALUES (4, 1)",
    ):
        sql(statement)
        assert_rules_hold(rules)
    assert check(rules, Parent, "number", "total") == [(0, 0), (3, 7)]


# Models of a test's own: odd names, proxies, other people's tables --------------------------------------------------


ODD = {
    "reserved words": ("order", "user", "select"),
    "mixed case and spaces": ("The Table", "Its Rows", "Group By"),
    "quotes and braces": ("o'ne", "t'wo {:schema}", "it's {0}{x}"),
    "long": ("a" * 60, "b" * 60, "c" * 60),
    "accents": ("bücher", "größe", "straße"),
}


@pytest.mark.parametrize("name", ODD)
@isolate_apps("tests.archive")
def test_odd_names(sql: Sql, name: str) -> None:
    parents, children, column = ODD[name]

    class Parent(models.Model):
        number = models.IntegerField(default=0, db_column=column)
        total = models.IntegerField(null=True, db_column=column[:40] + " total")
        last = models.TextField(null=True, db_column=column[:40] + " last")
        best = models.IntegerField(null=True)
        many = models.IntegerField(default=0)
        friends = models.ManyToManyField("Child", db_table=children[:50] + "_m2m", related_name="fans")

        class Meta:
            app_label = "archive"
            db_table = parents

    class Child(models.Model):
        parent = models.ForeignKey(Parent, models.CASCADE, related_name="children", db_column=column)
        value = models.IntegerField(null=True, db_column=column[:40] + " value")
        copied = models.IntegerField(null=True)

        class Meta:
            app_label = "archive"
            db_table = children

    rules = [
        *rules_of(
            Parent,
            number=Count("children", filter=Q(children__value__gt=0)),
            total=Sum("children__value"),
            last=StringAgg(Cast("children__value", models.TextField()), Value("' $$ {x}"), order_by="children__id"),
            best=Max("children__value"),
            many=Count("friends", filter=Q(friends__value__gt=1)),
        ),
        *rules_of(Child, copied=F("parent__many")),
    ]  # fmt: skip
    make_tables(Parent, Child)
    keep(rules)
    one, two = Parent.objects.create(), Parent.objects.create()
    kids = [Child.objects.create(parent=one, value=n) for n in (1, 2, 3)]
    assert check(rules, Parent, "number", "total", "best") == [(3, 6, 3), (0, None, None)]
    for write in (
        lambda: one.friends.set(kids),
        lambda: Child.objects.filter(value=3).update(parent=two, value=5),
        lambda: Child.objects.update(value=F("value") * -1),
        lambda: Child.objects.filter(value=-1).delete(),
        lambda: Parent.objects.filter(pk=two.pk).update(number=9, total=9),
        one.delete,
    ):
        write()
        assert_rules_hold(rules)
    assert check(rules, Parent, "number", "total", "best") == [(0, -5, -5)]


@pytest.mark.parametrize("sign", ["100%", 'q"uote', "%s {x}", "$$", "$trigger_kit$ {:schema}"])
@isolate_apps("tests.archive")
def test_names_that_django_itself_cannot_query(sql: Sql, sign: str) -> None:
    """Django refuses some of them in queries; raw SQL does not, and the triggers must not either."""
    table, column = sign.replace('"', '""'), (sign + " col").replace('"', '""')

    class Parent(models.Model):
        number = models.IntegerField(default=0, db_column=sign + " col")
        best = models.IntegerField(null=True)

        class Meta:
            app_label = "archive"
            db_table = sign

    class Child(models.Model):
        parent = models.ForeignKey(
            Parent, models.CASCADE, related_name="children", db_column=sign + " col", db_constraint=False
        )
        value = models.IntegerField(null=True, db_column=sign)

        class Meta:
            app_label = "archive"
            db_table = sign + " child"
            indexes = []

    sql(f'CREATE TABLE "{table}" (id bigint PRIMARY KEY, "{column}" int NOT NULL, best int)')
    sql(f'CREATE TABLE "{table} child" (id bigint PRIMARY KEY, "{column}" bigint, "{table}" int)')
    keep(rules_of(Parent, number=Count("children"), best=Max("children__value")))
    sql(f'INSERT INTO "{table}" (id) VALUES (1), (2)')
    sql(f'INSERT INTO "{table} child" VALUES (1, 1, 5), (2, 1, 7)')
    sql(f'UPDATE "{table} child" SET "{column}" = 2 WHERE id = 2')
    assert sql(f'SELECT id, "{column}", best FROM "{table}" ORDER BY id') == [(1, 1, 5), (2, 1, 7)]
    sql(f'DELETE FROM "{table} child"')
    assert sql(f'SELECT id, "{column}", best FROM "{table}" ORDER BY id') == [(1, 0, None), (2, 0, None)]


@isolate_apps("tests.archive")
def test_two_names_that_look_alike_once_they_are_short(sql: Sql) -> None:
    class One(models.Model):
        number = models.IntegerField(default=0)

        class Meta:
            app_label = "archive"
            db_table = "x" * 59 + "one"

    class Two(models.Model):
        number = models.IntegerField(default=0)

        class Meta:
            app_label = "archive"
            db_table = "x" * 59 + "two"

    class Child(models.Model):
        one = models.ForeignKey(One, models.CASCADE, related_name="children")
        two = models.ForeignKey(Two, models.CASCADE, related_name="children")

        class Meta:
            app_label = "archive"

    rules = [*rules_of(One, number=Count("children")), *rules_of(Two, number=Count("children") * 10)]
    make_tables(One, Two, Child)
    keep(rules)
    Child.objects.create(one=One.objects.create(), two=Two.objects.create())
    assert check(rules, One, "number") == [(1,)]
    assert check(rules, Two, "number") == [(10,)]


@isolate_apps("tests.archive")
def test_foreign_keys_to_a_proxy_and_to_somebody_elses_model(sql: Sql) -> None:
    class Base(models.Model):
        name = models.TextField(default="")
        number = models.IntegerField(default=0)
        best = models.IntegerField(null=True)

        class Meta:
            app_label = "archive"

    class Proxy(Base):
        class Meta:
            app_label = "archive"
            proxy = True

    class Child(models.Model):
        parent = models.ForeignKey(Proxy, models.CASCADE, related_name="children")
        user = models.ForeignKey(User, models.CASCADE, related_name="+")
        value = models.IntegerField(default=1)
        parent_name = models.TextField(default="")
        user_name = models.TextField(default="")
        friends = models.ManyToManyField(Proxy, related_name="fans")

        class Meta:
            app_label = "archive"

    rules = [
        *rules_of(Base, number=Count("fans"), best=Max("children__value")),
        *rules_of(Child, parent_name=Upper("parent__name"), user_name=F("user__username")),
    ]
    make_tables(Base, Child)
    keep(rules)
    user = User.objects.create(username="ann")
    parents = [Proxy.objects.create(name="p"), Base.objects.create(name="b")]
    child = Child.objects.create(parent=parents[0], user=user, value=7)
    child.friends.add(parents[0], Proxy.objects.get(pk=parents[1].pk))
    assert check(rules, Base, "number", "best") == [(1, 7), (1, None)]
    assert check(rules, Child, "parent_name", "user_name") == [("P", "ann")]
    for write in (
        lambda: Proxy.objects.update(name="q", number=9),
        lambda: User.objects.update(username="bob"),
        lambda: Child.objects.update(parent=parents[1].pk),
        lambda: child.friends.set([parents[0].pk]),
        lambda: Proxy.objects.filter(pk=parents[1].pk).delete(),
    ):
        write()
        assert_rules_hold(rules)


@isolate_apps("tests.archive")
def test_tables_in_another_schema(sql: Sql) -> None:
    """The writer's search_path may lack the schema that the triggers were installed under."""

    class Parent(models.Model):
        number = models.IntegerField(default=0)
        best = models.IntegerField(null=True)

        class Meta:
            app_label = "archive"

    class Child(models.Model):
        parent = models.ForeignKey(Parent, models.CASCADE, related_name="children", db_constraint=False)
        value = models.IntegerField(default=1)
        copied = models.IntegerField(null=True)

        class Meta:
            app_label = "archive"

    rules = [
        *rules_of(Parent, number=Count("children"), best=Max("children__value")),
        *rules_of(Child, copied=F("parent__number")),
    ]
    sql('CREATE SCHEMA "Else where"')
    sql('SET LOCAL search_path = "Else where", public')
    make_tables(Child)
    sql("SET LOCAL search_path = public")
    make_tables(Parent)
    sql('SET LOCAL search_path = public, "Else where"')
    keep(rules)
    sql("SET LOCAL search_path = pg_catalog")
    sql("INSERT INTO public.archive_parent (id, number) VALUES (1, 0), (2, 0)")
    sql('INSERT INTO "Else where".archive_child (parent_id, value) VALUES (1, 3), (1, 4)')
    sql('UPDATE "Else where".archive_child SET parent_id = 2 WHERE value = 4')
    sql('SET LOCAL search_path = public, "Else where"')
    assert check(rules, Parent, "number", "best") == [(1, 3), (1, 4)]
    assert check(rules, Child, "copied") == [(1,), (1,)]
    sql("SET LOCAL search_path = public")
