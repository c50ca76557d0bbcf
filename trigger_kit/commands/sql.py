"""``sql``: the installation as a script."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from trigger_kit.commands.arguments import add_rules as add_arguments
from trigger_kit.database.installation import script

__all__ = ["HELP", "add_arguments", "run"]

HELP = "Print the installation as a script for psql."


def run(command: BaseCommand, options: dict[str, Any]) -> None:
    """Run it."""
    command.stdout.write(script(options["database"], options["uris"]))
