"""Four rules come to a large live table by a real migration: ``make bench-backfill``.

A throw-away project with 1,000,000 books of 100,000 authors. Two things are measured:

* *Ratio*: the fill in batches against one ``UPDATE … FROM (SELECT … GROUP BY)`` of the same four columns behind the
  same guard, in turn, and how long the longest batch holds its locks; nobody else writes.
* *Scene*: the same by ``manage.py migrate`` while four writers insert, change, move and delete books. The process is
  killed with SIGKILL in the middle; a second run finishes; every value is compared afterwards.

``--books`` and ``--authors`` make it smaller.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from dev.postgres import Server, running_server

ROOT = Path(__file__).parents[1]
DATABASE = "trigger_kit_backfill"
WRITERS = 4

SETTINGS = """
SECRET_KEY = "a benchmark"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["trigger_kit", "books"]
DATABASES = {{"default": {database!r}}}
TRIGGER_KIT = {{"BATCHED_BACKFILL": ["books.Author"]}}
"""
MANAGE = "import sys; from django.core.management import execute_from_command_line as run; run(sys.argv)"
MODELS = """
from django.db import models
from django.db.models import Count, Max, Q, Sum
from trigger_kit import Denormalize

class Author(models.Model):
    name = models.CharField(max_length=50)
{fields}

class Book(models.Model):
    author = models.ForeignKey(Author, models.CASCADE, related_name="books")
    pages = models.IntegerField(default=0)
    published = models.BooleanField(default=False)
    title = models.CharField(max_length=50, default="")
"""
FOUR_RULES = """
    num_books = models.PositiveIntegerField(default=0, editable=False)
    num_published = models.PositiveIntegerField(default=0, editable=False)
    pages_total = models.BigIntegerField(default=0, editable=False)
    longest = models.IntegerField(null=True, editable=False)
    class Meta:
        denormalizations = [
            Denormalize("num_books", Count("books")),
            Denormalize("num_published", Count("books", filter=Q(books__published=True))),
            Denormalize("pages_total", Sum("books__pages", default=0)),
            Denormalize("longest", Max("books__pages")),
        ]
"""
AT_ONCE = """
UPDATE books_author AS target
SET num_books = fed.num_books, num_published = fed.num_published, pages_total = fed.pages_total, longest = fed.longest
FROM (
    SELECT author_id, count(*) AS num_books, count(*) FILTER (WHERE published) AS num_published,
           coalesce(sum(pages), 0) AS pages_total, max(pages) AS longest
    FROM books_book GROUP BY author_id
) AS fed
WHERE target.id = fed.author_id
"""
EMPTY = "UPDATE books_author SET num_books = 0, num_published = 0, pages_total = 0, longest = NULL"
WRONG = """
SELECT count(*) FROM books_author AS author CROSS JOIN LATERAL (
    SELECT count(*) AS n, count(*) FILTER (WHERE published) AS p, coalesce(sum(pages), 0) AS s, max(pages) AS m
    FROM books_book WHERE author_id = author.id
) AS fed
WHERE (num_books, num_published, pages_total) <> (n, p, s) OR longest IS DISTINCT FROM m
"""
TIMED = """
import json, time, django
django.setup()
import trigger_kit
begun, last = time.perf_counter(), None
batches = []
def note(found):
    # The first batch comes after all the preparations.
    global last
    now = time.perf_counter()
    if last is not None:
        batches.append(now - last)
    last = now
trigger_kit.backfill(restart=True, on_batch=note)
print(json.dumps([time.perf_counter() - begun, batches]))
"""
STATEMENTS = (
    "INSERT INTO books_book (author_id, pages, published, title) VALUES ({author}, {pages}, {flag}, 'new')",
    "UPDATE books_book SET pages = {pages}, published = {flag} WHERE id = {book}",
    "UPDATE books_book SET author_id = {author} WHERE id = {book}",
    "DELETE FROM books_book WHERE id = {book}",
    "UPDATE books_author SET name = 'n{pages}' WHERE id = {author}",
)


@dataclass
class Scene:
    """A project and its database, with so many rows."""

    folder: Path
    server: Server
    authors: int
    books: int

    def write(self, fields: str = "") -> None:
        """Write the project's files."""
        (self.folder / "books" / "migrations").mkdir(parents=True, exist_ok=True)
        for name in ("books/__init__.py", "books/migrations/__init__.py"):
            (self.folder / name).touch()
        (self.folder / "settings.py").write_text(SETTINGS.format(database=self.server.django_settings))
        (self.folder / "manage.py").write_text(MANAGE)
        (self.folder / "books" / "models.py").write_text(MODELS.format(fields=fields))

    def start(self, *command: str, **options: Any) -> subprocess.Popen[str]:
        """Start Python in the project."""
        environment = {
            **os.environ,
            "PYTHONPATH": f"{self.folder}{os.pathsep}{ROOT}",
            "DJANGO_SETTINGS_MODULE": "settings",
        }
        return subprocess.Popen([sys.executable, *command], cwd=self.folder, env=environment, text=True, **options)

    def run(self, *command: str) -> str:
        """Run Python in the project, and return what it prints."""
        process = self.start(*command, stdout=subprocess.PIPE)
        text, _ = process.communicate()
        if process.returncode:
            raise SystemExit(f"{command} has failed")
        return text

    def manage(self, *arguments: str) -> str:
        """Run a management command."""
        return self.run("manage.py", *arguments)

    def create(self) -> None:
        """Make the database with the project's tables, without rules."""
        self.server.create()
        self.write()
        self.manage("makemigrations", "books", "--verbosity", "0")
        self.manage("migrate", "--verbosity", "0")

    def load(self, link: psycopg.Connection) -> None:
        """Write the rows: an author's books lie anywhere in their table."""
        authors = f"SELECT n, 'author' FROM generate_series(1, {self.authors}) AS n"
        link.execute(f"INSERT INTO books_author (id, name) {authors}".encode())
        link.execute(
            "INSERT INTO books_book (author_id, pages, published, title) SELECT 1 + (n * 7919::bigint) % "
            f"{self.authors}, n % 400, n % 3 = 0, 'a title' FROM generate_series(1, {self.books}) AS n".encode()
        )
        link.execute("VACUUM ANALYZE")


def show(text: str) -> None:
    """Print a line."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


# Ratio --------------------------------------------------------------------------------------------------------------


def empty(link: psycopg.Connection) -> None:
    """Take away all values, and what that leaves behind."""
    with link.transaction():
        link.execute("SELECT set_config('trigger_kit.depth', '0', true)")
        link.execute(EMPTY)
    link.execute("VACUUM FULL ANALYZE books_author")
    link.execute("CHECKPOINT")


def fill_at_once(link: psycopg.Connection) -> float:
    """Return the seconds that one statement takes."""
    begun = time.perf_counter()
    with link.transaction():
        link.execute("SELECT set_config('trigger_kit.depth', '0', true)")
        link.execute(AT_ONCE)
    return time.perf_counter() - begun


@dataclass(frozen=True)
class Round:
    """The seconds of one statement, of all batches and of each, and how many authors are wrong after them."""

    at_once: float
    in_batches: float
    batches: list[float]
    wrong: int


def fill_rounds(scene: Scene, link: psycopg.Connection, rounds: int) -> Iterator[Round]:
    """Fill at once and in batches, in turn, and yield what comes out."""
    for _ in range(rounds):
        empty(link)
        at_once = fill_at_once(link)
        empty(link)
        in_batches, batches = json.loads(scene.run("-c", TIMED))
        yield Round(at_once, in_batches, batches, check(link))


def measure_ratio(scene: Scene, link: psycopg.Connection, rounds: int) -> None:
    """Print what each round takes, and the ratio."""
    ratios, longest = [], []
    for number, one in enumerate(fill_rounds(scene, link, rounds), start=1):
        ratios.append(one.in_batches / one.at_once)
        longest.append(max(one.batches))
        show(
            f"round {number}: one statement {one.at_once:.2f} s, {len(one.batches)} batches {one.in_batches:.2f} s, "
            f"ratio {ratios[-1]:.2f}; a batch takes {statistics.median(one.batches) * 1000:.0f} ms, the longest "
            f"{longest[-1] * 1000:.0f} ms; {one.wrong} wrong"
        )
    show(f"ratio: median {statistics.median(ratios):.2f} (bar 2); longest batch {max(longest) * 1000:.0f} ms (bar 100)")


def check(link: psycopg.Connection) -> int:
    """Return the number of authors with a wrong value."""
    ((wrong,),) = link.execute(WRONG).fetchall()
    return int(wrong)


# Scene --------------------------------------------------------------------------------------------------------------


def keep_writing(scene: Scene, seed: int, is_over: threading.Event) -> list[tuple[float, float, str]]:
    """Write at random until it is over; return the seconds of each statement, when it began, and its text."""
    dice, seconds = random.Random(seed), []
    with psycopg.connect(scene.server.url, autocommit=True) as link:
        while not is_over.is_set():
            statement = dice.choice(STATEMENTS).format(
                author=dice.randint(1, scene.authors),
                book=dice.randint(1, scene.books),
                pages=dice.randint(0, 400),
                flag=dice.random() < 0.5,
            )
            begun = time.perf_counter()
            try:
                link.execute(statement.encode())
            except psycopg.errors.DeadlockDetected:
                statement = f"DEADLOCK: {statement}"
            seconds.append((time.perf_counter() - begun, begun, statement))
    return seconds


def play(scene: Scene, link: psycopg.Connection) -> None:
    """Migrate under writers, kill it in the middle, migrate again, and print what comes out."""
    scene.write(FOUR_RULES)
    show(scene.manage("makemigrations").strip())
    is_over = threading.Event()
    with ThreadPoolExecutor(WRITERS) as pool:
        writers = [pool.submit(keep_writing, scene, seed, is_over) for seed in range(WRITERS)]
        try:
            time.sleep(1)
            begun = time.perf_counter()
            process = scene.start("manage.py", "migrate")
            wait_for_half(scene, link)
            process.send_signal(signal.SIGKILL)
            process.wait()
            killed = time.perf_counter()
            rows = filled(link)
            show(f"killed after {killed - begun:.1f} s, with {rows:,} of {scene.authors:,} rows filled")
            show(scene.manage("migrate").strip())
            show(f"the second run took {time.perf_counter() - killed:.1f} s")
        finally:
            is_over.set()
        waits = sorted(wait for writer in writers for wait in writer.result())
    seconds = [wait[0] for wait in waits]
    deadlocks = sum(statement.startswith("DEADLOCK") for _, _, statement in waits)
    show(
        f"{len(seconds):,} statements of {WRITERS} writers, {deadlocks} deadlocks: median "
        f"{statistics.median(seconds) * 1000:.1f} ms, 99 % within {seconds[int(len(seconds) * 0.99)] * 1000:.0f} ms, "
        f"the longest {seconds[-1] * 1000:.0f} ms (bar 1000)"
    )
    for wait, at, statement in waits[-4:]:
        show(f"    {wait * 1000:.0f} ms, {at - begun:.2f} s after the start: {statement}")
    show(f"{check(link)} of {scene.authors:,} authors wrong")
    show(scene.manage("trigger_kit", "ls").strip())


def filled(link: psycopg.Connection) -> int:
    """Return how far the fill is."""
    with suppress(psycopg.errors.UndefinedTable):
        for (rows,) in link.execute("SELECT (value ->> 'rows')::int FROM tk_state WHERE kind = 'backfill'"):
            return int(rows)
    return 0


def wait_for_half(scene: Scene, link: psycopg.Connection) -> None:
    """Return when half of the rows are filled."""
    while filled(link) < scene.authors / 2:
        time.sleep(0.02)


def main() -> int:
    """Run both parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--books", type=int, default=1_000_000)
    parser.add_argument("--authors", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with running_server() as started, tempfile.TemporaryDirectory() as folder:
        scene = Scene(Path(folder), started.database(DATABASE), options.authors, options.books)
        scene.create()
        with psycopg.connect(scene.server.url, autocommit=True) as link:
            scene.load(link)
            play(scene, link)
            measure_ratio(scene, link, options.rounds)
        scene.server.drop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
