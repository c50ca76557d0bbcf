"""``manage.py trigger_kit``: parse, call, print."""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DEFAULT_DB_ALIAS

from trigger_kit.exceptions import TriggerKitError
from trigger_kit.explanation import explain
from trigger_kit.flushing import BATCH_SIZE, Queue, flush, follow, pending_rows, queues
from trigger_kit.installation import chosen_plans, live_plans, script
from trigger_kit.maintenance import Verification, rule_statuses, verify


class Command(BaseCommand):
    """Look at the rules of a project and at what a database makes of them."""

    help = (
        "Look at rules: what is installed (ls), what it does (plan, sql), whether values are right (verify). "
        "Fold what is pending for QUEUED rules (flush)."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the subcommands."""
        commands = parser.add_subparsers(dest="command", required=True, metavar="{ls,plan,sql,verify,flush}")
        ls = commands.add_parser("ls", help="List every rule and whether its triggers are installed.")
        plan = commands.add_parser("plan", help="Explain what reacts to what, at which cost and under which locks.")
        sql = commands.add_parser("sql", help="Print the installation as a script for psql.")
        verify_ = commands.add_parser(
            "verify", help="Compare stored with true values; change nothing; exit with 1 where they differ."
        )
        flush_ = commands.add_parser("flush", help="Fold what is pending for QUEUED rules, once or for ever.")
        flush_.add_argument("--follow", action="store_true", help="Go on: fold whatever comes until interrupted.")
        flush_.add_argument(
            "--batch-size",
            type=positive,
            default=BATCH_SIZE,
            metavar="ROWS",
            help=f"Pending rows per transaction, about; default: {BATCH_SIZE:,}.",
        )
        flush_.add_argument(
            "--interval",
            type=positive,
            default=60,
            metavar="SECONDS",
            help="With --follow: look at least this often, whoever notifies; default: 60.",
        )
        for command in (ls, plan, sql, verify_, flush_):
            command.add_argument(
                "uris", nargs="*", metavar="RULE", help="app, app.Model or app.Model:field; default: all."
            )
            command.add_argument("--database", default=DEFAULT_DB_ALIAS, help="Alias of the database.")
        for command in (ls, verify_):
            command.add_argument("--json", action="store_true", help="Print one JSON document.")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run one subcommand."""
        try:
            getattr(self, f"_{options['command']}")(options)
        except TriggerKitError as error:
            raise CommandError(str(error), returncode=2) from error

    def _ls(self, options: dict[str, Any]) -> None:
        statuses = rule_statuses(options["database"], options["uris"])
        if options["json"]:
            self._print_json(
                [
                    {"rule": s.uri, "status": s.status, "declaration": s.rule, "triggers": dict(s.triggers)}
                    for s in statuses
                ]
            )
            return
        styles = {"installed": self.style.SUCCESS, "orphaned": self.style.WARNING}
        width = max((len(item.uri) for item in statuses), default=0)
        for item in statuses:
            status = styles.get(item.status, self.style.ERROR)(f"{item.status:<9}")
            self.stdout.write(f"{item.uri:<{width}}  {status}  {item.rule}")
            for name, state in item.triggers:
                self.stdout.write(f"{'':<{width}}             {state}: {name}")
        if not statuses:
            self.stdout.write("No rules are declared. Add Meta.denormalizations to a model.")
        if any(item.status in {"missing", "outdated"} for item in statuses):
            self.stdout.write("Run manage.py makemigrations and manage.py migrate to install them.")

    def _plan(self, options: dict[str, Any]) -> None:
        plans = live_plans(options["database"])
        shown = [explain(plan, plans) for plan in chosen_plans(options["uris"], options["database"])]
        self.stdout.write("\n\n".join(shown) or "No rules are declared. Add Meta.denormalizations to a model.")

    def _sql(self, options: dict[str, Any]) -> None:
        self.stdout.write(script(options["database"], options["uris"]))

    def _verify(self, options: dict[str, Any]) -> None:
        found = verify(options["uris"], using=options["database"])
        if options["json"]:
            self._print_json(_as_json(found))
        else:
            self._print_verification(found)
        if not found.in_sync:
            raise SystemExit(1)

    def _flush(self, options: dict[str, Any]) -> None:
        found = queues(options["uris"], using=options["database"])
        if not found:
            self.stdout.write("None of these rules is QUEUED: nothing can be pending.")
            return
        report = FlushReport(self.stdout)
        settings = {"using": options["database"], "batch_size": options["batch_size"], "on_batch": report.add}
        if not options["follow"]:
            flush(options["uris"], **settings)
            report.finish(found)
            for queue in found:
                if left := pending_rows(queue, using=options["database"]):
                    self.stdout.write(f"{queue.label}: {_counted(left)} left, of targets that do not exist or newer")
            return
        self.stdout.write(f"Following {', '.join(queue.label for queue in found)}. Interrupt to stop.")
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            follow(options["uris"], **settings, interval=options["interval"], on_loss=report.lose)
        except KeyboardInterrupt:
            report.finish(found)

    def _print_verification(self, found: Verification) -> None:
        drifted: dict[str, int] = dict.fromkeys(found.rows, 0)
        for drift in found.drifts:
            drifted[drift.uri] += 1
        width = max((len(uri) for uri in drifted), default=0)
        for uri, count in drifted.items():
            verdict = self.style.ERROR(f"{count} drifted") if count else self.style.SUCCESS("in sync")
            self.stdout.write(f"{uri:<{width}}  {found.rows[uri]:>9} rows  {verdict}")
        if found.drifts:
            rows = [("rule", "key", "stored", "true")]
            rows += [(drift.uri, _text(drift.key), _text(drift.stored), _text(drift.true)) for drift in found.drifts]
            self.stdout.write("\n" + _table(rows))

    def _print_json(self, value: Any) -> None:
        self.stdout.write(json.dumps(value, indent=2, default=str))


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


def positive(text: str) -> int:
    """Return a number of the command line that must be 1 or more."""
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def _as_json(found: Verification) -> dict[str, Any]:
    return {
        "in_sync": found.in_sync,
        "rows": found.rows,
        "drifts": [
            {"rule": drift.uri, "key": drift.key, "stored": drift.stored, "true": drift.true} for drift in found.drifts
        ],
    }


def _text(value: Any) -> str:
    if value is None:
        return "NULL"
    return "(" + ", ".join(map(str, value)) + ")" if isinstance(value, tuple) else str(value)


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
