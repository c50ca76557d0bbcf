"""A table of figures as data: to print, to keep as JSON, to draw and to hold against the bars."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.measuring import Ratio, short

WIDTH = 140
ABREAST = 6  # columns that fit, with spreads
TITLES = 42


@dataclass(frozen=True)
class Cell:
    """A ratio to the base, or a figure with its unit, or a reason in words why there is neither.

    Words beside a ratio say what it lacks ("wrong", "one round"). ``seconds`` keeps all rounds.
    """

    ratio: Ratio | None = None
    figure: float | None = None
    unit: str = ""
    words: str = ""
    seconds: tuple[float, ...] = ()

    @classmethod
    def compared(cls, seconds: Sequence[float], base: Sequence[float], words: str = "") -> Cell:
        """Return the ratio of seconds to those of the base, round by round."""
        return cls(ratio=Ratio.of(seconds, base), words=words, seconds=tuple(seconds))

    @classmethod
    def absolute(cls, figure: float, unit: str = "", seconds: Sequence[float] = (), words: str = "") -> Cell:
        """Return a figure that says something on this machine only, or is a number of something."""
        return cls(figure=figure, unit=unit, words=words, seconds=tuple(seconds))

    @classmethod
    def said(cls, words: str) -> Cell:
        """Return a reason why there is no figure."""
        return cls(words=words)

    @property
    def value(self) -> float | None:
        """What is drawn: the median of the ratio, or the figure."""
        return self.ratio.median if self.ratio else self.figure

    def __str__(self) -> str:
        number = str(self.ratio) if self.ratio else "" if self.figure is None else f"{short(self.figure)} {self.unit}"
        return ", ".join(part.strip() for part in (number, self.words) if part)


@dataclass(frozen=True)
class Row:
    """One line of a table; ``cells`` by the names of the columns."""

    title: str
    cells: dict[str, Cell]


@dataclass(frozen=True)
class Plot:
    """How a result is drawn.

    ``kind`` is "bars" (a group of bars per row) or "lines". A line is a column with one point per row, or, with
    ``lines_are_rows``, a row with one point per column; ``xs`` are the places of the points, in their order. ``only``
    leaves out other columns, ``rows`` other rows. ``better`` says how it is read ("higher is better"); ``level`` draws
    a line across, as 1.0 for the base.
    """

    kind: str = "bars"
    x_label: str = ""
    y_label: str = "ratio to no trigger"
    xs: tuple[float, ...] = ()
    lines_are_rows: bool = False
    log_x: bool = False
    log_y: bool = True
    better: str = "lower is better"
    level: float | None = 1.0
    only: tuple[str, ...] = ()
    rows: tuple[str, ...] = ()


@dataclass(frozen=True)
class Result:
    """A table of the benchmarks: what was measured, how often, with which versions, and how to draw it."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: list[Row]
    note: str = ""
    plot: Plot | None = None
    rounds: int = 0
    is_short: bool = False
    versions: dict[str, str] = field(default_factory=dict)

    def cell(self, row: str, column: str) -> Cell | None:
        """Return a cell by the title of its row and the name of its column."""
        return next((line.cells.get(column) for line in self.rows if line.title == row), None)


def to_json(result: Result) -> str:
    """Return a result as JSON text that ``from_json`` reads."""
    return json.dumps(asdict(result), indent=1, ensure_ascii=False) + "\n"


def from_json(text: str) -> Result:
    """Return the result that ``to_json`` has written."""
    data: dict[str, Any] = json.loads(text)
    if plot := data["plot"]:
        data["plot"] = Plot(**{**plot, **{name: tuple(plot[name]) for name in ("xs", "only", "rows")}})
    data["rows"] = [
        Row(row["title"], {name: _cell(cell) for name, cell in row["cells"].items()}) for row in data["rows"]
    ]
    return Result(**{**data, "columns": tuple(data["columns"])})


def _cell(data: dict[str, Any]) -> Cell:
    ratio = data["ratio"]
    return Cell(**{**data, "ratio": ratio and Ratio(**ratio), "seconds": tuple(data["seconds"])})


def show(console: Console, result: Result) -> None:
    """Print a result; columns that do not fit beside the others follow in a table of their own."""
    rounds = f" (median of {result.rounds} rounds, smallest – largest)" if result.rounds > 1 else ""
    console.print(f"\n[bold]{result.name}[/bold]: {escape(result.title)}{rounds}")
    for start in range(0, len(result.columns), ABREAST):
        console.print(_part(result, result.columns[start : start + ABREAST]))
    if result.note:
        console.print(escape(result.note))


def _part(result: Result, columns: Sequence[str]) -> Table:
    """Return a table of some columns, with the rows that have something in them."""
    table = Table()
    table.add_column("", max_width=TITLES)
    for name in columns:
        table.add_column(name, justify="right")
    for row in result.rows:
        cells = [row.cells.get(name) for name in columns]
        if any(cells):
            table.add_row(escape(row.title), *(escape(_lines(cell)) if cell else "–" for cell in cells))
    return table


def _lines(cell: Cell) -> str:
    """Return what a cell says, its spread and its words in lines of their own."""
    return str(cell).replace(" (", "\n(").replace(", ", "\n", 1)
