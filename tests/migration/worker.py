"""Starts the processes that run management commands: the near side of forks.py."""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import trigger_kit

ROOT = Path(trigger_kit.__file__).parents[1]
# A command that takes longer hangs: better a failed test than a suite that never ends.
SECONDS_PER_COMMAND = 120
FORKS = Path(__file__).with_name("forks.py")


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
    """The process that the others are forked from."""

    def __init__(self, folder: Path) -> None:
        self.address = str(folder / "socket")
        command = [sys.executable, "-W", "error", str(FORKS), self.address]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment())
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def connect(self, project: Path) -> TextIO:
        """Start a process for a project; it ends with the stream."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(SECONDS_PER_COMMAND)
            connection.connect(self.address)
            stream = connection.makefile("rw")
        stream.write(f"{project}\n")
        return stream

    def close(self) -> None:
        """End the process."""
        self.process.terminate()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


def run_in(stream: TextIO, command: str, answers: str = "") -> Outcome:
    """Run a command in a process that ``connect`` has started; it reads the answers to its questions."""
    stream.write(json.dumps([shlex.split(command), answers]) + "\n")
    stream.flush()
    return Outcome(command, **json.loads(stream.readline()))


def run_alone(project: Path, command: str) -> Outcome:
    """Run a command as a user does, in a Python of its own."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "manage.py", *shlex.split(command)],
        capture_output=True,
        text=True,
        cwd=project,
        env=environment(project),
        stdin=subprocess.DEVNULL,
        timeout=SECONDS_PER_COMMAND,
    )
    return Outcome(command, done.returncode, done.stdout, done.stderr)


def environment(*paths: Path) -> dict[str, str]:
    """Return the environment of a command that imports from these folders."""
    path = os.pathsep.join(map(str, [*paths, ROOT]))
    return {**os.environ, "PYTHONPATH": path, "DJANGO_SETTINGS_MODULE": "settings", "PYTHONDONTWRITEBYTECODE": "1"}
