"""A new version of trigger_kit that writes other SQL for the same rules."""

from __future__ import annotations

from tests.migration.conftest import Make
from tests.migration.library import BOOK, CHURN, HEADER, NUM_BOOKS, PAGES_TOTAL, ROWS, Kept, library
from tests.migration.project import OURS, Project

NEWER = """
from django.apps import AppConfig


class NewerConfig(AppConfig):
    name = "newer"

    def ready(self):
        from trigger_kit.sql import trigger as template

        template.TEMPLATE_VERSION = 2
        template.TEMPLATE_V1 = template.TEMPLATE_V1.replace("AS {quotes}\\n", "AS {quotes}\\n-- By a newer version.\\n")
"""
AUTHOR_NAME = Kept(
    'author_name = models.CharField(max_length=50, default="", editable=False)',
    'Denormalize("author_name", models.F("author__name"))',
)
COPIED = f"    {AUTHOR_NAME.field}\n\n    class Meta:\n        denormalizations = [{AUTHOR_NAME.rule}]\n"
MODELS = library(NUM_BOOKS, PAGES_TOTAL, book=BOOK + COPIED, header=HEADER)
CHANGED_MODELS = MODELS.replace('Count("books")', 'Count("books", filter=Q(books__published=True))')
INSERTS = ROWS.replace("pages, published)", "pages, published, author_name)").replace("true)", "true, '')")
INSERTS = INSERTS.replace("false)", "false, '')")
ALL_CHURN = CHURN.replace("pages, published)", "pages, published, author_name)").replace(
    "160, false)", "160, false, '')"
)
VERSIONS = "SELECT DISTINCT substring(obj_description(oid, 'pg_trigger') FROM 'v[0-9]+') FROM pg_trigger WHERE tgname ~ '^~?tk_[^c]'"


def upgrade(project: Project) -> None:
    """Install a newer version, for this project only."""
    (project.path / "newer").mkdir(exist_ok=True)
    (project.path / "newer" / "__init__.py").touch()
    (project.path / "newer" / "apps.py").write_text(NEWER)
    project.installed = [*OURS, "newer"]
    project.write_settings()


def test_a_newer_version_replaces_the_triggers_of_each_target_once(make: Make, blank: Make) -> None:
    project = make(books=MODELS, rows=INSERTS)
    before = project.objects()
    upgrade(project)
    project.assert_in_sync()
    assert set(project.statuses().values()) == {"outdated"}
    project.manage("makemigrations --check --dry-run", code=1)
    assert project.makemigrations() == {"books": ["AlterRule book.author_name", "AlterRule author.num_books"]}

    # Old migrations install what they hold, whatever the version that runs them.
    replayed = blank("books")
    upgrade(replayed)
    replayed.write_models(books=MODELS)
    (replayed.path / "books" / "migrations" / project.files()[0].name).write_text(project.files()[0].read_text())
    replayed.manage("migrate")
    assert replayed.objects() == before

    project.sql("UPDATE books_author SET name = 'x' WHERE id = 1")
    project.manage("migrate")
    project.assert_settled()
    project.sql(ALL_CHURN)
    project.assert_in_sync()
    after = project.objects()
    assert project.sql(VERSIONS) == [("v2",)]
    assert all("By a newer version" in row[2] for row in after["functions"] if row[1] != "tk_paused")

    fresh = blank("books")
    upgrade(fresh)
    fresh.deploy(books=MODELS)
    project.assert_like(fresh)
    project.manage("migrate books 0001")
    assert project.objects() == before
    project.assert_in_sync()
    project.manage("migrate")
    assert project.objects() == after
    project.assert_settled()


def test_a_rule_changes_together_with_the_version(make: Make) -> None:
    project = make(books=MODELS, rows=INSERTS)
    upgrade(project)
    assert project.deploy(books=CHANGED_MODELS) == {
        "books": ["AlterRule book.author_name", "AlterRule author.num_books", "BackfillRule author.num_books"]
    }
    assert project.sql(VERSIONS) == [("v2",)]
    assert project.sql("SELECT num_books FROM books_author ORDER BY id") == [(2,), (0,), (0,)]
