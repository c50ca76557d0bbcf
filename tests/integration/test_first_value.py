"""The target's own rows: first values, the guard, changed keys, and full values that meet deltas in one statement."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import IntegrityError, transaction

from tests.library.models import Author, Book, Category, Port, Shelf, Voyage
from trigger_kit.testing import assert_in_sync

Sql = Callable[..., list[tuple[Any, ...]]]
BOOK = "(author_id, title, published, pages, note)"


def values(sql: Sql, table: str = "library_author", columns: str = "id, num_books") -> list[tuple[Any, ...]]:
    assert_in_sync()
    return sql(f"SELECT {columns} FROM {table} ORDER BY id")


def test_a_stale_save_keeps_the_stored_value(db: None) -> None:
    author = Author.objects.create(name="a")
    Book.objects.create(author=author, pages=3)
    author.name = "b"
    author.save()
    author.refresh_from_db()
    assert (author.name, author.num_books, author.pages_total) == ("b", 1, 3)


def test_an_explicit_value_in_an_update_is_not_taken(db: None, sql: Sql) -> None:
    Author.objects.create(id=1)
    assert Author.objects.update(num_books=42, revenue=3, name="new") == 1
    assert values(sql, columns="id, name, num_books, revenue") == [(1, "new", 0, None)]


def test_guard_raise_names_the_rule(db: None, sql: Sql) -> None:
    port = Port.objects.create(code="HERE", miles_in=5)
    with pytest.raises(IntegrityError, match="library.Port:miles_in is kept by trigger_kit"), transaction.atomic():
        sql('UPDATE "Port of call {x}" SET miles_in = 1')
    sql('UPDATE "Port of call {x}" SET arrivals = 1')
    port.refresh_from_db()
    assert (port.arrivals, port.miles_in) == (0, 0)
    Voyage.objects.create(origin=port, destination=port, miles=8)
    assert_in_sync(Port)


def test_an_insert_may_name_a_value_or_none(db: None, sql: Sql) -> None:
    sql("INSERT INTO library_author (id, name) VALUES (1, 'psql')")
    sql("INSERT INTO library_author (id, name, num_books, num_published, pages_total) VALUES (2, 'x', 7, NULL, -1)")
    assert values(sql) == [(1, 0), (2, 0)]


def test_a_field_with_db_default_comes_back_from_insert(db: None) -> None:
    assert Shelf.objects.create().num_categories == 0
    assert Shelf.objects.create(num_categories=5).num_categories == 0


def test_an_upsert_that_sets_the_column(db: None, sql: Sql) -> None:
    Author.objects.create(id=1)
    Book.objects.create(author_id=1)
    sql(
        "INSERT INTO library_author (id, name, num_books) VALUES (1, 'x', 9), (2, 'y', 9) "
        "ON CONFLICT (id) DO UPDATE SET num_books = EXCLUDED.num_books"
    )
    assert values(sql) == [(1, 1), (2, 0)]


def test_children_that_were_there_first_are_counted(db: None, sql: Sql) -> None:
    Book.objects.bulk_create([Book(author_id=1, pages=2), Book(author_id=1, pages=3), Book(author_id=2)])
    sql("INSERT INTO library_author (id, name) SELECT n, '' FROM generate_series(1, 3) AS n")
    assert values(sql, columns="id, num_books, pages_total") == [(1, 2, 5), (2, 1, 0), (3, 0, 0)]


def test_parent_and_child_in_one_statement(db: None, sql: Sql) -> None:
    sql(
        "WITH author AS (INSERT INTO library_author (id, name) VALUES (1, '') RETURNING id) "
        f"INSERT INTO library_book {BOOK} SELECT id, '', true, 9, '' FROM author, generate_series(1, 2)"
    )
    assert values(sql) == [(1, 2)]


def test_a_tree_in_child_first_order(db: None) -> None:
    Category.objects.bulk_create([Category(id=n, parent_id=n // 2 or None) for n in range(7, 0, -1)])
    assert_in_sync()
    assert list(Category.objects.order_by("id").values_list("num_children", flat=True)) == [2, 2, 2, 0, 0, 0, 0]


def test_a_users_trigger_that_creates_the_parent(db: None, sql: Sql) -> None:
    sql(
        "CREATE FUNCTION pg_temp.parent() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "INSERT INTO library_author (id, name) VALUES (NEW.author_id, '') ON CONFLICT DO NOTHING; RETURN NULL; END $$"
    )
    sql("CREATE TRIGGER parent AFTER INSERT ON library_book FOR EACH ROW EXECUTE FUNCTION pg_temp.parent()")
    sql(f"INSERT INTO library_book {BOOK} VALUES (1, '', true, 1, ''), (1, '', true, 2, ''), (2, '', false, 4, '')")
    assert values(sql, columns="id, num_books, pages_total") == [(1, 2, 3), (2, 1, 4)]


def test_a_row_that_left_before_the_target_came(db: None, sql: Sql) -> None:
    """The first value finds no row, and the row's departure fires later: it must not be taken off (docs/design.md)."""
    Book.objects.create(author_id=2)
    sql(
        "WITH author AS (INSERT INTO library_author (id, name) VALUES (2, '')) "
        "UPDATE library_book SET author_id = 1 WHERE author_id = 2"
    )
    sql(
        "WITH author AS (INSERT INTO library_author (id, name) VALUES (1, '')) DELETE FROM library_book WHERE author_id = 1"
    )
    assert values(sql) == [(1, 0), (2, 0)]


def test_a_row_that_left_before_the_key_changed(db: None, sql: Sql) -> None:
    Author.objects.create(id=1)
    Book.objects.create(author_id=2, pages=3)
    sql(
        "WITH author AS (UPDATE library_author SET id = 2 WHERE id = 1) UPDATE library_book SET author_id = NULL WHERE author_id = 2"
    )
    assert values(sql) == [(2, 0)]


def test_a_recomputed_value_is_not_added_to_by_later_steps(db: None, sql: Sql) -> None:
    """A user's trigger moves the new row back and forth in the statement that creates the author."""
    sql(
        "CREATE FUNCTION pg_temp.move() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "UPDATE library_book SET author_id = 2 WHERE id = NEW.id; "
        "UPDATE library_book SET author_id = 1, pages = 2 WHERE id = NEW.id; RETURN NULL; END $$"
    )
    sql("CREATE TRIGGER move AFTER INSERT ON library_book FOR EACH ROW EXECUTE FUNCTION pg_temp.move()")
    sql(
        "WITH author AS (INSERT INTO library_author (id, name) VALUES (1, ''), (2, '')) "
        f"INSERT INTO library_book {BOOK} VALUES (1, '', false, 1, ''), (2, '', true, 1, '')"
    )
    assert values(sql, columns="id, num_books, num_published, pages_total") == [(1, 2, 1, 4), (2, 0, 0, 0)]


def test_a_do_block_that_creates_and_changes(db: None, sql: Sql) -> None:
    sql(
        "DO $$ BEGIN FOR n IN 1..5 LOOP "
        f"INSERT INTO library_book {BOOK} VALUES (n, '', true, n, ''), (n + 1, '', true, 1, ''); "
        "INSERT INTO library_author (id, name) VALUES (n, ''); "
        "UPDATE library_book SET author_id = n WHERE author_id = n - 1; DELETE FROM library_book WHERE pages = n - 3; "
        "END LOOP; END $$"
    )
    assert_in_sync()
    sql("DELETE FROM library_book")
    assert_in_sync()


def test_the_mark_survives_a_change_of_datestyle_and_timezone(db: None, sql: Sql) -> None:
    sql(
        "CREATE FUNCTION pg_temp.child() RETURNS trigger LANGUAGE plpgsql SET timezone = 'Asia/Tokyo' SET datestyle = 'German' "
        "AS $$ BEGIN INSERT INTO library_author (id, name) VALUES (1, ''); RETURN NULL; END $$"
    )
    sql("CREATE TRIGGER child AFTER INSERT ON library_book FOR EACH ROW EXECUTE FUNCTION pg_temp.child()")
    sql(f"INSERT INTO library_book {BOOK} VALUES (1, '', true, 1, '')")
    assert values(sql) == [(1, 1)]


def test_a_changed_key_starts_from_the_rows_under_the_new_key(db: None, sql: Sql) -> None:
    Author.objects.create(id=1)
    Book.objects.bulk_create([Book(author_id=1), Book(author_id=2), Book(author_id=2)])
    sql("UPDATE library_author SET id = 2 WHERE id = 1")
    assert values(sql) == [(2, 2)]
    sql("UPDATE library_author SET id = 5 - id, num_books = 77")
    assert values(sql) == [(3, 0)]
    Book.objects.update(author_id=3)
    assert values(sql) == [(3, 3)]


def test_a_changed_key_that_cascades(db: None, sql: Sql) -> None:
    sql(
        'ALTER TABLE "select" ADD CONSTRAINT down FOREIGN KEY ("From") REFERENCES "Port of call {x}" ("PortCode") ON UPDATE CASCADE'
    )
    here = Port.objects.create(code="HERE")
    Voyage.objects.bulk_create([Voyage(origin=here), Voyage(origin=here)])
    sql("""UPDATE "Port of call {x}" SET "PortCode" = 'NEW'""")
    assert_in_sync()
    assert Port.objects.get().departures == 2


def test_a_changed_key_below_another_trigger(db: None, sql: Sql) -> None:
    """At every trigger depth a new key starts from its own rows."""
    sql(
        "CREATE FUNCTION pg_temp.rekey() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "UPDATE library_author SET id = 2, num_books = 50 WHERE id = 1; RETURN NULL; END $$"
    )
    sql("CREATE TRIGGER rekey AFTER INSERT ON library_shelf FOR EACH ROW EXECUTE FUNCTION pg_temp.rekey()")
    Author.objects.create(id=1)
    Book.objects.create(author_id=2)
    sql("INSERT INTO library_shelf (id) VALUES (1)")
    assert values(sql) == [(2, 1)]


def test_a_users_trigger_deeper_than_maintenance_meets_the_guard(db: None, sql: Sql) -> None:
    """Trigger depth alone would let this one pass: it writes while maintenance does, one level deeper."""
    sql(
        "CREATE FUNCTION pg_temp.meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "UPDATE library_author SET num_books = 1000 WHERE id = NEW.id; RETURN NULL; END $$"
    )
    sql(
        "CREATE TRIGGER meddle AFTER UPDATE ON library_author FOR EACH ROW WHEN (pg_trigger_depth() < 3) "
        "EXECUTE FUNCTION pg_temp.meddle()"
    )
    Author.objects.create(id=1)
    Book.objects.create(author_id=1)
    assert values(sql) == [(1, 1)]
    assert sql("SELECT coalesce(current_setting('trigger_kit.depth', true), '')") == [("",)]


def test_users_before_triggers_come_first(db: None, sql: Sql) -> None:
    sql(
        "CREATE FUNCTION pg_temp.before() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "IF pg_trigger_depth() < 2 THEN NEW.num_books := 7; END IF; RETURN NEW; END $$"
    )
    sql("CREATE TRIGGER zzz BEFORE INSERT OR UPDATE ON library_author FOR EACH ROW EXECUTE FUNCTION pg_temp.before()")
    author = Author.objects.create(id=1)
    author.name = "x"
    author.save()
    assert values(sql) == [(1, 0)]
