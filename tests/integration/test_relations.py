"""Every kind of relation: its rows come, go, move and change their keys, and the values follow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from django.contrib.contenttypes.models import ContentType
from django.contrib.postgres.aggregates import ArrayAgg
from django.db import DatabaseError, models, transaction
from django.db.models import Avg, Count, F, Max, Min, OuterRef, Q, Subquery, Sum, TextField, Value
from django.db.models import Exists as DjangoExists
from django.db.models.functions import Coalesce, Concat
from django.test.utils import isolate_apps

from tests.archive.keeping import Rules, assert_rules_hold, check, keep, make_tables, open_savepoint, rules_of
from tests.archive.models import (
    Country,
    Credit,
    Line,
    Node,
    Note,
    Novel,
    Person,
    Publisher,
    Review,
    Series,
    Tag,
    Work,
)
from trigger_kit import Exists, First, Rows

Sql = Callable[..., list[tuple[Any, ...]]]

pytestmark = pytest.mark.usefixtures("short_inserts")


# Several hops -------------------------------------------------------------------------------------------------------

FAR = rules_of(
    Country,
    the_count=Count("publishers__works__reviews"),
    the_total=Sum("publishers__works__reviews__stars", default=0),
    the_flag=Exists("publishers__works__reviews", filter=Q(publishers__works__reviews__stars=5)),
    kept_number=Max("publishers__works__reviews__stars", filter=Q(publishers__works__published=True)),
    kept_amount=Sum("publishers__works__reviews__stars", filter=Q(publishers__number__lte=2)),
    kept_text=First("publishers__works__reviews__text", order_by="-publishers__works__reviews__stars"),
    kept_ratio=Avg("publishers__works__reviews__stars"),
    kept_list=ArrayAgg(
        "publishers__works__title", distinct=True, order_by="publishers__works__title", default=Value([])
    ),
)
# Country a: publisher 1 with works 1 and 2, publisher 2 with work 3; country b: publisher 3 with work 4.
WORLD = """
INSERT INTO archive_country (code) VALUES ('a'), ('b');
INSERT INTO archive_publisher (id, number, country_id, name)
VALUES (gen_random_uuid(), 1, 'a', 'one'), (gen_random_uuid(), 2, 'a', 'two'), (gen_random_uuid(), 3, 'b', 'three');
INSERT INTO archive_work (id, publisher_id, title, published)
VALUES (1, 1, 'w1', true), (2, 1, 'w2', false), (3, 2, 'w3', true), (4, 3, 'w4', true);
INSERT INTO archive_review (id, work_id, stars, text)
VALUES (1, 1, 5, 'r1'), (2, 1, 1, 'r2'), (3, 2, 4, 'r3'), (4, 3, 3, 'r4'), (5, 4, NULL, 'r5'), (6, 4, 2, 'r6');
"""
HOPS = {
    "leaf inserted": ("INSERT INTO archive_review (work_id, stars, text) VALUES (4, 5, 'new'), (4, 5, 'too')", (4, 4)),
    "leaf deleted": ("DELETE FROM archive_review WHERE stars = 5", (3, 2)),
    "leaf re-parented": ("UPDATE archive_review SET work_id = 4 WHERE work_id = 1", (2, 4)),
    "leaves swapped": ("UPDATE archive_review SET work_id = 5 - work_id WHERE work_id IN (1, 4)", (4, 2)),
    "leaf changed": ("UPDATE archive_review SET stars = 6 - stars", (4, 2)),
    "middle inserted": ("INSERT INTO archive_work (id, publisher_id, title) VALUES (9, 3, 'w9'), (8, NULL, 'w8')", (4, 2)),
    "middle deleted under its leaves": ("DELETE FROM archive_work WHERE id = 1", (2, 2)),
    "middle re-parented": ("UPDATE archive_work SET publisher_id = 3 WHERE id IN (1, 2)", (1, 5)),
    "middles swapped": ("UPDATE archive_work SET publisher_id = 4 - publisher_id", (3, 3)),
    "middle cut off": ("UPDATE archive_work SET publisher_id = NULL WHERE id = 1", (2, 2)),
    "middle filter flipped": ("UPDATE archive_work SET published = NOT published", (4, 2)),
    "middle filter and parent": ("UPDATE archive_work SET published = NOT published, publisher_id = 4 - publisher_id", (3, 3)),
    "first hop re-parented": ("UPDATE archive_publisher SET country_id = 'b' WHERE number = 1", (1, 5)),
    "first hops swapped": ("UPDATE archive_publisher SET country_id = CASE country_id WHEN 'a' THEN 'b' ELSE 'a' END", (2, 4)),
    "first hop cut off": ("UPDATE archive_publisher SET country_id = NULL", (0, 0)),
    "first hop deleted under its works": ("DELETE FROM archive_publisher WHERE number <> 2", (1, 0)),
    "first hop's key moved": ("UPDATE archive_publisher SET number = 7 WHERE number = 1", (1, 2)),
    "a hop comes for rows that waited": (
        "INSERT INTO archive_work (id, publisher_id) VALUES (7, 9); INSERT INTO archive_review (work_id, stars) VALUES (7, 4); "
        "INSERT INTO archive_publisher (id, number, country_id) VALUES (gen_random_uuid(), 9, 'b')",
        (4, 3),
    ),
    "target deleted and back": ("DELETE FROM archive_country WHERE code = 'a'; INSERT INTO archive_country (code) VALUES ('a')", (4, 2)),
    "target's key moved": (
        "UPDATE archive_country SET code = 'c' WHERE code = 'a'; UPDATE archive_country SET code = 'a' WHERE code = 'b'",
        (4, 0),
    ),
    "leaf and middle in one statement": (
        "WITH w AS (UPDATE archive_work SET publisher_id = 3 WHERE id = 1), "
        "r AS (INSERT INTO archive_review (work_id, stars) VALUES (1, 5), (4, 4)), "
        "d AS (DELETE FROM archive_review WHERE id = 2) SELECT",
        (2, 5),
    ),
    "all levels in one statement": (
        "WITH p AS (UPDATE archive_publisher SET country_id = 'b' WHERE number = 2), "
        "w AS (UPDATE archive_work SET publisher_id = 2 WHERE id = 1), "
        "r AS (UPDATE archive_review SET work_id = 1, stars = 9 WHERE id = 3) SELECT",
        (0, 6),
    ),
    "a whole branch in one statement": (
        "WITH r AS (INSERT INTO archive_review (work_id, stars) SELECT 20, n FROM generate_series(1, 3) AS n), "
        "w AS (INSERT INTO archive_work (id, publisher_id) VALUES (20, 20)), "
        "p AS (INSERT INTO archive_publisher (id, number, country_id) VALUES (gen_random_uuid(), 20, 'c')), "
        "c AS (INSERT INTO archive_country (code) VALUES ('c')) SELECT",
        (4, 2, 3),
    ),
    "a whole branch goes in one statement": (
        "WITH r AS (DELETE FROM archive_review WHERE work_id <= 2), w AS (DELETE FROM archive_work WHERE id <= 2), "
        "p AS (DELETE FROM archive_publisher WHERE number = 1) SELECT",
        (1, 2),
    ),
}  # fmt: skip


@pytest.mark.parametrize("hop", HOPS)
def test_three_hops_each_written(sql: Sql, hop: str) -> None:
    sql(WORLD)
    keep(FAR)
    assert check(FAR, Country, "the_count", "the_total", "the_flag", "kept_number", "kept_text") == [
        (4, 13, True, 5, "r1"),
        (2, 2, False, 2, "r5"),
    ]
    statement, counts = HOPS[hop]
    sql(statement)
    sql("UPDATE archive_review SET stars = stars + 1")
    assert tuple(row[0] for row in check(FAR, Country, "the_count")) == counts


@pytest.mark.parametrize("hop", HOPS)
def test_copies_over_three_hops_each_written(sql: Sql, hop: str) -> None:
    rules = rules_of(
        Review,
        kept_text=Concat("work__title", Value("/"), "work__publisher__name", Value("/"), "work__publisher__country__name"),
        kept_number=F("work__publisher__country__rank"),
        the_label=F("work__title"),
    )  # fmt: skip
    sql(WORLD)
    keep(rules)
    statement, _ = HOPS[hop]
    sql(statement)
    assert_rules_hold(rules)
    sql("UPDATE archive_country SET rank = 8, name = 'land'; UPDATE archive_publisher SET name = name || number")
    assert_rules_hold(rules)


def test_rules_over_rules_follow_every_level(sql: Sql) -> None:
    rules = [
        *rules_of(Country, the_total=Sum("publishers__the_total", default=0), kept_number=Max("publishers__kept_number")),
        *rules_of(Publisher, the_total=Sum("works__the_count", default=0), kept_number=Max("works__kept_number")),
        *rules_of(Work, the_count=Count("reviews"), kept_number=Max("reviews__stars"), kept_amount=F("publisher__the_total")),
    ]  # fmt: skip
    sql(WORLD)
    keep(rules)
    for statement, _ in HOPS.values():
        savepoint = open_savepoint()
        sql(statement)
        assert_rules_hold(rules)
        transaction.savepoint_rollback(savepoint)
    assert check(rules, Country, "the_total", "kept_number") == [(4, 5), (2, 2)]


# Many to many -------------------------------------------------------------------------------------------------------

TAGGED: Rules = [
    *rules_of(
        Work,
        the_count=Count("tags", filter=Q(tags__active=True)),
        the_total=Sum("tags__weight", default=0),
        kept_number=Max("tags__weight"),
        kept_text=First("tags__name", order_by="-tags__weight"),
        the_flag=Exists("tags"),
    ),
    *rules_of(
        Tag,
        the_count=Count("works"),
        the_total=Sum("works__pages", default=0, filter=Q(works__published=True)),
        kept_number=Min("works__pages"),
        kept_text=First("works__title", order_by="works__pages"),
        kept_list=ArrayAgg("works__title", order_by="works__title", filter=Q(works__published=True)),
    ),
]


@pytest.fixture
def tagged(db: None) -> tuple[list[Work], list[Tag]]:
    works = [Work.objects.create(title=f"w{n}", pages=n, published=n != 2) for n in (1, 2, 3)]
    tags = [Tag.objects.create(name=f"t{n}", weight=n, active=n != 2) for n in (1, 2, 3)]
    keep(TAGGED)
    return works, tags


MANY_TO_MANY: dict[str, Callable[[list[Work], list[Tag]], object]] = {
    "add from the near side": lambda works, tags: works[0].tags.add(*tags),
    "add twice": lambda works, tags: [works[0].tags.add(tags[0]), works[0].tags.add(tags[0], tags[1])],
    "add from the far side": lambda works, tags: tags[0].works.add(*works),
    "remove": lambda works, tags: works[0].tags.remove(tags[0], tags[2]),
    "remove from the far side": lambda works, tags: tags[0].works.remove(works[0]),
    "set": lambda works, tags: works[0].tags.set([tags[1], tags[2]]),
    "set from the far side": lambda works, tags: tags[2].works.set([works[1]]),
    "set with clear": lambda works, tags: works[0].tags.set([tags[1]], clear=True),
    "clear": lambda works, tags: works[0].tags.clear(),
    "clear from the far side": lambda works, tags: tags[0].works.clear(),
    "create": lambda works, tags: works[0].tags.create(name="new", weight=9),
    "far filter flipped": lambda works, tags: Tag.objects.update(active=False),
    "far value changed": lambda works, tags: Tag.objects.update(weight=10 - F("weight")),
    "near value changed": lambda works, tags: Work.objects.update(pages=-F("pages"), published=False),
    "far row deleted": lambda works, tags: tags[0].delete(),
    "near row deleted": lambda works, tags: works[0].delete(),
    "through rows moved on both sides": lambda works, tags: Work.tags.through.objects.filter(work=works[0]).update(
        work=works[2], tag=tags[1]
    ),
    "through rows by hand": lambda works, tags: Work.tags.through.objects.bulk_create(
        [Work.tags.through(work=works[2], tag=tag) for tag in tags]
    ),
}


@pytest.mark.parametrize("writer", MANY_TO_MANY)
def test_many_to_many_from_both_sides(tagged: tuple[list[Work], list[Tag]], writer: str) -> None:
    works, tags = tagged
    works[0].tags.add(tags[0])
    works[1].tags.set(tags)
    assert check(TAGGED, Work, "the_count", "the_total", "kept_text") == [(1, 1, "t1"), (2, 6, "t3"), (0, 0, None)]
    assert check(TAGGED, Tag, "the_count", "the_total", "kept_number") == [(2, 1, 1), (1, 0, 2), (1, 0, 2)]
    MANY_TO_MANY[writer](works, tags)
    assert_rules_hold(TAGGED)
    Work.objects.all().delete()
    assert {row[0] for row in check(TAGGED, Tag, "the_count")} == {0}


def test_both_ends_and_their_link_in_one_statement(sql: Sql) -> None:
    keep(TAGGED)
    sql(
        "WITH link AS (INSERT INTO archive_work_tags (work_id, tag_id) VALUES (1, 1), (1, 2)), "
        "tag AS (INSERT INTO archive_tag (id, weight, active) VALUES (1, 7, true), (2, 8, false)) "
        "INSERT INTO archive_work (id, pages, published) VALUES (1, 3, true)"
    )
    assert check(TAGGED, Work, "the_count", "the_total", "kept_number") == [(1, 15, 8)]
    sql(
        "WITH link AS (DELETE FROM archive_work_tags WHERE tag_id = 2), tag AS (UPDATE archive_tag SET weight = weight + 1) "
        "UPDATE archive_work SET pages = 30, id = 1"
    )
    assert check(TAGGED, Work, "the_count", "the_total", "kept_number") == [(1, 8, 8)]
    assert check(TAGGED, Tag, "the_count", "the_total") == [(1, 30), (0, 0)]


CREDITED: Rules = [
    *rules_of(
        Person,
        the_count=Count("works"),
        the_total=Sum("works__pages", default=0),
        kept_number=Sum("credits__share"),
        kept_text=Max("works__title"),
        kept_list=ArrayAgg("works__title", distinct=True, order_by="works__title"),
    ),
    *rules_of(
        Work,
        the_count=Count("people", filter=Q(credits__role="author")),
        the_total=Sum("credits__share", default=0, filter=Q(credits__person__name__startswith="a")),
        kept_text=First("people__name", order_by="people__name"),
    ),
]


def test_a_through_model_of_the_users(db: None) -> None:
    """The same pair twice counts twice, as in annotate()."""
    keep(CREDITED)
    ann, bob = Person.objects.create(name="ann"), Person.objects.create(name="bob")
    works = [Work.objects.create(title=title, pages=10) for title in "ab"]
    ann.works.add(works[0], through_defaults={"role": "author", "share": 2})
    Credit.objects.create(person=ann, work=works[0], role="editor", share=3)
    bob.works.set(works, through_defaults={"role": "author"})
    assert check(CREDITED, Person, "the_count", "the_total", "kept_number") == [(2, 20, 5), (2, 20, 2)]
    for write in (
        lambda: Credit.objects.filter(person=ann).update(person=bob, share=F("share") + 1),
        lambda: Credit.objects.filter(role="editor").update(role="author", work=works[1]),
        lambda: Person.objects.filter(pk=bob.pk).update(name="aaron"),
        lambda: Work.objects.update(pages=F("pages") + F("id")),
        lambda: works[0].people.remove(bob),
        lambda: works[1].people.set([ann]),
        ann.works.clear,
        bob.delete,
    ):
        write()
        assert_rules_hold(CREDITED)
    assert check(CREDITED, Person, "the_count", "kept_number") == [(0, None)]


FRIENDS = rules_of(
    Person,
    the_count=Count("friends"),
    the_total=Count("follows__followers"),
    kept_number=Count("followers", filter=Q(followers__name__gte="b")),
    kept_text=Min("friends__name"),
    the_flag=Exists("followers", filter=Q(followers__name="ann")),
    kept_list=ArrayAgg("friends__name", order_by="friends__name", default=Value([])),
)


def test_many_to_many_to_self(db: None) -> None:
    keep(FRIENDS)
    ann, bob, cyd = (Person.objects.create(name=name) for name in ("ann", "bob", "cyd"))
    ann.friends.add(bob, cyd)
    assert check(FRIENDS, Person, "the_count", "kept_text") == [(2, "bob"), (1, "ann"), (1, "ann")]
    ann.follows.set([ann, bob])
    cyd.follows.add(bob)
    assert check(FRIENDS, Person, "the_total", "kept_number", "the_flag") == [(3, 0, True), (0, 1, True), (2, 0, False)]
    for write in (
        lambda: Person.objects.filter(name="ann").update(name="zoe"),
        lambda: bob.friends.add(bob),
        lambda: bob.followers.set([cyd, bob]),
        lambda: Person.friends.through.objects.filter(from_person=bob, to_person=ann).update(to_person=cyd),
        cyd.friends.clear,
        lambda: Person.follows.through.objects.filter(to_person=bob).update(to_person=ann),
        ann.delete,
        lambda: Person.objects.all().delete(),
    ):
        write()
        assert_rules_hold(FRIENDS)


# One to one ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [["number"], ["best"], ["name"], ["number", "best", "name"]], ids=" ".join)
@isolate_apps("tests.archive")
def test_a_path_that_begins_with_a_one_to_one_relation(sql: Sql, names: list[str]) -> None:
    class User(models.Model):
        name = models.TextField(default="")

        class Meta:
            app_label = "archive"

    class Profile(models.Model):
        user = models.OneToOneField(User, models.CASCADE)
        number = models.IntegerField(default=0, db_default=0)
        best = models.IntegerField(null=True)
        name = models.TextField(null=True)

        class Meta:
            app_label = "archive"

    class Post(models.Model):
        user = models.ForeignKey(User, models.CASCADE, related_name="posts")
        votes = models.IntegerField(default=1)

        class Meta:
            app_label = "archive"

    values = {"number": Count("user__posts"), "best": Max("user__posts__votes"), "name": F("user__name")}
    rules = rules_of(Profile, **{name: values[name] for name in names})
    make_tables(User, Profile, Post)
    keep(rules)
    for statement in (
        "INSERT INTO archive_user (id, name) VALUES (1, 'a'), (2, 'b')",
        "INSERT INTO archive_post (id, user_id, votes) VALUES (1, 1, 5), (2, 1, 7), (3, 2, 1)",
        "INSERT INTO archive_profile (id, user_id) VALUES (1, 1)",
        "UPDATE archive_profile SET user_id = 2",
        "INSERT INTO archive_profile (id, user_id) VALUES (2, 1)",
        "UPDATE archive_post SET user_id = 3 - user_id, votes = votes + 1",
        "DELETE FROM archive_profile WHERE id = 1",
        "UPDATE archive_profile SET user_id = 2, id = 9",
        "UPDATE archive_user SET name = name || '!'",
    ):
        sql(statement)
        assert_rules_hold(rules)


# Subqueries that leave rows out -------------------------------------------------------------------------------------


def works_of(publisher: str = "number") -> Any:
    return Rows("archive.Work").filter(publisher=OuterRef(publisher))


def has_work_without_review() -> Any:
    return DjangoExists(works_of().exclude(reviews__text="r1"))


def title_without_review() -> Any:
    return Subquery(works_of().filter(~Q(reviews__text="r1")).order_by("pk").values("title")[:1])


def count_without_author() -> Any:
    counted = works_of().exclude(reviews__author__name="ann").order_by().values("publisher")
    return Coalesce(Subquery(counted.annotate(number=Count("*")).values("number")), 0)


def has_work_without_tag() -> Any:
    return DjangoExists(works_of().exclude(tags__name="t1"))


def has_other_work() -> Any:
    return DjangoExists(Rows("archive.Work").filter(tags=OuterRef("pk")).exclude(tags__weight=3))


def has_work_of_others() -> Any:
    return DjangoExists(Rows("archive.Work").filter(editor=OuterRef("pk")).exclude(credits__person__name="bob"))


def has_child_without_child() -> Any:
    return DjangoExists(Rows("archive.Node").filter(parent=OuterRef("pk")).exclude(children__name="x"))


EXCLUDED: Rules = [
    *rules_of(
        Publisher,
        the_flag=has_work_without_review(),
        kept_text=title_without_review(),
        the_count=count_without_author(),
        kept_flag=has_work_without_tag(),
        kept_number=Count(
            "works", filter=Q(works__in=Rows("archive.Work").exclude(reviews__stars=5).filter(publisher__number=1))
        ),
    ),
    *rules_of(
        Country, the_count=Count("publishers__works", filter=~Q(publishers__works__tags__weight=3), distinct=True)
    ),
    *rules_of(Tag, the_flag=has_other_work()),
    *rules_of(Person, the_flag=has_work_of_others()),
]
EXCLUDED_ROWS = """
INSERT INTO archive_person (id, name) VALUES (1, 'ann'), (2, 'bob');
INSERT INTO archive_tag (id, name, weight) VALUES (1, 't1', 1), (2, 't2', 3);
"""


def test_subqueries_with_exclude_over_to_many_relations(sql: Sql) -> None:
    sql(WORLD + EXCLUDED_ROWS)
    keep(EXCLUDED)
    stored = lambda: check(EXCLUDED, Publisher, "number", "the_flag", "kept_text", "the_count", "kept_flag")  # noqa: E731
    assert sorted(stored())[0] == (1, True, "w2", 2, True)
    for statement in (
        "INSERT INTO archive_review (id, work_id, text, author_id) VALUES (7, 2, 'r1', 1)",
        "UPDATE archive_review SET text = 'r1' WHERE work_id = 1",
        "UPDATE archive_review SET author_id = 3 - author_id, stars = 5 WHERE id = 7",
        "UPDATE archive_person SET name = 'ann'",
        "INSERT INTO archive_work_tags (id, work_id, tag_id) VALUES (1, 1, 1), (2, 1, 2), (3, 2, 1)",
        "UPDATE archive_work SET publisher_id = 4 - publisher_id, editor_id = 1",
        "INSERT INTO archive_credit (id, person_id, work_id, role, share) VALUES (1, 2, 1, '', 1), (2, 1, 4, '', 1)",
        "UPDATE archive_person SET name = 'bob' WHERE id = 2",
        "UPDATE archive_tag SET weight = 4 - weight, name = 't' || (3 - id)",
        "UPDATE archive_work_tags SET tag_id = 3 - tag_id WHERE work_id = 2",
        "WITH r AS (DELETE FROM archive_review WHERE text = 'r1') UPDATE archive_work SET publisher_id = 1",
        "UPDATE archive_publisher SET number = -number",
        "DELETE FROM archive_work_tags",
        "DELETE FROM archive_work WHERE id = 1",
    ):
        sql(statement)
        assert_rules_hold(EXCLUDED)


def test_a_subquery_with_exclude_over_the_same_table(sql: Sql) -> None:
    rules = rules_of(Node, the_flag=has_child_without_child())
    sql("INSERT INTO archive_node (id, parent_id, name) VALUES (1, NULL, 'a'), (2, 1, 'b')")
    keep(rules)
    for statement, flags in (
        ("INSERT INTO archive_node (id, parent_id, name) VALUES (3, 2, 'x'), (4, 1, 'c')", [True, True, False, False]),
        ("UPDATE archive_node SET name = 'd' WHERE id = 4", [True, True, False, False]),
        ("UPDATE archive_node SET parent_id = 4 WHERE id = 3", [True, False, False, True]),
        ("DELETE FROM archive_node WHERE id = 2", [False, False, True]),
        ("UPDATE archive_node SET name = 'y' WHERE id = 3", [True, False, True]),
    ):
        sql(statement)
        assert [row[0] for row in check(rules, Node, "the_flag")] == flags


# Trees --------------------------------------------------------------------------------------------------------------

TREE = rules_of(
    Node,
    the_count=Count("children"),
    the_total=F("own") + Sum("children__own", default=0),
    the_flag=Exists("children__children"),
    kept_number=Max("children__own"),
    kept_amount=Count("children__children"),
    kept_text=F("parent__parent__name"),
    the_label=Concat("name", Value("<"), "parent__name", output_field=TextField()),
)
ROLLUP = rules_of(Node, the_total=F("own") + Sum("children__the_total", default=0))
NODES = (
    "INSERT INTO archive_node (id, parent_id, name, own) SELECT n, nullif(n / 2, 0), 'n' || n, n FROM generate_series"
)
TREE_WRITERS = {
    "bulk load, children first": f"{NODES}(15, 1, -1) AS n",
    "bulk load, parents first": f"{NODES}(1, 15) AS n",
    "subtree moved": f"{NODES}(1, 15) AS n; UPDATE archive_node SET parent_id = 3 WHERE id = 4",
    "siblings swap parents": f"{NODES}(1, 15) AS n; UPDATE archive_node SET parent_id = 5 - parent_id WHERE parent_id IN (2, 3)",
    "subtree cut off": f"{NODES}(1, 15) AS n; UPDATE archive_node SET parent_id = NULL WHERE id IN (2, 7)",
    "middle row deleted": f"{NODES}(1, 15) AS n; DELETE FROM archive_node WHERE id IN (3, 4)",
    "middle row comes back": f"{NODES}(1, 15) AS n; DELETE FROM archive_node WHERE id = 3; {NODES}(3, 3) AS n",
    "key moved": f"{NODES}(1, 15) AS n; UPDATE archive_node SET id = 99 WHERE id = 3; UPDATE archive_node SET parent_id = 99 WHERE parent_id = 3",
    "values changed at all levels": f"{NODES}(1, 15) AS n; UPDATE archive_node SET own = own * 2, name = name || 'x'",
    "parent and child move together": f"{NODES}(1, 15) AS n; UPDATE archive_node SET parent_id = CASE id WHEN 2 THEN 3 ELSE 1 END, own = 7 WHERE id IN (2, 4)",
}


@pytest.mark.parametrize("writer", TREE_WRITERS)
@pytest.mark.parametrize("rules", [TREE, ROLLUP], ids=["one or two levels", "rollup"])
def test_a_tree_under_moves_and_loads(sql: Sql, rules: Rules, writer: str) -> None:
    keep(rules)
    sql(TREE_WRITERS[writer])
    assert_rules_hold(rules)


def test_a_tree_rollup_sums_all_descendants(sql: Sql) -> None:
    keep(ROLLUP)
    sql(f"{NODES}(7, 1, -1) AS n")
    assert check(ROLLUP, Node, "the_total") == [(28,), (11,), (16,), (4,), (5,), (6,), (7,)]
    sql("UPDATE archive_node SET parent_id = 4 WHERE id = 3")
    assert check(ROLLUP, Node, "the_total") == [(28,), (27,), (16,), (20,), (5,), (6,), (7,)]


@pytest.mark.parametrize("statement", ["SET parent_id = 5 WHERE id = 2", "SET parent_id = id WHERE id = 3"])
def test_a_row_under_its_own_descendant_is_refused_by_a_rollup(sql: Sql, statement: str) -> None:
    keep(ROLLUP)
    sql(f"{NODES}(1, 7) AS n")
    sql("SET LOCAL statement_timeout = '10s'")
    with pytest.raises(DatabaseError, match="archive.Node:the_total") as caught, transaction.atomic():
        sql(f"UPDATE archive_node {statement}")
    assert "timeout" not in str(caught.value)
    assert "stack depth" not in str(caught.value)
    assert_rules_hold(ROLLUP)


def test_a_row_that_is_its_own_parent(sql: Sql) -> None:
    keep(TREE)
    sql("INSERT INTO archive_node (id, parent_id, name, own) VALUES (1, 1, 'me', 3), (2, 3, 'x', 1), (3, 2, 'y', 2)")
    assert check(TREE, Node, "the_count", "the_total", "kept_text") == [(1, 6, "me"), (1, 3, "x"), (1, 3, "y")]
    sql("UPDATE archive_node SET own = own + 1, name = name || '!'")
    assert check(TREE, Node, "the_count", "the_total", "kept_text") == [(1, 8, "me!"), (1, 5, "x!"), (1, 5, "y!")]


# Generic relations --------------------------------------------------------------------------------------------------

NOTED: Rules = [
    *rules_of(
        Work,
        the_count=Count("notes"),
        the_total=Sum("notes__weight", default=0, filter=Q(notes__text="x")),
        kept_number=Max("notes__weight"),
        kept_text=First("notes__text", order_by="-notes__weight"),
        the_flag=Exists("notes", filter=Q(notes__weight__gt=5)),
    ),
    *rules_of(Person, the_count=Count("notes"), kept_number=Min("notes__weight")),
]


@pytest.fixture
def no_cached_types() -> Iterator[None]:
    ContentType.objects.clear_cache()
    yield
    ContentType.objects.clear_cache()


def test_generic_relations_by_every_writer(sql: Sql) -> None:
    keep(NOTED)
    works = [Work.objects.create(id=n) for n in (1, 2)]
    person = Person.objects.create(id=1)
    works[0].notes.create(text="x", weight=3)
    works[0].notes.create(text="y", weight=9)
    Note.objects.bulk_create([Note(subject=person, text="x", weight=n) for n in (4, 6)])
    assert check(NOTED, Work, "the_count", "the_total", "kept_number", "the_flag") == [
        (2, 3, 9, True),
        (0, 0, None, False),
    ]
    assert check(NOTED, Person, "the_count", "kept_number") == [(2, 4)]
    types = ContentType.objects.get_for_models(Work, Person, Tag)
    for write in (
        lambda: Note.objects.filter(weight=6).update(content_type=types[Work]),
        lambda: Note.objects.filter(text="y").update(content_type=types[Person], object_id=1, weight=1),
        lambda: Note.objects.update(object_id=3 - F("object_id")),
        lambda: Note.objects.filter(object_id=2).update(content_type=types[Tag]),
        lambda: Note.objects.filter(content_type=types[Tag]).update(content_type=types[Work], text="x"),
        lambda: works[1].notes.set(Note.objects.all()[:2]),
        works[1].notes.clear,
        lambda: Note.objects.create(subject=works[1], text="x", weight=2),
        lambda: sql("UPDATE archive_work SET id = 7 WHERE id = 2"),
        lambda: sql("UPDATE archive_work SET id = 2 WHERE id = 7"),
        works[1].delete,
        lambda: sql("TRUNCATE archive_note"),
    ):
        write()
        sql("SET CONSTRAINTS ALL IMMEDIATE")
        assert_rules_hold(NOTED)
    assert check(NOTED, Work, "the_count") == [(0,)]


def test_a_swap_of_content_types(sql: Sql) -> None:
    keep(NOTED)
    Work.objects.create(id=1), Person.objects.create(id=1)
    Note.objects.bulk_create([Note(subject=Work(id=1), weight=1), Note(subject=Person(id=1), weight=2)])
    sql(
        "UPDATE archive_note SET content_type_id = (SELECT sum(DISTINCT content_type_id) FROM archive_note) - content_type_id"
    )
    assert check(NOTED, Work, "kept_number") == [(2,)]
    assert check(NOTED, Person, "kept_number") == [(1,)]


def test_content_types_are_looked_up_by_label(sql: Sql, no_cached_types: None) -> None:
    keep(NOTED)
    sql("DELETE FROM django_content_type WHERE app_label = 'archive' AND model = 'work'")
    sql("INSERT INTO archive_work (id) VALUES (1)")
    (new,) = sql("INSERT INTO django_content_type (app_label, model) VALUES ('archive', 'work') RETURNING id")
    sql("INSERT INTO archive_note (content_type_id, object_id, weight) VALUES (%s, 1, 8)", *new)
    assert check(NOTED, Work, "the_count", "kept_number") == [(1, 8)]


def test_notes_that_wait_for_their_subject(sql: Sql) -> None:
    """No foreign key tells of them; another model's row with the same number must not take them."""
    keep(NOTED)
    note = Note(content_type=ContentType.objects.get_for_model(Work), object_id=5, text="x", weight=7)
    note.save()
    Person.objects.create(id=5)
    Work.objects.create(id=5)
    assert check(NOTED, Person, "the_count") == [(0,)]
    assert check(NOTED, Work, "the_count", "the_total", "kept_text") == [(1, 7, "x")]


# Multi-table inheritance --------------------------------------------------------------------------------------------

NOVELS: Rules = [
    *rules_of(Novel, kept_title=Concat("genre", Value(":"), "title", Value(":"), "publisher__name", output_field=TextField())),
    *rules_of(
        Series,
        the_count=Count("novels", filter=Q(novels__published=True)),
        the_total=Sum("novels__pages", default=0),
        kept_number=Max("novels__words"),
        kept_amount=Count("novels__reviews"),
        kept_text=First("novels__genre", order_by="novels__words"),
        kept_list=ArrayAgg("novels__genre", order_by=("novels__title", "novels__pk"), filter=Q(novels__pages__gt=1)),
    ),
    *rules_of(Publisher, the_count=Count("works"), the_total=Sum("works__novel__words", default=0)),
    *rules_of(Work, the_count=Count("reviews"), kept_text=F("novel__genre"), kept_number=F("novel__series__id")),
]  # fmt: skip


def test_columns_of_a_parents_table(sql: Sql) -> None:
    keep(NOVELS)
    publisher = Publisher.objects.create(number=1, name="p")
    first, second = Series.objects.create(id=1), Series.objects.create(id=2)
    novel = Novel.objects.create(
        title="t", genre="g", pages=5, words=100, published=True, series=first, publisher=publisher
    )
    Work.objects.create(title="no novel", pages=99, publisher=publisher)
    assert check(NOVELS, Novel, "kept_title") == [("g:t:p",)]
    assert check(NOVELS, Series, "the_count", "the_total", "kept_number", "kept_text") == [
        (1, 5, 100, "g"),
        (0, 0, None, None),
    ]
    assert check(NOVELS, Publisher, "the_count", "the_total") == [(2, 100)]
    for write in (
        lambda: Novel.objects.update(title="new", genre="h", pages=7, words=F("words") + 1),
        lambda: Work.objects.filter(pk=novel.pk).update(published=False, title="newer"),
        lambda: Review.objects.create(work=novel, stars=1),
        lambda: Novel.objects.update(series=second, published=True),
        lambda: Publisher.objects.update(name="q"),
        lambda: Novel(work_ptr_id=Work.objects.get(title="no novel").pk, genre="z", series=second).save_base(raw=True),
        lambda: sql("UPDATE archive_novel SET series_id = 3 - series_id, words = words * 2"),
        lambda: sql("INSERT INTO archive_novel (work_ptr_id, genre, series_id, words) VALUES (77, 'early', 1, 1)"),
        lambda: sql("INSERT INTO archive_work (id, title, pages, published) VALUES (77, 'late', 3, true)"),
        lambda: Novel.objects.get(pk=77).delete(keep_parents=True),
        novel.delete,
        lambda: Work.objects.all().delete(),
    ):
        write()
        assert_rules_hold(NOVELS)
    assert check(NOVELS, Series, "the_count", "the_total") == [(0, 0), (0, 0)]


# Keys ---------------------------------------------------------------------------------------------------------------

LINES: Rules = [
    *rules_of(
        Line,
        the_count=Count("remarks"),
        the_total=Sum("remarks__weight", default=0, filter=Q(remarks__text="x")),
        kept_number=Max("remarks__weight"),
        kept_text=F("work__title"),
        the_flag=Exists("remarks"),
        kept_list=ArrayAgg("remarks__text", order_by="remarks__id", filter=Q(remarks__isnull=False)),
    ),
    *rules_of(Work, the_count=Count("lines__remarks"), the_total=Sum("lines__number", default=0)),
]


def test_composite_primary_keys(sql: Sql) -> None:
    keep(LINES)
    for statement in (
        "INSERT INTO archive_work (id, title) VALUES (1, 'a'), (2, 'b')",
        "INSERT INTO archive_line (work_id, number) VALUES (1, 1), (1, 2), (2, 1)",
        "INSERT INTO archive_remark (line_work, line_number, weight, text) VALUES (1, 1, 5, 'x'), (1, 1, 7, 'y'), (2, 1, 1, 'x'), "
        "(1, NULL, 50, 'x'), (NULL, 1, 60, 'x'), (2, 2, 70, 'x')",
    ):
        sql(statement)
        assert_rules_hold(LINES)
    assert check(LINES, Line, "the_count", "the_total", "kept_number", "kept_text") == [
        (2, 5, 7, "a"),
        (0, 0, None, "a"),
        (1, 1, 1, "b"),
    ]
    for statement in (
        "UPDATE archive_remark SET line_work = line_number, line_number = line_work WHERE line_number IS NOT NULL",
        "UPDATE archive_remark SET line_number = 3 - line_number",
        "UPDATE archive_remark SET line_work = NULL WHERE weight = 7",
        "UPDATE archive_line SET number = number + 1 WHERE work_id = 2",
        "UPDATE archive_line SET work_id = 2 WHERE number = 1",
        "WITH l AS (UPDATE archive_line SET number = 9 WHERE number = 1) UPDATE archive_remark SET line_number = 9 WHERE line_number = 1",
        "UPDATE archive_work SET title = title || id",
        "DELETE FROM archive_line WHERE number = 2",
        "INSERT INTO archive_line (work_id, number) VALUES (1, 2), (2, 2) ON CONFLICT DO NOTHING",
        "TRUNCATE archive_line",
    ):
        sql("SET CONSTRAINTS ALL DEFERRED")
        sql(statement) if "TRUNCATE" not in statement else Line.objects.all()._raw_delete("default")
        assert_rules_hold(LINES)


def test_whether_a_row_with_a_composite_key_exists(db: None) -> None:
    rules = rules_of(Work, the_flag=Exists("lines"), kept_number=First("lines__number", order_by="-lines__text"))
    keep(rules)
    line = Line.objects.create(work=Work.objects.create(), number=3)
    assert check(rules, Work, "the_flag", "kept_number") == [(True, 3)]
    line.delete()
    assert check(rules, Work, "the_flag", "kept_number") == [(False, None)]


TO_FIELD: Rules = [
    *rules_of(Publisher, the_count=Count("works"), kept_number=Max("works__pages"), the_flag=Exists("works__reviews")),
    *rules_of(Work, kept_number=F("publisher__number"), kept_text=F("publisher__country__name"), kept_amount=F("publisher__fee")),
    *rules_of(Country, the_count=Count("publishers"), the_total=Count("publishers__works")),
]  # fmt: skip


def test_keys_that_change_under_their_children(sql: Sql) -> None:
    sql(WORLD)
    keep(TO_FIELD)
    for statement in (
        "UPDATE archive_publisher SET number = 10 WHERE number = 1",
        "UPDATE archive_work SET publisher_id = 10 WHERE publisher_id = 1",
        "WITH p AS (UPDATE archive_publisher SET number = 11 WHERE number = 10) UPDATE archive_work SET publisher_id = 11 WHERE publisher_id = 10",
        "UPDATE archive_publisher SET number = number + 100, fee = number",
        "UPDATE archive_publisher SET number = number - 100",
        "UPDATE archive_publisher SET id = gen_random_uuid()",
        "UPDATE archive_country SET code = 'x' || code, name = code",
        "UPDATE archive_publisher SET country_id = 'x' || country_id",
        "UPDATE archive_country SET code = CASE code WHEN 'xa' THEN 'xb ' ELSE 'xc' END",
        "UPDATE archive_publisher SET country_id = 'xc', number = 1 - number",
    ):
        sql(statement)
        assert_rules_hold(TO_FIELD)
    sql("UPDATE archive_publisher SET number = 1 - number")
    assert sum(row[0] for row in check(TO_FIELD, Publisher, "the_count")) == 4


def test_moments_do_not_depend_on_the_writers_time_zone(sql: Sql) -> None:
    rules = rules_of(
        Work, kept_moment=Max("reviews__created"), the_count=Count("reviews", filter=Q(reviews__created__year=2025))
    )
    keep(rules)
    work = Work.objects.create()
    sql("SET LOCAL TimeZone = 'Pacific/Kiritimati'")
    Review.objects.create(work=work, created=datetime(2024, 12, 31, 23, 30, tzinfo=UTC))
    sql("INSERT INTO archive_review (work_id, created) VALUES (%s, '2024-12-31 21:30:00+00')", work.pk)
    sql("SET LOCAL TimeZone = 'UTC'")
    assert check(rules, Work, "the_count") == [(1,)]
    sql("SET LOCAL TimeZone = 'America/Los_Angeles'")
    sql("UPDATE archive_review SET created = created + interval '1 hour' WHERE created < '2024-12-31 22:00:00+00'")
    assert check(rules, Work, "the_count") == [(1,)]
    sql("SET LOCAL TimeZone = 'UTC'")
