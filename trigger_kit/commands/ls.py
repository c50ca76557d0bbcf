"""``ls``: every rule and its state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.utils import timezone

from trigger_kit.commands.printing import NO_RULES, json_text
from trigger_kit.commands.subcommand import add_json, add_rules
from trigger_kit.database.installation import chosen_plans, require_postgresql
from trigger_kit.maintenance.blind_spots import blind_spots
from trigger_kit.maintenance.status import RuleStatus, rule_statuses
from trigger_kit.maintenance.verify import LastVerification

HELP = "List every rule and whether its triggers are installed."
STATUS_WIDTH = 11

ADVICE = {
    "missing": "Run manage.py makemigrations and manage.py migrate to install them.",
    "outdated": "Run manage.py makemigrations and manage.py migrate to install them.",
    "disabled": "Run manage.py trigger_kit enable to switch triggers on again and fill their columns.",
    "orphaned": "Run manage.py trigger_kit prune to see what no rule needs, and to drop it.",
}


def add_arguments(parser: CommandParser) -> None:
    """Declare the arguments."""
    add_rules(parser)
    add_json(parser)
    parser.add_argument("--check", action="store_true", help="Exit with 1 where anything is not installed.")


def run(command: BaseCommand, options: dict[str, Any]) -> None:
    """Run it."""
    statuses = rule_statuses(options["database"], options["uris"])
    if options["json"]:
        command.stdout.write(json_text([_as_json(status) for status in statuses]))
    else:
        _print(command, statuses)
        _print_blind_spots(command, options)
    if options["check"] and not all(status.is_kept for status in statuses):
        raise SystemExit(1)


def _print(command: BaseCommand, statuses: Sequence[RuleStatus]) -> None:
    styles = {"installed": command.style.SUCCESS, "orphaned": command.style.WARNING}
    width = max((len(item.uri) for item in statuses), default=0)
    margin = " " * (width + STATUS_WIDTH + 4)
    for item in statuses:
        status = styles.get(item.status, command.style.ERROR)(item.status.ljust(STATUS_WIDTH))
        command.stdout.write(f"{item.uri:<{width}}  {status}  {item.rule}")
        notes = [f"{state}: {name}" for name, state in item.triggers]
        notes += [item.detail] if item.detail else []
        notes += [_verified(item.verified)] if item.verified else []
        for note in notes:
            command.stdout.write(margin + note)
    if not statuses:
        command.stdout.write(NO_RULES)
    for advice in dict.fromkeys(ADVICE[item.status] for item in statuses if item.status in ADVICE):
        command.stdout.write(advice)


def _print_blind_spots(command: BaseCommand, options: dict[str, Any]) -> None:
    """Tell what triggers do not see here, or what undoes their work."""
    plans = chosen_plans(options["uris"], options["database"])
    for spot in blind_spots(require_postgresql(options["database"]), plans):
        style = command.style.ERROR if spot.is_certain else str
        command.stdout.write(style(f"{', '.join(spot.uris)}: {spot}"))


def _verified(found: LastVerification) -> str:
    """Return what the last verify found, in words."""
    at = timezone.localtime(found.at) if timezone.is_aware(found.at) else found.at
    verdict = f"{found.drifted:,} drifted" if found.drifted else "in sync"
    sample = ", a sample" if found.sample else ""
    return f"{verdict} at the last verify, {at:%Y-%m-%d %H:%M} ({found.rows:,} rows{sample})"


def _as_json(status: RuleStatus) -> dict[str, Any]:
    found = status.verified
    return {
        "rule": status.uri,
        "status": status.status,
        "declaration": status.rule,
        "triggers": dict(status.triggers),
        "detail": status.detail,
        "verified": found
        and {"at": found.at.isoformat(), "rows": found.rows, "drifted": found.drifted, "sample": found.sample},
    }
