"""Names along a rule's path change while writers are at work: no write fails, none is counted twice or not at all.

The writers know the tables by views, which follow renames as well. Every project goes forward, back and forward again;
each time the database must be like one that was made from scratch.
"""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psycopg
import pytest

from tests.migration.conftest import Make
from tests.migration.project import Project

HEADER = """
from django.db import models
from django.db.models import Count, F, Max, Q, Sum
from trigger_kit import Denormalize, Exists, First, Timing
"""
PEOPLE = """
class Author(models.Model):
    name = models.CharField(max_length=50)
    num_books = models.IntegerField(default=0, editable=False)
    pages_total = models.BigIntegerField(default=0, editable=False)
    longest = models.IntegerField(null=True, editable=False)
    num_long = models.IntegerField(default=0, editable=False)
    last_title = models.CharField(max_length=50, null=True, editable=False)

    class Meta:
        denormalizations = [
            Denormalize("num_books", Count("books")TIMING),
            Denormalize("pages_total", Sum("books__pages", default=0)TIMING),
            Denormalize("longest", Max("books__pages")),
            Denormalize("num_long", Count("books", filter=Q(books__pages__gte=100) & ~Q(books__title="?"))TIMING),
            Denormalize("last_title", First("books__title", order_by="-books__pages")),
        ]
"""
BOOKS = """
class Publisher(models.Model):
    name = models.CharField(max_length=50)
    num_pages = models.BigIntegerField(default=0, editable=False)

    class Meta:
        denormalizations = [Denormalize("num_pages", Sum("series__books__pages", default=0))]


class Series(models.Model):
    publisher = models.ForeignKey(Publisher, models.CASCADE, related_name="series")


class Tag(models.Model):
    word = models.CharField(max_length=50)
    num_books = models.IntegerField(default=0, editable=False)

    class Meta:
        denormalizations = [Denormalize("num_books", Count("book"))]


class Book(models.Model):
    series = models.ForeignKey(Series, models.CASCADE, related_name="books")
    author = models.ForeignKey("people.Author", models.CASCADE, related_name="books")
    title = models.CharField(max_length=50, default="?")
    pages = models.IntegerField(default=0)
    tags = models.ManyToManyField(Tag)
    publisher_name = models.CharField(max_length=50, default="", editable=False)

    class Meta:
        denormalizations = [Denormalize("publisher_name", F("series__publisher__name"))]
"""
ROWS = """
INSERT INTO people_author (id, name) SELECT number, 'a' FROM generate_series(1, 4) AS number;
INSERT INTO books_publisher (id, name) VALUES (1, 'x'), (2, 'y');
INSERT INTO books_series (id, publisher_id) VALUES (1, 1), (2, 1), (3, 2);
INSERT INTO books_tag (id, word) VALUES (1, 'a'), (2, 'b');
INSERT INTO books_book (id, series_id, author_id, title, pages)
    SELECT number, 1 + number % 3, 1 + number % 4, 'old ' || number, number * 10 FROM generate_series(1, 20) AS number;
INSERT INTO books_book_tags (book_id, tag_id) SELECT number, 1 + number % 2 FROM generate_series(1, 20) AS number;
"""
VIEWS = """
CREATE VIEW w_author AS SELECT id, name FROM people_author;
CREATE VIEW w_publisher AS SELECT id, name FROM books_publisher;
CREATE VIEW w_series AS SELECT id, publisher_id AS publisher FROM books_series;
CREATE VIEW w_book AS SELECT id, series_id AS series, author_id AS author, title, pages FROM books_book;
CREATE VIEW w_tags AS SELECT book_id AS book, tag_id AS tag FROM books_book_tags;
"""
INSERT = "INSERT INTO w_book (id, series, author, title, pages) VALUES ({id}, {series}, {author}, 'new', {pages})"
# No operation of a rule: rules follow in the state.
OPERATIONS = {"RenameField", "RenameModel", "AlterField", "AlterModelTable"}
WRITES = (
    INSERT,
    INSERT + "; INSERT INTO w_tags (book, tag) VALUES ({id}, {tag})",
    "UPDATE w_book SET pages = {pages} WHERE id = {old}",
    "UPDATE w_book SET author = {author}, series = {series} WHERE id = {old}",
    "UPDATE w_series SET publisher = {publisher} WHERE id = {series}",
    "UPDATE w_publisher SET name = 'n{pages}' WHERE id = {publisher}",
    "DELETE FROM w_tags WHERE book = {old}",
    "UPDATE w_author SET name = 'b' WHERE id = {author}; " + INSERT,
)


@dataclass
class Writers:
    """What writers have done: the books that they have made, and what went wrong."""

    numbers: Iterator[int] = field(default_factory=lambda: iter(range(1000, 1_000_000)))
    written: list[int] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    pids: set[int] = field(default_factory=set)
    done: threading.Event = field(default_factory=threading.Event)

    def write(self, url: str, seed: int) -> None:
        """Write at random until it is over; a conflict between writers themselves is theirs."""
        choose = random.Random(seed)
        with psycopg.connect(url, autocommit=True) as connection:
            self.pids.add(connection.info.backend_pid)
            # Not as fast as they can: the migration needs a processor, too.
            while not self.done.wait(0.01):
                number = next(self.numbers)
                statement = choose.choice(WRITES).format(
                    id=number,
                    old=choose.randint(1, 20),
                    series=choose.randint(1, 3),
                    author=choose.randint(1, 4),
                    publisher=choose.randint(1, 2),
                    tag=choose.randint(1, 2),
                    pages=choose.randint(1, 200),
                )
                try:
                    with connection.transaction():
                        connection.execute(statement)
                except psycopg.errors.DeadlockDetected as error:
                    # Writers of several tables deadlock among themselves (docs/concurrency.md), not with the migration.
                    others = set(map(int, re.findall(r"rocess (\d+)", str(error.diag.message_detail)))) - self.pids
                    if others:
                        self.errors.append(f"{statement}: {error}")
                except psycopg.Error as error:
                    self.errors.append(f"{statement}: {error}")
                else:
                    self.written += [number] * ("INSERT INTO w_book" in statement)


@contextmanager
def at_work(project: Project) -> Iterator[Writers]:
    """Let writers write until the block is left; then say whether all that they wrote is there."""
    (last,) = project.sql("SELECT coalesce(max(id), 0) + 1000 FROM w_book")[0]
    writers = Writers(numbers=iter(range(last, last + 1_000_000)))
    threads = [threading.Thread(target=writers.write, args=(project.url, seed)) for seed in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield writers
    finally:
        writers.done.set()
        for thread in threads:
            thread.join()
    assert writers.errors == []
    assert writers.written
    found = {number for (number,) in project.sql("SELECT id FROM w_book WHERE id >= %s", last)}
    assert found == set(writers.written)


def models(timing: str = "", *pairs: tuple[str, str]) -> dict[str, str]:
    """Return the apps, with texts replaced."""
    people, books = HEADER + PEOPLE.replace("TIMING", timing), HEADER + BOOKS
    for old, new in pairs:
        assert old in people + books, old
        people, books = people.replace(old, new), books.replace(old, new)
    return {"people": people, "books": books}


TARGET_META = "    class Meta:\n        denormalizations = [\n"
SOURCE_META = '    class Meta:\n        denormalizations = [Denormalize("publisher_name"'
KEYS = {"house": "ForeignKey(Publisher, models.CASCADE, ", "writer": 'ForeignKey("people.Author", models.CASCADE, '}

# What changes in the text of the models.
RENAMES: dict[str, list[tuple[str, str]]] = {
    "field of the target": [("pages_total", "pages_sum")],
    "column of the target": [
        (
            "BigIntegerField(default=0, editable=False)\n    l",
            "BigIntegerField(db_column='Sum', default=0, editable=False)\n    l",
        )
    ],
    "model of the target": [("class Author", "class Writer"), ("people.Author", "people.Writer")],
    "table of the target": [(TARGET_META, TARGET_META.replace("Meta:", "Meta:\n        db_table = 'Writers'"))],
    "field of the source": [("    pages = ", "    length = "), ("books__pages", "books__length")],
    "column of the source": [("pages = models.IntegerField(", "pages = models.IntegerField(db_column='Pages', ")],
    "model of the source": [("class Book(", "class Work("), ('Count("book")', 'Count("work")')],
    "table of the source": [(SOURCE_META, SOURCE_META.replace("Meta:", "Meta:\n        db_table = 'works'"))],
    "key to the target": [("    author = ", "    writer = ")],
    "column of the key": [(KEYS["writer"], KEYS["writer"] + "db_column='writer', ")],
    "model on the path": [("class Series(", "class Line("), ("ForeignKey(Series", "ForeignKey(Line")],
    "key on the path": [("    series = models", "    line = models"), ('F("series__', 'F("line__')],
    "column on the path": [(KEYS["house"], KEYS["house"] + "db_column='house', ")],
    "many-to-many field": [("    tags = ", "    labels = ")],
    "table of a many-to-many field": [("ManyToManyField(Tag)", "ManyToManyField(Tag, db_table='tagged')")],
    "copied column": [
        (
            "    name = models.CharField(max_length=50)\n    num_pages",
            "    title = models.CharField(max_length=50)\n    num_pages",
        ),
        ("publisher__name", "publisher__title"),
    ],
}
# Renames that one run of makemigrations finds together.
TOGETHER = {
    "fields": ["field of the target", "field of the source", "key on the path", "many-to-many field", "copied column"],
    "columns": ["column of the target", "column of the source", "column of the key", "column on the path"],
    "models": ["model of the target", "model of the source", "model on the path"],
    "tables": ["table of the target", "table of the source", "table of a many-to-many field"],
    "key to the target": ["key to the target"],
}


@pytest.mark.parametrize(
    ("what", "timing"),
    [pytest.param(what, "", marks=[] if what == "fields" else pytest.mark.thorough) for what in TOGETHER]
    + [
        pytest.param(
            what, f", timing=Timing.{name}", marks=[] if (what, name) == ("models", "QUEUED") else pytest.mark.thorough
        )
        for what in ("fields", "models")
        for name in ("DEFERRED", "QUEUED")
    ],
)
def test_a_rename_under_writers(inplace: Make, anew: Make, what: str, timing: str) -> None:
    before, after = models(timing), models(timing, *(pair for rename in TOGETHER[what] for pair in RENAMES[rename]))
    assert_followed(inplace(**before, rows=ROWS), anew, before, after)


@pytest.mark.thorough
def test_a_rename_under_writers_of_a_whole_project(make: Make, scratch: Make) -> None:
    before, after = models(), models("", *(pair for rename in TOGETHER["models"] for pair in RENAMES[rename]))
    assert_followed(make(**before, rows=ROWS), scratch, before, after)


def assert_followed(project: Project, scratch: Make, before: dict[str, str], after: dict[str, str]) -> None:
    """Go forwards, back and forwards again under writers, and assert that nothing is lost on the way."""
    project.sql(VIEWS)
    last = {app: project.last(app).stem for app in before}
    found = project.makemigrations(answers="y\n" * 5, **after)
    assert {operation.split()[0] for written in found.values() for operation in written} <= OPERATIONS
    for steps, sources in (([""], after), ([f"{app} {last[app]}" for app in found], before), ([""], after)):
        with at_work(project):
            for step in steps:
                project.manage(f"migrate {step}".strip())
        project.write_models(**sources)
        project.assert_in_sync()
        assert project.objects() == scratch(**sources).objects()
        project.write_models(**after)
    project.assert_settled()
