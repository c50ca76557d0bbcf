"""Measure what rules cost: ``make bench``.

Ratios in one run on one server, never absolute times: those say nothing on another machine. Each table is printed, and
written as JSON and as an SVG plot. ``--short`` takes less than three minutes for all of them and says how it works, not
how fast it is; ``--check`` measures what the bars are about and fails where one does not hold.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks import bars
from benchmarks.ground import Ground, ground, set_up_django
from benchmarks.results import WIDTH, Result, show, to_json
from benchmarks.tables import TABLES, Options, table, title_of

ROUNDS, SHORT_ROUNDS = 5, 2
FOLDER = Path(__file__).parents[1] / "build" / "bench"


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser("python -m benchmarks", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=f"all of them by default: {', '.join(TABLES)}")
    parser.add_argument("--short", action="store_true", help="fewer rows, fewer rounds, fewer contenders")
    parser.add_argument("--rounds", type=int, help=f"interleaved rounds ({ROUNDS}; {SHORT_ROUNDS} in short)")
    parser.add_argument("--out", type=Path, default=FOLDER, help="where JSON and SVG go (build/bench)")
    parser.add_argument("--check", action="store_true", help="measure what has bars, and fail where one does not hold")
    parser.add_argument("--list", action="store_true", help="list the tables")
    options = parser.parse_args(given)
    if unknown := set(options.tables) - set(TABLES):
        parser.error(f"There is no table {', '.join(sorted(unknown))}. Tables: {', '.join(TABLES)}.")
    if options.check and options.short:
        parser.error("The bars are about the full sizes: --check measures them without --short.")
    if options.check and (free := set(options.tables) - set(bars.tables())):
        parser.error(f"No bar is about the table {', '.join(sorted(free))}.")
    if options.rounds is not None and options.rounds < 1:
        parser.error("It takes one round at least.")
    return options


def rounds_of(options: argparse.Namespace) -> int:
    """Return the number of rounds that is asked for, by option, by environment or by default."""
    default = SHORT_ROUNDS if options.short else ROUNDS
    return options.rounds or int(os.environ.get("TRIGGER_KIT_ROUNDS", default))


def versions(found: Ground) -> dict[str, str]:
    """Return what was measured on."""
    import django

    import trigger_kit

    place = found.copy("versions")
    server = str(place.value("SELECT current_setting('server_version')"))
    found.clear()
    return {
        "PostgreSQL": server,
        "Python": platform.python_version(),
        "Django": django.__version__,
        "trigger_kit": trigger_kit.__version__,
        "CPUs": str(os.cpu_count()),
    }


def measure(names: Sequence[str], options: argparse.Namespace, say: Callable[[str], object]) -> list[Result]:
    """Measure the tables on one server; write each as soon as it is there."""
    results = []
    with ground() as found:
        seen = versions(found)
        for name in names:
            say(f"{name} …")
            made = table(name)(Options(found, options.short, rounds_of(options), say))
            found.clear()
            result = replace(made, is_short=options.short, versions=seen, rounds=made.rounds or rounds_of(options))
            write(result, options.out)
            results.append(result)
    return results


def write(result: Result, folder: Path) -> None:
    """Write a result as JSON, and as SVG where it says how it is drawn."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{result.name}.json").write_text(to_json(result), encoding="utf-8")
    if result.plot:
        from benchmarks.plots import draw

        (folder / f"{result.name}.svg").write_text(draw(result), encoding="utf-8")


def listed() -> Table:
    """Return the names of all tables, and what they measure."""
    grid = Table.grid(padding=(0, 2))
    for name in TABLES:
        grid.add_row(name, escape(title_of(name)))
    return grid


def main(given: Sequence[str] | None = None) -> int:
    """Measure, print, write; with ``--check`` return 1 where a bar does not hold."""
    options = arguments(given)
    console = Console(width=WIDTH, highlight=False)
    if options.list:
        set_up_django()
        console.print(listed())
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the server is stopped then, too
    names = [name for name in TABLES if name in (options.tables or (bars.tables() if options.check else TABLES))]
    with console.status("starting …") as status:
        results = measure(names, options, lambda text: status.update(escape(text)))
    for result in results:
        show(console, result)
    console.print(", ".join(f"{name} {version}" for name, version in results[0].versions.items()))
    return report(console, results, names) if options.check else 0


def report(console: Console, results: Sequence[Result], names: Sequence[str]) -> int:
    """Print how the bars of some tables are kept; return 1 where one is not."""
    chosen = [bar for bar in bars.BARS if bar.table in names]
    verdicts = bars.check(results, chosen)
    for verdict in verdicts:
        console.print(f"{'[green]holds[/green]' if verdict.holds else '[red]fails[/red]'}  {escape(str(verdict))}")
    failed = sum(not verdict.holds for verdict in verdicts)
    console.print(f"{len(verdicts) - failed} bars hold, {failed} do not.")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
