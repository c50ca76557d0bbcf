"""Projects with several databases: rules are kept where their target and its sources live."""

from __future__ import annotations

import json

import pytest

from tests.migration.conftest import Make
from tests.migration.library import BOOK, CHURN, HEADER, NUM_BOOKS, NUM_PUBLISHED, PAGES_TOTAL, ROWS, library, model
from tests.migration.project import Project

RULE = "books.Author:num_books"
VALUES = "SELECT num_books FROM books_author ORDER BY id"
NOTHING = {"functions": [], "triggers": []}
ROUTER = """
DATABASES["default"], DATABASES["second"] = {default!r}, {second!r}
DATABASE_ROUTERS = ["settings.Router"]


class Router:
    homes = {homes!r}

    def db_for_write(self, model, **hints):
        return self.homes.get(model._meta.label_lower, ["default"])[0]

    db_for_read = db_for_write

    def allow_migrate(self, db, app_label, model_name=None, **hints):
        return db in self.homes.get(f"{{app_label}}.{{model_name}}", ["default", "second"])
"""
SQLITE = {"ENGINE": "django.db.backends.sqlite3", "NAME": "default.sqlite3"}
SECOND_ONLY = {"books.author": ["second"], "books.book": ["second"]}


def entry(project: Project) -> dict[str, object]:
    return {**project.server.django_settings, "NAME": project.database}


def two_databases(blank: Make, homes: dict[str, list[str]], default: dict[str, object] | None = None) -> list[Project]:
    """Return a project, and another one that is its second database."""
    first, second = blank("books"), blank("books")
    first.write_settings(extra=ROUTER.format(default=default or entry(first), second=entry(second), homes=homes))
    return [first, second]


def status(project: Project, database: str) -> dict[str, str]:
    printed = project.manage(f"trigger_kit ls --json --database {database}").stdout
    return {item["rule"]: item["status"] for item in json.loads(printed)}


def test_each_of_two_databases_has_its_own_triggers(blank: Make, scratch: Make) -> None:
    project, second = two_databases(blank, {})
    for models in (library(NUM_BOOKS), library(NUM_BOOKS, NUM_PUBLISHED)):
        project.makemigrations(books=models)
        project.manage("migrate")
        assert status(project, "default") == {
            RULE: "installed",
            **({"books.Author:num_published": "installed"} if models != library(NUM_BOOKS) else {}),
        }
        if models == library(NUM_BOOKS):
            project.manage("migrate --database second")
            second.sql(ROWS)
    assert len(second.objects()["functions"]) == len(project.objects()["functions"])
    assert second.objects() != project.objects()
    project.manage("migrate --database second")
    second.assert_like(scratch(books=library(NUM_BOOKS, NUM_PUBLISHED)))
    project.manage("trigger_kit verify --database second")
    project.manage("migrate books zero --database second")
    assert second.objects() == NOTHING
    project.sql(ROWS + CHURN)
    project.assert_settled()


@pytest.mark.parametrize("default", [None, SQLITE], ids=["PostgreSQL", "SQLite"])
def test_rules_that_live_in_the_second_database(blank: Make, scratch: Make, default: dict[str, object] | None) -> None:
    project, second = two_databases(blank, SECOND_ONLY, default)
    states = [library(NUM_BOOKS), library(NUM_BOOKS, NUM_PUBLISHED), library(PAGES_TOTAL)]
    for models in states:
        project.makemigrations(books=models)
    project.manage("migrate")
    assert project.objects() == NOTHING
    project.manage("migrate --database second books 0001")
    second.sql(ROWS)
    project.manage("migrate --database second")
    second.assert_like(scratch(books=states[-1]))
    second.sql(CHURN)
    project.manage("makemigrations --check --dry-run")
    project.manage("trigger_kit verify --database second")
    for number in (2, 1):
        project.manage(f"migrate books 000{number} --database second")
        project.manage(f"migrate books 000{number}")
        second.assert_like(scratch(books=states[number - 1]))
    for database in ("default", "second"):
        project.manage(f"migrate books zero --database {database}")
        project.manage(f"migrate --database {database}")
    second.assert_like(scratch(books=states[-1]))
    assert project.objects() == NOTHING


def test_targets_that_django_writes_to_sqlite_are_refused(blank: Make) -> None:
    project, _ = two_databases(blank, {}, SQLITE)
    project.write_models(books=library(NUM_BOOKS))
    printed = project.manage("check", code=1).stderr
    assert "trigger_kit.E022" in printed
    assert "books.Author declares rules, but Django writes it to the database 'default', which is SQLite." in printed


def test_a_target_without_its_source_is_refused_and_not_touched(blank: Make) -> None:
    project, second = two_databases(blank, {"books.book": ["second"]})
    project.write_models(books=library(NUM_BOOKS).replace("models.CASCADE, ", "models.CASCADE, db_constraint=False, "))
    assert "trigger_kit.E018" in project.manage("check", code=1).stderr
    project.write_settings(
        extra=ROUTER.format(default=entry(project), second=entry(second), homes={"books.book": ["second"]})
        + 'SILENCED_SYSTEM_CHECKS = ["trigger_kit.E018"]\n'
    )
    project.makemigrations()
    project.makemigrations(books=library(NUM_BOOKS, NUM_PUBLISHED))
    for target in ("", "books 0001", "books zero", ""):
        project.manage(f"migrate {target}")
        assert project.objects() == NOTHING
    assert set(status(project, "default").values()) == {"missing"}
    project.manage("migrate --database second")
    second.sql(ROWS + CHURN)
    assert second.sql(VALUES) == [(2,), (2,), (0,)]
    assert set(status(project, "second").values()) == {"installed"}


def test_a_source_without_its_target_is_left_alone(blank: Make) -> None:
    project, second = two_databases(blank, {"books.author": ["default"]})
    link = BOOK.replace("models.CASCADE, ", "models.CASCADE, db_constraint=False, ")
    project.makemigrations(books=HEADER + model("Author", NUM_BOOKS) + link)
    project.manage("check")
    project.manage("migrate")
    project.manage("migrate --database second")
    second.sql("INSERT INTO books_book (id, author_id, pages, published) VALUES (1, 1, 10, true)")
    assert second.objects() == NOTHING
    project.sql(ROWS)
    project.assert_settled()
