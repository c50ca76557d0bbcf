"""Django settings of the test suite; the server is filled in by conftest.py when the first test needs it."""

from __future__ import annotations

SECRET_KEY = "tests"
USE_TZ = True
TIME_ZONE = "Europe/Berlin"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    # From Django 6.1 on, an ArrayField asks for it.
    "django.contrib.postgres",
    "trigger_kit",
    "tests.library",
    "tests.archive",
]
DATABASES = {"default": {"ENGINE": "django.db.backends.postgresql", "NAME": "trigger_kit"}}
