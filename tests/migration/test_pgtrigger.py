"""Hand-written triggers of django-pgtrigger beside rules."""

from __future__ import annotations

import psycopg
import pytest

from tests.migration.conftest import Make
from tests.migration.library import BOOK, CHURN, HEADER, NUM_BOOKS, NUM_PUBLISHED, ROWS, library

KEPT = 'triggers = [pgtrigger.Protect(name="kept", operation=pgtrigger.Delete)]'
FROZEN = """
    class Meta:
        triggers = [pgtrigger.ReadOnly(name="frozen", fields=["id"])]
"""
IMPORTS = HEADER + "import pgtrigger\n"
MODELS = library(NUM_BOOKS, NUM_PUBLISHED, meta=KEPT, header=IMPORTS, book=BOOK + FROZEN)
ORDERS = pytest.mark.parametrize(
    "installed",
    [["pgtrigger", "trigger_kit"], pytest.param(["trigger_kit", "pgtrigger"], marks=pytest.mark.thorough)],
    ids=["pgtrigger first", "trigger_kit first"],
)
VALUES = "SELECT num_books, num_published FROM books_author ORDER BY id"


@pytest.mark.parametrize("installed", [["pgtrigger", "trigger_kit"], ["trigger_kit", "pgtrigger"]], ids="-".join)
def test_makemigrations_writes_both_kinds(make: Make, installed: list[str]) -> None:
    project = make(books=library(), rows=ROWS, installed=installed)
    found = project.deploy(books=MODELS)["books"]
    assert sorted(operation.split()[0] for operation in found) == [
        "AddField",
        "AddField",
        "AddRule",
        "AddRule",
        "AddTrigger",
        "AddTrigger",
    ]
    project.sql(CHURN)
    assert project.sql(VALUES) == [(2, 2), (2, 1), (0, 0)]
    with pytest.raises(psycopg.errors.RaiseException, match="pgtrigger: Cannot delete"):
        project.sql("DELETE FROM books_author WHERE id = 3")
    project.manage("check")


@ORDERS
def test_uninstall_install_and_prune_of_pgtrigger_leave_ours_alone(make: Make, installed: list[str]) -> None:
    project = make(books=MODELS, rows=ROWS, installed=installed)
    before = project.objects()
    for command in (
        "pgtrigger uninstall",
        "pgtrigger install",
        "pgtrigger prune",
        "pgtrigger disable",
        "pgtrigger enable",
    ):
        project.manage(command)
        assert project.objects()["functions"] == before["functions"]
        theirs = [row for row in before["triggers"] if row[1].startswith("pgtrigger_")]
        kept = [row for row in project.objects()["triggers"] if not row[1].startswith("pgtrigger_")]
        assert kept == [row for row in before["triggers"] if row not in theirs]
    project.sql(CHURN)
    assert project.sql(VALUES) == [(2, 2), (2, 1), (0, 0)]
    project.assert_settled()


def test_ignore_switches_theirs_off_and_not_ours(make: Make) -> None:
    project = make(books=MODELS, rows=ROWS, installed=["pgtrigger", "trigger_kit"])
    script = [
        "import pgtrigger",
        "from books.models import Author, Book",
        "with pgtrigger.ignore():",
        "    Author.objects.filter(pk=3).delete()",
        "    Book.objects.create(author_id=2, published=True, id=9)",
        "    Author.objects.filter(pk=1).update(num_books=77)",
    ]
    project.manage("shell -c '" + "\n".join(script) + "'")
    assert project.sql(VALUES) == [(3, 2), (2, 1)]
    project.assert_in_sync()


@ORDERS
def test_both_kinds_go_and_come_back(make: Make, scratch: Make, installed: list[str]) -> None:
    project = make(books=MODELS, rows=ROWS, installed=installed)
    after = library(NUM_BOOKS, header=IMPORTS)
    project.deploy(books=after)
    project.sql("DELETE FROM books_book WHERE id = 1")
    project.assert_like(scratch(books=after, installed=installed))
    project.manage("migrate books 0001")
    project.write_models(books=MODELS)
    project.assert_in_sync()
    project.assert_like(scratch(books=MODELS, installed=installed))


def test_pgtrigger_need_not_be_installed(make: Make, scratch: Make) -> None:
    """It is a library of ours then; what it adds to models and to makemigrations stays away."""
    project = make(books=library(), rows=ROWS, installed=["trigger_kit"])
    models = library(NUM_BOOKS, NUM_PUBLISHED)
    assert "AddTrigger" not in str(project.deploy(books=models))
    project.sql(CHURN)
    assert project.sql(VALUES) == [(2, 2), (2, 1), (0, 0)]
    assert "trigger_kit" not in project.manage("check --database default").stderr
    project.assert_settled()
    project.assert_like(scratch(books=models, installed=["trigger_kit"]))
    project.manage("trigger_kit uninstall")
    project.manage("trigger_kit install")
    project.assert_settled()

    # It may come later, and go again.
    objects = project.objects()
    for installed in (["pgtrigger", "trigger_kit"], ["trigger_kit"]):
        project.installed = installed
        project.write_settings()
        project.assert_settled()
        assert "No migrations to apply" in project.manage("migrate").stdout
        assert project.objects() == objects
