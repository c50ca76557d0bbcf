"""What ``trigger_kit ls`` says of the triggers, and what migrations do to triggers that somebody has switched."""

from __future__ import annotations

from tests.migration.conftest import Make
from tests.migration.library import CHURN, NUM_BOOKS, NUM_PUBLISHED, ROWS, library
from tests.migration.project import Project

MODELS = library(NUM_BOOKS)
CHANGED = library(NUM_BOOKS.replace('Count("books")', 'Count("books", filter=Q(books__published=True))'))
RULE = "books.Author:num_books"


def trigger(project: Project, role: str) -> str:
    """Return the name of the trigger that has a word in it."""
    return str(project.value(f"SELECT tgname FROM pg_trigger WHERE tgname LIKE '%tk_%{role}%'"))


def switched(project: Project) -> dict[str, str]:
    return dict(project.sql("SELECT tgname, tgenabled FROM pg_trigger WHERE NOT tgisinternal AND tgenabled <> 'O'"))


def test_missing_after_a_faked_migration(blank: Make) -> None:
    project = blank("books")
    project.makemigrations(books=MODELS)
    project.manage("migrate --fake")
    assert project.statuses() == {RULE: "missing"}
    assert "Run manage.py makemigrations and manage.py migrate" in project.manage("trigger_kit ls").stdout


def test_missing_after_a_trigger_was_dropped(make: Make) -> None:
    project = make(books=MODELS, rows=ROWS)
    name = trigger(project, "guard")
    project.sql(f'DROP TRIGGER "{name}" ON books_author')
    assert project.statuses() == {RULE: "missing"}
    assert f"missing: {name}" in project.manage("trigger_kit ls").stdout


def test_outdated_when_the_comment_differs(make: Make) -> None:
    project = make(books=MODELS, rows=ROWS)
    name = trigger(project, "book_insert")
    project.sql(f"COMMENT ON TRIGGER \"{name}\" ON books_book IS 'trigger_kit v1 {'0' * 40}'")
    assert project.statuses() == {RULE: "outdated"}
    assert f"outdated: {name}" in project.manage("trigger_kit ls").stdout


def test_outdated_when_models_changed_and_no_migration_was_made(make: Make) -> None:
    project = make(books=MODELS, rows=ROWS)
    project.write_models(books=CHANGED)
    assert project.statuses() == {RULE: "outdated"}


def test_disabled_and_enabled_again(make: Make) -> None:
    project = make(books=MODELS, rows=ROWS)
    name = trigger(project, "book_insert")
    project.sql(f'ALTER TABLE books_book DISABLE TRIGGER "{name}"')
    assert project.statuses() == {RULE: "disabled"}
    assert f"disabled: {name}" in project.manage("trigger_kit ls").stdout
    project.sql(f'ALTER TABLE books_book ENABLE TRIGGER "{name}"')
    assert project.statuses() == {RULE: "installed"}


def test_orphaned_is_a_trigger_of_ours_that_no_rule_explains(make: Make) -> None:
    project = make(books=MODELS, rows=ROWS)
    project.sql(
        "CREATE FUNCTION tk_old() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
        "CREATE TRIGGER tk_old AFTER INSERT ON books_book EXECUTE FUNCTION tk_old();"
        "CREATE TRIGGER tk_theirs AFTER INSERT ON books_book EXECUTE FUNCTION tk_old();"
        f"COMMENT ON TRIGGER tk_old ON books_book IS 'trigger_kit v1 {'0' * 40}'"
    )
    assert project.statuses() == {RULE: "installed", "public.tk_old": "orphaned"}


def test_orphaned_are_the_triggers_of_a_rule_that_left_the_models(make: Make) -> None:
    project = make(books=MODELS, rows=ROWS)
    project.write_models(books=library(NUM_BOOKS.without_rule))
    assert set(project.statuses().values()) == {"orphaned"}


def test_switched_triggers_stay_so_when_rules_change(make: Make) -> None:
    project = make(books=library(NUM_BOOKS, NUM_PUBLISHED), rows=ROWS)
    disabled, always = trigger(project, "book_insert"), trigger(project, "guard")
    project.sql(f'ALTER TABLE books_book DISABLE TRIGGER "{disabled}"')
    project.sql(f'ALTER TABLE books_author ENABLE ALWAYS TRIGGER "{always}"')
    for models in (CHANGED, MODELS):
        project.makemigrations(books=models)
        project.manage("migrate")
        assert switched(project) == {disabled: "D", always: "A"}
        assert project.statuses() == {RULE: "disabled"}
    project.manage("migrate books 0001")
    assert switched(project) == {disabled: "D", always: "A"}
    project.sql(f'ALTER TABLE books_book ENABLE TRIGGER "{disabled}"')
    project.write_models(books=library(NUM_BOOKS, NUM_PUBLISHED))
    project.sql(CHURN)
    project.assert_in_sync()
