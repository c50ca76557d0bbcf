"""A subcommand of ``manage.py trigger_kit``, and the arguments that several take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import DEFAULT_DB_ALIAS

__all__ = ["Subcommand", "add_database", "add_dry_run", "add_json", "add_rules", "add_switch", "positive"]


@dataclass(frozen=True)
class Subcommand:
    """What ``--help`` says of a subcommand, the arguments that it takes, and what it does with them."""

    help: str
    add_arguments: Callable[[CommandParser], None]
    run: Callable[[BaseCommand, dict[str, Any]], None]


def add_rules(parser: CommandParser) -> None:
    """Let a subcommand take some rules, in one of the databases."""
    parser.add_argument("uris", nargs="*", metavar="RULE", help="app, app.Model or app.Model:field; default: all.")
    add_database(parser)


def add_database(parser: CommandParser) -> None:
    """Let a subcommand work on another database than the default one."""
    parser.add_argument("--database", default=DEFAULT_DB_ALIAS, help="Alias of the database.")


def add_switch(parser: CommandParser) -> None:
    """Let a subcommand take some rules, and only say what it would do."""
    add_rules(parser)
    add_dry_run(parser)


def add_dry_run(parser: CommandParser) -> None:
    """Let a subcommand only say what it would do."""
    parser.add_argument("--dry-run", action="store_true", help="Say what would be done, and change nothing.")


def add_json(parser: CommandParser) -> None:
    """Let a subcommand print for programs."""
    parser.add_argument("--json", action="store_true", help="Print one JSON document.")


def positive(text: str) -> int:
    """Return a number of the command line that must be 1 or more."""
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number
