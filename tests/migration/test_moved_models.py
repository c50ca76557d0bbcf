"""Models that go to another app, or whose app gets another label, and stay in their tables."""

from __future__ import annotations

from tests.migration.conftest import Make
from tests.migration.library import BOOK, CHURN, HEADER, NUM_PUBLISHED, PAGES_TOTAL, ROWS, library, model
from tests.migration.project import Project

AUTHOR_META = "db_table = 'books_author'"
BOOK_META = "\n    class Meta:\n        db_table = 'books_book'\n"
MODELS = library(PAGES_TOTAL, NUM_PUBLISHED, meta=AUTHOR_META) + BOOK_META


def test_an_app_gets_another_label(make: Make, scratch: Make) -> None:
    project = make(catalog=MODELS, rows=ROWS)
    give_label(project, "catalog", "shop")
    project.sql(CHURN)
    assert project.deploy(shop=MODELS) == {}
    project.assert_like(scratch(shop=MODELS))
    project.manage("migrate shop 0001")
    project.manage("migrate")
    project.assert_settled()


def give_label(project: Project, old: str, new: str) -> None:
    """Do what the manuals say: rename the folder and its names in the migrations, tell the database."""
    project.close()
    (project.path / old).rename(project.path / new)
    project.apps = [new]
    for file in project.files():
        file.write_text(file.read_text().replace(f"'{old}'", f"'{new}'").replace(f"'{old}.", f"'{new}."))
    project.write_settings()
    project.sql("UPDATE django_migrations SET app = %s WHERE app = %s", new, old)


TARGET = model("Author", PAGES_TOTAL, NUM_PUBLISHED, meta=AUTHOR_META)
BEFORE = {"books": HEADER + TARGET + BOOK + BOOK_META, "people": HEADER}
AFTER = {"books": HEADER + BOOK.replace('"Author"', '"people.Author"') + BOOK_META, "people": HEADER + TARGET}


# What users do to such migrations: tables stay where they are.
IN_STATE_ONLY = """

Migration.operations = [
    operation
    if type(operation).__module__.startswith("trigger_kit")
    else migrations.SeparateDatabaseAndState(state_operations=[operation])
    for operation in Migration.operations
]
"""


def test_a_target_goes_to_another_app(make: Make, scratch: Make) -> None:
    project = make(**BEFORE, rows=ROWS)
    old = project.files()
    project.makemigrations(**AFTER)
    for file in project.files():
        if file not in old:
            file.write_text(file.read_text() + IN_STATE_ONLY)
    project.manage("migrate")
    project.sql(CHURN)
    project.assert_settled()
    assert project.objects() == scratch(**AFTER).objects()
