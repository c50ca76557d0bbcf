"""Draw a result as SVG: the same figures make the same file."""

from __future__ import annotations

import io
import textwrap
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

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
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555555", "#f0e442", "#8c510a", "#000000")
MARKERS = "osD^vP*Xh<"
WIDTH, HEIGHT = 9.0, 4.8
BAR_ROW = 0.12  # inches for a bar


def draw(result: Result) -> str:
    """Return the SVG of a result that says how it is drawn."""
    if result.plot is None:
        raise ValueError(f"The table {result.name} does not say how it is drawn.")
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=size_of(result, result.plot), layout="constrained")
        axes = figure.add_subplot()
        (bars if result.plot.kind == "bars" else lines)(axes, result, result.plot)
        finish(axes, result, result.plot)
        FigureCanvasSVG(figure)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return text.getvalue()


def size_of(result: Result, plot: Plot) -> tuple[float, float]:
    """Return inches: a plot of bars grows with their number."""
    if plot.kind != "bars":
        return WIDTH, HEIGHT
    number = sum(len(shown(row, result, plot)) + 1 for row in rows_of(result, plot))
    return WIDTH, max(HEIGHT / 2, 1.2 + number * BAR_ROW)


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
    """Draw a group of horizontal bars for each row, the first on top."""
    colors = dict(zip(columns_of(result, plot), COLORS, strict=False))
    at, labels, named = 0.0, [], set[str]()
    for row in (row for row in rows_of(result, plot) if shown(row, result, plot)):
        values = shown(row, result, plot)
        labels.append((at + (len(values) - 1) / 2, row.title))
        for name, value in values:
            ratio = row.cells[name].ratio
            spread: Any = [[value - ratio.low], [ratio.high - value]] if ratio else None
            label = "" if name in named else name
            axes.barh(at, value, 0.9, color=colors[name], label=label, xerr=spread, error_kw={"elinewidth": 0.7})
            named.add(name)
            at += 1
        at += 1
    axes.set_yticks([at for at, _ in labels], ["\n".join(textwrap.wrap(title, 42)) for _, title in labels])
    axes.invert_yaxis()
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
    axes.set_xticks(plot.xs, [f"{x:,.0f}" for x in plot.xs])
    axes.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
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
        shown = getattr(axes, f"{axis}axis")
        shown.set_major_locator(LogLocator(subs=(1, 2, 5)))
        shown.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
        shown.set_minor_formatter(NullFormatter())
    if plot.level is not None:
        (axes.axvline if axis == "x" else axes.axhline)(plot.level, color="#333333", linewidth=0.9, linestyle="--")


def finish(axes: Axes, result: Result, plot: Plot) -> None:
    """Write the title, which way is better, and the names."""
    title = "\n".join(textwrap.wrap(f"{result.title} ({plot.better} is better)", 100))
    axes.set_title(title, loc="left", fontsize=10)
    handles, labels = axes.get_legend_handles_labels()
    if len(labels) > 1:
        axes.figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 5), frameon=False)
