"""Rules over Rows are kept exact by every writer, and queries over Rows find what those over querysets find."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.apps import apps
from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import BooleanField, Case, Count, F, Max, OuterRef, Q, QuerySet, Subquery, Sum, Value, When
from django.db.models import Exists as DjangoExists
from django.db.models.functions import Coalesce

from tests.archive.keeping import assert_rules_hold, check, keep, rules_of
from tests.archive.models import Country, Publisher, Work
from trigger_kit import Rows

Sql = Callable[..., list[tuple[Any, ...]]]

pytestmark = pytest.mark.usefixtures("short_inserts")

# Country a: publisher 1 with works 1 and 2, publisher 2 with work 3; country b: publisher 3 with work 4.
WORLD = """
INSERT INTO archive_country (code) VALUES ('a'), ('b');
INSERT INTO archive_publisher (id, number, country_id, name)
VALUES (gen_random_uuid(), 1, 'a', 'one'), (gen_random_uuid(), 2, 'a', 'two'), (gen_random_uuid(), 3, 'b', 'three');
INSERT INTO archive_tag (id, name, weight, active) VALUES (1, 't1', 1, true), (2, 't2', 3, false);
INSERT INTO archive_work (id, publisher_id, title, published, pages)
VALUES (1, 1, 'w1', true, 1), (2, 1, 'w2', false, 2), (3, 2, 'w3', true, 3), (4, 3, 'w4', true, 2);
INSERT INTO archive_work_tags (id, work_id, tag_id) VALUES (1, 1, 1), (2, 2, 2), (3, 3, 1);
INSERT INTO archive_review (id, work_id, stars, text)
VALUES (1, 1, 5, 'r1'), (2, 1, 1, 'r2'), (3, 2, 4, 'r3'), (4, 3, 3, 'r4'), (5, 4, NULL, 'r5'), (6, 4, 2, 'r6');
"""
WORKS = Rows("archive.Work").filter(publisher=OuterRef("number"))
REVIEWS = Rows("archive.Review").filter(work=OuterRef("pk"))
RULES = [
    *rules_of(
        Publisher,
        # The work with the best first review: Rows inside Rows.
        kept_text=Subquery(
            WORKS.annotate(first=Subquery(REVIEWS.order_by("created", "pk").values("stars")[:1]))
            .order_by(F("first").desc(nulls_last=True), "pk")
            .values("title")[:1]
        ),
        # Works with a review of more stars than the publisher's number: two queries further out.
        kept_list=ArraySubquery(
            WORKS.filter(DjangoExists(REVIEWS.filter(stars__gt=OuterRef(OuterRef("number")))))
            .order_by("title", "pk")
            .values("title")
        ),
        the_flag=WORKS.exclude(reviews__stars=5).filter(published=True).exists(),
        the_count=Count("works", filter=Q(works__in=Rows("archive.Work").filter(tags__active=True))),
        the_total=Sum(
            "works__pages",
            filter=Q(works__in=Rows("archive.Work").alias(n=Count("reviews")).filter(n__gt=1).distinct().values("pk")),
            default=0,
        ),
        kept_number=Subquery(WORKS.order_by("pages", "pk").reverse().values_list("pages", flat=True)[1:2]),
    ),
    *rules_of(
        Work,
        the_count=Coalesce(
            Subquery(REVIEWS.order_by().values("work").annotate(number=Count("*")).values("number")), Value(0)
        ),
        kept_text=REVIEWS.order_by("-pk").values("text")[:1],
        the_flag=~DjangoExists(REVIEWS.filter(stars__gte=4)),
        kept_number=Case(When(REVIEWS.filter(stars=5).exists(), then=F("pages")), default=Value(None)),
    ),
    *rules_of(
        Country,
        kept_number=Subquery(
            Rows("archive.Review")
            .filter(work__publisher__country=OuterRef("code"))
            .order_by()
            .values("work__publisher__country")
            .annotate(best=Max("stars"))
            .values("best")
        ),
    ),
]  # fmt: skip
STATEMENTS = (
    "INSERT INTO archive_review (id, work_id, stars, text) VALUES (7, 2, 5, 'r7'), (8, 4, 1, 'r8'), (9, 3, 5, 'r9')",
    "UPDATE archive_review SET stars = 6 - stars",
    "UPDATE archive_review SET work_id = 5 - work_id WHERE id < 4",
    "UPDATE archive_work SET publisher_id = 4 - publisher_id",
    "UPDATE archive_work SET pages = 9 - pages, title = title || 'x', published = NOT published",
    "INSERT INTO archive_work_tags (id, work_id, tag_id) VALUES (4, 4, 1), (5, 2, 1)",
    "UPDATE archive_tag SET active = NOT active",
    "UPDATE archive_publisher SET number = 7 WHERE number = 1; UPDATE archive_work SET publisher_id = 7 WHERE id = 1",
    "WITH w AS (UPDATE archive_work SET publisher_id = 2 WHERE id = 4) DELETE FROM archive_review WHERE work_id = 1",
    "INSERT INTO archive_publisher (id, number, country_id) VALUES (gen_random_uuid(), 9, 'b');"
    "INSERT INTO archive_work (id, publisher_id, title, pages) VALUES (8, 9, 'w8', 4), (9, 9, 'w9', 4);"
    "INSERT INTO archive_review (work_id, stars, text) VALUES (8, 5, 'n'), (9, 5, 'm')",
    "DELETE FROM archive_work_tags",
    "DELETE FROM archive_review WHERE stars > 2",
)


def test_rules_over_rows_are_kept(sql: Sql) -> None:
    sql(WORLD)
    keep(RULES)
    stored = check(
        RULES, Publisher, "number", "kept_text", "kept_list", "the_flag", "the_count", "the_total", "kept_number"
    )
    assert sorted(stored) == [
        (1, "w1", ["w1", "w2"], False, 1, 1, 1),
        (2, "w3", ["w3"], True, 1, 0, None),
        (3, "w4", [], True, 0, 2, None),
    ]
    assert check(RULES, Work, "the_count", "kept_text", "the_flag", "kept_number") == [
        (2, "r2", False, 1),
        (1, "r3", False, None),
        (1, "r4", True, None),
        (2, "r6", True, None),
    ]
    assert check(RULES, Country, "kept_number") == [(5,), (2,)]
    for statement in STATEMENTS:
        sql(statement)
        assert_rules_hold(RULES)


def queryset(label: str) -> Any:
    return QuerySet(apps.get_model(label))


# Each makes a query of what stands for archive.Review, archive.Work and archive.Tag.
QUERIES: dict[str, Callable[[Any], Any]] = {
    "annotate": lambda rows: Work.objects.annotate(
        v=Subquery(rows("archive.Review").filter(work=OuterRef("pk")).order_by("-pk").values("text")[:1])
    ).values_list("pk", "v"),
    "annotate without Subquery": lambda rows: Work.objects.annotate(
        v=rows("archive.Review").filter(work=OuterRef("pk")).order_by("-pk").values("text")[:1]
    ).values_list("pk", "v"),
    "array": lambda rows: Publisher.objects.annotate(
        v=ArraySubquery(rows("archive.Work").filter(publisher=OuterRef("number")).order_by("pk").values("title"))
    ).values_list("number", "v"),
    "exists": lambda rows: Work.objects.filter(
        DjangoExists(rows("archive.Review").filter(work=OuterRef("pk"), stars__gte=4))
    ).values_list("pk"),
    "condition with a type": lambda rows: Work.objects.filter(
        Subquery(
            rows("archive.Tag").filter(works=OuterRef("pk")).order_by("pk").values("active")[:1],
            output_field=BooleanField(),
        )
    ).values_list("pk"),
    "in": lambda rows: Work.objects.filter(pk__in=rows("archive.Review").filter(stars=5).values("work")).values_list(
        "pk"
    ),
    "in a relation": lambda rows: Publisher.objects.filter(
        works__in=rows("archive.Work").exclude(reviews__stars=5).filter(pages__gt=1)
    ).values_list("number"),
    "not in": lambda rows: Work.objects.exclude(
        pk__in=rows("archive.Review").filter(stars=5).values("work")
    ).values_list("pk"),
    "in some of them": lambda rows: Work.objects.filter(
        pk__in=rows("archive.Work").order_by("-pages", "pk").values("pk")[:2]
    ).values_list("pk"),
    "order": lambda rows: Work.objects.order_by(
        Subquery(rows("archive.Review").filter(work=OuterRef("pk")).order_by("-stars", "pk").values("text")[:1]).desc()
    ).values_list("pk"),
}


@pytest.mark.parametrize("name", QUERIES)
def test_queries_over_rows_find_the_same(sql: Sql, name: str) -> None:
    sql(WORLD)
    found = list(QUERIES[name](Rows))
    assert found
    assert found == list(QUERIES[name](queryset))


def test_rows_are_written_by_update(sql: Sql) -> None:
    sql(WORLD)
    Work.objects.update(title=Subquery(REVIEWS.order_by("pk").values("text")[:1]))
    assert list(Work.objects.order_by("pk").values_list("title", flat=True)) == ["r1", "r3", "r4", "r5"]
