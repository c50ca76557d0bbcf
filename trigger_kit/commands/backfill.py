"""``backfill``: fill the rows that exist already."""

from __future__ import annotations

from typing import Any, cast

from django.core.management.base import BaseCommand, CommandError, CommandParser

from trigger_kit.commands.printing import NO_RULES
from trigger_kit.commands.subcommand import add_rules, positive
from trigger_kit.database.batches import Progress
from trigger_kit.database.progress import ProgressReport, counted
from trigger_kit.maintenance.backfill import Forecast, backfill

HELP = "Fill the columns of rules for the rows that exist already, in batches, while writers go on."


def add_arguments(parser: CommandParser) -> None:
    """Declare the arguments."""
    add_rules(parser)
    parser.add_argument(
        "--batch-size",
        type=positive,
        metavar="ROWS",
        help="Rows per transaction; default: as many as can be written in a moment.",
    )
    parser.add_argument("--rate", type=positive, metavar="ROWS_PER_SECOND", help="Go no faster than this.")
    parser.add_argument("--dry-run", action="store_true", help="Only say what would be done.")
    parser.add_argument("--restart", action="store_true", help="Start anew where an earlier run was interrupted.")


def run(command: BaseCommand, options: dict[str, Any]) -> None:
    """Run it."""
    what = {"using": options["database"], "restart": options["restart"]}
    if options["dry_run"]:
        found = backfill(options["uris"], dry_run=True, **what)
        for item in found:
            command.stdout.write(_would(cast("Forecast", item)))
        if not found:
            command.stdout.write(NO_RULES)
        return
    report = ProgressReport(command.stdout)
    try:
        done = backfill(
            options["uris"], **what, batch_size=options["batch_size"], rate=options["rate"], on_batch=report.add
        )
    except KeyboardInterrupt as interrupt:
        report.clear()
        raise CommandError("Interrupted. The same command goes on where this one has stopped.") from interrupt
    for progress in done:
        report.finish(cast("Progress", progress))
    if not done:
        command.stdout.write(NO_RULES)


def _would(item: Forecast) -> str:
    """Say what a backfill would do."""
    begun = f", {item.total - item.rows:,} of them filled already" if item.rows < item.total else ""
    kept = ", ".join(item.fields)
    return (
        f"{item.label} ({kept}): about {counted(item.total)}{begun}. {item.differing:,} of {item.sampled:,} "
        f"drawn at random differ, so that about {counted(item.changes)} would be changed."
    )
