"""A project leaves trigger_kit: docs/leaving.md, walked through."""

from __future__ import annotations

import re

from tests.migration.conftest import Make
from tests.migration.library import HEADER, NUM_BOOKS, NUM_PUBLISHED, ROWS, library, model
from tests.migration.project import Project

PLAIN = library(NUM_BOOKS.without_rule, NUM_PUBLISHED.without_rule).replace(
    "from trigger_kit import Denormalize, Guard\n", ""
)
OURS = r"""
SELECT 'trigger', tgname FROM pg_trigger WHERE tgname ~ '^~?tk_' AND NOT tgisinternal
UNION ALL SELECT 'function', proname FROM pg_proc WHERE proname ~ '^~?tk_'
UNION ALL SELECT 'relation', relname FROM pg_class WHERE relname ~ '^tk_'
UNION ALL SELECT 'comment', description FROM pg_description WHERE description LIKE 'trigger_kit%'
"""


def leave(project: Project) -> None:
    """Take trigger_kit out of INSTALLED_APPS."""
    project.installed = [app for app in project.installed if app not in {"trigger_kit", "pgtrigger"}]
    project.write_settings()


def test_rules_are_removed_by_a_migration_and_the_app_goes_afterwards(make: Make) -> None:
    project = make(books=library(NUM_BOOKS, NUM_PUBLISHED), rows=ROWS)
    assert project.makemigrations(books=PLAIN) == {
        "books": ["RemoveRule author.num_books", "RemoveRule author.num_published"]
    }
    project.manage("migrate")
    assert project.value("SELECT array_agg(num_books ORDER BY id) FROM books_author") == [3, 1, 0]
    project.manage("trigger_kit uninstall --all")
    assert project.sql(OURS) == []
    leave(project)
    for command in ("check", "migrate", "makemigrations --check"):
        project.manage_alone(command)
    project.new_database()
    project.manage_alone("migrate")
    assert project.sql(OURS) == []


def test_the_app_goes_at_once_and_the_removal_drops_what_the_catalog_knows(make: Make) -> None:
    project = make(books=library(NUM_BOOKS, NUM_PUBLISHED), rows=ROWS)
    project.makemigrations(books=PLAIN)
    leave(project)
    project.manage_alone("check")
    assert project.sql("SELECT count(*) FROM pg_trigger WHERE tgname ~ '^~?tk_'") != [(0,)]
    project.manage_alone("migrate")
    assert project.sql("SELECT count(*) FROM pg_trigger WHERE tgname ~ '^~?tk_' AND tgname <> 'tk_commit'") == [(0,)]
    project.sql("INSERT INTO books_book (id, author_id, pages, published) VALUES (9, 1, 1, true)")
    project.new_database()
    project.manage_alone("migrate")


def test_renames_between_the_rule_and_its_removal_are_no_matter_after_the_app_has_gone(make: Make) -> None:
    project = make(books=library(NUM_BOOKS, NUM_PUBLISHED), rows=ROWS)
    renamed = library(
        NUM_BOOKS.replace("num_books", "number"), NUM_PUBLISHED.replace("books__published", "books__public")
    ).replace("    published = ", "    public = ")
    project.deploy(books=renamed, answers="y\ny\n")
    plain = re.sub(r"denormalizations = \[.*?\]\n", "pass\n", renamed, flags=re.DOTALL)
    project.makemigrations(books=plain.replace("from trigger_kit import Denormalize, Guard\n", ""))
    leave(project)
    project.manage_alone("migrate")
    project.new_database()
    project.manage_alone("migrate")
    project.manage_alone("makemigrations --check")


def test_uninstall_all_leaves_nothing_whatever_the_timing_and_says_what_went(make: Make) -> None:
    kept = [
        NUM_BOOKS.replace("))", "), timing=Timing.QUEUED)"),
        NUM_PUBLISHED.replace("=True)))", "=True)), timing=Timing.DEFERRED)"),
    ]
    header = HEADER.replace("Denormalize, Guard", "Denormalize, Guard, Timing")
    project = make(books=library(*kept).replace(HEADER, header), rows=ROWS)
    project.sql("INSERT INTO books_book (id, author_id, pages, published) VALUES (9, 3, 1, true)")
    assert project.value("SELECT num_books FROM books_author WHERE id = 3") == 0
    assert "Dry run: nothing was changed." in project.manage("trigger_kit uninstall --all --dry-run").stdout
    assert project.sql(OURS) != []
    printed = project.manage("trigger_kit uninstall --all").stdout
    assert re.fullmatch(r"- public  \d+ functions, \d+ tables, \d+ triggers, 1 view\n", printed), printed
    assert project.sql(OURS) == []
    assert project.value("SELECT num_books FROM books_author WHERE id = 3") == 1  # what was pending was folded
    assert project.manage("trigger_kit uninstall --all").stdout.startswith("No rules")


def test_uninstall_all_refuses_while_rules_are_paused(make: Make) -> None:
    project = make(books=library(NUM_BOOKS), rows=ROWS)
    project.manage("trigger_kit pause")
    outcome = project.manage("trigger_kit uninstall --all", code=2)
    assert outcome.stderr.strip().endswith("are paused, and their values out of date: run trigger_kit resume first.")
    project.manage("trigger_kit resume")
    project.manage("trigger_kit uninstall --all")
    assert project.sql(OURS) == []


def test_uninstall_all_takes_no_rules_beside_it(make: Make) -> None:
    project = make(books=library(NUM_BOOKS), rows=ROWS)
    assert "name no rules beside it" in project.manage("trigger_kit uninstall books.Author --all", code=1).stderr


def test_e036_a_forgotten_app_says_so(make: Make) -> None:
    project = make(books=HEADER + model("Author") + "\n", rows="")
    leave(project)
    project.write_models(books=library(NUM_BOOKS))
    outcome = project.manage_alone("check", code=1)
    assert "books.Author: Meta.denormalizations declares rules, and nothing keeps them" in outcome.stderr
    assert "HINT: Add 'trigger_kit' to INSTALLED_APPS" in outcome.stderr
