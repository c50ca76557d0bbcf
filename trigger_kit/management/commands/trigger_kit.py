"""``manage.py trigger_kit``: parse, and call the subcommand."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from trigger_kit.commands import backfill, flush, ls, plan, repair, verify
from trigger_kit.commands.subcommand import Subcommand
from trigger_kit.commands.triggers import SUBCOMMANDS
from trigger_kit.exceptions import TriggerKitError

MODULES = {"ls": ls, "plan": plan, "verify": verify, "repair": repair, "backfill": backfill, "flush": flush}
FOUND = SUBCOMMANDS | {name: Subcommand(m.HELP, m.add_arguments, m.run) for name, m in MODULES.items()}
# In the order of ``--help``.
ORDER = (
    *("ls", "plan", "sql", "verify", "repair", "backfill", "flush", "pause", "resume"),
    *("install", "uninstall", "enable", "disable", "prune"),
)
COMMANDS = {name: FOUND[name] for name in ORDER}


class Command(BaseCommand):
    """Look after the rules of a project and what a database makes of them."""

    help = (
        "Look at rules: what is installed (ls), what it does (plan, sql), whether values are right (verify). "
        "Make them right (repair, backfill). "
        "Fold what is pending for QUEUED rules (flush). Let triggers only note, and repair afterwards (pause, resume). "
        "Switch them (install, uninstall, enable, disable), and drop what no rule needs (prune)."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the subcommands."""
        commands = parser.add_subparsers(dest="command", required=True, metavar=f"{{{','.join(COMMANDS)}}}")
        for name, subcommand in COMMANDS.items():
            subcommand.add_arguments(commands.add_parser(name, help=subcommand.help, description=subcommand.help))

    def handle(self, *args: Any, **options: Any) -> None:
        """Run one subcommand; what it cannot do is an error with exit code 2."""
        try:
            COMMANDS[options["command"]].run(self, options)
        except TriggerKitError as error:
            raise CommandError(str(error), returncode=2) from error
