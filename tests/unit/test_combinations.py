"""What of a matrix of parameters runs by default."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]

# A session of its own, which must not have this one's plugins: they would look for a database.
ALONE = ("-p", "no:django", "-p", "no:randomly", "-p", "no:xdist", "-q", "--collect-only")
CONFTEST = """
from tests.combinations import repeats

def pytest_configure(config):
    config.addinivalue_line("markers", "every_combination")

def pytest_collection_modifyitems(items):
    left_out = repeats(items)
    items[:] = [item for item in items if item not in left_out]
"""
MATRIX = """
import pytest

@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("kind", ["a", "b"])
def test_it(size, kind):
    pass
"""


def collected(pytester: pytest.Pytester, source: str) -> list[str]:
    pytester.makeconftest(CONFTEST)
    result = pytester.runpytest_inprocess(*ALONE, pytester.makepyfile(test_it=source))
    return [line.partition("[")[2].rstrip("]") for line in result.outlines if "::" in line]


def test_every_value_of_every_parameter_runs_in_as_few_tests_as_it_takes(pytester: pytest.Pytester) -> None:
    found = [name.split("-") for name in collected(pytester, MATRIX)]
    assert [set(values) for values in zip(*found, strict=True)] == [{"a", "b"}, {"1", "2", "3"}]
    assert len(found) == 3


def test_values_that_come_together_are_left_together(pytester: pytest.Pytester) -> None:
    source = MATRIX.replace('"size", [1, 2, 3]', '("size", "other"), [(1, 4), (1, 5), (2, 4)]')
    found = [name.split("-") for name in collected(pytester, source.replace("size,", "size, other,"))]
    assert [set(values) for values in zip(*found, strict=True)] == [{"a", "b"}, {"1", "2"}, {"4", "5"}]
    assert {tuple(values[1:]) for values in found} <= {("1", "4"), ("1", "5"), ("2", "4")}


def test_one_and_true_are_two_values_and_lists_are_each_their_own(pytester: pytest.Pytester) -> None:
    source = MATRIX.replace("[1, 2, 3]", "[1, True, [], []]")
    assert len(collected(pytester, source)) == 4


def test_a_test_may_ask_for_all(pytester: pytest.Pytester) -> None:
    assert len(collected(pytester, MATRIX.replace("def test", "@pytest.mark.every_combination\ndef test"))) == 6
