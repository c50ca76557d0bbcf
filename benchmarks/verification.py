"""Measure the table "verify" on so many rows as one likes: ``python -m benchmarks.verification --targets 1000000``."""

from __future__ import annotations

import argparse
import os
import sys

from rich.console import Console

from benchmarks.ground import ground
from benchmarks.results import WIDTH, show
from benchmarks.tables import Options
from benchmarks.tables.verify import SOURCES, TARGETS, measured

ROUNDS = int(os.environ.get("TRIGGER_KIT_ROUNDS", "5"))


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.verification", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--rows", type=int, default=SOURCES, help=f"source rows ({SOURCES:,})")
    parser.add_argument("--targets", type=int, default=TARGETS, help=f"targets ({TARGETS:,})")
    options = parser.parse_args()
    console = Console(width=WIDTH, highlight=False)
    with ground() as found, console.status("starting …") as status:
        asked = Options(found, short=False, rounds=ROUNDS, say=status.update)
        show(console, measured(asked, options.rows, options.targets))
    return 0


if __name__ == "__main__":
    sys.exit(main())
