"""verify and repair as programs: exit codes, listings in a pipe, a second database beside an SQLite one, read-only roles."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.migration.conftest import Make
from tests.migration.library import NUM_BOOKS, PAGES_TOTAL, ROWS, library
from tests.migration.project import Project
from tests.migration.test_databases import SECOND_ONLY, SQLITE, two_databases

RULE = "books.Author:num_books"
SPOIL = "SET session_replication_role = replica; UPDATE books_author SET num_books = 9 WHERE id > 1; RESET session_replication_role"
MODELS = library(NUM_BOOKS, PAGES_TOTAL)


@pytest.fixture
def project(make: Make) -> Project:
    return make(books=MODELS, rows=ROWS)


def test_exit_codes(project: Project) -> None:
    project.manage_alone("trigger_kit verify", code=0)
    project.sql(SPOIL)
    assert "2 drifted" in project.manage_alone("trigger_kit verify", code=1).stdout
    assert project.manage_alone("trigger_kit verify books.Auther", code=2).stderr.count("\n") == 1
    project.sql("ALTER TABLE books_book RENAME COLUMN pages TO sheets")
    failed = project.manage_alone("trigger_kit verify", code=2)
    assert failed.stderr.splitlines() == [
        "CommandError: The values of books.Author:num_books, books.Author:pages_total cannot be read: "
        "column books_book.pages does not exist. Is everything migrated?"
    ]
    project.sql("ALTER TABLE books_book RENAME COLUMN sheets TO pages")
    project.write_settings(extra='DATABASES["default"] |= {"HOST": "127.0.0.1", "PORT": "1"}\n')
    for command in ("verify", "verify --json", "repair"):
        failed = project.manage_alone(f"trigger_kit {command}", code=2)
        assert "CommandError: The database 'default' cannot be read: connection" in failed.stderr
        assert "Traceback" not in failed.stderr


def test_a_pipe_from_verify_to_repair(project: Project) -> None:
    project.sql(SPOIL)
    manage = f"{sys.executable} manage.py trigger_kit"
    done = subprocess.run(
        ["/bin/sh", "-c", f"{manage} verify --json | {manage} repair --from - --json"],
        cwd=project.path,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "settings"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["changed"] == {RULE: 2}
    project.manage_alone("trigger_kit verify", code=0)


def test_a_second_database_beside_one_that_is_not_postgresql(blank: Make) -> None:
    """Everything is compiled for the database that is looked at, not for the default one."""
    project, second = two_databases(blank, SECOND_ONLY, SQLITE)
    project.makemigrations(books=MODELS)
    project.manage("migrate --database second")
    second.sql(ROWS)
    second.sql(SPOIL)
    for options in ("", "--batch-size 1", "--sample 3"):
        assert "2 drifted" in project.manage(f"trigger_kit verify --database second {options}", code=1).stdout
    project.manage("trigger_kit verify --database second --sample 1%", code=None)
    assert "2 rows repaired" in project.manage("trigger_kit repair --database second --batch-size 1").stdout
    project.manage("trigger_kit verify --database second")
    assert "trigger_kit needs PostgreSQL" in project.manage("trigger_kit verify", code=2).stderr


def test_a_role_that_is_read_only(project: Project) -> None:
    """A database that cannot be written is verified all the same, and says so when it is to be repaired."""
    project.sql(SPOIL)
    project.write_settings(options={"options": "-c default_transaction_read_only=on"})
    verified = project.manage_alone("trigger_kit verify", code=1)
    assert verified.stderr == ""
    failed = project.manage_alone("trigger_kit repair", code=2)
    assert "cannot be repaired: cannot execute SELECT FOR NO KEY UPDATE in a read-only transaction" in failed.stderr
