"""The limits that docs/concurrency.md names: writers at different isolation levels miss each other; verify finds it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from django.db.models import Count, F
from psycopg import IsolationLevel

from tests.archive.keeping import Rules
from tests.archive.models import Country, Publisher, Work
from tests.concurrency.cases import Case
from tests.concurrency.ground import Ground, Kept, drift
from tests.concurrency.schedules import Explored
from trigger_kit import Denormalize

pytestmark = pytest.mark.django_db

OLD = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT 'the snapshot is taken'"
PUBLISHERS = (
    "INSERT INTO archive_country (code, name) VALUES ('a', 'a'), ('b', 'b'); "
    "INSERT INTO archive_publisher (id, number, country_id, name) VALUES "
    "('00000000-0000-0000-0000-000000000001', 1, 'a', 'old')"
)
BOOK = "INSERT INTO archive_work (id, publisher_id, title) VALUES (11, 1, 'w')"


def case(rules: Callable[[], Rules], change: str) -> Case:
    """An old snapshot that changes a row, beside a READ COMMITTED insert."""
    return Case(change, rules, PUBLISHERS, ((OLD, f"UPDATE archive_publisher SET {change} WHERE number = 1"), (BOOK,)))


COPY = case(lambda: [(Work, [Denormalize("kept_text", F("publisher__name"))])], "name = 'new'")
PATH = case(lambda: [(Country, [Denormalize("the_count", Count("publishers__works"))])], "country_id = 'b'")
COUNT = case(lambda: [(Publisher, [Denormalize("the_count", Count("works"))])], "name = 'new'")


@pytest.fixture(scope="module")
def kept(request: pytest.FixtureRequest, ground: Ground) -> Iterator[Kept]:
    with ground.installed(request.param) as kept:
        yield kept


def drifts(kept: Kept) -> list[list[str]]:
    """Return what drifts after each schedule."""
    return [drift(kept.rules) for _ in kept.explore(IsolationLevel.READ_COMMITTED, Explored())]


@pytest.mark.parametrize("kept", [COPY], indirect=True, scope="module")
def test_a_copy_misses_the_rename_of_an_older_snapshot(kept: Kept) -> None:
    assert any("stored 'old', true 'new'" in line for lines in drifts(kept) for line in lines)


@pytest.mark.parametrize("kept", [PATH], indirect=True, scope="module")
def test_a_path_misses_the_move_of_an_older_snapshot(kept: Kept) -> None:
    assert any("archive.Country:the_count" in line for lines in drifts(kept) for line in lines)


@pytest.mark.parametrize("kept", [COUNT], indirect=True, scope="module")
def test_a_count_over_one_hop_misses_nothing(kept: Kept) -> None:
    found = drifts(kept)
    assert len(found) > 3
    assert not any(found)
