"""Any statements in a pause, of one session or of all: at its end, each stored value equals its expression."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from django.core.exceptions import ValidationError
from django.db import DatabaseError, transaction
from hypothesis import given, settings
from hypothesis import strategies as st

import trigger_kit
from tests.property.test_contract import EXAMPLES, EXPECTED, RollBack, Step, relaxed
from tests.property.writers import USER_TRIGGERS, Statement, book_step, step, tree_step
from trigger_kit.maintenance.long_pauses import pause, resume
from trigger_kit.testing import assert_in_sync

Pause = Callable[[], AbstractContextManager[None]]


@contextmanager
def paused_for_all() -> Iterator[None]:
    changes = list(pause())
    yield
    changes += resume()
    assert not [change for change in changes if change.is_failure]


def run(before: list[Step], inside: list[Step], after: list[Step], pausing: Pause) -> None:
    """Run steps before, in and after a pause; the contract holds at its end and from then on."""
    try:
        with transaction.atomic():
            for item in before:
                attempt(item)
            try:
                with pausing():
                    for item in inside:
                        attempt(item)
            except DatabaseError as error:
                # A value that overflows is refused at the end only.
                assert error.__cause__ is not None
                assert error.__cause__.sqlstate == "22003", error
                raise RollBack from error
            assert_in_sync()
            for item in after:
                attempt(item)
                assert_in_sync()
            raise RollBack
    except RollBack:
        assert_in_sync()


def attempt(item: Step) -> None:
    """Run a step in a savepoint; it may fail as it does without a pause."""
    try:
        with transaction.atomic():
            item()
    except ValidationError as error:
        assert "NaN" in str(error), error
    except DatabaseError as error:
        assert error.__cause__ is not None
        assert error.__cause__.sqlstate in EXPECTED, error


def scripts(one: st.SearchStrategy[Step]) -> st.SearchStrategy[list[Step]]:
    return st.lists(one, max_size=6)


fewer = settings(relaxed, max_examples=max(1, EXAMPLES // 8))
either = st.sampled_from([trigger_kit.paused, paused_for_all])


@fewer
@given(scripts(book_step), scripts(book_step), scripts(book_step), either)
def test_books_and_authors(db: None, before: list[Step], inside: list[Step], after: list[Step], pausing: Pause) -> None:
    run(before, inside, after, pausing)


@fewer
@given(scripts(book_step), scripts(book_step), scripts(book_step), either)
def test_with_triggers_of_the_users_own(
    db: None, before: list[Step], inside: list[Step], after: list[Step], pausing: Pause
) -> None:
    run([Statement(USER_TRIGGERS), *before], inside, after, pausing)


@fewer
@given(scripts(tree_step), scripts(tree_step), scripts(tree_step), either)
def test_trees_and_chained_rules(
    db: None, before: list[Step], inside: list[Step], after: list[Step], pausing: Pause
) -> None:
    run(before, inside, after, pausing)


@fewer
@given(scripts(step), scripts(step), scripts(step), either)
def test_everything_at_once(
    db: None, before: list[Step], inside: list[Step], after: list[Step], pausing: Pause
) -> None:
    run(before, inside, after, pausing)
