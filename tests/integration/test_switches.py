"""install, uninstall, enable, disable and prune: what they do, what they say, and what they leave alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db.models import Count, Sum

from tests.archive.keeping import assert_rules_hold, keep
from tests.archive.models import Review, Work
from tests.library.models import Author, Book, Category, Shelf
from trigger_kit import Denormalize, Timing
from trigger_kit.maintenance.status import rule_statuses
from trigger_kit.plan.live import live_plans
from trigger_kit.plan.plan import plan_all
from trigger_kit.sql.trigger import Comment
from trigger_kit.testing import assert_in_sync

Sql = Callable[..., list[tuple[Any, ...]]]

# What the COMMENT of a trigger says that was made from another text.
OTHER_TEXT = Comment(1, "library_author", "0" * 40).write()
FUNCTIONS = "SELECT proname, prosrc, prosecdef, proconfig, proacl FROM pg_proc WHERE proname ~ '^~?tk_' ORDER BY 1"
TRIGGERS = (
    "SELECT tgname, tgrelid::regclass::text, tgenabled, pg_get_triggerdef(oid), obj_description(oid, 'pg_trigger') "
    "FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1, 2"
)


@pytest.fixture(autouse=True)
def no_pending_checks(db: None, sql: Sql) -> None:
    sql("SET CONSTRAINTS ALL IMMEDIATE")


@pytest.fixture
def author(db: None) -> Author:
    author = Author.objects.create(name="a")
    Book.objects.create(author=author, pages=3, published=True, price=2)
    return author


def run(*arguments: str, code: int = 0) -> str:
    out = StringIO()
    try:
        call_command("trigger_kit", *arguments, stdout=out, stderr=out, no_color=True)
    except SystemExit as stopped:
        assert stopped.code == code, out.getvalue()
    else:
        assert code == 0, out.getvalue()
    return out.getvalue()


def statuses(*uris: str) -> set[str]:
    return {status.status for status in rule_statuses(uris=uris)}


def snapshot(sql: Sql) -> tuple[Any, Any]:
    return sql(FUNCTIONS), sql(TRIGGERS)


def of_author(sql: Sql) -> list[str]:
    return [name for name, *_ in sql(TRIGGERS) if "tk_" in name and "library_author" in name]


# Uninstall and install ----------------------------------------------------------------------------------------------


def test_uninstall_and_install_again(author: Author, sql: Sql) -> None:
    before, count = snapshot(sql), len(of_author(sql))
    rules = "num_books, num_published, pages_total, revenue"
    assert run("uninstall", "library.Author") == (
        f"- library.Author  {rules}: {count} triggers dropped; stored values stay\n"
        "    an INSERT must name them where they are NOT NULL; back by trigger_kit install library.Author\n"
    )
    assert of_author(sql) == []
    assert statuses("library.Author") == {"missing"}
    assert statuses("library.Shelf") == {"installed"}
    assert Author.objects.get().num_books == 1
    Book.objects.create(author=author, pages=4)
    Author.objects.update(num_published=99)
    assert sorted(run("install").splitlines()) == [
        *(f"  library.{name}  is installed" for name in ("Category", "Person", "Port", "Shelf")),
        f"+ library.Author  {rules}: {count} triggers installed; 1 value changed",
    ]
    assert snapshot(sql) == before
    assert_in_sync()
    Book.objects.all().delete()
    assert_in_sync()


def test_everything_uninstalled_and_installed_again(author: Author, sql: Sql) -> None:
    before = snapshot(sql)
    run("uninstall")
    shelf = Shelf.objects.create(num_categories=0)
    root = Category.objects.create(shelf=shelf)
    Category.objects.create(parent=root, shelf=shelf)
    sql("SET CONSTRAINTS ALL IMMEDIATE")
    assert statuses() == {"missing"}
    run("install")
    assert snapshot(sql) == before
    assert_in_sync()
    shelf.refresh_from_db()
    assert (shelf.num_categories, shelf.num_children) == (2, 1)


def test_install_replaces_what_is_outdated_and_keeps_states(author: Author, sql: Sql) -> None:
    name = next(name for name in of_author(sql) if "book_insert" in name)
    guard = next(name for name in of_author(sql) if "guard" in name)
    sql(f"COMMENT ON TRIGGER \"{name}\" ON library_book IS '{OTHER_TEXT}'")
    sql(f'ALTER TABLE library_book ENABLE ALWAYS TRIGGER "{name}"')
    sql(f'ALTER TABLE library_author DISABLE TRIGGER "{guard}"')
    assert "1 trigger replaced" in run("install", "library.Author:num_books", "--dry-run")
    assert "come along" in run("install", "library.Author:num_books")
    assert statuses("library.Author") == {"disabled"}
    assert {n: e for n, _, e, *_ in sql(TRIGGERS) if n in {name, guard}} == {name: "A", guard: "D"}
    assert "1 trigger disabled: see trigger_kit enable" in run("install", "library.Author")


def test_part_of_what_shares_triggers_is_not_uninstalled(db: None) -> None:
    for command in ("uninstall", "disable"):
        with pytest.raises(CommandError, match="All rules of library.Author share their triggers") as refused:
            run(command, "library.Author:num_books")
        assert refused.value.returncode == 2
    assert statuses() == {"installed"}


@pytest.mark.parametrize("command", ["install", "uninstall", "enable", "disable", "pause", "resume"])
def test_an_unknown_rule_is_an_error(db: None, command: str) -> None:
    with pytest.raises(CommandError, match="There is no rule library.Autor") as refused:
        run(command, "library.Autor")
    assert refused.value.returncode == 2


@pytest.mark.parametrize("command", ["install", "uninstall", "enable", "disable", "pause", "prune"])
def test_a_dry_run_changes_nothing(author: Author, sql: Sql, command: str) -> None:
    before = snapshot(sql)
    run(command, "--dry-run")
    assert snapshot(sql) == before


def test_a_paused_target_is_left_alone(author: Author, sql: Sql) -> None:
    run("pause", "library.Author")
    Book.objects.create(author=author)
    sql("SET CONSTRAINTS ALL IMMEDIATE")
    for command in ("uninstall", "disable"):
        assert "it is paused: run trigger_kit resume library.Author first" in run(command, "library.Author", code=1)
    run("resume")
    assert_in_sync()


# Disable and enable -------------------------------------------------------------------------------------------------


def test_disable_and_enable(author: Author, sql: Sql) -> None:
    before, count = snapshot(sql), len(of_author(sql))
    rules = "num_books, num_published, pages_total, revenue"
    assert run("disable", "library.Author") == (
        f"~ library.Author  {rules}: {count} triggers disabled\n"
        "    values go out of date, anybody may write them, and an INSERT must name them where they are NOT NULL; "
        "back by trigger_kit enable library.Author\n"
    )
    assert statuses("library.Author") == {"disabled"}
    assert run("disable", "library.Author") == "  library.Author  is disabled already\n"
    Book.objects.create(author=author, pages=4)
    Author.objects.update(num_published=99)
    sql("SET CONSTRAINTS ALL IMMEDIATE")
    assert "trigger_kit enable" in run("ls")
    printed = run("enable")
    assert f"~ library.Author  {rules}: {count} triggers enabled; 1 value changed\n" in printed
    assert "  library.Shelf  is enabled\n" in printed
    assert snapshot(sql) == before
    assert_in_sync()
    assert statuses() == {"installed"}


def test_enable_without_filling_says_that_values_may_be_wrong(author: Author, sql: Sql) -> None:
    run("disable", "library.Author")
    Book.objects.create(author=author)
    sql("SET CONSTRAINTS ALL IMMEDIATE")
    assert "values may be wrong: look with trigger_kit verify library.Author" in run("enable", "--no-fill")
    assert statuses() == {"installed"}
    assert Author.objects.get().num_books == 1
    run("verify", "library.Author", code=1)


def test_states_survive_disabling(db: None, sql: Sql) -> None:
    name = next(name for name in of_author(sql) if "book_insert" in name)
    other = next(name for name in of_author(sql) if "book_delete" in name)
    sql(f'ALTER TABLE library_book ENABLE ALWAYS TRIGGER "{name}"')
    sql(f'ALTER TABLE library_book ENABLE REPLICA TRIGGER "{other}"')
    before = snapshot(sql)
    run("disable")
    assert {state for trigger, _, state, *_ in sql(TRIGGERS) if "tk_" in trigger} == {"D", "O"}  # tk_commit is shared
    run("enable")
    assert snapshot(sql) == before


def test_disabled_triggers_that_are_outdated_are_not_enabled(db: None, sql: Sql) -> None:
    run("disable", "library.Author")
    name = next(name for name in of_author(sql) if "book_insert" in name)
    sql(f"COMMENT ON TRIGGER \"{name}\" ON library_book IS '{OTHER_TEXT}'")
    assert "are not those of today's rules: run trigger_kit install library.Author first" in run("enable", code=1)


# Prune --------------------------------------------------------------------------------------------------------------


def make_trigger(sql: Sql, name: str, comment: str | None, body: str = "BEGIN RETURN NULL; END;") -> None:
    sql(f'CREATE FUNCTION "{name}"() RETURNS trigger LANGUAGE plpgsql AS $x$\n{body}\n$x$')
    sql(f'CREATE TRIGGER "{name}" AFTER INSERT ON library_book EXECUTE FUNCTION "{name}"()')
    if comment:
        sql(f"COMMENT ON TRIGGER \"{name}\" ON library_book IS '{comment}'")


OURS = Comment(1, "gone", "0" * 40).write()
BODY = "BEGIN RETURN NULL; END;"


def test_prune_drops_orphans_of_ours_and_nothing_else(author: Author, sql: Sql) -> None:
    before = snapshot(sql)
    make_trigger(sql, "tk_theirs", None)
    make_trigger(sql, "tk_theirs_too", "written by hand")
    make_trigger(sql, "pgtrigger_audit_1234", "0" * 40)
    theirs = snapshot(sql)
    assert run("prune", "--yes") == "Nothing to prune: a declared rule needs everything that is there.\n"
    make_trigger(sql, "tk_gone_from_book_insert_123456", OURS, BODY)
    sql(f"CREATE FUNCTION tk_gone_alone() RETURNS trigger LANGUAGE plpgsql AS $x$\n{BODY}\n$x$")
    sql("COMMENT ON FUNCTION tk_gone_alone() IS 'trigger_kit: keeps gone'")
    sql("CREATE TABLE tk_deferred_gone (id int)")
    sql("COMMENT ON TABLE tk_deferred_gone IS 'trigger_kit: what open transactions have changed for gone'")
    sql("CREATE TABLE tk_deferred_mine (id int)")
    listed = (
        "- gone  trigger public.tk_gone_from_book_insert_123456 on library_book\n"
        "- gone  function public.tk_gone_alone\n"
        "- public  table public.tk_deferred_gone\n"
    )
    assert run("prune", "--dry-run") == listed + "Dry run: nothing was changed.\n"
    assert run("prune", code=1) == listed + "Nothing was dropped. Run it again with --yes to drop these.\n"
    assert run("prune", "--yes") == listed
    assert snapshot(sql) == theirs != before
    assert sql("SELECT to_regclass('tk_deferred_gone'), to_regclass('tk_deferred_mine')") == [
        (None, "tk_deferred_mine")
    ]
    assert_in_sync()


def test_prune_says_which_tables_are_not_this_projects(db: None, sql: Sql) -> None:
    sql("CREATE TABLE elsewhere (id int)")
    sql(f"CREATE FUNCTION tk_far() RETURNS trigger LANGUAGE plpgsql AS $x$\n{BODY}\n$x$")
    sql("CREATE TRIGGER tk_far AFTER INSERT ON elsewhere EXECUTE FUNCTION tk_far()")
    sql(f"COMMENT ON TRIGGER tk_far ON elsewhere IS '{OURS}'")
    assert "no model of this project has this table: another project's?" in run("prune", code=1)


def test_prune_leaves_other_schemas_alone(db: None, sql: Sql) -> None:
    sql("CREATE SCHEMA other")
    sql(f"CREATE FUNCTION other.tk_far() RETURNS trigger LANGUAGE plpgsql AS $x$\n{BODY}\n$x$")
    sql("CREATE TABLE other.tk_deferred_far (id int)")
    sql("COMMENT ON TABLE other.tk_deferred_far IS 'trigger_kit: what'")
    sql("CREATE TRIGGER tk_far AFTER INSERT ON library_book EXECUTE FUNCTION other.tk_far()")
    sql(f"COMMENT ON TRIGGER tk_far ON library_book IS '{OURS}'")
    assert run("prune", "--yes").startswith("Nothing to prune")


def test_prune_leaves_alone_what_a_migration_may_still_replace(db: None, sql: Sql) -> None:
    make_trigger(sql, "tk_old_name", Comment(1, "library_author", "0" * 40).write(), BODY)
    name = next(name for name in of_author(sql) if "book_insert" in name)
    sql(f"COMMENT ON TRIGGER \"{name}\" ON library_book IS '{OURS}'")
    printed = run("prune", "--yes")
    assert "  library.Author  1 object left alone: its rules are not installed as they should be" in printed
    run("install", "library.Author")
    assert run("prune", "--yes").startswith("Nothing to prune")
    assert sql("SELECT count(*) FROM pg_trigger WHERE tgname = 'tk_old_name'") == [(0,)]


@contextmanager
def declared(monkeypatch: pytest.MonkeyPatch, rules: Any) -> Iterator[None]:
    """Let these rules be declared, beside those of the library."""
    plans = plan_all([*[(plan.model, [m.resolved.rule for m in plan.kept_columns]) for plan in live_plans()], *rules])
    pairs = [(plan.model, [m.resolved.rule for m in plan.kept_columns]) for plan in plans]
    with monkeypatch.context() as patch:
        patch.setattr("trigger_kit.plan.live.declared", lambda apps: pairs)
        patch.setattr("trigger_kit.maintenance.prune.declared", lambda apps: pairs)
        yield


def queued_and_deferred() -> Any:
    return [
        (
            Work,
            [
                Denormalize("the_count", Count("reviews"), timing=Timing.QUEUED),
                Denormalize("the_total", Sum("reviews__stars", default=0), timing=Timing.DEFERRED),
            ],
        )
    ]


def test_what_waits_is_settled_before_an_uninstall(sql: Sql, monkeypatch: pytest.MonkeyPatch) -> None:
    rules = queued_and_deferred()
    keep(rules)
    with declared(monkeypatch, rules):
        assert statuses("archive.Work") == {"installed"}
        work = Work.objects.create()
        Review.objects.create(work=work, stars=3)
        sql("SET CONSTRAINTS ALL IMMEDIATE")
        sql("SET CONSTRAINTS ALL DEFERRED")
        assert sql("SELECT count(*) FROM tk_pending_archive_work") == [(1,)]
        run("uninstall", "archive.Work")
        work.refresh_from_db()
        assert (work.the_count, work.the_total) == (1, 3)
        assert sql("SELECT count(*) FROM pg_class WHERE relname ~ '^tk_(pending|exact|deferred)_archive'") == [(0,)]
        assert sql("SELECT count(*) FROM pg_proc WHERE proname ~ 'archive_work'") == [(0,)]
        Review.objects.create(work=work, stars=4)
        sql("SET CONSTRAINTS ALL IMMEDIATE")
        run("install", "archive.Work")
        assert_rules_hold(rules)
        Review.objects.create(work=work, stars=5)
        assert_rules_hold(rules)


def test_prune_folds_what_is_pending_and_drops_the_queue(sql: Sql, monkeypatch: pytest.MonkeyPatch) -> None:
    rules = queued_and_deferred()
    keep(rules)
    with declared(monkeypatch, rules):
        assert run("prune", "--yes").startswith("Nothing to prune")
    work = Work.objects.create()
    Review.objects.create(work=work, stars=3)
    sql("SET CONSTRAINTS ALL IMMEDIATE")
    printed = run("prune", "--yes")
    assert "- archive.Work  table public.tk_pending_archive_work\n" in printed
    assert "- archive.Work  view public.tk_exact_archive_work\n" in printed
    assert "table public.tk_deferred_archive_work\n" in printed
    work.refresh_from_db()
    assert (work.the_count, work.the_total) == (1, 3)
    assert sql("SELECT count(*) FROM pg_class WHERE relname ~ 'tk_.*archive'") == [(0,)]
    assert sql("SELECT count(*) FROM pg_proc WHERE proname ~ 'tk_.*archive'") == [(0,)]
    assert run("prune") == "Nothing to prune: a declared rule needs everything that is there.\n"


# What does not go through -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("before", "command"), [("disable", "enable"), ("uninstall", "install")])
def test_what_stops_in_the_middle_leaves_a_pause_that_resume_ends(
    author: Author, sql: Sql, monkeypatch: pytest.MonkeyPatch, before: str, command: str
) -> None:
    run(before, "library.Author")
    Book.objects.create(author=author, pages=4)
    Author.objects.update(num_published=99)
    sql("SET CONSTRAINTS ALL IMMEDIATE")

    def die(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("trigger_kit.maintenance.long_pauses.fill_all", die)
        run(command, "library.Author")
    assert statuses("library.Author") == {"paused"}
    assert "its rows are not all filled yet" in run("ls", "library.Author")
    Book.objects.create(author=author, pages=4)
    assert "1 row filled" in run("resume")
    assert statuses() == {"installed"}
    assert_in_sync()


def test_an_error_of_one_target_does_not_keep_the_others_from_it(author: Author, sql: Sql) -> None:
    run("pause")
    Book.objects.create(author=author, pages=4)
    shelf = Shelf.objects.create()
    Category.objects.create(shelf=shelf)
    sql("SET CONSTRAINTS ALL IMMEDIATE")
    sql("ALTER TABLE library_author ADD CONSTRAINT few CHECK (num_books < 2)")
    printed = run("resume", code=1)
    assert '! library.Author  new row for relation "library_author" violates check constraint "few"' in printed
    assert statuses("library.Author") == {"paused"}
    assert statuses("library.Shelf") == {"installed"}
    sql("ALTER TABLE library_author DROP CONSTRAINT few")
    run("resume")
    assert_in_sync()
