"""``uninstall``: drop triggers and functions."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from trigger_kit.commands.switching import add_switch as add_arguments
from trigger_kit.commands.switching import print_switched
from trigger_kit.maintenance.switch import uninstall

__all__ = ["HELP", "add_arguments", "run"]

HELP = "Drop triggers and functions; stored values stay as they are."


def run(command: BaseCommand, options: dict[str, Any]) -> None:
    """Run it."""
    print_switched(command, uninstall(options["uris"], using=options["database"], dry_run=options["dry_run"]), options)
