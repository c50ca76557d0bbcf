"""First fills in batches: two migrations, triggers that compute afresh in between, interruption, and what is refused."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from tests.migration.conftest import Make
from tests.migration.library import CHURN, NUM_BOOKS, NUM_PUBLISHED, PAGES_TOTAL, ROWS, Kept, library
from tests.migration.project import Project
from tests.migration.worker import environment
from tests.migration.written import operations

LISTED = 'TRIGGER_KIT = {"BATCHED_BACKFILL": ["books.Author"]}\n'
COUNTED = Kept("num_books = models.PositiveIntegerField(default=0, editable=False)", NUM_BOOKS.rule)
MAXIMUM = Kept(
    "longest = models.IntegerField(null=True, editable=False)", 'Denormalize("longest", models.Max("books__pages"))'
)
MANY = (
    "INSERT INTO books_author (id, name) SELECT n, '' FROM generate_series(1, {authors}) AS n;"
    "INSERT INTO books_book (author_id, pages, published) "
    "SELECT 1 + n % {authors}, n % 100, n % 2 = 0 FROM generate_series(1, {books}) AS n"
)
FILLED = "SELECT count(*) FROM books_author WHERE num_books > 0"
CHECKED = library(
    PAGES_TOTAL,
    meta="constraints = [models.CheckConstraint(condition=Q(pages_total__lte=0), name='never_positive')]",
)
# Each row that is filled takes a while.
SLOW = """
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.001); RETURN NEW; END';
CREATE TRIGGER slow BEFORE UPDATE ON books_author FOR EACH ROW EXECUTE FUNCTION slow();
"""
WRITES = (
    "INSERT INTO books_book (author_id, pages, published) VALUES ({author}, 7, true)",
    "UPDATE books_book SET author_id = {author} WHERE id = {book}",
    "UPDATE books_book SET pages = pages + 1 WHERE id = {book}",
    "DELETE FROM books_book WHERE id = {book}",
    "UPDATE books_author SET name = 'x' WHERE id = {author}",
)
MODELS = library(COUNTED, PAGES_TOTAL, MAXIMUM)


@pytest.fixture
def listed(inplace: Make) -> Project:
    """A project with rows whose next rules are filled in batches."""
    project = inplace(books=library(), rows=ROWS)
    project.write_settings(extra=LISTED)
    return project


def migrate_apart(project: Project) -> subprocess.Popen[bytes]:
    """Start ``migrate`` in a process of its own."""
    project.close()
    return subprocess.Popen(
        [sys.executable, "manage.py", "migrate"],
        cwd=project.path,
        env=environment(project.path),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# Two migrations -----------------------------------------------------------------------------------------------------


def test_the_fill_comes_in_a_migration_of_its_own(listed: Project, anew: Make) -> None:
    assert listed.deploy(books=MODELS) == {
        "books": [
            "AddField author.longest",
            "AddField author.num_books",
            "AddField author.pages_total",
            "AddRule author.num_books",
            "AddRule author.pages_total",
            "AddRule author.longest",
            "BackfillRule author.num_books,pages_total,longest",
        ]
    }
    columns, rules, fill = listed.files()[-3:]
    assert {words.split()[0] for words in operations(columns)} == {"AddField"}
    assert {words.split()[0] for words in operations(rules)} == {"AddRule"}
    assert operations(fill) == ["BackfillRule author.num_books,pages_total,longest"]
    assert fill.name == "0004_backfill_author.py"
    assert "    atomic = False\n" in fill.read_text()
    assert "batched=True" in fill.read_text()
    assert "atomic" not in columns.read_text() + rules.read_text()
    listed.sql(CHURN)
    listed.assert_in_sync()
    listed.assert_like(anew(books=MODELS))


def test_forwards_backwards_forwards(listed: Project, anew: Make) -> None:
    listed.makemigrations(books=MODELS)
    listed.manage("migrate books 0003")
    between = listed.objects()
    listed.sql(CHURN)
    listed.manage("migrate")
    listed.assert_settled()
    there = listed.objects()
    listed.manage("migrate books 0003")
    assert listed.objects() == between
    listed.sql("DELETE FROM books_book WHERE id = 2")
    listed.manage("migrate")
    assert listed.objects() == there
    listed.assert_settled()
    listed.manage("migrate books 0001")
    assert listed.objects() == {"functions": [], "triggers": []}
    listed.sql("INSERT INTO books_book (id, author_id, pages, published) VALUES (100, 3, 1, true)")
    listed.manage("migrate")
    listed.assert_settled()
    listed.assert_like(anew(books=MODELS))


def test_a_row_that_is_not_filled_yet_takes_no_difference(inplace: Make) -> None:
    """The failure that is prevented: 0 + 10 breaks the CHECK, though the value is -20 after the statement."""
    project = inplace(books=library(), rows=ROWS + "UPDATE books_book SET pages = -pages")
    project.write_settings(extra=LISTED)
    project.makemigrations(books=CHECKED)
    project.manage("migrate books 0003")
    assert project.sql("SELECT pages_total FROM books_author ORDER BY id") == [(0,), (0,), (0,)]
    project.sql("DELETE FROM books_book WHERE id = 1")
    assert project.sql("SELECT pages_total FROM books_author ORDER BY id") == [(-60,), (0,), (0,)]
    project.manage("migrate")
    project.assert_settled()


def test_a_difference_would_break_the_check(inplace: Make) -> None:
    """What happens without functions that compute afresh: the triggers that are there in the end, and an unfilled row."""
    project = inplace(books=library(), rows=ROWS + "UPDATE books_book SET pages = -pages")
    project.makemigrations(books=CHECKED)
    project.manage("migrate")
    project.sql(
        "BEGIN; SELECT set_config('trigger_kit.depth', '0', true); UPDATE books_author SET pages_total = 0; COMMIT"
    )
    with pytest.raises(psycopg.errors.CheckViolation):
        project.sql("DELETE FROM books_book WHERE id = 1")


def test_rules_that_are_there_already_stay_exact(inplace: Make, anew: Make) -> None:
    project = inplace(books=library(NUM_PUBLISHED), rows=ROWS)
    project.write_settings(extra=LISTED)
    models = library(NUM_PUBLISHED, COUNTED, PAGES_TOTAL)
    project.makemigrations(books=models)
    project.manage("migrate books 0003")
    project.sql(CHURN)
    project.manage("trigger_kit verify books.Author:num_published")
    project.manage("migrate")
    project.assert_settled()
    project.assert_like(anew(books=models))


def test_only_what_is_listed_goes_in_batches(inplace: Make, anew: Make) -> None:
    project = inplace(books=library(), rows=ROWS)
    project.write_settings(extra='TRIGGER_KIT = {"BATCHED_BACKFILL": ["books.Author:pages_total"]}\n')
    models = library(COUNTED, PAGES_TOTAL)
    written = project.deploy(books=models)["books"]
    assert [words for words in written if words.startswith("BackfillRule")] == ["BackfillRule author.pages_total"]
    assert operations(project.last("books")) == ["BackfillRule author.pages_total"]
    assert project.files()[-2].read_text().count("fill=False") == 1
    project.assert_like(anew(books=models))


def test_a_changed_rule_is_filled_in_batches_too(inplace: Make, anew: Make) -> None:
    project = inplace(books=library(COUNTED), rows=ROWS)
    project.write_settings(extra=LISTED)
    changed = COUNTED.replace('Count("books")', 'Count("books", filter=Q(books__published=True))')
    models = library(changed)
    assert project.makemigrations(books=models) == {
        "books": ["AlterRule author.num_books", "BackfillRule author.num_books"]
    }
    project.manage("migrate books 0002")
    project.sql("DELETE FROM books_book WHERE id IN (1, 3)")
    project.manage("migrate")
    project.assert_settled()
    project.assert_like(anew(books=models))


def test_a_column_of_another_type_is_filled_in_batches_too(inplace: Make, anew: Make) -> None:
    project = inplace(books=library(PAGES_TOTAL), rows=ROWS)
    project.write_settings(extra=LISTED)
    models = library(
        PAGES_TOTAL.replace("BigIntegerField(default=0", "DecimalField(max_digits=20, decimal_places=2, default=0")
    )
    project.deploy(books=models)
    assert operations(project.last("books")) == ["BackfillRule author.pages_total"]
    project.assert_like(anew(books=models))


def test_a_new_table_has_no_rows_to_fill(inplace: Make) -> None:
    project = inplace("books")
    project.write_settings(extra=LISTED)
    found = project.deploy(books=MODELS)["books"]
    assert not any(words.startswith("BackfillRule") for words in found)
    project.sql(ROWS)
    project.assert_in_sync()


@pytest.mark.parametrize("timing", ["DEFERRED", "QUEUED"])
def test_rules_that_wait(listed: Project, anew: Make, timing: str) -> None:
    header = "from django.db import models\nfrom django.db.models import Count, Sum\nfrom trigger_kit import Denormalize, Timing\n"
    waiting = [
        kept.replace("))", f"), timing=Timing.{timing})")
        if kept is NUM_BOOKS
        else Kept(kept.field, f"{kept.rule[:-1]}, timing=Timing.{timing})")
        for kept in (NUM_BOOKS, PAGES_TOTAL)
    ]
    models = library(*waiting, header=header)
    listed.makemigrations(books=models)
    listed.manage("migrate books 0003")
    listed.sql(CHURN)
    listed.manage("migrate")
    listed.assert_settled()
    listed.sql("DELETE FROM books_book WHERE id = 2")
    listed.assert_in_sync()
    assert listed.objects() == anew(books=models).objects()


def test_a_queue_cannot_serve_a_column_with_a_check(listed: Project) -> None:
    header = "from django.db import models\nfrom django.db.models import Count\nfrom trigger_kit import Denormalize, Timing\n"
    queued = Kept(COUNTED.field, 'Denormalize("num_books", Count("books"), timing=Timing.QUEUED)')
    listed.write_models(books=library(queued, header=header))
    outcome = listed.manage("makemigrations --noinput", code=None)
    assert outcome.code != 0
    assert "BATCHED_BACKFILL" in outcome.stderr


def test_squashed_it_is_filled_in_one_transaction(make: Make) -> None:
    listed = make(books=library(), rows=ROWS)
    listed.write_settings(extra=LISTED)
    listed.deploy(books=MODELS)
    listed.manage("squashmigrations books 0004 --noinput")
    for file in listed.files():
        if "squashed" not in file.name:
            file.unlink()
    listed.sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    listed.manage("migrate")
    listed.sql(ROWS)
    listed.sql(CHURN)
    listed.assert_settled()


# What is refused, what is printed -----------------------------------------------------------------------------------


def test_a_large_table_is_not_filled_in_one_transaction(inplace: Make) -> None:
    project = inplace(books=library(), rows=ROWS)
    project.write_settings(extra='TRIGGER_KIT = {"ATOMIC_BACKFILL_ROWS": 2}\n')
    project.makemigrations(books=library(COUNTED))
    outcome = project.manage("migrate", code=None)
    assert outcome.code != 0
    assert "books.Author has more than 2 rows" in outcome.stderr
    assert "BATCHED_BACKFILL" in outcome.stderr
    assert "ATOMIC_BACKFILL_ROWS" in outcome.stderr
    assert project.objects() == {"functions": [], "triggers": []}
    project.write_settings(extra='TRIGGER_KIT = {"ATOMIC_BACKFILL_ROWS": 3}\n')
    project.manage("migrate")
    project.assert_settled()


def test_sqlmigrate_prints_a_script_that_runs(listed: Project, anew: Make) -> None:
    listed.makemigrations(books=MODELS)
    listed.manage("migrate books 0003")
    script = listed.manage("sqlmigrate books 0004").stdout
    listed.psql(script)
    listed.manage("migrate --fake")
    listed.assert_settled()
    listed.assert_like(anew(books=MODELS))


def test_migrate_says_how_far_it_is(make: Make) -> None:
    project = make(books=library(), rows=MANY.format(authors=3_000, books=9_000))
    project.write_settings(extra=LISTED)
    project.makemigrations(books=MODELS)
    project.manage("migrate books 0003")
    project.sql(SLOW)
    lines = project.manage("migrate").stdout.splitlines()
    start = lines.index("  Applying books.0004_backfill_author...")
    assert "books.Author: " in lines[start + 1]
    assert " of about 3,000 rows (" in lines[start + 1]
    assert "books.Author: 3,000 rows looked at, 3,000 changed, in " in lines[-2]
    assert lines[-1] == " OK"


@pytest.mark.thorough
def test_migrate_can_be_silent(make: Make) -> None:
    project = make(books=library(), rows=MANY.format(authors=3_000, books=9_000))
    project.write_settings(extra=LISTED)
    project.makemigrations(books=MODELS)
    project.manage("migrate books 0003")
    project.sql(SLOW)
    assert project.manage("migrate --verbosity 0").stdout == ""
    project.assert_settled()


# Beside writers -----------------------------------------------------------------------------------------------------


def test_writers_go_on_while_it_migrates(make: Make, scratch: Make) -> None:
    """Nobody fails, and nobody waits long: new columns, rules, rows and functions come in four steps."""
    project = make(books=library(), rows=MANY.format(authors=2_000, books=6_000))
    project.write_settings(extra=LISTED)
    project.makemigrations(books=MODELS)
    is_over = threading.Event()

    def write(seed: int) -> float:
        dice, longest = random.Random(seed), 0.0
        with psycopg.connect(project.url, autocommit=True) as session:
            while not is_over.is_set():
                author, book = dice.randint(1, 2_000), dice.randint(1, 6_000)
                begun = time.monotonic()
                session.execute(dice.choice(WRITES).format(author=author, book=book).encode())
                longest = max(longest, time.monotonic() - begun)
        return longest

    with ThreadPoolExecutor(3) as pool:
        writers = [pool.submit(write, seed) for seed in range(3)]
        try:
            project.manage_alone("migrate")
        finally:
            is_over.set()
        longest = max(writer.result() for writer in writers)
    project.assert_settled()
    project.assert_like(scratch(books=MODELS))
    assert longest < 5


# Interrupted --------------------------------------------------------------------------------------------------------


def test_killed_in_the_middle_it_goes_on_where_it_stopped(make: Make, scratch: Make) -> None:
    project = make(books=library(), rows=MANY.format(authors=3_000, books=9_000))
    project.write_settings(extra=LISTED)
    project.makemigrations(books=MODELS)
    project.manage("migrate books 0003")
    project.sql(SLOW)
    process = migrate_apart(project)
    wait_for(lambda: project.value(FILLED) > 300)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    wait_for(lambda: project.value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0)
    filled = project.value(FILLED)
    assert filled < 3_000
    position = project.value("SELECT value ->> 'rows' FROM tk_state WHERE kind = 'backfill' AND name = 'books.Author'")
    assert 300 <= int(position) <= filled
    project.sql("DELETE FROM books_book WHERE author_id % 7 = 0")
    project.manage("migrate")
    assert project.value("SELECT count(*) FROM tk_state WHERE kind = 'backfill'") == 0
    project.assert_settled()


@pytest.mark.thorough
def test_reversed_after_an_interruption_it_starts_anew(make: Make) -> None:
    project = make(books=library(), rows=MANY.format(authors=3_000, books=9_000))
    project.write_settings(extra=LISTED)
    project.makemigrations(books=MODELS)
    project.manage("migrate books 0003")
    project.sql(SLOW)
    process = migrate_apart(project)
    wait_for(lambda: project.value(FILLED) > 300)
    process.kill()
    process.wait()
    project.manage("migrate books 0001")
    project.sql("DELETE FROM books_book WHERE author_id < 300")
    project.manage("migrate")
    project.assert_settled()
