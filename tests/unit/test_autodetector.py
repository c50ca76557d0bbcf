"""makemigrations: what it writes for rules, and in which order, in whichever app that is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.apps.registry import Apps
from django.core.management.commands import makemigrations
from django.db import models
from django.db.migrations.graph import MigrationGraph
from django.db.migrations.questioner import MigrationQuestioner
from django.db.migrations.state import ProjectState
from django.db.models import Count, F, Sum
from django.test.utils import isolate_apps, override_settings

from trigger_kit import Denormalize
from trigger_kit.migration.states import all_rules

Declare = Callable[[], None]
NUMBER: Any = {"default": 0, "editable": False}


class Yes(MigrationQuestioner):
    """Says yes to every rename."""

    def ask_rename(self, *args: Any) -> bool:
        return True

    def ask_rename_model(self, *args: Any) -> bool:
        return True


def detected(apps: Apps, state: ProjectState | None = None) -> dict[tuple[str, str], Any]:
    """Return the migrations that lead from a state to models, by app and name."""
    before = state or ProjectState()
    autodetector = makemigrations.Command.autodetector(before, ProjectState.from_apps(apps), Yes())
    changes = autodetector._detect_changes(graph=MigrationGraph())
    return {(app, migration.name): migration for app, migrations in changes.items() for migration in migrations}


def declared(declare: Declare) -> Apps:
    """Return the models that a function defines."""
    with isolate_apps("tests.library", "django.contrib.auth", "django.contrib.contenttypes") as apps:
        declare()
    return apps


def changed(before: Declare, after: Declare) -> list[str]:
    """Return what makemigrations writes for changed models; once that has run, nothing may be left to do."""
    state, found = ProjectState(), []
    for number, declare in enumerate((before, after)):
        apps = declared(declare)
        for (app_label, _), migration in detected(apps, state).items():
            found += [operation.describe() for operation in migration.operations] if number else []
            for operation in migration.operations:
                operation.state_forwards(app_label, state)
        assert detected(apps, state) == {}
    return found


def shelf(
    rules: list[Denormalize],
    *,
    way: str = "books",
    number: str = "num_books",
    pages: str = "pages",
    book: str = "Book",
    page_type: type[models.Field[Any, Any]] = models.IntegerField,
) -> Declare:
    """Return a function that defines Author, who has these rules, and Book."""

    def declare() -> None:
        meta = type("Meta", (), {"app_label": "library", "denormalizations": rules})
        fields = {number: models.IntegerField(**NUMBER), "pages_total": models.IntegerField(**NUMBER)}
        type("Author", (models.Model,), {"__module__": __name__, "Meta": meta, **fields})
        key = models.ForeignKey("library.Author", models.CASCADE, related_name=way)
        meta = type("Meta", (), {"app_label": "library"})
        type(book, (models.Model,), {"__module__": __name__, "Meta": meta, "author": key, pages: page_type(default=0)})

    return declare


COUNT, TOTAL = Denormalize("num_books", Count("books")), Denormalize("pages_total", Sum("books__pages", default=0))
RULES = [COUNT, TOTAL]


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (shelf(RULES[::-1]), []),
        (shelf([COUNT]), ["Remove rule pages_total from author"]),
        (
            shelf([Denormalize("num_books", Count("books", filter=models.Q(books__pages=1))), TOTAL]),
            ["Alter rule num_books of author"],
        ),
        (
            shelf([Denormalize("num_books", Count("works")), Denormalize("pages_total", Sum("works__pages", default=0))], way="works"),
            ["Alter field author on book"],
        ),
        (
            shelf([Denormalize("n", Count("books")), TOTAL], number="n"),
            ["Rename field num_books on author to n"],
        ),
        (
            shelf([COUNT, Denormalize("pages_total", Sum("books__length", default=0))], pages="length"),
            ["Rename field pages on book to length"],
        ),
        (shelf(RULES, book="Volume"), ["Rename model Book to Volume"]),
    ],
    ids=["order", "removed", "altered", "related_name", "kept field", "source field", "source model"],
)  # fmt: skip
def test_a_change_is_written_once_and_nothing_follows(after: Declare, expected: list[str]) -> None:
    assert changed(shelf(RULES), after) == expected


def test_a_rule_that_comes_leaves_every_other_operation_alone() -> None:
    assert changed(shelf([TOTAL]), shelf(RULES)) == ["Add rule num_books to author"]


def test_a_source_of_another_type_alters_no_rule_and_fills_it_again() -> None:
    after = shelf(RULES, page_type=models.SmallIntegerField)
    assert changed(shelf(RULES), after) == ["Alter field pages on book", "Backfill pages_total of author"]


def test_a_changed_time_zone_writes_no_migration() -> None:
    def declare() -> None:
        class Author(models.Model):
            latest = models.DateField(null=True, editable=False)
            seen = models.DateTimeField()

            class Meta:
                app_label = "library"
                denormalizations = [Denormalize("latest", F("seen__date"))]

    state = ProjectState()
    apps = declared(declare)
    with override_settings(TIME_ZONE="Europe/Berlin"):
        (migration,) = detected(apps, state).values()
        for operation in migration.operations:
            operation.state_forwards("library", state)
        assert detected(apps, state) == {}
    (rule,) = all_rules(state)["library", "author"]
    assert rule.time_zone == "Europe/Berlin"
    with override_settings(TIME_ZONE="Asia/Tokyo"):
        assert detected(apps, state) == {}


def test_a_rule_follows_the_source_of_another_app() -> None:
    def declare() -> None:
        class Reader(models.Model):
            num_books = models.IntegerField(default=0, editable=False)

            class Meta:
                app_label = "auth"
                denormalizations = [Denormalize("num_books", Count("books"))]

        class Book(models.Model):
            reader = models.ForeignKey("auth.Reader", models.CASCADE, related_name="books")

            class Meta:
                app_label = "library"

    migrations = detected(declared(declare))
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
