"""Put what was measured into docs/performance.md: ``make bench-page``, after ``make bench``.

The page marks its tables: ``<!-- bench hops -->`` begins one, ``<!-- end -->`` ends it; ``<!-- bench hops, spread -->``
begins one with the spread of the ratios. The table ``bars`` holds the results against the bars. What has not been
measured stays as it is, plots included.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from benchmarks import bars
from benchmarks.measuring import short
from benchmarks.results import Cell, Result, from_json

DOCS = Path(__file__).parents[1] / "docs"
PAGE, PLOTS = DOCS / "performance.md", DOCS / "benchmarks"
TABLE = re.compile(r"(?P<begin><!-- bench (?P<name>\w+)(?P<spread>, spread)? -->\n).*?(?P<end><!-- end -->)", re.DOTALL)
BARS = "bars"
ABOUT = {
    "clients": ", clients held for 2 ms",
    "clients_instant": ", clients that commit at once",
    "levels": ", rows of a statement",
    "commits": ", with its commit",
}


def results_in(folder: Path) -> dict[str, Result]:
    """Return the results in a folder by the names of their tables; those of a short run do not count."""
    found = [from_json(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    return {result.name: result for result in found if not result.is_short}


def filled(page: str, results: Mapping[str, Result]) -> str:
    """Return a page with the tables of these results in the places that are marked for them."""

    def fill(found: re.Match[str]) -> str:
        name = found["name"]
        if not set(bars.tables() if name == BARS else [name]) <= set(results):
            return found[0]
        if name == BARS:
            return f"{found['begin']}{bars_table(list(results.values()))}\n{found['end']}"
        return f"{found['begin']}{table(results[name], has_spread=bool(found['spread']))}\n{found['end']}"

    return TABLE.sub(fill, page)


def table(result: Result, *, has_spread: bool = False) -> str:
    """Return a result as a Markdown table, without the columns of contenders that could not take part."""
    columns = [name for name in result.columns if any(_is_measured(row.cells.get(name)) for row in result.rows)]
    lines = [["work", *columns], ["---", *["---:"] * len(columns)]]
    lines += [[row.title, *(_text(row.cells.get(name), has_spread) for name in columns)] for row in result.rows]
    return f"{_markdown(lines)}\n\n{_made(result)}"


def bars_table(results: Sequence[Result]) -> str:
    """Return all bars with what was measured as a Markdown table."""
    lines = [["work", "bar", "seen"], ["---", "---:", "---:"]]
    for verdict in bars.check(results, bars.BARS):
        bar = verdict.bar
        against = f", against {bar.against}" if bar.against else ""
        title = f"{bar.row}: {bar.column}{ABOUT.get(bar.table, '')}{against}"
        seen = short(verdict.ratio.median) if verdict.ratio else verdict.reason
        lines.append([title, f"{'≤' if bar.is_at_most else '≥'} {short(bar.limit)}", f"{seen}{_how(verdict)}"])
    return _markdown(lines)


def _how(verdict: bars.Verdict) -> str:
    """Return what is to be said of a ratio that does not keep its limit."""
    if verdict.ratio is None or replace(verdict.bar, margin=0).holds(verdict.ratio):
        return ""
    return ", within the margin" if verdict.holds else " **missed**"


def _is_measured(cell: Cell | None) -> bool:
    return cell is not None and cell.value is not None


def _text(cell: Cell | None, has_spread: bool) -> str:
    if cell is None:
        return "–"
    if cell.ratio is None or has_spread:
        return str(cell) or "–"
    return ", ".join(filter(None, (short(cell.ratio.median), cell.words)))


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _made(result: Result) -> str:
    """Return what a result was measured with."""
    versions = ", ".join(f"{name} {version}" for name, version in result.versions.items() if name != "CPUs")
    rounds = "one round" if result.rounds == 1 else f"median of {result.rounds} rounds"
    return f"*{rounds[0].upper()}{rounds[1:]}; {versions}.*"


def main(given: Sequence[str] | None = None) -> int:
    """Fill the page from a folder of results, and take the plots along."""
    parser = argparse.ArgumentParser("python -m benchmarks.page", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="where make bench has put its JSON and SVG")
    folder = parser.parse_args(given).folder
    results = results_in(folder)
    if not results:
        parser.error(
            f"There are no results in {folder}: run make bench first (those of make bench-short do not count)."
        )
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), results), encoding="utf-8")
    for name in results:
        if (plot := folder / f"{name}.svg").exists():
            shutil.copy(plot, PLOTS)
    Console(highlight=False).print(f"{PAGE.name}: {', '.join(results)}", soft_wrap=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
