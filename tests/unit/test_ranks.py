"""Ranks: how deep a target lies, whatever tables are called; turns: in which order the steps of one table follow it."""

from __future__ import annotations

import pytest
from django.db.models import Count, F, Sum

from tests.archive.keeping import rules_of
from tests.archive.models import Country, Publisher, Review, Work
from trigger_kit import First
from trigger_kit.plan.plan import plan_all
from trigger_kit.plan.ranks import ranks, turns
from trigger_kit.plan.row_locks import Strength
from trigger_kit.sql.compilation import compile_plan


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


@pytest.mark.parametrize(
    ("sources", "found"),
    [
        ({}, {}),
        # A chain: each reads its own table, and all read the last one.
        ({"a": ["b"], "b": ["c"]}, {"a": {"b": 0}, "b": {"c": 0}}),
        (
            {"a": ["a", "b", "c"], "b": ["b", "c"]},
            {"a": {"a": 0, "b": 1, "c": 1}, "b": {"b": 0, "c": 0}},
        ),
        # Read over a table in between, which reads nothing of the last one itself.
        ({"a": ["x", "b"], "b": ["c"], "c": ["x"]}, {"a": {"x": 1, "b": 0}, "b": {"c": 0}, "c": {"x": 0}}),
        ({"a": ["b", "x"], "b": ["c", "x"], "c": ["x"]}, {"a": {"b": 0, "x": 2}, "b": {"c": 0, "x": 1}, "c": {"x": 0}}),
        # Who read each other have no order.
        ({"a": ["b", "x"], "b": ["a", "x"]}, {"a": {"b": 0, "x": 0}, "b": {"a": 0, "x": 0}}),
    ],
)
def test_a_turn_comes_after_those_of_the_targets_that_are_read(
    sources: dict[str, list[str]], found: dict[str, dict[str, int]]
) -> None:
    assert turns(sources) == found
    assert turns({table: read[::-1] for table, read in reversed(sources.items())}) == found


def test_names_of_triggers_do_not_depend_on_ranks() -> None:
    rules = rules_of(Country, the_total=Sum("publishers__the_count", default=0))
    more = [*rules, *rules_of(Publisher, the_count=Count("works"))]
    alone, together = ({item.model: item for item in plan_all(found)}[Country] for found in (rules, more))
    assert (alone.rank, together.rank) == (1, 2)
    assert [t.name for t in compile_plan(alone)] == [t.name for t in compile_plan(together)]


def test_triggers_of_one_event_sort_by_their_turns() -> None:
    plans = plan_all(
        [
            *rules_of(Review, kept_text=F("work__publisher__name"), kept_number=F("work__pages")),
            *rules_of(Work, kept_text=F("publisher__name")),
        ]
    )
    named = {name: plan.model for plan in plans for name in (trigger.name for trigger in compile_plan(plan))}
    updates = sorted(name for name in named if "_from_archive_publisher_update" in name)
    assert [named[name] for name in updates] == [Work, Review]
    assert updates[1].startswith("tk_~archive_review_from_")


def test_one_event_locks_the_rows_of_a_table_at_one_strength() -> None:
    """A shared lock for one target, then one for itself alone for another: two single inserts would deadlock."""
    plans = plan_all(
        [
            *rules_of(Publisher, kept_text=First("works__reviews__author__name", order_by="-works__reviews__id")),
            *rules_of(Work, the_count=Count("editor__reviews")),
        ]
    )
    strengths = {
        lock.strength
        for plan in plans
        for step in plan.steps
        for feed in step.edge.feeds_of(step.event)
        for lock in plan.path_locks(feed.path, feed.kept_columns)
        if (step.edge.source, lock.table) == ("archive_review", "archive_person")
    }
    assert strengths == {Strength.NO_KEY_UPDATE}
