"""Settings of the example of the large live table; the rest is in base_settings.py."""

from __future__ import annotations

from migrations_examples.base_settings import *  # noqa: F403
from migrations_examples.base_settings import BASE_APPS

INSTALLED_APPS = [*BASE_APPS, "pages"]

TRIGGER_KIT = {"BATCHED_BACKFILL": ["pages.Page:num_views"]}
