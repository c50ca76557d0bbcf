"""DECLARE: ``denormalizations`` in a model's Meta, from the moment that trigger_kit is imported.

Models that import trigger_kit load then whether or not it stands in INSTALLED_APPS; where it does not, nothing would
keep their rules, and a check says so.
"""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.core.checks import CheckMessage, Error, register
from django.db.models import options

__all__ = ["META_OPTION", "check_installed"]

META_OPTION = "denormalizations"

if META_OPTION not in options.DEFAULT_NAMES:
    options.DEFAULT_NAMES = (*options.DEFAULT_NAMES, META_OPTION)


def check_installed(app_configs: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """Check that what keeps rules is installed."""
    if apps.is_installed("trigger_kit"):
        return []
    labels = [model._meta.label for model in apps.get_models() if getattr(model._meta, META_OPTION, ())]
    if not labels:
        return []
    return [
        Error(
            f"{', '.join(sorted(labels))}: Meta.denormalizations declares rules, and nothing keeps them: 'trigger_kit' "
            "is not in INSTALLED_APPS.",
            hint="Add 'trigger_kit' to INSTALLED_APPS; to leave it, take the rules out of the models first.",
            id="trigger_kit.E036",
        )
    ]


register(check_installed, "models")
