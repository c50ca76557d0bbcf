"""Apps that need each other: makemigrations cuts the migrations so that no cycle is left for the user to resolve."""

from __future__ import annotations

import itertools

import pytest

from tests.migration.conftest import Make
from tests.migration.library import HEADER, NUM_BOOKS, Kept, model
from tests.migration.project import OURS
from tests.migration.written import operations

IMPORTS = HEADER + "from django.db.models import F\n"
AUTHOR_NAME = Kept(
    'author_name = models.CharField(max_length=50, default="", editable=False)',
    'Denormalize("author_name", F("author__name"))',
)
LINK = 'author = models.ForeignKey("people.Author", models.CASCADE, related_name="books")'
NUM_COPIES = Kept(
    "num_copies = models.IntegerField(default=0, editable=False)", 'Denormalize("num_copies", Count("copies"))'
)
COPIES_OF_AUTHOR = Kept(
    "num_copies = models.IntegerField(default=0, editable=False)",
    'Denormalize("num_copies", Sum("books__num_copies", default=0))',
)
COPY = """
class Copy(models.Model):
    book = models.ForeignKey("books.Book", models.CASCADE, related_name="copies")
    lender = models.ForeignKey("people.Author", models.CASCADE, null=True, related_name="lent")
"""
NUM_LENT = Kept("num_lent = models.IntegerField(default=0, editable=False)", 'Denormalize("num_lent", Count("lent"))')
ROWS = """
INSERT INTO people_author (id, name, num_books, num_copies, num_lent) VALUES (1, 'a', 0, 0, 0);
INSERT INTO books_book (id, author_id, author_name, num_copies) VALUES (1, 1, '', 0), (2, 1, '', 0);
INSERT INTO lending_copy (id, book_id, lender_id) VALUES (1, 1, 1), (2, 1, NULL), (3, 2, NULL);
"""
SOURCES = {
    "people": IMPORTS + model("Author", NUM_BOOKS, COPIES_OF_AUTHOR, NUM_LENT),
    "books": IMPORTS + model("Book", AUTHOR_NAME, NUM_COPIES, fields=LINK),
    "lending": IMPORTS + COPY,
}


def without_rules(source: str) -> str:
    lines = source.splitlines(keepends=True)
    return "".join(line for line in lines if "denormalizations" not in line and "class Meta" not in line)


@pytest.mark.parametrize("order", [tuple(SOURCES), tuple(reversed(SOURCES))], ids="-".join)
def test_three_new_apps_whose_rules_read_each_other(inplace: Make, order: tuple[str, ...]) -> None:
    project = inplace(**{app: SOURCES[app] for app in order}, rows=ROWS)
    assert project.sql("SELECT num_books, num_copies, num_lent FROM people_author") == [(2, 3, 1)]
    assert project.sql("SELECT author_name, num_copies FROM books_book ORDER BY id") == [("a", 2), ("a", 1)]
    project.sql("UPDATE people_author SET name = 'b'; DELETE FROM lending_copy WHERE id = 1")
    assert project.sql("SELECT author_name, num_copies FROM books_book ORDER BY id") == [("b", 1), ("b", 1)]
    assert project.sql("SELECT num_books, num_copies, num_lent FROM people_author") == [(2, 2, 0)]
    after = project.objects()
    for app in order:
        project.manage(f"migrate {app} zero")
    assert project.objects() == {"functions": [], "triggers": []}
    project.manage("migrate")
    assert project.objects() == after
    project.assert_settled()


def test_the_same_rules_come_to_apps_that_are_there(inplace: Make, anew: Make) -> None:
    bare = {app: without_rules(source) for app, source in SOURCES.items()}
    project = inplace(**bare, rows=ROWS)
    found = project.deploy(**SOURCES)
    assert {app: sorted({name.split()[0] for name in names}) for app, names in found.items()} == {
        "people": ["AddRule"],
        "books": ["AddRule"],
    }
    project.assert_like(anew(**SOURCES))
    assert project.sql("SELECT num_books, num_copies, num_lent FROM people_author") == [(2, 3, 1)]


USER = (
    IMPORTS
    + "from django.contrib.auth.models import AbstractUser\n"
    + model(
        "User",
        Kept(
            "num_actions = models.IntegerField(default=0, editable=False)",
            'Denormalize("num_actions", Count("logentry"))',
        ),
        Kept("num_posts = models.IntegerField(default=0, editable=False)", 'Denormalize("num_posts", Count("posts"))'),
        fields="",
    ).replace("class User(models.Model)", "class User(AbstractUser)")
)
POST = (
    IMPORTS
    + """
class Post(models.Model):
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="posts")
    entry = models.ForeignKey("admin.LogEntry", models.SET_NULL, null=True, related_name="+")
"""
)
CONTRIB = ["contenttypes", "auth", "messages", "sessions", "admin"]
SETTINGS = """
AUTH_USER_MODEL = "people.User"
SILENCED_SYSTEM_CHECKS = ["admin.E403", "admin.E408", "admin.E409", "admin.E410"]
"""


def test_a_custom_user_with_rules_over_the_admin_and_an_app_that_needs_both(blank: Make) -> None:
    project = blank("people", "posts", installed=[*(f"django.contrib.{app}" for app in CONTRIB), *OURS])
    project.write_settings(extra=SETTINGS)
    found = project.deploy(people=USER, posts=POST)
    first, second = project.files()[:2]
    assert operations(first) == ["CreateModel User"]
    assert operations(second)[:2] == ["AddRule user.num_actions", "AddRule user.num_posts"]
    assert sorted(found) == ["people", "posts"]
    project.sql(
        "INSERT INTO people_user (id, username, password, is_superuser, first_name, last_name, email, is_staff, "
        "is_active, date_joined, num_actions, num_posts) VALUES (1, 'a', '', false, '', '', '', false, true, now(), 7, 7);"
        "INSERT INTO django_admin_log (id, action_time, object_repr, action_flag, change_message, user_id) "
        "VALUES (1, now(), '', 1, '', 1);"
        "INSERT INTO posts_post (user_id, entry_id) VALUES (1, 1), (1, NULL)"
    )
    assert project.sql("SELECT num_actions, num_posts FROM people_user") == [(1, 2)]
    for app, other in itertools.permutations(("people", "posts")):
        project.manage(f"migrate {app} zero")
        project.manage(f"migrate {other} zero")
        project.manage("migrate")
        project.assert_settled()
