"""Writers that a program may send: odd statements, cascades, triggers of the user's own, fixtures, forms."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django import forms
from django.core.management import call_command
from django.db import DatabaseError, connection, transaction
from django.db.models import Avg, Count, F, Max, Min, Q, Sum

from tests.archive.keeping import Rules, assert_rules_hold, check, keep, open_savepoint, rules_of
from tests.archive.models import Country, Line, Node, Person, Publisher, Remark, Review, Tag, Work
from trigger_kit import Denormalize, Exists, First, Timing

Sql = Callable[..., list[tuple[Any, ...]]]

pytestmark = pytest.mark.usefixtures("short_inserts")


@pytest.fixture
def database_actions(sql: Sql, short_inserts: None) -> None:
    """The database deletes and re-keys children with their parents; publishers and reviews lose theirs."""
    for table, name, definition in sql(
        "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint "
        "WHERE contype = 'f' AND conrelid::regclass::text LIKE 'archive_%' AND pg_get_constraintdef(oid) NOT LIKE '%content_type%'"
    ):
        action = "SET NULL" if "(author_id)" in definition or "(editor_id)" in definition else "CASCADE"
        changed = definition.replace(" DEFERRABLE", f" ON UPDATE CASCADE ON DELETE {action} DEFERRABLE")
        sql(f'ALTER TABLE {table} DROP CONSTRAINT "{name}", ADD CONSTRAINT "{name}" {changed}')


def settle(sql: Sql) -> None:
    """Have foreign keys checked now, so that a table can be altered."""
    sql("SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED")


# Rules of every strategy over the same few tables.
RULES: Rules = [
    *rules_of(
        Work,
        the_count=Count("reviews"),
        the_total=Sum("reviews__stars", default=0, filter=Q(reviews__text="x")),
        kept_number=Max("reviews__stars"),
        kept_amount=Sum("reviews__stars"),
        kept_text=First("reviews__text", order_by="-reviews__stars"),
        the_flag=Exists("reviews", filter=Q(reviews__stars=5)),
        the_label=F("title"),
        kept_ratio=Avg("reviews__stars"),
    ),
    *rules_of(Publisher, the_count=Count("works__reviews"), the_total=Sum("works__pages", default=0), kept_number=Min("works__reviews__stars")),
    *rules_of(Country, the_total=Sum("publishers__the_count", default=0), the_count=Count("publishers__works__reviews")),
    *rules_of(Review, kept_text=F("work__publisher__name"), kept_number=F("work__the_count"), the_label=F("work__title")),
]  # fmt: skip
ROWS = """
INSERT INTO archive_country (code) VALUES ('a'), ('b');
INSERT INTO archive_publisher (id, number, country_id, name) VALUES (gen_random_uuid(), 1, 'a', 'p1'), (gen_random_uuid(), 2, 'b', 'p2');
INSERT INTO archive_work (id, publisher_id, title, pages) VALUES (1, 1, 'w1', 10), (2, 1, 'w2', 20), (3, 2, 'w3', 40);
INSERT INTO archive_review (id, work_id, stars, text) VALUES (1, 1, 5, 'x'), (2, 1, 3, 'y'), (3, 2, 4, 'x'), (4, 3, NULL, 'x');
"""


@pytest.fixture
def rows(sql: Sql) -> None:
    sql(ROWS)
    keep(RULES)
    assert check(RULES, Work, "the_count", "the_total", "kept_number") == [(2, 5, 5), (1, 4, 4), (1, 0, None)]
    assert check(RULES, Country, "the_count", "the_total") == [(3, 3), (1, 1)]


NEW = "INSERT INTO archive_review (id, work_id, stars, text)"
# The statement, and the counts of the works that are left.
STATEMENTS: dict[str, tuple[str, list[int] | None]] = {
    "delete and insert at once": (
        f"WITH gone AS (DELETE FROM archive_review RETURNING *) {NEW} SELECT id + 10, 4 - work_id, stars + 1, 'x' FROM gone",
        [1, 1, 2],
    ),
    "on conflict, some new, some moved": (
        f"{NEW} VALUES (1, 2, 9, 'x'), (2, 1, 1, 'x'), (20, 3, 5, 'z'), (21, 2, NULL, 'x') "
        "ON CONFLICT (id) DO UPDATE SET work_id = EXCLUDED.work_id, stars = EXCLUDED.stars, text = EXCLUDED.text",
        [1, 3, 2],
    ),
    "on conflict do nothing": (f"{NEW} VALUES (1, 3, 9, 'x'), (20, 3, 9, 'x') ON CONFLICT DO NOTHING", [2, 1, 2]),
    "merge with three actions": (
        "MERGE INTO archive_review AS old USING (VALUES (1, 3, 8), (2, 3, 8), (30, 2, 7)) AS new (id, work, stars) ON old.id = new.id "
        "WHEN MATCHED AND old.id = 1 THEN DELETE WHEN MATCHED THEN UPDATE SET work_id = new.work, stars = new.stars "
        "WHEN NOT MATCHED THEN INSERT (id, work_id, stars) VALUES (new.id, new.work, new.stars)",
        [0, 2, 2],
    ),
    "in and out of the filter, to another parent": (
        "UPDATE archive_review SET work_id = 1 + work_id % 3, text = CASE text WHEN 'x' THEN 'y' ELSE 'x' END",
        [1, 2, 1],
    ),
    "swap": ("UPDATE archive_review SET work_id = 4 - work_id WHERE work_id <> 2", [1, 1, 2]),
    "swap of parents": ("UPDATE archive_work SET publisher_id = 3 - publisher_id", [2, 1, 1]),
    "update from": ("UPDATE archive_review SET work_id = w.id FROM archive_work AS w WHERE w.title = 'w3' AND stars > 3", [1, 0, 3]),
    "delete using": ("DELETE FROM archive_review USING archive_work AS w WHERE w.id = work_id AND w.publisher_id = 1", [0, 0, 1]),
    "parent and children deleted": ("WITH r AS (DELETE FROM archive_review WHERE work_id = 1) DELETE FROM archive_work WHERE id = 1", [1, 1]),
    "parent deleted, children moved": (
        "WITH r AS (UPDATE archive_review SET work_id = 2, stars = 8 WHERE work_id = 1) DELETE FROM archive_work WHERE id = 1",
        [3, 1],
    ),
    "parent and children inserted": (
        f"WITH w AS (INSERT INTO archive_work (id, title, publisher_id) VALUES (9, 'w9', 2)) {NEW} VALUES (40, 9, 2, 'x'), (41, 1, 9, 'x')",
        [3, 1, 1, 1],
    ),
    "parent re-keyed with its children": (
        "WITH r AS (UPDATE archive_review SET work_id = 8, stars = stars + 1 WHERE work_id = 1) UPDATE archive_work SET id = 8 WHERE id = 1",
        [1, 1, 2],
    ),
    "copied column and new child": (
        f"WITH w AS (UPDATE archive_work SET title = title || '!', publisher_id = 2), p AS (UPDATE archive_publisher SET name = 'q') {NEW} VALUES (50, 1, 1, 'x')",
        [3, 1, 1],
    ),
    "key of the source": ("UPDATE archive_review SET id = id + 100, stars = 6 - stars", [2, 1, 1]),
    "statements in one block": (
        f"DO $$ BEGIN FOR n IN 100..103 LOOP {NEW} VALUES (n, n - 99, n, 'x'); INSERT INTO archive_work (id, publisher_id) VALUES (n - 99, 2) "
        "ON CONFLICT DO NOTHING; UPDATE archive_review SET stars = -n WHERE id = n; DELETE FROM archive_review WHERE id = n - 100; END LOOP; END $$",
        [1, 1, 2, 1],
    ),
    "a block that catches its own error": (
        f"DO $$ BEGIN BEGIN INSERT INTO archive_work (id, publisher_id) VALUES (60, 1); {NEW} VALUES (60, 60, 1, 'x'), (61, 1, 9, 'x'); "
        f"DELETE FROM archive_review WHERE id = 1; RAISE division_by_zero; EXCEPTION WHEN division_by_zero THEN END; {NEW} VALUES (62, 60, 1, 'x'), (63, 1, 1, 'x'); "
        "INSERT INTO archive_work (id, publisher_id) VALUES (60, 2); END $$",
        [3, 1, 1, 1],
    ),
    "an update through a cursor": (
        "DO $$ DECLARE c CURSOR FOR SELECT id FROM archive_review ORDER BY id FOR UPDATE; r record; BEGIN FOR r IN c LOOP "
        "UPDATE archive_review SET work_id = 3, stars = r.id WHERE CURRENT OF c; END LOOP; END $$",
        None,  # A row that maintenance has written since is passed over by PostgreSQL.
    ),
    "a function called per row": (
        f"CREATE FUNCTION pg_temp.note(work bigint) RETURNS void LANGUAGE sql AS '{NEW} VALUES (work + 70, work, 1, ''x''); "
        "UPDATE archive_review SET stars = stars + 1 WHERE work_id = work'; SELECT pg_temp.note(id) FROM archive_work",
        [3, 2, 2],
    ),
    "a view": ("CREATE VIEW best AS SELECT * FROM archive_review WHERE stars > 3; UPDATE best SET work_id = 3, stars = 4; DELETE FROM best WHERE id = 1", [1, 0, 2]),
    "a rule of the user's": (
        "CREATE RULE twice AS ON DELETE TO archive_review DO ALSO UPDATE archive_review SET stars = 0, work_id = 3 WHERE id = OLD.id + 1; "
        "DELETE FROM archive_review WHERE id = 2",
        None,
    ),
    "insert from itself": (f"{NEW} SELECT id + 200, 4 - work_id, stars * 2, 'x' FROM archive_review", [3, 2, 3]),
    "all rows of all tables": (
        "WITH a AS (DELETE FROM archive_review), b AS (DELETE FROM archive_work), c AS (DELETE FROM archive_publisher) DELETE FROM archive_country",
        [],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STATEMENTS)
def test_statements_that_do_several_things(sql: Sql, rows: None, name: str) -> None:
    statement, counts = STATEMENTS[name]
    sql(statement)
    stored = [row[0] for row in check(RULES, Work, "the_count")]
    assert counts is None or stored == counts
    sql("UPDATE archive_review SET stars = coalesce(stars, 0) + 1, text = 'x'")
    sql(f"{NEW} SELECT id + 500, id, 1, 'x' FROM archive_work")
    assert_rules_hold(RULES)


@pytest.mark.parametrize(("before", "after"), [("x", "x"), ("x", "y"), ("y", "x"), ("y", "y")])
@pytest.mark.parametrize("number", [1, 3])
def test_four_ways_in_and_out_of_a_filter(sql: Sql, before: str, after: str, number: int) -> None:
    """Foreign key and filter column change in one UPDATE."""
    rules = rules_of(
        Work,
        the_count=Count("reviews", filter=Q(reviews__text="x")),
        kept_number=Sum("reviews__stars", filter=Q(reviews__text="x")),
        kept_amount=Max("reviews__stars", filter=Q(reviews__text="x")),
        the_flag=Exists("reviews", filter=Q(reviews__text="x")),
    )
    keep(rules)
    sql("INSERT INTO archive_work (id) VALUES (1), (2)")
    sql(f"{NEW} SELECT n, 1, n, %s FROM generate_series(1, %s) AS n", before, number)
    sql("UPDATE archive_review SET work_id = 2, text = %s, stars = stars + 1", after)
    expected = (number, sum(range(2, number + 2)), number + 1, True) if after == "x" else (0, None, None, False)
    assert check(rules, Work, "the_count", "kept_number", "kept_amount", "the_flag") == [
        (0, None, None, False),
        expected,
    ]


# COPY, TRUNCATE, savepoints -----------------------------------------------------------------------------------------


def test_copy_of_children_then_parents(sql: Sql) -> None:
    keep(RULES)
    for table, columns, lines in (
        ("archive_review", "id, work_id, stars, text", [(1, 1, 5, "x"), (2, 1, None, "y"), (3, 7, 1, "x")]),
        ("archive_work", "id, publisher_id, title", [(1, 1, "w"), (2, None, "v")]),
        ("archive_publisher", "id, number, country_id", [("00000000-0000-0000-0000-000000000001", 1, "a")]),
        ("archive_country", "code", [("a",), ("b",)]),
    ):
        with connection.cursor() as cursor, cursor.copy(f"COPY {table} ({columns}) FROM STDIN") as copy:
            for line in lines:
                copy.write_row(line)
        assert_rules_hold(RULES)
    assert check(RULES, Country, "the_count", "the_total") == [(2, 2), (0, 0)]
    assert check(RULES, Review, "kept_number", "the_label") == [(2, "w"), (2, "w"), (None, "")]


@pytest.mark.parametrize(
    "table", ["archive_review", "archive_work", "archive_publisher", "archive_country", "archive_person"]
)
def test_truncate_cascades(sql: Sql, rows: None, table: str) -> None:
    sql("SET CONSTRAINTS ALL IMMEDIATE")
    sql(f"TRUNCATE {table} RESTART IDENTITY CASCADE")
    assert_rules_hold(RULES)
    sql("SET CONSTRAINTS ALL DEFERRED")
    sql(
        f"{NEW} VALUES (90, 1, 2, 'x'); INSERT INTO archive_work (id, publisher_id, title) VALUES (1, 1, 't') ON CONFLICT DO NOTHING"
    )
    assert_rules_hold(RULES)


def test_savepoints_rolled_back(sql: Sql, rows: None) -> None:
    before = check(RULES, Work, "the_count", "the_total", "kept_number", "kept_text")
    for statement, _ in STATEMENTS.values():
        outer = open_savepoint()
        sql(statement)
        inner = open_savepoint()
        sql("DELETE FROM archive_review")
        assert_rules_hold(RULES)
        transaction.savepoint_rollback(inner)
        assert_rules_hold(RULES)
        transaction.savepoint_rollback(outer)
        assert check(RULES, Work, "the_count", "the_total", "kept_number", "kept_text") == before


def test_a_statement_that_fails_leaves_the_guard_on(sql: Sql, rows: None) -> None:
    settle(sql)
    sql("ALTER TABLE archive_work ADD CHECK (the_count < 4)")
    with pytest.raises(DatabaseError, match="check constraint"), transaction.atomic():
        sql(f"{NEW} SELECT n, 1, n, 'x' FROM generate_series(50, 55) AS n")
    sql("UPDATE archive_work SET the_count = 3, kept_number = 77, title = 'changed'")
    assert check(RULES, Work, "the_count", "kept_number", "the_label") == [
        (2, 5, "changed"),
        (1, 4, "changed"),
        (1, None, "changed"),
    ]


# What the database runs itself --------------------------------------------------------------------------------------


def test_cascades_three_levels_deep(sql: Sql, database_actions: None, rows: None) -> None:
    sql("DELETE FROM archive_country WHERE code = 'a'")
    assert check(RULES, Country, "the_count", "the_total") == [(1, 1)]
    assert check(RULES, Work, "the_count") == [(1,)]
    sql("WITH r AS (DELETE FROM archive_review WHERE work_id = 3) DELETE FROM archive_country")
    assert check(RULES, Publisher, "the_count") == []


def test_a_cascade_and_a_change_of_the_same_rows(sql: Sql, database_actions: None, rows: None) -> None:
    sql(
        "WITH w AS (UPDATE archive_work SET publisher_id = 2 WHERE id = 1) DELETE FROM archive_publisher WHERE number = 1"
    )
    assert_rules_hold(RULES)
    sql("WITH r AS (UPDATE archive_review SET stars = 1, work_id = 3) DELETE FROM archive_work WHERE id = 1")
    assert_rules_hold(RULES)


def test_set_null_and_cascades_from_two_sides(sql: Sql, database_actions: None) -> None:
    rules = [
        *RULES,
        *rules_of(
            Person, the_count=Count("reviews"), kept_text=Max("works__title"), the_total=Sum("edited__pages", default=0)
        ),
        *rules_of(Tag, the_count=Count("works")),
        *rules_of(Line, the_count=Count("remarks")),
    ]
    sql(ROWS)
    sql("INSERT INTO archive_person (id, name) VALUES (1, 'ann'), (2, 'bob'); INSERT INTO archive_tag (id) VALUES (1)")
    sql(
        "UPDATE archive_review SET author_id = 1; UPDATE archive_work SET editor_id = 2; INSERT INTO archive_work_tags (work_id, tag_id) VALUES (1, 1), (2, 1)"
    )
    sql(
        "INSERT INTO archive_credit (person_id, work_id) VALUES (1, 1), (1, 2), (2, 3); INSERT INTO archive_line (work_id, number) VALUES (1, 1), (2, 1)"
    )
    keep(rules)
    Remark.objects.create(line_work=1, line_number=1)
    assert check(rules, Person, "the_count", "kept_text", "the_total") == [(4, "w2", 0), (0, "w3", 70)]
    for statement in (
        "DELETE FROM archive_work WHERE id = 2",
        "UPDATE archive_work SET id = 20 WHERE id = 1",
        "DELETE FROM archive_person WHERE id = 2",
        "UPDATE archive_person SET id = 30",
        "DELETE FROM archive_person",
        "DELETE FROM archive_publisher",
    ):
        sql(statement)
        assert_rules_hold(rules)
    assert check(rules, Tag, "the_count") == [(0,)]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE archive_country SET code = 'z' WHERE code = 'a'",
        "UPDATE archive_publisher SET number = 10 - number",
        "UPDATE archive_work SET id = id + 10, title = title || id, pages = 1",
        "WITH c AS (UPDATE archive_country SET code = code || code), p AS (UPDATE archive_publisher SET number = number + 5) UPDATE archive_work SET id = id + 5",
        f"WITH w AS (UPDATE archive_work SET id = 9 WHERE id = 1) {NEW} VALUES (70, 2, 7, 'x')",
    ],
)
def test_keys_that_the_database_changes_in_the_children(
    sql: Sql, database_actions: None, rows: None, statement: str
) -> None:
    sql(statement)
    assert_rules_hold(RULES)
    sql("UPDATE archive_review SET stars = 2; DELETE FROM archive_review WHERE id = 1")
    assert_rules_hold(RULES)


def test_a_tree_that_the_database_deletes(sql: Sql, database_actions: None) -> None:
    rules = rules_of(
        Node, the_count=Count("children"), the_total=Sum("children__own", default=0), kept_text=F("parent__name")
    )
    keep(rules)
    sql("INSERT INTO archive_node (id, parent_id, name) SELECT n, nullif(n / 2, 0), n FROM generate_series(1, 31) AS n")
    sql("UPDATE archive_node SET id = 100 + id WHERE id < 4")
    assert_rules_hold(rules)
    sql("DELETE FROM archive_node WHERE id IN (102, 7)")
    assert check(rules, Node, "id", "the_count", "the_total")[-2:] == [(101, 1, 1), (103, 1, 1)]


# Triggers of the user's own -----------------------------------------------------------------------------------------

USER_TRIGGERS = {
    "re-parents the new row": ("AFTER INSERT", "review", "UPDATE archive_review SET work_id = 2 WHERE id = NEW.id AND work_id = 1"),
    "re-parents and changes the new row": ("AFTER INSERT", "review", "UPDATE archive_review SET work_id = 4 - work_id, stars = stars + 1, text = 'x' WHERE id = NEW.id"),
    "deletes another row": ("AFTER INSERT OR UPDATE", "review", "DELETE FROM archive_review WHERE id = 1"),
    "deletes the new row": ("AFTER INSERT", "review", "DELETE FROM archive_review WHERE id = NEW.id"),
    "writes more rows": ("AFTER INSERT", "review", "INSERT INTO archive_review (id, work_id, stars) SELECT NEW.id + 500, 3, 3 WHERE NEW.id < 500"),
    "changes the value before": ("BEFORE INSERT OR UPDATE", "review", "NEW.stars := 3; NEW.text := 'x'"),
    "changes the parent before": ("BEFORE INSERT OR UPDATE", "review", "NEW.work_id := 1"),
    "creates the parent": ("BEFORE INSERT", "review", "INSERT INTO archive_work (id, publisher_id) VALUES (NEW.work_id, 1) ON CONFLICT DO NOTHING"),
    "creates the parent after": ("AFTER INSERT", "review", "INSERT INTO archive_work (id, publisher_id) VALUES (NEW.work_id, 1) ON CONFLICT DO NOTHING"),
    "moves the parent": ("AFTER INSERT OR UPDATE OR DELETE", "review", "UPDATE archive_work SET publisher_id = 3 - publisher_id, title = 'moved'"),
    "writes when the target is updated": ("AFTER UPDATE", "work", "UPDATE archive_review SET stars = 1 WHERE work_id = NEW.id AND stars > 6"),
    "sets the kept column": ("AFTER UPDATE", "work", "UPDATE archive_work SET the_count = 99, kept_number = 99 WHERE id = NEW.id AND pages = 10"),
    "renames the target before": ("BEFORE UPDATE", "work", "NEW.title := 'fixed'"),
}  # fmt: skip


def user_trigger(sql: Sql, events: str, table: str, action: str) -> None:
    sql(
        "CREATE FUNCTION pg_temp.own() RETURNS trigger LANGUAGE plpgsql AS $own$ BEGIN "
        f"IF pg_trigger_depth() < 4 THEN {action}; END IF; RETURN coalesce(NEW, OLD); END $own$"
    )
    sql(f"CREATE TRIGGER own {events} ON archive_{table} FOR EACH ROW EXECUTE FUNCTION pg_temp.own()")


@pytest.mark.parametrize("name", USER_TRIGGERS)
def test_a_users_own_trigger(sql: Sql, rows: None, name: str) -> None:
    """No count is negative on the way either: a PositiveIntegerField has a CHECK."""
    settle(sql)
    for table in ("work", "publisher", "country"):
        sql(f"ALTER TABLE archive_{table} ADD CHECK (the_count >= 0)")
    user_trigger(sql, *USER_TRIGGERS[name])
    for statement in (
        f"{NEW} VALUES (10, 1, 9, 'x')",
        f"{NEW} VALUES (11, 1, 8, 'x'), (12, 2, 1, 'y'), (13, 3, NULL, 'x')",
        f"{NEW} VALUES (14, 9, 2, 'x'), (15, 9, 7, 'y')",
        "UPDATE archive_review SET stars = 7, work_id = 2 WHERE work_id = 1",
        "UPDATE archive_work SET pages = 10, publisher_id = 2",
        "DELETE FROM archive_review WHERE id IN (2, 10, 11)",
    ):
        sql(statement)
        assert_rules_hold(RULES)


def test_a_users_constraint_trigger_that_writes_at_the_end(sql: Sql, rows: None) -> None:
    sql(
        "CREATE FUNCTION pg_temp.late() RETURNS trigger LANGUAGE plpgsql AS $own$ BEGIN "
        "UPDATE archive_review SET work_id = 3, stars = 5 WHERE id = NEW.id AND work_id <> 3; RETURN NULL; END $own$"
    )
    sql(
        "CREATE CONSTRAINT TRIGGER late AFTER INSERT ON archive_review DEFERRABLE INITIALLY DEFERRED "
        "FOR EACH ROW EXECUTE FUNCTION pg_temp.late()"
    )
    sql(f"{NEW} VALUES (10, 1, 9, 'x'), (11, 2, 8, 'y')")
    assert check(RULES, Work, "the_count") == [(3,), (2,), (1,)]
    sql("SET CONSTRAINTS ALL IMMEDIATE")
    assert check(RULES, Work, "the_count") == [(2,), (1,), (3,)]


# Django -------------------------------------------------------------------------------------------------------------


def test_a_stale_save_overwrites_nothing(sql: Sql, rows: None) -> None:
    stale = list(Work.objects.all()), list(Review.objects.all()), list(Publisher.objects.all())
    Review.objects.create(work_id=1, stars=9, text="x")
    Work.objects.filter(id=1).update(title="new")
    for instance in (item for group in stale for item in group):
        instance.save()
        assert_rules_hold(RULES)
    Work.objects.bulk_update(stale[0], ["the_count", "kept_number", "the_label", "title"])
    assert check(RULES, Work, "the_count", "kept_number", "the_label") == [(3, 9, "w1"), (1, 4, "w2"), (1, None, "w3")]


def test_bulk_writers_of_django(rows: None) -> None:
    reviews = [Review(id=n, work_id=n, stars=n * 2, text="x") for n in (1, 2, 3, 77)]
    reviews[3].work_id = 1
    for write in (
        lambda: Review.objects.bulk_create(
            reviews, update_conflicts=True, unique_fields=["id"], update_fields=["work", "stars"]
        ),
        lambda: Review.objects.bulk_create([Review(id=1, work_id=3), Review(id=88, work_id=3)], ignore_conflicts=True),
        lambda: Review.objects.update_or_create(id=2, defaults={"work_id": 1, "stars": None}),
        lambda: Review.objects.filter(stars__gt=1).update(stars=F("stars") - 1, work=3),
        lambda: Review.objects.filter(id__in=[1, 2])._raw_delete("default"),
        lambda: Work.objects.get(id=3).delete(),
        lambda: Country.objects.all().delete(),
    ):
        write()
        assert_rules_hold(RULES)


def test_fixtures_in_any_order_with_stale_values(tmp_path: Path) -> None:
    rules = [*RULES, *rules_of(Tag, the_count=Count("works"), kept_number=Max("works__pages"))]
    keep(rules)
    stale = {"the_count": 99, "kept_number": -1, "the_label": "stale", "the_flag": True}
    number = "11111111-1111-1111-1111-111111111111"
    found = [
        {"model": "archive.review", "pk": 1, "fields": {"work": 1, "stars": 3, "text": "x", "kept_text": "stale"}},
        {
            "model": "archive.work",
            "pk": 1,
            "fields": {"publisher": 4, "title": "t", "pages": 6, "tags": [1, 2], **stale},
        },
        {"model": "archive.tag", "pk": 2, "fields": {"name": "two", **stale}},
        {"model": "archive.publisher", "pk": number, "fields": {"number": 4, "country": "a", "name": "p", **stale}},
        {"model": "archive.review", "pk": 2, "fields": {"work": 1, "stars": 4, **stale}},
        {"model": "archive.country", "pk": "a", "fields": {"name": "land", **stale}},
        {"model": "archive.tag", "pk": 1, "fields": {"name": "one"}},
    ]
    fixture = tmp_path / "rows.json"
    fixture.write_text(json.dumps(found))
    for _ in range(2):
        call_command("loaddata", str(fixture), verbosity=0)
        assert check(rules, Work, "the_count", "the_total", "kept_number", "the_label") == [(2, 3, 4, "t")]
        assert check(rules, Tag, "the_count", "kept_number") == [(1, 6), (1, 6)]
        assert check(rules, Review, "kept_text", "kept_number") == [("p", 2), ("p", 2)]


class WorkForm(forms.ModelForm):  # type: ignore[type-arg]
    class Meta:
        model = Work
        fields = ["title", "pages", "tags"]


def test_many_to_many_in_a_model_form(db: None) -> None:
    rules = [
        *rules_of(
            Work, the_count=Count("tags"), kept_text=First("tags__name", order_by="tags__name"), the_label=F("title")
        ),
        *rules_of(Tag, the_count=Count("works"), the_total=Sum("works__pages", default=0)),
    ]
    tags = [Tag.objects.create(name=name) for name in "abc"]
    keep(rules)
    work = None
    for pages, chosen in ((5, tags[:2]), (7, tags[1:]), (9, tags[:1])):
        form = WorkForm({"title": f"t{pages}", "pages": pages, "tags": [tag.pk for tag in chosen]}, instance=work)
        assert form.is_valid(), form.errors
        work = form.save(commit=False)
        work.save()
        assert_rules_hold(rules)
        form.save_m2m()
        assert check(rules, Tag, "the_total") == [(pages if tag in chosen else 0,) for tag in tags]
        assert check(rules, Work, "the_count", "the_label") == [(len(chosen), f"t{pages}")]


@pytest.mark.usefixtures("database_actions")
@pytest.mark.parametrize("timing", Timing)
@pytest.mark.parametrize(
    ("rule", "start", "statement"),
    [
        ("tags", "INSERT INTO archive_work_tags (work_id, tag_id) VALUES (1, 1)", "DELETE FROM archive_tag WHERE id = 1"),
        ("tags", "INSERT INTO archive_work_tags (work_id, tag_id) VALUES (1, 1)", "UPDATE archive_tag SET id = 7 WHERE id = 1"),
        (
            "tags",
            "INSERT INTO archive_work_tags (work_id, tag_id) VALUES (1, 1)",
            "MERGE INTO archive_tag AS tag USING (VALUES (1), (9)) AS new (id) ON tag.id = new.id "
            "WHEN MATCHED AND NOT tag.active THEN UPDATE SET active = true WHEN MATCHED THEN DELETE "
            "WHEN NOT MATCHED THEN INSERT (id, active, name) VALUES (new.id, true, 'z')",
        ),
        ("people", "INSERT INTO archive_credit (work_id, person_id) VALUES (1, 1)", "DELETE FROM archive_person WHERE id = 1"),
    ],
    ids=["a far row goes", "a far row has another key", "merged away", "a person goes"],
)  # fmt: skip
def test_a_far_row_takes_those_between_it_and_the_target_along(
    sql: Sql, timing: Timing, rule: str, start: str, statement: str
) -> None:
    """When the rows between report, the far one is gone already: their targets are found without it."""
    sql("INSERT INTO archive_tag (id, active, name) VALUES (1, true, 'x'), (2, true, 'y')")
    sql("INSERT INTO archive_person (id) VALUES (1), (2); INSERT INTO archive_work (id, published) VALUES (1, true)")
    condition = Q(tags__active=True) if rule == "tags" else Q(people__name="")
    rules = [(Work, [Denormalize("the_count", Count(rule, filter=condition), timing=timing)])]
    keep(rules)
    sql(start)
    settle(sql)
    assert sql("SELECT the_count FROM archive_work") == [(0 if timing is Timing.QUEUED else 1,)]
    sql(statement)
    settle(sql)
    assert_rules_hold(rules)
