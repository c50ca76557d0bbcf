"""What the subcommands that change triggers share: their arguments, and the lines that say what they did."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from trigger_kit.commands.arguments import add_rules
from trigger_kit.commands.printing import NO_RULES
from trigger_kit.maintenance.switch import companions
from trigger_kit.maintenance.switched import Switched

__all__ = ["add_dry_run", "add_switch", "print_switched", "tell_companions"]


def add_switch(parser: CommandParser) -> None:
    """Let a subcommand take some rules, and only say what it would do."""
    add_rules(parser)
    add_dry_run(parser)


def add_dry_run(parser: CommandParser) -> None:
    """Let a subcommand only say what it would do."""
    parser.add_argument("--dry-run", action="store_true", help="Say what would be done, and change nothing.")


def tell_companions(command: BaseCommand, uris: Sequence[str], using: str) -> None:
    """Say which rules come along because they share their triggers with those that are named."""
    for label, others in companions(uris, using).items():
        command.stdout.write(f"All rules of {label} share their triggers: {', '.join(others)} come along.")


def print_switched(command: BaseCommand, changes: Iterable[Switched], options: dict[str, Any]) -> list[Switched]:
    """Print what is done to each target as it is done, and return it.

    Exits with 1 where something could not be done.
    """
    styles = {"+": command.style.SUCCESS, "-": command.style.WARNING, "!": command.style.ERROR}
    done = []
    for change in changes:
        done.append(change)
        style = styles.get(change.symbol, str)
        line = f"{style(change.symbol)} {change.label}  {change.text}"
        if change.is_failure:
            command.stderr.write(line, style_func=str)
        else:
            command.stdout.write(line)
        if change.advice:
            command.stdout.write(f"    {change.advice}")
        command.stdout.flush()
    if not done:
        command.stdout.write(NO_RULES if not options.get("uris") else "Nothing to do.")
    elif options["dry_run"]:
        command.stdout.write("Dry run: nothing was changed.")
    if any(change.is_failure for change in done):
        raise SystemExit(1)
    return done
