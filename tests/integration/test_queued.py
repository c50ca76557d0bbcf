"""QUEUED rules in SQL: writers append and touch no target, and stored plus pending is exact after every statement."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import psycopg
import pytest
from django.contrib.contenttypes.models import ContentType
from django.db import IntegrityError, ProgrammingError, connection, transaction
from django.db.models import Count, F, Max, Model, Q, Sum

from dev.postgres import Server
from tests.archive.keeping import Rules, assert_rules_hold, install, install_anew, keep, open_savepoint
from tests.archive.models import (
    Country,
    Line,
    Node,
    Note,
    Novel,
    Person,
    Publisher,
    Remark,
    Review,
    Series,
    Tag,
    Work,
)
from trigger_kit import Denormalize, Guard, Timing
from trigger_kit.database.changes import Change
from trigger_kit.database.converge import converge
from trigger_kit.database.installation import backfill
from trigger_kit.database.wanted import Wanted
from trigger_kit.exceptions import RuleError
from trigger_kit.maintenance.pause import repair_touched
from trigger_kit.plan.plan import plan_all

Sql = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture(autouse=True)
def loose_ends(request: pytest.FixtureRequest) -> Iterator[None]:
    """Rows that a test leaves without their parents are gone before foreign keys are checked."""
    if "transactional_db" in request.fixturenames:
        yield
        return
    request.getfixturevalue("db")
    savepoint = open_savepoint()
    yield
    transaction.set_rollback(False)
    transaction.savepoint_rollback(savepoint)


@contextmanager
def pausing(sql: Sql, rules: Rules) -> Iterator[None]:
    """What paused() does for rules that are declared."""
    sql("SELECT set_config('trigger_kit.paused', 'on', true)")
    yield
    sql("SELECT set_config('trigger_kit.paused', '', true)")
    repair_touched(plan_all(rules), connection)


def queued(model: type[Model], **expressions: Any) -> tuple[type[Model], list[Denormalize]]:
    return model, [Denormalize(name, value, timing=Timing.QUEUED) for name, value in expressions.items()]


REVIEWS: Rules = [queued(Work, the_count=Count("reviews"), the_total=Sum("reviews__stars", default=0))]
PERSONS: Rules = [queued(Person, the_count=Count("reviews"))]


@pytest.fixture
def kept(sql: Sql) -> Rules:
    """Works that count their reviews; a CHECK lets no count be negative, as that of a PositiveIntegerField."""
    return keep_checked(sql, REVIEWS)


def keep_checked(sql: Sql, rules: Rules) -> Rules:
    keep(rules)
    for model, _ in rules:
        sql(f"ALTER TABLE {model._meta.db_table} ADD CONSTRAINT the_count_is_positive CHECK (the_count >= 0)")
    return rules


def flush(sql: Sql, model: type[Model] = Work, arguments: str = "") -> int:
    ((rows,),) = sql(f"SELECT tk_flush_{model._meta.db_table}({arguments})")
    return int(rows)


def pending(sql: Sql, model: type[Model] = Work) -> int:
    ((rows,),) = sql(f"SELECT count(*) FROM tk_pending_{model._meta.db_table}")
    return int(rows)


def stored(model: type[Model] = Work, name: str = "the_count") -> dict[Any, Any]:
    return dict(model._base_manager.order_by("pk").values_list("pk", name))


def settle(sql: Sql, rules: Rules) -> None:
    """Stored and pending together are right, and after a flush what is stored is."""
    assert_rules_hold(rules)
    for model, declared in rules:
        flush(sql, model)
        for rule in declared:
            true = dict(model._base_manager.annotate(tk_true=rule.expression).values_list("pk", "tk_true"))
            assert stored(model, rule.field) == true
    assert_rules_hold(rules)


def review(work: int, number: int = 1, stars: int = 1) -> None:
    Review.objects.bulk_create([Review(work_id=work, stars=stars) for _ in range(number)])


def columns_of(model: type[Model], *others: str) -> list[str]:
    """Return the columns that an INSERT may name, without some."""
    return [
        str(field.column)
        for field in model._meta.local_concrete_fields
        if not field.generated and field.column not in others
    ]


# Writers ------------------------------------------------------------------------------------------------------------


def test_a_writer_leaves_the_target_as_it_is(sql: Sql, kept: Rules) -> None:
    work = Work.objects.create()
    before = sql("SELECT xmin, ctid FROM archive_work")
    review(work.pk, 3, stars=2)
    Review.objects.update(stars=F("stars") + 1)
    Review.objects.all()[0].delete()
    assert sql("SELECT xmin, ctid FROM archive_work") == before
    assert stored() == {work.pk: 0}
    settle(sql, kept)
    assert stored() == {work.pk: 2}


@pytest.mark.parametrize("number", [1, 5])
def test_a_statement_appends_one_row_for_each_target(sql: Sql, kept: Rules, number: int) -> None:
    works = Work.objects.bulk_create(Work() for _ in range(3))
    Review.objects.bulk_create(Review(work=work, stars=1) for work in works for _ in range(number))
    assert sorted(sql("SELECT id, the_count, the_total FROM tk_pending_archive_work")) == [
        (work.pk, number, number) for work in works
    ]


def test_what_changes_no_value_appends_nothing(sql: Sql, kept: Rules) -> None:
    work = Work.objects.create()
    review(work.pk, 2)
    flush(sql)
    Review.objects.update(text="other")
    Review.objects.filter(pk=Review.objects.earliest("pk").pk).update(text="another")
    sql("UPDATE archive_review SET stars = stars")
    assert pending(sql) == 0


def test_a_row_that_moves_is_taken_from_one_and_given_to_the_other(sql: Sql, kept: Rules) -> None:
    one, two = Work.objects.create(), Work.objects.create()
    review(one.pk, 2)
    Review.objects.update(work=two)
    assert pending(sql) == 3
    settle(sql, kept)
    assert stored() == {one.pk: 0, two.pk: 2}


def test_a_stale_save_keeps_what_was_flushed(sql: Sql, kept: Rules) -> None:
    work = Work.objects.create()
    review(work.pk)
    flush(sql)
    work.title = "new"
    work.save()
    settle(sql, kept)
    assert stored() == {work.pk: 1}


def test_a_guard_that_raises_lets_the_flush_write(sql: Sql, db: None) -> None:
    rules: Rules = [(Work, [Denormalize("the_count", Count("reviews"), timing=Timing.QUEUED, guard=Guard.RAISE)])]
    keep(rules)
    work = Work.objects.create()
    review(work.pk, 2)
    with pytest.raises(IntegrityError, match="archive.Work:the_count is kept"), transaction.atomic():
        Work.objects.update(the_count=1)
    settle(sql, rules)
    assert stored() == {work.pk: 2}


# Full values over pending changes -----------------------------------------------------------------------------------


def test_a_target_that_comes_after_its_rows(sql: Sql, kept: Rules) -> None:
    Review.objects.create(work_id=7, stars=3)
    review(7, 2)
    assert pending(sql) == 2
    assert flush(sql) == 0, "nobody can fold what has no target yet"
    Work.objects.create(pk=7)
    assert stored() == {7: 3}, "the first value takes what was pending"
    settle(sql, kept)
    assert stored() == {7: 3}


def test_a_target_that_comes_after_its_rows_have_left(sql: Sql, kept: Rules) -> None:
    review(7, 3)
    Review.objects.all().delete()
    Work.objects.create(pk=7)
    settle(sql, kept)
    assert stored() == {7: 0}


def test_a_target_that_comes_after_rows_from_before_the_rule(sql: Sql, db: None) -> None:
    """What left before the target came is pending with a minus; the first value takes that, too."""
    sql("SET LOCAL session_replication_role = replica")
    review(7, 3)
    sql("SET LOCAL session_replication_role = origin")
    rules = keep_checked(sql, REVIEWS)
    Review.objects.all()[:1].get().delete()
    Work.objects.create(pk=7)
    assert stored() == {7: 2}
    settle(sql, rules)
    assert stored() == {7: 2}


def test_a_backfill(sql: Sql, kept: Rules) -> None:
    work = Work.objects.create()
    review(work.pk, 3)
    install_anew(plan_all(kept))
    assert pending(sql) == 0, "a queue is folded before it is made anew"
    review(work.pk, 2)
    sql("ALTER TABLE archive_work DISABLE TRIGGER USER")
    sql("UPDATE archive_work SET the_count = 77, the_total = 99")
    sql("ALTER TABLE archive_work ENABLE TRIGGER USER")
    backfill(plan_all(kept)[0], connection)
    assert stored() == {work.pk: 5}, "a full value takes what was pending"
    settle(sql, kept)


def test_a_repair_after_a_pause(sql: Sql, kept: Rules) -> None:
    work = Work.objects.create()
    review(work.pk, 3)
    with pausing(sql, kept):
        review(work.pk, 2)
    assert stored() == {work.pk: 5}
    settle(sql, kept)


def test_a_repair_of_rows_whose_arrival_is_pending(sql: Sql, kept: Rules) -> None:
    work = Work.objects.create()
    review(work.pk, 3)
    with pausing(sql, kept):
        Review.objects.all().delete()
    settle(sql, kept)


def test_a_flush_during_a_pause(sql: Sql, kept: Rules) -> None:
    work = Work.objects.create()
    review(work.pk, 3)
    with pausing(sql, kept):
        review(work.pk, 2)
        assert flush(sql) == 1
        assert stored() == {work.pk: 3}
    settle(sql, kept)
    assert stored() == {work.pk: 5}


def test_a_changed_key(sql: Sql, kept: Rules) -> None:
    work = Work.objects.create(pk=1)
    review(1, 2)
    review(2, 3)
    sql("UPDATE archive_work SET id = 2")
    settle(sql, kept)
    assert stored() == {2: 3}
    assert work.pk == 1
    assert sql("SELECT count(*) FROM tk_pending_archive_work WHERE id = 1") == [(0,)]


def test_keys_that_move_up(sql: Sql, kept: Rules) -> None:
    Work.objects.create(pk=2)
    Work.objects.create(pk=1)
    review(1, 1)
    review(2, 2)
    review(3, 3)
    sql("UPDATE archive_work SET id = id + 1")
    settle(sql, kept)
    assert stored() == {2: 2, 3: 3}


def test_a_changed_key_and_back(sql: Sql, kept: Rules) -> None:
    Work.objects.create(pk=1)
    review(1, 2)
    sql("UPDATE archive_work SET id = 2")
    review(1, 1)
    sql("UPDATE archive_work SET id = 1")
    settle(sql, kept)
    assert stored() == {1: 3}


def test_a_key_taken_over_from_a_row_that_goes(sql: Sql, kept: Rules) -> None:
    """One statement deletes a target and gives its key to another: what was pending must not go with the first."""
    Work.objects.create(pk=1)
    Work.objects.create(pk=2)
    review(2, 3)
    sql(
        "WITH gone AS (DELETE FROM archive_work WHERE id = 2 RETURNING id) "
        "UPDATE archive_work AS work SET id = gone.id FROM gone WHERE work.id = 1"
    )
    settle(sql, kept)
    assert stored() == {2: 3}


def test_a_users_trigger_that_brings_a_target_back(sql: Sql, kept: Rules) -> None:
    sql(
        "CREATE FUNCTION pg_temp.back() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "INSERT INTO archive_work SELECT OLD.*; RETURN NULL; END $$".replace("SELECT OLD.*", _columns())
    )
    sql("CREATE TRIGGER back AFTER DELETE ON archive_work FOR EACH ROW EXECUTE FUNCTION pg_temp.back()")
    Work.objects.create(pk=1)
    review(1, 3)
    sql("DELETE FROM archive_work")
    settle(sql, kept)
    assert stored() == {1: 3}


def _columns() -> str:
    names = columns_of(Work)
    return f"({', '.join(names)}) VALUES ({', '.join(f'OLD.{name}' for name in names)})"


def test_keys_that_are_swapped(sql: Sql, db: None) -> None:
    """A unique key that is checked at the end of the statement can be passed around."""
    rules = keep_checked(sql, [queued(Publisher, the_count=Count("works"))])
    for table, name in sql(
        "SELECT conrelid::regclass::text, conname FROM pg_constraint WHERE confrelid = 'archive_publisher'::regclass"
    ):
        sql(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
    ((name,),) = sql(
        "SELECT conname FROM pg_constraint WHERE conrelid = 'archive_publisher'::regclass AND contype = 'u'"
    )
    sql(f"ALTER TABLE archive_publisher DROP CONSTRAINT {name}, ADD UNIQUE (number) DEFERRABLE")
    for number in (1, 2):
        Publisher.objects.create(number=number)
        Work.objects.bulk_create(Work(publisher_id=number) for _ in range(number))
    sql("UPDATE archive_publisher SET number = 3 - number")
    settle(sql, rules)


def test_delete_and_insert_again(sql: Sql, kept: Rules) -> None:
    Work.objects.create(pk=1)
    review(1, 2)
    flush(sql)
    review(1, 3)
    sql("DELETE FROM archive_work")
    assert pending(sql) == 0
    Work.objects.create(pk=1)
    settle(sql, kept)
    assert stored() == {1: 5}


def test_delete_and_insert_in_one_statement(sql: Sql, kept: Rules) -> None:
    Work.objects.create(pk=1)
    review(1, 3)
    names = ", ".join(columns_of(Work))
    sql(
        f"WITH gone AS (DELETE FROM archive_work RETURNING *) INSERT INTO archive_work ({names}) SELECT {names} FROM gone"
    )
    settle(sql, kept)
    assert stored() == {1: 3}


def test_a_cascade_leaves_nothing_behind(sql: Sql, kept: Rules) -> None:
    work = Work.objects.create()
    review(work.pk, 3)
    work.delete()
    assert pending(sql) == 0


def test_a_cascade_of_the_database_leaves_nothing_behind(sql: Sql, kept: Rules) -> None:
    ((name,),) = sql(
        "SELECT conname FROM pg_constraint WHERE conrelid = 'archive_review'::regclass AND confrelid = 'archive_work'::regclass"
    )
    sql(f"ALTER TABLE archive_review DROP CONSTRAINT {name}")
    sql("ALTER TABLE archive_review ADD FOREIGN KEY (work_id) REFERENCES archive_work ON DELETE CASCADE")
    work = Work.objects.create()
    review(work.pk, 3)
    sql("DELETE FROM archive_work")
    assert Review.objects.count() == 0
    assert pending(sql) == 0


def test_truncate_of_the_source(sql: Sql, kept: Rules) -> None:
    one, two = Work.objects.create(), Work.objects.create()
    review(one.pk, 2)
    flush(sql)
    review(one.pk)
    review(two.pk, 3)
    sql("SET CONSTRAINTS ALL IMMEDIATE")
    sql("TRUNCATE archive_review CASCADE")
    assert_rules_hold(kept)
    Work.objects.create(pk=99)
    settle(sql, kept)


def test_truncate_of_source_and_target(sql: Sql, kept: Rules) -> None:
    Work.objects.create(pk=1)
    review(1, 2)
    sql("SET CONSTRAINTS ALL IMMEDIATE")
    sql("TRUNCATE archive_work, archive_review CASCADE")
    assert pending(sql) == 0
    Work.objects.create(pk=1)
    review(1, 3)
    settle(sql, kept)
    assert stored() == {1: 3}


def test_truncate_of_the_target_alone(sql: Sql, kept: Rules) -> None:
    """Where no foreign key stops it, the rows stay; a target that comes again has them."""
    Work.objects.create(pk=1)
    review(1, 2)
    sql("SET CONSTRAINTS ALL IMMEDIATE")
    keys = sql("SELECT conrelid::regclass, conname FROM pg_constraint WHERE confrelid = 'archive_work'::regclass")
    for table, name in keys:
        sql(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
    sql("TRUNCATE archive_work")
    assert pending(sql) == 0
    review(1, 1)
    Work.objects.create(pk=1)
    settle(sql, kept)
    assert stored() == {1: 3}


def test_truncate_with_a_rule_that_another_source_feeds(sql: Sql, db: None) -> None:
    rules = keep_checked(sql, [queued(Work, the_count=Count("reviews"), the_total=Sum("credits__share", default=0))])
    work, person = Work.objects.create(), Person.objects.create()
    review(work.pk, 3)
    work.credits.create(person=person, share=5)
    sql("SET CONSTRAINTS ALL IMMEDIATE")
    sql("TRUNCATE archive_credit")
    assert_rules_hold(rules)
    work.credits.create(person=person, share=4)
    settle(sql, rules)
    assert (stored(), stored(Work, "the_total")) == ({work.pk: 3}, {work.pk: 4})


def test_child_and_parent_in_one_statement(sql: Sql, kept: Rules) -> None:
    work = Work.objects.create(pk=2)
    columns = columns_of(Work, "id")
    insert = f"INSERT INTO archive_work (id, {', '.join(columns)}) SELECT %s, {', '.join(columns)} FROM archive_work WHERE id = 2"
    names = columns_of(Review, "id", "work_id", "stars")
    review(2, 1)
    child = f"INSERT INTO archive_review (work_id, stars, {', '.join(names)}) SELECT n, 5, {', '.join(names)} FROM archive_review, generate_series(1, 3) AS n"
    sql(f"WITH work AS ({insert}) {child}", 1)
    assert_rules_hold(kept)
    sql(f"WITH child AS ({child.replace('1, 3', '3, 4')}) {insert}", 3)
    settle(sql, kept)
    assert stored()[1] == 1
    assert work.pk == 2


def test_a_parent_and_departures_elsewhere_in_one_statement(sql: Sql, kept: Rules) -> None:
    """The departures are recomputed, not added: their arrivals may be pending still."""
    Work.objects.create(pk=1)
    review(1, 3)
    columns = ", ".join(columns_of(Work, "id"))
    sql(
        f"WITH work AS (INSERT INTO archive_work (id, {columns}) SELECT 2, {columns} FROM archive_work) "
        "DELETE FROM archive_review"
    )
    settle(sql, kept)
    assert stored() == {1: 0, 2: 0}


def test_a_users_trigger_that_creates_the_parent(sql: Sql, kept: Rules) -> None:
    Work.objects.create(pk=1)
    columns = ", ".join(columns_of(Work, "id"))
    sql(
        "CREATE FUNCTION pg_temp.parent() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"INSERT INTO archive_work (id, {columns}) SELECT NEW.work_id, {columns} FROM archive_work WHERE id = 1 "
        "ON CONFLICT DO NOTHING; RETURN NULL; END $$"
    )
    sql("CREATE TRIGGER parent AFTER INSERT ON archive_review FOR EACH ROW EXECUTE FUNCTION pg_temp.parent()")
    Review.objects.bulk_create(Review(work_id=n, stars=n) for n in (1, 2, 2, 3))
    assert_rules_hold(kept)
    review(4)
    settle(sql, kept)
    assert stored() == {1: 1, 2: 2, 3: 1, 4: 1}


def test_nan_comes_and_goes(sql: Sql, db: None) -> None:
    rules = keep_checked(sql, [queued(Publisher, the_total=Sum("works__price", default=0), the_count=Count("works"))])
    publisher = Publisher.objects.create(number=1)
    Work.objects.create(publisher=publisher, price=2)
    odd = Work.objects.create(publisher=publisher)
    sql("UPDATE archive_work SET price = 'NaN' WHERE id = %s", odd.pk)
    Work.objects.create(publisher=publisher, price=3)
    assert_rules_hold(rules)
    flush(sql, Publisher, "1")
    assert_rules_hold(rules)
    Work.objects.create(publisher=publisher, price=5)
    odd.delete()
    settle(sql, rules)
    assert stored(Publisher, "the_total") == {publisher.pk: 10}


def test_nan_leaves_together_with_rows_whose_arrival_is_pending(sql: Sql, db: None) -> None:
    rules = keep_checked(sql, [queued(Publisher, the_total=Sum("works__price", default=0), the_count=Count("works"))])
    publisher = Publisher.objects.create(number=1)
    odd = Work.objects.create(publisher=publisher)
    sql("UPDATE archive_work SET price = 'NaN' WHERE id = %s", odd.pk)
    flush(sql, Publisher)
    Work.objects.create(publisher=publisher, price=3)
    Work.objects.create(publisher=publisher, price=3)
    Work.objects.all().delete()
    settle(sql, rules)
    assert stored(Publisher, "the_total") == {publisher.pk: 0}


def test_a_savepoint_takes_back_what_it_appended(sql: Sql, kept: Rules) -> None:
    work = Work.objects.create()
    review(work.pk)
    savepoint = open_savepoint()
    review(work.pk, 2)
    flush(sql)
    transaction.savepoint_rollback(savepoint)
    assert (stored(), pending(sql)) == ({work.pk: 0}, 1)
    settle(sql, kept)


# The flush ----------------------------------------------------------------------------------------------------------


def test_a_flush_says_how_many_rows_it_took(sql: Sql, kept: Rules) -> None:
    works = [Work.objects.create() for _ in range(2)]
    for _ in range(2):
        for work in works:
            review(work.pk)
    assert flush(sql) == 4
    assert flush(sql) == 0


@pytest.mark.parametrize("arguments", ["1", "batch => 1", "batch => 1, skip_locked => true", "2, true"])
def test_a_count_is_never_negative_in_between(sql: Sql, kept: Rules, arguments: str) -> None:
    """A batch takes all that is pending for a target, or nothing."""
    one, two = Work.objects.create(), Work.objects.create()
    for _ in range(3):
        review(one.pk)
        Review.objects.update(work=two)
        Review.objects.update(work=one)
        Review.objects.all()[0].delete()
    review(two.pk, 2)
    flushed = 0
    while taken := flush(sql, Work, arguments):
        flushed += taken
        assert_rules_hold(kept)
        ((partly,),) = sql(
            "SELECT count(*) FROM archive_work JOIN tk_pending_archive_work USING (id) WHERE archive_work.the_count <> 0"
        )
        assert partly == 0
    assert flushed > 5
    settle(sql, kept)


def test_a_flush_leaves_out_what_has_no_target(sql: Sql, kept: Rules) -> None:
    review(99, 5)
    work = Work.objects.create(pk=1)
    review(work.pk)
    assert flush(sql, Work, "1") == 1
    assert (stored(), pending(sql)) == ({1: 1}, 1)


def test_what_cancels_out_is_folded_without_a_write(sql: Sql, kept: Rules) -> None:
    work = Work.objects.create()
    review(work.pk)
    Review.objects.all().delete()
    before = sql("SELECT xmin, ctid FROM archive_work")
    assert flush(sql) == 2
    assert sql("SELECT xmin, ctid FROM archive_work") == before


def test_a_user_trigger_on_the_target_fires_once_for_a_flush(sql: Sql, kept: Rules) -> None:
    work = Work.objects.create()
    sql("CREATE TEMP TABLE seen (number int)")
    sql(
        "CREATE FUNCTION pg_temp.see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "INSERT INTO seen VALUES (NEW.the_count); RETURN NULL; END $$"
    )
    sql("CREATE TRIGGER see AFTER UPDATE ON archive_work FOR EACH ROW EXECUTE FUNCTION pg_temp.see()")
    for _ in range(3):
        review(work.pk)
    flush(sql)
    assert sql("SELECT number FROM seen") == [(3,)]


# Relations ----------------------------------------------------------------------------------------------------------


def test_a_key_that_is_not_the_primary_one(sql: Sql, db: None) -> None:
    rules = keep_checked(sql, [queued(Publisher, the_count=Count("works"), the_total=Sum("works__pages", default=0))])
    Publisher.objects.create(number=5)
    Work.objects.create(publisher_id=5, pages=3)
    sql("SET CONSTRAINTS ALL IMMEDIATE")
    settle(sql, rules)
    Work.objects.create(publisher_id=5, pages=4)
    Work.objects.update(publisher=None)
    sql("UPDATE archive_publisher SET number = 6")
    settle(sql, rules)


def test_a_key_that_is_a_text(sql: Sql, db: None) -> None:
    rules = keep_checked(sql, [queued(Country, the_count=Count("publishers"))])
    Country.objects.create(code="d'E %{}")
    Publisher.objects.create(country_id="d'E %{}", number=1)
    settle(sql, rules)
    assert stored(Country) == {"d'E %{}": 1}


def test_a_composite_key(sql: Sql, db: None) -> None:
    rules = keep_checked(sql, [queued(Line, the_count=Count("remarks"), the_total=Sum("remarks__weight", default=0))])
    work = Work.objects.create()
    Remark.objects.create(line_work=work.pk, line_number=2, weight=5)
    for number in (1, 2):
        Line.objects.create(work=work, number=number)
        Remark.objects.create(line_work=work.pk, line_number=number, weight=3)
    Remark.objects.create(line_work=work.pk, line_number=None)
    assert_rules_hold(rules)
    assert flush(sql, Line, "1") >= 1
    assert_rules_hold(rules)
    sql("UPDATE archive_line SET number = 3 WHERE number = 2")
    Remark.objects.update(line_number=3)
    settle(sql, rules)
    assert stored(Line) == {(work.pk, 1): 0, (work.pk, 3): 4}
    assert sql("SELECT the_count FROM tk_exact_archive_line ORDER BY number") == [(0,), (4,)]


def test_multi_table_inheritance(sql: Sql, db: None) -> None:
    rules = keep_checked(sql, [queued(Series, the_count=Count("novels"), the_total=Sum("novels__pages", default=0))])
    series = Series.objects.create()
    novel = Novel.objects.create(series=series, pages=10)
    Novel.objects.create(series=series, pages=5)
    assert_rules_hold(rules)
    Work.objects.filter(pk=novel.pk).update(pages=20)
    assert_rules_hold(rules)
    novel.delete()
    settle(sql, rules)
    assert stored(Series, "the_total") == {series.pk: 5}


def test_a_column_in_the_table_of_a_parent(sql: Sql, kept: Rules) -> None:
    novel = Novel.objects.create(pages=1)
    review(novel.pk, 2)
    settle(sql, kept)
    novel.refresh_from_db()
    assert novel.the_count == 2


def test_many_to_many(sql: Sql, db: None) -> None:
    counted = Count("works", filter=Q(works__published=True))
    rules = keep_checked(sql, [queued(Tag, the_count=counted, the_total=Sum("works__pages", default=0))])
    tags = [Tag.objects.create() for _ in range(2)]
    works = [Work.objects.create(published=n != 1, pages=n) for n in range(3)]
    for work in works:
        work.tags.set(tags)
    assert_rules_hold(rules)
    Work.objects.filter(pages=1).update(published=True)
    works[2].tags.remove(tags[0])
    works[0].delete()
    settle(sql, rules)
    tags[0].works.clear()
    settle(sql, rules)


def test_several_hops(sql: Sql, db: None) -> None:
    rules = keep_checked(
        sql, [queued(Publisher, the_count=Count("works__reviews"), the_total=Sum("works__reviews__stars", default=0))]
    )
    one, two = (Publisher.objects.create(number=n) for n in (1, 2))
    works = [Work.objects.create(publisher=one), Work.objects.create(publisher=one)]
    for work in works:
        review(work.pk, 2, stars=3)
    assert_rules_hold(rules)
    Work.objects.filter(pk=works[0].pk).update(publisher=two)
    assert_rules_hold(rules)
    flush(sql, Publisher, "1")
    Work.objects.filter(pk=works[1].pk).delete()
    Review.objects.update(stars=1)
    settle(sql, rules)
    assert stored(Publisher) == {one.pk: 0, two.pk: 2}


def test_a_generic_relation(sql: Sql, db: None) -> None:
    rules = keep_checked(sql, [queued(Work, the_count=Count("notes"), the_total=Sum("notes__weight", default=0))])
    kind = ContentType.objects.get_for_model(Work)
    other = ContentType.objects.get_for_model(Person)
    Note.objects.create(content_type=kind, object_id=1, weight=2)
    Work.objects.create(pk=1)
    Note.objects.create(content_type=kind, object_id=1, weight=3)
    Note.objects.create(content_type=other, object_id=1, weight=4)
    assert_rules_hold(rules)
    Note.objects.filter(weight=3).update(content_type=other)
    settle(sql, rules)
    assert stored() == {1: 1}


def test_a_self_relation(sql: Sql, db: None) -> None:
    rules = keep_checked(sql, [queued(Node, the_count=Count("children"), the_total=Sum("children__own", default=0))])
    Node.objects.bulk_create([Node(pk=n, parent_id=n // 2 or None) for n in range(7, 0, -1)])
    assert_rules_hold(rules)
    Node.objects.filter(pk=3).update(parent=4, own=9)
    Node.objects.filter(pk=7).delete()
    settle(sql, rules)
    Node.objects.update(parent=None)
    settle(sql, rules)
    sql("SET CONSTRAINTS ALL IMMEDIATE")
    sql("TRUNCATE archive_node")
    assert pending(sql, Node) == 0


def test_paths_of_one_and_of_two_hops_share_a_queue(sql: Sql, db: None) -> None:
    rules = keep_checked(
        sql, [queued(Publisher, the_count=Count("works"), the_total=Sum("works__reviews__stars", default=0))]
    )
    work = Work.objects.create(publisher=Publisher.objects.create(number=1))
    review(work.pk, 2, stars=3)
    settle(sql, rules)


def test_all_timings_on_one_edge(sql: Sql, db: None) -> None:
    rules: Rules = [
        (
            Work,
            [
                Denormalize("the_count", Count("reviews"), timing=Timing.QUEUED),
                Denormalize("the_total", Sum("reviews__stars", default=0), timing=Timing.DEFERRED),
                Denormalize("kept_number", Max("reviews__stars")),
                Denormalize("least", Count("reviews", filter=Q(reviews__stars__gt=1))),
            ],
        )
    ]
    keep_checked(sql, rules)
    Review.objects.create(work_id=1, stars=5)
    Work.objects.create(pk=1)
    review(1, 2, stars=3)
    assert_rules_hold(rules)
    flush(sql)
    Review.objects.filter(stars=5).delete()
    assert_rules_hold(rules)
    review(1, 1, stars=4)
    assert_rules_hold(rules)
    sql("UPDATE archive_work SET id = 2")
    assert_rules_hold(rules)
    Review.objects.update(work=2)
    sql("SET CONSTRAINTS ALL IMMEDIATE")
    assert_rules_hold(rules)
    sql("SET CONSTRAINTS ALL DEFERRED")
    settle(sql, [(Work, [rules[0][1][0]])])
    sql("SET CONSTRAINTS ALL IMMEDIATE")
    sql("TRUNCATE archive_review CASCADE")
    assert_rules_hold(rules)


def test_a_repair_after_a_pause_of_rules_with_two_timings(sql: Sql, db: None) -> None:
    now, later = REVIEWS[0][1][0], Denormalize("kept_number", Max("reviews__stars"))
    rules: Rules = [(Work, [now, later])]
    keep(rules)
    work = Work.objects.create()
    with pausing(sql, rules):
        review(work.pk, 2)
    assert_rules_hold(rules)


@pytest.mark.parametrize("timing", Timing)
def test_a_repair_after_a_pause_of_rules_with_two_sources(sql: Sql, timing: Timing) -> None:
    """As with any timing."""
    expressions = {"the_count": Count("reviews"), "the_total": Sum("credits__share", default=0)}
    rules: Rules = [(Work, [Denormalize(name, value, timing=timing) for name, value in expressions.items()])]
    keep(rules)
    work, person = Work.objects.create(), Person.objects.create()
    with pausing(sql, rules):
        review(work.pk, 2)
        work.credits.create(person=person, share=5)
    assert_rules_hold(rules)


def test_only_signed_differences_can_wait(db: None) -> None:
    for expression, words in [
        (Max("reviews__stars"), "no signed difference keeps its value"),
        (Sum("reviews__stars"), "its value is NULL over no rows"),
    ]:
        with pytest.raises(RuleError, match=words):
            plan_all([queued(Work, kept_number=expression)])


# The view, and rights -----------------------------------------------------------------------------------------------


def test_the_view_has_the_key_and_the_true_values(sql: Sql, kept: Rules) -> None:
    work = Work.objects.create()
    review(work.pk, 2, stars=4)
    assert sql("SELECT id, the_count, the_total FROM tk_exact_archive_work") == [(work.pk, 2, 8)]
    flush(sql)
    assert sql("SELECT id, the_count, the_total FROM tk_exact_archive_work") == [(work.pk, 2, 8)]


@pytest.fixture
def role(sql: Sql) -> str:
    """A role whose name has to be quoted; it goes with the transaction."""
    sql('CREATE ROLE "Tk Reader"')
    return '"Tk Reader"'


def acting(sql: Sql, role: str, statement: str) -> list[tuple[Any, ...]]:
    """Run one statement as another role; a failure of it leaves the transaction usable."""
    with transaction.atomic():
        sql(f"SET LOCAL ROLE {role}")
        rows = sql(statement)
        sql("RESET ROLE")
    return rows


def test_a_writer_needs_no_rights_on_our_tables(sql: Sql, role: str, kept: Rules) -> None:
    work = Work.objects.create()
    sql(f"GRANT INSERT, UPDATE, DELETE, SELECT ON archive_review TO {role}")
    sql(f"GRANT USAGE ON SEQUENCE archive_review_id_seq TO {role}")
    review(work.pk, 3)
    acting(sql, role, "UPDATE archive_review SET stars = 2 WHERE stars = 1")
    acting(sql, role, f"DELETE FROM archive_review WHERE id = {Review.objects.latest('pk').pk}")
    settle(sql, kept)
    assert stored(Work, "the_total") == {work.pk: 4}


def test_a_reader_of_the_target_reads_what_is_pending(sql: Sql, role: str) -> None:
    sql(f"GRANT SELECT ON archive_work TO {role}")
    keep(REVIEWS)
    work = Work.objects.create()
    review(work.pk, 2)
    assert acting(sql, role, "SELECT the_count FROM tk_exact_archive_work") == [(2,)]
    assert acting(sql, role, "SELECT the_count FROM tk_pending_archive_work") == [(2,)]
    with pytest.raises(ProgrammingError, match="permission denied"), transaction.atomic():
        acting(sql, role, "DELETE FROM tk_pending_archive_work")
    install(plan_all(REVIEWS))
    assert acting(sql, role, "SELECT the_count FROM tk_exact_archive_work") == [(2,)]


def test_others_read_nothing(sql: Sql, role: str, kept: Rules) -> None:
    for name in ("tk_exact_archive_work", "tk_pending_archive_work"):
        with pytest.raises(ProgrammingError, match="permission denied"), transaction.atomic():
            acting(sql, role, f"SELECT * FROM {name}")


def test_who_may_flush_is_granted(sql: Sql, role: str, kept: Rules) -> None:
    work = Work.objects.create()
    review(work.pk, 2)
    with pytest.raises(ProgrammingError, match="permission denied for function tk_flush"), transaction.atomic():
        acting(sql, role, "SELECT tk_flush_archive_work()")
    sql(f"GRANT EXECUTE ON FUNCTION tk_flush_archive_work TO {role}")
    assert acting(sql, role, "SELECT tk_flush_archive_work()") == [(1,)]
    install_anew(plan_all(kept))
    review(work.pk)
    assert acting(sql, role, "SELECT tk_flush_archive_work()") == [(1,)]
    assert stored() == {work.pk: 3}


def test_rights_on_the_view_survive_another_installation(sql: Sql, role: str, kept: Rules) -> None:
    sql(f"GRANT SELECT ON archive_work, tk_pending_archive_work, tk_exact_archive_work TO {role}")
    install_anew(plan_all(kept))
    assert acting(sql, role, "SELECT the_count FROM tk_exact_archive_work") == []


def test_who_may_read_the_kept_columns_may_read_what_is_pending(sql: Sql, role: str, kept: Rules) -> None:
    sql(f"GRANT SELECT (id, the_count, the_total) ON archive_work TO {role}")
    install_anew(plan_all(kept))
    assert acting(sql, role, "SELECT the_count FROM tk_pending_archive_work") == []
    assert acting(sql, role, "SELECT the_count FROM tk_exact_archive_work") == []


def test_who_may_read_some_kept_columns_may_not_read_what_is_pending_for_others(
    sql: Sql, role: str, kept: Rules
) -> None:
    sql(f"GRANT SELECT (id, the_count) ON archive_work TO {role}")
    install_anew(plan_all(kept))
    with pytest.raises(ProgrammingError, match="permission denied"), transaction.atomic():
        acting(sql, role, "SELECT the_count FROM tk_pending_archive_work")


def test_everybody_may_read_what_is_pending_for_what_everybody_may_read(sql: Sql, role: str, kept: Rules) -> None:
    sql("GRANT SELECT ON archive_work TO PUBLIC")
    install_anew(plan_all(kept))
    assert acting(sql, role, "SELECT the_count FROM tk_exact_archive_work") == []


def test_a_view_of_the_users_over_ours_survives_another_installation(sql: Sql, kept: Rules) -> None:
    sql("CREATE VIEW users_own AS SELECT * FROM tk_exact_archive_work")
    install_anew(plan_all(kept))
    assert sql("SELECT the_count FROM users_own") == []


def test_rules_that_go_take_everything_with_them(sql: Sql, kept: Rules) -> None:
    work = Work.objects.create()
    review(work.pk, 2)
    sql("SET CONSTRAINTS ALL IMMEDIATE")
    for plan in plan_all(kept):
        converge(connection, [Change(before=Wanted(plan))])
    assert stored() == {work.pk: 2}, "what was pending is folded first"
    assert sql("SELECT proname FROM pg_proc WHERE proname LIKE '%tk%archive_work'") == []
    assert sql("SELECT relname FROM pg_class WHERE relname LIKE 'tk%archive_work'") == []


# Two sessions -------------------------------------------------------------------------------------------------------


@pytest.fixture
def connect(server: Server, transactional_db: None, stack: ExitStack) -> Callable[[], psycopg.Connection]:
    def open_session() -> psycopg.Connection:
        url = server.database(connection.settings_dict["NAME"]).url
        return stack.enter_context(psycopg.connect(url, options="-c lock_timeout=20s"))

    return open_session


@contextmanager
def installed_for_all(rules: Rules) -> Iterator[None]:
    """Install rules that other sessions meet."""
    plans = plan_all(rules)
    with transaction.atomic():
        install(plans)
    try:
        yield
    finally:
        with transaction.atomic():
            for plan in plans:
                converge(connection, [Change(before=Wanted(plan))])


@pytest.fixture
def installed(transactional_db: None) -> Iterator[Rules]:
    with installed_for_all(REVIEWS):
        yield REVIEWS


def test_a_writer_waits_for_nobody_who_holds_the_target(
    connect: Callable[[], psycopg.Connection], installed: Rules
) -> None:
    work = Work.objects.create()
    review(work.pk)
    holder = connect()
    holder.execute("SELECT FROM archive_work FOR NO KEY UPDATE")
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL lock_timeout = '5s'")
        review(work.pk, 2)
        Review.objects.update(stars=2)
        Review.objects.all()[0].delete()
    holder.rollback()
    holder.close()
    assert_rules_hold(installed)


@pytest.mark.parametrize("timing", [Timing.QUEUED, Timing.IMMEDIATE])
def test_a_key_taken_over_from_a_row_that_another_session_deletes(
    connect: Callable[[], psycopg.Connection], transactional_db: None, timing: Timing
) -> None:
    """The guard counts before the unique index makes the UPDATE wait for the other session."""
    rules: Rules = [(Publisher, [Denormalize("the_count", Count("works"), timing=timing)])]
    with installed_for_all(rules):
        for number in (1, 2):
            Publisher.objects.create(number=number)
        Work.objects.bulk_create(Work(publisher_id=2) for _ in range(3))
        one, two = connect(), connect()
        if timing is Timing.QUEUED:
            one.execute("SELECT tk_flush_archive_publisher()")
            one.commit()
        one.execute("DELETE FROM archive_work")
        one.execute("DELETE FROM archive_publisher WHERE number = 2")
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(two.execute, "UPDATE archive_publisher SET number = 2 WHERE number = 1")
            while not waiting.done() and not is_blocked(two):
                time.sleep(0.01)
            one.commit()
            waiting.result()
        two.commit()
        for session in (one, two):
            session.close()
        assert_rules_hold(rules)


def is_blocked(session: psycopg.Connection) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT cardinality(pg_blocking_pids(%s)) > 0", [session.info.backend_pid])
        return bool(cursor.fetchone()[0])


def test_two_writers_of_one_target_wait_for_nobody(connect: Callable[[], psycopg.Connection], installed: Rules) -> None:
    work = Work.objects.create()
    review(work.pk, 2)
    one, two = connect(), connect()
    first, second = Review.objects.order_by("pk").values_list("pk", flat=True)
    one.execute("DELETE FROM archive_review WHERE id = %s", [first])
    two.execute("DELETE FROM archive_review WHERE id = %s", [second])
    two.commit()
    assert_rules_hold(installed)
    one.commit()
    assert_rules_hold(installed)
    for session in (one, two):
        session.close()
