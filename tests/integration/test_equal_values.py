"""Values that PostgreSQL calls equal although they can be told apart: 1 and 1.0, a day and 24 hours, 0 and -0."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.postgres.aggregates import ArrayAgg, JSONBAgg
from django.db.models import Count, F, Max, Model, Q, Sum, TextField, Value
from django.db.models.fields.json import KT, KeyTextTransform
from django.db.models.functions import ATan2, Cast, Extract, Length

from tests.archive.aggregates import StringAgg
from tests.archive.keeping import assert_rules_hold, keep, rules_of
from tests.archive.models import Country, Note, Novel, Publisher, Review, Series, Tag, Work
from trigger_kit import Exists, First
from trigger_kit.maintenance.explain import explain

Sql = Callable[..., list[tuple[Any, ...]]]

pytestmark = pytest.mark.usefixtures("short_inserts")
TEXT = TextField()


ROWS = """
INSERT INTO archive_country (code) VALUES ('a');
INSERT INTO archive_publisher (id, number, country_id) VALUES (gen_random_uuid(), 1, 'a'), (gen_random_uuid(), 2, 'a');
INSERT INTO archive_work (id, publisher_id, title, data, reading_time, score)
VALUES (1, 1, 'a', '{"size": 1}', '1 day', 0), (2, 1, 'b', '{"size": 1}', '1 day', 0), (3, 2, 'c', '{"size": 2.50}', '2 days', 1);
INSERT INTO archive_series (id) VALUES (1);
INSERT INTO archive_novel (work_ptr_id, series_id) VALUES (1, 1), (3, 1);
INSERT INTO archive_tag (id) VALUES (1);
INSERT INTO archive_work_tags (id, work_id, tag_id) VALUES (1, 1, 1), (2, 3, 1);
INSERT INTO archive_review (id, work_id) VALUES (1, 1), (2, 1), (3, 2), (4, 3);
INSERT INTO archive_note (id, content_type_id, object_id)
SELECT n, type.id, n FROM django_content_type AS type, generate_series(1, 3) AS n WHERE app_label = 'archive' AND model = 'work';
"""
# Each leaves every column equal to what it was, for PostgreSQL's =.
STATEMENTS = (
    """UPDATE archive_work SET data = '{"size": 1.0}' WHERE id = 1""",
    """UPDATE archive_work SET data = '{"size": 1.00}' WHERE id < 3""",
    "UPDATE archive_work SET reading_time = '24:00:00' WHERE id = 1",
    "UPDATE archive_work SET reading_time = CASE id WHEN 3 THEN interval '48 hours' ELSE '24 hours' END",
    "UPDATE archive_work SET score = '-0' WHERE id = 2",
    """UPDATE archive_work SET score = -score, data = '{"size": 1}', reading_time = '1 day' WHERE id = 2""",
    """INSERT INTO archive_work (id, publisher_id, data) VALUES (1, 1, '{"size": 1}')
       ON CONFLICT (id) DO UPDATE SET data = EXCLUDED.data, reading_time = '1 day'""",
    """MERGE INTO archive_work AS w USING (VALUES (1, '{"size": 1.000}'::jsonb), (2, '{"size": 1.0}')) AS v (id, data)
       ON w.id = v.id WHEN MATCHED THEN UPDATE SET data = v.data, reading_time = '24 hours'""",
    """WITH w AS (UPDATE archive_work SET data = '{"size": 1}') UPDATE archive_review SET work_id = 1 WHERE id = 4""",
    """UPDATE archive_work SET publisher_id = 3 - publisher_id, data = '{"size": 1.0}'""",
)

HAS_POINT = {"works__data__size__icontains": ".0"}
RULES: dict[str, tuple[str, type[Model], str, Any]] = {
    "text of JSON": ("recompute", Publisher, "kept_text", StringAgg(Cast("works__data", TEXT), ",", order_by="works__id")),
    "text of a key": ("recompute", Publisher, "kept_text", StringAgg(KeyTextTransform("size", "works__data"), ",", order_by="works__id")),
    "largest text of a key": ("recompute", Publisher, "kept_text", Max(KeyTextTransform("size", "works__data"))),
    "list of JSON": ("recompute", Publisher, "kept_json", JSONBAgg("works__data", order_by="works__id")),
    "list of texts": ("recompute", Publisher, "kept_list", ArrayAgg(KeyTextTransform("size", "works__data"), order_by="works__id")),
    "texts over two hops": ("recompute", Country, "kept_text", StringAgg(KeyTextTransform("size", "publishers__works__data"), ",", order_by=("publishers__works__title", "publishers__works__id"))),
    "first": ("recompute", Publisher, "kept_json", First("works__data", order_by="works__title")),
    "exists": ("recompute", Publisher, "the_flag", Exists("works", filter=Q(**HAS_POINT))),
    "distinct": ("recompute", Publisher, "the_count", Count(KeyTextTransform("size", "works__data"), distinct=True)),
    "filtered count": ("delta", Publisher, "the_count", Count("works", filter=Q(**HAS_POINT))),
    "sum of lengths": ("recompute", Publisher, "the_total", Sum(Length(KeyTextTransform("size", "works__data")), default=0)),
    "count over two hops": ("delta", Publisher, "the_count", Count("works__reviews", filter=Q(**HAS_POINT))),
    "count over two hops to it": ("delta", Country, "the_count", Count("publishers__works", filter=Q(publishers__works__data__size__icontains=".0"))),
    "count over three hops": ("delta", Country, "the_count", Count("publishers__works__reviews", filter=Q(publishers__works__data__size__icontains=".0"))),
    "count over many to many": ("recompute", Tag, "the_count", Count("works", filter=Q(**HAS_POINT))),
    "count over a parent's table": ("recompute", Series, "the_count", Count("novels", filter=Q(novels__data__size__icontains=".0"))),
    "days": ("recompute", Publisher, "kept_number", Max(Extract("works__reading_time", "day"))),
    "hours": ("recompute", Publisher, "kept_number", Sum(Extract("works__reading_time", "hour"))),
    "sign of zero": ("recompute", Publisher, "kept_ratio", Sum(ATan2("works__score", Value(-1.0)))),
    "own JSON": ("copy", Work, "kept_json", F("data")),
    "own key": ("copy", Work, "kept_text", KT("data__size")),
    "own text": ("copy", Work, "the_label", Cast("data", TEXT)),
    "own days": ("copy", Work, "kept_number", Extract("reading_time", "day")),
    "own sign of zero": ("copy", Work, "kept_ratio", ATan2("score", Value(-1.0))),
    "parent's JSON": ("copy", Review, "kept_json", F("work__data")),
    "parent's key": ("copy", Review, "kept_text", KeyTextTransform("size", "work__data")),
    "parent's days": ("copy", Review, "kept_number", Extract("work__reading_time", "day")),
    "parent's sign of zero": ("copy", Review, "kept_ratio", ATan2("work__score", Value(-1.0))),
    "columns of two tables": ("copy", Novel, "kept_title", Cast("data", TEXT)),
    "generic parent's key": ("copy", Note, "kept_text", KeyTextTransform("size", "work__data")),
}  # fmt: skip


@pytest.mark.parametrize("name", RULES)
def test_what_reads_their_text_follows(sql: Sql, name: str) -> None:
    strategy, model, column, expression = RULES[name]
    rules = rules_of(model, **{column: expression})
    sql(ROWS)
    (plan,) = keep(rules)
    assert f"strategy: {strategy}\n" in explain(plan) + "\n"
    for statement in STATEMENTS:
        sql(statement)
        assert_rules_hold(rules)


def test_what_copies_of_them_are_copied_into_follows(sql: Sql) -> None:
    rules = [
        *rules_of(Publisher, kept_json=First("works__data", order_by="works__title"), kept_text=Cast("kept_json", TEXT)),
        *rules_of(Work, kept_json=F("data"), kept_text=Cast("kept_json", TEXT)),
        *rules_of(Review, kept_json=F("work__kept_json"), kept_text=Cast("work__kept_json", TEXT)),
        *rules_of(Country, kept_text=StringAgg(Cast("publishers__kept_json", TEXT), ",", order_by="publishers__number")),
    ]  # fmt: skip
    sql(ROWS)
    keep(rules)
    for statement in STATEMENTS:
        sql(statement)
        assert_rules_hold(rules)


def test_a_change_between_equal_values_leaves_other_targets_alone(sql: Sql) -> None:
    sql(ROWS)
    keep(rules_of(Publisher, the_count=Count("works__data"), kept_number=Max("works__pages")))
    before = sql("SELECT ctid FROM archive_publisher ORDER BY number")
    for statement in STATEMENTS[:6]:
        sql(statement)
    assert sql("SELECT ctid FROM archive_publisher ORDER BY number") == before
