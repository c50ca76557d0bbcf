"""Draw a result as SVG: the same figures make the same file."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from benchmarks.results import Plot, Result, Row

# Text stays text, so that the file is small and can be searched; a fixed salt makes the ids the same each time.
STYLE: Any = {
    "svg.hashsalt": "trigger_kit",
    "svg.fonttype": "none",
    "font.family": ["sans-serif"],
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
}
# Told apart without colour vision, too (Okabe and Ito), and by their markers.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555555", "#8c510a", "#000000", "#f0e442")
MARKERS = "osD^vP*Xh<"
WIDTH, HEIGHT = 9.0, 4.8
BAR, AROUND = 0.14, 1.0  # inches: a bar; title, axis and margins
CHARACTER, SAMPLE, LEGEND_ROW = 0.068, 0.55, 0.2  # inches: a character, what is beside a name, a line of the legend
WIDE, NARROW = (1, 2, 5), (1, 1.25, 1.5, 2, 2.5, 3, 4, 5, 6, 8)  # where labels stand within a power of ten


def draw(result: Result) -> str:
    """Return the SVG of a result that says how it is drawn."""
    if result.plot is None:
        raise ValueError(f"The table {result.name} does not say how it is drawn.")
    with mpl.rc_context(STYLE):
        figure = figure_of(result, result.plot)
        FigureCanvasSVG(figure)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return text.getvalue()


def figure_of(result: Result, plot: Plot) -> Figure:
    """Return what is drawn, whatever it is written as; STYLE must be in force."""
    figure = Figure(figsize=size_of(result, plot), layout="constrained")
    axes = figure.add_subplot()
    (bars if plot.kind == "bars" else lines)(axes, result, plot)
    finish(axes, result, plot)
    return figure


def size_of(result: Result, plot: Plot) -> tuple[float, float]:
    """Return inches: a plot of bars grows with their number."""
    if plot.kind != "bars":
        return WIDTH, HEIGHT
    number = sum(len(shown(row, result, plot)) + 1 for row in rows_of(result, plot))
    names = columns_of(result, plot)
    legend = math.ceil(len(names) / legend_columns(names)) * LEGEND_ROW if len(names) > 1 else 0
    return WIDTH, AROUND + number * BAR + legend


def rows_of(result: Result, plot: Plot) -> list[Row]:
    """Return the rows that are drawn."""
    return [row for row in result.rows if not plot.rows or row.title in plot.rows]


def columns_of(result: Result, plot: Plot) -> tuple[str, ...]:
    """Return the columns that are drawn."""
    return plot.only or result.columns


def shown(row: Row, result: Result, plot: Plot) -> list[tuple[str, float]]:
    """Return the columns of a row that have something to draw, with their values."""
    values = ((name, row.cells[name].value) for name in columns_of(result, plot) if name in row.cells)
    return [(name, value) for name, value in values if value is not None]


def bars(axes: Axes, result: Result, plot: Plot) -> None:
    """Draw a group of horizontal bars for each row, the first on top.

    On a logarithmic axis, which has no zero, they begin at the level that they are compared with.
    """
    start = (plot.level or 1.0) if plot.log_y else 0.0
    colors = dict(zip(columns_of(result, plot), COLORS, strict=False))
    at, labels, named = 0.0, [], set[str]()
    for row in (row for row in rows_of(result, plot) if shown(row, result, plot)):
        values = shown(row, result, plot)
        labels.append((at + (len(values) - 1) / 2, row.title))
        for name, value in values:
            ratio = row.cells[name].ratio
            spread: Any = [[value - ratio.low], [ratio.high - value]] if ratio else None
            label = "" if name in named else name
            look: Any = {"color": colors[name], "label": label, "error_kw": {"elinewidth": 0.7}}
            axes.barh(at, value - start, 0.9, left=start, xerr=spread, **look)
            named.add(name)
            at += 1
        at += 1
    axes.set_yticks([at for at, _ in labels], ["\n".join(textwrap.wrap(title, 42)) for _, title in labels])
    axes.set_ylim(at - 1, -1)
    axes.grid(visible=False, axis="y")
    scale(axes, plot, "x")
    axes.set_xlabel(plot.y_label)


def lines(axes: Axes, result: Result, plot: Plot) -> None:
    """Draw a line for each column, or for each row."""
    for number, (name, points) in enumerate(series(result, plot)):
        xs, ys = [x for x, _ in points], [y for _, y in points]
        axes.plot(xs, ys, label=name, color=COLORS[number % len(COLORS)], marker=MARKERS[number % len(MARKERS)], ms=5)
    if plot.log_x:
        axes.set_xscale("log")
    scale(axes, plot, "y")
    if not plot.log_y:
        axes.set_ylim(bottom=0)
    axes.set_xticks(plot.xs, [f"{x:,.0f}" for x in plot.xs])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(plot.x_label)
    axes.set_ylabel(plot.y_label)


def series(result: Result, plot: Plot) -> list[tuple[str, list[tuple[float, float]]]]:
    """Return the lines with their points; what has no figure is left out."""
    columns = columns_of(result, plot)
    if plot.lines_are_rows:
        found = [(row.title, [row.cells.get(name) for name in columns]) for row in rows_of(result, plot)]
    else:
        found = [(name, [row.cells.get(name) for row in rows_of(result, plot)]) for name in columns]
    lines = []
    for name, cells in found:
        points = [(x, cell.value) for x, cell in zip(plot.xs, cells, strict=True) if cell and cell.value is not None]
        if points:
            lines.append((name, [(x, y) for x, y in points if y is not None]))
    return lines


def scale(axes: Axes, plot: Plot, axis: str) -> None:
    """Set the scale of the axis of the figures, and draw the level that they are compared with."""
    if plot.log_y:
        (axes.set_xscale if axis == "x" else axes.set_yscale)("log")
        ticked = getattr(axes, f"{axis}axis")
        low, high = ticked.get_view_interval()
        ticked.set_major_locator(LogLocator(subs=WIDE if high / low > 5 else NARROW))
        ticked.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
        ticked.set_minor_locator(NullLocator())
    if plot.level is not None:
        (axes.axvline if axis == "x" else axes.axhline)(plot.level, color="#333333", linewidth=0.9, linestyle="--")


def finish(axes: Axes, result: Result, plot: Plot) -> None:
    """Write the title, which way is better, and the names."""
    figure: Any = axes.figure
    figure.suptitle("\n".join(textwrap.wrap(result.title, 110)), x=0.01, ha="left", fontsize=10.5)
    axes.set_title(plot.better, loc="left", fontsize=9, color="#555555")
    handles, labels = axes.get_legend_handles_labels()
    if len(labels) > 1:
        figure.legend(handles, labels, loc="outside lower center", ncols=legend_columns(labels), frameon=False)


def legend_columns(labels: Sequence[str]) -> int:
    """Return how many names fit beside each other, as wide as the longest."""
    fit = int(WIDTH / (SAMPLE + CHARACTER * max(map(len, labels))))
    return max(1, min(len(labels), fit))
