"""The Django app: it teaches Meta its option before any model is defined, and Django's commands about rules."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig, apps
from django.core.checks import register
from django.db import connections
from django.db.migrations import state
from django.db.migrations.loader import MigrationLoader
from django.db.models import options
from django.db.models.signals import post_migrate, pre_migrate

META_OPTION = "denormalizations"

# AppConfig modules are imported before the first model: here is early enough.
for module in (options, state):
    names: tuple[str, ...] = vars(module)["DEFAULT_NAMES"]
    if META_OPTION not in names:
        vars(module)["DEFAULT_NAMES"] = (*names, META_OPTION)


class TriggerKitConfig(AppConfig):
    """Configuration of ``"trigger_kit"`` in INSTALLED_APPS."""

    name = "trigger_kit"
    verbose_name = "trigger_kit"

    def ready(self) -> None:
        """Register the checks, teach Django's commands about rules, and install those of apps without migrations."""
        from trigger_kit.checks import blind_spots as blind_spot_checks
        from trigger_kit.checks import database as database_checks
        from trigger_kit.checks import rules as checks
        from trigger_kit.checks import settings as fill_checks
        from trigger_kit.migration import autodetector, following, serializers
        from trigger_kit.migration import locks as migration_locks
        from trigger_kit.migration import schema_changes as schema

        register(checks.check_rules, "models")
        register(checks.check_setup, "models")
        register(fill_checks.check_fills, "models")
        register(database_checks.check_database, "database")
        register(blind_spot_checks.check_blind_spots, "database")
        serializers.register()
        autodetector.patch_commands()
        schema.patch_schema_editors()
        following.patch_operations()
        migration_locks.patch_migrations()
        pre_migrate.connect(hear_migrate, dispatch_uid="trigger_kit.hear_migrate")
        post_migrate.connect(leave_migrate, dispatch_uid="trigger_kit.leave_migrate")
        post_migrate.connect(install_unmigrated, dispatch_uid="trigger_kit.install_unmigrated")


def hear_migrate(using: str, verbosity: int, stdout: Any = None, **kwargs: Any) -> None:
    """Let first fills say how far they are, where ``migrate`` says what it applies."""
    from trigger_kit.migration import first_fill

    first_fill.announce(using, stdout, verbosity)


def leave_migrate(using: str, **kwargs: Any) -> None:
    """Let them be silent again."""
    from trigger_kit.migration import first_fill

    first_fill.silence(using)


def install_unmigrated(app_config: AppConfig, using: str, plan: Any = None, **kwargs: Any) -> None:
    """Install the rules of apps without migrations (run_syncdb, MIGRATE: False), when all tables exist."""
    from trigger_kit.database import installation

    if connections[using].vendor != "postgresql" or app_config is not _last_app():
        return
    loader = MigrationLoader(None)
    labels = loader.unmigrated_apps
    if labels:
        installation.install(using, app_labels=labels)


def _last_app() -> AppConfig:
    """post_migrate comes once per app, in order: at the last one every table is there."""
    return [config for config in apps.get_app_configs() if config.models_module is not None][-1]
