"""``install``, ``uninstall``, ``enable``, ``disable``, ``pause``, ``resume``, ``prune``, ``sql``: change triggers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from trigger_kit.commands.printing import NO_RULES
from trigger_kit.commands.subcommand import Subcommand, add_database, add_dry_run, add_rules, add_switch
from trigger_kit.database.installation import script
from trigger_kit.maintenance.leave import uninstall_all
from trigger_kit.maintenance.long_pauses import pause, resume
from trigger_kit.maintenance.prune import prune
from trigger_kit.maintenance.switch import companions, disable, enable, install_rules, uninstall
from trigger_kit.maintenance.switched import Switched

__all__ = ["SUBCOMMANDS"]

Options = dict[str, Any]


def _switch(
    change: Callable[..., Iterable[Switched]], *, tells_companions: bool
) -> Callable[[BaseCommand, Options], None]:
    """Return what runs a change of some rules; ``tells_companions`` says first which others come along."""

    def run(command: BaseCommand, options: Options) -> None:
        if tells_companions:
            _tell_companions(command, options["uris"], options["database"])
        changes = change(options["uris"], using=options["database"], dry_run=options["dry_run"])
        _print_switched(command, changes, options)

    return run


def _tell_companions(command: BaseCommand, uris: Sequence[str], using: str) -> None:
    """Say which rules come along because they share their triggers with those that are named."""
    for label, others in companions(uris, using).items():
        command.stdout.write(f"All rules of {label} share their triggers: {', '.join(others)} come along.")


def _print_switched(command: BaseCommand, changes: Iterable[Switched], options: Options) -> None:
    """Print what is done to each target as it is done.

    Exits with 1 where something could not be done.
    """
    styles = {"+": command.style.SUCCESS, "-": command.style.WARNING, "!": command.style.ERROR}
    done = []
    for change in changes:
        done.append(change)
        style = styles.get(change.symbol, str)
        line = f"{style(change.symbol)} {change.label}  {change.text}"
        if change.is_failure:
            command.stderr.write(line, style_func=str)
        else:
            command.stdout.write(line)
        if change.advice:
            command.stdout.write(f"    {change.advice}")
        command.stdout.flush()
    if not done:
        command.stdout.write(NO_RULES if not options.get("uris") else "Nothing to do.")
    elif options["dry_run"]:
        command.stdout.write("Dry run: nothing was changed.")
    if any(change.is_failure for change in done):
        raise SystemExit(1)


# Subcommands with arguments of their own ----------------------------------------------------------------------------


def _add_uninstall(parser: CommandParser) -> None:
    """Let it take some rules, or everything that is ours."""
    add_switch(parser)
    parser.add_argument(
        "--all",
        action="store_true",
        help="Leave nothing of trigger_kit behind in any schema: tables, views and what no rule needs, too.",
    )


def _uninstall(command: BaseCommand, options: Options) -> None:
    if options["all"] and options["uris"]:
        raise CommandError("--all means everything: name no rules beside it.")
    if options["all"]:
        _print_switched(command, uninstall_all(using=options["database"], dry_run=options["dry_run"]), options)
        return
    _switch(uninstall, tells_companions=False)(command, options)


def _add_enable(parser: CommandParser) -> None:
    add_switch(parser)
    parser.add_argument("--no-fill", action="store_true", help="Leave values as they are; they may be wrong.")


def _enable(command: BaseCommand, options: Options) -> None:
    _switch(partial(enable, fill=not options["no_fill"]), tells_companions=True)(command, options)


def _add_prune(parser: CommandParser) -> None:
    add_database(parser)
    add_dry_run(parser)
    parser.add_argument(
        "--yes", action="store_true", help="Drop them; without it they are listed, and the exit code is 1 if there are."
    )


def _prune(command: BaseCommand, options: Options) -> None:
    is_asking = not options["yes"] and not options["dry_run"]
    found = list(prune(using=options["database"], dry_run=is_asking or options["dry_run"]))
    if not found:
        command.stdout.write("Nothing to prune: a declared rule needs everything that is there.")
        return
    _print_switched(command, found, options)
    if is_asking and any(change.symbol == "-" for change in found):
        command.stdout.write("Nothing was dropped. Run it again with --yes to drop these.")
        raise SystemExit(1)


def _sql(command: BaseCommand, options: Options) -> None:
    command.stdout.write(script(options["database"], options["uris"]))


# All of them --------------------------------------------------------------------------------------------------------


SUBCOMMANDS = {
    "sql": Subcommand("Print the installation as a script for psql.", add_rules, _sql),
    "pause": Subcommand(
        "Let triggers only note what they would do, for all sessions, until resume.",
        add_switch,
        _switch(pause, tells_companions=True),
    ),
    "resume": Subcommand(
        "End a pause: repair what was touched meanwhile, and maintain again.",
        add_switch,
        _switch(resume, tells_companions=True),
    ),
    "install": Subcommand(
        "Install triggers that are missing or outdated, and fill their columns, while others write.",
        add_switch,
        _switch(install_rules, tells_companions=True),
    ),
    "uninstall": Subcommand("Drop triggers and functions; stored values stay as they are.", _add_uninstall, _uninstall),
    "enable": Subcommand(
        "Enable triggers, and fill their columns: what has changed meanwhile is not known.", _add_enable, _enable
    ),
    "disable": Subcommand(
        "Disable triggers: nothing keeps or guards the columns any more.",
        add_switch,
        _switch(disable, tells_companions=False),
    ),
    "prune": Subcommand(
        "Drop triggers, functions and tables of trigger_kit that no declared rule needs.", _add_prune, _prune
    ),
}
