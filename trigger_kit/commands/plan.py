"""``plan``: rules in words."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from trigger_kit.commands.printing import NO_RULES
from trigger_kit.commands.subcommand import add_rules
from trigger_kit.database.indexes import installed_indexes, update_counts
from trigger_kit.database.installation import chosen_plans, require_postgresql
from trigger_kit.maintenance.explain import explain
from trigger_kit.plan.live import live_plans
from trigger_kit.plan.plan import Plan

__all__ = ["HELP", "add_arguments", "run"]

HELP = "Explain what reacts to what, at which cost, under which locks and with which indexes."


def add_arguments(parser: CommandParser) -> None:
    """Declare the arguments."""
    add_rules(parser)
    parser.add_argument(
        "--inspect",
        action="store_true",
        help="Ask the database for its indexes and for the updates that it has seen; otherwise the models say it all.",
    )


def run(command: BaseCommand, options: dict[str, Any]) -> None:
    """Run it."""
    plans = live_plans(options["database"])
    chosen = chosen_plans(options["uris"], options["database"])
    shown = [
        _inspected(plan, plans, options["database"]) if options["inspect"] else explain(plan, plans) for plan in chosen
    ]
    command.stdout.write("\n\n".join(shown) or NO_RULES)


def _inspected(plan: Plan, plans: list[Plan], using: str) -> str:
    """Explain a plan with what a database has."""
    connection = require_postgresql(using)
    return explain(plan, plans, partial(installed_indexes, connection), update_counts(connection, plan.model))
