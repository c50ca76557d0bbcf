"""Columns and models that come and go around rules, and rules that lose what they read."""

from __future__ import annotations

from pathlib import Path

import django.contrib.auth
import pytest

from tests.migration.conftest import Make
from tests.migration.library import BOOK, CHURN, HEADER, NUM_BOOKS, NUM_PUBLISHED, PAGES_TOTAL, ROWS, library, model
from tests.migration.project import OURS
from tests.migration.written import operations

KEPT = (NUM_BOOKS, NUM_PUBLISHED, PAGES_TOTAL)
WITHOUT_PUBLISHED = BOOK.replace("    published = models.BooleanField(default=False)\n", "")
WITHOUT_AUTHOR = "\nclass Book(models.Model):\n    pages = models.IntegerField(default=0)\n"
NOTED = (
    BOOK
    + '    note = models.TextField(default="", db_default="")\n    isbn = models.CharField(max_length=13, null=True)\n'
)


def test_columns_that_no_rule_reads_come_and_go(inplace: Make, anew: Make) -> None:
    project = inplace(books=library(*KEPT), rows=ROWS)
    before = project.objects()
    named = library(*KEPT, book=NOTED).replace(
        "name = models", "motto = models.CharField(max_length=9, null=True)\n    name = models"
    )
    assert sorted(project.deploy(books=named)["books"]) == [
        "AddField author.motto",
        "AddField book.isbn",
        "AddField book.note",
    ]
    assert project.objects() == before
    altered = named.replace("models.TextField(", "models.CharField(max_length=99, ").replace("=13", "=17")
    assert sorted(project.deploy(books=altered)["books"]) == ["AlterField book.isbn", "AlterField book.note"]
    project.sql(CHURN)
    assert len(project.deploy(books=library(*KEPT))["books"]) == 3
    assert project.objects() == before
    project.manage("migrate books 0001")
    project.manage("migrate")
    assert project.objects() == before
    project.assert_settled()
    project.assert_like(anew(books=library(*KEPT)))


def test_a_target_goes_and_its_source_stays(inplace: Make, anew: Make) -> None:
    project = inplace(books=library(*KEPT), rows=ROWS)
    models = HEADER + WITHOUT_AUTHOR
    written = project.deploy(books=models)["books"]
    assert {"DeleteModel Author", "RemoveField book.author", "RemoveField book.published"} <= set(written)
    assert project.objects() == {"functions": [], "triggers": []}
    project.sql("UPDATE books_book SET pages = 1; DELETE FROM books_book WHERE id = 1; TRUNCATE books_book")
    project.assert_like(anew(books=models))
    project.manage("migrate books 0001")
    project.write_models(books=library(*KEPT))
    project.sql(ROWS)
    project.assert_in_sync()
    project.assert_like(anew(books=library(*KEPT)))


def test_another_target_of_the_same_source_goes(inplace: Make, anew: Make) -> None:
    shelf = model("Shelf", NUM_BOOKS)
    book = BOOK + '    shelf = models.ForeignKey("Shelf", models.CASCADE, null=True, related_name="books")\n'
    project = inplace(books=library(*KEPT, book=shelf + book), rows=ROWS)
    models = library(*KEPT)
    written = project.deploy(books=models)["books"]
    assert [name for name in written if "Shelf" in name] == ["DeleteModel Shelf"]
    project.sql(CHURN)
    project.assert_in_sync()
    project.assert_like(anew(books=models))
    project.manage("migrate books 0001")
    project.write_models(books=library(*KEPT, book=shelf + book))
    project.sql("INSERT INTO books_shelf (id, name) VALUES (1, 's'); UPDATE books_book SET shelf_id = 1")
    project.assert_in_sync()


# Models without what a rule reads; the rule's URI, and what the message says about it.
LOSSES = {
    "a column of its filter": (
        library(NUM_PUBLISHED, book=WITHOUT_PUBLISHED),
        "books.Author:num_published",
        "published",
    ),
    "the column that it sums": (
        library(PAGES_TOTAL, book=BOOK.replace("    pages = models.IntegerField(default=0)\n", "")),
        "books.Author:pages_total",
        "pages",
    ),
    "its foreign key": (library(NUM_BOOKS, book=WITHOUT_AUTHOR), "books.Author:num_books", "books"),
    "its source": (library(NUM_BOOKS, book=""), "books.Author:num_books", "books"),
    "its own field": (library(NUM_BOOKS).replace(NUM_BOOKS.field, "pass"), "books.Author:num_books", "num_books"),
}


@pytest.mark.parametrize(
    "what",
    [
        pytest.param(what, marks=[] if what in {"a column of its filter", "its own field"} else [pytest.mark.thorough])
        for what in LOSSES
    ],
)
def test_a_rule_that_loses_what_it_reads_is_an_error_that_names_it(make: Make, what: str) -> None:
    models, uri, lost = LOSSES[what]
    project = make(books=library(*KEPT), rows=ROWS)
    project.write_models(books=models)
    for command in ("check", "makemigrations"):
        printed = project.manage(command, code=1).stderr
        assert "Traceback" not in printed
        assert "(trigger_kit.E0" in printed
        assert uri in printed
        assert lost in printed
    assert len(project.files()) == 1


CONTRIB = ["django.contrib.contenttypes", "django.contrib.auth"]
TEAM = """
from django.db import models
from django.db.models import Count, F
from trigger_kit import Denormalize


class Team(models.Model):
    group = models.OneToOneField("auth.Group", models.CASCADE, related_name="team")
    {fields}
    {meta}
"""
FIELDS = """group_name = models.CharField(max_length=150, default="", editable=False)
    num_members = models.IntegerField(default=0, editable=False)
    num_admins = models.IntegerField(default=0, editable=False)
    num_permissions = models.IntegerField(default=0, editable=False)"""
META = """class Meta:
        denormalizations = [
            Denormalize("group_name", F("group__name")),
            Denormalize("num_members", Count("group__user")),
            Denormalize("num_admins", Count("group__user", filter=models.Q(group__user__is_superuser=True))),
            Denormalize("num_permissions", Count("group__permissions")),
        ]"""
PEOPLE = """
INSERT INTO auth_user (id, username, password, is_superuser, first_name, last_name, email, is_staff, is_active, date_joined)
SELECT n, n, '', n = 1, '', '', '', false, true, now() FROM generate_series(1, 3) AS n;
INSERT INTO auth_group (id, name) VALUES (1, 'one'), (2, 'two');
INSERT INTO auth_user_groups (id, user_id, group_id) VALUES (101, 1, 1), (102, 2, 1), (103, 2, 2);
INSERT INTO auth_group_permissions (id, group_id, permission_id) SELECT 100 + n, 1, min(id) + n FROM auth_permission, generate_series(0, 2) AS n GROUP BY n;
INSERT INTO people_team (id, group_id) VALUES (1, 1), (2, 2);
"""
VALUES = "SELECT group_name, num_members, num_admins, num_permissions FROM people_team ORDER BY id"


def auth_migrations() -> list[Path]:
    return sorted((Path(django.contrib.auth.__file__).parent / "migrations").glob("*.py"))


def test_rules_over_users_groups_and_their_links(make: Make) -> None:
    files = auth_migrations()
    project = make(people=TEAM.format(fields="", meta=""), rows=PEOPLE, installed=[*OURS, *CONTRIB])
    models = TEAM.format(fields=FIELDS, meta=META)
    written = project.deploy(people=models)
    assert list(written) == ["people"]
    assert [name.split()[0] for name in written["people"]] == ["AddField"] * 4 + ["AddRule"] * 4
    assert auth_migrations() == files
    assert "proxy" not in "".join(operations(project.last("people")))
    assert project.sql(VALUES) == [("one", 2, 1, 3), ("two", 1, 0, 0)]
    project.sql("UPDATE auth_user SET is_superuser = true; UPDATE auth_group SET name = 'zwei' WHERE id = 2")
    project.sql("DELETE FROM auth_user_groups WHERE user_id = 1; DELETE FROM auth_group_permissions WHERE id = 101")
    assert project.sql(VALUES) == [("one", 1, 1, 2), ("zwei", 1, 1, 0)]
    after = project.objects()
    project.manage("migrate people 0001")
    assert project.objects() == {"functions": [], "triggers": []}
    project.sql("INSERT INTO auth_user_groups (user_id, group_id) VALUES (3, 2)")
    project.manage("migrate")
    assert project.objects() == after
    assert project.sql(VALUES) == [("one", 1, 1, 2), ("zwei", 2, 2, 0)]
    project.assert_settled()
    # Their own migrations go back too: the tables that our triggers are on go with them.
    project.manage("migrate people zero")
    project.manage("migrate auth zero")
    project.manage("migrate")
    project.assert_settled()
