"""Settings that the small examples share. TRIGGER_KIT_DATABASE_URL names the server and the database."""

from __future__ import annotations

import os

from dev.postgres import Server

SECRET_KEY = "an example has no secrets"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
BASE_APPS = ["trigger_kit"]
DATABASES = {
    "default": Server(
        os.environ.get("TRIGGER_KIT_DATABASE_URL", "postgresql:///postgres"), origin="environment", psql="psql"
    ).django_settings
}
