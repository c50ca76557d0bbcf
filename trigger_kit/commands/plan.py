"""``plan``: rules in words."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from trigger_kit.commands.arguments import add_rules as add_arguments
from trigger_kit.commands.printing import NO_RULES
from trigger_kit.explanation import explain
from trigger_kit.installation import chosen_plans, live_plans

__all__ = ["HELP", "add_arguments", "run"]

HELP = "Explain what reacts to what, at which cost and under which locks."


def run(command: BaseCommand, options: dict[str, Any]) -> None:
    """Run it."""
    plans = live_plans(options["database"])
    shown = [explain(plan, plans) for plan in chosen_plans(options["uris"], options["database"])]
    command.stdout.write("\n\n".join(shown) or NO_RULES)
