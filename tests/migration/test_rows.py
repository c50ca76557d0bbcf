"""Rules over Rows in migrations: held as they are written, resolved against the models of each state, and renamed along."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.combinations import in_turn
from tests.migration.conftest import Make
from tests.migration.project import OURS

# From Django 6.1 on, an ArrayField asks for it.
INSTALLED = ["django.contrib.postgres", *OURS]
MODELS = """
from django.contrib.postgres.expressions import ArraySubquery
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Count, Exists, OuterRef, Q, Subquery
from django.db.models.functions import Coalesce
from trigger_kit import Denormalize, Rows

BOOKS = Rows("books.Book").filter(author=OuterRef("pk"))


class Author(models.Model):
    name = models.CharField(max_length=20)
    longest = models.CharField(max_length=20, null=True, editable=False)
    titles = ArrayField(models.CharField(max_length=20), null=True, editable=False)
    has_long = models.BooleanField(default=False, editable=False)
    num_loved = models.IntegerField(default=0, editable=False)
    num_listed = models.IntegerField(default=0, editable=False)

    class Meta:
        denormalizations = [
            Denormalize("longest", Subquery(BOOKS.order_by("-pages", "-pk").values("title")[:1])),
            Denormalize("titles", ArraySubquery(BOOKS.order_by("title").values("title"))),
            Denormalize("has_long", BOOKS.filter(pages__gte=100).exclude(title="").exists()),
            Denormalize(
                "num_loved",
                Coalesce(
                    Subquery(
                        BOOKS.filter(
                            Exists(
                                Rows("books.Review").filter(
                                    book=OuterRef("pk"), stars=5, text=OuterRef(OuterRef("name"))
                                )
                            )
                        )
                        .order_by()
                        .values("author")
                        .annotate(number=Count("*"))
                        .values("number")
                    ),
                    0,
                ),
            ),
            Denormalize("num_listed", Count("books", filter=Q(books__in=Rows("books.Book").filter(reviews__stars=5)))),
        ]


class Book(models.Model):
    author = models.ForeignKey(Author, models.CASCADE, related_name="books")
    title = models.CharField(max_length=20)
    pages = models.IntegerField(default=0)


class Review(models.Model):
    book = models.ForeignKey(Book, models.CASCADE, related_name="reviews")
    text = models.CharField(max_length=20)
    stars = models.IntegerField()
"""
ROWS = """
INSERT INTO books_author (id, name) VALUES (1, 'a'), (2, 'b');
INSERT INTO books_book (id, author_id, title, pages) VALUES (1, 1, 'x', 10), (2, 1, 'y', 200), (3, 2, 'z', 3);
INSERT INTO books_review (id, book_id, text, stars) VALUES (1, 1, 'a', 5), (2, 2, 'b', 5), (3, 3, 'b', 1);
"""
CHURN = """
UPDATE "{book}" SET "{pages}" = 300, "{author}" = 2 WHERE id = 1;
INSERT INTO "{book}" (id, "{author}", "{title}", "{pages}") VALUES (4, 2, 'w', 5);
UPDATE "{review}" SET "{stars}" = 6 - "{stars}" WHERE id = 3;
INSERT INTO "{review}" (id, book_id, text, "{stars}") VALUES (4, 4, 'b', 5);
"""
VALUES = "SELECT {longest}, titles, has_long, num_loved, num_listed FROM books_author ORDER BY id"
BEFORE = [("y", ["x", "y"], True, 1, 2), ("z", ["z"], False, 0, 0)]
AFTER = [("y", ["y"], True, 0, 1), ("x", ["w", "x", "z"], True, 2, 3)]
NAMES = {
    "book": "books_book",
    "review": "books_review",
    "pages": "pages",
    "title": "title",
    "author": "author_id",
    "stars": "stars",
    "longest": "longest",
}


@dataclass(frozen=True)
class Rename:
    """What is written otherwise, and the names that the tables have then."""

    replaced: tuple[tuple[str, str], ...]
    names: dict[str, str]

    @property
    def models(self) -> str:
        text = MODELS
        for old, new in self.replaced:
            assert old in text
            text = text.replace(old, new)
        return text


RENAMES = {
    "ordered and filtered column": Rename(
        (("    pages = ", "    length = "), ('"-pages"', '"-length"'), ("pages__gte", "length__gte")),
        {"pages": "length"},
    ),
    "selected column": Rename(
        (
            ("    title = ", "    name = "),
            ('values("title")', 'values("name")'),
            ('order_by("title")', 'order_by("name")'),
            ('exclude(title="")', 'exclude(name="")'),
        ),
        {"title": "name"},
    ),
    "column of nested rows": Rename(
        (("    stars = ", "    rating = "), ("reviews__stars=5", "reviews__rating=5"), (" stars=5", " rating=5")),
        {"stars": "rating"},
    ),
    "foreign key": Rename(
        (
            ("    author = ", "    writer = "),
            ('filter(author=OuterRef("pk"))', 'filter(writer=OuterRef("pk"))'),
            ('values("author")', 'values("writer")'),
        ),
        {"author": "writer_id"},
    ),
    "outer column": Rename(
        (
            ("    name = models.CharField(max_length=20)", "    alias = models.CharField(max_length=20)"),
            ('OuterRef("name")', 'OuterRef("alias")'),
        ),
        {},
    ),
    "model": Rename(
        (("class Book(", "class Work("), ("books.Book", "books.Work"), ("ForeignKey(Book", "ForeignKey(Work")),
        {"book": "books_work"},
    ),
    "kept column": Rename((("longest", "heaviest"),), {"longest": "heaviest"}),
}


@pytest.mark.parametrize("what", in_turn(RENAMES))
def test_names_inside_rows_follow_a_rename(inplace: Make, anew: Make, what: str) -> None:
    rename = RENAMES[what]
    names = NAMES | rename.names
    project = inplace(books=MODELS, rows=ROWS)
    assert project.sql(VALUES.format(**NAMES)) == BEFORE
    found = project.deploy(answers="y\ny\ny\n", books=rename.models)
    assert len([operation for operation in found["books"] if "Rename" in operation]) == 1
    project.sql(CHURN.format(**names))
    assert project.sql(VALUES.format(**names)) == AFTER
    project.assert_in_sync()
    project.assert_like(anew(books=rename.models))
    project.manage("makemigrations --check")

    project.manage("migrate books 0001")
    project.write_models(books=MODELS)
    assert project.sql(VALUES.format(**NAMES)) == AFTER
    project.assert_in_sync()
    project.assert_like(anew(books=MODELS))


def test_a_migration_holds_rows_as_they_are_written(make: Make) -> None:
    project = make(books=MODELS, installed=INSTALLED)
    text = project.last("books").read_text()
    assert "import trigger_kit" in text
    assert (
        "models.Subquery(trigger_kit.Rows('books.Book').filter(author=models.OuterRef('pk'))"
        ".order_by('-pages', '-pk').values('title')[:1])"
    ) in text
    project.manage("makemigrations --check")
    # The case of a label and the order of keywords are no change.
    project.write_models(
        books=MODELS.replace('Rows("books.Book")', 'Rows("books.book")').replace(
            'stars=5, text=OuterRef(OuterRef("name"))', 'text=OuterRef(OuterRef("name")), stars=5'
        )
    )
    project.manage("makemigrations --check")
    project.write_models(books=MODELS.replace("pages__gte=100", "pages__gte=101"))
    project.manage("makemigrations --check", code=1)


USERS = """
from django.conf import settings
from django.db import models
from django.db.models import Exists, OuterRef
from trigger_kit import Denormalize, Rows


class Account(models.Model):
    number = models.IntegerField()
    is_open = models.BooleanField(default=False, editable=False)

    class Meta:
        denormalizations = [
            Denormalize("is_open", Exists(Rows(settings.AUTH_USER_MODEL).filter(pk=OuterRef("number"), is_active=True)))
        ]
"""
MEMBERS = """
from django.contrib.auth.models import AbstractUser


class Member(AbstractUser):
    pass
"""


def test_the_user_model_is_held_as_its_setting(blank: Make) -> None:
    project = blank("people", "shop", installed=["django.contrib.contenttypes", "django.contrib.auth", *OURS])
    project.write_settings(extra='AUTH_USER_MODEL = "people.Member"\n')
    project.deploy(people=MEMBERS, shop=USERS)
    text = project.last("shop").read_text()
    assert "Rows(settings.AUTH_USER_MODEL)" in text
    assert "from django.conf import settings" in text
    assert "migrations.swappable_dependency(settings.AUTH_USER_MODEL)" in text
    project.sql(
        "INSERT INTO shop_account (id, number) VALUES (1, 7), (2, 8);"
        "INSERT INTO people_member (id, username, password, is_superuser, first_name, last_name, email, is_staff, "
        "is_active, date_joined) VALUES (7, 'a', '', false, '', '', '', false, true, now())"
    )
    assert project.sql("SELECT is_open FROM shop_account ORDER BY id") == [(True,), (False,)]
    project.assert_in_sync()
    project.write_models(shop=USERS.replace("settings.AUTH_USER_MODEL", '"auth.User"'))
    found = str(project.manage("check", code=1))
    assert "auth.User is swapped for people.Member, and has no table" in found
    assert "Write Rows(settings.AUTH_USER_MODEL)" in found


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('Rows("books.Review")', 'Rows("books.Revue")', "there is no model books.Revue"),
        ('values("title")[:1]', 'values("titel")[:1]', "Did you mean 'title'?"),
        ('BOOKS = Rows("books.Book")', 'BOOKS = Rows("books.Review")', "Cannot resolve keyword 'author'"),
    ],
)
def test_a_command_says_what_is_wrong(make: Make, old: str, new: str, message: str) -> None:
    project = make(books=MODELS, installed=INSTALLED)
    project.write_models(books=MODELS.replace(old, new))
    assert message in str(project.manage("check", code=1))
