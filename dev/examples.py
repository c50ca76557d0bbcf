"""Make the committed rule migrations of all examples anew, as ``makemigrations`` writes them today: ``make examples``.

A migration holds the text of its triggers, so it stays as it is when the compiler changes. The examples are to show
what a project gets now. Migrations without rules, and those written by hand, are kept.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "migrations_examples"


@dataclass(frozen=True)
class Step:
    """One run of makemigrations: the migrations that it writes, and what models.py said then in place of now."""

    migrations: tuple[str, ...]
    then: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Example:
    """An app and the runs of makemigrations that made its rule migrations."""

    app: str
    steps: tuple[Step, ...]


NUM_TRACKS = "    num_tracks = models.IntegerField(default=0, editable=False)\n"
SECONDS_TOTAL = "    seconds_total = models.IntegerField(default=0, editable=False)\n"
ONE_RULE = '[Denormalize("num_tracks", Count("tracks"))]'
TWO_RULES = """[
            Denormalize("num_tracks", Count("tracks")),
            Denormalize("seconds_total", Sum("tracks__seconds", default=0)),
        ]"""
PLAYING_TIME = ((NUM_TRACKS, NUM_TRACKS + SECONDS_TOTAL),)
PLAYING_TIME_RULE = (*PLAYING_TIME, ("import Count\n", "import Count, Sum\n"), (ONE_RULE, TWO_RULES))

EXAMPLES = {
    "flights": Example("flights", (Step(("0002_rules",)),)),
    "forum": Example("forum", (Step(("0002_rules",)),)),
    "first_rule": Example("shop", (Step(("0003_rule",)),)),
    "live_table": Example("pages", (Step(("0003_page_num_views", "0004_page_num_views_rule", "0005_backfill_page")),)),
    "other_app": Example("teams", (Step(("0002_rules",)),)),
    "rename": Example(
        "blog",
        (
            Step(("0002_rule",), (("comments__visible", "comments__approved"), ("    visible =", "    approved ="))),
            Step(("0003_rename",)),
        ),
    ),
    "removal": Example(
        "music",
        (
            Step(("0002_rules",), PLAYING_TIME_RULE),
            Step(("0003_remove_rule",), PLAYING_TIME),
            Step(("0004_remove_column",)),
        ),
    ),
}


def main() -> None:
    """Regenerate all examples, or those that the command line names, and say which files changed."""
    for name in sys.argv[1:] or EXAMPLES:
        changed = regenerate(name)
        sys.stdout.write(f"{name}: {', '.join(changed) or 'as it was'}\n")


def regenerate(name: str) -> list[str]:
    """Make the rule migrations of one example anew; return the names of the files that changed."""
    example = EXAMPLES[name]
    committed = FOLDER / name / example.app / "migrations"
    made = {migration for step in example.steps for migration in step.migrations}
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder) / name
        shutil.copytree(FOLDER / name, project, ignore=shutil.ignore_patterns("__pycache__"))
        migrations = project / example.app / "migrations"
        kept = {file.stem: file.read_text(encoding="utf-8") for file in sorted(migrations.glob("[0-9]*.py"))}
        for file in migrations.glob("[0-9]*.py"):
            file.unlink()
        for step in example.steps:
            _put_back(migrations, {stem: text for stem, text in kept.items() if stem < step.migrations[0]}, made)
            _make(project, example.app, step)
        _put_back(migrations, kept, made)
        manage(project, "makemigrations", "--check", "--dry-run")
        return [stem for stem in sorted(made) if _replace(migrations / f"{stem}.py", committed / f"{stem}.py")]


def _put_back(migrations: Path, texts: dict[str, str], made: set[str]) -> None:
    for stem in texts.keys() - made:
        (migrations / f"{stem}.py").write_text(texts[stem], encoding="utf-8")


def _make(project: Path, app: str, step: Step) -> None:
    """Run makemigrations on the models of a step."""
    models = project / app / "models.py"
    now = then = models.read_text(encoding="utf-8")
    for text, other in step.then:
        if text not in then:
            raise SystemExit(f"{models}: {text!r} is not there.")
        then = then.replace(text, other)
    models.write_text(then, encoding="utf-8")
    before = set(migration_names(project, app))
    # Several have names of Django's choice: ``--name`` would give all of them one.
    name = ["--name", step.migrations[0][5:]] if len(step.migrations) == 1 else []
    manage(project, "makemigrations", app, *name)
    models.write_text(now, encoding="utf-8")
    written = tuple(sorted(set(migration_names(project, app)) - before))
    if written != step.migrations:
        raise SystemExit(f"makemigrations wrote {written}, not {step.migrations}.")


def migration_names(project: Path, app: str) -> list[str]:
    """Return the names of an app's migrations."""
    return sorted(file.stem for file in (project / app / "migrations").glob("[0-9]*.py"))


def manage(project: Path, *arguments: str) -> None:
    """Run manage.py in a folder; it says yes to every question. No database is needed."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "manage.py", *arguments],
        cwd=project,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(project), str(ROOT)]), "PYTHONDONTWRITEBYTECODE": "1"},
        input="y\n" * 10,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"manage.py {' '.join(arguments)}\n{done.stdout}{done.stderr}")


def _replace(new: Path, old: Path) -> bool:
    """Put a new file into an old one's place, unless nothing but the date of its making differs."""
    text = new.read_text(encoding="utf-8")
    if old.exists() and _undated(old.read_text(encoding="utf-8")) == _undated(text):
        return False
    old.write_text(text, encoding="utf-8")
    return True


def _undated(text: str) -> str:
    return re.sub(r"^# Generated by .*\n", "", text)


if __name__ == "__main__":
    main()
