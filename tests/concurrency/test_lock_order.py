"""What a row that moves locks on its way, and in which order: both targets before anything follows from one of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from django.db.models import Count, Sum

from tests.archive.keeping import Rules
from tests.archive.models import Country, Publisher
from tests.concurrency.cases import Case
from tests.concurrency.ground import Ground, Kept, drift
from tests.concurrency.held import held_up, locked
from trigger_kit import Denormalize

pytestmark = pytest.mark.django_db

# Publishers whose order is not that of their countries, nor that of the numbers by which works name them.
ORDER = [1, 2, 4, 3]
SEED = """
INSERT INTO archive_country (code, name) VALUES ('a', ''), ('b', '');
INSERT INTO archive_publisher (id, number, country_id, name) VALUES
    ('00000000-0000-0000-0000-000000000001', 1, 'b', ''), ('00000000-0000-0000-0000-000000000002', 2, 'a', ''),
    ('00000000-0000-0000-0000-000000000003', 4, 'b', ''), ('00000000-0000-0000-0000-000000000004', 3, 'a', '');
INSERT INTO archive_work (id, publisher_id, title) VALUES (11, 1, ''), (12, 2, ''), (13, 3, ''), (14, 4, '')
"""
MOVES = [(1, 2), (2, 1), (3, 4), (4, 3)]


def rules() -> Rules:
    """A rule over a rule: a country is written because a publisher is."""
    total = Sum("publishers__the_count", default=0)
    return [(Publisher, [Denormalize("the_count", Count("works"))]), (Country, [Denormalize("the_total", total)])]


@pytest.fixture(scope="module")
def kept(ground: Ground) -> Iterator[Kept]:
    with ground.installed(Case("chained rules: one row moves", rules, SEED, ())) as kept:
        yield kept


@contextmanager
def moved(url: str, kept: Kept, move: tuple[int, int], held: str) -> Iterator[None]:
    """Move a work from one publisher to another while somebody has locked a row; let it go on afterwards."""
    kept.reset()
    change = f"UPDATE archive_work SET publisher_id = {move[1]} WHERE id = {10 + move[0]}"
    with (
        psycopg.connect(url, autocommit=True) as mover,
        held_up(url, lambda: mover.execute(change.encode()), held),
    ):
        yield


@pytest.mark.parametrize("move", MOVES, ids=str)
def test_both_targets_are_locked_in_the_order_of_their_primary_keys(
    kept: Kept, url: str, move: tuple[int, int]
) -> None:
    """As statements of many rows do it: not in the order of the numbers, and nothing before the second one."""
    first = min(move, key=ORDER.index)
    with moved(url, kept, move, f"archive_publisher WHERE number = {first}"):
        assert locked(url, "archive_publisher", "number") == {(first,)}
    last = max(move, key=ORDER.index)
    with moved(url, kept, move, f"archive_publisher WHERE number = {last}"):
        assert locked(url, "archive_publisher", "number") == {(first,), (last,)}
        assert not locked(url, "archive_country", "code")
    assert drift(kept.rules) == []


@pytest.mark.parametrize("move", MOVES, ids=str)
def test_upper_targets_are_locked_in_their_order_too(kept: Kept, url: str, move: tuple[int, int]) -> None:
    """One UPDATE per publisher locked the first one's country before the second one's: two moves deadlocked."""
    with moved(url, kept, move, "archive_country WHERE code = 'a'"):
        assert locked(url, "archive_country", "code") == {("a",)}
    assert drift(kept.rules) == []
