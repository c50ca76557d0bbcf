"""Random rules out of the grammar, random writers: after every statement, each stored value equals its expression."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, ClassVar

import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.db.models import Model
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.archive.keeping import CANNOT_WAIT, Rules, assert_rules_hold, install, timed
from tests.archive.rules import BUNDLES, POOLS, Pool
from tests.property.statements import BY_NAME, SEED, Script, statements
from tests.property.tally import SEQUENCES, note
from tests.property.test_contract import EXAMPLES, RollBack, Step, relaxed
from trigger_kit import Denormalize, Timing
from trigger_kit.exceptions import RuleError
from trigger_kit.plan.plan import Plan, plan_all
from trigger_kit.sql.text import plain_name

# Overflow, circles in a tree, unique keys, a row hit twice by ON CONFLICT or MERGE, NULL, TRUNCATE while foreign keys wait for their check.
EXPECTED = {"22003", "23000", "23502", "23505", "21000", "55006", "27000"}


TIMINGS = st.sampled_from([Timing.IMMEDIATE, Timing.DEFERRED, Timing.QUEUED])


def can_be_queued(model: type[Model], column: str, expression: Any) -> bool:
    """Whether a rule is kept by deltas that may wait in a queue."""
    try:
        plan_all([(model, [Denormalize(column, expression, timing=Timing.QUEUED)])])
    except RuleError as error:
        assert error.check_id in CANNOT_WAIT, error
        return False
    return True


@st.composite
def waiting_rules(draw: Any, models: list[type[Model]]) -> Rules:
    """Rules of one model that are kept by deltas, of all timings."""
    found = {
        model: {
            column: kept
            for column, expressions in POOLS[model].items()
            if (kept := [one for one in expressions if can_be_queued(model, column, one)])
        }
        for model in models
    }
    model = draw(st.sampled_from([model for model, pool in found.items() if pool]))
    columns = draw(st.lists(st.sampled_from(list(found[model])), min_size=1, max_size=3, unique=True))
    timings = st.sampled_from([Timing.DEFERRED, Timing.QUEUED, Timing.DEFERRED, Timing.QUEUED, Timing.IMMEDIATE])
    return [(model, [Denormalize(c, draw(st.sampled_from(found[model][c])), timing=draw(timings)) for c in columns])]


@st.composite
def rule_sets(draw: Any, models: list[type[Model]]) -> Rules:
    """Some models, on each some rules for different columns."""
    chosen = draw(st.lists(st.sampled_from(models), min_size=1, max_size=3, unique=True))
    return [(model, draw(bundles_of(model) if model in BUNDLES else rules_of(POOLS[model]))) for model in chosen]


def bundles_of(model: type[Model]) -> st.SearchStrategy[list[Denormalize]]:
    """Some rules for different columns, now and then a set that means something together."""
    bundle = st.sampled_from(BUNDLES[model])
    several = rules_of(POOLS[model])
    made = st.builds(
        lambda rules, timing: [Denormalize(name, expression, timing=timing) for name, expression in rules.items()],
        bundle,
        TIMINGS,
    )
    return st.one_of(several, several, several, made)


@st.composite
def rules_of(draw: Any, pool: Pool) -> list[Denormalize]:
    columns = draw(st.lists(st.sampled_from(list(pool)), min_size=1, max_size=4, unique=True))
    timing = draw(TIMINGS)
    return [Denormalize(column, draw(st.sampled_from(pool[column])), timing=timing) for column in columns]


class Settle:
    """What may happen to waiting changes at any moment: a flush of some targets or all, an early end of deferral."""

    installed: ClassVar[list[Plan]] = []

    def __init__(self, what: str) -> None:
        self.what = what

    def __call__(self) -> None:
        with connection.cursor() as cursor:
            for plan in self.installed:
                if self.what.startswith("SET") and plan.folds(Timing.DEFERRED):
                    cursor.execute(self.what)
                if not self.what.startswith("SET") and plan.folds(Timing.QUEUED):
                    cursor.execute(f"SELECT {plain_name('tk_flush_', plan.target)}({self.what})")

    def __repr__(self) -> str:
        return f"settle({self.what!r})"


SETTLE = st.sampled_from(
    [
        "",
        "1",
        "batch => 1, skip_locked => true",
        "SET CONSTRAINTS tk_commit IMMEDIATE",
        "SET CONSTRAINTS tk_commit DEFERRED",
    ]
).map(Settle)


def run(rules: Rules, steps: list[Step | list[Step]], seed: bool) -> None:
    """Install the rules over some rows, run the steps, each in a savepoint; a list is a savepoint rolled back."""
    try:
        rules = timed(rules)
        plans = plan_all(rules)
    except RuleError as error:
        assume(error.check_id != "trigger_kit.E021")
        raise
    try:
        with transaction.atomic():
            # First here: PostgreSQL puts back what held before the savepoint's first SET CONSTRAINTS, at any depth.
            Script("SET CONSTRAINTS ALL DEFERRED")()
            SEQUENCES["all"] += 1
            Settle.installed = []
            steps_before = len(steps) // 3
            if seed:
                SEED()
            with suppress(IntegrityError), transaction.atomic():
                for step in steps[:steps_before]:
                    attempt(step if not isinstance(step, list) else step[0])
                Script("SET CONSTRAINTS ALL IMMEDIATE")()
            Script("SET CONSTRAINTS ALL DEFERRED")()
            with suppress_circles():
                install(plans)
            Settle.installed = plans
            assert_rules_hold(rules)
            for step in steps[steps_before:]:
                run_step(rules, plans, step)
            Settle("")()
            assert_nothing_pends(plans)
            assert_rules_hold(at_rest(rules))
            raise RollBack
    except RollBack:
        pass
    finally:
        # A session never forgets the plans of functions that a rollback has taken back, and looks all of them over
        # at every change of a table: each example has a session of its own.
        connection.close()


def assert_nothing_pends(plans: list[Plan]) -> None:
    """After a flush nothing is pending for any row."""
    for plan in plans:
        for fold in plan.folds(Timing.QUEUED):
            tie = " AND ".join(f'pending."{column.name}" = target."{column.name}"' for column in fold.key)
            queue = plain_name("tk_pending_", plan.target)
            with connection.cursor() as cursor:
                cursor.execute(f'SELECT count(*) FROM "{plan.target}" AS target JOIN {queue} AS pending ON {tie}')
                assert cursor.fetchone() == (0,)


def at_rest(rules: Rules) -> Rules:
    """Return the rules without their queue: what is stored is to be the true value."""
    kept = {Timing.QUEUED: Timing.IMMEDIATE}
    return [
        (model, [Denormalize(r.field, r.expression, timing=kept.get(r.timing, r.timing)) for r in declared])
        for model, declared in rules
    ]


@contextmanager
def suppress_circles() -> Iterator[None]:
    """Drop examples whose rows form a circle before the rule comes that refuses it."""
    try:
        yield
    except IntegrityError as error:
        assert "its own ancestor" in str(error), error
        raise RollBack from error


def run_step(rules: Rules, plans: list[Plan], step: Step | list[Step]) -> None:
    if not isinstance(step, list):
        attempt(step, plans)
        assert_rules_hold(rules)
        return
    try:
        with transaction.atomic():
            for one in step:
                attempt(one, plans)
                assert_rules_hold(rules)
            raise RollBack
    except RollBack:
        assert_rules_hold(rules)


def attempt(step: Callable[[], None], plans: list[Plan] | None = None) -> None:
    try:
        with transaction.atomic():
            step()
        note(plans or [], step)
    except DatabaseError as error:
        assert error.__cause__ is not None
        assert error.__cause__.sqlstate in EXPECTED, error


FAMILIES: dict[str, tuple[list[str], list[str]]] = {
    "forward and back": (["Country", "Publisher", "Work", "Review"], ["country", "publisher", "work", "review"]),
    "many to many": (
        ["Work", "Tag", "Person"],
        ["work", "tag", "person", "credit", "work_tags", "person_friends", "person_follows", "review"],
    ),
    "generic": (["Work", "Note", "Person"], ["work", "note", "person"]),
    "composite": (["Line"], ["work", "line", "remark", "publisher"]),
    "inheritance": (["Novel", "Series", "Work"], ["work", "novel", "series", "publisher", "review"]),
    "tree": (["Node"], ["node"]),
}


def scripts(names: list[str]) -> st.SearchStrategy[list[Step | list[Step]]]:
    one = statements(tuple(BY_NAME[f"archive_{name}"] for name in names))
    one = st.one_of(one, one, one, one, one, SETTLE)
    return st.lists(st.one_of(one, one, one, st.lists(one, min_size=1, max_size=3)), min_size=3, max_size=14)


@pytest.mark.parametrize("family", FAMILIES)
@settings(relaxed, max_examples=max(1, EXAMPLES // 2))
@given(data=st.data())
def test_any_rules_hold_under_any_writers(
    transactional_db: None, database_actions: None, family: str, data: st.DataObject
) -> None:
    models, tables = FAMILIES[family]
    rules = data.draw(rule_sets([model for model in POOLS if model.__name__ in models]), label="rules")
    run(rules, data.draw(scripts(tables), label="steps"), data.draw(st.booleans(), label="seed"))


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "tree"])
@settings(relaxed, max_examples=max(1, EXAMPLES // 4))
@given(data=st.data())
def test_deltas_that_wait_hold_under_any_writers(
    transactional_db: None, database_actions: None, family: str, data: st.DataObject
) -> None:
    models, _ = FAMILIES[family]
    rules = data.draw(waiting_rules([model for model in POOLS if model.__name__ in models]), label="rules")
    # Only the tables that these rules read: rows are to come before those that they point at, and to go after them.
    read = {table.removeprefix("archive_") for plan in plan_all(rules) for table in plan.tables}
    tables = sorted(table for table in read if f"archive_{table}" in BY_NAME)
    run(rules, data.draw(scripts(tables), label="steps"), data.draw(st.booleans(), label="seed"))
