"""An app that others install, its migrations committed: whatever user model, time zone and hash seed they have."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from tests.combinations import in_turn
from tests.migration.conftest import Make
from tests.migration.project import Project
from tests.migration.worker import environment

BADGES = """
from django.conf import settings
from django.db import models
from django.db.models import Count, Exists, F, OuterRef
from django.db.models.functions import ExtractHour
from trigger_kit import Denormalize, Rows


class Badge(models.Model):
    user = models.OneToOneField(settings.AUTH_USER_MODEL, models.CASCADE, related_name="badge")
    num_notes = models.IntegerField(default=0, editable=False)
    user_name = models.CharField(max_length=150, default="", editable=False)
    is_staff = models.BooleanField(default=False, editable=False)
    joined_at = models.IntegerField(null=True, editable=False)

    class Meta:
        denormalizations = [
            Denormalize("num_notes", Count("user__notes")),
            Denormalize("user_name", F("user__username")),
            Denormalize(
                "is_staff",
                Exists(Rows(settings.AUTH_USER_MODEL).filter(pk=OuterRef("user_id"), is_staff=True)),
            ),
            Denormalize("joined_at", ExtractHour("user__date_joined")),
        ]


class Note(models.Model):
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="notes")
"""
ACCOUNTS = """
from django.contrib.auth.models import AbstractUser


class User(AbstractUser):
    class Meta:
        db_table = "people"
"""
INSTALLED = ["django.contrib.contenttypes", "django.contrib.auth", "trigger_kit"]
USER = """
INSERT INTO {table} (id, username, password, is_superuser, first_name, last_name, email, is_staff, is_active, date_joined)
VALUES (7, 'ann', '', false, '', '', '', true, true, '2026-01-01 00:30+00');
INSERT INTO badges_badge (id, user_id) VALUES (1, 7);
INSERT INTO badges_note (id, user_id) VALUES (1, 7), (2, 7);
"""
VALUES = "SELECT num_notes, user_name, is_staff, joined_at FROM badges_badge"


def author(blank: Make) -> Project:
    """Return the project of the app's author, who has Django's own user model."""
    project: Project = blank("badges", installed=INSTALLED)
    project.makemigrations(badges=BADGES)
    return project


def test_the_committed_migrations_serve_another_user_model_and_time_zone(blank: Make) -> None:
    written = author(blank)
    text = written.last("badges").read_text()
    assert "auth_user" not in text
    assert "trigger_kit.Rows(settings.AUTH_USER_MODEL)" in text
    assert text.count("time_zone=settings.TIME_ZONE") == 1
    assert "migrations.swappable_dependency(settings.AUTH_USER_MODEL)" in text
    other: Project = blank("accounts", "badges", installed=INSTALLED)
    other.write_settings(extra='AUTH_USER_MODEL = "accounts.User"\nTIME_ZONE = "Asia/Tokyo"\n')
    other.write_models(accounts=ACCOUNTS, badges=BADGES)
    for file in written.files():
        shutil.copy(file, other.path / "badges" / "migrations" / file.name)
    assert set(other.makemigrations()) == {"accounts"}
    other.manage("migrate")
    other.sql(USER.format(table="people"))
    assert other.sql(VALUES) == [(2, "ann", True, 9)]
    other.sql("UPDATE people SET username = 'eve', is_staff = false")
    assert other.sql(VALUES) == [(2, "eve", False, 9)]
    other.assert_settled()
    other.write_settings(extra='AUTH_USER_MODEL = "accounts.User"\nTIME_ZONE = "America/New_York"\n')
    other.manage("makemigrations --check --dry-run")
    assert "(trigger_kit.W011)" in other.manage("check --database default").stderr
    printed = other.manage("migrate").stdout
    assert "Triggers of badges.Badge brought over to this version of its rules." in printed
    assert other.sql(VALUES) == [(2, "eve", False, 19)]
    other.assert_settled()


@pytest.mark.parametrize("seed", ["12345", *in_turn(["0", "1"], of=3, turn=2)])
def test_another_hash_seed_is_clean_and_installs_nothing(blank: Make, seed: str) -> None:
    project = author(blank)
    project.manage("migrate")
    project.sql(USER.format(table="auth_user"))
    before = project.objects()
    for command in ("makemigrations --check --dry-run", "migrate", "check --database default"):
        done = subprocess.run(
            [sys.executable, "-W", "error", "manage.py", *command.split()],
            cwd=project.path,
            env={**os.environ, **environment(project.path), "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "brought over" not in done.stdout
        assert "W011" not in done.stderr
    assert project.objects() == before
