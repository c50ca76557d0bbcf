"""Triggers of one event fire in the order of their names. Whatever that order is, the contract holds, and no outcome differs.

So names need not carry the order in which targets depend on each other, for a rule of one app would rename the triggers
of another; but where locks ask for it (``ranks.turns``). Each example runs the same random operations once per order of firing; the installed triggers are renamed.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from django.contrib.postgres.aggregates import ArrayAgg
from django.db import DatabaseError, connection, models, transaction
from django.db.models import Avg, Count, F, Max, Min, Q, Sum, TextField, Value
from django.db.models.functions import Coalesce, Concat
from django.test.utils import isolate_apps
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.archive.aggregates import StringAgg
from tests.archive.keeping import Rules, assert_rules_hold, install, make_tables, rules_of, timed
from tests.archive.models import Country, Line, Note, Novel, Person, Publisher, Review, Series, Tag, Work
from tests.property.statements import BY_NAME, SEED, Script, Table, maybe, small, statements
from tests.property.test_contract import EXAMPLES, RollBack, Step, relaxed
from tests.property.test_grammar import EXPECTED, SETTLE, Settle, suppress_circles
from trigger_kit import Denormalize, Exists, First, Timing
from trigger_kit.plan.plan import Plan, plan_all
from trigger_kit.sql.compilation import compile_plan

OPERATIONS = 20


with isolate_apps("tests.archive"):

    class Drive(models.Model):
        """What a tree belongs to: a target over a tree, which the tree reads as well."""

        name = models.CharField(max_length=40, db_default="")
        the_count = models.IntegerField(db_default=0)
        the_total = models.IntegerField(db_default=0)

        class Meta:
            app_label = "archive"

    class Folder(models.Model):
        """A tree."""

        drive = models.ForeignKey(Drive, models.CASCADE, null=True, related_name="folders")
        parent = models.ForeignKey("self", models.CASCADE, null=True, related_name="children")
        name = models.CharField(max_length=40, db_default="")
        own = models.IntegerField(db_default=0)
        the_count = models.IntegerField(db_default=0)
        the_total = models.IntegerField(db_default=0)
        kept_amount = models.DecimalField(max_digits=20, decimal_places=4, null=True)
        kept_number = models.IntegerField(null=True)
        kept_text = models.TextField(null=True)
        kept_name = models.TextField(null=True)

        class Meta:
            app_label = "archive"


NODE = BY_NAME["archive_node"]
DRIVES = {
    "drive": Table("archive_drive", {"id": small}, {"name": NODE.columns["name"]}, ("id",), ("the_count", "the_total")),
    "folder": Table("archive_folder", NODE.key, {**NODE.columns, "drive_id": maybe(small)}, ("id",), ("kept_number",)),
}
SOME_FOLDERS = Script(
    "INSERT INTO archive_drive (id, name) VALUES (1, 'c'), (2, 'd'); INSERT INTO archive_folder (id, parent_id, drive_id, own)"
    " VALUES (1, NULL, 1, 1), (2, 1, 1, 2), (3, 1, 2, 3), (4, 3, NULL, 4)"
)
# Rules over rules, tables that read each other, targets that share a source: by their tables, those of the writers too.
RULE_SETS: dict[str, tuple[str, Rules]] = {
    "tables that read each other": (
        "country publisher work",
        [
            *rules_of(Country, the_count=Count("publishers__works"), the_total=Sum("publishers__the_count", default=0)),
            *rules_of(Publisher, the_count=Count("works"), kept_number=Max("works__pages")),
            *rules_of(Work, kept_text=F("publisher__country__name"), kept_number=F("publisher__number")),
        ],
    ),
    "sums of sums": (
        "country publisher work review",
        [
            *rules_of(
                Country, the_total=Sum("publishers__the_total", default=0), kept_number=Max("publishers__kept_number")
            ),
            *rules_of(Publisher, the_total=Sum("works__the_count", default=0), kept_number=Max("works__kept_number")),
            *rules_of(Work, the_count=Count("reviews"), kept_number=Max("reviews__stars"), the_label=F("title")),
        ],
    ),
    "up and down again": (
        "publisher work review person",
        [
            *rules_of(Person, the_count=Count("reviews"), kept_text=Max("reviews__kept_text")),
            *rules_of(Publisher, the_total=Sum("works__the_count", default=0), the_count=Count("works__reviews")),
            *rules_of(Review, kept_number=F("work__the_count"), kept_text=F("work__publisher__name")),
            *rules_of(
                Work, the_count=Count("reviews", filter=Q(reviews__stars__gt=1)), kept_number=Sum("reviews__stars")
            ),
        ],
    ),
    "many to many": (
        "work tag person credit work_tags person_friends review",
        [
            *rules_of(
                Person,
                the_count=Count("credits__work__reviews"),
                the_total=Sum("works__the_count", default=0),
                kept_text=Min("friends__name"),
            ),
            *rules_of(Tag, the_count=Count("works__reviews"), the_total=Sum("works__pages", default=0)),
            *rules_of(Work, the_count=Count("tags", filter=Q(tags__active=True)), kept_text=Max("people__name")),
        ],
    ),
    "generic": (
        "publisher work note person",
        [
            *rules_of(Note, kept_text=F("work__title"), kept_number=F("work__the_count")),
            *rules_of(Person, the_count=Count("written__work"), kept_text=Max("written__kept_text")),
            *rules_of(Publisher, the_total=Sum("works__the_total", default=0)),
            *rules_of(Work, the_count=Count("notes"), the_total=Sum("notes__weight", default=0)),
        ],
    ),
    "inheritance and composite keys": (
        "work novel series line remark review",
        [
            *rules_of(Line, the_count=Count("remarks"), kept_text=F("work__title"), kept_number=Max("remarks__weight")),
            *rules_of(Novel, kept_title=Concat("genre", Value(":"), "title", output_field=TextField())),
            *rules_of(Series, the_count=Count("novels__reviews"), kept_text=Max("novels__kept_title")),
            *rules_of(Work, the_count=Count("lines__remarks"), the_total=Sum("lines__the_count", default=0)),
        ],
    ),
    "trees": (
        "drive folder",
        [
            *rules_of(Drive, the_total=Sum("folders__the_total", default=0), the_count=Count("folders__children")),
            *rules_of(
                Folder,
                the_count=Count("children"),
                the_total=F("own") + Sum("children__the_total", default=0),
                kept_amount=Avg("children__the_count"),
                kept_text=Coalesce(Concat("parent__kept_text", Value("/"), "name"), "name", output_field=TextField()),
                kept_number=Coalesce(F("parent__kept_number"), 0) + 1,
                kept_name=F("drive__name"),
            ),
        ],
    ),
    "computed afresh": (
        "country publisher work review",
        [
            *rules_of(Country, kept_text=Max("publishers__kept_text"), the_flag=Exists("publishers__works__reviews")),
            *rules_of(
                Publisher,
                kept_text=First("works__kept_text", order_by=["-works__kept_number", "works__id"]),
                kept_list=ArrayAgg("works__title", order_by=("works__title", "works__id")),
                the_flag=Exists("works", filter=Q(works__the_flag=True)),
            ),
            *rules_of(
                Work,
                kept_text=StringAgg("reviews__text", "|", order_by="reviews__id"),
                kept_number=Max("reviews__stars"),
                the_flag=Exists("reviews", filter=Q(reviews__stars__gt=1)),
            ),
        ],
    ),
}

Order = Callable[[Plan, int], list[int]]


def orders(seed: int) -> dict[str, Order]:
    """Return what to put before the names of a target's triggers, by the name of the order.

    Those of one target keep their order, as they do whatever a table is called. One order is needed: the steps of a
    tree, ``along``, find a circle before other steps, ``from``, go round in it.
    """
    chance = random.Random(seed)
    return {
        "by name": lambda plan, number: [0] * number,
        "by rank": lambda plan, number: [plan.rank] * number,
        "by rank, backwards": lambda plan, number: [99 - plan.rank] * number,
        "at random": lambda plan, number: sorted(chance.choices(range(100), k=number)),
    }


def rename(plans: list[Plan], order: Order) -> None:
    """Give installed triggers names that sort by an order, then by the names that they have."""
    named: list[tuple[int, str, str]] = []
    for plan in plans:
        own = sorted(
            (str(trigger.name), trigger.on) for trigger in compile_plan(plan) if not str(trigger.name).startswith("~")
        )
        named += [(prefix, *found) for prefix, found in zip(order(plan, len(own)), own, strict=True)]
    for position, (_, name, table) in enumerate(sorted(named)):
        Script(f'ALTER TRIGGER "{name}" ON "{table}" RENAME TO "tk_{position:04}"')()


def outcomes(rules: Rules, plans: list[Plan], steps: list[Step], order: Order) -> list[str]:
    """Run operations, each in a savepoint, with triggers that fire in an order; return how each has ended."""
    found: list[str] = []
    try:
        with transaction.atomic():
            rename(plans, order)
            for step in steps:
                found.append(outcome(step))
                assert_rules_hold(rules)
            raise RollBack
    except RollBack:
        return found


def outcome(step: Step) -> str:
    """Run an operation; return the SQLSTATE of its error, if any."""
    try:
        with transaction.atomic():
            step()
    except DatabaseError as error:
        state = str(getattr(error.__cause__, "sqlstate", ""))
        assert state in EXPECTED, error
        return state
    return "done"


def at(timing: Timing, rules: Rules) -> Rules:
    """Return rules with a timing, but for those that cannot wait."""
    return timed(
        [(model, [Denormalize(r.field, r.expression, timing=timing) for r in found]) for model, found in rules]
    )


@pytest.mark.parametrize("timing", Timing, ids=lambda timing: timing.value)
@pytest.mark.parametrize("name", RULE_SETS)
@settings(relaxed, max_examples=max(1, EXAMPLES // 120), derandomize=True)
@given(data=st.data())
def test_values_do_not_depend_on_the_order_of_firing(
    transactional_db: None, database_actions: None, name: str, timing: Timing, data: st.DataObject
) -> None:
    tables, declared = RULE_SETS[name]
    one = statements(tuple(DRIVES.get(table) or BY_NAME[f"archive_{table}"] for table in tables.split()))
    steps = data.draw(st.lists(st.one_of(one, one, one, one, one, SETTLE), min_size=OPERATIONS, max_size=OPERATIONS))
    # Hypothesis tries one operation over and over first.
    assume(len(set(map(repr, steps))) > 1)
    rules = at(timing, declared)
    plans = Settle.installed = plan_all(rules)
    try:
        with transaction.atomic():
            Script("SET CONSTRAINTS ALL DEFERRED")()
            SEED()
            if name == "trees":
                make_tables(Drive, Folder)
                SOME_FOLDERS()
            Script("SET CONSTRAINTS ALL IMMEDIATE")()
            Script("SET CONSTRAINTS ALL DEFERRED")()
            with suppress_circles():
                install(plans)
            ended = {
                label: outcomes(rules, plans, steps, order)
                for label, order in orders(data.draw(st.integers(0, 999))).items()
            }
            assert len(set(map(tuple, ended.values()))) == 1, ended
            raise RollBack
    except RollBack:
        pass
    finally:
        # A session keeps the plans of functions that a rollback has taken back: each example has one of its own.
        connection.close()
