"""A project without processes of its own: what its migrations do, made and run in the process of the tests.

Its apps are no modules but texts, its models live in a registry of their own. Django's autodetector, writer, loader and
executor do the work that their commands do, and the commands of trigger_kit are the real ones. That takes a tenth of
the time; what a command prints, checks of the system and settings of a whole project are for projects with processes.
"""

from __future__ import annotations

import shlex
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import psycopg
from django.apps import AppConfig
from django.apps.registry import Apps
from django.core.management import CommandError, call_command
from django.core.management.commands import makemigrations
from django.db import connection, connections
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.questioner import MigrationQuestioner, NonInteractiveMigrationQuestioner
from django.db.migrations.state import ProjectState
from django.db.models import base
from django.db.models.options import Options
from django.test import override_settings

from tests.migration.project import Project
from tests.migration.worker import Outcome
from trigger_kit.migration import executing
from trigger_kit.migration.upgrade import upgrade

__all__ = ["InPlace"]

# Where commands look for the live models.
LIVE = (
    "plan.live",
    "maintenance.verify",
    "maintenance.prune",
    "migration.autodetector",
    "migration.upgrade",
)
SCHEMAS = """
SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' AND nspname <> 'public'
"""


class App(AppConfig):
    """An app without a folder."""

    path = "/"


@dataclass
class InPlace(Project):
    """A project whose commands run here."""

    sources: dict[str, str] = field(default_factory=dict)
    live: Apps | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    options: dict[str, str] = field(default_factory=dict)

    # Files

    def write_settings(self, *, options: dict[str, str] | None = None, extra: str = "") -> None:
        """Take settings from the text that settings.py would end with."""
        self.close()
        self.settings, self.options = {}, options or {}
        exec(extra, self.settings)
        self.settings = {name: value for name, value in self.settings.items() if name.isupper()}

    def write_models(self, **sources: str) -> None:
        """Replace the models of some apps."""
        super().write_models(**sources)
        self.sources |= sources
        self.live = None

    def _models(self) -> Apps:
        """Return the registry of the models as they are written."""
        if self.live is None:
            self.live = Apps([App(name, ModuleType(name)) for name in self.sources])
            with mock.patch.object(Options, "default_apps", self.live), mock.patch.object(base, "apps", self.live):
                for name, source in self.sources.items():
                    exec(compile(source, f"{name}/models.py", "exec"), {"__name__": f"{name}.models"})
        return self.live

    # Commands

    def manage(self, command: str, *, code: int | None = 0, answers: str = "") -> Outcome:
        """Do what a management command does, of those that are known here."""
        name, *arguments = shlex.split(command)
        printed, complained, found = StringIO(), StringIO(), 0
        with self._here():
            try:
                if name == "trigger_kit":
                    call_command(name, *arguments, stdout=printed, stderr=complained)
                else:
                    printed.write(getattr(self, f"_{name}")(arguments, answers))
            except CommandError as error:
                complained.write(f"CommandError: {error}")
                found = error.returncode
            except SystemExit as error:
                found = int(error.code or 0)
            except Exception:
                complained.write(traceback.format_exc())
                found = 1
        outcome = Outcome(command, found, printed.getvalue(), complained.getvalue())
        assert code is None or outcome.code == code, str(outcome)
        return outcome

    def manage_alone(self, command: str, *, code: int | None = 0) -> Outcome:
        """Nothing is alone here."""
        raise NotImplementedError

    @contextmanager
    def _here(self) -> Iterator[None]:
        """Let Django work on this project's database, with its settings and models."""
        entry = self.server.django_settings
        entry |= {"NAME": self.database, "OPTIONS": {**entry["OPTIONS"], **self.options}}
        kept = {name: connection.settings_dict[name] for name in entry}
        connections.close_all()
        with ExitStack() as stack:
            stack.enter_context(override_settings(**self.settings))
            for module in LIVE:
                stack.enter_context(mock.patch(f"trigger_kit.{module}.live_apps", self._models()))
            connection.settings_dict.update(entry)
            try:
                yield
            finally:
                connections.close_all()
                connection.settings_dict.update(kept)

    def _makemigrations(self, arguments: list[str], answers: str) -> str:
        loader = Loader(self)
        questioner: Any = Answers() if answers else NonInteractiveMigrationQuestioner(verbosity=0)
        questioner.answers = iter(answers.split())
        questioner.specified_apps = set(self.apps)  # Each may have its first migration.
        autodetector = makemigrations.Command.autodetector(
            loader.project_state(), ProjectState.from_apps(self._models()), questioner
        )
        changes = autodetector.changes(graph=loader.graph)
        if "--check" in arguments and changes:
            raise SystemExit(1)
        for app, migrations in changes.items():
            for migration in migrations:
                text = makemigrations.MigrationWriter(migration).as_string()  # type: ignore[attr-defined]
                (self.path / app / "migrations" / f"{migration.name}.py").write_text(text)
        return "" if changes else "No changes detected"

    def _migrate(self, arguments: list[str], answers: str) -> str:
        is_fake = "--fake" in arguments
        names = [argument for argument in arguments if not argument.startswith("--")]
        executor = Executor(self)
        targets = self._targets(executor.loader, *names)
        state = executor._create_project_state(with_applied_migrations=True)
        executing.listen(connection.alias, None, 0)
        executor.migrate(targets, executor.migration_plan(targets), state=state.clone(), fake=is_fake)
        ended = executing.take_state(connection.alias)
        assert ended is not None
        said: list[str] = []
        upgrade(connection, *ended, said.append)
        return "\n".join(said)

    def _sqlmigrate(self, arguments: list[str], answers: str) -> str:
        app, name = (argument for argument in arguments if not argument.startswith("--"))
        loader = Loader(self)
        migration = loader.graph.nodes[app, self._whole(app, name)]
        lines = loader.collect_sql([(migration, "--backwards" in arguments)])
        return "\n".join(["BEGIN;", *lines, "COMMIT;"] if migration.atomic else lines)

    def _targets(self, loader: Any, app: str = "", name: str = "") -> list[tuple[str, str | None]]:
        if not name:
            return [node for node in loader.graph.leaf_nodes() if app in {"", node[0]}]
        return [(app, None if name == "zero" else self._whole(app, name))]

    def _whole(self, app: str, prefix: str) -> str:
        (name,) = (file.stem for file in self.files() if file.parents[1].name == app and file.stem.startswith(prefix))
        return name

    def deploy(self, *, answers: str = "", **sources: str) -> dict[str, list[str]]:
        """Do makemigrations and migrate; then nothing may be left to do, and every value must be right."""
        found = self.makemigrations(answers=answers, **sources)
        self.manage("migrate")
        self.assert_settled()
        return found

    # Database

    def empty(self) -> None:
        """Empty the database."""
        self.close()
        with psycopg.connect(self.url, autocommit=True) as session:
            schemas = [name for (name,) in session.execute(SCHEMAS).fetchall()]
            for name in (*schemas, "public"):
                session.execute(f'DROP SCHEMA "{name}" CASCADE'.encode())
            session.execute("CREATE SCHEMA public")
            session.execute("GRANT USAGE ON SCHEMA public TO PUBLIC")

    def fresh(self, path: Path, *apps: str, rows: str = "", **sources: str) -> InPlace:
        """Return the project of these models, migrated, with these rows, in this database, emptied.

        Apps that are only named have no models yet.
        """
        self.empty()
        path.mkdir()
        made = InPlace(path, self.server, self.worker, self.database, [*apps, *sources])
        made.write_models(**dict.fromkeys(apps, ""))
        if sources:
            made.makemigrations(**sources)
            made.manage("migrate")
        if rows:
            made.sql(rows)
        return made


class Answers(MigrationQuestioner):
    """Answers questions about renames in order."""

    answers: Iterator[str]

    def ask_rename(self, *args: Any) -> bool:
        """Answer the next question."""
        return next(self.answers) == "y"

    ask_rename_model = ask_rename


class Loader(MigrationLoader):
    """Reads the migrations of a project from its files, which are no modules."""

    def __init__(self, project: InPlace) -> None:
        self.project = project
        super().__init__(connection)

    def load_disk(self) -> None:
        """Execute the files."""
        self.unmigrated_apps: set[str] = set()
        self.migrated_apps = set(self.project.apps)
        self.disk_migrations = dict(self._read())

    def _read(self) -> Iterator[tuple[tuple[str, str], Any]]:
        for file in self.project.files():
            names: dict[str, Any] = {}
            exec(compile(file.read_text(), str(file), "exec"), names)
            app = file.parents[1].name
            yield (app, file.stem), names["Migration"](file.stem, app)


class Executor(MigrationExecutor):
    """Runs the migrations of a project."""

    def __init__(self, project: InPlace) -> None:
        super().__init__(connection)
        self.loader = Loader(project)
