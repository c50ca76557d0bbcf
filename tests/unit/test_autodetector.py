"""makemigrations puts a rule after everything that its SQL reads, in whichever app that is."""

from __future__ import annotations

from typing import Any

from django.apps.registry import Apps
from django.core.management.commands import makemigrations
from django.db import models
from django.db.migrations.graph import MigrationGraph
from django.db.migrations.state import ProjectState
from django.db.models import Count
from django.test.utils import isolate_apps

from trigger_kit import Denormalize


def detected(apps: Apps) -> dict[tuple[str, str], Any]:
    """Return the migrations of a new project, by app and name."""
    autodetector = makemigrations.Command.autodetector(ProjectState(), ProjectState.from_apps(apps))
    changes = autodetector._detect_changes(graph=MigrationGraph())
    return {(app, migration.name): migration for app, migrations in changes.items() for migration in migrations}


def test_a_rule_follows_the_source_of_another_app() -> None:
    with isolate_apps("tests.library", "django.contrib.auth", "django.contrib.contenttypes") as apps:

        class Reader(models.Model):
            num_books = models.IntegerField(default=0, editable=False)

            class Meta:
                app_label = "auth"
                denormalizations = [Denormalize("num_books", Count("books"))]

        class Book(models.Model):
            reader = models.ForeignKey("auth.Reader", models.CASCADE, related_name="books")

            class Meta:
                app_label = "library"

        migrations = detected(apps)

    graph = MigrationGraph()
    for key, migration in migrations.items():
        graph.add_node(key, migration)
    for key, migration in migrations.items():
        for parent in migration.dependencies:
            first = next(other for other in migrations if other[0] == parent[0])
            graph.add_dependency(migration, key, first if parent[1] == "__first__" else parent)
    graph.validate_consistency()
    graph.ensure_not_cyclic()
    made = {operation.describe(): key for key, migration in migrations.items() for operation in migration.operations}
    assert made["Create model Book"] in graph.forwards_plan(made["Add rule num_books to reader"])
