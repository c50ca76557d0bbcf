"""Rules in the state of a migration, whose fields and models take other names."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.postgres.expressions import ArraySubquery
from django.db import models
from django.db.migrations.operations import RenameField, RenameModel
from django.db.migrations.state import ModelState, ProjectState
from django.db.models import Avg, Case, Count, F, FilteredRelation, Max, OuterRef, Q, Subquery, Sum, Value, When
from django.db.models import Exists as DjangoExists
from django.db.models.functions import Coalesce, Concat, ExtractYear, Upper

from trigger_kit import Denormalize, Exists, First, Rows
from trigger_kit.migration.renames import Renamings, renamed_rule

KEY = models.BigAutoField(primary_key=True)


def state() -> ProjectState:
    """Return authors, their books in series, and tags; some ways back have no name of their own."""
    found = ProjectState()
    cascade: Any = models.CASCADE
    for name, fields in {
        "Publisher": {"name": models.TextField()},
        "Series": {"publisher": models.ForeignKey("shop.Publisher", cascade)},
        "Tag": {"word": models.TextField(), "number": models.IntegerField()},
        "Author": {"name": models.TextField(), "total": models.IntegerField()},
        "Book": {
            "author": models.ForeignKey("shop.Author", cascade, related_name="books"),
            "series": models.ForeignKey("shop.Series", cascade),
            "pages": models.IntegerField(),
            "title": models.TextField(),
            "published": models.DateField(),
            "tags": models.ManyToManyField("shop.Tag"),
        },
    }.items():
        found.add_model(ModelState("shop", name, [("id", KEY.clone()), *fields.items()]))
    return found


def renamed(model: str, rule: Denormalize, operation: Any) -> Denormalize:
    """Return a rule after an operation."""
    before = state().apps
    after = state()
    operation.state_forwards("shop", after)
    if isinstance(operation, RenameModel):
        renaming = Renamings({("shop", operation.old_name_lower): operation.new_name_lower})
    else:
        name = operation.model_name_lower
        renaming = Renamings(fields={("shop", name, operation.old_name): operation.new_name})
    return renamed_rule(rule, before.get_model("shop", model), after.apps, renaming)


PAGES = RenameField("Book", "pages", "length")
TITLE = RenameField("Book", "title", "name")

EXPRESSIONS: dict[str, tuple[str, Any, Any, Any]] = {
    "aggregate": ("Author", Sum("books__pages", default=0), PAGES, Sum("books__length", default=0)),
    "F": ("Author", Sum(F("books__pages") * 2), PAGES, Sum(F("books__length") * 2)),
    "arithmetic": (
        "Author",
        Max("books__pages") - Avg("books__pages"),
        PAGES,
        Max("books__length") - Avg("books__length"),
    ),
    "filter with a lookup": (
        "Author",
        Count("books", filter=Q(books__pages__gte=3) | ~Q(books__title="pages")),
        PAGES,
        Count("books", filter=Q(books__length__gte=3) | ~Q(books__title="pages")),
    ),
    "a value of the same text": (
        "Author",
        Coalesce(Max("books__title"), Value("books__title")),
        TITLE,
        Coalesce(Max("books__name"), Value("books__title")),
    ),
    "texts that are paths": ("Book", Concat("title", Value("title")), TITLE, Concat("name", Value("title"))),
    "transform": (
        "Author",
        Count("books", filter=Q(books__published__year__gt=2000)),
        RenameField("Book", "published", "released"),
        Count("books", filter=Q(books__released__year__gt=2000)),
    ),
    "function": (
        "Author",
        Max(ExtractYear("books__published")),
        RenameField("Book", "published", "released"),
        Max(ExtractYear("books__released")),
    ),
    "case": (
        "Author",
        Sum(Case(When(books__title="x", then="books__pages"), default=0)),
        PAGES,
        Sum(Case(When(books__title="x", then="books__length"), default=0)),
    ),
    "condition of a case": (
        "Author",
        Sum(Case(When(books__title="x", then=F("books__pages")), default=0)),
        TITLE,
        Sum(Case(When(books__name="x", then=F("books__pages")), default=0)),
    ),
    "first": (
        "Author",
        First(
            "books__title",
            order_by=["-books__pages", F("books__pages").desc(nulls_last=True)],
            filter=Q(books__pages=1),
        ),
        PAGES,
        First(
            "books__title",
            order_by=["-books__length", F("books__length").desc(nulls_last=True)],
            filter=Q(books__length=1),
        ),
    ),
    "exists": ("Author", Exists("books", filter=Q(books__pages=1)), PAGES, Exists("books", filter=Q(books__length=1))),
    "forward": (
        "Book",
        Upper("series__publisher__name"),
        RenameField("Publisher", "name", "title"),
        Upper("series__publisher__title"),
    ),
    "key on the path": (
        "Book",
        F("series__publisher__name"),
        RenameField("Book", "series", "line"),
        F("line__publisher__name"),
    ),
    "column of a key": (
        "Book",
        Coalesce("series_id", 1),
        RenameField("Book", "series", "line"),
        Coalesce("line_id", 1),
    ),
    "primary key": ("Author", Count("books__pk"), PAGES, None),
    "compared with another column": (
        "Author",
        Count("books", filter=Q(books__pages__lt=F("books__series"))),
        RenameField("Book", "series", "line"),
        Count("books", filter=Q(books__pages__lt=F("books__line"))),
    ),
    "model with a way back that it names": (
        "Tag",
        Count("book__pages"),
        RenameModel("Book", "Work"),
        Count("work__pages"),
    ),
    "model with a named way back": ("Author", Count("books__pages"), RenameModel("Book", "Work"), None),
    "model on the path": (
        "Publisher",
        Sum("series__book__pages"),
        RenameModel("Series", "Line"),
        Sum("line__book__pages"),
    ),
    "many-to-many field": (
        "Author",
        Max("books__tags__number"),
        RenameField("Book", "tags", "labels"),
        Max("books__labels__number"),
    ),
    "slice of a column": ("Book", F("title")[0:3], TITLE, F("name")[0:3]),
    "another model's field of this name": (
        "Author",
        Max("books__title"),
        RenameField("Publisher", "name", "title"),
        None,
    ),
}


@pytest.mark.parametrize("what", EXPRESSIONS)
def test_a_path_takes_the_new_names(what: str) -> None:
    model, expression, operation, expected = EXPRESSIONS[what]
    rule = Denormalize("total", expression)
    found = renamed(model, rule, operation)
    assert found == Denormalize("total", expression if expected is None else expected)
    assert (found is rule) == (expected is None)


def test_a_field_takes_its_new_name() -> None:
    rule = renamed("Author", Denormalize("total", Sum("books__pages")), RenameField("Author", "total", "sum"))
    assert rule == Denormalize("sum", Sum("books__pages"))


# Rows ---------------------------------------------------------------------------------------------------------------

BOOKS = Rows("shop.Book").filter(author=OuterRef("pk"))


def books(label: str = "shop.Book", pages: str = "pages", title: str = "title") -> Any:
    """Return Rows that name everything in each of their calls."""
    return (
        Rows(label)
        .filter(Q(**{f"{pages}__gt": 1}), **{f"{title}__in": ["pages", "title"]})
        .exclude(**{pages: F(title)})
        .annotate(longest=Max(pages), half=F(pages) / 2)
        .alias(other=F(title))
        .order_by(f"-{pages}", F(title).desc(), "longest", "-other")
        .values(title, double=F(pages) * 2)
        .values_list(title, flat=True)[:1]
    )


ROWS: dict[str, tuple[str, Any, Any, Any]] = {
    "every call": ("Author", Subquery(books()), PAGES, Subquery(books(pages="length"))),
    "every call, a text": ("Author", Subquery(books()), TITLE, Subquery(books(title="name"))),
    "the model": ("Author", Subquery(books()), RenameModel("Book", "Work"), Subquery(books("shop.Work"))),
    "the model in lower case": (
        "Author",
        Subquery(books("shop.book")),
        RenameModel("Book", "Work"),
        Subquery(books("shop.Work")),
    ),
    "bare": ("Author", books(), PAGES, books(pages="length")),
    "Exists": ("Author", DjangoExists(books()), PAGES, DjangoExists(books(pages="length"))),
    "not Exists": ("Author", ~DjangoExists(books()), PAGES, ~DjangoExists(books(pages="length"))),
    "ArraySubquery": ("Author", ArraySubquery(books()), PAGES, ArraySubquery(books(pages="length"))),
    "options stay": (
        "Author",
        Subquery(books(), output_field=models.TextField(), template="(%(subquery)s )"),
        PAGES,
        Subquery(books(pages="length"), output_field=models.TextField(), template="(%(subquery)s )"),
    ),
    "in": (
        "Author",
        Count("books", filter=Q(books__series__in=Rows("shop.Series").filter(publisher__name="x"))),
        RenameField("Publisher", "name", "title"),
        Count("books", filter=Q(books__series__in=Rows("shop.Series").filter(publisher__title="x"))),
    ),
    "in, the way to it": (
        "Author",
        Count("books", filter=Q(books__series__in=Rows("shop.Series").filter(publisher__name="series"))),
        RenameField("Book", "series", "line"),
        Count("books", filter=Q(books__line__in=Rows("shop.Series").filter(publisher__name="series"))),
    ),
    "inside an expression": (
        "Author",
        Coalesce(Case(When(DjangoExists(books()), then=1)), "total"),
        PAGES,
        Coalesce(Case(When(DjangoExists(books(pages="length")), then=1)), "total"),
    ),
    "the way to the outer model": (
        "Author",
        DjangoExists(BOOKS.filter(pages=1)),
        RenameField("Book", "author", "writer"),
        DjangoExists(Rows("shop.Book").filter(writer=OuterRef("pk")).filter(pages=1)),
    ),
    "outer column": (
        "Author",
        DjangoExists(Rows("shop.Book").filter(title=OuterRef("name"), pages=OuterRef("total"))),
        RenameField("Author", "name", "title"),
        DjangoExists(Rows("shop.Book").filter(title=OuterRef("title"), pages=OuterRef("total"))),
    ),
    "outer column of the same name": (
        "Publisher",
        DjangoExists(Rows("shop.Author").filter(name=OuterRef("name"))),
        RenameField("Author", "name", "title"),
        DjangoExists(Rows("shop.Author").filter(title=OuterRef("name"))),
    ),
    "outer path": (
        "Book",
        DjangoExists(Rows("shop.Tag").filter(word=OuterRef("series__publisher__name"))),
        RenameField("Publisher", "name", "title"),
        DjangoExists(Rows("shop.Tag").filter(word=OuterRef("series__publisher__title"))),
    ),
    "outer column in an expression": (
        "Author",
        DjangoExists(Rows("shop.Book").filter(title=Upper(OuterRef("name")))),
        RenameField("Author", "name", "title"),
        DjangoExists(Rows("shop.Book").filter(title=Upper(OuterRef("title")))),
    ),
    "nested": (
        "Author",
        DjangoExists(
            BOOKS.filter(
                DjangoExists(Rows("shop.Tag").filter(book=OuterRef("pk"), number=OuterRef("pages"))),
                tags__in=Rows("shop.Tag").filter(number=OuterRef(OuterRef("total")), word=OuterRef("title")),
            )
        ),
        PAGES,
        DjangoExists(
            BOOKS.filter(
                DjangoExists(Rows("shop.Tag").filter(book=OuterRef("pk"), number=OuterRef("length"))),
                tags__in=Rows("shop.Tag").filter(number=OuterRef(OuterRef("total")), word=OuterRef("title")),
            )
        ),
    ),
    "two queries further out": (
        "Author",
        DjangoExists(
            BOOKS.filter(tags__in=Rows("shop.Tag").filter(number=OuterRef(OuterRef("total")), word=OuterRef("title")))
        ),
        RenameField("Author", "total", "sum"),
        DjangoExists(
            BOOKS.filter(tags__in=Rows("shop.Tag").filter(number=OuterRef(OuterRef("sum")), word=OuterRef("title")))
        ),
    ),
    "nested in an annotation": (
        "Author",
        Subquery(BOOKS.annotate(n=Subquery(Rows("shop.Tag").filter(book=OuterRef("pk")).values("number")[:1]))),
        RenameField("Tag", "number", "position"),
        Subquery(BOOKS.annotate(n=Subquery(Rows("shop.Tag").filter(book=OuterRef("pk")).values("position")[:1]))),
    ),
    "a way back that a model names": (
        "Tag",
        DjangoExists(Rows("shop.Tag").filter(book__pages=OuterRef("number"))),
        RenameModel("Book", "Work"),
        DjangoExists(Rows("shop.Tag").filter(work__pages=OuterRef("number"))),
    ),
    "a many-to-many table": (
        "Tag",
        DjangoExists(Rows("shop.Book_tags").filter(tag=OuterRef("pk"), book__pages=1).order_by("book_id")),
        RenameModel("Book", "Work"),
        DjangoExists(Rows("shop.Work_tags").filter(tag=OuterRef("pk"), work__pages=1).order_by("work_id")),
    ),
    "a many-to-many field": (
        "Tag",
        DjangoExists(Rows("shop.Book_tags").filter(tag=OuterRef("pk"))),
        RenameField("Book", "tags", "labels"),
        DjangoExists(Rows("shop.Book_labels").filter(tag=OuterRef("pk"))),
    ),
    "a filtered relation": (
        "Author",
        DjangoExists(
            BOOKS.alias(t=FilteredRelation("tags", condition=Q(tags__number=1)))
            .filter(t__number=2)
            .order_by("-t__number")
        ),
        RenameField("Tag", "number", "position"),
        DjangoExists(
            BOOKS.alias(t=FilteredRelation("tags", condition=Q(tags__position=1)))
            .filter(t__position=2)
            .order_by("-t__position")
        ),
    ),
    "the field of a filtered relation": (
        "Author",
        DjangoExists(BOOKS.alias(t=FilteredRelation("tags", condition=Q(tags__number=1))).filter(t__number=2)),
        RenameField("Book", "tags", "labels"),
        DjangoExists(BOOKS.alias(t=FilteredRelation("labels", condition=Q(labels__number=1))).filter(t__number=2)),
    ),
    "another model's field": ("Author", Subquery(books()), RenameField("Publisher", "name", "pages"), None),
    "a model that is not there": ("Author", Subquery(Rows("shop.Gone").values("pages")), PAGES, None),
}


@pytest.mark.parametrize("what", ROWS)
def test_names_inside_rows_are_new_ones(what: str) -> None:
    model, expression, operation, expected = ROWS[what]
    rule = Denormalize("total", expression)
    field = "sum" if getattr(operation, "new_name", "") == "sum" else "total"
    found = renamed(model, rule, operation)
    assert found == Denormalize(field, expression if expected is None else expected)
    assert (found is rule) == (expected is None)
