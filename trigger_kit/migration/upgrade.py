"""MIGRATE: after every run of migrate, triggers are what the state wants.

What a new version of trigger_kit compiles differently, what was faked, what belongs to apps without migrations, and
what follows from a changed setting is brought over here, with the locks of a migration. Each target is told of.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from django.apps import apps as live_apps
from django.db import DatabaseError, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.state import ProjectState

from trigger_kit.conf import setting
from trigger_kit.database.catalog import installed_triggers
from trigger_kit.database.changes import Change, needed
from trigger_kit.database.converge import converge
from trigger_kit.database.filling import Filling
from trigger_kit.database.installation import fill_fields, has_tables
from trigger_kit.database.wanted import Wanted
from trigger_kit.exceptions import RuleError, TriggerKitError
from trigger_kit.migration.compiled import Compiled, Contents, compiled
from trigger_kit.migration.first_fill import has_few_rows
from trigger_kit.migration.rendering import reading
from trigger_kit.migration.running import home_changes
from trigger_kit.migration.states import all_rules, key_of
from trigger_kit.notation import canonical
from trigger_kit.plan.plan import plan_all
from trigger_kit.resolve.declared import declared
from trigger_kit.sql.trigger import TEMPLATE_VERSION

__all__ = ["upgrade"]

Say = Callable[[str], None]


def upgrade(connection: BaseDatabaseWrapper, state: ProjectState, executor: MigrationExecutor, say: Say) -> None:
    """Bring the triggers of a database to what a state wants, and say what was done.

    Nothing is done where the database has seen newer code than this: two versions that migrate in turn would undo each
    other's work. What is not filled, and has more rows than a migration fills, is left to ``trigger_kit backfill``.
    """
    if connection.vendor != "postgresql" or not setting("UPGRADE"):
        return
    wanted = _of_models(state) or compiled(state)
    changes = [change for change in home_changes(connection, Compiled(), wanted, may_ask=True) if change.after]
    changes = [change for change in changes if change.after and has_tables(connection, change.after.plan)]
    changes = needed(connection, changes)
    if not changes:
        return
    if newer := _newer_code(connection, executor):
        labels = ", ".join(change.after.label for change in changes if change.after)
        say(f"  Triggers of {labels} are left as they are: {newer}.")
        return
    for change in changes:
        _bring_over(connection, change, say)


def _of_models(state: ProjectState) -> Compiled | None:
    """Return what today's models want, where the state is no other: the checks before migrate have compiled it."""
    rules = all_rules(state)
    try:
        plans = {key_of(plan.model): plan for plan in plan_all(declared(live_apps))}
    except RuleError:  # A check has said so.
        return None
    written = {key: sorted(canonical(kept.resolved.rule) for kept in plan.kept_columns) for key, plan in plans.items()}
    if {key: sorted(item.written for item in items) for key, items in rules.items()} != written:
        return None
    is_filled = all(item.is_filled and not item.is_lost for items in rules.values() for item in items)
    models = ProjectState.from_apps(live_apps)
    if not is_filled or reading(state, rules=rules).text != reading(models, rules=rules).text:
        return None
    origins = {key: items[0].origin for key, items in rules.items()}
    contents = Contents({key: Wanted(plan) for key, plan in plans.items()}, origins=origins, apps=live_apps)
    return Compiled(lambda: contents)


def _bring_over(connection: BaseDatabaseWrapper, change: Change, say: Say) -> None:
    assert change.after is not None
    label, left = change.after.label, list[str]()

    def fill(target: Wanted, fields: Sequence[str]) -> None:
        if has_few_rows(connection, Filling.of(target.plan, target.columns(fields))):
            fill_fields(connection, target, fields)
        else:
            left.extend(fields)

    try:
        with transaction.atomic(using=connection.alias):
            converge(connection, [change], fill=fill)
    except (DatabaseError, TriggerKitError) as error:
        reason = str(error).strip().splitlines()[0]
        say(f"  Triggers of {label} could not be brought over: {reason} Run manage.py trigger_kit install {label}.")
        return
    say(f"  Triggers of {label} brought over to this version of its rules.")
    for name in left:
        uri = f"{label}:{name}"
        say(f"  {uri} is not filled, for its table is large: run manage.py trigger_kit backfill {uri}.")


def _newer_code(connection: BaseDatabaseWrapper, executor: MigrationExecutor) -> str:
    """Return why this code is not the newest that has migrated this database, or nothing."""
    versions = [item.comment.version for item in installed_triggers(connection)]
    if max(versions, default=0) > TEMPLATE_VERSION:
        return "a newer version of trigger_kit has installed some of them"
    unknown = _unknown_migrations(executor)
    return f"this code does not know {unknown[0]}, which is applied" if unknown else ""


def _unknown_migrations(executor: MigrationExecutor) -> list[str]:
    """Return the applied migrations of this project's apps that are newer than what this code has of the app.

    Those that a squashed migration has replaced may be gone, too; they were applied before it.
    """
    loader: Any = executor.loader
    # The table of migrations is not there where no app has any.
    records: Any = executor.recorder.applied_migrations()
    recorded = {key: record.applied for key, record in records.items()}
    newest: dict[str, Any] = {}
    for (app_label, name), applied in recorded.items():
        if (app_label, name) in loader.disk_migrations:
            newest[app_label] = max(newest.get(app_label, applied), applied)
    return sorted(
        f"{app_label}.{name}"
        for (app_label, name), applied in recorded.items()
        if app_label in loader.migrated_apps
        and (app_label, name) not in loader.disk_migrations
        and (app_label not in newest or applied > newest[app_label])
    )
