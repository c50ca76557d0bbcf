"""What the triggers promise besides right values: rights, isolation from users' objects, few writes, readable text."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.apps import apps
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

import trigger_kit
from dev.postgres import Server
from tests.library.models import Author, Book, Category, Shelf
from trigger_kit.plan.live import live_plans
from trigger_kit.sql.compilation import compile_plan
from trigger_kit.testing import assert_in_sync

Sql = Callable[..., list[tuple[Any, ...]]]
INSERT = "INSERT INTO public.library_book (author_id, title, published, pages, note) VALUES (%s, '', true, 10, '')"


@pytest.fixture
def author(db: None) -> Author:
    return Author.objects.create(name="a")


@pytest.fixture
def clerk(sql: Sql) -> Iterator[None]:
    """A role that may write the source and nothing else; the test runs as it."""
    sql("CREATE ROLE clerk")
    sql("GRANT INSERT, UPDATE, DELETE, SELECT ON library_book TO clerk")
    sql("GRANT USAGE ON SEQUENCE library_book_id_seq TO clerk")
    sql("SET ROLE clerk")
    yield
    sql("RESET ROLE")


def test_a_role_that_may_only_write_the_source(author: Author, sql: Sql, clerk: None) -> None:
    sql(INSERT, author.pk)
    sql(INSERT, author.pk)
    sql("UPDATE library_book SET published = false WHERE id = (SELECT min(id) FROM library_book)")
    sql("DELETE FROM library_book WHERE published")
    with pytest.raises(Exception, match="permission denied for table library_author"), transaction.atomic():
        sql("SELECT * FROM library_author")
    sql("RESET ROLE")
    assert_in_sync()
    author.refresh_from_db()
    assert (author.num_books, author.pages_total) == (1, 10)


def test_a_temporary_table_named_like_the_target_captures_nothing(author: Author, sql: Sql) -> None:
    sql("CREATE TEMPORARY TABLE library_author (LIKE library_author INCLUDING ALL)")
    sql("INSERT INTO pg_temp.library_author SELECT * FROM public.library_author")
    sql("SET search_path = pg_temp, public")
    sql(INSERT, author.pk)
    sql("RESET search_path")
    assert sql("SELECT num_books FROM pg_temp.library_author") == [(0,)]
    assert sql("SELECT num_books FROM public.library_author") == [(1,)]
    sql("DROP TABLE pg_temp.library_author")


def test_row_level_security_on_the_target_fails_loudly_instead_of_drifting(author: Author, sql: Sql) -> None:
    sql("CREATE ROLE owner_of_authors")
    sql("GRANT CREATE, USAGE ON SCHEMA public TO owner_of_authors")
    sql("ALTER TABLE library_author OWNER TO owner_of_authors")
    for (function,) in sql("SELECT oid::regprocedure::text FROM pg_proc WHERE proname ~ '^~?tk_'"):
        sql(f"ALTER FUNCTION {function} OWNER TO owner_of_authors")
    sql("ALTER TABLE library_author ENABLE ROW LEVEL SECURITY")
    sql("ALTER TABLE library_author FORCE ROW LEVEL SECURITY")
    with pytest.raises(Exception, match="would be affected by row-level security policy"), transaction.atomic():
        sql(INSERT, author.pk)


def test_four_rules_cost_one_update_of_the_parent(author: Author, sql: Sql) -> None:
    sql(
        "CREATE FUNCTION pg_temp.tally() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "PERFORM set_config('test.updates', (coalesce(nullif(current_setting('test.updates', true), ''), '0')::int + 1)::text, true); "
        "RETURN NULL; END $$"
    )
    sql("CREATE TRIGGER tally AFTER UPDATE ON library_author FOR EACH ROW EXECUTE FUNCTION pg_temp.tally()")
    Book.objects.create(author=author, published=True, pages=5, price=2)
    author.refresh_from_db()
    assert (author.num_books, author.num_published, author.pages_total, author.revenue) == (1, 1, 5, 2)
    assert sql("SELECT current_setting('test.updates')") == [("1",)]


def version(sql: Sql) -> tuple[Any, ...]:
    return sql("SELECT xmin, xmax, ctid FROM library_author")[0]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE library_book SET note = 'x', title = 'y'",
        "UPDATE library_book SET pages = pages, author_id = author_id",
        "UPDATE library_book SET published = published WHERE false",
        "DELETE FROM library_book WHERE false",
        "UPDATE library_book SET pages = 15 - pages",
    ],
)
def test_an_update_without_net_effect_makes_no_new_version_of_the_parent(
    author: Author, sql: Sql, statement: str
) -> None:
    Book.objects.bulk_create([Book(author=author, pages=5), Book(author=author, pages=10)])
    before = version(sql)
    sql(statement)
    assert version(sql) == before
    assert_in_sync()


def test_a_filter_that_stays_false_makes_no_new_version_of_other_columns(author: Author, sql: Sql) -> None:
    Book.objects.create(author=author, pages=5)
    before = version(sql)
    Book.objects.update(title="renamed", price=7)
    assert version(sql) == before


def test_a_rule_over_a_rule_follows(db: None) -> None:
    shelf = Shelf.objects.create()
    root = Category.objects.create(shelf=shelf)
    Category.objects.bulk_create([Category(parent=root, shelf=shelf) for _ in range(3)])
    shelf.refresh_from_db()
    assert (shelf.num_categories, shelf.num_children) == (4, 3)
    assert_in_sync()


def test_pgtriggers_switch_does_not_switch_maintenance_off(author: Author, sql: Sql) -> None:
    names = ",".join(str(trigger.name) for plan in live_plans() for trigger in compile_plan(plan))
    sql("SELECT set_config('pgtrigger.ignore', %s, true)", f"{{{names}}}")
    Book.objects.create(author=author)
    assert_in_sync()


def test_a_pause_repairs_what_was_touched(author: Author, sql: Sql) -> None:
    other = Author.objects.create(name="b")
    with trigger_kit.paused():
        Book.objects.bulk_create([Book(author=author, pages=n) for n in range(3)])
        Category.objects.bulk_create([Category(id=1), Category(id=2, parent_id=1)])
        assert Author.objects.get(pk=author.pk).num_books == 0
    assert_in_sync()
    assert sql("SELECT count(*) FROM tk_touched") == [(0,)]
    other.refresh_from_db()
    assert Author.objects.get(pk=author.pk).num_books == 3


def test_a_pause_that_fails_leaves_no_trace(author: Author, sql: Sql) -> None:
    with pytest.raises(ZeroDivisionError), trigger_kit.paused():
        Book.objects.create(author=author)
        raise ZeroDivisionError
    Book.objects.create(author=author)
    assert_in_sync()
    assert sql("SELECT count(*), current_setting('trigger_kit.paused', true) FROM tk_touched") == [(0, "")]


def test_a_pause_left_by_hand_is_repaired_by_the_next(author: Author, sql: Sql) -> None:
    sql("SET LOCAL trigger_kit.paused = 'on'")
    Book.objects.create(author=author)
    sql("SET LOCAL trigger_kit.paused = ''")
    with pytest.raises(AssertionError):
        assert_in_sync()
    with trigger_kit.paused():
        pass
    assert_in_sync()


def test_every_function_is_pinned_and_named_within_63_bytes(db: None, sql: Sql) -> None:
    rows = sql(
        "SELECT proname, prosecdef, proconfig FROM pg_proc WHERE proname ~ '^~?tk_' AND prorettype = 'trigger'::regtype"
        " AND proname <> 'tk_commit'"
    )
    assert len(rows) == sum(len(compile_plan(plan)) for plan in live_plans())
    for name, definer, config in rows:
        assert definer, name
        assert sorted(config) == ["row_security=off", "search_path=pg_catalog, public, pg_temp"]
        assert len(name.encode()) <= 63
        assert name == name.lower()


def test_verify_runs_few_and_only_reading_statements(db: None) -> None:
    with CaptureQueriesContext(connection) as queries:
        found = trigger_kit.verify()
    assert found.in_sync
    assert len(found.rows) == sum(
        len(m._meta.denormalizations) for m in apps.get_models() if hasattr(m._meta, "denormalizations")
    )
    assert all(query["sql"].startswith(("SELECT", "EXPLAIN")) for query in queries)


@pytest.mark.django_db(transaction=True)
def test_a_function_reads_well_in_psql(server: Server) -> None:
    url = server.database(connection.settings_dict["NAME"]).url
    (name,) = [
        trigger.name
        for plan in live_plans()
        for trigger in compile_plan(plan)
        if "author_from_library_book_insert" in str(trigger.name)
    ]
    shown = subprocess.run(
        [server.psql, url, "-qXc", rf'\sf "{name}"'], check=True, capture_output=True, text=True
    ).stdout
    assert "-- After INSERT on library_book: add the difference to library_author" in shown
    assert '--   num_published = Count("books", filter=Q(books__published=True))' in shown
    assert max(map(len, shown.splitlines())) <= 240
