"""The first screen of the README: its model, its commands and its printed result are true."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

from tests.migration.conftest import Workshop

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    """Return the first fenced block of a language."""
    found = re.search(rf"```{language}\n(.*?)```", README, re.DOTALL)
    assert found is not None
    return found[1]


def test_the_first_screen(workshop: Workshop) -> None:
    project = workshop.blank("library")
    project.deploy(library=block("python"))
    _, _, session = block("console").partition("$ psql")
    command, _, printed = session.partition('library_author"\n')
    arguments = shlex.split(command + 'library_author"')
    url = project.server.database(project.database).url
    shown = subprocess.run([project.server.psql, url, "-X", *arguments], check=True, capture_output=True, text=True)
    assert [line.rstrip() for line in shown.stdout.strip().splitlines()] == printed.strip().splitlines()
