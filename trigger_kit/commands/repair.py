"""``repair``: write the true value where another one is stored."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from trigger_kit.commands.printing import JsonListing, table_text, value_text
from trigger_kit.commands.subcommand import add_json, add_rules, positive
from trigger_kit.exceptions import TriggerKitError
from trigger_kit.maintenance.comparison import Drift
from trigger_kit.maintenance.listings import read_listing
from trigger_kit.maintenance.repair import BATCH_SIZE, Change, Repair, repair
from trigger_kit.maintenance.verify import KEPT

HELP = "Write the true value where verify finds another one, while writers go on."


def add_arguments(parser: CommandParser) -> None:
    """Declare the arguments."""
    add_rules(parser)
    add_json(parser)
    parser.add_argument(
        "--from",
        dest="listing",
        metavar="FILE",
        help="Look only at the rows that verify --json has listed in a file, or on the standard input (-).",
    )
    parser.add_argument(
        "--batch-size",
        type=positive,
        default=BATCH_SIZE,
        metavar="ROWS",
        help=f"Rows per transaction; default: {BATCH_SIZE:,}.",
    )
    parser.add_argument("--dry-run", action="store_true", help="Change nothing; print what would be changed.")


def run(command: BaseCommand, options: dict[str, Any]) -> None:
    """Run it."""
    settings: dict[str, Any] = {
        "using": options["database"],
        "batch_size": options["batch_size"],
        "dry_run": options["dry_run"],
        "drifts": None if options["listing"] is None else _listing(options["listing"]),
    }
    if options["json"]:
        done = _write_json(command, options["uris"], settings)
    else:
        done = repair(options["uris"], **settings)
        _print(command, done, is_dry=options["dry_run"])
    if not done.is_complete:
        raise SystemExit(1)


def _listing(name: str) -> list[Drift]:
    if name == "-":
        return read_listing(sys.stdin)
    try:
        with Path(name).open(encoding="utf-8") as file:
            return read_listing(file)
    except OSError as error:
        raise TriggerKitError(f"The listing cannot be read: {error}") from error


def _write_json(command: BaseCommand, uris: list[str], settings: dict[str, Any]) -> Repair:
    """Write every change as it is committed, and then the sums."""
    listing = JsonListing(command.stdout, "changes")

    def write(changes: Iterable[Change]) -> None:
        for change in changes:
            listing.add({"rule": change.uri, "key": change.key, "before": change.before, "after": change.after})

    done = repair(uris, **settings, on_batch=write)
    gone = {uri: count for uri, count in done.gone.items() if count}
    sums = {"changed": dict(done.changed), "gone": gone, "left": dict(done.left), "dry_run": settings["dry_run"]}
    listing.finish(sums)
    return done


def _print(command: BaseCommand, done: Repair, *, is_dry: bool) -> None:
    verb = "would be repaired" if is_dry else "repaired"
    for uri, count in done.changed.items():
        command.stdout.write(f"{uri}: {_rows(count)} {verb}")
    if not done.changed:
        command.stdout.write("Nothing to repair: what is stored is true.")
    for uri, count in done.gone.items():
        if count:
            command.stdout.write(f"{uri}: {_rows(count)} of the listing gone")
    if done.changes:
        table = [("rule", "key", "before", "after")]
        table += [(c.uri, value_text(c.key), value_text(c.before), value_text(c.after)) for c in done.changes]
        command.stdout.write("\n" + table_text(table))
    for uri, count in done.changed.items():
        if count > KEPT:
            command.stdout.write(f"… and {count - KEPT:,} more of {uri}; --json prints all.")
    for uri, count in done.left.items():
        command.stdout.write(
            command.style.ERROR(f"{uri}: {_rows(count)} differ after they were written. Does a trigger of yours write?")
        )


def _rows(count: int) -> str:
    return f"{count:,} {'row' if count == 1 else 'rows'}"
