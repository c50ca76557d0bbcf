"""A new version of trigger_kit that writes other SQL for the same rules: migrate brings the database over."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import psycopg
import pytest

from tests.migration.conftest import Make
from tests.migration.library import BOOK, CHURN, HEADER, NUM_BOOKS, PAGES_TOTAL, ROWS, Kept, library
from tests.migration.project import OURS, Project
from trigger_kit.sql import trigger as template

# What a newer version is: another template, another number, and so another text and COMMENT of every trigger.
NEWER = """
from django.apps import AppConfig


class NewerConfig(AppConfig):
    name = "newer"

    def ready(self):
        from trigger_kit.database import catalog
        from trigger_kit.migration import upgrade
        from trigger_kit.sql import function
        from trigger_kit.sql import trigger as template

        for module in (catalog, template, upgrade):
            module.TEMPLATE_VERSION = 2
        function.Function.source = property(lambda self: f"\\n-- By a newer version.\\n{self.body}\\n")
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
VERSIONS = """
SELECT DISTINCT substring(obj_description(oid, 'pg_trigger') FROM '"version": ([0-9]+)')
FROM pg_trigger WHERE tgname ~ '^~?tk_' AND tgname <> 'tk_commit' ORDER BY 1
"""
BROUGHT = [
    "  Triggers of books.Author brought over to this version of its rules.",
    "  Triggers of books.Book brought over to this version of its rules.",
]
# A row that was written behind the triggers' back: an upgrade fills nothing, so that it stays as it is.
SPOIL = "SET session_replication_role = replica; UPDATE books_author SET num_books = 9 WHERE id = 3; RESET session_replication_role"


def upgrade(project: Project, *, extra: str = "") -> None:
    """Install a newer version, for this project only."""
    (project.path / "newer").mkdir(exist_ok=True)
    (project.path / "newer" / "__init__.py").touch()
    (project.path / "newer" / "apps.py").write_text(NEWER)
    project.installed = [*OURS, "newer"]
    project.write_settings(extra=extra)


def downgrade(project: Project) -> None:
    """Go back to the version of before."""
    project.installed = [*OURS]
    project.write_settings()


def brought(printed: str) -> list[str]:
    return sorted(line for line in printed.splitlines() if line.startswith("  Triggers of"))


def test_migrate_brings_triggers_over_and_fills_nothing(make: Make, blank: Make) -> None:
    project = make(books=MODELS, rows=INSERTS)
    before = project.objects()
    project.sql(SPOIL)
    upgrade(project)
    project.manage("makemigrations --check --dry-run")
    assert set(project.statuses().values()) == {"outdated"}
    assert "(trigger_kit.W011)" in project.manage("check --database default").stderr
    assert brought(project.manage("migrate").stdout) == BROUGHT
    project.manage("makemigrations --check --dry-run")
    assert set(project.statuses().values()) == {"installed"}
    assert project.sql(VERSIONS) == [("2",)]
    assert all("By a newer version" in row[2] for row in project.objects()["functions"])
    assert project.value("SELECT num_books FROM books_author WHERE id = 3") == 9
    project.manage("trigger_kit repair")
    project.sql(ALL_CHURN)
    project.assert_settled()

    fresh = blank("books")
    upgrade(fresh)
    fresh.deploy(books=MODELS)
    project.assert_like(fresh)
    assert brought(project.manage("migrate").stdout) == []

    # Old code that is still about changes nothing, and says so: two versions would undo each other's work.
    downgrade(project)
    after = project.objects()
    (line,) = brought(project.manage("migrate").stdout)
    assert line.endswith("are left as they are: a newer version of trigger_kit has installed some of them.")
    assert project.objects() == after
    assert after != before


def test_an_upgrade_may_be_switched_off(make: Make) -> None:
    project = make(books=MODELS, rows=INSERTS)
    before = project.objects()
    upgrade(project, extra='TRIGGER_KIT = {"UPGRADE": False}\n')
    assert brought(project.manage("migrate").stdout) == []
    assert project.objects() == before
    assert set(project.statuses().values()) == {"outdated"}
    project.manage("trigger_kit install")
    project.assert_settled()


def test_a_rule_changes_together_with_the_version(make: Make) -> None:
    project = make(books=MODELS, rows=INSERTS)
    upgrade(project)
    assert project.deploy(books=CHANGED_MODELS) == {"books": ["AlterRule author.num_books"]}
    assert project.sql(VERSIONS) == [("2",)]
    assert project.sql("SELECT num_books FROM books_author ORDER BY id") == [(2,), (0,), (0,)]


@pytest.fixture
def newer(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Become a newer version when it is called."""

    def become() -> None:
        for module in ("database.catalog", "migration.upgrade", "sql.trigger"):
            monkeypatch.setattr(f"trigger_kit.{module}.TEMPLATE_VERSION", 2)
        text = template.TEMPLATE.replace("AS {quotes}\n", "AS {quotes}\n-- By a newer version.\n")
        monkeypatch.setattr(template, "TEMPLATE", text)
        # What was compiled is kept in memory, as long as the process lives.
        monkeypatch.setattr("trigger_kit.migration.compiled._cache", OrderedDict())

    return become


def test_an_upgrade_lets_go_of_tables_that_somebody_uses(inplace: Make, newer: Callable[[], None]) -> None:
    """It takes the locks of a migration, each target by itself: what is not to be had now, the next migrate takes."""
    project = inplace(books=MODELS, rows=INSERTS)
    project.write_settings(extra='TRIGGER_KIT = {"LOCK_PATIENCE": 0.3}\n')
    before = project.objects()
    newer()
    with psycopg.connect(project.url) as writer:
        writer.execute("UPDATE books_book SET pages = pages + 1 WHERE id = 1")
        printed = brought(project.manage("migrate").stdout)
        assert [line.partition(":")[0] for line in printed] == [
            f"  Triggers of books.{name} could not be brought over" for name in ("Author", "Book")
        ]
        assert all("could not be locked within 0.3 seconds: process" in line for line in printed)
    assert project.objects() == before
    project.assert_in_sync()
    assert brought(project.manage("migrate").stdout) == BROUGHT
    assert project.sql(VERSIONS) == [("2",)]
    project.assert_settled()


def test_an_upgrade_that_fails_leaves_the_others_alone(inplace: Make, newer: Callable[[], None]) -> None:
    project = inplace(books=MODELS, rows=INSERTS)
    project.manage("trigger_kit pause books.Author")
    newer()
    printed = brought(project.manage("migrate").stdout)
    assert printed[0].startswith("  Triggers of books.Author could not be brought over: The rules that keep")
    assert printed[1:] == BROUGHT[1:]
    assert project.sql(VERSIONS) == [("1",), ("2",)]
    project.manage("trigger_kit resume")
    project.assert_in_sync()
    project.manage("migrate")
    assert project.sql(VERSIONS) == [("2",)]
    project.assert_settled()


def test_old_and_new_code_migrate_in_turn(inplace: Make) -> None:
    """What this code does not know has been applied by newer code: its rules stay as they are."""
    project = inplace(books=MODELS, rows=INSERTS)
    project.makemigrations(books=CHANGED_MODELS)
    project.manage("migrate")
    after = project.objects()
    newest = project.last("books")
    text = newest.read_text()
    newest.unlink()
    project.write_models(books=MODELS)
    printed = project.manage("migrate").stdout
    assert brought(printed) == [
        f"  Triggers of books.Author are left as they are: this code does not know books.{newest.stem}, which is applied."
    ]
    assert project.objects() == after
    newest.write_text(text)
    project.write_models(books=CHANGED_MODELS)
    assert brought(project.manage("migrate").stdout) == []
    project.assert_settled()
