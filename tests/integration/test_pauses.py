"""Pauses: of one transaction, and of all sessions; what was touched is repaired, and nothing is silent."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection, transaction
from django.db.models import Count, F, Max, Sum

import trigger_kit
from tests.archive.keeping import assert_rules_hold, keep
from tests.archive.models import Line, Node, Publisher, Remark, Review, Work
from tests.library.models import Author, Book, Category, Port, Shelf, Voyage
from trigger_kit import Denormalize
from trigger_kit.database.changes import Change
from trigger_kit.database.converge import converge
from trigger_kit.database.wanted import Wanted
from trigger_kit.exceptions import TriggerKitError
from trigger_kit.maintenance.long_pauses import pause, resume
from trigger_kit.maintenance.pause import repair_touched
from trigger_kit.maintenance.status import rule_statuses
from trigger_kit.plan.live import live_plans
from trigger_kit.sql.trigger import Comment
from trigger_kit.testing import assert_in_sync

Sql = Callable[..., list[tuple[Any, ...]]]

# What the COMMENT of a trigger says that was made from another text.
OTHER_TEXT = Comment(1, "library_author", "0" * 40).write()


@pytest.fixture
def author(db: None) -> Author:
    return Author.objects.create(name="a")


def run(*arguments: str, code: int = 0) -> str:
    out = StringIO()
    try:
        call_command("trigger_kit", *arguments, stdout=out, stderr=out, no_color=True)
    except SystemExit as stopped:
        assert stopped.code == code
    else:
        assert code == 0
    return out.getvalue()


def statuses(*uris: str) -> set[str]:
    return {status.status for status in rule_statuses(uris=uris)}


def notes(sql: Sql) -> list[tuple[Any, ...]]:
    return sql("SELECT DISTINCT target, key_column, key FROM tk_touched ORDER BY 1, 2, 3")


# One transaction ----------------------------------------------------------------------------------------------------


def test_a_nested_block_leaves_the_repair_to_the_outer_one(author: Author, sql: Sql) -> None:
    with trigger_kit.paused():
        with trigger_kit.paused():
            Book.objects.create(author=author)
        Book.objects.create(author=author)
        assert notes(sql) == [("library_author", "id", str(author.pk))]
        assert Author.objects.get().num_books == 0
    assert Author.objects.get().num_books == 2
    assert notes(sql) == []


def test_a_nested_block_that_fails_takes_only_its_own_notes_away(author: Author, sql: Sql) -> None:
    other = Author.objects.create(name="b")
    with trigger_kit.paused():
        Book.objects.create(author=author)
        with pytest.raises(ZeroDivisionError), trigger_kit.paused():
            Book.objects.create(author=other)
            raise ZeroDivisionError
        assert notes(sql) == [("library_author", "id", str(author.pk))]
        Book.objects.create(author=author)
    assert_in_sync()


def test_a_savepoint_inside_a_pause_that_is_rolled_back(author: Author) -> None:
    with trigger_kit.paused():
        Book.objects.create(author=author)
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            Book.objects.all().delete()
            raise ZeroDivisionError
    assert Author.objects.get().num_books == 1


def test_a_transaction_that_shall_be_rolled_back_needs_no_repair(author: Author) -> None:
    with transaction.atomic(), trigger_kit.paused():
        Book.objects.create(author=author)
        transaction.set_rollback(True)
    assert not Book.objects.exists()
    Book.objects.create(author=author)
    assert_in_sync()


def test_what_an_update_leaves_alone_is_not_noted(author: Author, sql: Sql) -> None:
    Book.objects.create(author=author)
    with trigger_kit.paused():
        Book.objects.update(note="other")
        Book.objects.update(title="Draft'%{}")
        assert notes(sql) == []
        Book.objects.update(pages=7)
        assert notes(sql) == [("library_author", "id", str(author.pk))]
    assert_in_sync()


def test_only_what_was_touched_is_written(author: Author, sql: Sql) -> None:
    other = Author.objects.create(name="b")
    versions = "SELECT xmin::text FROM library_author WHERE id = %s"
    before = sql(versions, other.pk)
    with trigger_kit.paused():
        Book.objects.create(author=author)
    assert sql(versions, other.pk) == before


def test_keys_that_change_and_targets_that_come_and_go(db: None) -> None:
    Port.objects.bulk_create([Port(code="A"), Port(code="B"), Port(code="C")])
    Voyage.objects.create(origin_id="A", destination_id="B", miles=3)
    with trigger_kit.paused():
        Voyage.objects.create(origin_id="B", destination_id="A", miles=5)
        with connection.cursor() as cursor:
            cursor.execute("""UPDATE "Port of call {x}" SET "PortCode" = 'D' WHERE "PortCode" = 'A'""")
            cursor.execute("""UPDATE "select" SET "From" = 'D' WHERE "From" = 'A'""")
            cursor.execute("""UPDATE "select" SET destination_id = 'D' WHERE destination_id = 'A'""")
        Port.objects.filter(code="C").delete()
        Voyage.objects.create(origin_id="E", miles=7)
        Port.objects.create(code="E")
        Voyage.objects.create(origin_id="E", destination_id="E", miles=11)
    assert_in_sync()
    assert Port.objects.get(code="E").departures == 2


def test_truncate_in_a_pause(author: Author, sql: Sql) -> None:
    sql("SET CONSTRAINTS ALL IMMEDIATE")
    Book.objects.create(author=author)
    with trigger_kit.paused():
        Book.objects.create(author=author)
        sql("TRUNCATE library_book")
        Book.objects.create(author=author, pages=3)
    assert_in_sync()
    assert Author.objects.get().pages_total == 3


def test_rules_over_rules(db: None) -> None:
    shelves = Shelf.objects.bulk_create([Shelf(), Shelf()])
    root = Category.objects.create(shelf=shelves[0])
    Category.objects.create(parent=root)
    with trigger_kit.paused():
        Category.objects.bulk_create([Category(parent=root, shelf=shelves[0]) for _ in range(3)])
        Category.objects.filter(pk=root.pk).update(shelf=shelves[1])
        Category.objects.create(parent=root)
    assert_in_sync()
    assert [shelf.num_children for shelf in Shelf.objects.order_by("pk")] == [0, 5]


def tree() -> Any:
    return [(Node, [Denormalize("the_total", F("own") + Sum("children__the_total", default=0))])]


def test_a_tree_is_repaired_level_by_level(sql: Sql) -> None:
    plans = keep(tree())
    sql("SELECT set_config('trigger_kit.paused', 'on', true)")
    for pk in range(1, 9):
        Node.objects.create(id=pk, parent_id=pk - 1 or None, own=1)
    Node.objects.create(id=20, parent_id=2, own=5)
    sql("SELECT set_config('trigger_kit.paused', '', true)")
    repair_touched(plans, connection)
    assert_rules_hold(tree())
    assert Node.objects.get(pk=1).the_total == 13


def test_a_circle_in_a_tree_is_refused_at_the_end(sql: Sql) -> None:
    plans = keep(tree())
    Node.objects.create(id=1, own=1)
    Node.objects.create(id=2, parent_id=1, own=1)
    sql("SELECT set_config('trigger_kit.paused', 'on', true)")
    Node.objects.filter(pk=1).update(parent_id=2)
    sql("SELECT set_config('trigger_kit.paused', '', true)")
    with pytest.raises(Exception, match="its own ancestor"), transaction.atomic():
        repair_touched(plans, connection)
    Node.objects.filter(pk=1).update(parent_id=None)
    assert_rules_hold(tree())


def test_extrema_paths_and_composite_keys(sql: Sql) -> None:
    rules: Any = [
        (
            Publisher,
            [
                Denormalize("kept_number", Max("works__pages")),
                Denormalize("the_total", Sum("works__reviews__stars", default=0)),
            ],
        ),
        (Line, [Denormalize("the_count", Count("remarks")), Denormalize("kept_text", F("work__title"))]),
    ]
    plans = keep(rules)
    one, two = Publisher.objects.create(number=1), Publisher.objects.create(number=2)
    work = Work.objects.create(publisher=one, pages=5, title="a")
    Line.objects.create(work=work, number=1)
    sql("SELECT set_config('trigger_kit.paused', 'on', true)")
    Work.objects.filter(pk=work.pk).update(publisher=two, pages=9, title="b")
    Review.objects.create(work=work, stars=3)
    Line.objects.create(work=work, number=2)
    Remark.objects.create(line_work=work.pk, line_number=1)
    assert len(notes(sql)) > 3
    sql("SELECT set_config('trigger_kit.paused', '', true)")
    repair_touched(plans, connection)
    assert notes(sql) == []
    assert_rules_hold(rules)
    two.refresh_from_db()
    assert (one.kept_number, two.kept_number, two.the_total) == (None, 9, 3)


def test_a_rule_that_is_not_known_here_is_an_error(author: Author, sql: Sql) -> None:
    with pytest.raises(TriggerKitError, match="other_table were touched during a pause"), trigger_kit.paused():
        sql("INSERT INTO tk_touched (target, key_column, key) VALUES ('other_table', 'id', '1')")
    with pytest.raises(TriggerKitError, match="touched during a pause by isbn"), trigger_kit.paused():
        sql("INSERT INTO tk_touched (target, key_column, key) VALUES ('library_author', 'isbn', '1')")
    assert notes(sql) == []


def test_a_role_that_could_not_repair_is_refused_at_once(author: Author, sql: Sql) -> None:
    sql("CREATE ROLE loader")
    sql("GRANT INSERT, SELECT, UPDATE ON ALL TABLES IN SCHEMA public TO loader")
    sql("SET LOCAL ROLE loader")
    with pytest.raises(TriggerKitError, match="may not read and empty tk_touched"), trigger_kit.paused():
        raise AssertionError
    sql("RESET ROLE")
    sql("GRANT DELETE ON tk_touched TO loader")
    sql("GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO loader")
    sql("SET LOCAL ROLE loader")
    with trigger_kit.paused():
        Book.objects.create(author=author)
    assert Author.objects.get().num_books == 1
    sql("RESET ROLE")


# All sessions -------------------------------------------------------------------------------------------------------


def test_pause_and_resume(author: Author, sql: Sql) -> None:
    assert run("pause", "library.Author") == (
        "~ library.Author  num_books, num_published, pages_total, revenue: 3 functions only note what they would do\n"
        "    stored values are out of date until trigger_kit resume library.Author\n"
    )
    Book.objects.create(author=author, pages=3)
    assert Author.objects.get().num_books == 0
    assert statuses("library.Author") == {"paused"}
    assert statuses("library.Shelf") == {"installed"}
    assert "paused since 2" in run("ls", "library.Author")
    assert run("pause", "library.Author").startswith("  library.Author  paused already since 2")
    assert run("resume", "library.Author") == (
        "~ library.Author  num_books, num_published, pages_total, revenue: maintained again; 1 touched key repaired\n"
    )
    assert_in_sync()
    assert statuses() == {"installed"}
    Book.objects.create(author=author, pages=3)
    assert_in_sync()
    assert run("resume", "library.Author") == "  library.Author  is not paused, and nothing was touched\n"
    assert notes(sql) == []


def test_the_functions_are_what_they_were(db: None, sql: Sql) -> None:
    functions = "SELECT proname, prosrc, prosecdef, proconfig, proacl FROM pg_proc WHERE proname ~ '^~?tk_' ORDER BY 1"
    triggers = "SELECT tgname, tgenabled, obj_description(oid, 'pg_trigger') FROM pg_trigger ORDER BY oid"
    before = sql(functions), sql(triggers)
    list(pause())
    assert sql(triggers) == before[1]
    assert sql(functions) != before[0]
    list(resume())
    assert (sql(functions), sql(triggers)) == before


def test_a_rule_brings_the_others_of_its_target_along(db: None) -> None:
    printed = run("pause", "library.Author:num_books")
    assert "library.Author:num_published" in printed.splitlines()[0]
    assert statuses("library.Author") == {"paused"}


def test_a_dry_run_changes_nothing(author: Author, sql: Sql) -> None:
    assert "Dry run: nothing was changed." in run("pause", "library.Author", "--dry-run")
    assert statuses() == {"installed"}
    list(pause(["library.Author"]))
    Book.objects.create(author=author)
    assert "1 touched key to repair" in run("resume", "--dry-run")
    assert statuses("library.Author") == {"paused"}


def test_the_guard_and_the_first_value_stay(author: Author) -> None:
    list(pause())
    Author.objects.filter(pk=author.pk).update(num_books=7)
    assert Author.objects.get().num_books == 0
    Book.objects.create(author_id=77)
    assert Author.objects.create(pk=77).num_books == 0
    assert Author.objects.get(pk=77).num_books == 1


def test_everything_paused_at_once(author: Author) -> None:
    shelf = Shelf.objects.create()
    list(pause())
    Book.objects.bulk_create([Book(author=author, pages=n, published=True, price=n) for n in range(5)])
    root = Category.objects.create(shelf=shelf)
    Category.objects.bulk_create([Category(parent=root, shelf=shelf) for _ in range(3)])
    Port.objects.bulk_create([Port(code="A"), Port(code="B")])
    Voyage.objects.create(origin_id="A", destination_id="B", miles=3)
    Book.objects.filter(pages__gt=3).delete()
    done = list(resume())
    assert not any(change.is_failure for change in done)
    assert_in_sync()
    assert statuses() == {"installed"}


def test_a_paused_block_inside_a_pause(author: Author, sql: Sql) -> None:
    list(pause())
    with trigger_kit.paused():
        Book.objects.create(author=author)
    Book.objects.create(author=author)
    list(resume())
    assert_in_sync()


def test_what_a_session_noted_by_hand_is_shown_and_resumed(author: Author, sql: Sql) -> None:
    sql("SET LOCAL trigger_kit.paused = 'on'")
    Book.objects.create(author=author)
    sql("SET LOCAL trigger_kit.paused = ''")
    assert statuses("library.Author") == {"paused"}
    assert "run trigger_kit resume library.Author" in run("ls", "library.Author")
    run("resume")
    assert statuses() == {"installed"}
    assert_in_sync()


def test_more_keys_than_a_batch_holds(db: None, monkeypatch: pytest.MonkeyPatch, sql: Sql) -> None:
    monkeypatch.setattr("trigger_kit.maintenance.long_pauses.BATCH_SIZE", 3)
    authors = Author.objects.bulk_create([Author() for _ in range(10)])
    list(pause())
    Book.objects.bulk_create([Book(author=author) for author in authors for _ in range(2)])
    Book.objects.bulk_create([Book(author=author) for author in authors])
    assert "10 touched keys repaired" in run("resume")
    assert set(Author.objects.values_list("num_books", flat=True)) == {3}


def test_outdated_triggers_are_not_paused(db: None, sql: Sql) -> None:
    name = sql("SELECT tgname FROM pg_trigger WHERE tgname LIKE 'tk_%%library_book_insert%%'")[0][0]
    sql(f"COMMENT ON TRIGGER \"{name}\" ON library_book IS '{OTHER_TEXT}'")
    assert "! library.Author  triggers are outdated" in run("pause", code=1)
    assert statuses("library.Shelf") == {"paused"}


def test_a_function_that_somebody_has_changed_is_left_alone(db: None, sql: Sql) -> None:
    name = sql("SELECT tgname FROM pg_trigger WHERE tgname LIKE 'tk_%%library_book_insert%%'")[0][0]
    sql(f'CREATE OR REPLACE FUNCTION "{name}"() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END; $$')
    assert f"{name} was changed by somebody else" in run("pause", "library.Author", code=1)
    assert statuses("library.Author") == {"installed"}


def test_a_pause_is_one_function_that_names_the_targets(db: None, sql: Sql) -> None:
    functions = "SELECT proname, prosrc FROM pg_proc WHERE proname ~ '^~?tk_' ORDER BY 1"
    before = dict(sql(functions))
    list(pause(["library.Author"]))
    list(pause(["library.Shelf"]))
    changed = {name for name, body in sql(functions) if body != before[name]}
    assert changed == {"tk_is_paused_v1"}
    assert "ARRAY['library_author', 'library_shelf']" in dict(sql(functions))["tk_is_paused_v1"].replace("','", "', '")
    list(resume(["library.Author"]))
    assert statuses("library.Shelf") == {"paused"}
    list(resume(["library.Shelf"]))
    assert dict(sql(functions)) == before


def test_a_changed_pause_is_seen(db: None, sql: Sql) -> None:
    sql("CREATE OR REPLACE FUNCTION tk_is_paused_v1(target text) RETURNS boolean LANGUAGE sql STABLE AS 'SELECT true'")
    assert "tk_is_paused_v1 was changed by somebody else" in run("pause", "library.Author", code=1)


def test_ls_as_json_and_check(db: None) -> None:
    run("ls", "--check")
    list(pause(["library.Author"]))
    found = {item["rule"]: item for item in json.loads(run("ls", "--json", "--check", code=1))}
    assert found["library.Author:revenue"]["status"] == "paused"
    assert found["library.Author:revenue"]["detail"].startswith("paused since ")


def test_verify_says_that_values_are_out_of_date_because_of_a_pause(author: Author) -> None:
    list(pause(["library.Author"]))
    Book.objects.create(author=author)
    printed = run("verify", "library.Author", code=1)
    assert "library.Author is paused since " in printed
    assert "values are out of date until trigger_kit resume library.Author" in printed
    assert "paused" not in run("verify", "library.Shelf")


def test_triggers_that_are_paused_cannot_change(db: None) -> None:
    (plan,) = (plan for plan in live_plans() if plan.model is Author)
    list(pause(["library.Author"]))
    wanted = Wanted(plan)
    with pytest.raises(TriggerKitError, match="library_author are paused"):
        converge(connection, [Change(before=wanted)])
    converge(connection, [Change(after=wanted)])  # nothing to do
    list(resume())
    converge(connection, [Change(after=Wanted(plan))])
