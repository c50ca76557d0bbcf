"""Whoever makes a ratio worse than its bar hears of it; noise within the margin passes."""

from __future__ import annotations

import pytest

from benchmarks.bars import BARS, Bar, check
from benchmarks.measuring import Ratio
from benchmarks.results import Cell, Result, Row

AT_MOST = Bar("writes", "insert", "ours", 1.10, "a bar", margin=0.10)
AT_LEAST = Bar("writes", "insert", "row trigger", 50, "a bar", "ours", is_at_most=False, margin=0.10)
OPTIONAL = Bar("writes", "insert", "pg_ivm", 5, "a bar", "ours", is_at_most=False, is_optional=True)


def result(ours: float, row: float = 60.0, **options: object) -> Result:
    base = (1.0, 1.0, 1.0)
    cells = {
        "ours": Cell.compared([ours] * 3, base),
        "row trigger": Cell.compared([row] * 3, base),
        "pg_ivm": Cell.said("not on this server"),
    }
    return Result("writes", "a title", tuple(cells), [Row("insert", cells)], **options)


def holds(found: Result, bar: Bar) -> bool:
    (verdict,) = check([found], [bar])
    return verdict.holds


@pytest.mark.parametrize(("ours", "expected"), [(1.0, True), (1.10, True), (1.20, True), (1.22, False), (3.0, False)])
def test_a_ratio_above_its_limit_and_the_margin_fails(ours: float, expected: bool) -> None:
    assert holds(result(ours), AT_MOST) is expected


@pytest.mark.parametrize(("row", "expected"), [(60.0, True), (50.0, True), (46.0, True), (45.0, False), (1.0, False)])
def test_a_ratio_that_does_not_reach_its_limit_fails(row: float, expected: bool) -> None:
    assert holds(result(1.0, row), AT_LEAST) is expected


def test_the_ratio_against_another_column_is_taken_round_by_round() -> None:
    cells = {"ours": Cell.compared([1.0, 2.0, 4.0], [1.0] * 3), "row trigger": Cell.compared([60.0] * 3, [1.0] * 3)}
    found = Result("writes", "a title", tuple(cells), [Row("insert", cells)])
    (verdict,) = check([found], [AT_LEAST])
    assert verdict.ratio == Ratio(30.0, 15.0, 60.0)
    assert not verdict.holds


def test_one_lucky_round_does_not_save_a_bar() -> None:
    cells = {"ours": Cell.compared([0.9, 2.0, 2.0], [1.0] * 3)}
    assert not holds(Result("writes", "a title", ("ours",), [Row("insert", cells)]), AT_MOST)


@pytest.mark.parametrize(
    ("bar", "reason"),
    [
        (Bar("writes", "insert", "nobody", 1, "a bar"), "do not hold this row and column"),
        (Bar("writes", "no row", "ours", 1, "a bar"), "do not hold this row and column"),
        (Bar("writes", "insert", "ours", 1, "a bar", "nobody"), "do not hold this row and column"),
        (Bar("no table", "insert", "ours", 1, "a bar"), "was not measured"),
        (Bar("writes", "insert", "pg_ivm", 1, "a bar"), "not on this server"),
        (Bar("writes", "insert", "pg_ivm", 1, "a bar", "ours"), "not on this server"),
    ],
)
def test_what_was_not_measured_is_no_pass(bar: Bar, reason: str) -> None:
    (verdict,) = check([result(1.0)], [bar])
    assert not verdict.holds
    assert reason in str(verdict)


def test_a_contender_that_is_not_installed_fails_no_optional_bar() -> None:
    assert holds(result(1.0), OPTIONAL)


def test_the_short_mode_passes_no_bar() -> None:
    (verdict,) = check([result(1.0, is_short=True)], [AT_MOST])
    assert not verdict.holds
    assert "in short" in str(verdict)


def test_a_verdict_says_what_was_seen_and_what_is_allowed() -> None:
    (verdict,) = check([result(1.5)], [AT_MOST])
    assert str(verdict) == "writes: insert, ours: 1.50; ≤ 1.10, with the margin ≤ 1.21 (a bar)"


def test_every_bar_is_said_once() -> None:
    assert len({(bar.table, bar.row, bar.column, bar.against) for bar in BARS}) == len(BARS)
