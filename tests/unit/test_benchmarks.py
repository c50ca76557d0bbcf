"""What the benchmarks make of their times: ratios, JSON, plots; and that bars name rows that there are."""

from __future__ import annotations

import importlib
import pkgutil
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import matplotlib as mpl
import pytest
from rich.console import Console

from benchmarks import tables
from benchmarks.__main__ import arguments, report
from benchmarks.bars import BARS, Bar
from benchmarks.contenders import BASE, CONTENDERS
from benchmarks.measuring import Ratio, Work, interleaved, short, timed
from benchmarks.page import PAGE as DOCUMENT
from benchmarks.page import TABLE, bars_table, filled, results_in
from benchmarks.plots import STYLE, draw, figure_of, legend_columns
from benchmarks.results import Cell, Plot, Result, Row, from_json, show, to_json
from benchmarks.tables import (
    TABLES,
    clients,
    clients_instant,
    commits,
    crowd,
    fill,
    forum,
    groups,
    levels,
    table,
    title_of,
    verify,
    writes,
)

ROWS = [
    Row("insert", {"base": Cell.absolute(12.5, "ms", [0.0125]), "ours": Cell.compared([1.1, 1.3, 1.2], [1.0] * 3)}),
    Row("delete", {"base": Cell.absolute(3.0, "ms"), "ours": Cell.compared([3.0], [1.0], "one round")}),
    Row("update", {"ours": Cell.said("sees no SQL")}),
]
BARS_PLOT = Plot(only=("ours",), rows=("insert", "delete"))
LINES_PLOT = Plot(kind="lines", x_label="rows", xs=(1.0, 10.0, 100.0), log_x=True)
RESULT = Result("writes", "a title", ("base", "ours"), ROWS, "a note", BARS_PLOT, 3, True, {"PostgreSQL": "18.0"})


# Ratios --------------------------------------------------------------------------------------------------------------


def test_a_ratio_is_the_median_of_the_rounds_ratios() -> None:
    assert Ratio.of([2.0, 9.0, 4.0], [1.0, 3.0, 1.0]) == Ratio(3.0, 2.0, 4.0)


def test_a_round_that_only_one_has_taken_part_in_does_not_count() -> None:
    assert Ratio.of([6.0], [2.0, 100.0]) == Ratio(3.0, 3.0, 3.0)


@pytest.mark.parametrize(
    ("number", "expected"), [(0.456, "0.46"), (1.0, "1.00"), (12.34, "12.3"), (123.4, "123"), (12345.0, "12,345")]
)
def test_figures_have_the_digits_that_matter(number: float, expected: str) -> None:
    assert short(number) == expected


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        (Cell.compared([1.1, 1.3, 1.2], [1.0] * 3), "1.20 (1.10 – 1.30)"),  # noqa: RUF001
        (Cell.compared([58.5], [1.0], "one round"), "58.5, one round"),
        (Cell.absolute(12.5, "ms"), "12.5 ms"),
        (Cell.said("sees no SQL"), "sees no SQL"),
    ],
)
def test_a_cell_says_its_ratio_or_its_figure_or_why_there_is_none(cell: Cell, expected: str) -> None:
    assert str(cell) == expected


def test_timed_returns_seconds() -> None:
    assert 0 <= timed(lambda: None) < 60


class Recorder:
    """A place that remembers what ran there."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.log = name, log

    def run(self, statement: str) -> None:
        self.log.append(f"{self.name}: {statement}")


def test_places_take_turns_each_round_with_another_first() -> None:
    log: list[str] = []
    places = {name: Recorder(name, log) for name in ("a", "b", "c")}
    seconds = interleaved(places, Work("work", "", "go"), 3, limits={"c": 1})  # type: ignore[arg-type]
    assert log == ["a: go", "b: go", "c: go", "b: go", "a: go", "a: go", "b: go"]
    assert {name: len(found) for name, found in seconds.items()} == {"a": 3, "b": 3, "c": 1}


def test_what_is_before_and_after_the_work_runs_in_order() -> None:
    log: list[str] = []
    interleaved({"a": Recorder("a", log)}, Work("work", "before", "go", after="after"), 1)  # type: ignore[dict-item]
    assert log == ["a: before", "a: go", "a: after"]


# Results -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("plot", [BARS_PLOT, LINES_PLOT, None])
def test_json_keeps_everything(plot: Plot | None) -> None:
    result = replace(RESULT, plot=plot)
    assert from_json(to_json(result)) == result


def test_a_table_shows_every_row_and_what_does_not_fit_below() -> None:
    console = Console(width=140, record=True, highlight=False)
    columns = tuple(f"column {number}" for number in range(8))
    rows = [Row("a row", {name: Cell.compared([1.0, 2.0], [1.0, 1.0]) for name in columns})]
    with console.capture() as printed:
        show(console, Result("writes", "a title", columns, rows, "a [note]"))
    assert all(text in printed.get() for text in (*columns, "a row", "1.50", "(1.00 – 2.00)", "a [note]"))  # noqa: RUF001


# Plots ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("plot", [BARS_PLOT, LINES_PLOT, replace(LINES_PLOT, lines_are_rows=True, xs=(1.0, 10.0))])
def test_a_plot_is_svg_that_says_what_it_shows(plot: Plot) -> None:
    text = draw(replace(RESULT, plot=plot))
    assert ET.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"
    assert all(words in text for words in ("a title", "lower is better", plot.y_label))


@pytest.mark.parametrize("plot", [BARS_PLOT, LINES_PLOT])
def test_the_same_figures_make_the_same_plot(plot: Plot) -> None:
    result = replace(RESULT, plot=plot)
    assert draw(result) == draw(from_json(to_json(result)))


def test_bars_on_a_logarithmic_axis_begin_at_the_level_they_are_compared_with() -> None:
    with mpl.rc_context(STYLE):
        axes = figure_of(RESULT, BARS_PLOT).axes[0]
    assert [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in axes.patches] == [(1.0, 1.2), (1.0, 3.0)]


@pytest.mark.parametrize(("longest", "expected"), [(5, 6), (17, 5), (40, 2), (200, 1)])
def test_the_legend_has_as_many_columns_as_its_longest_name_leaves_room_for(longest: int, expected: int) -> None:
    assert legend_columns(["short"] * 5 + ["x" * longest]) == expected


def test_what_has_no_plot_cannot_be_drawn() -> None:
    with pytest.raises(ValueError, match="does not say how it is drawn"):
        draw(replace(RESULT, plot=None))


# Tables and bars -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TABLES)
def test_every_table_has_a_title_and_a_function(name: str) -> None:
    assert title_of(name).endswith(".")
    assert callable(table(name))


def test_no_table_is_forgotten() -> None:
    modules = [found.name for found in pkgutil.iter_modules(tables.__path__)]
    measuring = {name for name in modules if hasattr(importlib.import_module(f"{tables.__name__}.{name}"), "measure")}
    assert measuring == set(TABLES)


def rows_of(name: str) -> dict[str, set[str]]:
    """Return the rows that a table has in full, each with its columns."""
    crowds = {"clients": clients.CASES, "clients_instant": clients_instant.CASES}
    if name in crowds:
        found = {case.of(contender.name): case for case in crowds[name] for contender in crowd.CONTENDERS}
        return {title: set(map(str, case.clients)) for title, case in found.items()}
    titles, columns = {
        "writes": (writes.titles(short=False), {BASE, *(contender.name for contender in CONTENDERS)}),
        "groups": ([case.title for case in groups.cases()], {f"{size:,}" for size in groups.SIZES}),
        "verify": ([case.title for case in verify.CASES], {verify.OURS}),
        "fill": ([fill.row_title(fill.BOOKS)], {fill.BATCHES}),
        "levels": (
            map(str, levels.SIZES),
            {levels.column_of(one.name, kind) for one in levels.KEEPERS for kind in levels.KINDS},
        ),
        "commits": ([job.title for job in commits.jobs(1)], {one.name for one in commits.CONTENDERS}),
        "forum": (forum.TITLES, set(forum.COLUMNS)),
    }[name]
    return dict.fromkeys(titles, columns)


@pytest.mark.parametrize("bar", BARS, ids=lambda bar: f"{bar.table}-{bar.row}-{bar.column}")
def test_a_bar_names_a_row_and_columns_that_there_are(bar: Bar) -> None:
    rows = rows_of(bar.table)
    assert bar.row in rows
    assert {bar.column, bar.against} - {""} <= rows[bar.row]


@pytest.mark.parametrize("module", [clients, clients_instant])
def test_the_plot_of_clients_has_lines_that_are_more_than_a_point(module: ModuleType) -> None:
    lines = crowd.drawn(module.CASES)
    columns = [rows_of(module.__name__.rpartition(".")[2])[title] for title in lines]
    assert len(lines) == 2 * (len(crowd.CONTENDERS) - 1)
    assert all(len(found) > 1 for found in columns)


def test_the_rows_of_a_table_have_different_titles() -> None:
    for is_short in (True, False):
        titles = writes.titles(short=is_short)
        assert len(set(titles)) == len(titles)


# The command line ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["nothing"], "There is no table nothing"),
        (["--check", "--short"], "full sizes"),
        (["--check", "sizes"], "No bar is about the table sizes"),
        (["--rounds", "0"], "one round at least"),
    ],
)
def test_the_command_line_refuses_what_makes_no_sense(
    given: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        arguments(given)
    assert message in capsys.readouterr().err


def test_a_check_returns_1_where_a_bar_does_not_hold(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(width=140, highlight=False)
    title = fill.row_title(fill.BOOKS)
    results = {
        ours: Result("fill", "a title", (), [Row(title, {fill.BATCHES: Cell.compared([ours], [1.0])})])
        for ours in (1.5, 9.0)
    }
    assert report(console, [results[1.5]], ["fill"]) == 0
    assert "1 bars hold, 0 do not" in capsys.readouterr().out
    assert report(console, [results[9.0]], ["fill"]) == 1
    assert report(console, [], ["fill"]) == 1


# The page ------------------------------------------------------------------------------------------------------------

PAGE = """Before.
<!-- bench writes -->
old
<!-- end -->
<!-- bench writes, spread -->
<!-- end -->
<!-- bench hops -->
kept
<!-- end -->
After."""


def test_tables_come_to_the_places_that_the_page_has_for_them() -> None:
    page = filled(PAGE, {"writes": replace(RESULT, columns=("base", "ours", "absent"), is_short=False)})
    assert page.splitlines() == [
        "Before.",
        "<!-- bench writes -->",
        "| work | base | ours |",
        "| --- | ---: | ---: |",
        "| insert | 12.5 ms | 1.20 |",
        "| delete | 3.00 ms | 3.00, one round |",
        "| update | – | sees no SQL |",  # noqa: RUF001
        "",
        "*Median of 3 rounds; PostgreSQL 18.0.*",
        "<!-- end -->",
        "<!-- bench writes, spread -->",
        "| work | base | ours |",
        "| --- | ---: | ---: |",
        "| insert | 12.5 ms | 1.20 (1.10 – 1.30) |",  # noqa: RUF001
        "| delete | 3.00 ms | 3.00, one round |",
        "| update | – | sees no SQL |",  # noqa: RUF001
        "",
        "*Median of 3 rounds; PostgreSQL 18.0.*",
        "<!-- end -->",
        "<!-- bench hops -->",
        "kept",
        "<!-- end -->",
        "After.",
    ]


@pytest.mark.parametrize(("times", "words"), [(9.0, " **missed**"), (1.01, ", within the margin"), (0.99, "")])
def test_a_bar_that_is_missed_says_so_on_the_page(times: float, words: str) -> None:
    (bar, *_) = [bar for bar in BARS if bar.table == "groups"]
    cells = {bar.column: Cell.compared([times * bar.limit], [1.0])}
    lines = bars_table([Result("groups", "", (bar.column,), [Row(bar.row, cells)])]).splitlines()
    assert f"| {bar.row}: {bar.column} | ≤ {short(bar.limit)} | {short(times * bar.limit)}{words} |" in lines
    assert len(lines) == 2 + len(BARS)


def test_bars_that_were_not_all_measured_stay_as_they_are() -> None:
    page = "<!-- bench bars -->\nkept\n<!-- end -->"
    assert filled(page, {"writes": RESULT}) == page


def test_results_of_a_short_run_do_not_count(tmp_path: Path) -> None:
    (tmp_path / "writes.json").write_text(to_json(RESULT), encoding="utf-8")
    (tmp_path / "hops.json").write_text(to_json(replace(RESULT, name="hops", is_short=False)), encoding="utf-8")
    assert list(results_in(tmp_path)) == ["hops"]


def test_every_table_of_the_page_is_one_of_the_benchmarks() -> None:
    names = [found["name"] for found in TABLE.finditer(DOCUMENT.read_text(encoding="utf-8"))]
    assert len(names) == len(set(names)) > 10
    assert set(names) <= {*TABLES, "bars"}
    assert DOCUMENT.read_text(encoding="utf-8").count("<!-- bench ") == len(names)
