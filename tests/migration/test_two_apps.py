"""Rules whose source is in another app than their target: dependencies, and who gets which file."""

from __future__ import annotations

from pathlib import Path

import django.contrib.admin
import pytest

from tests.migration.conftest import Make
from tests.migration.library import CHURN, HEADER, NUM_BOOKS, NUM_PUBLISHED, PAGES_TOTAL, ROWS, Kept, model
from tests.migration.project import OURS
from tests.migration.written import dependencies, operations

BOOK = """
class Book(models.Model):
    author = models.ForeignKey("people.Author", models.CASCADE, related_name="books")
    pages = models.IntegerField(default=0)
    published = models.BooleanField(default=False)
"""
PEOPLE_ROWS = ROWS.replace("books_author", "people_author")
ORDERS = pytest.mark.parametrize("order", [("books", "people"), ("people", "books")], ids="-".join)
VALUES = "SELECT num_books FROM people_author ORDER BY id"


def sources(order: tuple[str, ...], *kept: Kept, book: str = BOOK) -> dict[str, str]:
    found = {"people": HEADER + model("Author", *kept), "books": HEADER + book}
    return {app: found[app] for app in order}


@ORDERS
def test_new_models_and_rules_in_two_apps(inplace: Make, order: tuple[str, ...]) -> None:
    project = inplace(**sources(order, NUM_BOOKS), rows=PEOPLE_ROWS)
    theirs = [operation for file in project.files() if "books" in file.parts for operation in operations(file)]
    assert theirs == ["CreateModel Book", "AddField book.author"]
    first, second = (file for file in project.files() if "people" in file.parts)
    assert operations(first) == ["CreateModel Author"]
    assert operations(second) == ["AddRule author.num_books"]
    assert ("books", project.last("books").stem) in dependencies(second)
    assert project.sql(VALUES) == [(3,), (1,), (0,)]
    project.manage("migrate people zero")
    assert project.objects() == {"functions": [], "triggers": []}
    project.sql("TRUNCATE books_book")
    project.manage("migrate")
    project.assert_settled()


@ORDERS
def test_a_rule_comes_to_a_source_in_another_app(inplace: Make, anew: Make, order: tuple[str, ...]) -> None:
    project = inplace(**sources(order), rows=PEOPLE_ROWS)
    models = sources(order, NUM_BOOKS, NUM_PUBLISHED)
    assert project.deploy(**models) == {
        "people": [
            "AddField author.num_books",
            "AddField author.num_published",
            "AddRule author.num_books",
            "AddRule author.num_published",
        ]
    }
    assert ("books", "0001_initial") in dependencies(project.last("people"))
    assert project.sql(VALUES) == [(3,), (1,), (0,)]
    project.sql(CHURN)
    project.assert_in_sync()
    project.assert_like(anew(**models))


@ORDERS
def test_the_foreign_key_of_the_source_comes_in_the_same_run(inplace: Make, anew: Make, order: tuple[str, ...]) -> None:
    unlinked = BOOK.replace(
        '    author = models.ForeignKey("people.Author", models.CASCADE, related_name="books")\n', ""
    )
    rows = "INSERT INTO people_author (id, name) VALUES (1, 'a'); INSERT INTO books_book VALUES (1, 10, true)"
    project = inplace(**sources(order, book=unlinked), rows=rows)
    models = sources(order, NUM_BOOKS, book=BOOK.replace("CASCADE", "CASCADE, null=True"))
    found = project.deploy(**models)
    assert found["books"] == ["AddField book.author"]
    assert found["people"][-1:] == ["AddRule author.num_books"]
    assert ("books", project.last("books").stem) in dependencies(project.last("people"))
    project.sql("UPDATE books_book SET author_id = 1")
    assert project.sql(VALUES) == [(1,)]
    project.assert_like(anew(**models))


@ORDERS
def test_the_column_that_is_summed_comes_in_the_same_run(inplace: Make, anew: Make, order: tuple[str, ...]) -> None:
    short = BOOK.replace("    pages = models.IntegerField(default=0)\n", "")
    rows = "INSERT INTO people_author (id, name) VALUES (1, 'a'); INSERT INTO books_book VALUES (1, true, 1)"
    project = inplace(**sources(order, book=short), rows=rows)
    models = sources(order, PAGES_TOTAL, book=BOOK.replace("default=0", "default=7"))
    assert project.deploy(**models)["books"] == ["AddField book.pages"]
    assert ("books", project.last("books").stem) in dependencies(project.last("people"))
    assert project.sql("SELECT pages_total FROM people_author") == [(7,)]
    project.assert_like(anew(**models))


@ORDERS
def test_a_rule_goes_and_its_source_model_too(inplace: Make, order: tuple[str, ...]) -> None:
    project = inplace(**sources(order, NUM_BOOKS), rows=PEOPLE_ROWS)
    found = project.deploy(**sources(order, book=""))
    assert found == {
        "people": ["RemoveRule author.num_books", "RemoveField author.num_books"],
        "books": ["DeleteModel Book"],
    }
    assert project.objects() == {"functions": [], "triggers": []}


@ORDERS
def test_a_filter_lets_go_of_a_column_that_goes(inplace: Make, order: tuple[str, ...]) -> None:
    project = inplace(**sources(order, NUM_PUBLISHED), rows=PEOPLE_ROWS)
    all_books = Kept(NUM_PUBLISHED.field, 'Denormalize("num_published", Count("books"))')
    short = BOOK.replace("    published = models.BooleanField(default=False)\n", "")
    project.deploy(**sources(order, all_books, book=short))
    # Between the two, every writer of books would fail.
    assert ("people", project.last("people").stem) in dependencies(project.last("books"))
    project.sql("INSERT INTO books_book (id, author_id, pages) VALUES (9, 3, 1)")
    assert project.sql("SELECT num_published FROM people_author ORDER BY id") == [(3,), (1,), (1,)]


NUM_ACTIONS = Kept(
    "num_actions = models.IntegerField(default=0, editable=False)",
    'Denormalize("num_actions", Count("logentry"))',
)
USER = (HEADER + model("User", NUM_ACTIONS, fields="")).replace(
    "class User(models.Model)", "from django.contrib.auth.models import AbstractUser\nclass User(AbstractUser)"
)
ADMIN = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.admin",
]
USER_ROW = """
INSERT INTO people_user (id, username, password, is_superuser, first_name, last_name, email, is_staff, is_active, date_joined)
VALUES (1, 'a', '', false, '', '', '', false, true, now());
"""
LOG_ROW = """
INSERT INTO django_admin_log (action_time, object_repr, action_flag, change_message, user_id) VALUES (now(), '', 1, '', 1)
"""


SETTINGS = """
AUTH_USER_MODEL = "people.User"
SILENCED_SYSTEM_CHECKS = ["admin.E403", "admin.E408", "admin.E409", "admin.E410"]
"""


def admin_migrations() -> list[Path]:
    return sorted((Path(django.contrib.admin.__file__).parent / "migrations").glob("*.py"))


def test_a_custom_user_counts_rows_of_the_admin(blank: Make) -> None:
    before = admin_migrations()
    project = blank("people", installed=[*ADMIN, *OURS])
    project.write_settings(extra=SETTINGS)
    project.deploy(people=USER.replace(NUM_ACTIONS.rule, ""))
    project.sql(USER_ROW.replace("(id", "(num_actions, id").replace("(1", "(7, 1") + LOG_ROW)
    found = project.deploy(people=USER)
    assert found == {"people": ["AddRule user.num_actions"]}
    assert ("admin", before[-2].stem) in dependencies(project.last("people"))
    assert admin_migrations() == before
    assert project.value("SELECT num_actions FROM people_user") == 1
    project.sql(LOG_ROW)
    assert project.value("SELECT num_actions FROM people_user") == 2


def test_a_custom_user_and_its_rule_over_the_admin_come_together(blank: Make) -> None:
    project = blank("people", installed=[*ADMIN, *OURS])
    project.write_settings(extra=SETTINGS)
    project.deploy(people=USER)
    first, second = project.files()
    assert operations(first) == ["CreateModel User"]
    assert operations(second)[0] == "AddRule user.num_actions"
    assert ("admin", admin_migrations()[-2].stem) in dependencies(second)
    project.sql(USER_ROW.replace("(id", "(num_actions, id").replace("(1", "(7, 1") + LOG_ROW)
    assert project.value("SELECT num_actions FROM people_user") == 1
    project.assert_in_sync()
    project.manage("migrate people zero")
    assert project.objects() == {"functions": [], "triggers": []}
    project.manage("migrate")
    project.assert_settled()


PROFILE = """
class Profile(models.Model):
    user = models.OneToOneField(settings.AUTH_USER_MODEL, models.CASCADE, primary_key=True, related_name="profile")
    num_posts = models.IntegerField(default=0, editable=False)
    num_logins = models.IntegerField(default=0, editable=False)

    class Meta:
        denormalizations = [Denormalize("num_posts", Count("posts"))]


class Post(models.Model):
    author = models.ForeignKey(Profile, models.CASCADE, related_name="posts")
"""


def test_a_profile_beside_auth_user_counts_its_posts(make: Make) -> None:
    contrib = ["django.contrib.contenttypes", "django.contrib.auth"]
    rows = USER_ROW.replace("people_user", "auth_user")
    rows += "INSERT INTO people_profile VALUES (1, 9, 0); INSERT INTO people_post VALUES (1, 1), (2, 1)"
    project = make(people=HEADER + PROFILE, installed=[*contrib, *OURS], rows=rows)
    (first,) = project.files()
    assert operations(first) == ["CreateModel Profile", "CreateModel Post", "AddRule profile.num_posts"]
    assert {app for app, _ in dependencies(first)} <= {"auth", "swappable"}
    assert project.value("SELECT num_posts FROM people_profile") == 2
    project.sql("DELETE FROM people_post WHERE id = 1")
    assert project.value("SELECT num_posts FROM people_profile") == 1
    project.assert_settled()


def test_members_of_a_team_are_users_of_auth(make: Make) -> None:
    team = HEADER + model(
        "Team",
        Kept("num_members = models.IntegerField(default=0)", 'Denormalize("num_members", Count("members"))'),
    ).replace("default=0)", "default=0, editable=False)")
    team += (
        "\nclass Membership(models.Model):\n"
        '    team = models.ForeignKey(Team, models.CASCADE, related_name="members")\n'
        "    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE)\n"
    )
    rows = USER_ROW.replace("people_user", "auth_user")
    rows += "INSERT INTO people_team (id, name) VALUES (1, 't'); INSERT INTO people_membership VALUES (1, 1, 1)"
    project = make(people=team, installed=["django.contrib.contenttypes", "django.contrib.auth", *OURS], rows=rows)
    assert project.value("SELECT num_members FROM people_team") == 1
    project.sql("TRUNCATE auth_user CASCADE")
    assert project.value("SELECT num_members FROM people_team") == 0
    project.assert_settled()
