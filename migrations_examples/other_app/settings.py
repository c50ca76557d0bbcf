"""Settings of the example of other apps; the rest is in base_settings.py."""

from __future__ import annotations

from migrations_examples.base_settings import *  # noqa: F403
from migrations_examples.base_settings import BASE_APPS

INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", *BASE_APPS, "teams"]
