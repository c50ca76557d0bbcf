"""Ranks: how deep a target lies, whatever tables are called, and no name of a trigger follows from it."""

from __future__ import annotations

import pytest
from django.db.models import Count, Sum

from tests.archive.keeping import rules_of
from tests.archive.models import Country, Publisher
from trigger_kit.plan.plan import plan_all
from trigger_kit.plan.ranks import ranks
from trigger_kit.sql import compile_plan


@pytest.mark.parametrize(
    ("sources", "found"),
    [
        ({}, {}),
        ({"a": ["x"]}, {"a": 1}),
        ({"a": ["a"]}, {"a": 1}),
        ({"a": ["b"], "b": ["c"], "c": ["x"]}, {"a": 3, "b": 2, "c": 1}),
        ({"a": ["b", "c"], "b": ["c"], "c": []}, {"a": 3, "b": 2, "c": 1}),
        ({"a": ["b"], "b": ["a"]}, {"a": 1, "b": 1}),
        ({"a": ["b"], "b": ["c"], "c": ["a", "d"], "d": ["x"]}, {"a": 2, "b": 2, "c": 2, "d": 1}),
        ({"a": ["b"], "b": ["a", "b"], "top": ["a"], "side": ["x"]}, {"a": 1, "b": 1, "top": 2, "side": 1}),
    ],
)
def test_a_rank_is_the_depth_of_what_a_target_reads(sources: dict[str, list[str]], found: dict[str, int]) -> None:
    assert ranks(sources) == found
    assert ranks({table: read[::-1] for table, read in reversed(sources.items())}) == found


def test_no_name_changes_a_rank() -> None:
    sources = {"a": ["b"], "b": ["c"], "c": ["b", "d"], "d": ["x"]}
    for unrelated in ("0", "bb", "z"):
        assert ranks({**sources, unrelated: ["b"]}) == {**ranks(sources), unrelated: 3}
    swapped = {"a": "d", "b": "c", "c": "b", "d": "a", "x": "x"}
    renamed = ranks({swapped[table]: [swapped[name] for name in read] for table, read in sources.items()})
    assert renamed == {swapped[table]: rank for table, rank in ranks(sources).items()}


def test_names_of_triggers_do_not_depend_on_other_rules() -> None:
    rules = rules_of(Country, the_total=Sum("publishers__the_count", default=0))
    more = [*rules, *rules_of(Publisher, the_count=Count("works"))]
    alone, together = ({item.model: item for item in plan_all(found)}[Country] for found in (rules, more))
    assert (alone.rank, together.rank) == (1, 2)
    assert [t.name for t in compile_plan(alone)] == [t.name for t in compile_plan(together)]
