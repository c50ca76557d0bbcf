"""PostgreSQL's own programs, run beside the suite's psql, and a second cluster to bring databases to."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

from dev.postgres import Server
from tests.migration.project import Project

__all__ = ["moved", "program", "run"]


def program(server: Server, name: str) -> str:
    """Return the path of a program of a server's installation."""
    return str(Path(server.psql).with_name(name))


def run(server: Server, name: str, *arguments: str, code: int = 0) -> str:
    """Run a program of a server's installation; return what it printed, errors included."""
    done = subprocess.run([program(server, name), *arguments], capture_output=True, text=True)
    assert done.returncode == code, f"{name} -> {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def moved(project: Project, server: Server, database: str, folder: Path) -> Project:
    """Return a copy of a project's files that works on another database, which is not made here."""
    shutil.copytree(project.path, folder)
    copied = replace(project, path=folder, server=server, database=database, _stream=None, _connection=None)
    copied.write_settings()
    return copied
