"""Generic relations backwards, over keys of other widths and as texts, and to models with two tables."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.apps import apps
from django.contrib.contenttypes.fields import GenericForeignKey, GenericRelation
from django.contrib.contenttypes.models import ContentType
from django.contrib.postgres.aggregates import ArrayAgg
from django.db import models, transaction
from django.db.models import Count, F, Max, Q, Sum, TextField, Value
from django.db.models.functions import Concat
from django.test.utils import isolate_apps
from psycopg.sql import Literal

from tests.archive.keeping import Rules, assert_rules_hold, check, keep, make_tables, open_savepoint, rules_of
from tests.archive.models import Note, Person, Work
from tests.integration.test_relations import NOTED
from trigger_kit import Exists, First

Sql = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture(autouse=True)
def short_inserts(sql: Sql) -> Iterator[None]:
    """Raw INSERTs need not name what they do not care about; content types of a test's models are forgotten."""
    savepoint = open_savepoint()
    for model in apps.get_app_config("archive").get_models():
        fields = [field for field in model._meta.local_concrete_fields if field.has_default()]
        values = {f.column: "{}" if f.get_internal_type() == "JSONField" else f.get_default() for f in fields}
        changes = [f"ALTER COLUMN {name} SET DEFAULT {Literal(value).as_string()}" for name, value in values.items()]
        sql(f"ALTER TABLE {model._meta.db_table} {', '.join(changes)}") if changes else None
    yield
    transaction.savepoint_rollback(savepoint)
    ContentType.objects.clear_cache()


# The way back -------------------------------------------------------------------------------------------------------

BACKWARDS: dict[str, Rules] = {
    "copies": rules_of(
        Note,
        kept_text=Concat("work__title", Value("|"), "person__name", output_field=TextField()),
        kept_number=F("work__pages"),
    ),
    "copies over a further hop": rules_of(Note, kept_text=F("work__editor__name")),
    "counts of what points there too": rules_of(Note, kept_number=Count("work__notes")),
    "two hops away": [
        *rules_of(
            Person,
            the_count=Count("written__work"),
            the_total=Sum("written__work__pages", default=0),
            kept_number=Max("written__work__pages"),
            kept_text=First("written__work__title", order_by="-written__weight"),
            the_flag=Exists("written__person", filter=Q(written__person__name="ann")),
            kept_list=ArrayAgg("written__work__title", order_by=("written__work__title", "written__id")),
        )
    ],
    "there and on": rules_of(Work, the_count=Count("notes__author"), kept_text=Max("notes__author__name")),
    "there, on and back": rules_of(Work, the_count=Count("notes__author__written__person")),
    "rules over rules": [
        *rules_of(Work, the_count=Count("notes")),
        *rules_of(Note, kept_number=F("work__the_count"), kept_text=F("author__kept_text")),
        *rules_of(Person, the_total=Sum("written__kept_number", default=0), kept_text=Max("written__text")),
    ],
}
TYPE = "(SELECT id FROM django_content_type WHERE app_label = 'archive' AND model = '{}')"
WORK_TYPE, PERSON_TYPE, TAG_TYPE = (TYPE.format(name) for name in ("work", "person", "tag"))
ROWS = f"""
INSERT INTO archive_person (id, name) VALUES (1, 'ann'), (2, 'bob');
INSERT INTO archive_work (id, title, pages, editor_id) VALUES (1, 'one', 10, 1), (2, 'two', NULL, 2);
INSERT INTO archive_note (id, content_type_id, object_id, author_id, weight, text) VALUES
(1, {WORK_TYPE}, 1, 1, 1, 'a'), (2, {WORK_TYPE}, 1, 2, 2, 'b'), (3, {WORK_TYPE}, 2, 1, 3, 'c'),
(4, {PERSON_TYPE}, 1, 1, 4, 'd'), (5, {PERSON_TYPE}, 2, NULL, 5, 'e'), (6, {TAG_TYPE}, 1, 2, 6, 'f');
"""
STATEMENTS = (
    "UPDATE archive_work SET title = title || '!', pages = coalesce(pages, 0) + 1",
    "UPDATE archive_person SET name = CASE name WHEN 'ann' THEN 'bob' ELSE 'ann' END",
    "UPDATE archive_note SET object_id = 3 - object_id",
    f"UPDATE archive_note SET content_type_id = {PERSON_TYPE} WHERE id = 1",
    f"UPDATE archive_note SET content_type_id = {WORK_TYPE} WHERE id > 3",
    f"UPDATE archive_note SET content_type_id = CASE content_type_id WHEN {WORK_TYPE} THEN {TAG_TYPE} ELSE {WORK_TYPE} END",
    f"UPDATE archive_note SET content_type_id = {WORK_TYPE}, object_id = 1 + id % 3, author_id = 3 - author_id",
    "UPDATE archive_note SET author_id = 1 WHERE author_id IS NULL",
    "INSERT INTO archive_work (id, title, pages) VALUES (3, 'late', 7)",
    "DELETE FROM archive_work WHERE id = 1",
    "INSERT INTO archive_work (id, title, pages, editor_id) VALUES (1, 'again', 9, 1)",
    "UPDATE archive_work SET id = 4 WHERE id = 3",
    "UPDATE archive_work SET id = 3 WHERE id = 4",
    "DELETE FROM archive_person WHERE id = 2",
    "INSERT INTO archive_person (id, name) VALUES (2, 'cyd')",
    f"WITH n AS (INSERT INTO archive_note (id, content_type_id, object_id, author_id, weight) VALUES (9, {WORK_TYPE}, 9, 9, 1)), "
    "w AS (INSERT INTO archive_work (id, title, pages) VALUES (9, 'nine', 9)) INSERT INTO archive_person (id, name) VALUES (9, 'nine')",
    "WITH n AS (UPDATE archive_note SET object_id = 1), w AS (UPDATE archive_work SET pages = 50) UPDATE archive_person SET name = 'x'",
    "WITH w AS (DELETE FROM archive_work WHERE id = 9) DELETE FROM archive_note WHERE id % 2 = 1",
    "TRUNCATE archive_note",
)  # fmt: skip


@pytest.mark.parametrize("name", BACKWARDS)
def test_the_way_back_of_a_generic_relation(sql: Sql, name: str) -> None:
    rules = BACKWARDS[name]
    ContentType.objects.get_for_models(Work, Person)
    sql(f"INSERT INTO django_content_type (app_label, model) SELECT 'archive', 'tag' WHERE {TAG_TYPE} IS NULL")
    sql(ROWS)
    keep(rules)
    assert_rules_hold(rules)
    for statement in STATEMENTS:
        if statement.startswith("TRUNCATE"):
            sql("SET CONSTRAINTS ALL IMMEDIATE")
        sql(statement)
        assert_rules_hold(rules)


def test_the_way_back_in_numbers(sql: Sql) -> None:
    rules = [*BACKWARDS["two hops away"], *rules_of(Note, kept_text=F("work__title"))]
    sql(ROWS)
    keep(rules)
    assert check(rules, Person, "the_count", "the_total", "kept_text") == [(2, 10, "two"), (1, 10, "one")]
    assert check(rules, Note, "kept_text") == [("one",), ("one",), ("two",), (None,), (None,), (None,)]
    sql(f"UPDATE archive_note SET content_type_id = {WORK_TYPE} WHERE id >= 4")
    assert check(rules, Person, "the_count", "the_total", "kept_text") == [(3, 20, "one"), (2, 20, "one")]
    assert check(rules, Note, "kept_text")[3:] == [("one",), ("two",), ("one",)]


# Keys ---------------------------------------------------------------------------------------------------------------

LARGE = 3_000_000_000


def test_a_key_that_is_too_large_for_the_number_that_points(sql: Sql) -> None:
    keep(NOTED)
    Work.objects.create(id=5).notes.create(text="x", weight=2)
    Work.objects.create(id=LARGE)
    assert check(NOTED, Work, "the_count", "kept_number") == [(1, 2), (0, None)]
    for statement, counts in (
        (f"UPDATE archive_work SET id = {LARGE + 1} WHERE id = {LARGE}", [(1,), (0,)]),
        (f"UPDATE archive_work SET id = {LARGE + 2} WHERE id = 5", [(0,), (0,)]),
        (f"UPDATE archive_work SET id = 5 WHERE id = {LARGE + 1}", [(1,), (0,)]),
        ("UPDATE archive_note SET weight = 7", [(1,), (0,)]),
        (f"DELETE FROM archive_work WHERE id = {LARGE + 2}", [(1,)]),
        ("DELETE FROM archive_note", [(0,)]),
    ):
        sql(statement)
        assert check(NOTED, Work, "the_count") == counts


@isolate_apps("tests.archive")
def test_a_number_that_points_and_is_too_large_for_the_key(sql: Sql) -> None:
    """Django's own annotate() fails meanwhile: it casts the number to the key's type."""

    class Mark(models.Model):
        content_type = models.ForeignKey(ContentType, models.CASCADE)
        object_id = models.BigIntegerField()
        subject = GenericForeignKey()
        weight = models.IntegerField(default=1, db_default=1)
        kept = models.TextField(null=True)

        class Meta:
            app_label = "archive"

    class Small(models.Model):
        id = models.SmallAutoField(primary_key=True)
        name = models.TextField(default="")
        marks = GenericRelation(Mark, related_query_name="small")
        number = models.IntegerField(default=0)
        total = models.IntegerField(null=True)
        best = models.IntegerField(null=True)

        class Meta:
            app_label = "archive"

    best = First("marks__weight", order_by="marks__id")
    rules = [
        *rules_of(Small, number=Count("marks"), total=Sum("marks__weight"), best=best),
        *rules_of(Mark, kept=F("small__name")),
    ]
    make_tables(Mark, Small)
    keep(rules)
    kind = ContentType.objects.get_for_model(Small).pk
    sql("INSERT INTO archive_small (id, name, number) VALUES (1, 'one', 0), (32767, 'last', 0)")
    sql(f"INSERT INTO archive_mark (content_type_id, object_id) VALUES ({kind}, 1), ({kind}, {LARGE}), ({kind}, 32767)")
    stored = lambda: sql("SELECT id, number, total, best FROM archive_small ORDER BY id")  # noqa: E731
    assert stored() == [(1, 1, 1, 1), (32767, 1, 1, 1)]
    sql(f"UPDATE archive_mark SET weight = weight + 1, object_id = object_id + {LARGE} WHERE object_id = 1")
    assert stored() == [(1, 0, None, None), (32767, 1, 1, 1)]
    sql(f"UPDATE archive_mark SET object_id = 1 WHERE object_id > {LARGE}")
    sql("UPDATE archive_small SET id = 2, name = 'two' WHERE id = 1")
    assert stored() == [(2, 0, None, None), (32767, 1, 1, 1)]
    sql(f"UPDATE archive_mark SET object_id = object_id + 1 WHERE object_id IN (1, {LARGE})")
    assert stored() == [(2, 1, 2, 2), (32767, 1, 1, 1)]
    assert sql("SELECT kept FROM archive_mark ORDER BY object_id") == [("two",), ("last",), (None,)]
    sql(f"DELETE FROM archive_mark WHERE object_id > {LARGE}")
    assert_rules_hold(rules)


@isolate_apps("tests.archive")
def test_texts_that_only_a_cast_would_take_for_a_key_never_count(sql: Sql) -> None:
    """Neither in a delta nor in a value computed afresh, so that no delta takes them away from it."""

    class Mark(models.Model):
        content_type = models.ForeignKey(ContentType, models.CASCADE)
        object_id = models.CharField(max_length=50)
        subject = GenericForeignKey()

        class Meta:
            app_label = "archive"

    class Parent(models.Model):
        marks = GenericRelation(Mark)
        number = models.IntegerField(default=0)
        marked = models.BooleanField(default=False)

        class Meta:
            app_label = "archive"

    make_tables(Mark, Parent)
    keep(rules_of(Parent, number=Count("marks"), marked=Exists("marks")))
    kind = ContentType.objects.get_for_model(Parent).pk
    stored = lambda: sql("SELECT number, marked FROM archive_parent ORDER BY id")  # noqa: E731
    Parent.objects.create(id=7)
    sql(f"INSERT INTO archive_mark (content_type_id, object_id) VALUES ({kind}, '007'), ({kind}, ' 8 '), ({kind}, '7')")
    assert stored() == [(1, True)]
    sql("INSERT INTO archive_parent (id, number, marked) VALUES (8, 5, true)")
    assert stored() == [(1, True), (0, False)]
    sql("UPDATE archive_parent SET id = id + 10")
    assert stored() == [(0, False), (0, False)]
    sql("UPDATE archive_parent SET id = id - 10")
    assert stored() == [(1, True), (0, False)]
    sql("UPDATE archive_mark SET object_id = CASE object_id WHEN '007' THEN '+7' WHEN ' 8 ' THEN '8' ELSE '07' END")
    assert stored() == [(0, False), (1, True)]
    sql("DELETE FROM archive_mark")
    assert stored() == [(0, False), (0, False)]


# Two tables ---------------------------------------------------------------------------------------------------------


@isolate_apps("tests.archive")
def test_generic_relations_to_a_model_with_two_tables(sql: Sql) -> None:
    class Mark(models.Model):
        content_type = models.ForeignKey(ContentType, models.CASCADE)
        object_id = models.TextField()
        subject = GenericForeignKey()
        weight = models.IntegerField(default=1)

        class Meta:
            app_label = "archive"

    class Grade(Mark):
        points = models.IntegerField(default=1)

        class Meta:
            app_label = "archive"

    class Place(models.Model):
        marks = GenericRelation(Mark, related_query_name="place")
        grades = GenericRelation(Grade, related_query_name="graded")
        number = models.IntegerField(default=0)
        total = models.IntegerField(null=True)
        most = models.IntegerField(null=True)
        latest = models.IntegerField(null=True)
        graded = models.BooleanField(default=False)

        class Meta:
            app_label = "archive"

    class Cafe(Place):
        served = models.IntegerField(null=True)

        class Meta:
            app_label = "archive"

    class Visitor(models.Model):
        id = models.UUIDField(primary_key=True, default=uuid.uuid4)
        marks = GenericRelation(Mark, related_query_name="visitor")
        number = models.IntegerField(default=0)
        total = models.IntegerField(null=True)

        class Meta:
            app_label = "archive"

    rules = [
        *rules_of(
            Place,
            number=Count("grades"),
            total=Sum("grades__points"),
            most=Max("grades__weight"),
            latest=First("grades__points", order_by="-grades__weight"),
            graded=Exists("grades"),
        ),
        *rules_of(Cafe, served=Count("marks")),
        *rules_of(Visitor, number=Count("marks__grade"), total=Sum("marks__weight")),
    ]
    make_tables(Mark, Grade, Place, Cafe, Visitor)
    keep(rules)
    cafe, place, visitor = Cafe.objects.create(), Place.objects.create(), Visitor.objects.create()
    for subject in (cafe, place, visitor, Place.objects.get(pk=cafe.pk)):
        Mark.objects.create(subject=subject, weight=9)
        for points in (2, 3):
            Grade.objects.create(subject=subject, weight=points + 3, points=points)
    assert_rules_hold(rules)
    assert check(rules, Place, "number", "total", "most") == [(2, 5, 6), (2, 5, 6)]
    assert check(rules, Visitor, "number", "total") == [(2, 20)]
    for write in (
        lambda: Grade.objects.update(weight=F("weight") + 1, points=F("points") * 3),
        lambda: Mark.objects.update(weight=10 - F("weight")),
        lambda: sql("UPDATE archive_grade SET points = points - 1"),
        lambda: sql("UPDATE archive_mark SET object_id = %s WHERE object_id = %s", str(place.pk), str(cafe.pk)),
        lambda: Grade.objects.first().delete(keep_parents=True),
        lambda: sql("UPDATE archive_visitor SET id = gen_random_uuid()"),
        lambda: Grade.objects.filter(points__gt=3).delete(),
        lambda: cafe.delete(),
        lambda: Visitor.objects.all().delete(),
        lambda: Mark.objects.all().delete(),
    ):
        write()
        assert_rules_hold(rules)
    assert check(rules, Place, "number", "total", "most") == [(0, None, None)]
