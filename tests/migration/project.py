"""A throw-away Django project with a database of its own, driven through manage.py."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import psycopg
from psycopg.conninfo import make_conninfo

from dev.postgres import Server
from tests.migration import written
from tests.migration.worker import Outcome, Worker, run_alone, run_in

OURS = ["trigger_kit"]

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

FUNCTIONS = """
SELECT pronamespace::regnamespace::text, proname, prosrc, prosecdef, proconfig, obj_description(oid, 'pg_proc')
FROM pg_proc WHERE proname ~ '^~?tk_' AND proname <> 'tk_commit' AND proname !~ '_v1$' ORDER BY pronamespace::regnamespace::text, proname
"""
TRIGGERS = """
SELECT tgrelid::regclass::text, tgname, pg_get_triggerdef(oid), tgenabled, obj_description(oid, 'pg_trigger')
FROM pg_trigger WHERE NOT tgisinternal AND tgname <> 'tk_commit' ORDER BY tgrelid::regclass::text, tgname
"""
TABLES = """
SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename NOT LIKE 'django_%'
AND tablename NOT IN ('auth_permission', 'tk_commit', 'tk_state', 'tk_touched', 'tk_waiting') ORDER BY tablename
"""


@dataclass
class Project:
    """Settings, apps and a database.

    ``apps`` are the project's own, ``installed`` the others; INSTALLED_APPS has ``installed`` first.
    """

    path: Path
    server: Server
    worker: Worker
    database: str
    apps: list[str]
    installed: list[str] = field(default_factory=lambda: [*OURS])
    _stream: TextIO | None = None
    _connection: psycopg.Connection[Any] | None = None

    # Files

    def write_settings(self, *, options: dict[str, str] | None = None, extra: str = "") -> None:
        """Write settings.py and manage.py; ``options`` are the database's OPTIONS."""
        self.close()
        entry = self.server.django_settings
        entry |= {"NAME": self.database, "OPTIONS": {**entry["OPTIONS"], **(options or {})}}
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

    def write_migration(self, app: str, name: str, after: str, operations: str) -> None:
        """Write a migration by hand, after another one of its app."""
        self.close()
        (self.path / app / "migrations" / f"{name}.py").write_text(
            "from django.db import migrations, models\n\n\nclass Migration(migrations.Migration):\n"
            f"    dependencies = [({app!r}, {after!r})]\n    operations = [{operations}]\n"
        )

    def files(self) -> list[Path]:
        """Return the migration files of the project's apps."""
        return [file for app in self.apps for file in sorted(self.path.glob(f"{app}/migrations/[0-9]*.py"))]

    def last(self, app: str) -> Path:
        """Return the newest migration file of an app."""
        return [file for file in self.files() if file.parents[1].name == app][-1]

    # Commands

    def manage(self, command: str, *, code: int | None = 0, answers: str = "") -> Outcome:
        """Run a management command; its exit code must be ``code``, unless that is None.

        Commands on the same models share one process, which is started for the first of them.
        """
        if self._stream is None:
            self._stream = self.worker.connect(self.path)
        outcome = run_in(self._stream, command, answers)
        assert code is None or outcome.code == code, str(outcome)
        return outcome

    def manage_alone(self, command: str, *, code: int | None = 0) -> Outcome:
        """Run manage.py in a process of its own."""
        outcome = run_alone(self.path, command)
        assert code is None or outcome.code == code, str(outcome)
        return outcome

    def makemigrations(self, *, answers: str = "", **sources: str) -> dict[str, list[str]]:
        """Replace models, run makemigrations and return the operations that it wrote for each app."""
        before = self.files()
        if sources:
            self.write_models(**sources)
        self.manage("makemigrations" if answers else "makemigrations --noinput", answers=answers)
        found: dict[str, list[str]] = {}
        for file in self.files():
            if file not in before:
                found.setdefault(file.parents[1].name, []).extend(written.operations(file))
        return found

    def deploy(self, *, answers: str = "", **sources: str) -> dict[str, list[str]]:
        """Do makemigrations and migrate; then nothing may be left to do, and every value must be right."""
        found = self.makemigrations(answers=answers, **sources)
        self.manage("migrate")
        self.assert_settled()
        return found

    def assert_settled(self) -> None:
        """Assert that no change is left to migrate, every rule is installed and every value is right."""
        self.manage("makemigrations --check --dry-run")
        self.assert_in_sync()
        assert set(self.statuses().values()) <= {"installed"}, self.statuses()

    def assert_in_sync(self) -> None:
        """Assert that every value is right."""
        self.manage("trigger_kit verify")

    def statuses(self) -> dict[str, str]:
        """Return what ``trigger_kit ls`` says of each rule."""
        return {item["rule"]: item["status"] for item in json.loads(self.manage("trigger_kit ls --json").stdout)}

    # Database

    def new_database(self) -> None:
        """Go on with an empty database in place of this one."""
        self.close()
        with psycopg.connect(self.server.url, autocommit=True) as connection:
            connection.execute(f'DROP DATABASE "{self.database}" WITH (FORCE)')
            connection.execute(f'CREATE DATABASE "{self.database}" TEMPLATE template0')

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
        done = subprocess.run(command, input=script, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

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
            self.sql("SET CONSTRAINTS ALL IMMEDIATE")
            return self.rows()
        finally:
            self.sql("ROLLBACK")

    def assert_like(self, scratch: Project) -> None:
        """Assert that two roads led to one database: functions, triggers, comments, and values for the same rows.

        ``scratch`` is a database made by one migration of the same models, without rows.
        """
        ours, theirs = self.objects(), scratch.objects()
        assert [row[:2] for row in ours["triggers"]] == [row[:2] for row in theirs["triggers"]]
        assert [row[:2] for row in ours["functions"]] == [row[:2] for row in theirs["functions"]]
        assert ours == theirs
        assert self.rows() == scratch.rows_after(self.rows())

    def close(self) -> None:
        """End the process and the connection."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        if self._connection is not None:
            self._connection.close()
            self._connection = None
