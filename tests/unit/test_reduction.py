"""Operations of rules, optimized: the state that they lead to stays what it was, wherever the history began."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from django.db import models
from django.db.migrations.operations import AddField, AlterModelOptions, CreateModel, RemoveField, RenameField, RunSQL
from django.db.migrations.operations.base import Operation
from django.db.migrations.optimizer import MigrationOptimizer
from django.db.migrations.state import ModelState, ProjectState
from django.db.models import Count, Q, Sum
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.library.models import Author, Book
from trigger_kit import Denormalize, Timing
from trigger_kit.migration.compiled import compiled
from trigger_kit.migration.operations import AddRule, AlterRule, BackfillRule, RemoveRule
from trigger_kit.migration.states import StateRule, rules_in

PUBLISHED = Q(books__published=True)
RULES = {
    "num_books": [
        Denormalize("num_books", Count("books")),
        Denormalize("num_books", Count("books", filter=PUBLISHED)),
        Denormalize("num_books", Count("books"), timing=Timing.QUEUED),
    ],
    "num_published": [
        Denormalize("num_published", Count("books", filter=PUBLISHED)),
        Denormalize("num_published", Count("books", filter=~PUBLISHED)),
    ],
    "pages_total": [
        Denormalize("pages_total", Sum("books__pages", default=0)),
        Denormalize("pages_total", Sum("books__pages", default=0, filter=PUBLISHED)),
    ],
}
# One number for each field: which of its rules it has, or that it has none.
SETS = st.tuples(*(st.integers(-1, len(rules) - 1) for rules in RULES.values()))
Rules = dict[str, Denormalize]


def chosen(numbers: tuple[int, ...]) -> Rules:
    pairs = zip(RULES.items(), numbers, strict=True)
    return {field: rules[number] for (field, rules), number in pairs if number >= 0}


def step(before: tuple[int, ...], after: tuple[int, ...], *, batched: bool) -> list[Operation]:
    """Return what makemigrations writes for one change: removals first, fills in batches last."""
    old, new = chosen(before), chosen(after)
    removals = [RemoveRule("author", field) for field in old if field not in new]
    changed = {field: rule for field, rule in new.items() if old.get(field) != rule}
    changes = [
        (AlterRule if field in old else AddRule)("author", rule, fill=not batched) for field, rule in changed.items()
    ]
    fills = [BackfillRule("author", list(changed), batched=True)] if batched and changed else []
    return [*removals, *changes, *fills]


def history(sets: list[tuple[int, ...]], *, batched: bool = False) -> list[Operation]:
    return [operation for pair in pairwise(sets) for operation in step(*pair, batched=batched)]


def state_after(operations: list[Operation]) -> ProjectState:
    state = ProjectState()
    for model in (Author, Book):
        state.add_model(ModelState.from_model(model))
    for operation in operations:
        operation.state_forwards("library", state)
    return state


def rules_after(operations: list[Operation]) -> dict[str, StateRule]:
    return {item.name: item for item in rules_in(state_after(operations).models["library", "author"])}


def optimized(operations: list[Operation]) -> list[Operation]:
    found: list[Operation] = MigrationOptimizer().optimize(operations, "library")
    return found


@given(sets=st.lists(SETS, min_size=2, max_size=5), number=st.integers(0, 3), batched=st.booleans())
@settings(max_examples=60, deadline=None)
def test_an_optimized_history_leads_to_the_same_rules(sets: list[tuple[int, ...]], number: int, batched: bool) -> None:
    start = history([(-1, -1, -1), *sets[: number + 1]])
    rest = history(sets[number:], batched=batched)
    fewer = optimized(rest)
    assert len(fewer) <= len(rest)
    rules = rules_after([*start, *fewer])
    assert rules == rules_after([*start, *rest])
    assert {name: item.rule for name, item in rules.items()} == chosen(sets[-1])
    assert all(item.is_filled for item in rules.values())


@given(sets=st.lists(SETS, max_size=4))
@settings(max_examples=40, deadline=None)
def test_rules_that_came_and_went_leave_nothing(sets: list[tuple[int, ...]]) -> None:
    nothing = (-1, -1, -1)
    assert optimized(history([nothing, *sets, nothing])) == []


def described(operations: list[Operation]) -> list[str]:
    return [operation.describe() for operation in operations]


COUNT, OTHER, QUEUED = RULES["num_books"]
ADD, ALTER = AddRule("author", COUNT), AlterRule("author", OTHER)
LATER = AddRule("author", COUNT, fill=False)
FILL = BackfillRule("author", ["num_books"])
BATCHED = BackfillRule("author", ["num_books"], batched=True)
MORE = ["num_books", "pages_total"]


def test_an_added_field_goes_before_a_rule_and_into_its_model() -> None:
    create = CreateModel("Author", [("num_books", models.IntegerField())])
    field = AddField("author", "pages_total", models.IntegerField(default=0))
    fewer = optimized([create, ADD, BATCHED, field])
    assert described(fewer) == [
        "Create model Author",
        "Add rule num_books to author",
        "Backfill num_books of author in batches",
    ]
    assert [name for name, _ in fewer[0].fields] == ["num_books", "pages_total"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "between",
    [
        RunSQL("SELECT 1"),
        RemoveField("book", "pages"),
        RenameField("book", "author", "writer"),
        # It may change default_related_name, and so the name of a path.
        AlterModelOptions("book", {"default_related_name": "works"}),
    ],
    ids=lambda operation: type(operation).__name__,
)
def test_nothing_else_passes_a_rule(between: Operation) -> None:
    for operations in ([ADD, between, ALTER], [ADD, between, BATCHED], [BATCHED, between, BATCHED]):
        assert optimized(operations) == operations


def test_an_added_rule_takes_the_rule_of_a_later_change() -> None:
    (left,) = optimized([ADD, ALTER])
    assert isinstance(left, AddRule)
    assert (left.deconstruct()[0], left.rule) == ("AddRule", OTHER)


def test_of_two_changes_the_later_one_stays() -> None:
    last = AlterRule("author", QUEUED)
    assert optimized([ALTER, last]) == [last]


def test_a_rule_that_goes_and_comes_again_is_filled_again() -> None:
    # Nobody kept the column in between: to join the two would leave it as it was.
    operations = [RemoveRule("author", "num_books"), RunSQL("SELECT 1"), ADD]
    assert optimized(operations) == operations


def test_an_elidable_operation_between_two_rules_goes() -> None:
    (left,) = optimized([ADD, RunSQL("SELECT 1", elidable=True), ALTER])
    assert left.rule == OTHER  # type: ignore[attr-defined]


@pytest.mark.parametrize("batched", [False, True])
def test_an_elidable_backfill_goes(batched: bool) -> None:
    assert optimized([ADD, BackfillRule("author", MORE, batched=batched, elidable=True)]) == [ADD]


def test_a_backfill_gives_way_to_one_of_more_fields() -> None:
    more = BackfillRule("author", MORE)
    assert optimized([FILL, more]) == [more]
    assert optimized([more, FILL]) == [more, FILL]


def test_a_rule_that_waits_for_its_batches_is_filled_at_once() -> None:
    (left,) = optimized([LATER, BATCHED])
    assert left.deconstruct() == ADD.deconstruct()


def test_a_rule_that_is_filled_at_once_needs_no_backfill() -> None:
    assert [item.deconstruct() for item in optimized([ADD, FILL])] == [ADD.deconstruct()]


def test_batches_of_several_rules_stay_for_those_that_wait() -> None:
    batched = BackfillRule("author", MORE, batched=True)
    other = AddRule("author", RULES["pages_total"][0], fill=False)
    assert optimized([LATER, other, batched]) == [LATER, other, batched]
    assert all(item.is_filled for item in rules_after([LATER, other, batched]).values())


def test_a_change_that_leaves_the_fill_to_batches_does_so_when_joined() -> None:
    change = AlterRule("author", OTHER, fill=False)
    left, fill = optimized([ADD, change, BackfillRule("author", MORE, batched=True)])
    assert (left.rule, left.fill) == (OTHER, False)  # type: ignore[attr-defined]
    assert isinstance(fill, BackfillRule)


def test_the_rules_of_two_models_pass_each_other() -> None:
    other = AddRule("publisher", Denormalize("num_authors", Count("authors")))
    assert described(optimized([ADD, other, ALTER])) == [
        "Add rule num_authors to publisher",
        "Add rule num_books to author",
    ]


def test_the_order_of_history_does_not_matter() -> None:
    operations: list[Any] = [AddRule("author", rules[0]) for rules in RULES.values()]
    one, other = (compiled(state_after(found)).targets["library", "author"] for found in (operations, operations[::-1]))
    assert {t.name: t.digest for t in one.triggers} == {t.name: t.digest for t in other.triggers}
    assert one.values == other.values
