"""Tables of a role that is no superuser, migrated by one: whichever way the triggers come, they belong to the owner."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from tests.migration.conftest import Make
from tests.migration.library import CHURN, NUM_BOOKS, PAGES_TOTAL, ROWS, library
from tests.migration.project import Project
from trigger_kit.sql.shared import SHARED_NAMES

KEPT = NUM_BOOKS.replace("default=0", "default=0, db_default=0")
RIGHTS = """
SELECT proname, proowner::regrole::text, proconfig, proacl::text FROM pg_proc
WHERE proname ~ '^~?tk_' ORDER BY proname
"""
OWN = "DROP ROLE IF EXISTS books_app; CREATE ROLE books_app LOGIN"
GIVE = "ALTER TABLE books_author OWNER TO books_app; ALTER TABLE books_book OWNER TO books_app"
FAKED = 'TRIGGER_KIT = {"UPGRADE": False}\n'


@pytest.fixture
def project(blank: Make) -> Iterator[Project]:
    """Make a project with tables of a role of its own, and a migration of a rule to come."""
    made = blank("books")
    made.makemigrations(books=library(KEPT.without_rule))
    made.manage("migrate")
    made.sql(OWN)
    made.sql(GIVE + ";" + ROWS)
    made.makemigrations(books=library(KEPT))
    yield made
    made.sql("DROP OWNED BY books_app CASCADE")
    made.sql("DROP ROLE books_app")


def migrate(project: Project) -> None:
    project.manage("migrate")


def sqlmigrate(project: Project) -> None:
    project.psql(project.manage("sqlmigrate books 0002").stdout)
    project.manage("migrate --fake")


def fake(project: Project) -> None:
    project.write_settings(extra=FAKED)
    project.manage("migrate --fake")


def script(project: Project) -> None:
    fake(project)
    project.psql(project.manage("trigger_kit sql").stdout)


def install(project: Project) -> None:
    fake(project)
    project.manage("trigger_kit install")


@pytest.mark.parametrize("way", [migrate, sqlmigrate, script, install])
def test_every_way_gives_the_same_owners_and_rights(project: Project, way: Callable[[Project], Any]) -> None:
    way(project)
    found = project.sql(RIGHTS)
    owners = {name: owner for name, owner, _, _ in found}
    assert {owners.pop(name) for name in SHARED_NAMES} == {"postgres"}
    assert set(owners.values()) == {"books_app"}
    granted = {name: acl for name, _, _, acl in found}
    assert granted.pop("tk_commit") == "{postgres=X/postgres}"
    shared = {granted.pop(name) for name in SHARED_NAMES if name != "tk_commit"}
    assert shared == {"{postgres=X/postgres,books_app=X/postgres}"}
    assert set(granted.values()) == {"{books_app=X/books_app}"}
    tables = "SELECT DISTINCT relacl::text FROM pg_class WHERE relname IN ('tk_touched', 'tk_waiting', 'tk_commit')"
    assert [rights for (text,) in project.sql(tables) for rights in str(text).strip("{}").split(",")][1:] == [
        "books_app=arwd/postgres"
    ]
    project.sql("SET ROLE books_app")
    project.sql(CHURN)
    project.sql("RESET ROLE")
    project.assert_settled()


def test_the_next_migrate_brings_over_what_has_changed_hands(blank: Make) -> None:
    project = blank("books")
    project.makemigrations(books=library(KEPT, PAGES_TOTAL))
    project.manage("migrate")
    project.sql(OWN)
    try:
        project.sql(GIVE)
        assert "trigger_kit.W022" in str(project.manage("check --database default"))
        assert "Triggers of books.Author brought over" in project.manage("migrate").stdout
        assert "W022" not in str(project.manage("check --database default"))
        assert "brought over" not in project.manage("migrate").stdout
    finally:
        project.sql("DROP OWNED BY books_app CASCADE")
        project.sql("DROP ROLE books_app")


def test_a_migration_that_lacks_a_right_says_so_in_one_line(project: Project) -> None:
    project.sql("ALTER TABLE books_book OWNER TO postgres")
    printed = project.manage("migrate", code=1).stderr.strip()
    assert printed.splitlines()[-1].endswith("who lacks rights. Run GRANT SELECT ON books_book TO books_app."), printed
    project.sql("GRANT SELECT ON books_book TO books_app")
    project.manage("migrate")
    project.assert_settled()


TWO = """
from django.db import models
from django.db.models import Count
from trigger_kit import Denormalize


class Left(models.Model):
    total = models.IntegerField(default=0, db_default=0, editable=False)

    class Meta:
        denormalizations = [Denormalize("total", Count("leaves"))]


class LeftLeaf(models.Model):
    parent = models.ForeignKey(Left, models.CASCADE, related_name="leaves")


class Right(models.Model):
    total = models.IntegerField(default=0, db_default=0, editable=False)

    class Meta:
        denormalizations = [Denormalize("total", Count("leaves"))]


class RightLeaf(models.Model):
    parent = models.ForeignKey(Right, models.CASCADE, related_name="leaves")
"""


def test_two_targets_are_installed_at_once(blank: Make) -> None:
    """They have no table in common but those of ours; whoever comes second waits."""
    project = blank("trees")
    project.write_models(trees=TWO)
    project.manage("makemigrations")
    project.write_settings(extra=FAKED)
    project.manage("migrate")
    project.manage("trigger_kit uninstall")
    scripts = [project.manage(f"trigger_kit sql trees.{name}").stdout for name in ("Left", "Right")]
    with psycopg.connect(project.url, autocommit=True) as first, ThreadPoolExecutor() as pool:
        first.execute(scripts[0].removesuffix("COMMIT;\n").encode())
        second = pool.submit(project.psql, scripts[1])
        with pytest.raises(TimeoutError):
            second.result(timeout=1)
        first.execute("COMMIT")
        second.result(timeout=30)
    assert set(project.statuses().values()) == {"installed"}
