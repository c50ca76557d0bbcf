"""Arguments that subcommands share."""

from __future__ import annotations

from django.core.management.base import CommandParser
from django.db import DEFAULT_DB_ALIAS

__all__ = ["add_database", "add_json", "add_rules", "positive"]


def add_rules(parser: CommandParser) -> None:
    """Let a subcommand take some rules, in one of the databases."""
    parser.add_argument("uris", nargs="*", metavar="RULE", help="app, app.Model or app.Model:field; default: all.")
    add_database(parser)


def add_database(parser: CommandParser) -> None:
    """Let a subcommand work on another database than the default one."""
    parser.add_argument("--database", default=DEFAULT_DB_ALIAS, help="Alias of the database.")


def add_json(parser: CommandParser) -> None:
    """Let a subcommand print for programs."""
    parser.add_argument("--json", action="store_true", help="Print one JSON document.")


def positive(text: str) -> int:
    """Return a number of the command line that must be 1 or more."""
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number
