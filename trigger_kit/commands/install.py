"""``install``: triggers that are missing or outdated."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from trigger_kit.commands.switching import add_switch as add_arguments
from trigger_kit.commands.switching import print_switched, tell_companions
from trigger_kit.maintenance.switch import install_rules

__all__ = ["HELP", "add_arguments", "run"]

HELP = "Install triggers that are missing or outdated, and fill their columns, while others write."


def run(command: BaseCommand, options: dict[str, Any]) -> None:
    """Run it."""
    tell_companions(command, options["uris"], options["database"])
    print_switched(
        command, install_rules(options["uris"], using=options["database"], dry_run=options["dry_run"]), options
    )
