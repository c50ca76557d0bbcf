"""Which combinations of parameters run by default: as few as show every value of every parameter.

A test with a matrix of parameters (a rule, its timing, a size) says most with one run for each value. The product of
all values is for ``--all``. A test marked with ``every_combination`` has its product by default, too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable
from typing import Any

import pytest

__all__ = ["in_turn", "repeats"]


def in_turn(values: Iterable[Any], *, of: int = 2, turn: int = 0) -> list[Any]:
    """Return all values of a parameter, each ``of``-th of which runs by default, from number ``turn`` on.

    For tests that each take a case that another one takes as well, in another way.
    """
    return [
        pytest.param(value, marks=[] if number % of == turn else pytest.mark.thorough)
        for number, value in enumerate(values)
    ]


def repeats(items: Iterable[pytest.Item]) -> set[pytest.Item]:
    """Return the items that show no value which another item of their test does not show."""
    tests: dict[tuple[str, str], list[pytest.Function]] = defaultdict(list)
    for item in items:
        if isinstance(item, pytest.Function) and hasattr(item, "callspec"):
            tests[str(item.path), item.originalname].append(item)
    return {item for found in tests.values() if _is_matrix(found[0]) for item in set(found) - _cover(found)}


def _is_matrix(item: pytest.Function) -> bool:
    return len(item.callspec.params) > 1 and item.get_closest_marker("every_combination") is None


def _cover(items: list[pytest.Function]) -> set[pytest.Function]:
    """Choose items until no value is missing, the one with the most new values next; the same ones in every run."""
    left = {item: _values(item.callspec.params) for item in sorted(items, key=lambda item: item.nodeid)}
    chosen: set[pytest.Function] = set()
    seen: set[Hashable] = set()
    while left:
        best = max(left, key=lambda item: len(left[item] - seen))
        new = left.pop(best) - seen
        if not new:
            break
        seen |= new
        chosen.add(best)
    return chosen


def _values(params: dict[str, Any]) -> set[Hashable]:
    return {(name, _identity(value)) for name, value in params.items()}


def _identity(value: Any) -> Hashable:
    """Return what tells a value from others: 1 and True are two values, and a list is itself alone."""
    try:
        hash(value)
    except TypeError:
        return id(value)
    return type(value), value
