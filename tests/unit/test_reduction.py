"""Operations of rules, optimized: the state that they lead to stays what it was, wherever the history began."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import Any

from django.db import models
from django.db.migrations.operations import AddField, CreateModel, RemoveField, RunSQL
from django.db.migrations.operations.base import Operation
from django.db.migrations.optimizer import MigrationOptimizer
from django.db.migrations.state import ModelState, ProjectState
from django.db.models import Count, Q, Sum
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.library.models import Author, Book
from trigger_kit import Denormalize, Timing
from trigger_kit.migration.operations import AddRule, AlterRule, BackfillRule, RemoveRule, rules_in, triggers_in
from trigger_kit.plan.plan import plan
from trigger_kit.sql import CompiledTrigger, Sql, compile_plan

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


@cache
def compiled(numbers: tuple[int, ...]) -> tuple[CompiledTrigger, ...]:
    rules = list(chosen(numbers).values())
    return tuple(compile_plan(plan(Author, rules))) if rules else ()


def difference(before: tuple[int, ...], after: tuple[int, ...]) -> dict[str, Any]:
    """Return the text that leads from one set of rules to another."""
    old, new = compiled(before), compiled(after)
    names = {trigger.name for trigger in new}
    return {
        "triggers": [trigger for trigger in new if trigger not in old],
        "removed": [str(trigger.name) for trigger in old if trigger.name not in names],
    }


def step(before: tuple[int, ...], after: tuple[int, ...], *, fills: bool) -> list[Operation]:
    """Return what makemigrations writes for one change: removals first, the first of each group with the text."""
    left = tuple(old if new >= 0 else -1 for old, new in zip(before, after, strict=True))
    removals: list[Any] = [RemoveRule("author", field) for field in chosen(before) if field not in chosen(left)]
    if removals:
        vars(removals[0]).update(difference(before, left))
    changed = {field: rule for field, rule in chosen(after).items() if chosen(left).get(field) != rule}
    changes: list[Any] = [
        AlterRule("author", rule) if field in chosen(left) else AddRule("author", rule)
        for field, rule in changed.items()
    ]
    if changes:
        vars(changes[0]).update(difference(left, after))
        if fills:
            changes.append(BackfillRule("author", list(changed), Sql("UPDATE {library_author} …")))
    return [*removals, *changes]


def history(sets: list[tuple[int, ...]], *, fills: bool = False) -> list[Operation]:
    return [operation for pair in pairwise(sets) for operation in step(*pair, fills=fills)]


def state_after(operations: list[Operation]) -> tuple[Rules, set[CompiledTrigger]]:
    state = ProjectState()
    for model in (Author, Book):
        state.add_model(ModelState.from_model(model))
    state.models["library", "author"].options.pop("denormalizations", None)
    for operation in operations:
        operation.state_forwards("library", state)
    model_state = state.models["library", "author"]
    return {rule.field: rule for rule in rules_in(model_state)}, set(triggers_in(model_state))


def optimized(operations: list[Operation]) -> list[Operation]:
    found: list[Operation] = MigrationOptimizer().optimize(operations, "library")
    return found


@given(sets=st.lists(SETS, min_size=2, max_size=5), number=st.integers(0, 3), fills=st.booleans())
@settings(max_examples=60, deadline=None)
def test_an_optimized_history_leads_to_the_same_rules_and_triggers(
    sets: list[tuple[int, ...]], number: int, fills: bool
) -> None:
    start = history([(-1, -1, -1), *sets[: number + 1]])
    rest = history(sets[number:], fills=fills)
    fewer = optimized(rest)
    assert len(fewer) <= len(rest)
    rules, triggers = state_after([*start, *fewer])
    assert rules == chosen(sets[-1])
    assert triggers == set(compiled(sets[-1]))


@given(sets=st.lists(SETS, max_size=4))
@settings(max_examples=40, deadline=None)
def test_rules_that_came_and_went_leave_nothing(sets: list[tuple[int, ...]]) -> None:
    nothing = (-1, -1, -1)
    assert optimized(history([nothing, *sets, nothing])) == []


def described(operations: list[Operation]) -> list[str]:
    return [operation.describe() for operation in operations]


COUNT, OTHER, QUEUED = RULES["num_books"]
ADD, ALTER = AddRule("author", COUNT), AlterRule("author", OTHER)
FILL = BackfillRule("author", ["num_books"], Sql("UPDATE …"))
FILLED = "Backfill num_books of author"


def test_an_added_field_goes_before_a_rule_and_into_its_model() -> None:
    create = CreateModel("Author", [("num_books", models.IntegerField())])
    field = AddField("author", "pages_total", models.IntegerField(default=0))
    fewer = optimized([create, ADD, FILL, field])
    assert described(fewer) == ["Create model Author", "Add rule num_books to author", FILLED]
    assert [name for name, _ in fewer[0].fields] == ["num_books", "pages_total"]


def test_nothing_else_passes_a_rule() -> None:
    for between in (RunSQL("SELECT 1"), RemoveField("book", "pages")):
        operations = [ADD, between, ALTER]
        assert optimized(operations) == operations


def test_a_text_stays_beside_its_rule() -> None:
    (first, second), (third,) = history([(0, -1, -1), (-1, 0, -1)]), history([(-1, -1, -1), (0, -1, -1)])
    assert optimized([first, second]) == [first, second]
    assert optimized([third]) == [third]


def test_an_elidable_operation_between_two_rules_goes() -> None:
    (left,) = optimized([ADD, RunSQL("SELECT 1", elidable=True), ALTER])
    assert left.rule == OTHER  # type: ignore[attr-defined]


def test_an_elidable_backfill_goes() -> None:
    assert optimized([ADD, BackfillRule("author", ["num_books"], elidable=True)]) == [ADD]


def test_a_backfill_gives_way_to_one_of_more_fields() -> None:
    more = BackfillRule("author", ["num_books", "pages_total"], Sql("UPDATE …"))
    assert optimized([FILL, more]) == [more]
    assert optimized([more, FILL]) == [more, FILL]


def test_a_backfill_stays_where_it_needs_what_stands_beside_its_triggers() -> None:
    queued = AlterRule("author", QUEUED, triggers=list(compile_plan(plan(Author, [QUEUED]))))
    for operations in (
        [ADD, FILL, queued],
        [ADD, BackfillRule("author", ["num_books"], Sql('… {:schema}."tk_pending_author"')), ALTER],
        [ADD, BackfillRule("author", ["num_books"]), ALTER],
    ):
        assert optimized(operations) == operations


def test_the_rules_of_two_models_pass_each_other() -> None:
    other = AddRule("publisher", Denormalize("num_authors", Count("authors")))
    assert described(optimized([ADD, other, ALTER])) == [
        "Add rule num_authors to publisher",
        "Add rule num_books to author",
    ]
