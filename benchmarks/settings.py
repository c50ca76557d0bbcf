"""Django settings of the benchmarks; ground.py fills in the server."""

from __future__ import annotations

from importlib.util import find_spec

SECRET_KEY = "benchmarks"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["django.contrib.contenttypes", "trigger_kit", "benchmarks.books"]
if find_spec("computedfields"):
    INSTALLED_APPS += ["computedfields", "benchmarks.contenders.computed"]
DATABASES = {"default": {"ENGINE": "django.db.backends.postgresql", "NAME": "trigger_kit_bench"}}
