"""What ``trigger_kit ls`` says of the triggers, and what migrations do to triggers that somebody has switched."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from tests.migration.conftest import Make
from tests.migration.library import CHURN, NUM_BOOKS, NUM_PUBLISHED, ROWS, library
from tests.migration.project import Project
from tests.migration.test_schemas import enter, tenants
from tests.migration.worker import environment
from trigger_kit.sql.trigger import Comment

MODELS = library(NUM_BOOKS)
CHANGED = library(NUM_BOOKS.replace('Count("books")', 'Count("books", filter=Q(books__published=True))'))
RULE = "books.Author:num_books"
OTHER_TEXT = Comment(1, "books_author", "0" * 40).write()


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


def test_missing_after_a_trigger_was_dropped(inplace: Make) -> None:
    project = inplace(books=MODELS, rows=ROWS)
    name = trigger(project, "guard")
    project.sql(f'DROP TRIGGER "{name}" ON books_author')
    assert project.statuses() == {RULE: "missing"}
    assert f"missing: {name}" in project.manage("trigger_kit ls").stdout


def test_outdated_when_the_comment_differs(inplace: Make) -> None:
    project = inplace(books=MODELS, rows=ROWS)
    name = trigger(project, "book_insert")
    project.sql(f"COMMENT ON TRIGGER \"{name}\" ON books_book IS '{OTHER_TEXT}'")
    assert project.statuses() == {RULE: "outdated"}
    assert f"outdated: {name}" in project.manage("trigger_kit ls").stdout


def test_outdated_when_models_changed_and_no_migration_was_made(inplace: Make) -> None:
    project = inplace(books=MODELS, rows=ROWS)
    project.write_models(books=CHANGED)
    assert project.statuses() == {RULE: "outdated"}


def test_four_installs_at_once(make: Make) -> None:
    project = make(books=MODELS, rows=ROWS)
    before = project.objects()
    project.manage("trigger_kit uninstall")
    project.sql(CHURN)
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(project.manage_alone, ["trigger_kit install"] * 4))
    assert [outcome.code for outcome in done] == [0] * 4
    assert project.objects() == before
    project.assert_settled()
    project.sql("INSERT INTO books_book (id, author_id, pages, published) VALUES (9, 3, 1, true)")
    project.assert_in_sync()


def test_disabled_and_enabled_again(inplace: Make) -> None:
    project = inplace(books=MODELS, rows=ROWS)
    name = trigger(project, "book_insert")
    project.sql(f'ALTER TABLE books_book DISABLE TRIGGER "{name}"')
    assert project.statuses() == {RULE: "disabled"}
    assert f"disabled: {name}" in project.manage("trigger_kit ls").stdout
    project.sql(f'ALTER TABLE books_book ENABLE TRIGGER "{name}"')
    assert project.statuses() == {RULE: "installed"}


def test_orphaned_is_a_trigger_of_ours_that_no_rule_explains(inplace: Make) -> None:
    project = inplace(books=MODELS, rows=ROWS)
    project.sql(
        "CREATE FUNCTION tk_old() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
        "CREATE TRIGGER tk_old AFTER INSERT ON books_book EXECUTE FUNCTION tk_old();"
        "CREATE TRIGGER tk_theirs AFTER INSERT ON books_book EXECUTE FUNCTION tk_old();"
        f"COMMENT ON TRIGGER tk_old ON books_book IS '{OTHER_TEXT}'"
    )
    assert project.statuses() == {RULE: "installed", "public.tk_old": "orphaned"}


def test_orphaned_are_the_triggers_of_a_rule_that_left_the_models(inplace: Make) -> None:
    project = inplace(books=MODELS, rows=ROWS)
    project.write_models(books=library(NUM_BOOKS.without_rule))
    assert set(project.statuses().values()) == {"orphaned"}


def test_switched_triggers_stay_so_when_rules_change(inplace: Make) -> None:
    project = inplace(books=library(NUM_BOOKS, NUM_PUBLISHED), rows=ROWS)
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


def test_the_database_check_tells_what_no_migration_will_mend(make: Make) -> None:
    project = make(books=MODELS, rows=ROWS)
    name = trigger(project, "guard")
    assert "trigger_kit" not in project.manage("check --database default").stderr
    project.sql(f'DROP TRIGGER "{name}" ON books_author')
    assert "(trigger_kit.W010)" in project.manage("check --database default").stderr
    outcome = project.manage("migrate")
    assert "(trigger_kit.W010)" in outcome.stderr
    # What no migration mends, the end of migrate does.
    assert "Triggers of books.Author brought over to this version of its rules." in outcome.stdout
    assert "trigger_kit" not in project.manage("check --database default").stderr
    project.write_models(books=CHANGED)
    assert "(trigger_kit.W011)" in project.manage("check --database default").stderr
    project.makemigrations(books=CHANGED)
    assert "trigger_kit" not in project.manage("migrate").stderr
    assert "trigger_kit" not in project.manage("check --database default").stderr


def test_a_database_check_before_the_first_migration(blank: Make) -> None:
    project = blank("books")
    project.makemigrations(books=MODELS)
    assert "trigger_kit" not in project.manage("check --database default").stderr
    assert "trigger_kit" not in project.manage("migrate").stderr


def test_a_migration_of_what_is_paused_is_refused(make: Make) -> None:
    project = make(books=MODELS, rows=ROWS)
    project.manage("trigger_kit pause")
    project.sql(CHURN)
    assert "(trigger_kit.W013)" in project.manage("migrate").stderr
    project.makemigrations(books=CHANGED)
    before = project.objects()
    refused = project.manage("migrate", code=None)
    assert refused.code != 0
    assert "The rules that keep books_author are paused" in refused.stderr
    assert project.objects() == before
    assert project.statuses() == {RULE: "outdated"}
    project.write_models(books=MODELS)
    assert "keys repaired" in project.manage("trigger_kit resume").stdout
    project.assert_in_sync()
    project.write_models(books=CHANGED)
    project.manage("migrate")
    project.assert_settled()


def test_what_is_paused_can_be_resumed_with_newer_models(inplace: Make) -> None:
    project = inplace(books=MODELS, rows=ROWS)
    project.manage("trigger_kit pause")
    project.sql(CHURN)
    project.makemigrations(books=CHANGED)
    project.manage("trigger_kit resume")
    project.manage("migrate")
    project.assert_settled()


def test_switches_work_in_the_schema_of_the_search_path_only(blank: Make) -> None:
    project = tenants(blank, MODELS)
    there = (
        "SELECT tgname, tgenabled, prosrc FROM pg_trigger JOIN pg_proc ON pg_proc.oid = tgfoid "
        "WHERE pronamespace = 'tenant_b'::regnamespace ORDER BY tgname"
    )
    before = project.sql(there)
    for command in ("pause", "resume", "disable", "enable", "uninstall", "prune --yes", "install"):
        project.manage(f"trigger_kit {command}")
        project.sql("DELETE FROM books_book WHERE id = (SELECT max(id) FROM books_book)")
        assert project.sql(there) == before, command
    project.assert_settled()
    enter(project, "tenant_b")
    project.assert_settled()


def test_killed_while_it_fills_enable_leaves_a_pause(make: Make) -> None:
    project = make(books=MODELS, rows=ROWS)
    project.manage("trigger_kit disable")
    project.sql("INSERT INTO books_author (id, name, num_books) SELECT n, '', 5 FROM generate_series(10, 40000) AS n")
    project.sql(CHURN)
    command = [sys.executable, "manage.py", "trigger_kit", "enable"]
    with subprocess.Popen(command, cwd=project.path, env=environment(project.path)) as process:
        filled = "SELECT count(*) FROM books_author WHERE num_books = 0 AND id >= 10"
        while not project.value(filled):
            assert process.poll() is None
        process.kill()
    assert project.statuses() == {RULE: "paused"}
    assert "its rows are not all filled yet" in project.manage("trigger_kit ls").stdout
    assert "(trigger_kit.W013)" in project.manage("check --database default").stderr
    project.sql("INSERT INTO books_book (id, author_id, pages, published) VALUES (9, 39999, 1, true)")
    project.manage("trigger_kit resume")
    project.assert_settled()
    assert project.value("SELECT num_books FROM books_author WHERE id = 39999") == 1
