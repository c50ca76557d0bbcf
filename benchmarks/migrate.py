"""What rules cost those who migrate: the forum's 24 rules beside the same forum without.

``python -m benchmarks.migrate`` makes both projects, and times in each, by turns: all migrations on an empty database,
as a test run makes them; ``migrate`` with nothing to do; a migration that adds a column to a table which no rule reads;
and ``flush``, which every TransactionTestCase does. The last two also within one process, as tests run them: without
its start and Django's checks. Seconds are those that the commands work (CPU time of the process): the machine may be
shared.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from dev.postgres import Server, running_server

ROOT = Path(__file__).resolve().parents[1]
FORUM = ROOT / "migrations_examples" / "forum"

UNRELATED = """
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("other", "{before}")]
    operations = [migrations.AddField("note", "{name}", models.IntegerField(null=True))]
"""
INITIAL = """
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True
    dependencies = []
    operations = [migrations.CreateModel("Note", [("id", models.BigAutoField(primary_key=True))])]
"""
MODELS = """
from django.db import models


class Note(models.Model):
    pass
"""


# Runs each of some commands, and prints the median of their CPU times.
WITHIN = """
import os, statistics, sys, time
os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
import django
django.setup()
from django.core.management import call_command
times = []
for arguments in sys.argv[1:]:
    before = time.process_time()
    call_command(*arguments.split(), verbosity=0, interactive=False, skip_checks=True)
    times.append(time.process_time() - before)
print(statistics.median(times[1:]))
"""


class Project:
    """A copy of the forum, with rules or without."""

    def __init__(self, folder: Path, server: Server, *, has_rules: bool) -> None:
        name = "with_rules" if has_rules else "without"
        self.path = folder / name
        self.server = server.database(f"bench_migrate_{name}")
        shutil.copytree(FORUM, self.path, ignore=shutil.ignore_patterns("__pycache__"))
        settings = (self.path / "settings.py").read_text().replace('"forum"]', '"forum", "other"]')
        if not has_rules:
            models = self.path / "forum" / "models.py"
            text = re.sub(r"denormalizations = \[.*?\n        \]", "pass", models.read_text(), flags=re.DOTALL)
            models.write_text(text)
            rules = self.path / "forum" / "migrations" / "0002_rules.py"
            added = re.sub(r"        trigger_kit\.\S+Rule\(.*?\n        \),\n", "", rules.read_text(), flags=re.DOTALL)
            rules.write_text(added)
            settings = settings.replace('"trigger_kit", ', "")
        (self.path / "settings.py").write_text(settings)
        (self.path / "other" / "migrations").mkdir(parents=True)
        for file, source in {
            "__init__": "",
            "models": MODELS,
            "migrations/__init__": "",
            "migrations/0001_a": INITIAL,
        }.items():
            (self.path / "other" / f"{file}.py").write_text(source)
        self.last = "0001_a"

    def add_migration(self) -> str:
        """Write one more migration that no rule is concerned by, and return its name."""
        name = f"{int(self.last[:4]) + 1:04}_b"
        text = UNRELATED.format(before=self.last, name=f"field_{name}")
        (self.path / "other" / "migrations" / f"{name}.py").write_text(text)
        self.last = name
        return name

    def seconds(self, *arguments: str) -> float:
        """Run a management command and return how long its process has worked."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.run("manage.py", *arguments)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    def seconds_within(self, *commands: str) -> float:
        """Run commands in one process; return how long one of them has worked there, the first left out."""
        return float(self.run("-c", WITHIN, *commands))

    def run(self, *arguments: str, at: Server | None = None) -> str:
        """Run Python in the project, on its own database or on another one, and return what it prints."""
        path = os.pathsep.join([str(self.path), str(ROOT)])
        environment = {**os.environ, "PYTHONPATH": path, "TRIGGER_KIT_DATABASE_URL": (at or self.server).url}
        # Who has set it would have every module compiled anew by each command.
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        # The settings are the project's own, not those of the benchmarks.
        environment.pop("DJANGO_SETTINGS_MODULE", None)
        command = [sys.executable, "-W", "ignore", *arguments]
        done = subprocess.run(command, cwd=self.path, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{' '.join(arguments)}\n{done.stdout}{done.stderr}")
        return done.stdout


def main() -> None:
    """Measure by turns, and print medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with running_server() as server, tempfile.TemporaryDirectory() as folder:
        projects = [Project(Path(folder), server, has_rules=has_rules) for has_rules in (False, True)]
        found: dict[str, list[list[float]]] = {}
        for _ in range(rounds):
            for name, measure in STEPS.items():
                times = [measure(project) for project in projects]
                found.setdefault(name, []).append(times)
        print(f"{'seconds of work':42}{'without':>9}{'24 rules':>10}{'ratio':>8}{'more':>8}")  # noqa: T201
        for name, rows in found.items():
            without, ruled = (statistics.median(column) for column in zip(*rows, strict=True))
            print(f"{name:42}{without:9.3f}{ruled:10.3f}{ruled / without:8.2f}{ruled - without:8.3f}")  # noqa: T201
        for project in projects:
            project.server.drop()


def _empty(project: Project) -> float:
    project.server.create()
    return project.seconds("migrate")


def _unrelated(project: Project) -> float:
    project.add_migration()
    return project.seconds("migrate")


def _unrelated_within(project: Project) -> float:
    return project.seconds_within(*(f"migrate other {project.add_migration()}" for _ in range(8)))


STEPS: dict[str, Callable[[Project], float]] = {
    "all migrations, empty database": _empty,
    "migrate, nothing to do": lambda project: project.seconds("migrate"),
    "migrate, an unrelated AddField": _unrelated,
    "an unrelated AddField, within a process": _unrelated_within,
    "flush": lambda project: project.seconds("flush", "--noinput"),
    "flush, within a process": lambda project: project.seconds_within(*["flush"] * 8),
}


if __name__ == "__main__":
    main()
