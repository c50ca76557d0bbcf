"""Settings of the example of renames; the rest is in base_settings.py."""

from __future__ import annotations

from migrations_examples.base_settings import *  # noqa: F403
from migrations_examples.base_settings import BASE_APPS

INSTALLED_APPS = [*BASE_APPS, "blog"]
