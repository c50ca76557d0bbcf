"""The Django app: it teaches Meta its option before any model is defined, and Django's commands about rules."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from django.apps import AppConfig, apps
from django.core.checks import CheckMessage, register
from django.db import connections
from django.db.migrations import state
from django.db.migrations.state import ProjectState
from django.db.models.signals import post_migrate, pre_migrate

from trigger_kit.meta import META_OPTION

# The states of migrations know the option only where rules are taken along: here is early enough for every model.
names: tuple[str, ...] = vars(state)["DEFAULT_NAMES"]
if META_OPTION not in names:
    vars(state)["DEFAULT_NAMES"] = (*names, META_OPTION)


# By tag of Django's: where each check is.
CHECKS = (
    ("models", "rules", "check_rules"),
    ("models", "rules", "check_setup"),
    ("models", "settings", "check_fills"),
    ("models", "order", "check_order"),
    ("database", "rules", "check_homes"),
    ("database", "database", "check_database"),
    ("database", "database", "check_blind_spots"),
    ("database", "security", "check_security"),
)
# Those of ``check --deploy`` alone: where people develop, everything belongs to a superuser.
DEPLOY_CHECKS = (("database", "security", "check_superusers"),)


class TriggerKitConfig(AppConfig):
    """Configuration of ``"trigger_kit"`` in INSTALLED_APPS."""

    name = "trigger_kit"
    verbose_name = "trigger_kit"

    def ready(self) -> None:
        """Register the checks, teach Django about rules, and listen to migrate; what these need is imported later."""
        from trigger_kit.migration.patches import patch_django

        for tag, module, name in (*CHECKS, *DEPLOY_CHECKS):
            is_for_deployment = (tag, module, name) in DEPLOY_CHECKS
            register(_later(module, name, asks=tag == "database"), tag, deploy=is_for_deployment)
        patch_django()
        pre_migrate.connect(hear_migrate, dispatch_uid="trigger_kit.hear_migrate")
        post_migrate.connect(follow_migrate, dispatch_uid="trigger_kit.follow_migrate")


def _later(module: str, name: str, *, asks: bool) -> Any:
    """Return a check that is imported when it runs: a web server never runs it.

    One that ``asks`` databases has nothing to say where none is named.
    """

    def check(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
        if asks and not kwargs.get("databases"):
            return []
        found: list[CheckMessage] = getattr(import_module(f"trigger_kit.checks.{module}"), name)(app_configs, **kwargs)
        return found

    check.__name__ = name
    return check


def hear_migrate(using: str, verbosity: int, stdout: Any = None, **kwargs: Any) -> None:
    """Let first fills say how far they are, where ``migrate`` says what it applies; keep the state it ends with."""
    from trigger_kit.migration import executing

    executing.listen(using, stdout, verbosity)


def follow_migrate(app_config: AppConfig, using: str, verbosity: int, stdout: Any = None, **kwargs: Any) -> None:
    """Bring triggers to what the state wants that ``migrate`` has ended with, when all tables exist."""
    from trigger_kit.migration import executing

    if app_config is not _last_app():
        return
    found = executing.take_state(using)
    if found is not None and not _is_current(using, found[0]):
        from trigger_kit.maintenance import status
        from trigger_kit.migration import upgrade

        def say(text: str) -> None:
            if verbosity and stdout is not None:
                stdout.write(text)
            elif verbosity:
                print(text)  # noqa: T201 as Django's own listeners do

        upgrade.upgrade(connections[using], *found, say)
        status.note_current(connections[using], found[0])


def _is_current(using: str, state: ProjectState) -> bool:
    from trigger_kit.maintenance.current import is_current

    return is_current(connections[using], state)


def _last_app() -> AppConfig:
    """post_migrate comes once per app, in order: at the last one every table is there."""
    return [config for config in apps.get_app_configs() if config.models_module is not None][-1]
