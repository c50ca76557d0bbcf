"""``verify``: stored against true values."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from trigger_kit.commands.arguments import add_json, add_rules
from trigger_kit.commands.printing import json_text, table_text, value_text
from trigger_kit.maintenance.verification import Verification, verify

HELP = "Compare stored with true values; change nothing; exit with 1 where they differ."


def add_arguments(parser: CommandParser) -> None:
    """Declare the arguments."""
    add_rules(parser)
    add_json(parser)


def run(command: BaseCommand, options: dict[str, Any]) -> None:
    """Run it."""
    found = verify(options["uris"], using=options["database"])
    if options["json"]:
        command.stdout.write(json_text(_as_json(found)))
    else:
        _print(command, found)
    if not found.in_sync:
        raise SystemExit(1)


def _print(command: BaseCommand, found: Verification) -> None:
    drifted: dict[str, int] = dict.fromkeys(found.rows, 0)
    for drift in found.drifts:
        drifted[drift.uri] += 1
    width = max((len(uri) for uri in drifted), default=0)
    for uri, count in drifted.items():
        verdict = command.style.ERROR(f"{count} drifted") if count else command.style.SUCCESS("in sync")
        command.stdout.write(f"{uri:<{width}}  {found.rows[uri]:>9} rows  {verdict}")
    if found.drifts:
        rows = [("rule", "key", "stored", "true")]
        rows += [
            (drift.uri, value_text(drift.key), value_text(drift.stored), value_text(drift.true))
            for drift in found.drifts
        ]
        command.stdout.write("\n" + table_text(rows))


def _as_json(found: Verification) -> dict[str, Any]:
    return {
        "in_sync": found.in_sync,
        "rows": found.rows,
        "drifts": [
            {"rule": drift.uri, "key": drift.key, "stored": drift.stored, "true": drift.true} for drift in found.drifts
        ],
    }
