"""Fields, models, columns and tables that take another name underneath installed rules."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.combinations import in_turn
from tests.migration.conftest import Make
from tests.migration.library import BOOK, HEADER, NUM_PUBLISHED, PAGES_TOTAL, ROWS, library, model

BEFORE = library(PAGES_TOTAL, NUM_PUBLISHED)


@dataclass(frozen=True)
class Rename:
    """The new models, and the operation."""

    after: str
    operation: str


def replaced(*pairs: tuple[str, str]) -> str:
    source = BEFORE
    for old, new in pairs:
        assert old in source
        source = source.replace(old, new)
    return source


RENAMES = {
    "summed column": Rename(
        replaced(("    pages = ", "    length = "), ("books__pages", "books__length")),
        'migrations.RenameField("book", "pages", "length")',
    ),
    "filtered column": Rename(
        replaced(("    published = ", "    public = "), ("books__published", "books__public")),
        'migrations.RenameField("book", "published", "public")',
    ),
    "maintained column": Rename(
        replaced(("pages_total", "pages_sum")), 'migrations.RenameField("author", "pages_total", "pages_sum")'
    ),
    "foreign key": Rename(
        replaced(("    author = ", "    writer = ")), 'migrations.RenameField("book", "author", "writer")'
    ),
    "source model": Rename(replaced(("class Book(", "class Work(")), 'migrations.RenameModel("Book", "Work")'),
    "target model": Rename(
        replaced(("class Author(", "class Writer("), ('"Author"', '"Writer"')),
        'migrations.RenameModel("Author", "Writer")',
    ),
}
# Columns and tables of other names; makemigrations asks nothing.
MOVES = {
    "summed column": replaced(("pages = models.IntegerField(", "pages = models.IntegerField(db_column='length', ")),
    "maintained column": replaced(("models.BigIntegerField(", "models.BigIntegerField(db_column='Total', ")),
    "foreign key": replaced(("models.CASCADE, ", "models.CASCADE, db_column='writer', ")),
    "source table": BEFORE + "\n    class Meta:\n        db_table = 'Works'\n",
    "target table": library(PAGES_TOTAL, NUM_PUBLISHED, meta="db_table = 'Writers'"),
}

# What a client writes who does not know the names: it reads them from the catalog. Author 1 gets 40, 2 gets 80 + 160.
WRITES = """
DELETE FROM "{book}" WHERE id = 1;
UPDATE "{book}" SET "{pages}" = 160, "{fk}" = 2 WHERE id = 2;
INSERT INTO "{book}" (id, "{fk}", "{pages}", "{published}") VALUES (9, 3, 320, true);
"""
VALUES = 'SELECT "{total}", num_published FROM "{author}" ORDER BY id'
NAMES = {
    "book": "books_book",
    "author": "books_author",
    "pages": "pages",
    "fk": "author_id",
    "published": "published",
    "total": "pages_total",
}
RENAMED = {
    "summed column": {"pages": "length"},
    "filtered column": {"published": "public"},
    "maintained column": {"total": "pages_sum"},
    "foreign key": {"fk": "writer_id"},
    "source model": {"book": "books_work"},
    "target model": {"author": "books_writer"},
}
MOVED = {
    "summed column": {"pages": "length"},
    "maintained column": {"total": "Total"},
    "foreign key": {"fk": "writer"},
    "source table": {"book": "Works"},
    "target table": {"author": "Writers"},
}


@pytest.mark.parametrize("what", in_turn(RENAMES))
def test_a_rename_written_by_hand(inplace: Make, anew: Make, what: str) -> None:
    """Rules follow it in the state: nothing is left to write, and nobody's write falls between two migrations."""
    project = inplace(books=BEFORE, rows=ROWS)
    project.write_migration("books", "0002_rename", "0001_initial", RENAMES[what].operation)
    assert project.deploy(books=RENAMES[what].after) == {}
    names = NAMES | RENAMED[what]
    project.sql(WRITES.format(**names))
    assert project.sql(VALUES.format(**names)) == [(40, 1), (240, 0), (320, 1)]
    project.assert_in_sync()
    project.assert_like(anew(books=RENAMES[what].after))


@pytest.mark.parametrize("what", in_turn(RENAMES, turn=1))
def test_a_rename_that_makemigrations_asks_about(inplace: Make, anew: Make, what: str) -> None:
    project = inplace(books=BEFORE, rows=ROWS)
    found = project.deploy(answers="y\ny\n", books=RENAMES[what].after)
    assert [operation.split()[0] for operation in found["books"]] == [
        RENAMES[what].operation.partition("(")[0].removeprefix("migrations.")
    ]
    names = NAMES | RENAMED[what]
    project.sql(WRITES.format(**names))
    assert project.sql(VALUES.format(**names)) == [(40, 1), (240, 0), (320, 1)]
    project.assert_in_sync()
    project.assert_like(anew(books=RENAMES[what].after))

    project.manage("migrate books 0001")
    project.write_models(books=BEFORE)
    project.assert_in_sync()
    project.assert_like(anew(books=BEFORE))


@pytest.mark.parametrize("what", MOVES)
def test_a_column_or_table_takes_another_name(inplace: Make, anew: Make, what: str) -> None:
    project = inplace(books=BEFORE, rows=ROWS)
    found = project.deploy(books=MOVES[what])
    assert not [operation for operation in found["books"] if "Rule" in operation]
    names = NAMES | MOVED[what]
    project.sql(WRITES.format(**names))
    assert project.sql(VALUES.format(**names)) == [(40, 1), (240, 0), (320, 1)]
    project.assert_in_sync()
    project.assert_like(anew(books=MOVES[what]))


def test_a_source_in_another_app_is_renamed(make: Make) -> None:
    book = BOOK.replace('"Author"', '"people.Author"')
    people = HEADER + model("Author", PAGES_TOTAL)
    project = make(people=people, books=HEADER + book, rows=ROWS.replace("books_author", "people_author"))
    found = project.deploy(answers="y\ny\n", books=HEADER + book.replace("class Book(", "class Work("))
    assert found["books"] == ["RenameModel Book.Work"]
    names = NAMES | {"book": "books_work", "author": "people_author"}
    project.sql(WRITES.format(**names))
    assert project.sql("SELECT pages_total FROM people_author ORDER BY id") == [(40,), (240,), (320,)]
    project.assert_in_sync()


RENAME = 'ALTER TABLE books_book RENAME COLUMN "{}" TO "{}"'
THERE_AND_BACK = f"{RENAME.format('pages', 'length')!r}, {RENAME.format('length', 'pages')!r}"
IN_STATE = 'state_operations=[migrations.RenameField("book", "pages", "length")]'
BY_HAND = {
    "SQL with a state": f"migrations.RunSQL({THERE_AND_BACK}, {IN_STATE})",
    "SQL beside a state": "migrations.SeparateDatabaseAndState("
    f"database_operations=[migrations.RunSQL({THERE_AND_BACK})], {IN_STATE})",
    "both by Django": "migrations.SeparateDatabaseAndState("
    f'database_operations=[migrations.RenameField("book", "pages", "length")], {IN_STATE})',
    "there, back and elsewhere": 'migrations.RenameField("book", "pages", "words"), '
    'migrations.RenameField("book", "words", "pages"), migrations.RenameField("book", "pages", "length")',
}


@pytest.mark.parametrize(
    ("what", "is_atomic"), [*((what, True) for what in BY_HAND), *((what, False) for what in list(BY_HAND)[:2])]
)
def test_a_rename_by_other_means(inplace: Make, anew: Make, what: str, is_atomic: bool) -> None:
    project = inplace(books=BEFORE, rows=ROWS)
    before = project.objects()
    project.write_migration(
        "books", "0002_rename", "0001_initial", BY_HAND[what] + f"]\n    atomic = {is_atomic}\n    _ = ["
    )
    after = RENAMES["summed column"].after
    project.write_models(books=after)
    project.manage("migrate")
    project.sql(WRITES.format(**NAMES | {"pages": "length"}))
    assert project.sql(VALUES.format(**NAMES)) == [(40, 1), (240, 0), (320, 1)]
    project.assert_settled()
    project.assert_like(anew(books=after))
    project.manage("migrate books 0001")
    assert project.objects() == before
    project.sql("UPDATE books_book SET pages = pages + 1")
    assert project.sql(VALUES.format(**NAMES)) == [(41, 1), (242, 0), (321, 1)]
    project.manage("migrate")
    project.assert_settled()


# Names of ways back --------------------------------------------------------------------------------------------------

KEY = 'models.ForeignKey("Author", models.CASCADE, related_name="books")'
NAMED_BY_MODEL = BEFORE.replace(', related_name="books")', ")").replace('"books', '"book').replace('"book_', '"books_')
# The models before and after; Django alters the field, or the options of the model, and nothing in the database.
BACKS = {
    "related_name": (BEFORE, replaced(("=" + '"books"', "=" + '"works"'), ('"books__', '"works__'), ("(books__", "(works__"), ('("books"', '("works"'))),
    "related_query_name": (BEFORE, replaced((KEY, KEY[:-1] + ', related_query_name="work")'), ('"books__', '"work__'), ("(books__", "(work__"), ('("books"', '("work"'))),
    "no related_name any more": (BEFORE, replaced((', related_name="books")', ")"), ('"books__', '"book__'), ("(books__", "(book__"), ('("books"', '("book"'))),
    "default_related_name": (
        NAMED_BY_MODEL.replace("books__", "book__").replace('("books"', '("book"'),
        replaced((', related_name="books")', ")"), ('"books__', '"works__'), ("(books__", "(works__"), ('("books"', '("works"'))
        + '\n    class Meta:\n        default_related_name = "works"\n',
    ),
}  # fmt: skip


@pytest.mark.parametrize("is_one_app", [True, False], ids=["one app", "two apps"])
@pytest.mark.parametrize("what", BACKS)
def test_a_way_back_takes_another_name(inplace: Make, anew: Make, what: str, is_one_app: bool) -> None:
    """It is a rename, though Django asks nothing: no rule is written anew."""

    def apps(source: str) -> dict[str, str]:
        if is_one_app:
            return {"books": source}
        head, _, book = source.partition("\nclass Book(")
        return {"people": head, "books": HEADER + "\nclass Book(" + book.replace('"Author"', '"people.Author"')}

    before, after = (apps(source) for source in BACKS[what])
    rows = ROWS if is_one_app else ROWS.replace("books_author", "people_author")
    author = {"author": "books_author" if is_one_app else "people_author"}
    project = inplace(**before, rows=rows)
    objects, last = project.objects(), project.last("books").stem
    found = project.deploy(**after)
    (written,) = found["books"]
    assert list(found) == ["books"]
    assert written == ("AlterModelOptions book" if what == "default_related_name" else "AlterField book.author")
    project.sql(WRITES.format(**NAMES | author))
    assert project.sql(VALUES.format(**NAMES | author)) == [(40, 1), (240, 0), (320, 1)]
    project.assert_in_sync()
    project.assert_like(anew(**after))
    project.manage(f"migrate books {last}")
    project.write_models(**before)
    project.assert_in_sync()
    assert project.objects() == objects
    project.sql("UPDATE books_book SET pages = pages + 1")
    project.assert_in_sync()
    project.write_models(**after)
    project.manage("migrate")
    project.assert_settled()
