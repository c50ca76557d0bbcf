"""What else Django's commands do with migrations: plans, branches that merge, pruning, optimizing, printing SQL."""

from __future__ import annotations

import re
from pathlib import Path

from tests.migration.conftest import Make
from tests.migration.library import CHURN, NUM_BOOKS, NUM_PUBLISHED, PAGES_TOTAL, ROWS, Kept, library
from tests.migration.project import Project
from tests.migration.written import operations

BOTH = library(NUM_BOOKS, NUM_PUBLISHED)
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
        "~ Backfill num_published of author",
    ]
    assert printed(project, library(CHANGED, NUM_PUBLISHED)) == [
        "~ Alter rule num_books of author",
        "~ Backfill num_books of author",
    ]
    assert printed(project, library(NUM_BOOKS.without_rule, NUM_PUBLISHED)) == ["- Remove rule num_books from author"]
    names = [file.stem for file in project.files()]
    assert names[1:] == [
        "0002_author_num_published_author_num_published_rule_and_more",
        "0003_alter_author_num_books_rule_backfill_author",
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
    lines = [line.strip() for line in project.last("books").read_text().splitlines()]
    start = lines.index("trigger_kit.migration.operations.AddRule(")
    assert lines[start + 1 : start + 3] == [
        "model_name='author',",
        "rule=trigger_kit.Denormalize('num_books', django.db.models.aggregates.Count('books')),",
    ]
    assert "-- After INSERT on books_book: add the difference to books_author (by id)." in lines
    assert '--   num_books = Count("books")' in lines
    script = project.manage("sqlmigrate books 0002").stdout
    for text in (
        "-- Add rule num_books to author",
        "-- Backfill num_books of author",
        '--   num_books = Count("books")',
    ):
        assert text in script
    project.manage("migrate")
    backwards = project.manage("sqlmigrate --backwards books 0002").stdout
    assert 'DROP FUNCTION IF EXISTS "public"."~tk_books_author_guard' in backwards
    project.psql(backwards)
    project.manage("migrate --fake books 0001")
    assert project.objects() == {"functions": [], "triggers": []}


def test_two_branches_merge_and_every_rule_is_kept_again(make: Make, scratch: Make) -> None:
    project = make(books=library(NUM_BOOKS), rows=ROWS)
    project.makemigrations(books=library(NUM_BOOKS, NUM_PUBLISHED))
    first = project.last("books")
    text = first.read_text()
    project.manage("migrate")
    first.rename(aside := Path(project.path) / "aside")
    project.makemigrations(books=library(NUM_BOOKS, PAGES_TOTAL))
    aside.rename(first)
    assert first.read_text() == text
    models = library(NUM_BOOKS, NUM_PUBLISHED, PAGES_TOTAL)
    project.write_models(books=models)
    assert "Conflicting migrations" in project.manage("makemigrations", code=1).stderr
    project.manage("makemigrations --merge --noinput")
    project.manage("migrate")
    assert set(project.statuses().values()) == {"outdated"}
    # The branch that came last knows nothing of the other's rule.
    project.sql(CHURN)
    fill = "BackfillRule author.num_books,num_published,pages_total"
    assert project.makemigrations() == {"books": ["AlterRule author.num_books", fill]}
    project.manage("migrate")
    project.assert_settled()
    project.assert_like(scratch(books=models))


def test_a_migration_that_is_no_transaction(make: Make, scratch: Make) -> None:
    project = make(books=library(NUM_BOOKS), rows=ROWS)
    project.makemigrations(books=library(CHANGED, PAGES_TOTAL))
    file = project.last("books")
    head = "class Migration(migrations.Migration):\n"
    file.write_text(file.read_text().replace(head, head + "    atomic = False\n"))
    project.close()
    script = project.manage("sqlmigrate books 0002").stdout
    project.manage("migrate")
    project.assert_settled()
    project.assert_like(scratch(books=library(CHANGED, PAGES_TOTAL)))
    project.sql(CHURN)
    project.manage("migrate books 0001")
    project.write_models(books=library(NUM_BOOKS))
    project.assert_in_sync()
    project.assert_like(scratch(books=library(NUM_BOOKS)))
    project.psql(script)
    project.manage("migrate --fake")
    project.write_models(books=library(CHANGED, PAGES_TOTAL))
    project.assert_settled()


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
    assert "Optimizing from 5 operations to 3 operations" in project.manage("optimizemigration books 0002").stdout
    assert operations(second) == [
        "AddField author.num_books",
        "AddRule author.num_books",
        "BackfillRule author.num_books",
    ]
    project.manage("makemigrations --check --dry-run")
    project.manage("migrate --fake books 0001")
    project.sql("ALTER TABLE books_author DROP COLUMN num_books CASCADE")
    project.manage("migrate")
    project.sql(CHURN)
    project.assert_settled()
    project.assert_like(scratch(books=library(CHANGED)))
