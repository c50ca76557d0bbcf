"""django-pghistory on the models that have rules, or that rules read: neither touches the other's triggers."""

from __future__ import annotations

import pytest

from tests.migration.conftest import Make
from tests.migration.library import CHURN, NUM_BOOKS, NUM_PUBLISHED, ROWS, Kept, library
from tests.migration.project import Project

NUM_EVENTS = Kept(
    "num_events = models.IntegerField(default=0, editable=False)", 'Denormalize("num_events", Count("books__events"))'
)
HEADER = library(book="").partition("\nclass ")[0] + "import pghistory\nimport pgtrigger\n"
THEIRS = 'triggers = [pgtrigger.Protect(name="kept", operation=pgtrigger.Delete, condition=pgtrigger.Q(old__id=9))]'
CONTRIB = ["django.contrib.contenttypes", "django.contrib.auth"]
INSTALLED = ["pgtrigger", "pghistory", "trigger_kit", *CONTRIB]
ORDERS = pytest.mark.parametrize(
    "installed",
    [
        INSTALLED,
        pytest.param(["trigger_kit", *CONTRIB, "pghistory", "pgtrigger"], marks=pytest.mark.thorough),
    ],
    ids=["trigger_kit last", "trigger_kit first"],
)
VALUES = "SELECT num_books, num_events FROM books_author ORDER BY id"


def tracked(*kept: Kept) -> str:
    """Return the models, both with their history."""
    source = library(*kept, header=HEADER, meta=THEIRS)
    return source.replace("\nclass ", "\n@pghistory.track()\nclass ")


def theirs(project: Project) -> list[tuple[object, ...]]:
    return [row for row in project.objects()["triggers"] if str(row[1]).startswith("pgtrigger_")]


def ours(project: Project) -> dict[str, list[tuple[object, ...]]]:
    found = project.objects()
    return {**found, "triggers": [row for row in found["triggers"] if row not in theirs(project)]}


@ORDERS
def test_history_and_rules_on_the_same_models(make: Make, scratch: Make, installed: list[str]) -> None:
    project = make(books=tracked(), rows=ROWS, installed=installed)
    before = theirs(project)
    assert len(before) == 5
    models = tracked(NUM_BOOKS, NUM_EVENTS)
    written = project.deploy(books=models)["books"]
    assert [name for name in written if "Rule" in name] == [
        "AddRule author.num_books",
        "AddRule author.num_events",
    ]
    assert project.sql(VALUES) == [(3, 3), (1, 1), (0, 0)]
    project.sql(CHURN)
    # A deleted book leaves its events, which belong to no author any more.
    assert project.sql(VALUES) == [(2, 3), (2, 3), (0, 0)]
    assert (
        project.value("SELECT num_books FROM books_authorevent WHERE pgh_obj_id = 1 ORDER BY pgh_id DESC LIMIT 1") == 2
    )
    project.assert_in_sync()
    with_rules = ours(project)
    for command in ("uninstall", "install", "prune", "disable", "enable"):
        project.manage(f"pgtrigger {command}")
        assert ours(project) == with_rules
    project.assert_settled()

    columns_added = theirs(project)
    for command in ("prune --yes", "disable", "enable", "uninstall", "install"):
        outcome = project.manage(f"trigger_kit {command}", code=None)
        assert "Traceback" not in outcome.stderr
        assert theirs(project) == columns_added
    assert ours(project) == with_rules
    project.assert_settled()

    project.manage("migrate books 0001")
    assert ours(project) == {"functions": [], "triggers": []}
    assert theirs(project) == before
    project.manage("migrate")
    project.assert_settled()
    assert theirs(project) == columns_added


def test_rules_change_under_a_history(make: Make) -> None:
    project = make(books=tracked(NUM_BOOKS, NUM_EVENTS), rows=ROWS, installed=INSTALLED)
    before = theirs(project)
    filtered = Kept(NUM_BOOKS.field, NUM_PUBLISHED.rule.replace("num_published", "num_books"))
    assert project.deploy(books=tracked(filtered, NUM_EVENTS)) == {"books": ["AlterRule author.num_books"]}
    assert theirs(project) == before
    assert project.deploy(books=tracked(filtered.without_rule, NUM_EVENTS)) == {
        "books": ["RemoveRule author.num_books"]
    }
    assert theirs(project) == before
    project.sql(CHURN)
    project.manage("migrate books 0001")
    project.write_models(books=tracked(NUM_BOOKS, NUM_EVENTS))
    assert theirs(project) == before
    project.assert_in_sync()
    assert set(project.statuses().values()) == {"installed"}


SCRIPT = """
import pghistory, pgtrigger
from books.models import Author, Book
with pghistory.context(user=1), pgtrigger.ignore():
    Book.objects.create(id=9, author_id=3, pages=1)
    Author.objects.filter(pk=3).update(num_books=77, name="z")
with pgtrigger.ignore("books.Author:kept"):
    Book.objects.filter(pk=1).delete()
"""


def test_their_context_managers_leave_ours_on(make: Make) -> None:
    project = make(books=tracked(NUM_BOOKS, NUM_EVENTS), rows=ROWS, installed=INSTALLED)
    project.manage(f"shell -c '{SCRIPT}'")
    assert project.sql(VALUES) == [(2, 2), (1, 1), (1, 0)]
    project.assert_in_sync()
