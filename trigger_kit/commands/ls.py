"""``ls``: every rule and its state."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from trigger_kit.commands.arguments import add_json, add_rules
from trigger_kit.commands.printing import NO_RULES, json_text
from trigger_kit.maintenance.status import rule_statuses

HELP = "List every rule and whether its triggers are installed."


def add_arguments(parser: CommandParser) -> None:
    """Declare the arguments."""
    add_rules(parser)
    add_json(parser)


def run(command: BaseCommand, options: dict[str, Any]) -> None:
    """Run it."""
    statuses = rule_statuses(options["database"], options["uris"])
    if options["json"]:
        command.stdout.write(
            json_text(
                [
                    {"rule": s.uri, "status": s.status, "declaration": s.rule, "triggers": dict(s.triggers)}
                    for s in statuses
                ]
            )
        )
        return
    styles = {"installed": command.style.SUCCESS, "orphaned": command.style.WARNING}
    width = max((len(item.uri) for item in statuses), default=0)
    for item in statuses:
        status = styles.get(item.status, command.style.ERROR)(f"{item.status:<9}")
        command.stdout.write(f"{item.uri:<{width}}  {status}  {item.rule}")
        for name, state in item.triggers:
            command.stdout.write(f"{'':<{width}}             {state}: {name}")
    if not statuses:
        command.stdout.write(NO_RULES)
    if any(item.status in {"missing", "outdated"} for item in statuses):
        command.stdout.write("Run manage.py makemigrations and manage.py migrate to install them.")
