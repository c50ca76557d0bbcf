"""What else Django's commands do with migrations: plans, branches that merge, pruning, optimizing, printing SQL."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.migration.conftest import Make
from tests.migration.library import CHURN, NUM_BOOKS, NUM_PUBLISHED, PAGES_TOTAL, ROWS, Kept, library
from tests.migration.project import Project
from tests.migration.written import operations

BOTH = library(NUM_BOOKS, NUM_PUBLISHED)
PLAIN_TOTAL = PAGES_TOTAL.replace("default=0, e", "default=0, db_default=0, e")
CHANGED = Kept(NUM_BOOKS.field, NUM_PUBLISHED.rule.replace("num_published", "num_books"))


def printed(project: Project, models: str) -> list[str]:
    """Return the lines in which makemigrations says what it writes."""
    project.write_models(books=models)
    return re.findall(r"^    (\S .*)$", project.manage("makemigrations --noinput").stdout, re.MULTILINE)


def test_makemigrations_and_plan_say_what_happens(make: Make) -> None:
    project = make(books=library(NUM_BOOKS), rows=ROWS)
    assert printed(project, BOTH) == [
        "+ Add field num_published to author",
        "+ Add rule num_published to author",
    ]
    assert printed(project, library(CHANGED, NUM_PUBLISHED)) == ["~ Alter rule num_books of author"]
    assert printed(project, library(NUM_BOOKS.without_rule, NUM_PUBLISHED)) == ["- Remove rule num_books from author"]
    names = [file.stem for file in project.files()]
    assert names[1:] == [
        "0002_author_num_published_author_num_published_rule",
        "0003_alter_author_num_books_rule",
        "0004_remove_author_num_books_rule",
    ]
    plan = project.manage("migrate --plan").stdout
    for line in (
        "Add rule num_published to author",
        "Alter rule num_books of author",
        "Remove rule num_books from author",
    ):
        assert line in plan
    before = project.objects()
    assert "Undo Add rule num_books to author" in project.manage("migrate --plan books zero").stdout
    assert project.objects() == before


def test_an_operation_reads_well(make: Make) -> None:
    project = make(books=library(), rows=ROWS)
    project.makemigrations(books=library(NUM_BOOKS))
    text = project.last("books").read_text()
    assert len(text.splitlines()) <= 40
    lines = [line.strip() for line in text.splitlines()]
    start = lines.index("trigger_kit.migration.operations.AddRule(")
    assert lines[start + 1] == "model_name='author',"
    assert re.fullmatch(r"rule=trigger_kit.Denormalize\('num_books', \S+Count\('books'\)\),", lines[start + 2])
    assert lines[start + 3] == "),"
    script = project.manage("sqlmigrate books 0002").stdout
    for text in (
        "-- Add rule num_books to author",
        "-- After INSERT on books_book: add the difference to books_author (by id).",
        '-- Written by trigger_kit for books.Author: num_books = Count("books")',
        'UPDATE "public"."books_author" AS target',
    ):
        assert text in script
    project.manage("migrate")
    backwards = project.manage("sqlmigrate --backwards books 0002").stdout
    assert re.search(r'DROP FUNCTION IF EXISTS "?public"?\."~tk_books_author_guard', backwards)
    project.psql(backwards)
    project.manage("migrate --fake books 0001")
    assert project.objects() == {"functions": [], "triggers": []}


MERGED = library(NUM_BOOKS, NUM_PUBLISHED, PAGES_TOTAL)


@pytest.mark.parametrize("is_reversed", [False, True], ids=["one", "the other"])
def test_two_branches_merge_in_either_order(inplace: Make, anew: Make, is_reversed: bool) -> None:
    """Each branch compiles what the state has by then, that of the other included: nothing is left to write."""
    branches = [("0002_a", library(NUM_BOOKS, NUM_PUBLISHED)), ("0002_b", library(NUM_BOOKS, PAGES_TOTAL))]
    if is_reversed:
        branches.reverse()
    project = inplace(books=library(NUM_BOOKS), rows=ROWS)
    written = []
    for name, models in branches:
        project.makemigrations(books=models)
        written.append(project.last("books").rename(project.path / name))
    folder = project.path / "books" / "migrations"
    for file in written:
        file.rename(folder / f"{file.name}.py")
        project.write_models(books=dict(branches)[file.name])
        project.manage(f"migrate books {file.name}")
        project.sql(
            CHURN if file is written[0] else "UPDATE books_book SET pages = pages + 1, published = NOT published"
        )
    names = [file.name for file in written]
    project.write_migration("books", "0003_merge", names[0], "")
    merge = folder / "0003_merge.py"
    merge.write_text(
        merge.read_text().replace(f"('books', '{names[0]}')", f"('books', {names[0]!r}), ('books', {names[1]!r})")
    )
    assert project.deploy(books=MERGED) == {}
    project.assert_like(anew(books=MERGED))

    # On a fresh database they come one after the other, in the order of their names.
    project.manage("migrate books zero")
    assert project.objects() == {"functions": [], "triggers": []}
    project.manage("migrate")
    project.sql(ROWS)
    project.assert_settled()
    project.assert_like(anew(books=MERGED))


def test_makemigrations_merges_two_branches(make: Make) -> None:
    project = make(books=library(NUM_BOOKS), rows=ROWS)
    project.makemigrations(books=library(NUM_BOOKS, NUM_PUBLISHED))
    first = project.last("books")
    project.manage("migrate")
    first.rename(aside := Path(project.path) / "aside")
    project.makemigrations(books=library(NUM_BOOKS, PAGES_TOTAL))
    aside.rename(first)
    project.write_models(books=MERGED)
    assert "Conflicting migrations" in project.manage("makemigrations", code=1).stderr
    project.manage("makemigrations --merge --noinput")
    project.manage("migrate")
    project.assert_settled()


def without_transaction(file: Path) -> None:
    """Let a migration be no transaction."""
    head = "class Migration(migrations.Migration):\n"
    file.write_text(file.read_text().replace(head, head + "    atomic = False\n"))


def test_a_migration_that_is_no_transaction(inplace: Make, anew: Make) -> None:
    project = inplace(books=library(NUM_BOOKS), rows=ROWS)
    project.makemigrations(books=library(CHANGED, PAGES_TOTAL))
    without_transaction(project.last("books"))
    script = project.manage("sqlmigrate books 0002").stdout
    project.manage("migrate")
    project.assert_settled()
    project.assert_like(anew(books=library(CHANGED, PAGES_TOTAL)))
    project.sql(CHURN)
    project.manage("migrate books 0001")
    project.write_models(books=library(NUM_BOOKS))
    project.assert_in_sync()
    project.assert_like(anew(books=library(NUM_BOOKS)))
    project.psql(script)
    before = project.objects()
    project.manage("migrate --fake")
    assert project.objects() == before
    project.write_models(books=library(CHANGED, PAGES_TOTAL))
    project.assert_settled()


def test_what_fails_in_the_middle_of_no_transaction_is_run_again(inplace: Make, anew: Make) -> None:
    bare, kept = library(NUM_BOOKS, PLAIN_TOTAL.without_rule), library(CHANGED, PLAIN_TOTAL)
    project = inplace(books=bare, rows=ROWS)
    project.makemigrations(books=kept)
    file = project.last("books")
    without_transaction(file)
    text = file.read_text()
    between = "        migrations.RunSQL('SELECT 1 / 0'),\n"
    second = text.rindex("        trigger_kit.migration.operations.")
    file.write_text(text[:second] + between + text[second:])
    assert "division by zero" in project.manage("migrate", code=1).stderr
    # Half of it is there: what is kept by then is kept right.
    project.sql(CHURN)
    assert project.statuses()["books.Author:pages_total"] != "installed"
    project.write_models(books=library(CHANGED, PLAIN_TOTAL.without_rule))
    project.assert_in_sync()
    project.write_models(books=kept)
    file.write_text(text)
    project.manage("migrate")
    project.assert_settled()
    project.assert_like(anew(books=kept))


def test_empty_pruned_and_optimized_migrations(make: Make, scratch: Make) -> None:
    project = make(books=library(), rows=ROWS)
    project.makemigrations(books=library(NUM_BOOKS))
    project.manage("makemigrations --empty books")
    project.manage("migrate")
    project.assert_settled()
    empty = project.last("books")
    assert operations(empty) == []
    empty.unlink()
    project.close()
    project.manage("migrate --prune books")
    assert project.value("SELECT count(*) FROM django_migrations WHERE app = 'books'") == 2
    project.assert_settled()

    project.makemigrations(books=library(CHANGED))
    second, third = project.files()[1:]
    both = [re.search(r"    operations = \[\n(.*)    \]\n", file.read_text(), re.DOTALL) for file in (second, third)]
    assert both[0]
    assert both[1]
    second.write_text(second.read_text().replace(both[0][1], both[0][1] + both[1][1]))
    third.unlink()
    project.close()
    assert "Optimizing from 3 operations to 2 operations" in project.manage("optimizemigration books 0002").stdout
    assert operations(second) == ["AddField author.num_books", "AddRule author.num_books"]
    project.manage("makemigrations --check --dry-run")
    project.manage("migrate --fake books 0001")
    project.sql("ALTER TABLE books_author DROP COLUMN num_books CASCADE")
    project.manage("migrate")
    project.sql(CHURN)
    project.assert_settled()
    project.assert_like(scratch(books=library(CHANGED)))


WORDY = NUM_BOOKS.replace(
    'Count("books")', """Count("books", filter=Q(books__genre__in=["a  ", "it's", 'say "b"', "c\\n  d"]))"""
)


@pytest.mark.parametrize("width", ["40", "320"])
def test_formatters_and_hooks_change_no_rule(inplace: Make, anew: Make, width: str) -> None:
    """Black's style at two widths, and the hook of pre-commit that takes spaces from the ends of lines."""
    genre = "class Book(models.Model):\n    genre = models.CharField(max_length=40, db_default='')\n"
    models = library(WORDY).replace("class Book(models.Model):\n", genre)
    project = inplace(books=library().replace("class Book(models.Model):\n", genre), rows=ROWS)
    project.makemigrations(books=models)
    file = project.last("books")
    written = file.read_text()
    assert not re.search(r"[ \t]+$", written, re.MULTILINE)
    subprocess.run([sys.executable, "-m", "ruff", "format", "--quiet", "--line-length", width, str(file)], check=True)
    assert file.read_text() != written
    assert project.makemigrations(books=models) == {}
    project.manage("migrate")
    project.assert_like(anew(books=models))
