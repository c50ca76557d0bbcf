"""``enable``: switch triggers on again."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from trigger_kit.commands.switching import add_switch, print_switched, tell_companions
from trigger_kit.maintenance.switch import enable

HELP = "Enable triggers, and fill their columns: what has changed meanwhile is not known."


def add_arguments(parser: CommandParser) -> None:
    """Declare the arguments."""
    add_switch(parser)
    parser.add_argument("--no-fill", action="store_true", help="Leave values as they are; they may be wrong.")


def run(command: BaseCommand, options: dict[str, Any]) -> None:
    """Run it."""
    tell_companions(command, options["uris"], options["database"])
    changes = enable(
        options["uris"], using=options["database"], fill=not options["no_fill"], dry_run=options["dry_run"]
    )
    print_switched(command, changes, options)
