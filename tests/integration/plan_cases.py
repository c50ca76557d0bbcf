"""Rules of every kind that a step is made for, and the events that concern them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from django.contrib.postgres.aggregates import ArrayAgg, BoolOr
from django.db.models import Count, F, Max, Min, Model, Q, Sum, TextField, Value
from django.db.models.functions import Coalesce, Concat, Lower

from tests.archive.keeping import Rules
from tests.archive.models import Country, Line, Node, Note, Novel, Person, Publisher, Review, Series, Tag, Work
from tests.archive.rules import (
    count_of_reviews,
    has_long_review,
    has_other_work,
    has_work_without_review,
    latest_review,
)
from trigger_kit import Denormalize, Exists, First, Timing

LINK = "insert delete move"
LEAF = "insert value move delete"
TARGET = "insert value delete"


@dataclass(frozen=True)
class Case:
    """Rules, and the events that concern them: tables with the names of the changes.

    ``may_read_target``: see ``WHOLE_TARGET`` of the tests.
    """

    name: str
    rules: Callable[[], list[tuple[type[Model], dict[str, Any]]]]
    events: dict[str, str]
    timing: Timing = Timing.IMMEDIATE
    may_read_target: bool = False

    def all_events(self) -> Iterator[tuple[str, str]]:
        """Yield every table with every change."""
        for table, changes in self.events.items():
            for change in changes.split():
                yield table, change

    def declared(self) -> Rules:
        """Return the rules with the timing of the case."""
        return [
            (model, [Denormalize(name, rule, timing=self.timing) for name, rule in rules.items()])
            for model, rules in self.rules()
        ]


def one_hop() -> dict[str, Any]:
    return {
        "the_count": Count("works"),
        "the_total": Sum("works__price", default=0),
        "kept_number": Sum("works__pages", filter=Q(works__published=True)),
    }


def two_hops() -> dict[str, Any]:
    stars = Sum("works__reviews__stars", default=0, filter=Q(works__published=True))
    return {"the_count": Count("works__reviews"), "the_total": stars}


def of_tags() -> dict[str, Any]:
    return {"the_count": Count("tags", filter=Q(tags__active=True)), "the_total": Sum("tags__weight", default=0)}


def lists() -> dict[str, Any]:
    return {
        "kept_list": ArrayAgg("works__title", order_by=("-works__pages", "works__id")),
        "kept_flag": BoolOr("works__published", filter=Q(works__pages__gt=1)),
    }


REVIEWED = {"review": LEAF, "work": "insert value move delete", "publisher": "insert rekey delete"}
PUBLISHED = {"work": LEAF, "publisher": "insert rekey delete"}
# What differs where a timing, or a subquery, tells the targets that a change touches.
REVIEWED_LATER = {"review": LEAF, "work": "move delete", "publisher": "insert"}
TAGGED_LATER = {"work_tags": LINK, "tag": "value delete", "work": "insert"}
TAGGED = {"work_tags": LINK, "tag": TARGET, "work": "insert delete"}
THREE = {
    "review": LEAF,
    "work": "insert value move delete",
    "publisher": "insert move delete",
    "country": "insert delete",
}

CASES = [
    Case("delta over one hop", lambda: [(Publisher, one_hop())], PUBLISHED),
    Case("delta over two hops", lambda: [(Publisher, two_hops())], REVIEWED),
    Case("delta over three hops", lambda: [(Country, {"the_count": Count("publishers__works__reviews")})], THREE),
    Case("delta over tags", lambda: [(Work, of_tags())], TAGGED),
    Case(
        "delta of tags",
        lambda: [(Tag, {"the_total": Sum("works__pages", default=0)})],
        {"work_tags": LINK, "work": "insert value delete", "tag": "insert delete"},
    ),
    Case(
        "delta over a hop and tags",
        lambda: [(Publisher, {"the_total": Sum("works__tags__weight", default=0, filter=Q(works__tags__active=True))})],
        {"work_tags": LINK, "tag": TARGET, "work": "insert move delete", "publisher": "insert delete"},
    ),
    Case(
        "delta through credits",
        lambda: [
            (Person, {"the_total": Sum("works__pages", default=0), "the_count": Count("credits__work__reviews")})
        ],
        {"credit": LEAF, "work": "insert value delete", "review": LEAF, "person": "insert delete"},
    ),
    Case(
        "extremum over one hop",
        lambda: [(Publisher, {"kept_number": Max("works__pages"), "kept_amount": Min("works__price", default=1)})],
        {"work": f"{LEAF} lower", "publisher": "insert rekey delete"},
    ),
    Case(
        "extremum over two hops",
        lambda: [(Publisher, {"kept_number": Max("works__reviews__stars")})],
        {"review": f"{LEAF} lower", "work": "insert move delete", "publisher": "insert delete"},
        may_read_target=True,
    ),
    Case(
        "extremum of tags",
        lambda: [(Tag, {"kept_number": Max("works__pages")})],
        {"work_tags": LINK, "work": "insert value lower delete", "tag": "insert delete"},
        may_read_target=True,
    ),
    Case(
        "first over one hop",
        lambda: [(Publisher, {"kept_text": First("works__title", order_by=["-works__pages", "works__title"])})],
        {"work": f"{LEAF} lower", "publisher": "insert rekey delete"},
    ),
    Case(
        "first over tags",
        lambda: [(Work, {"kept_text": First("tags__name", order_by="-tags__weight", filter=Q(tags__active=True))})],
        TAGGED,
    ),
    Case("recompute over one hop", lambda: [(Publisher, lists())], PUBLISHED),
    Case(
        "recompute over two hops",
        lambda: [(Publisher, {"the_count": Count("works__reviews__author", distinct=True)})],
        REVIEWED,
    ),
    Case(
        "recompute over tags",
        lambda: [(Work, {"kept_list": ArrayAgg("tags__name", order_by="tags__id", filter=Q(tags__isnull=False))})],
        TAGGED,
    ),
    Case("exists over one hop", lambda: [(Publisher, {"the_flag": Exists("works")})], PUBLISHED),
    Case(
        "exists over two hops",
        lambda: [(Publisher, {"the_flag": Exists("works__reviews", filter=Q(works__reviews__stars=4))})],
        REVIEWED,
        may_read_target=True,
    ),
    Case(
        "copies over one and two hops",
        lambda: [(Work, {"kept_text": F("publisher__country__name"), "kept_amount": F("publisher__fee")})],
        {"work": "insert value move", "publisher": "insert value move rekey delete", "country": TARGET},
    ),
    Case(
        "copy over three hops",
        lambda: [(Review, {"kept_text": F("work__publisher__country__name"), "kept_number": F("work__pages")})],
        {"review": "insert move", "work": "insert value move delete", "publisher": "insert move", "country": TARGET},
    ),
    Case(
        "rules of the own row",
        lambda: [(Work, {"the_label": Lower("title"), "kept_amount": F("price") * 2})],
        {"work": "insert value"},
    ),
    Case(
        "self-reference",
        lambda: [(Node, {"the_count": Count("children"), "kept_text": F("parent__name"), "kept_number": Max("children__own")})],
        {"node": LEAF},
    ),
    Case(
        "self-reference over two hops",
        lambda: [(Node, {"the_count": Count("children__children"), "kept_text": F("parent__parent__name")})],
        {"node": LEAF},
    ),
    Case(
        "tree upwards",
        lambda: [(Node, {"the_total": F("own") + Sum("children__the_total", default=0)})],
        {"node": LEAF},
    ),
    Case(
        "tree downwards",
        lambda: [
            (Node, {"kept_text": Coalesce(Concat("parent__kept_text", Value("/"), "name"), "name", output_field=TextField())})
        ],
        {"node": LEAF},
    ),
    Case(
        "generic relation",
        lambda: [
            (Work, {"the_count": Count("notes"), "kept_number": Sum("notes__weight")}),
            (Note, {"kept_text": F("work__title")}),
        ],
        {"note": LEAF, "work": TARGET},
    ),
    Case(
        "rule over a rule",
        lambda: [
            (Country, {"the_total": Sum("publishers__the_count", default=0)}),
            (Publisher, {"the_count": Count("works")}),
        ],
        {"work": "insert move delete", "publisher": "insert move delete", "country": "insert delete"},
    ),
    Case(
        "copy of a rule",
        lambda: [(Review, {"kept_number": F("work__the_count")}), (Work, {"the_count": Count("reviews")})],
        {"review": LEAF, "work": "insert delete"},
    ),
    Case(
        "subquery that counts, and one for the latest",
        lambda: [(Work, {"the_count": count_of_reviews(), "kept_text": latest_review()})],
        {"review": f"{LEAF} lower", "work": "insert delete"},
    ),
    Case(
        "subquery over two hops",
        lambda: [(Publisher, {"the_flag": has_long_review()})],
        REVIEWED_LATER,
        may_read_target=True,
    ),
    Case(
        "exclude",
        lambda: [(Publisher, {"the_flag": has_work_without_review()})],
        REVIEWED_LATER,
        may_read_target=True,
    ),
    Case("exclude over tags", lambda: [(Tag, {"the_flag": has_other_work()})], TAGGED, may_read_target=True),
    Case(
        "composite key",
        lambda: [(Line, {"the_count": Count("remarks"), "kept_text": F("work__title")})],
        {"remark": LEAF, "line": TARGET, "work": "insert value delete"},
    ),
    Case(
        "columns in two tables",
        lambda: [
            (Series, {"the_total": Sum("novels__words", default=0), "kept_number": Sum("novels__pages")}),
            (Novel, {"kept_title": F("publisher__name")}),
        ],
        {"novel": LEAF, "work": "value move delete", "publisher": "insert value", "series": "insert delete"},
    ),
    Case(
        "people who follow people",
        lambda: [(Person, {"the_count": Count("followers"), "the_flag": Exists("followers", filter=Q(followers__name="bob"))})],
        {"person_follows": LINK, "person": TARGET},
    ),
    Case("deferred over one hop", lambda: [(Publisher, one_hop())], PUBLISHED, Timing.DEFERRED),
    Case("deferred over two hops", lambda: [(Publisher, two_hops())], REVIEWED_LATER, Timing.DEFERRED),
    Case("deferred over tags", lambda: [(Work, of_tags())], TAGGED_LATER, Timing.DEFERRED),
    Case(
        "deferred extremum and recompute",
        lambda: [(Publisher, {**lists(), "kept_number": Max("works__pages")})],
        PUBLISHED,
        Timing.DEFERRED,
    ),
    Case("queued over one hop", lambda: [(Publisher, {"the_count": Count("works"), "the_total": Sum("works__price", default=0)})], PUBLISHED, Timing.QUEUED, may_read_target=True),
    Case("queued over two hops", lambda: [(Publisher, two_hops())], REVIEWED_LATER, Timing.QUEUED, may_read_target=True),
    Case("queued over tags", lambda: [(Work, of_tags())], TAGGED_LATER, Timing.QUEUED, may_read_target=True),
]  # fmt: skip
