"""MIGRATE: where Django learns about rules: its states, migrations, executor, schema editors and commands.

Every process of a project loads this module, a web server as well as ``migrate``. So it holds no more than the places:
what is done there is imported when it is called for the first time.
"""

from __future__ import annotations

from functools import cache, wraps
from importlib import import_module
from typing import Any

from django.conf import settings
from django.core.management import get_commands, load_command_class
from django.core.management.commands import makemigrations, migrate, optimizemigration
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations import Migration
from django.db.migrations.autodetector import MigrationAutodetector
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.state import ProjectState
from django.db.utils import load_backend

from trigger_kit.migration import writing

__all__ = ["is_patched", "patch_django"]

# What is called in place of a method, with the method as its first argument: the module, and its function of that name.
METHODS: dict[type, dict[str, str]] = {
    ProjectState: dict.fromkeys(
        ("rename_model", "rename_field", "alter_field", "alter_model_options"), "migration.following"
    ),
    Migration: dict.fromkeys(("apply", "unapply"), "migration.applying"),
    MigrationExecutor: dict.fromkeys(("migrate", "unapply_migration"), "migration.executing"),
}


def patch_django() -> None:
    """Teach Django about rules, once per process."""
    for owner, methods in {**METHODS, **_schema_editors()}.items():
        for name, module in methods.items():
            _patch(owner, name, module)
    writing.register()
    for command in (makemigrations, optimizemigration):
        command.MigrationWriter = writing.RuleMigrationWriter  # type: ignore[attr-defined]
    _patch_commands()


def _patch_commands() -> None:
    """Give makemigrations and migrate one autodetector that knows rules, on top of the one they have."""
    current = makemigrations.Command.autodetector
    if issubclass(current, RuleAutodetector):
        return
    combined = type("MigrationAutodetector", (RuleAutodetector, current), {})
    for module in (makemigrations, migrate):
        module.MigrationAutodetector = combined  # type: ignore[attr-defined]
    for command_class in _command_classes():
        if issubclass(combined, command_class.autodetector):
            command_class.autodetector = combined


def is_patched() -> bool:
    """Whether the commands still have an autodetector that knows rules."""
    return all(issubclass(command.autodetector, RuleAutodetector) for command in _command_classes())


def _patch(owner: type, name: str, module: str) -> None:
    original = getattr(owner, name)
    if original.__module__ == __name__:
        return

    @wraps(original)
    def method(*args: Any, **kwargs: Any) -> Any:
        room = import_module(f"trigger_kit.{module}")
        return getattr(room, name.lstrip("_"))(original, *args, **kwargs)

    method.__module__ = __name__
    setattr(owner, name, method)


def _schema_editors() -> dict[type, dict[str, str]]:
    """Return the PostgreSQL schema editors of this project's databases."""
    backends: list[type[BaseDatabaseWrapper]] = [
        load_backend(config["ENGINE"]).DatabaseWrapper for config in settings.DATABASES.values()
    ]
    editors = {backend.SchemaEditorClass for backend in backends if backend.vendor == "postgresql"}
    return {editor: {"_alter_field": "migration.schema_changes"} for editor in editors if editor}


def _command_classes() -> list[Any]:
    """Return Django's two commands, and those that an app has put in their place, as django-tenants does."""
    apps = {name: app for name, app in get_commands().items() if name in {"makemigrations", "migrate"}}
    others = [type(load_command_class(app, name)) for name, app in apps.items() if app != "django.core"]
    return [makemigrations.Command, migrate.Command, *others]


class RuleAutodetector(MigrationAutodetector):
    """Whatever autodetector the project has; when one is made, it is one that knows rules."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Make an instance of the class with rules."""
        return super().__new__(_with_rules(cls))  # type: ignore[arg-type]


@cache
def _with_rules(current: type) -> type:
    """Return an autodetector that knows rules, on top of another one: the same class for each."""
    mixin: type = import_module("trigger_kit.migration.autodetector").RuleAutodetectorMixin
    return type("MigrationAutodetector", (mixin, current), {})
