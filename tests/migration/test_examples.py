"""migrations_examples/: the committed migrations of the small ones run, and their READMEs show what happens."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dev import examples
from tests.migration.conftest import Workshop
from tests.migration.programs import run
from tests.migration.project import Project

FOLDER = Path(__file__).parents[2] / "migrations_examples"
PROGRESS = re.compile(r"(?:\n    [^\n]* rows[^\n]*)+\n(?= OK)")
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Lesson:
    """An example, rows for its tables as its first rules find them, and what its columns must then be."""

    app: str
    rows: str
    values: str
    expected: list[tuple[object, ...]]


LESSONS = {
    "first_rule": Lesson(
        "shop", "SELECT", "SELECT name, num_orders FROM shop_customer ORDER BY id", [("Ada", 3), ("Bob", 1), ("Eve", 0)]
    ),
    "live_table": Lesson(
        "pages",
        "SELECT",
        "SELECT num_views, count(*) FROM pages_page GROUP BY num_views ORDER BY 1",
        [(0, 1000), (30, 2000)],
    ),
    "other_app": Lesson(
        "teams",
        """
        INSERT INTO auth_user (id, username, password, first_name, last_name, email, is_superuser, is_staff, is_active,
        date_joined) SELECT n, 'u' || n, '', '', '', '', false, false, true, now() FROM generate_series(1, 3) AS n;
        INSERT INTO auth_group (id, name) VALUES (1, 'a'), (2, 'b');
        INSERT INTO auth_user_groups (user_id, group_id) VALUES (1, 1), (2, 1), (3, 2);
        INSERT INTO teams_team (group_id, leader_id) VALUES (1, 3), (2, 1);
        """,
        "SELECT num_members, leader_name FROM teams_team ORDER BY id",
        [(2, "u3"), (1, "u1")],
    ),
    "rename": Lesson(
        "blog",
        """
        INSERT INTO blog_article (title) VALUES ('a'), ('b');
        INSERT INTO blog_comment (article_id, approved) VALUES (1, true), (1, true), (1, false);
        """,
        "SELECT num_comments FROM blog_article ORDER BY id",
        [(2,), (0,)],
    ),
    "removal": Lesson(
        "music",
        """
        INSERT INTO music_album (title) VALUES ('a'), ('b');
        INSERT INTO music_track (album_id, seconds) VALUES (1, 5), (1, 7), (2, 1);
        """,
        "SELECT num_tracks FROM music_album ORDER BY id",
        [(2,), (1,)],
    ),
}  # fmt: skip
each = pytest.mark.parametrize("name", LESSONS)


@pytest.fixture
def project(name: str, workshop: Workshop) -> Iterator[Project]:
    """Copy an example's folder, so that nothing is written into it, and give it an empty database."""
    path = workshop.folder / f"example_{name}_{next(workshop.numbers)}"
    shutil.copytree(FOLDER / name, path, ignore=shutil.ignore_patterns("__pycache__"))
    made = Project(path, workshop.server, workshop.worker, workshop.new_database(), [LESSONS[name].app])
    entry = {**workshop.server.django_settings, "NAME": made.database}
    with (path / "settings.py").open("a") as settings:
        settings.write(f"\nDATABASES = {{'default': {entry!r}}}\n")
    yield made
    workshop.drop(made)


@each
def test_forward_back_and_forward(name: str, project: Project) -> None:
    """With rows from before the rules: values are right on every way, and going back leaves nothing."""
    lesson = LESSONS[name]
    project.manage("migrate")
    project.assert_settled()
    fresh = project.objects()
    project.manage(f"migrate {lesson.app} 0001")
    assert project.objects() == {"functions": [], "triggers": []}
    project.sql(lesson.rows)
    project.manage("migrate")
    project.assert_settled()
    assert project.sql(lesson.values) == lesson.expected
    assert project.objects() == fresh
    assert "trigger_kit.W01" not in project.manage("check --database default").stderr
    project.manage(f"migrate {lesson.app} zero")
    assert project.objects() == {"functions": [], "triggers": []}
    project.manage("migrate")
    project.assert_settled()
    assert project.objects() == fresh


@each
def test_the_readme_shows_what_happens(name: str, project: Project) -> None:
    """Every command of a console block runs, in order, and prints what is shown; … stands for what is left out."""
    lines = "".join(BLOCK.findall((FOLDER / name / "README.md").read_text(encoding="utf-8"))).splitlines()
    assert any("makemigrations --check" in line for line in lines)
    printed = ""
    for line in lines:
        if line.startswith("$ "):
            printed = shell(project, line.removeprefix("$ "))
            continue
        for piece in line.split("…"):
            assert piece.strip() in printed, f"{line!r} is not in\n{printed}"


def shell(project: Project, command: str) -> str:
    """Run a line of a README and return what it prints; how to get there is left to the reader."""
    program, *arguments = shlex.split(command)
    if program in {"cd", "export"}:
        return ""
    assert [program, arguments.pop(0)] == ["python", "manage.py"], command
    if arguments[:2] == ["dbshell", "--"]:
        return run(project.server, "psql", "--no-psqlrc", "--dbname", project.url, *arguments[2:])
    # On a slow machine migrate says how far a fill is, in lines of their own.
    return PROGRESS.sub("", project.manage(shlex.join(arguments)).stdout)


@pytest.mark.parametrize("name", examples.EXAMPLES)
def test_make_examples_finds_its_migrations(name: str) -> None:
    """What ``make examples`` writes anew is there, and all rule migrations are among it."""
    folder = FOLDER / name / examples.EXAMPLES[name].app / "migrations"
    made = {migration for step in examples.EXAMPLES[name].steps for migration in step.migrations}
    with_rules = {file.stem for file in folder.glob("[0-9]*.py") if "trigger_kit" in file.read_text(encoding="utf-8")}
    assert with_rules <= made <= {file.stem for file in folder.glob("[0-9]*.py")}


def test_every_example_is_listed() -> None:
    listed = set(re.findall(r"^\| \[(\w+)\]", (FOLDER / "README.md").read_text(encoding="utf-8"), re.MULTILINE))
    folders = {path.parent.name for path in FOLDER.glob("*/manage.py")}
    assert folders == listed == set(examples.EXAMPLES)


MIGRATIONS = sorted(FOLDER.glob("*/*/migrations/[0-9]*.py"))


@pytest.mark.parametrize("path", MIGRATIONS, ids=lambda path: f"{path.parents[2].name}-{path.stem}")
def test_formatters_and_hooks_leave_a_migration_what_it_is(path: Path, tmp_path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert all(line == line.rstrip() for line in text.splitlines())
    copy = tmp_path / path.name
    copy.write_text(text, encoding="utf-8")
    subprocess.run([sys.executable, "-m", "ruff", "format", "--isolated", "--quiet", str(copy)], check=True)
    formatted = copy.read_text(encoding="utf-8")
    assert ast.dump(ast.parse(formatted)) == ast.dump(ast.parse(text))


def test_migrations_are_short() -> None:
    assert len((FOLDER / "first_rule/shop/migrations/0003_rule.py").read_text().splitlines()) <= 40
    assert len((FOLDER / "forum/forum/migrations/0002_rules.py").read_text().splitlines()) <= 300
