"""The grammar: for each model, rules of every strategy over every relation, by the spare columns that can hold them."""

from __future__ import annotations

from typing import Any

from django.contrib.postgres.aggregates import ArrayAgg, BoolAnd, BoolOr, JSONBAgg
from django.db.models import (
    Avg,
    Case,
    Count,
    DecimalField,
    F,
    IntegerField,
    Max,
    Min,
    OuterRef,
    Q,
    StdDev,
    Subquery,
    Sum,
    TextField,
    Value,
    Variance,
    When,
)
from django.db.models import Exists as DjangoExists
from django.db.models.fields.json import KT, KeyTextTransform
from django.db.models.functions import Abs, Cast, Coalesce, Concat, Extract, Length, Lower, Upper

from tests.archive.aggregates import StringAgg
from tests.archive.models import Country, Line, Node, Note, Novel, Person, Publisher, Review, Series, Tag, Work
from trigger_kit import Exists, First, Rows

Pool = dict[str, list[Any]]


def latest_review() -> Any:
    """The text of the latest review, by a queryset that is written down."""
    reviews = Rows("archive.Review").filter(work=OuterRef("pk")).order_by("-created", "-pk")
    return Subquery(reviews.values("text")[:1])


def count_of_reviews() -> Any:
    """A correlated count, as people write it to keep joins from multiplying."""
    counted = Rows("archive.Review").filter(work=OuterRef("pk"), stars__gte=2).order_by().values("work")
    return Coalesce(Subquery(counted.annotate(number=Count("*")).values("number")), 0)


def has_long_review() -> Any:
    """Django's own Exists, correlated over two hops."""
    return DjangoExists(Rows("archive.Review").filter(work__publisher=OuterRef("number"), text__contains="long"))


def has_work_without_review() -> Any:
    """Rows that an exclude() over a to-many relation leaves."""
    return DjangoExists(Rows("archive.Work").filter(publisher=OuterRef("number")).exclude(reviews__stars=5))


def has_other_work() -> Any:
    """The same over a many-to-many relation, there and back."""
    return DjangoExists(Rows("archive.Work").filter(tags=OuterRef("pk")).exclude(tags__weight=7))


def without_reviews() -> Any:
    """A filter that Django turns into a subquery."""
    return Count("works", filter=~Q(works__reviews__stars=5), distinct=True)


PUBLISHER: Pool = {
    "the_count": [
        Count("works"),
        Count("works", filter=Q(works__published=True)),
        Count("works__reviews"),
        Count("works__reviews", filter=Q(works__reviews__stars__gte=3, works__published=True)),
        Count("works__reviews__author", distinct=True),
        Count("works__tags"),
        Count("works__people", distinct=True, filter=Q(works__people__name__icontains="a")),
        Count("works", filter=Q(works__pages__gt=F("number"))),
        without_reviews(),
        Count("works", filter=Q(works__data__size__icontains=".0")),
        Count("works__reviews", filter=Q(works__data__size__icontains=".0")),
    ],
    "the_total": [
        Sum("works__price", default=0),
        Sum("works__reviews__stars", default=0),
        Sum(F("works__price") * F("works__pages"), default=0),
        Sum(Case(When(works__published=True, then=F("works__pages")), default=Value(1)), default=0),
        Sum("works__tags__weight", default=0, filter=Q(works__tags__active=True)),
        Sum("works__reviews__stars", default=7),
        F("number") + Sum("works__pages", default=0),
        Sum("works__doubled", default=0),
        Sum(Case(When(works__published=True, then=1)), default=0),
        Sum(Length("works__title"), default=0),
        Sum(Abs("works__pages"), default=0),
        Sum(F("works__pages") % 3, default=0),
    ],
    "the_flag": [Exists("works"), Exists("works__reviews", filter=Q(works__reviews__stars=5)), has_long_review(), has_work_without_review()],
    "the_label": [Upper("name"), Concat("name", Value(" of "), "country__name"), StringAgg("works__title", ", ", order_by="works__title", default=Value("none"))],
    "kept_number": [Sum("works__pages"), Max("works__pages"), Min("works__reviews__stars"), F("country__rank"), Max("works__tags__weight"), Max(Extract("works__reading_time", "day"))],
    "kept_amount": [Sum("works__price"), Avg("works__pages"), Max("works__price"), Min("works__price", default=1)],
    "kept_ratio": [Sum("works__score"), StdDev("works__pages"), Variance("works__reviews__stars"), Avg("works__score"), Sum("works__price")],
    "kept_text": [F("country__name"), First("works__title", order_by=["-works__pages", "works__title"]), Max("works__title"), StringAgg(Cast("works__data", TextField()), ",", order_by="works__id")],
    "kept_flag": [BoolAnd("works__published"), BoolOr("works__published", filter=Q(works__pages__gt=1))],
    "kept_day": [Max("works__day"), First("works__day", order_by="-works__moment")],
    "kept_moment": [Max("works__moment"), Min("works__reviews__created")],
    "kept_list": [ArrayAgg("works__title", order_by=("-works__pages", "works__id")), ArrayAgg("works__title", distinct=True, order_by="works__title")],
    "kept_json": [JSONBAgg("works__pages", order_by="works__pages", filter=Q(works__published=True))],
}  # fmt: skip
WORK: Pool = {
    "the_count": [
        Count("reviews"),
        Count("tags"),
        Count("tags", filter=Q(tags__active=True)),
        Count("notes"),
        Count("notes", filter=Q(notes__weight__gt=1)),
        Count("credits", filter=Q(credits__role="author")),
        Count("people"),
        Count("lines__remarks"),
        Count("notes__author"),
        Count("notes__author__written__person"),
        Count("reviews", filter=Q(reviews__stars__gte=F("least"))),
        count_of_reviews(),
    ],
    "the_total": [
        Sum("reviews__stars", default=0),
        Sum("notes__weight", default=0),
        Sum("credits__share", default=0, filter=Q(credits__person__name__startswith="a")),
        Sum("people__credits__share", default=0),
        Coalesce(F("price"), Value(0), output_field=DecimalField()) + Cast("least", DecimalField(max_digits=20, decimal_places=4)),
        Sum("reviews__stars", default=0) * F("least") - Count("reviews"),
    ],
    "the_flag": [Exists("reviews", filter=Q(reviews__author__isnull=False)), Exists("tags"), Exists("notes")],
    "the_label": [Lower("title"), Concat("title", Value("/"), "publisher__name", Value("/"), "publisher__country__name")],
    "kept_number": [F("publisher__number"), Max("reviews__stars"), Sum("notes__weight"), Length("title"), First("reviews", order_by="-reviews__created"), Length("editor__name"), Extract("reading_time", "day")],
    "kept_amount": [F("publisher__fee"), Avg("reviews__stars"), F("price") * 2],
    "kept_text": [F("publisher__country__name"), F("editor__name"), latest_review(), First("tags__name", order_by="-tags__weight", filter=Q(tags__active=True)), Max("people__name"), StringAgg("notes__text", "|", order_by="notes__id"), KT("data__size")],
    "kept_json": [F("data__size"), JSONBAgg("reviews__stars", order_by=("-reviews__stars",))],
    "kept_flag": [BoolOr("credits__person__works__published"), F("publisher__the_flag"), Q(pages__gt=1, published=True) | Q(title="")],
    "kept_moment": [Max("reviews__created"), Max("reviews__created", filter=Q(reviews__author__name="ann"))],
    "kept_list": [ArrayAgg("tags__name", order_by=("tags__name", "tags__id"), filter=Q(tags__isnull=False)), ArrayAgg("reviews__author__name", order_by="reviews__id", default=Value([]))],
}  # fmt: skip
PERSON: Pool = {
    "the_count": [Count("friends"), Count("followers"), Count("follows", filter=Q(follows__name="ann")), Count("credits__work__reviews"), Count("reviews"), Count("follows__followers"), Count("works"), Count("works", filter=Q(works__published=True)), Count("written__work")],
    "the_total": [Sum("works__pages", default=0), Sum("credits__share", default=0), Sum("works__publisher__fee", default=0), Sum("written__work__pages", default=0)],
    "the_flag": [Exists("followers", filter=Q(followers__name="bob")), Exists("edited"), Exists("written__person")],
    "kept_text": [First("followers__name", order_by="followers__name"), Min("friends__name"), First("reviews__work__title", order_by="-reviews__created")],
    "kept_list": [ArrayAgg("friends__name", order_by="friends__id"), ArrayAgg("works__title", distinct=True, order_by="works__title")],
    "last_review": [First("reviews", order_by=["-reviews__created"])],
}  # fmt: skip
NOTE: Pool = {
    "kept_text": [F("work__title"), F("person__name"), Concat("work__title", Value("/"), "person__name", output_field=TextField())],
    "kept_number": [F("work__pages"), F("work__the_count"), Count("work__notes"), Max("person__notes__weight")],
}  # fmt: skip
TAG: Pool = {
    "the_count": [Count("works"), Count("works", filter=Q(works__published=True)), Count("works__reviews")],
    "the_total": [Sum("works__pages", default=0), Sum("works__price", default=0)],
    "the_flag": [has_other_work()],
    "kept_number": [Max("works__pages"), Sum("works__pages")],
    "kept_text": [First("works__title", order_by="-works__day"), Max("works__publisher__name")],
}
LINE: Pool = {
    "the_count": [Count("remarks"), Count("remarks", filter=Q(remarks__weight__gt=1))],
    "the_total": [Sum("remarks__weight", default=0)],
    "kept_text": [F("work__title"), F("work__publisher__name"), First("remarks__text", order_by="remarks__weight"), Concat("text", Value("-"), "work__title", output_field=TextField())],
    "kept_number": [Max("remarks__weight"), F("work__pages") + F("number")],
}  # fmt: skip
NOVEL: Pool = {
    "kept_title": [
        F("title"),
        Concat("genre", Value(":"), "title", output_field=TextField()),
        F("publisher__name"),
        F("series__name"),
    ],
}
SERIES: Pool = {
    "the_count": [Count("novels"), Count("novels", filter=Q(novels__published=True)), Count("novels__reviews")],
    "the_total": [Sum("novels__words", default=0), Sum("novels__pages", default=0)],
    "kept_number": [Max("novels__words"), Max("novels__pages")],
    "kept_text": [First("novels__title", order_by="novels__words")],
}
NODE: Pool = {
    "the_count": [Count("children"), Count("children__children"), Count("parent__children"), Count("children", filter=Q(children__own__gt=F("own")))],
    "the_total": [Sum("children__own", default=0), F("own") + Sum("children__own", default=0), F("own") + Sum("children__the_total", default=0)],
    "the_flag": [Exists("children"), Exists("children__children")],
    "kept_text": [F("parent__name"), F("parent__parent__name"), First("children__name", order_by="-children__own"), Max("children__name"), Coalesce(Concat("parent__kept_text", Value("/"), "name"), "name", output_field=TextField())],
    "kept_number": [Max("children__own"), F("own") * 2, F("parent__own"), Coalesce(F("parent__kept_number"), 0) + 1],
}  # fmt: skip
COUNTRY: Pool = {
    "the_count": [Count("publishers"), Count("publishers__works"), Count("publishers__works__reviews")],
    "the_total": [Sum("publishers__the_count", default=0), Sum("publishers__works__the_total", default=0), Sum("publishers__works__pages", default=0, filter=Q(publishers__number__lte=2))],
    "kept_number": [Max("publishers__works__pages"), Max("publishers__kept_number"), Sum("publishers__works__tags__weight")],
    "kept_text": [Max("publishers__kept_text"), First("publishers__works__title", order_by="publishers__works__pages")],
}  # fmt: skip
REVIEW: Pool = {
    "kept_text": [F("work__publisher__country__name"), F("author__name"), F("work__the_label"), KeyTextTransform("size", "work__data"), Case(When(stars__gt=2, then=F("work__title")), default=F("text"), output_field=TextField())],
    "kept_number": [F("work__pages"), F("work__the_count"), Case(When(stars__gt=2, then=Value(1)), default=F("author__id"), output_field=IntegerField())],
}  # fmt: skip

POOLS: dict[type, Pool] = {
    Country: COUNTRY,
    Line: LINE,
    Node: NODE,
    Note: NOTE,
    Novel: NOVEL,
    Person: PERSON,
    Publisher: PUBLISHER,
    Review: REVIEW,
    Series: SERIES,
    Tag: TAG,
    Work: WORK,
}


def served(path: str, total: str) -> dict[str, Any]:
    """An average beside the sum and the count over the same rows, from which it follows."""
    return {
        "kept_amount": Avg(path),
        total: Sum(path, **({"default": 0} if total == "the_total" else {})),
        "the_count": Count(path),
    }


# Rules that mean something together.
BUNDLES: dict[type, list[dict[str, Any]]] = {
    Person: [served("works__pages", "kept_number")],
    Publisher: [served("works__pages", "kept_number"), served("works__reviews__stars", "the_total")],
    Work: [served("reviews__stars", "the_total"), served("notes__weight", "kept_number")],
    Line: [served("remarks__weight", "the_total")],
}
