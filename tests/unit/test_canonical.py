"""One text: neither the process nor the order in which things are declared changes a letter of what is compiled."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.contrib.postgres.aggregates import JSONBAgg
from django.db import models
from django.db.models import Case, Count, F, Max, Q, Sum, Value, When
from django.db.models.functions import Coalesce, JSONObject

from tests.archive.keeping import rules_of
from tests.archive.models import Country, Review, Work
from trigger_kit import Denormalize, Timing
from trigger_kit.notation import arguments, as_migrated
from trigger_kit.plan.plan import plan, plan_all
from trigger_kit.sql.compilation import compile_plan

REPOSITORY = Path(__file__).resolve().parents[2]
# Tables that read each other: a project its tasks, a task its project, an organisation both.
PROGRAM = """
import json, warnings
warnings.simplefilter("error")
import django
from django.conf import settings
database = {"ENGINE": "django.db.backends.postgresql", "NAME": "nowhere"}
settings.configure(INSTALLED_APPS=["trigger_kit"], DATABASES={"default": database})
django.setup()
from django.db import models
from django.db.models import Count, F, Max, Q, Sum
from django.db.models.functions import JSONObject
from django.test.utils import isolate_apps
from trigger_kit import Denormalize, Timing
from trigger_kit.plan.plan import plan_all
from trigger_kit.resolve.declared import declared
from trigger_kit.sql.compilation import compile_plan

def integers(*names):
    return {name: models.IntegerField(default=0) for name in names}

def key(to, related_name, **options):
    return models.ForeignKey(to, models.CASCADE, related_name=related_name, **options)

def written(one_way):
    words = lambda **kwargs: dict(one_way(kwargs.items()))
    project = {"org": key("Org", "projects"), **integers("n", "hours", "longest")}
    task = {"project": key("Project", "tasks"), "org": key("Org", "+", null=True), "words": models.JSONField(null=True)}
    late = Count("projects__tasks", **words(filter=Q(projects__tasks__n=0), distinct=True))
    text = JSONObject(**words(own=F("n"), project=F("project__n"), org=F("project__org")))
    return [
        ("Org", integers("n", "late", "hours"), [
            Denormalize("n", Count("projects__tasks")),
            Denormalize("hours", Sum("projects__hours", default=0), timing=Timing.DEFERRED),
            Denormalize("late", late),
        ]),
        ("Project", project, [
            Denormalize("n", Count("tasks")),
            Denormalize("hours", Sum("tasks__n", default=0)),
            Denormalize("longest", Max("tasks__n", default=0)),
        ]),
        ("Task", task | integers("n"), [Denormalize("org", F("project__org")), Denormalize("words", text)]),
    ]

def compiled(one_way):
    with isolate_apps("trigger_kit") as apps:
        for name, fields, rules in one_way(written(one_way)):
            meta = type("Meta", (), {"app_label": "trigger_kit", "denormalizations": one_way(rules)})
            type(name, (models.Model,), {"__module__": "__main__", "Meta": meta, **fields})
        plans = plan_all(one_way(declared(apps)))
    triggers = [[t.name, t.on, t.owner, t.text] for p in plans for t in compile_plan(p)]
    return [[plan.model.__name__, plan.rank] for plan in plans], triggers

print(json.dumps([compiled(list), compiled(lambda found: list(found)[::-1])]))
"""


def compiled(seed: int) -> list[Any]:
    """Return ranks and triggers of the models, as written and backwards, as a process of its own compiles them."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONHASHSEED": str(seed)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stderr == ""
    found: list[Any] = json.loads(done.stdout)
    return found


def test_every_process_and_every_order_of_declaration_compile_the_same() -> None:
    with ThreadPoolExecutor(2) as pool:
        every = [found for both in pool.map(compiled, range(8)) for found in both]
    found, triggers = every[0]
    assert found == [["Project", 1], ["Task", 1], ["Org", 2]]
    assert len(triggers) > 30
    assert len(every) == 16
    assert all(one == every[0] for one in every)


# Orders of declaration ----------------------------------------------------------------------------------------------


def texts(*rules: Denormalize) -> list[Any]:
    return list(compile_plan(plan(Work, rules)))


def test_rules_are_sorted_by_their_fields() -> None:
    rules = [
        Denormalize("the_total", Sum("reviews__stars", default=0)),
        Denormalize("the_count", Count("reviews")),
        Denormalize("kept_number", Max("reviews__stars")),
    ]
    assert texts(*rules) == texts(*rules[::-1])
    assert [kept.column for kept in plan(Work, rules).kept_columns] == ["kept_number", "the_count", "the_total"]


def test_models_are_sorted_by_their_tables() -> None:
    rules = [
        *rules_of(Country, the_count=Count("publishers__works")),
        *rules_of(Work, the_count=Count("reviews")),
        *rules_of(Review, kept_number=F("work__the_count")),
    ]
    assert [p.target for p in plan_all(rules)] == ["archive_review", "archive_work", "archive_country"]
    assert [compile_plan(p) for p in plan_all(rules)] == [compile_plan(p) for p in plan_all(rules[::-1])]


@pytest.mark.parametrize("timing", Timing)
def test_options_of_an_expression_are_sorted(timing: Timing) -> None:
    options = {"filter": Q(reviews__stars=1), "default": 0}
    ways = [Sum("reviews__stars", **options), Sum("reviews__stars", **dict(reversed(options.items())))]
    first, second = (texts(Denormalize("the_total", way, timing=timing)) for way in ways)
    assert first == second


def both_ways(**fields: Any) -> tuple[Any, Any]:
    return JSONObject(**fields), JSONObject(**dict(reversed(fields.items())))


def test_keys_of_an_object_are_sorted_wherever_it_stands() -> None:
    outer, inner = {"b": F("publisher__name"), "a": F("title")}, {"d": F("publisher__country__name"), "c": Value(1)}
    one, other = both_ways(**outer, z=JSONObject(**inner))[0], both_ways(**outer, z=both_ways(**inner)[1])[1]
    for wrap in (
        lambda found: found,
        lambda found: Coalesce(found, "data"),
        lambda found: Case(When(data=found, then=found), default="data"),
        lambda found: Case(When(~(Q(title="") | Q(data=found)), then=Value({}, models.JSONField())), default="data"),
    ):
        assert texts(Denormalize("kept_json", wrap(one))) == texts(Denormalize("kept_json", wrap(other)))


def test_an_aggregate_of_objects() -> None:
    ways = both_ways(stars=F("reviews__stars"), author=F("reviews__author__name"))
    first, second = (
        texts(Denormalize("the_count", Count("reviews", filter=Q(reviews__work__data=way)))) for way in ways
    )
    assert first == second
    first, second = (texts(Denormalize("kept_json", JSONBAgg(way, order_by="reviews__id"))) for way in ways)
    assert first == second


def test_what_its_author_wrote_stays_as_it_is() -> None:
    one, other = both_ways(b=F("title"), a=F("pages"))
    assert list((arguments(as_migrated(one)) or ((), {}))[1]) == ["a", "b"]
    assert list((arguments(one) or ((), {}))[1]) == ["b", "a"]
    assert as_migrated(other) is other
