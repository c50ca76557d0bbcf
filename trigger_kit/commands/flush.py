"""``flush``: fold what is pending."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from trigger_kit.commands.subcommand import add_rules, positive
from trigger_kit.maintenance.flush import BATCH_SIZE, Queue, flush, follow, pending_rows, queues

HELP = "Fold what is pending for QUEUED rules, once or for ever."


def add_arguments(parser: CommandParser) -> None:
    """Declare the arguments."""
    add_rules(parser)
    parser.add_argument("--follow", action="store_true", help="Go on: fold whatever comes until interrupted.")
    parser.add_argument(
        "--batch-size",
        type=positive,
        default=BATCH_SIZE,
        metavar="ROWS",
        help=f"Pending rows per transaction, about; default: {BATCH_SIZE:,}.",
    )
    parser.add_argument(
        "--interval",
        type=positive,
        default=60,
        metavar="SECONDS",
        help="With --follow: look at least this often, whoever notifies; default: 60.",
    )


def run(command: BaseCommand, options: dict[str, Any]) -> None:
    """Run it."""
    found = queues(options["uris"], using=options["database"])
    if not found:
        command.stdout.write("None of these rules is QUEUED: nothing can be pending.")
        return
    report = FlushReport(command.stdout)
    settings = {"using": options["database"], "batch_size": options["batch_size"], "on_batch": report.add}
    if not options["follow"]:
        flush(options["uris"], **settings)
        report.finish(found)
        for queue in found:
            if left := pending_rows(queue, using=options["database"]):
                command.stdout.write(f"{queue.label}: {_counted(left)} left, of targets that do not exist or newer")
        return
    try:
        with interruptible():
            command.stdout.write(f"Following {', '.join(queue.label for queue in found)}. Interrupt to stop.")
            follow(options["uris"], **settings, interval=options["interval"], on_loss=report.lose)
    except KeyboardInterrupt:
        report.finish(found)


@contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGINT and SIGTERM interrupt what runs: a job in the background, or under nohup, inherits them ignored."""
    before = [(number, signal.signal(number, signal.default_int_handler)) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)


class FlushReport:
    """Tells what a flush does: one line that changes on a terminal, at most one line a second elsewhere."""

    def __init__(self, out: Any) -> None:
        self.out = out
        self.rows: Counter[str] = Counter()
        self.told = time.monotonic()

    def add(self, queue: Queue, rows: int) -> None:
        """Take note of a batch."""
        self.rows[queue.label] += rows
        if time.monotonic() - self.told >= 1:
            self.told = time.monotonic()
            self._begin_line()
            self.out.write(f"{self._line(queue.label)} so far", ending="" if self.out.isatty() else "\n")
            self.out.flush()

    def lose(self, error: Exception) -> None:
        """Say that something has come in between."""
        self._begin_line()
        self.out.write(f"Interrupted, trying again: {str(error).strip()}")
        self.out.flush()

    def finish(self, queues: Sequence[Queue]) -> None:
        """Say what was done in all."""
        self._begin_line()
        for queue in queues:
            self.out.write(self._line(queue.label))

    def _begin_line(self) -> None:
        """Take away the line of a terminal that changes."""
        if self.out.isatty():
            self.out.write("\r\x1b[K", ending="")

    def _line(self, label: str) -> str:
        return f"{label}: {_counted(self.rows[label])} folded"


def _counted(count: int) -> str:
    return f"{count:,} pending {'row' if count == 1 else 'rows'}"
