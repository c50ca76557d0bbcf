"""Whatever was faked, has failed in the middle, was deleted or is done twice: the database ends as the rules want it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.migration.conftest import Make
from tests.migration.library import CHURN, NUM_BOOKS, NUM_PUBLISHED, PAGES_TOTAL, ROWS, library

VALUES = "SELECT num_books FROM books_author ORDER BY id"


def test_a_faked_migration_and_then_alter_rule(inplace: Make, anew: Make) -> None:
    project = inplace(books=library(), rows=ROWS)
    project.makemigrations(books=library(NUM_BOOKS, PAGES_TOTAL))
    project.sql(
        "ALTER TABLE books_author ADD num_books int NOT NULL DEFAULT 0, ADD pages_total bigint NOT NULL DEFAULT 0"
    )
    project.manage("migrate --fake")
    altered = NUM_BOOKS.replace('Count("books")', 'Count("books", filter=Q(books__pages__gt=10))')
    assert project.makemigrations(books=library(altered, PAGES_TOTAL)) == {"books": ["AlterRule author.num_books"]}
    project.manage("migrate")
    assert project.sql(VALUES) == [(2,), (1,), (0,)]
    project.sql(CHURN)
    project.assert_in_sync()


def test_a_migration_that_is_no_transaction_fails_and_is_run_again(inplace: Make, anew: Make) -> None:
    project = inplace(books=library(), rows=ROWS)
    project.makemigrations(books=library(NUM_BOOKS.without_rule))
    project.manage("migrate")
    project.makemigrations(books=library(NUM_BOOKS))
    file = project.last("books")
    text = file.read_text().replace("    dependencies", "    atomic = False\n\n    dependencies")
    broken = "        migrations.RunSQL('SELECT 1 / 0'),\n    ]\n"
    file.write_text(text.rstrip().removesuffix("]").rstrip() + "\n" + broken)
    assert "division by zero" in project.manage("migrate", code=1).stderr
    first = project.objects()
    assert first["triggers"]
    project.sql("INSERT INTO books_book (id, author_id, pages, published) VALUES (5, 3, 1, true)")
    file.write_text(text)
    project.manage("migrate")
    assert project.objects() == first
    assert project.sql(VALUES) == [(3,), (1,), (1,)]
    project.assert_like(anew(books=library(NUM_BOOKS)))


def test_a_rule_over_what_another_rule_came_to_keep(inplace: Make) -> None:
    """No old trigger stays active beside a new one: one book counted for two."""
    project = inplace(books=library(NUM_BOOKS), rows=ROWS)
    leaves = "\nclass Leaf(models.Model):\n    book = models.ForeignKey(Book, models.CASCADE, related_name='leaves')\n"
    kept = (
        "    num_leaves = models.IntegerField(default=0, editable=False)\n\n    class Meta:\n"
        '        denormalizations = [Denormalize("num_leaves", Count("leaves"))]\n'
    )
    after = library(NUM_BOOKS) + kept + leaves
    project.makemigrations(books=after)
    project.manage("migrate books 0001")
    project.sql("DELETE FROM books_book")
    project.manage("migrate")
    project.manage("trigger_kit install")
    project.sql("INSERT INTO books_book (id, author_id, pages, published, num_leaves) VALUES (9, 3, 1, true, 0)")
    assert project.sql(VALUES) == [(0,), (0,), (1,)]
    project.sql("INSERT INTO books_leaf (id, book_id) VALUES (1, 9), (2, 9)")
    project.assert_settled()


COPIES = """
from django.db import models
from django.db.models import F

from trigger_kit import Denormalize


class Author(models.Model):
    name = models.CharField(max_length=40)


class Book(models.Model):
    author = models.ForeignKey(Author, models.CASCADE)
    author_name = models.CharField(max_length=40, editable=False, db_default="")
    {book_rules}

class Annotation(models.Model):
    book = models.ForeignKey(Book, models.CASCADE)
    author_name = models.CharField(max_length=40, editable=False, db_default="")

    class Meta:
        denormalizations = [Denormalize("author_name", F("book__author__name"))]
"""
BOOK_RULES = """
    class Meta:
        denormalizations = [Denormalize("author_name", F("author__name"))]

"""


def test_a_rule_that_gives_the_triggers_of_another_target_a_turn(inplace: Make, anew: Make) -> None:
    """They take other names, for books are to be written before what is computed from them; none stays twice."""
    before, after = (COPIES.format(book_rules=rules) for rules in ("", BOOK_RULES))
    rows = (
        "INSERT INTO books_author (id, name) VALUES (1, 'Ann'); INSERT INTO books_book (id, author_id) VALUES (1, 1); "
        "INSERT INTO books_annotation (id, book_id) VALUES (1, 1)"
    )
    project = inplace(books=before, rows=rows)
    objects = project.objects()
    project.makemigrations(books=after)
    project.manage("migrate")
    names = [name for table, name, *_ in project.objects()["triggers"] if table == "books_author" and "_update" in name]
    assert [name.rpartition("_")[0] for name in sorted(names)] == [
        "tk_books_book_from_books_author_update",
        "tk_~books_annotation_from_books_author_update",
    ]
    project.assert_like(anew(books=after))
    project.sql("UPDATE books_author SET name = 'Bob'")
    project.assert_in_sync()
    project.manage("migrate books 0001")
    assert project.objects() == objects


def test_a_deleted_migration_is_noticed_and_its_triggers_are_known_again(inplace: Make) -> None:
    project = inplace(books=library(), rows=ROWS)
    project.makemigrations(books=library(NUM_BOOKS))
    project.manage("migrate")
    before, file = project.objects(), project.last("books")
    file.unlink()
    project.sql("DELETE FROM django_migrations WHERE name = %s", file.stem)
    project.sql("ALTER TABLE books_author DROP num_books CASCADE")
    assert "AddRule author.num_books" in project.makemigrations()["books"]
    project.manage("migrate")
    assert project.objects() == before
    assert project.sql(VALUES) == [(3,), (1,), (0,)]
    project.assert_settled()


def test_triggers_that_somebody_has_dropped_come_back_with_the_next_migrate(inplace: Make) -> None:
    project = inplace(books=library(NUM_BOOKS), rows=ROWS)
    before = project.objects()
    for table, name, *_ in before["triggers"]:
        if "guard" not in name:
            project.sql(f'DROP TRIGGER "{name}" ON {table}')
    project.sql("UPDATE books_book SET pages = pages + 1")
    assert "brought over" in project.manage("migrate").stdout
    assert project.objects() == before
    project.assert_in_sync()


@pytest.mark.parametrize("is_known", [True, False], ids=["own migrations", "newer migrations"])
def test_old_code_leaves_alone_what_newer_code_has_installed(inplace: Make, is_known: bool) -> None:
    """Two versions of a project that migrate in turn do not undo each other's work."""
    project = inplace(books=library(NUM_BOOKS), rows=ROWS)
    altered = NUM_BOOKS.replace('Count("books")', 'Count("books", filter=Q(books__published=True))')
    project.makemigrations(books=library(altered))
    project.manage("migrate")
    newer, text, file = project.objects(), project.last("books").read_text(), project.last("books")
    file.unlink()
    if is_known:  # As if the migration had never been: this code is the newest.
        project.sql("DELETE FROM django_migrations WHERE name = %s", file.stem)
    project.write_models(books=library(NUM_BOOKS))
    printed = project.manage("migrate").stdout
    if is_known:
        assert "brought over" in printed
        assert project.objects() != newer
        return
    assert f"are left as they are: this code does not know books.{file.stem}, which is applied" in printed
    assert project.objects() == newer
    file.write_text(text)
    project.write_models(books=library(altered))
    assert project.manage("migrate").stdout.count("riggers") == 0
    assert project.objects() == newer


def test_four_installs_at_once(make: Make) -> None:
    project = make(books=library(NUM_BOOKS, NUM_PUBLISHED, PAGES_TOTAL), rows=ROWS)
    before = project.objects()
    project.manage("trigger_kit uninstall")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: project.manage_alone("trigger_kit install"), range(4)))
    assert project.objects() == before
    project.sql(CHURN)
    project.assert_settled()


SEPARATE = """
        migrations.SeparateDatabaseAndState(
            {place}=[
                trigger_kit.migration.operations.AddRule(
                    model_name="author",
                    rule=trigger_kit.Denormalize("num_books", models.Count("books")),
                ),
            ],
        ),
"""


@pytest.mark.parametrize("place", ["state_operations", "database_operations"])
def test_a_rule_inside_of_separate_database_and_state(inplace: Make, place: str) -> None:
    project = inplace(books=library(), rows=ROWS)
    project.makemigrations(books=library(NUM_BOOKS.without_rule))
    project.manage("migrate")
    project.write_migration("books", "0003_rule", project.last("books").stem, SEPARATE.format(place=place))
    file = project.last("books")
    file.write_text("import trigger_kit\nimport trigger_kit.migration.operations\n" + file.read_text())
    project.write_models(books=library(NUM_BOOKS))
    if place == "database_operations":
        assert "the triggers follow the state" in project.manage("migrate", code=1).stderr
        assert project.objects()["triggers"] == []
        return
    project.manage("migrate")
    assert project.sql(VALUES) == [(3,), (1,), (0,)]
    project.assert_settled()


def test_another_packages_operation_takes_rules_along(inplace: Make) -> None:
    """Whatever changes a state by Django's means: here a subclass of Operation with a rename of its own."""
    project = inplace(books=library(NUM_PUBLISHED), rows=ROWS)
    operation = """
class Rename(operations_base.Operation):
    reversible = True

    def state_forwards(self, app_label, state):
        state.rename_field(app_label, "book", "published", "public")

    def database_forwards(self, app_label, schema_editor, from_state, to_state):
        schema_editor.execute("ALTER TABLE books_book RENAME published TO public")

    def database_backwards(self, app_label, schema_editor, from_state, to_state):
        schema_editor.execute("ALTER TABLE books_book RENAME public TO published")


"""
    project.write_migration("books", "0002_rename", project.last("books").stem, "Rename()")
    file = project.last("books")
    text = file.read_text().replace("class Migration", f"{operation.strip()}\n\n\nclass Migration", 1)
    file.write_text(
        text.replace(
            "from django.db import",
            "from django.db.migrations.operations import base as operations_base\nfrom django.db import",
            1,
        )
    )
    renamed = library(NUM_PUBLISHED.replace("books__published", "books__public")).replace(
        "    published = ", "    public = "
    )
    project.write_models(books=renamed)
    project.manage("migrate")
    project.sql("UPDATE books_book SET public = true")
    assert project.sql("SELECT num_published FROM books_author ORDER BY id") == [(3,), (1,), (0,)]
    project.assert_settled()
    project.manage("migrate books 0001")
    project.sql("UPDATE books_book SET published = false")
    assert project.sql("SELECT num_published FROM books_author ORDER BY id") == [(0,), (0,), (0,)]
