"""The contract: after every statement of every writer, each stored value equals its expression."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from django.core.exceptions import ValidationError
from django.db import DatabaseError, transaction
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.property.writers import USER_TRIGGERS, Statement, book_step, sea_step, step, tree_step
from trigger_kit.testing import assert_in_sync

EXAMPLES = int(os.environ["TRIGGER_KIT_EXAMPLES"])
# Overflow, NULL, unique keys, checks, a row hit twice by ON CONFLICT or MERGE, TRUNCATE while foreign keys wait for their check.
EXPECTED = {"22003", "23502", "23505", "23514", "21000", "55006"}
Step = Callable[[], None]


class RollBack(Exception):
    """Ends an example and takes its rows away."""


def run(steps: list[Step | list[Step]]) -> None:
    """Run the steps, each in a savepoint, and check the contract after each; a list is a savepoint rolled back."""
    try:
        with transaction.atomic():
            for item in steps:
                if isinstance(item, list):
                    try:
                        with transaction.atomic():
                            run_checked(item)
                            raise RollBack
                    except RollBack:
                        assert_in_sync()
                else:
                    run_checked([item])
            raise RollBack
    except RollBack:
        assert_in_sync()


def run_checked(steps: list[Step]) -> None:
    for item in steps:
        try:
            with transaction.atomic():
                item()
        except ValidationError as error:
            # Django's DecimalField reads NaN from the database and refuses to write it back.
            assert "NaN" in str(error), error
        except DatabaseError as error:
            assert error.__cause__ is not None
            assert error.__cause__.sqlstate in EXPECTED, error
        assert_in_sync()


relaxed = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    print_blob=True,
    phases=[Phase.generate] if os.environ.get("NOSHRINK") else settings.default.phases,
)


def scripts(one: st.SearchStrategy[Step]) -> st.SearchStrategy[list[Step | list[Step]]]:
    return st.lists(st.one_of(one, one, one, st.lists(one, min_size=1, max_size=3)), min_size=1, max_size=12)


@relaxed
@given(steps=scripts(book_step))
def test_books_and_authors(db: None, steps: list[Step | list[Step]]) -> None:
    run(steps)


@relaxed
@given(steps=scripts(book_step))
def test_books_and_authors_with_triggers_of_the_users_own(db: None, steps: list[Step | list[Step]]) -> None:
    run([Statement(USER_TRIGGERS), *steps])


@relaxed
@given(steps=scripts(tree_step))
def test_trees_and_chained_rules(db: None, steps: list[Step | list[Step]]) -> None:
    run(steps)


@relaxed
@given(steps=scripts(sea_step))
def test_two_foreign_keys_to_one_target(db: None, steps: list[Step | list[Step]]) -> None:
    run(steps)


@relaxed
@given(steps=scripts(step))
def test_everything_at_once(db: None, steps: list[Step | list[Step]]) -> None:
    run(steps)


def test_the_oracle_sees_drift(db: None, sql: Callable[..., object]) -> None:
    sql("SELECT set_config('trigger_kit.depth', '0', true)")
    sql("INSERT INTO library_author (name) VALUES ('a')")
    sql("UPDATE library_author SET num_books = 3")
    with pytest.raises(AssertionError, match="library.Author:num_books of .*: stored 3, true 0"):
        assert_in_sync()
