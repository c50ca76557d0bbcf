"""``prune``: drop what no rule needs."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from trigger_kit.commands.arguments import add_database
from trigger_kit.commands.switching import add_dry_run, print_switched
from trigger_kit.maintenance.prune import prune

HELP = "Drop triggers, functions and tables of trigger_kit that no declared rule needs."


def add_arguments(parser: CommandParser) -> None:
    """Declare the arguments."""
    add_database(parser)
    add_dry_run(parser)
    parser.add_argument(
        "--yes", action="store_true", help="Drop them; without it they are listed, and the exit code is 1 if there are."
    )


def run(command: BaseCommand, options: dict[str, Any]) -> None:
    """Run it."""
    is_asking = not options["yes"] and not options["dry_run"]
    found = list(prune(using=options["database"], dry_run=is_asking or options["dry_run"]))
    if not found:
        command.stdout.write("Nothing to prune: a declared rule needs everything that is there.")
        return
    print_switched(command, found, options)
    if is_asking and any(change.symbol == "-" for change in found):
        command.stdout.write("Nothing was dropped. Run it again with --yes to drop these.")
        raise SystemExit(1)
