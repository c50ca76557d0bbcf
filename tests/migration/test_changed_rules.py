"""Rules that change or go: the operations, the values, and nothing left over in the database."""

from __future__ import annotations

import psycopg
import pytest

from tests.migration.conftest import Make
from tests.migration.library import BOOK, CHURN, NUM_BOOKS, NUM_PUBLISHED, PAGES_TOTAL, ROWS, Kept, library

UNPUBLISHED = Kept(NUM_PUBLISHED.field, NUM_PUBLISHED.rule.replace("True", "False"))
RAISING = Kept(NUM_BOOKS.field, 'Denormalize("num_books", Count("books"), guard=Guard.RAISE)')


def test_a_filter_changes(inplace: Make, anew: Make) -> None:
    project = inplace(books=library(NUM_BOOKS, NUM_PUBLISHED), rows=ROWS)
    models = library(NUM_BOOKS, UNPUBLISHED)
    assert project.deploy(books=models) == {"books": ["AlterRule author.num_published"]}
    assert project.sql("SELECT num_books, num_published FROM books_author ORDER BY id") == [(3, 1), (1, 1), (0, 0)]
    project.sql(CHURN)
    assert project.sql("SELECT num_books, num_published FROM books_author ORDER BY id") == [(2, 0), (2, 1), (0, 0)]
    project.assert_like(anew(books=models))


# A value that is wrong: a fill would put it right.
DRIFT = """
BEGIN; SELECT set_config('trigger_kit.depth', '0', true); UPDATE books_author SET num_books = 9 WHERE id = 3; COMMIT
"""


def test_a_guard_changes_without_a_fill(inplace: Make, anew: Make) -> None:
    project = inplace(books=library(NUM_BOOKS, PAGES_TOTAL), rows=ROWS)
    project.sql(DRIFT)
    models = library(RAISING, PAGES_TOTAL)
    assert project.makemigrations(books=models) == {"books": ["AlterRule author.num_books"]}
    project.manage("migrate")
    assert project.value("SELECT num_books FROM books_author WHERE id = 3") == 9
    project.manage("trigger_kit repair")
    project.assert_settled()
    with pytest.raises(psycopg.errors.IntegrityConstraintViolation, match="books.Author:num_books"):
        project.sql("UPDATE books_author SET num_books = 9")
    project.sql("UPDATE books_author SET pages_total = 9")
    project.sql(CHURN)
    project.assert_in_sync()
    project.assert_like(anew(books=models))


def test_a_rule_that_changes_fills_its_own_field_only(inplace: Make) -> None:
    project = inplace(books=library(NUM_BOOKS, NUM_PUBLISHED), rows=ROWS)
    project.sql(DRIFT)
    project.makemigrations(books=library(NUM_BOOKS, UNPUBLISHED))
    project.manage("migrate")
    assert project.sql("SELECT num_books, num_published FROM books_author ORDER BY id") == [(3, 1), (1, 1), (9, 0)]


def test_a_rule_goes_and_its_field_stays(inplace: Make, anew: Make) -> None:
    project = inplace(books=library(NUM_BOOKS, PAGES_TOTAL), rows=ROWS)
    models = library(NUM_BOOKS, PAGES_TOTAL.without_rule)
    assert project.deploy(books=models) == {"books": ["RemoveRule author.pages_total"]}
    project.sql(CHURN)
    assert project.sql("SELECT num_books, pages_total FROM books_author ORDER BY id") == [(2, 70), (2, 80), (0, 0)]
    project.sql("UPDATE books_author SET num_books = 9, pages_total = 9 WHERE id = 3")
    assert project.sql("SELECT num_books, pages_total FROM books_author WHERE id = 3") == [(0, 9)]
    project.assert_like(anew(books=models))


def test_the_last_rule_goes_with_every_trigger_and_function(inplace: Make, anew: Make) -> None:
    project = inplace(books=library(NUM_BOOKS), rows=ROWS)
    models = library(NUM_BOOKS.without_rule)
    assert project.deploy(books=models) == {"books": ["RemoveRule author.num_books"]}
    assert project.objects() == {"functions": [], "triggers": []}
    project.assert_like(anew(books=models))


def test_a_rule_goes_together_with_its_field(inplace: Make, anew: Make) -> None:
    project = inplace(books=library(NUM_BOOKS, PAGES_TOTAL), rows=ROWS)
    models = library(NUM_BOOKS)
    assert project.deploy(books=models) == {
        "books": ["RemoveRule author.pages_total", "RemoveField author.pages_total"]
    }
    project.sql(CHURN)
    assert project.sql("SELECT num_books FROM books_author ORDER BY id") == [(2,), (2,), (0,)]
    project.assert_like(anew(books=models))


def test_the_first_of_two_rules_goes_together_with_its_field(inplace: Make, anew: Make) -> None:
    project = inplace(books=library(NUM_BOOKS, PAGES_TOTAL), rows=ROWS)
    models = library(PAGES_TOTAL)
    assert project.deploy(books=models) == {"books": ["RemoveRule author.num_books", "RemoveField author.num_books"]}
    project.sql(CHURN)
    project.assert_in_sync()
    project.assert_like(anew(books=models))


def test_every_rule_goes_together_with_its_field(inplace: Make, anew: Make) -> None:
    project = inplace(books=library(NUM_BOOKS, PAGES_TOTAL), rows=ROWS)
    written = project.deploy(books=library())["books"]
    assert sorted(written) == [
        "RemoveField author.num_books",
        "RemoveField author.pages_total",
        "RemoveRule author.num_books",
        "RemoveRule author.pages_total",
    ]
    assert max(map(written.index, written[:2])) < 2
    assert project.objects() == {"functions": [], "triggers": []}
    project.assert_like(anew(books=library()))


def test_a_rule_goes_together_with_the_column_that_its_filter_reads(inplace: Make, anew: Make) -> None:
    project = inplace(books=library(NUM_BOOKS, NUM_PUBLISHED), rows=ROWS)
    book = BOOK.replace("    published = models.BooleanField(default=False)\n", "")
    written = project.deploy(books=library(NUM_BOOKS, NUM_PUBLISHED.without_rule, book=book))["books"]
    assert written == ["RemoveRule author.num_published", "RemoveField book.published"]
    project.sql("DELETE FROM books_book WHERE id = 1")
    assert project.value("SELECT num_books FROM books_author WHERE id = 1") == 2
    project.assert_like(anew(books=library(NUM_BOOKS, NUM_PUBLISHED.without_rule, book=book)))


def test_a_filter_lets_go_of_a_column_that_goes(inplace: Make, anew: Make) -> None:
    project = inplace(books=library(NUM_PUBLISHED), rows=ROWS)
    book = BOOK.replace("    published = models.BooleanField(default=False)\n", "")
    long = Kept(NUM_PUBLISHED.field, 'Denormalize("num_published", Count("books", filter=Q(books__pages__gt=15)))')
    models = library(long, book=book)
    assert sorted(project.deploy(books=models)["books"]) == [
        "AlterRule author.num_published",
        "RemoveField book.published",
    ]
    assert project.sql("SELECT num_published FROM books_author ORDER BY id") == [(2,), (1,), (0,)]
    project.assert_like(anew(books=models))


def test_a_rule_goes_together_with_its_source_model(inplace: Make, anew: Make) -> None:
    project = inplace(books=library(NUM_BOOKS), rows=ROWS)
    models = library(book="")
    written = project.deploy(books=models)["books"]
    assert sorted(written) == ["DeleteModel Book", "RemoveField author.num_books", "RemoveRule author.num_books"]
    assert project.objects() == {"functions": [], "triggers": []}
    project.assert_like(anew(books=models))


def test_rules_go_together_with_their_model(inplace: Make) -> None:
    project = inplace(books=library(NUM_BOOKS, PAGES_TOTAL), rows=ROWS)
    written = project.deploy(books=library(book="").partition("class")[0])["books"]
    assert sorted(written)[:2] == ["DeleteModel Author", "DeleteModel Book"]
    assert project.objects() == {"functions": [], "triggers": []}


def test_two_rules_swap_their_expressions(inplace: Make, anew: Make) -> None:
    project = inplace(books=library(NUM_BOOKS, NUM_PUBLISHED), rows=ROWS)
    models = library(
        Kept(NUM_BOOKS.field, NUM_PUBLISHED.rule.replace("num_published", "num_books")),
        Kept(NUM_PUBLISHED.field, NUM_BOOKS.rule.replace("num_books", "num_published")),
    )
    assert project.deploy(books=models) == {"books": ["AlterRule author.num_books", "AlterRule author.num_published"]}
    assert project.sql("SELECT num_books, num_published FROM books_author ORDER BY id") == [(2, 3), (0, 1), (0, 0)]
    project.sql(CHURN)
    assert project.sql("SELECT num_books, num_published FROM books_author ORDER BY id") == [(2, 2), (1, 2), (0, 0)]
    project.assert_like(anew(books=models))


def test_two_rules_swap_their_places_in_the_list(inplace: Make, anew: Make) -> None:
    project = inplace(books=library(NUM_BOOKS, PAGES_TOTAL), rows=ROWS)
    models = library(PAGES_TOTAL, NUM_BOOKS)
    assert project.deploy(books=models) == {}
    project.sql(CHURN)
    project.assert_in_sync()
    project.assert_like(anew(books=models))


def test_one_rule_comes_as_another_goes(inplace: Make, anew: Make) -> None:
    project = inplace(books=library(NUM_BOOKS), rows=ROWS)
    models = library(PAGES_TOTAL)
    written = project.deploy(books=models)["books"]
    assert written.index("RemoveRule author.num_books") < written.index("RemoveField author.num_books")
    assert written.index("AddField author.pages_total") < written.index("AddRule author.pages_total")
    assert project.sql("SELECT pages_total FROM books_author ORDER BY id") == [(70,), (80,), (0,)]
    project.assert_like(anew(books=models))


def test_a_rule_moves_to_another_relation(inplace: Make, anew: Make) -> None:
    book = BOOK + '    editor = models.ForeignKey("Author", models.SET_NULL, null=True, related_name="edited")\n'
    project = inplace(books=library(NUM_BOOKS, book=book), rows=ROWS)
    edited = Kept(NUM_BOOKS.field, NUM_BOOKS.rule.replace('"books"', '"edited"'))
    models = library(edited, book=book)
    assert project.deploy(books=models) == {"books": ["AlterRule author.num_books"]}
    assert project.sql("SELECT num_books FROM books_author ORDER BY id") == [(0,), (0,), (0,)]
    project.sql("UPDATE books_book SET editor_id = 3")
    assert project.sql("SELECT num_books FROM books_author ORDER BY id") == [(0,), (0,), (4,)]
    project.assert_like(anew(books=models))


def test_a_rule_moves_to_another_source_table(inplace: Make, anew: Make) -> None:
    essay = '\nclass Essay(models.Model):\n    author = models.ForeignKey("Author", models.CASCADE, related_name="essays")\n'
    project = inplace(books=library(NUM_BOOKS, book=BOOK + essay), rows=ROWS)
    moved = Kept(NUM_BOOKS.field, NUM_BOOKS.rule.replace('"books"', '"essays"'))
    models = library(moved, book=BOOK + essay)
    assert project.deploy(books=models) == {"books": ["AlterRule author.num_books"]}
    project.sql("INSERT INTO books_essay (id, author_id) VALUES (1, 2); DELETE FROM books_book WHERE id = 1")
    assert project.sql("SELECT num_books FROM books_author ORDER BY id") == [(0,), (1,), (0,)]
    project.assert_like(anew(books=models))
