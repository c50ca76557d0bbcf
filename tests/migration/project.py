"""A throw-away Django project with a database of its own, driven through manage.py."""

from __future__ import annotations

import ast
import json
import os
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import psycopg
from psycopg.conninfo import make_conninfo

import trigger_kit
from dev.postgres import Server

ROOT = Path(trigger_kit.__file__).parents[1]
WORKER = Path(__file__).with_name("worker.py")

MANAGE = """
import sys
from django.core.management import execute_from_command_line
execute_from_command_line(sys.argv)
"""

SETTINGS = """
SECRET_KEY = "a throw-away project"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = {apps!r}
DATABASES = {{"default": {database!r}}}
"""

CONTRIB = ["django.contrib.contenttypes", "django.contrib.auth"]
OURS = ["pgtrigger", "trigger_kit"]

FUNCTIONS = """
SELECT proname, prosrc, prosecdef, proconfig, obj_description(oid, 'pg_proc') FROM pg_proc
WHERE proname ~ '^~?tk_' ORDER BY proname
"""
TRIGGERS = """
SELECT tgname, pg_get_triggerdef(oid), tgenabled, obj_description(oid, 'pg_trigger') FROM pg_trigger
WHERE NOT tgisinternal ORDER BY tgname, tgrelid::regclass::text
"""
TABLES = """
SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename NOT LIKE 'django_%'
AND tablename NOT IN ('auth_permission', 'tk_touched') ORDER BY tablename
"""


@dataclass(frozen=True)
class Outcome:
    """What a command printed, and its exit code."""

    command: str
    code: int
    stdout: str
    stderr: str

    def __str__(self) -> str:
        return f"manage.py {self.command} -> {self.code}\n{self.stdout}\n{self.stderr}"


class Worker:
    """The process that runs management commands: see worker.py."""

    def __init__(self, folder: Path) -> None:
        self.socket = str(folder / "s")
        command = [sys.executable, "-W", "error", str(WORKER), self.socket]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment())
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def connect(self, project: Path) -> TextIO:
        """Start a process for a project: it takes one command line at a time, as JSON, and ends with the stream."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(self.socket)
            stream = connection.makefile("rw")
        stream.write(f"{project}\n")
        return stream

    def close(self) -> None:
        """End the process."""
        self.process.terminate()
        self.process.communicate()


def environment(*paths: Path) -> dict[str, str]:
    """Return the environment of a command that imports from these folders."""
    path = os.pathsep.join(map(str, [*paths, ROOT]))
    return {**os.environ, "PYTHONPATH": path, "DJANGO_SETTINGS_MODULE": "settings", "PYTHONDONTWRITEBYTECODE": "1"}


@dataclass
class Project:
    """Settings, apps and a database. ``apps`` are the project's own, in the order of INSTALLED_APPS."""

    path: Path
    server: Server
    worker: Worker
    database: str
    apps: list[str]
    installed: list[str] = field(default_factory=lambda: [*OURS])
    options: dict[str, str] = field(default_factory=dict)
    _channel: TextIO | None = None
    _connection: psycopg.Connection[Any] | None = None

    # Files

    def write_settings(self, *, options: dict[str, str] | None = None, extra: str = "") -> None:
        """Write settings.py; ``options`` are the database's OPTIONS."""
        self.close()
        self.options = self.options if options is None else options
        entry = self.server.django_settings
        entry |= {"NAME": self.database, "OPTIONS": {**entry["OPTIONS"], **self.options}}
        text = SETTINGS.format(apps=[*self.installed, *self.apps], database=entry) + extra
        (self.path / "settings.py").write_text(text)
        (self.path / "manage.py").write_text(MANAGE)

    def write_models(self, **sources: str) -> None:
        """Replace the models.py of some apps."""
        self.close()
        for app, source in sources.items():
            folder = self.path / app
            (folder / "migrations").mkdir(parents=True, exist_ok=True)
            for name in ("__init__.py", "migrations/__init__.py"):
                (folder / name).touch()
            (folder / "models.py").write_text(source)

    def write_migration(self, app: str, name: str, dependencies: list[tuple[str, str]], operations: str) -> None:
        """Write a migration by hand."""
        self.close()
        text = (
            "from django.db import migrations, models\n"
            f"class Migration(migrations.Migration):\n    dependencies = {dependencies!r}\n    operations = [{operations}]\n"
        )
        (self.path / app / "migrations" / f"{name}.py").write_text(text)

    def migration_files(self) -> list[tuple[str, str]]:
        """Return app and name of every migration of the project."""
        return [(app, file.stem) for app in self.apps for file in sorted(self.path.glob(f"{app}/migrations/0*.py"))]

    def operations(self, app: str, name: str) -> list[str]:
        """Return what a migration file does: ``AddRule author.num_books``, one string per operation."""
        tree = ast.parse((self.path / app / "migrations" / f"{name}.py").read_text())
        return [_describe(call) for call in _migration_list(tree, "operations")]

    def dependencies(self, app: str, name: str) -> list[tuple[str, str]]:
        """Return a migration file's dependencies on other migrations; a swappable one as (setting, '')."""
        tree = ast.parse((self.path / app / "migrations" / f"{name}.py").read_text())
        return [
            ast.literal_eval(item) if isinstance(item, ast.Tuple) else ("swappable", "")
            for item in _migration_list(tree, "dependencies")
        ]

    # Commands

    def manage(self, command: str, *, code: int | None = 0) -> Outcome:
        """Run a management command; its exit code must be ``code``, unless that is None.

        Commands on the same models share one process, which is started for the first of them.
        """
        if self._channel is None:
            self._channel = self.worker.connect(self.path)
        self._channel.write(json.dumps(shlex.split(command)) + "\n")
        self._channel.flush()
        outcome = Outcome(command, **json.loads(self._channel.readline()))
        assert code is None or outcome.code == code, str(outcome)
        return outcome

    def manage_alone(self, command: str, *, code: int | None = 0) -> Outcome:
        """Run manage.py in a process of its own."""
        done = subprocess.run(
            [sys.executable, "-W", "error", "manage.py", *shlex.split(command)],
            capture_output=True,
            text=True,
            cwd=self.path,
            env=environment(self.path),
            stdin=subprocess.DEVNULL,
        )
        outcome = Outcome(command, done.returncode, done.stdout, done.stderr)
        assert code is None or outcome.code == code, str(outcome)
        return outcome

    def makemigrations(self, **sources: str) -> dict[str, list[str]]:
        """Replace models, run makemigrations and return what it wrote: the operations of every app's new files."""
        before = self.migration_files()
        if sources:
            self.write_models(**sources)
        self.manage("makemigrations --noinput")
        written: dict[str, list[str]] = {}
        for app, name in self.migration_files():
            if (app, name) not in before:
                written.setdefault(app, []).extend(self.operations(app, name))
        return written

    def deploy(self, **sources: str) -> dict[str, list[str]]:
        """Do makemigrations and migrate; then nothing may be left to do, and every value must be right."""
        written = self.makemigrations(**sources)
        self.manage("migrate")
        self.assert_settled()
        return written

    def assert_settled(self) -> None:
        """Assert that no change is left to migrate, every rule is installed and every value is right."""
        self.manage("makemigrations --check --dry-run")
        self.assert_in_sync()
        assert set(self.statuses().values()) <= {"installed"}, self.statuses()

    def assert_in_sync(self) -> None:
        """Assert that every value is right."""
        self.manage("trigger_kit verify")

    def statuses(self) -> dict[str, str]:
        """Return what ``trigger_kit ls`` says."""
        return {item["rule"]: item["status"] for item in json.loads(self.manage("trigger_kit ls --json").stdout)}

    # Database

    @property
    def url(self) -> str:
        """Where the project's database is."""
        return make_conninfo(self.server.url, dbname=self.database)

    def sql(self, statement: str, *params: Any) -> list[tuple[Any, ...]]:
        """Run raw SQL as a client without Django would; return the rows."""
        if self._connection is None:
            self._connection = psycopg.connect(self.url, autocommit=True)
        cursor = self._connection.execute(statement, params or None)
        return cursor.fetchall() if cursor.description else []

    def value(self, statement: str) -> Any:
        """Return the only value of the only row."""
        ((value,),) = self.sql(statement)
        return value

    def psql(self, script: str) -> str:
        """Run a script through psql."""
        command = [self.server.psql, "--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1", "--dbname", self.url]
        return subprocess.run(command, input=script, capture_output=True, text=True, check=True).stdout

    def objects(self) -> dict[str, list[tuple[Any, ...]]]:
        """Return our functions and all triggers, with source, definition, state and comment."""
        return {"functions": self.sql(FUNCTIONS), "triggers": self.sql(TRIGGERS)}

    def rows(self) -> dict[str, list[Any]]:
        """Return the rows of every table as dictionaries."""
        tables = [table for (table,) in self.sql(TABLES)]
        found = {t: [row for (row,) in self.sql(f'SELECT to_jsonb(t) FROM "{t}" AS t')] for t in tables}
        return {t: sorted(rows, key=lambda row: json.dumps(row, sort_keys=True)) for t, rows in found.items()}

    def rows_after(self, rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """Return the rows that the database would have after an insert of these; it does not keep them."""
        self.sql("BEGIN")
        try:
            for table, found in rows.items():
                values = f'jsonb_populate_recordset(NULL::"{table}", %s::jsonb)'
                self.sql(f'INSERT INTO "{table}" SELECT * FROM {values}', json.dumps(found))
            return self.rows()
        finally:
            self.sql("ROLLBACK")

    def assert_like(self, other: Project) -> None:
        """Assert that two roads led to one database: functions, triggers, comments, and values for the same rows.

        ``other`` is a database built from scratch by the same models, without rows.
        """
        ours, theirs = self.objects(), other.objects()
        assert [row[0] for row in ours["triggers"]] == [row[0] for row in theirs["triggers"]]
        assert [row[0] for row in ours["functions"]] == [row[0] for row in theirs["functions"]]
        assert ours == theirs
        assert self.rows() == other.rows_after(self.rows())

    def close(self) -> None:
        """End the process."""
        self.process.terminate()
        self.process.communicate()


def environment(*paths: Path) -> dict[str, str]:
    """Return the environment of a command that imports from these folders."""
    path = os.pathsep.join(map(str, [*paths, ROOT]))
    return {**os.environ, "PYTHONPATH": path, "DJANGO_SETTINGS_MODULE": "settings", "PYTHONDONTWRITEBYTECODE": "1"}


@dataclass
class Project:
    """Settings, apps and a database. ``apps`` are the project's own, in the order of INSTALLED_APPS."""

    path: Path
    server: Server
    worker: Worker
    database: str
    apps: list[str]
    installed: list[str] = field(default_factory=lambda: [*OURS])
    options: dict[str, str] = field(default_factory=dict)
    _channel: TextIO | None = None
    _connection: psycopg.Connection[Any] | None = None

    # Files

    def write_settings(self, *, options: dict[str, str] | None = None, extra: str = "") -> None:
        """Write settings.py; ``options`` are the database's OPTIONS."""
        self.close()
        self.options = self.options if options is None else options
        entry = self.server.django_settings
        entry |= {"NAME": self.database, "OPTIONS": {**entry["OPTIONS"], **self.options}}
        text = SETTINGS.format(apps=[*self.installed, *self.apps], database=entry) + extra
        (self.path / "settings.py").write_text(text)
        (self.path / "manage.py").write_text(MANAGE)

    def write_models(self, **sources: str) -> None:
        """Replace the models.py of some apps."""
        self.close()
        for app, source in sources.items():
            folder = self.path / app
            (folder / "migrations").mkdir(parents=True, exist_ok=True)
            for name in ("__init__.py", "migrations/__init__.py"):
                (folder / name).touch()
            (folder / "models.py").write_text(source)

    def write_migration(self, app: str, name: str, dependencies: list[tuple[str, str]], operations: str) -> None:
        """Write a migration by hand."""
        self.close()
        text = (
            "from django.db import migrations, models\n"
            f"class Migration(migrations.Migration):\n    dependencies = {dependencies!r}\n    operations = [{operations}]\n"
        )
        (self.path / app / "migrations" / f"{name}.py").write_text(text)

    def migration_files(self) -> list[tuple[str, str]]:
        """Return app and name of every migration of the project."""
        return [(app, file.stem) for app in self.apps for file in sorted(self.path.glob(f"{app}/migrations/0*.py"))]

    def operations(self, app: str, name: str) -> list[str]:
        """Return what a migration file does: ``AddRule author.num_books``, one string per operation."""
        tree = ast.parse((self.path / app / "migrations" / f"{name}.py").read_text())
        return [_describe(call) for call in _migration_list(tree, "operations")]

    def dependencies(self, app: str, name: str) -> list[tuple[str, str]]:
        """Return a migration file's dependencies on other migrations; a swappable one as (setting, '')."""
        tree = ast.parse((self.path / app / "migrations" / f"{name}.py").read_text())
        return [
            ast.literal_eval(item) if isinstance(item, ast.Tuple) else ("swappable", "")
            for item in _migration_list(tree, "dependencies")
        ]

    # Commands

    def manage(self, command: str, *, code: int | None = 0) -> Outcome:
        """Run a management command; its exit code must be ``code``, unless that is None.

        Commands on the same models share one process, which is started for the first of them.
        """
        if self._channel is None:
            self._channel = self.worker.connect(self.path)
        self._channel.write(json.dumps(shlex.split(command)) + "\n")
        self._channel.flush()
        outcome = Outcome(command, **json.loads(self._channel.readline()))
        assert code is None or outcome.code == code, str(outcome)
        return outcome

    def manage_alone(self, command: str, *, code: int | None = 0) -> Outcome:
        """Run manage.py in a process of its own."""
        done = subprocess.run(
            [sys.executable, "-W", "error", "manage.py", *shlex.split(command)],
            capture_output=True,
            text=True,
            cwd=self.path,
            env=environment(self.path),
            stdin=subprocess.DEVNULL,
        )
        outcome = Outcome(command, done.returncode, done.stdout, done.stderr)
        assert code is None or outcome.code == code, str(outcome)
        return outcome

    def makemigrations(self, **sources: str) -> dict[str, list[str]]:
        """Replace models, run makemigrations and return what it wrote: the operations of every app's new files."""
        before = self.migration_files()
        if sources:
            self.write_models(**sources)
        self.manage("makemigrations --noinput")
        written: dict[str, list[str]] = {}
        for app, name in self.migration_files():
            if (app, name) not in before:
                written.setdefault(app, []).extend(self.operations(app, name))
        return written

    def deploy(self, **sources: str) -> dict[str, list[str]]:
        """Do makemigrations and migrate; then nothing may be left to do, and every value must be right."""
        written = self.makemigrations(**sources)
        self.manage("migrate")
        self.assert_settled()
        return written

    def assert_settled(self) -> None:
        """Assert that no change is left to migrate, every rule is installed and every value is right."""
        self.manage("makemigrations --check --dry-run")
        self.assert_in_sync()
        assert set(self.statuses().values()) <= {"installed"}, self.statuses()

    def assert_in_sync(self) -> None:
        """Assert that every value is right."""
        self.manage("trigger_kit verify")

    def statuses(self) -> dict[str, str]:
        """Return what ``trigger_kit ls`` says."""
        return {item["rule"]: item["status"] for item in json.loads(self.manage("trigger_kit ls --json").stdout)}

    # Database

    @property
    def url(self) -> str:
        """Where the project's database is."""
        return make_conninfo(self.server.url, dbname=self.database)

    def sql(self, statement: str, *params: Any) -> list[tuple[Any, ...]]:
        """Run raw SQL as a client without Django would; return the rows."""
        if self._connection is None:
            self._connection = psycopg.connect(self.url, autocommit=True)
        cursor = self._connection.execute(statement, params or None)
        return cursor.fetchall() if cursor.description else []

    def value(self, statement: str) -> Any:
        """Return the only value of the only row."""
        ((value,),) = self.sql(statement)
        return value

    def psql(self, script: str) -> str:
        """Run a script through psql."""
        command = [self.server.psql, "--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1", "--dbname", self.url]
        return subprocess.run(command, input=script, capture_output=True, text=True, check=True).stdout

    def objects(self) -> dict[str, list[tuple[Any, ...]]]:
        """Return our functions and all triggers, with source, definition, state and comment."""
        return {"functions": self.sql(FUNCTIONS), "triggers": self.sql(TRIGGERS)}

    def rows(self) -> dict[str, list[Any]]:
        """Return the rows of every table as dictionaries."""
        tables = [table for (table,) in self.sql(TABLES)]
        found = {t: [row for (row,) in self.sql(f'SELECT to_jsonb(t) FROM "{t}" AS t')] for t in tables}
        return {t: sorted(rows, key=lambda row: json.dumps(row, sort_keys=True)) for t, rows in found.items()}

    def load(self, rows: dict[str, list[Any]]) -> None:
        """Insert rows that another project returned, children before their parents or not."""
        inserts = [
            f'INSERT INTO "{table}" SELECT * FROM jsonb_populate_recordset(NULL::"{table}", {literal});'
            for table, found in rows.items()
            if (literal := psycopg.sql.quote(json.dumps(found)))
        ]
        self.sql("BEGIN;" + "".join(inserts) + "COMMIT;")

    def assert_like(self, other: Project) -> None:
        """Assert that two roads led to one database: functions, triggers, comments, and values for the same rows.

        ``other`` is a database built from scratch by the same models, without rows.
        """
        ours, theirs = self.objects(), other.objects()
        assert [row[0] for row in ours["triggers"]] == [row[0] for row in theirs["triggers"]]
        assert [row[0] for row in ours["functions"]] == [row[0] for row in theirs["functions"]]
        assert ours == theirs
        other.load(self.rows())
        assert self.rows() == other.rows()

    def close(self) -> None:
        """End the process and the connection."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _migration_list(tree: ast.Module, name: str) -> Iterator[Any]:
    (migration,) = (node for node in tree.body if isinstance(node, ast.ClassDef))
    for node in migration.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == name:
            assert isinstance(node.value, ast.List)
            yield from node.value.elts


def _describe(call: ast.Call) -> str:
    assert isinstance(call.func, ast.Attribute)
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    words = [_constant(given.get("model_name")), _constant(given.get("name"))]
    words.append(_constant(given.get("field")))
    if isinstance(rule := given.get("rule"), ast.Call):
        words.append(_constant(rule.args[0]))
    if "fields" in given and isinstance(given["fields"], ast.List) and call.func.attr == "BackfillRule":
        words.append(",".join(filter(None, map(_constant, given["fields"].elts))))
    if call.func.attr.startswith("Rename"):
        words += [_constant(given.get("old_name")), _constant(given.get("new_name"))]
    return f"{call.func.attr} {'.'.join(word for word in words if word)}"


def _constant(node: Any) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None
