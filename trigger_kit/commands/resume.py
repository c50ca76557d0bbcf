"""``resume``: the end of a pause."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from trigger_kit.commands.switching import add_switch as add_arguments
from trigger_kit.commands.switching import print_switched, tell_companions
from trigger_kit.maintenance.long_pauses import resume

__all__ = ["HELP", "add_arguments", "run"]

HELP = "End a pause: repair what was touched meanwhile, and maintain again."


def run(command: BaseCommand, options: dict[str, Any]) -> None:
    """Run it."""
    tell_companions(command, options["uris"], options["database"])
    print_switched(command, resume(options["uris"], using=options["database"], dry_run=options["dry_run"]), options)
