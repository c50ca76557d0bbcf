"""``verify``: stored against true values."""

from __future__ import annotations

import time
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from trigger_kit.commands.printing import NO_RULES, JsonListing, table_text, value_text
from trigger_kit.commands.subcommand import add_json, add_rules, positive
from trigger_kit.maintenance.comparison import Drift
from trigger_kit.maintenance.ranges import Sample
from trigger_kit.maintenance.status import paused_targets
from trigger_kit.maintenance.verify import KEPT, Progress, Verification, verify

HELP = "Compare stored with true values; change nothing; exit with 1 where they differ."
# Seconds between two changes of a terminal's line.
NOW_AND_THEN = 0.2


def add_arguments(parser: CommandParser) -> None:
    """Declare the arguments."""
    add_rules(parser)
    add_json(parser)
    parser.add_argument(
        "--sample",
        type=_sample,
        metavar="ROWS|PERCENT%",
        help="Look at rows drawn at random only: so many, or a share such as 1%%.",
    )
    parser.add_argument(
        "--batch-size",
        type=positive,
        metavar="ROWS",
        help="Rows of a target per statement; default: as many as cost little.",
    )


def run(command: BaseCommand, options: dict[str, Any]) -> None:
    """Run it."""
    settings = {"using": options["database"], "batch_size": options["batch_size"], "sample": options["sample"]}
    if options["json"]:
        found = _write_json(command, options["uris"], settings)
    else:
        line = ProgressLine(command.stdout)
        try:
            found = verify(options["uris"], **settings, on_progress=line.show)
        finally:
            line.clear()
        _print(command, found)
    for label, detail in paused_targets(options["database"], options["uris"]).items():
        command.stderr.write(f"{label} is {detail}.")
    for reason in found.unrecorded:
        command.stderr.write(f"The result could not be recorded: {reason}")
    if not found.in_sync:
        raise SystemExit(1)


class ProgressLine:
    """A line of a terminal that tells how far verify is; nothing anywhere else."""

    def __init__(self, out: Any) -> None:
        self.out = out
        self.told = 0.0

    def show(self, progress: Progress) -> None:
        """Show how far it is, if the last time is a moment ago."""
        if not self.out.isatty() or time.monotonic() - self.told < NOW_AND_THEN:
            return
        self.told = time.monotonic()
        names = progress.uris[0] + (f" and {len(progress.uris) - 1} more" if len(progress.uris) > 1 else "")
        self.clear()
        self.out.write(f"{names}: {progress.rows:,} of about {progress.of_rows:,} rows", ending="")
        self.out.flush()

    def clear(self) -> None:
        """Take the line away."""
        if self.out.isatty():
            self.out.write("\r\x1b[K", ending="")


def _sample(text: str) -> str:
    """Return what ``--sample`` says, if it says something."""
    Sample.of(text)
    return text


def _write_json(command: BaseCommand, uris: list[str], settings: dict[str, Any]) -> Verification:
    """Write every drift as it is found, and then the sums."""
    listing = JsonListing(command.stdout, "drifts")

    def write(drift: Drift) -> None:
        listing.add({"rule": drift.uri, "key": drift.key, "stored": drift.stored, "true": drift.true})

    found = verify(uris, **settings, on_drift=write)
    drifted = {uri: found.drifted[uri] for uri in found.rows}
    listing.finish({"in_sync": found.in_sync, "sample": found.sample, "rows": found.rows, "drifted": drifted})
    return found


def _print(command: BaseCommand, found: Verification) -> None:
    if not found.rows:
        command.stdout.write(NO_RULES)
        return
    width = max(map(len, found.rows))
    what = "rows drawn at random" if found.sample else "rows"
    for uri, rows in found.rows.items():
        count = found.drifted[uri]
        verdict = command.style.ERROR(f"{count} drifted") if count else command.style.SUCCESS("in sync")
        command.stdout.write(f"{uri:<{width}}  {rows:>9} {what}  {verdict}")
    if not found.drifts:
        return
    table = [("rule", "key", "stored", "true")]
    table += [
        (drift.uri, value_text(drift.key), value_text(drift.stored), value_text(drift.true)) for drift in found.drifts
    ]
    command.stdout.write("\n" + table_text(table))
    left = {uri: count - KEPT for uri, count in found.drifted.items() if count > KEPT}
    for uri, count in left.items():
        command.stdout.write(f"… and {count:,} more of {uri}; --json prints all.")
