"""Runs management commands for throw-away projects, each project in a process of its own.

Started once, it imports Django and waits on a socket; for each connection it forks a process, which sets Django up
with the project's settings and answers one command line after the other. That saves most of the start of Python.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import socket
import sys
import traceback
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO

# Nothing that is imported here may look at settings.
import django.core.management.commands.makemigrations
import django.core.management.commands.migrate
import django.db.backends.postgresql.base  # noqa: F401
from django.core.management import execute_from_command_line


def run(arguments: list[str], answers: str) -> dict[str, object]:
    """Run one management command as manage.py would."""
    sys.stdin = StringIO(answers)
    # A command may have written migrations within the file system's clock tick.
    importlib.invalidate_caches()
    stdout, stderr = StringIO(), StringIO()
    code: object = 0
    with redirect_stdout(stdout), redirect_stderr(stderr):
        try:
            execute_from_command_line(["manage.py", *arguments])
        except SystemExit as error:
            code = error.code or 0
        except Exception:
            traceback.print_exc()
            code = 1
    return {"code": code, "stdout": stdout.getvalue(), "stderr": stderr.getvalue()}


def serve(connection: socket.socket) -> None:
    """Enter the project's folder and answer its command lines."""
    with connection, connection.makefile("rw") as stream:
        project = stream.readline().strip()
        os.chdir(project)
        sys.path.insert(0, project)
        os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
        for line in stream:
            stream.write(json.dumps(run(*json.loads(line))) + "\n")
            stream.flush()


def main(path: str) -> None:
    """Fork a process for each connection, until the socket's folder is taken away or this process is ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            connection, _ = listening.accept()
            if os.fork() == 0:
                listening.close()
                sys.stdout.close()
                serve(connection)
                os._exit(0)
            connection.close()


if __name__ == "__main__":
    main(sys.argv[1])
