"""Rules that change when they reach their target: nothing that is pending is lost, and nothing is left behind."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.migration.conftest import Make
from tests.migration.library import BOOK, CHURN, HEADER, NUM_BOOKS, NUM_PUBLISHED, PAGES_TOTAL, ROWS, Kept, library
from tests.migration.project import Project
from tests.migration.test_schemas import TENANTS, enter

THOROUGH = [pytest.mark.thorough]
TIMED = HEADER.replace("Guard", "Guard, Timing")
TIMINGS = ("IMMEDIATE", "DEFERRED", "QUEUED")
# Each pair goes there and back in most tests, so that by default one direction of each will do.
FIRST = [("IMMEDIATE", "QUEUED"), ("QUEUED", "DEFERRED"), ("DEFERRED", "IMMEDIATE")]
PAIRS = [pytest.param(*pair, marks=[] if pair in FIRST else THOROUGH) for pair in itertools.permutations(TIMINGS, 2)]
SHARED = ["tk_commit", "tk_state", "tk_touched", "tk_waiting"]
ESSAY = (
    '\nclass Essay(models.Model):\n    author = models.ForeignKey("Author", models.CASCADE, related_name="essays")\n'
)
NUM_ESSAYS = Kept(
    "num_essays = models.IntegerField(default=0, editable=False)", 'Denormalize("num_essays", Count("essays"))'
)
# A column that no rule keeps needs a default that raw SQL gets, too.
BARE = PAGES_TOTAL.without_rule.replace("default=0", "default=0, db_default=0")
FILLED = Kept(BARE.field, PAGES_TOTAL.rule)
# No constraint: a book may come before its author.
LOOSE_BOOK = BOOK.replace('related_name="books")', 'related_name="books", db_constraint=False)')

# What CHURN does, once more in other places; leaves every author with other values than before.
MORE = """
UPDATE books_book SET author_id = 3 WHERE id = 1;
INSERT INTO books_book (id, author_id, pages, published) VALUES (6, 3, 320, true), (7, 1, 640, false);
DELETE FROM books_book WHERE id = 2;
"""
AGAIN = """
UPDATE books_book SET pages = pages + 1, author_id = 4 - author_id;
INSERT INTO books_book (id, author_id, pages, published) VALUES (8, 2, 1280, true);
DELETE FROM books_book WHERE id = 3;
"""

# Everything of ours in a database, but for functions and triggers, which Project.objects() returns.
RELATIONS = """
SELECT c.relnamespace::regnamespace::text, c.relname, c.relkind::text, c.relpersistence::text,
    obj_description(c.oid, 'pg_class'), c.relacl::text,
    (SELECT array_agg(format('%s %s %s %s %s', a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
         a.attcollation::regcollation, pg_get_expr(d.adbin, d.adrelid)) ORDER BY a.attnum)
     FROM pg_attribute AS a LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
     WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
    CASE c.relkind WHEN 'v' THEN pg_get_viewdef(c.oid) WHEN 'i' THEN pg_get_indexdef(c.oid) END
FROM pg_class AS c
WHERE c.relname LIKE 'tk\\_%' OR c.relname LIKE '~tk\\_%'
ORDER BY 1, 2
"""
SIGNATURES = """
SELECT pronamespace::regnamespace::text, proname, pg_get_function_arguments(oid), pg_get_function_result(oid),
    provolatile::text, proacl::text
FROM pg_proc WHERE proname ~ '^~?tk_' ORDER BY 1, 2, 3
"""
NAMES = """
SELECT relname FROM pg_class WHERE relname LIKE 'tk\\_%' AND relkind IN ('r', 'v')
AND relnamespace = current_schema()::regnamespace ORDER BY 1
"""


def timed(kept: Kept, timing: str) -> Kept:
    """Return a rule with another timing; IMMEDIATE is what a rule has that does not say so."""
    return kept if timing == "IMMEDIATE" else Kept(kept.field, f"{kept.rule[:-1]}, timing=Timing.{timing})")


def models_of(*kept: Kept, book: str = BOOK) -> str:
    return library(*kept, book=book, header=TIMED)


def both(timing: str) -> str:
    """Return models whose two rules have one timing."""
    return models_of(timed(NUM_BOOKS, timing), timed(PAGES_TOTAL, timing))


def one(timing: str) -> str:
    """Return models with one rule."""
    return models_of(timed(PAGES_TOTAL, timing))


def structure(project: Project) -> dict[str, Any]:
    """Return everything of ours in the database, definitions included."""
    return {**project.objects(), "relations": project.sql(RELATIONS), "signatures": project.sql(SIGNATURES)}


def without_shared(found: dict[str, Any]) -> dict[str, Any]:
    """Leave out what all targets of a schema share: it stays where the last rule goes."""
    names = (
        *SHARED,
        "tk_state_pkey",
        "tk_touched_key",
        "tk_waiting_transaction",
        "tk_commit_transaction",
    )
    return {
        kind: [row for row in rows if row[1] not in names and not row[1].endswith("_v1")]
        for kind, rows in found.items()
    }


def pending(project: Project) -> int:
    """Return how many rows wait in the queue of the authors."""
    count: int = project.value("SELECT count(*) FROM tk_pending_books_author")
    return count


COLUMNS = {
    "num_books": "(SELECT count(*) FROM books_book AS b WHERE b.author_id = a.id)",
    "pages_total": "(SELECT coalesce(sum(b.pages), 0)::bigint FROM books_book AS b WHERE b.author_id = a.id)",
}


def stored(project: Project, *columns: str) -> list[tuple[Any, ...]]:
    return project.sql(f"SELECT {', '.join(columns or COLUMNS)} FROM books_author ORDER BY id")


def true(project: Project, *columns: str) -> list[tuple[Any, ...]]:
    """Return what each author's columns should be, without any code of ours."""
    computed = ", ".join(COLUMNS[column] for column in columns or COLUMNS)
    return project.sql(f"SELECT {computed} FROM books_author AS a ORDER BY id")


def assert_exact(project: Project, timing: str, *columns: str) -> None:
    """Assert that what is stored and what is pending together are right, and after a flush what is stored."""
    project.assert_in_sync()
    if timing != "QUEUED":
        assert stored(project, *columns) == true(project, *columns)
        return
    kept = ", ".join(columns or COLUMNS)
    assert project.sql(f"SELECT {kept} FROM tk_exact_books_author ORDER BY id") == true(project, *columns)
    project.sql("BEGIN")
    project.sql("SELECT tk_flush_books_author()")
    assert stored(project, *columns) == true(project, *columns)
    project.sql("ROLLBACK")


def assert_same(project: Project, scratch: Project) -> None:
    """Assert that a database has what one has that was built from scratch, and no object more."""
    ours, theirs = structure(project), structure(scratch)
    if not theirs["relations"]:
        ours = without_shared(ours)
    assert [row[:3] for row in ours["relations"]] == [row[:3] for row in theirs["relations"]]
    assert [row[:2] for row in ours["functions"]] == [row[:2] for row in theirs["functions"]]
    assert [row[:2] for row in ours["triggers"]] == [row[:2] for row in theirs["triggers"]]
    assert ours == theirs


def write_rows_first(file: Path, forwards: str, backwards: str) -> None:
    """Let a migration write rows before its operations, in either direction."""
    head, middle, tail = file.read_text().partition("operations = [\n")
    first = f"        migrations.RunSQL({forwards!r}, migrations.RunSQL.noop),\n"
    last = f"        migrations.RunSQL(migrations.RunSQL.noop, {backwards!r}),\n"
    operations, end, rest = tail.rpartition("    ]\n")
    file.write_text(head + middle + first + operations + last + end + rest)


BLOCKED = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


def wait_until_blocked(project: Project, number: int, running: Future[Any] | None = None) -> None:
    """Wait until so many sessions wait for a lock."""
    deadline = time.monotonic() + 30
    with psycopg.connect(project.url, autocommit=True) as watch:
        while watch.execute(BLOCKED).fetchone() != (number,):
            assert running is None or not running.done(), f"it did not wait: {running.result()}"
            assert time.monotonic() < deadline
            time.sleep(0.02)


@contextmanager
def blocked(project: Project, command: str = "migrate", number: int = 1) -> Iterator[None]:
    """Run a command that has to wait for a lock; inside the block it waits, after it the command has come to its end."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        running = pool.submit(project.manage, command, code=None)
        wait_until_blocked(project, number, running)
        try:
            yield
        finally:
            outcome = running.result()
        assert outcome.code == 0, str(outcome)


@pytest.fixture
def connect(stack: ExitStack) -> Callable[[Project], psycopg.Connection[Any]]:
    """Open other sessions, whose transactions end when they commit."""
    return lambda project: stack.enter_context(closing(psycopg.connect(project.url)))


# Every timing to every other -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_a_timing_changes_and_back_and_again_with_changes_pending(
    inplace: Make, anew: Make, old: str, new: str
) -> None:
    project = inplace(books=one(old), rows=ROWS)
    project.sql(CHURN)
    assert project.makemigrations(books=one(new)) == {"books": ["AlterRule author.pages_total"]}
    project.manage("migrate")
    project.assert_settled()
    assert stored(project, "pages_total") == true(project, "pages_total")
    assert_exact(project, new, "pages_total")
    assert_same(project, anew(books=one(new)))

    project.sql(MORE)
    assert_exact(project, new, "pages_total")
    project.manage("migrate books 0001")
    project.write_models(books=one(old))
    assert stored(project, "pages_total") == true(project, "pages_total")
    assert_exact(project, old, "pages_total")
    assert_same(project, anew(books=one(old)))

    project.sql(AGAIN)
    assert_exact(project, old, "pages_total")
    project.write_models(books=one(new))
    project.manage("migrate")
    project.assert_settled()
    assert stored(project, "pages_total") == true(project, "pages_total")
    assert_same(project, anew(books=one(new)))


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_the_timings_of_two_rules_change_together_and_back(inplace: Make, anew: Make, old: str, new: str) -> None:
    project = inplace(books=both(old), rows=ROWS)
    project.sql(CHURN)
    assert project.makemigrations(books=both(new)) == {
        "books": ["AlterRule author.num_books", "AlterRule author.pages_total"]
    }
    project.manage("migrate")
    project.assert_settled()
    assert stored(project) == true(project)
    assert_same(project, anew(books=both(new)))
    project.sql(MORE)
    assert_exact(project, new)
    project.manage("migrate books 0001")
    project.write_models(books=both(old))
    assert stored(project) == true(project)
    assert_exact(project, old)
    assert_same(project, anew(books=both(old)))


def test_the_pending_changes_are_folded_and_not_computed_afresh(inplace: Make) -> None:
    project = inplace(books=both("QUEUED"), rows=ROWS)
    project.sql("SELECT tk_flush_books_author(); SELECT set_config('trigger_kit.depth', '0', false)")
    project.sql("UPDATE books_author SET pages_total = pages_total + 1000")
    project.sql("SELECT set_config('trigger_kit.depth', '', false)")
    project.sql(CHURN)
    project.makemigrations(books=both("IMMEDIATE"))
    project.manage("migrate")
    assert stored(project) == [(number, pages + 1000) for number, pages in true(project)]


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_one_of_two_rules_changes_its_timing(inplace: Make, anew: Make, old: str, new: str) -> None:
    before = models_of(timed(NUM_BOOKS, old), timed(PAGES_TOTAL, "QUEUED"))
    after = models_of(timed(NUM_BOOKS, new), timed(PAGES_TOTAL, "QUEUED"))
    project = inplace(books=before, rows=ROWS)
    project.sql(CHURN)
    assert project.makemigrations(books=after) == {"books": ["AlterRule author.num_books"]}
    project.manage("migrate")
    project.assert_settled()
    project.sql(MORE)
    project.assert_in_sync()
    assert_same(project, anew(books=after))
    project.manage("migrate books 0001")
    project.write_models(books=before)
    project.assert_in_sync()
    project.sql(AGAIN + "SELECT tk_flush_books_author()")
    project.assert_in_sync()
    assert stored(project) == true(project)
    assert_same(project, anew(books=before))


# Rules that come, go and change --------------------------------------------------------------------------------------


@pytest.mark.parametrize("timing", ["DEFERRED", "QUEUED"])
@pytest.mark.parametrize("other", TIMINGS)
def test_a_second_rule_comes_to_an_edge_that_has_changes_pending(
    inplace: Make, anew: Make, timing: str, other: str
) -> None:
    first = timed(NUM_BOOKS, timing)
    project = inplace(books=models_of(first), rows=ROWS)
    project.sql(CHURN)
    after = models_of(first, timed(PAGES_TOTAL, other))
    assert project.makemigrations(books=after) == {
        "books": ["AddField author.pages_total", "AddRule author.pages_total"]
    }
    project.manage("migrate")
    project.assert_settled()
    assert_same(project, anew(books=after))
    project.sql(MORE)
    project.assert_in_sync()
    project.manage("migrate books 0001")
    project.write_models(books=models_of(first))
    assert_exact(project, timing, "num_books")
    assert_same(project, anew(books=models_of(first)))


@pytest.mark.parametrize("timing", ["DEFERRED", "QUEUED"])
@pytest.mark.parametrize("with_field", [False, True], ids=["field stays", "field goes"])
@pytest.mark.parametrize("is_last", [False, True], ids=["another stays", "the last"])
def test_a_rule_goes_with_changes_pending(
    inplace: Make, anew: Make, timing: str, with_field: bool, is_last: bool
) -> None:
    left = [] if is_last else [timed(NUM_BOOKS, timing)]
    going = timed(PAGES_TOTAL, timing)
    before = models_of(*left, going)
    after = models_of(*left) if with_field else models_of(*left, going.without_rule)
    project = inplace(books=before, rows=ROWS)
    project.sql(CHURN)
    project.deploy(books=after)
    assert_same(project, anew(books=after))
    columns = [name for name, there in (("num_books", not is_last), ("pages_total", not with_field)) if there]
    if columns:
        assert stored(project, *columns) == true(project, *columns)
    if is_last:
        assert [name for (name,) in project.sql(NAMES) if name not in SHARED] == []
    project.sql(MORE)
    project.manage("migrate books 0001")
    project.write_models(books=before)
    project.assert_in_sync()
    assert_same(project, anew(books=before))


@pytest.mark.parametrize("timing", ["DEFERRED", "QUEUED"])
def test_a_filter_changes_with_changes_pending(inplace: Make, anew: Make, timing: str) -> None:
    published = timed(NUM_PUBLISHED, timing)
    before = models_of(timed(NUM_BOOKS, timing), published)
    after = models_of(timed(NUM_BOOKS, timing), published.replace("=True", "=False"))
    project = inplace(books=before, rows=ROWS)
    project.sql(CHURN)
    assert project.deploy(books=after) == {"books": ["AlterRule author.num_published"]}
    assert stored(project, "num_books", "num_published") == [(2, 0), (2, 1), (0, 0)]
    assert_same(project, anew(books=after))
    project.sql(MORE)
    project.manage("migrate books 0001")
    project.write_models(books=before)
    project.assert_in_sync()
    assert_same(project, anew(books=before))


@pytest.mark.parametrize("timing", ["DEFERRED", "QUEUED"])
def test_one_of_two_sources_goes_with_changes_pending(inplace: Make, anew: Make, timing: str) -> None:
    before = models_of(timed(NUM_BOOKS, timing), timed(NUM_ESSAYS, timing), book=BOOK + ESSAY)
    after = models_of(timed(NUM_BOOKS, timing), NUM_ESSAYS.without_rule, book=BOOK + ESSAY)
    project = inplace(books=before, rows=ROWS)
    project.sql(CHURN + "INSERT INTO books_essay (author_id) VALUES (1), (1), (3)")
    project.deploy(books=after)
    assert stored(project, "num_books", "num_essays") == [(2, 2), (2, 0), (0, 1)]
    assert_same(project, anew(books=after))


PUBLISHER = """
class Publisher(models.Model):
    num_books = models.IntegerField(default=0, editable=False)

    class Meta:
        denormalizations = [{rule}]
"""
CHAINS = {
    "queued at the end": (("IMMEDIATE", "QUEUED"), ("DEFERRED", "DEFERRED")),
    "queued after deferred": (("DEFERRED", "QUEUED"), ("IMMEDIATE", "IMMEDIATE")),
    "deferred twice": (("DEFERRED", "DEFERRED"), ("IMMEDIATE", "QUEUED")),
}


@pytest.mark.parametrize("what", CHAINS)
def test_the_timings_of_rules_that_build_on_each_other_change(inplace: Make, anew: Make, what: str) -> None:
    def models_at(timings: tuple[str, str]) -> str:
        total = timed(Kept("", 'Denormalize("num_books", Sum("authors__num_books", default=0))'), timings[1])
        publisher = Kept("publisher = models.ForeignKey(Publisher, models.CASCADE, null=True, related_name='authors')")
        header = TIMED + PUBLISHER.format(rule=total.rule)
        return library(publisher, timed(NUM_BOOKS, timings[0]), header=header)

    before, after = map(models_at, CHAINS[what])
    rows = "INSERT INTO books_publisher VALUES (1), (2);" + ROWS + "UPDATE books_author SET publisher_id = 1"
    move = "UPDATE books_author SET publisher_id = 2 WHERE id = 1;"
    project = inplace(books=before, rows=rows)
    project.sql(CHURN + move)
    project.deploy(books=after)
    assert_same(project, anew(books=after))
    project.sql(MORE + "UPDATE books_author SET publisher_id = 3 - publisher_id;")
    project.assert_in_sync()
    project.manage("migrate books 0001")
    project.write_models(books=before)
    project.assert_in_sync()
    assert_same(project, anew(books=before))
    project.sql(AGAIN + move)
    project.assert_in_sync()


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_the_timing_of_rules_with_two_keys_changes(inplace: Make, anew: Make, old: str, new: str) -> None:
    code = Kept("code = models.CharField(max_length=9, unique=True, null=True)")
    essay = ESSAY.replace('related_name="essays"', 'related_name="essays", to_field="code"')
    before, after = (
        models_of(
            code, timed(NUM_BOOKS, "QUEUED"), timed(NUM_ESSAYS, timing), timed(PAGES_TOTAL, "QUEUED"), book=BOOK + essay
        )
        for timing in (old, new)
    )
    rows = ROWS + "UPDATE books_author SET code = name;"
    project = inplace(books=before, rows=rows)
    project.sql(CHURN + "INSERT INTO books_essay (author_id) VALUES ('a'), ('a'), ('c')")
    assert project.deploy(books=after) == {"books": ["AlterRule author.num_essays"]}
    assert_same(project, anew(books=after))
    project.sql(MORE + "DELETE FROM books_essay WHERE id = 1; INSERT INTO books_essay (author_id) VALUES ('b')")
    project.assert_in_sync()
    project.manage("migrate books 0001")
    project.write_models(books=before)
    project.assert_in_sync()
    project.sql("SELECT tk_flush_books_author()")
    assert stored(project, "num_books", "num_essays") == [(1, 1), (2, 1), (2, 1)]
    assert_same(project, anew(books=before))


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_a_timing_changes_on_a_table_with_a_name_that_needs_quotes(
    inplace: Make, anew: Make, old: str, new: str
) -> None:
    meta = "db_table = 'all of the \\'Authors\\' {{in}} table'"
    before, after = (library(timed(NUM_BOOKS, timing), header=TIMED, meta=meta) for timing in (old, new))
    project = inplace(books=before)
    table = "\"all of the 'Authors' {{in}} table\""
    project.sql(ROWS.replace("books_author", table) + CHURN)
    project.deploy(books=after)
    assert_same(project, anew(books=after))
    project.sql(MORE)
    project.psql(project.manage("sqlmigrate --backwards books 0002").stdout)
    project.manage("migrate --fake books 0001")
    project.write_models(books=before)
    project.assert_in_sync()
    assert project.sql(f"SELECT num_books FROM {table} ORDER BY id") == [(1,), (2,), (2,)]
    assert_same(project, anew(books=before))


def test_whoever_may_read_or_flush_may_after_a_change(inplace: Make) -> None:
    project = inplace(books=models_of(timed(NUM_BOOKS, "QUEUED")), rows=ROWS)
    reader, flusher = "pg_read_all_stats", "pg_monitor"  # Roles that every server has.
    project.sql(
        f"GRANT SELECT ON books_author TO {reader}; GRANT EXECUTE ON FUNCTION tk_flush_books_author TO {flusher}"
    )
    project.deploy(books=both("QUEUED"))
    for table in ("tk_exact_books_author", "tk_pending_books_author"):
        assert project.value(f"SELECT has_table_privilege('{reader}', '{table}', 'SELECT')"), table
    assert project.value(
        f"SELECT has_function_privilege('{flusher}', 'tk_flush_books_author(bigint,boolean)', 'EXECUTE')"
    )
    assert not project.value(
        f"SELECT has_function_privilege('{reader}', 'tk_flush_books_author(bigint,boolean)', 'EXECUTE')"
    )


# Types ---------------------------------------------------------------------------------------------------------------

KEY = "name = models.CharField(max_length=50)"
SMALL = both("{}").replace("BigIntegerField", "IntegerField")
SMALL_KEY = SMALL.replace(KEY, f"id = models.AutoField(primary_key=True)\n    {KEY}")
TEXT_KEY = SMALL.replace(KEY, f"id = models.CharField(max_length=20, primary_key=True)\n    {KEY}")
TYPES = {
    "kept, wider": (SMALL, both("{}")),
    "kept, narrower": (both("{}"), SMALL),
    "key, wider": (SMALL_KEY, SMALL),
    "key, narrower": (SMALL, SMALL_KEY),
    "key and kept": (SMALL_KEY, both("{}")),
    "key, text": (SMALL, TEXT_KEY),
    "summed, wider": (SMALL, SMALL.replace("pages = models.IntegerField", "pages = models.BigIntegerField")),
}


CHANGED_TYPES = [(what, timing) for what in TYPES if what != "key, text" for timing in ("DEFERRED", "QUEUED")]


@pytest.mark.parametrize(("what", "timing"), CHANGED_TYPES)
def test_a_type_changes_with_changes_pending(inplace: Make, anew: Make, what: str, timing: str) -> None:
    before, after = (source.replace("Timing.{}", f"Timing.{timing}") for source in TYPES[what])
    project = inplace(books=before, rows=ROWS)
    project.sql(CHURN)
    project.deploy(books=after)
    assert stored(project) == true(project)
    assert_exact(project, timing)
    assert_same(project, anew(books=after))
    project.sql(MORE)
    project.manage("migrate books 0001")
    project.write_models(books=before)
    assert_exact(project, timing)
    assert_same(project, anew(books=before))


@pytest.mark.parametrize("timing", ["DEFERRED", "QUEUED"])
def test_a_key_becomes_text_with_changes_pending(inplace: Make, anew: Make, timing: str) -> None:
    before, after = (source.replace("Timing.{}", f"Timing.{timing}") for source in TYPES["key, text"])
    project = inplace(books=before, rows=ROWS)
    project.sql(CHURN)
    project.deploy(books=after)
    assert stored(project) == true(project)
    assert_same(project, anew(books=after))


@pytest.mark.parametrize("timing", TIMINGS)
def test_a_key_that_became_text_is_a_number_again(inplace: Make, timing: str) -> None:
    before, after = (source.replace("Timing.{}", f"Timing.{timing}") for source in TYPES["key, text"])
    project = inplace(books=before, rows=ROWS)
    project.deploy(books=after)
    project.sql(CHURN.replace("author_id = 2", "author_id = '2'"))
    project.manage("migrate books 0001")
    project.write_models(books=before)
    assert_exact(project, timing)


# The file and its SQL ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("timing", ["DEFERRED", "QUEUED"])
def test_the_migration_holds_the_timing_alone(inplace: Make, timing: str) -> None:
    project = inplace(books=both("IMMEDIATE"))
    project.makemigrations(books=both(timing))
    text = project.last("books").read_text()
    assert text.count(f"Timing['{timing}']") == 2
    assert "SELECT" not in text
    assert len(text.splitlines()) < 40


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_sqlmigrate_prints_the_change_forwards_and_backwards(inplace: Make, anew: Make, old: str, new: str) -> None:
    project = inplace(books=one(old), rows=ROWS)
    project.sql(CHURN)
    project.makemigrations(books=one(new))
    before = structure(project)
    forwards = project.manage("sqlmigrate books 0002").stdout
    assert structure(project) == before
    assert "{:" not in forwards
    project.psql(forwards)
    project.manage("migrate --fake")
    project.assert_settled()
    assert stored(project, "pages_total") == true(project, "pages_total")
    assert_same(project, anew(books=one(new)))

    project.sql(MORE)
    project.psql(project.manage("sqlmigrate --backwards books 0002").stdout)
    project.manage("migrate --fake books 0001")
    project.write_models(books=one(old))
    assert_exact(project, old, "pages_total")
    assert_same(project, anew(books=one(old)))


@pytest.mark.parametrize("timing", ["DEFERRED", "QUEUED"])
def test_sqlmigrate_of_the_first_migration_makes_the_same_database(inplace: Make, anew: Make, timing: str) -> None:
    project = inplace("books")
    project.makemigrations(books=both(timing))
    project.psql(project.manage("sqlmigrate books 0001").stdout)
    project.manage("migrate --fake")
    project.sql(ROWS.replace("(id, name)", "(id, name, num_books, pages_total)").replace("')", "', 0, 0)"))
    assert_exact(project, timing)
    assert_same(project, anew(books=both(timing)))


def test_migrations_of_timings_can_be_squashed(make: Make, scratch: Make) -> None:
    project = make(books=both("IMMEDIATE"), rows=ROWS)
    for timing in ("QUEUED", "DEFERRED", "QUEUED"):
        project.deploy(books=both(timing))
    project.manage("squashmigrations books 0001 0004 --noinput")
    project.manage("migrate")
    project.assert_settled()
    assert_same(project, scratch(books=both("QUEUED")))


# Others at work ------------------------------------------------------------------------------------------------------

Connect = Callable[[Project], "psycopg.Connection[Any]"]


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_the_migration_waits_for_a_writer(inplace: Make, connect: Connect, old: str, new: str) -> None:
    project = inplace(books=both(old), rows=ROWS)
    project.makemigrations(books=both(new))
    writer = connect(project)
    writer.execute(CHURN)
    with blocked(project):
        writer.execute(MORE)
        writer.commit()
    assert stored(project) == true(project)
    project.assert_settled()
    project.sql(AGAIN)
    assert_exact(project, new)


@pytest.mark.parametrize("new", ["IMMEDIATE", "QUEUED"])
def test_the_migration_waits_for_a_writer_that_has_noted_nothing_yet(inplace: Make, connect: Connect, new: str) -> None:
    project = inplace(books=both("DEFERRED"), rows=ROWS)
    project.makemigrations(books=both(new))
    writer = connect(project)
    writer.execute("UPDATE books_book SET published = NOT published")
    with blocked(project):
        writer.execute(CHURN)
        writer.commit()
    assert stored(project) == true(project)
    assert_exact(project, new)


@pytest.mark.parametrize("timing", ["IMMEDIATE", "DEFERRED"])
def test_the_migration_waits_for_a_writer_of_a_source_that_goes(inplace: Make, connect: Connect, timing: str) -> None:
    before = models_of(timed(NUM_BOOKS, timing), timed(NUM_ESSAYS, timing), book=BOOK + ESSAY)
    project = inplace(books=before, rows=ROWS)
    project.makemigrations(books=models_of(timed(NUM_BOOKS, timing), NUM_ESSAYS.without_rule, book=BOOK + ESSAY))
    writer = connect(project)
    writer.execute("UPDATE books_essay SET author_id = 1")
    with blocked(project):
        writer.execute("INSERT INTO books_essay (author_id) VALUES (1), (3)")
        writer.commit()
    assert stored(project, "num_books", "num_essays") == [(3, 1), (1, 0), (0, 1)]


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
@pytest.mark.parametrize("new", ["IMMEDIATE", "DEFERRED"])
def test_the_migration_waits_for_a_flush(inplace: Make, connect: Connect, new: str, end: str) -> None:
    project = inplace(books=both("QUEUED"), rows=ROWS)
    project.sql(CHURN)
    project.makemigrations(books=both(new))
    flusher = connect(project)
    flusher.execute("SELECT tk_flush_books_author()")
    project.sql(MORE)
    with blocked(project):
        flusher.execute(end)
    assert stored(project) == true(project)
    project.assert_settled()


@pytest.mark.parametrize("order", ["flush first", "migration first"])
def test_a_flush_that_waits_for_a_row_meets_the_migration(inplace: Make, connect: Connect, order: str) -> None:
    project = inplace(books=both("QUEUED"), rows=ROWS)
    project.makemigrations(books=both("IMMEDIATE"))
    holder, flusher = connect(project), connect(project)
    holder.execute("SELECT FROM books_author WHERE id = 2 FOR UPDATE")

    def flush() -> None:
        flusher.execute("SELECT tk_flush_books_author()")
        flusher.commit()

    with ThreadPoolExecutor(max_workers=1) as pool:
        if order == "flush first":
            flushing = pool.submit(flush)
            wait_until_blocked(project, 1)
        with blocked(project, number=2 if order == "flush first" else 1):
            if order == "migration first":
                flushing = pool.submit(flush)
                wait_until_blocked(project, 2)
            holder.commit()
        with suppress(psycopg.errors.UndefinedTable, psycopg.errors.UndefinedFunction):
            flushing.result()
    assert stored(project) == true(project)
    project.assert_settled()


def test_a_queue_is_made_anew_while_others_flush_and_write(inplace: Make, connect: Connect) -> None:
    project = inplace(books=models_of(timed(NUM_BOOKS, "QUEUED"), BARE), rows=ROWS)
    project.sql(CHURN)
    project.makemigrations(books=models_of(timed(NUM_BOOKS, "QUEUED"), timed(FILLED, "QUEUED")))
    flusher, writer = connect(project), connect(project)
    flusher.execute("SELECT tk_flush_books_author()")
    writer.execute(MORE)
    with blocked(project):
        flusher.commit()
        writer.execute("UPDATE books_book SET pages = 7, author_id = 3 WHERE id = 5")
        writer.commit()
    project.assert_settled()
    assert_exact(project, "QUEUED")


def test_the_migration_waits_for_a_reader_of_the_queue(inplace: Make, connect: Connect) -> None:
    project = inplace(books=both("QUEUED"), rows=ROWS)
    project.sql(CHURN)
    project.makemigrations(books=both("IMMEDIATE"))
    reader = connect(project)
    seen = reader.execute("SELECT num_books, pages_total FROM tk_exact_books_author ORDER BY id").fetchall()
    with blocked(project):
        reader.commit()
    assert stored(project) == seen == true(project)


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
@pytest.mark.parametrize("new", ["IMMEDIATE", "DEFERRED"])
def test_a_migration_that_would_see_the_past_only_is_refused(
    inplace: Make, connect: Connect, new: str, level: str
) -> None:
    project = inplace(books=both("QUEUED"), rows=ROWS)
    project.sql(CHURN)
    project.makemigrations(books=both(new))
    before, waiting = structure(project), pending(project)
    writer = connect(project)
    writer.execute(MORE)
    escaped = level.replace(" ", r"\ ")
    project.write_settings(options={"options": f"-c default_transaction_isolation={escaped}"})
    # It does not even wait for the writer.
    assert "installs and fills at READ COMMITTED only" in project.manage("migrate", code=1).stderr
    assert structure(project) == before
    assert pending(project) == waiting > 0
    writer.commit()
    project.write_settings()
    project.manage("migrate")
    project.assert_settled()
    assert stored(project) == true(project)


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_a_session_that_has_written_before_writes_after(inplace: Make, connect: Connect, old: str, new: str) -> None:
    project = inplace(books=one(old), rows=ROWS)
    project.makemigrations(books=one(new))
    session = connect(project)
    numbers = itertools.count(10)

    def write() -> None:
        for _ in range(7):  # Plans are kept from the sixth time on.
            session.execute("UPDATE books_book SET pages = pages + 1 WHERE id = 1")
            session.execute("INSERT INTO books_book VALUES (%s, 3, true, 2)", [next(numbers)])
            session.commit()

    write()
    for command, timing in (("migrate", new), ("migrate books 0001", old), ("migrate", new)):
        project.manage(command)
        write()
        project.write_models(books=one(timing))
        assert_exact(project, timing, "pages_total")
        project.write_models(books=one(new))
        if timing == "QUEUED":
            session.execute("SELECT tk_flush_books_author()")
            session.commit()
            assert stored(project, "pages_total") == true(project, "pages_total")


# Rows that the same migration has written ----------------------------------------------------------------------------


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_a_migration_writes_rows_before_a_timing_changes(inplace: Make, anew: Make, old: str, new: str) -> None:
    project = inplace(books=one(old), rows=ROWS)
    project.makemigrations(books=one(new))
    write_rows_first(project.last("books"), CHURN, MORE)
    project.manage("migrate")
    project.assert_settled()
    assert stored(project, "pages_total") == true(project, "pages_total")
    assert_same(project, anew(books=one(new)))
    project.manage("migrate books 0001")
    project.write_models(books=one(old))
    assert stored(project, "pages_total") == true(project, "pages_total")
    assert_same(project, anew(books=one(old)))


WRITTEN_FIRST = [
    (timing, change)
    for timing in ("DEFERRED", "QUEUED")
    for change in ("another comes", "one of two goes", "the last goes", "the filter")
]


@pytest.mark.parametrize(("timing", "change"), WRITTEN_FIRST)
def test_a_migration_writes_rows_before_rules_change(inplace: Make, anew: Make, timing: str, change: str) -> None:
    pages, books = timed(FILLED, timing), timed(NUM_BOOKS, timing)
    long = Kept(pages.field, pages.rule.replace("default=0)", "default=0, filter=Q(books__pages__gt=15))"))
    before, after = {
        "another comes": (models_of(books, BARE), models_of(books, pages)),
        "one of two goes": (models_of(books, pages), models_of(books, BARE)),
        "the last goes": (models_of(pages), models_of(BARE)),
        "the filter": (models_of(books, pages), models_of(books, long)),
    }[change]
    project = inplace(books=before, rows=ROWS)
    project.makemigrations(books=after)
    write_rows_first(project.last("books"), CHURN, "")
    project.manage("migrate")
    project.assert_settled()
    assert_same(project, anew(books=after))
    if change != "the filter":
        assert stored(project, "pages_total") == true(project, "pages_total")


# Targets that are not there ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("other", ["IMMEDIATE", "DEFERRED"])
def test_changes_of_missing_targets_are_pending(inplace: Make, anew: Make, other: str) -> None:
    queued, changed = (models_of(timed(PAGES_TOTAL, t), book=LOOSE_BOOK) for t in ("QUEUED", other))
    project = inplace(books=queued, rows=ROWS)
    project.sql("INSERT INTO books_book (id, author_id, pages, published) VALUES (20, 9, 5, true), (21, 10, 6, true)")
    assert pending(project) > 0
    project.makemigrations(books=changed)
    project.manage("migrate")
    project.assert_settled()
    assert_same(project, anew(books=changed))
    project.sql("INSERT INTO books_author (id, name) VALUES (9, 'i')")
    project.sql("INSERT INTO books_book (id, author_id, pages, published) VALUES (22, 10, 7, true), (23, 9, 8, true)")
    assert stored(project, "pages_total") == true(project, "pages_total")

    project.manage("migrate books 0001")
    project.write_models(books=queued)
    assert_exact(project, "QUEUED", "pages_total")
    project.sql("INSERT INTO books_author (id, name) VALUES (10, 'j')")
    project.sql("INSERT INTO books_book (id, author_id, pages, published) VALUES (24, 10, 9, true), (25, 11, 1, true)")
    assert_exact(project, "QUEUED", "pages_total")
    project.write_models(books=changed)
    project.manage("migrate")
    project.sql("INSERT INTO books_author (id, name) VALUES (11, 'k')")
    assert stored(project, "pages_total") == true(project, "pages_total")


# To zero, and without migrations -------------------------------------------------------------------------------------


@pytest.mark.parametrize("timing", ["DEFERRED", "QUEUED"])
def test_at_zero_only_what_targets_share_is_left(inplace: Make, timing: str) -> None:
    project = inplace(books=both(timing), rows=ROWS)
    project.sql(CHURN)
    project.manage("migrate books zero")
    assert [name for (name,) in project.sql(NAMES)] == SHARED
    left = without_shared(structure(project))
    assert not any(left.values()), left
    project.manage("migrate")
    project.sql(ROWS + CHURN)
    project.assert_settled()
    assert_exact(project, timing)


INSTALL = "trigger_kit install"
OUTDATED = """
SELECT format('COMMENT ON TRIGGER %I ON %s IS %L', tgname, tgrelid::regclass,
    regexp_replace(obj_description(oid, 'pg_trigger'), '[0-9a-f]{40}', repeat('0', 40)))
FROM pg_trigger WHERE tgname ~ %s AND NOT tgisinternal AND tgname <> 'tk_commit'
"""


def make_outdated(project: Project, names: str) -> int:
    statements = [
        sql for (sql,) in project.sql(OUTDATED.replace("%I", "%%I").replace("ON %s IS %L", "ON %%s IS %%L"), names)
    ]
    for statement in statements:
        project.sql(statement)
    return len(statements)


@pytest.mark.parametrize("timing", ["DEFERRED", "QUEUED"])
@pytest.mark.parametrize("names", ["_purge_|_commit_", "^~?tk_", "books_book", "nothing"])
def test_install_keeps_what_is_pending(inplace: Make, anew: Make, timing: str, names: str) -> None:
    project = inplace(books=both(timing), rows=ROWS)
    project.sql(CHURN)
    assert (make_outdated(project, names) > 0) is (names != "nothing")
    project.manage(INSTALL)
    project.assert_settled()
    assert_exact(project, timing)
    assert_same(project, anew(books=both(timing)))


def test_install_brings_back_a_queue_that_somebody_has_dropped(inplace: Make, anew: Make) -> None:
    project = inplace(books=both("QUEUED"), rows=ROWS)
    project.sql(CHURN)
    (name,) = (row[1] for row in project.objects()["triggers"] if "_purge_" in row[1])
    project.sql(f"DROP TRIGGER {name} ON books_author; DROP TABLE tk_pending_books_author CASCADE")
    project.manage(INSTALL)
    assert_exact(project, "QUEUED")
    assert_same(project, anew(books=both("QUEUED")))


def test_install_waits_for_a_writer(inplace: Make, connect: Connect) -> None:
    project = inplace(books=both("QUEUED"), rows=ROWS)
    make_outdated(project, "^~?tk_")
    writer = connect(project)
    writer.execute(CHURN)
    with blocked(project, INSTALL):
        writer.execute(MORE)
        writer.commit()
    assert_exact(project, "QUEUED")


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_a_timing_changes_without_migrations(blank: Make, old: str, new: str) -> None:
    project = blank("books")
    project.write_settings(extra="MIGRATION_MODULES = {'books': None}\n")
    project.write_models(books=both(old))
    project.manage("migrate --run-syncdb")
    project.sql(ROWS + CHURN)
    project.write_models(books=both(new))
    project.manage("migrate --run-syncdb")
    assert_exact(project, new)
    if old == "QUEUED" and project.value("SELECT to_regproc('tk_flush_books_author') IS NOT NULL"):
        project.sql("SELECT tk_flush_books_author()")  # A job may go on to call it.
    project.sql(MORE)
    assert_exact(project, new)


# Scripts and schemas -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("timing", ["DEFERRED", "QUEUED"])
def test_the_script_runs_twice_with_changes_pending(inplace: Make, anew: Make, timing: str) -> None:
    bare = library(
        *(kept.replace("default=0,", "default=0, db_default=0,").without_rule for kept in (NUM_BOOKS, PAGES_TOTAL))
    )
    ruled = both(timing).replace("Field(default=0,", "Field(default=0, db_default=0,")
    project = inplace(books=bare, rows=ROWS)
    project.makemigrations(books=ruled)
    project.manage("migrate --fake")
    script = project.manage("trigger_kit sql").stdout
    project.psql(script)
    project.assert_settled()
    project.sql(CHURN)
    project.psql(script)
    project.assert_settled()
    project.sql(MORE)
    assert_exact(project, timing)
    project.psql(script)
    assert_exact(project, timing)
    assert_same(project, anew(books=ruled))


def tenants(inplace: Make, timing: str) -> Project:
    """Return a project that is migrated in two schemas, with rows in both."""
    project = inplace("books")
    project.makemigrations(books=both(timing))
    for tenant in TENANTS:
        project.sql(f"CREATE SCHEMA {tenant}")
        enter(project, tenant)
        project.manage("migrate")
        project.sql(f"SET search_path = {tenant}")
        project.sql(ROWS)
    return project


def test_each_schema_has_its_own_queue(inplace: Make) -> None:
    project = tenants(inplace, "QUEUED")
    enter(project, "tenant_a")
    project.sql("SELECT tk_flush_books_author()")
    project.sql(CHURN)
    assert pending(project) > 0
    enter(project, "tenant_b")
    before = pending(project)
    enter(project, "tenant_a")
    project.manage("trigger_kit flush")
    project.sql("SET search_path = tenant_a")
    assert pending(project) == 0
    assert stored(project) == true(project)
    enter(project, "tenant_b")
    assert pending(project) == before > 0
    assert_exact(project, "QUEUED")


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_a_timing_changes_in_one_schema_after_the_other(inplace: Make, old: str, new: str) -> None:
    project = tenants(inplace, old)
    project.makemigrations(books=both(new))
    for tenant, statements in zip(TENANTS, (CHURN, CHURN + MORE), strict=True):
        enter(project, tenant)
        project.sql(statements)
        other = next(name for name in TENANTS if name != tenant)
        others = [row for row in project.sql(RELATIONS) if row[0] == other]
        project.manage("migrate")
        project.sql(f"SET search_path = {tenant}")
        assert [row for row in project.sql(RELATIONS) if row[0] == other] == others
        assert stored(project) == true(project)
        assert_exact(project, new)


@pytest.mark.parametrize("timing", ["DEFERRED", "QUEUED"])
def test_one_transaction_writes_in_two_schemas(inplace: Make, timing: str) -> None:
    project = tenants(inplace, timing)
    project.sql("BEGIN")
    for tenant in TENANTS:
        project.sql(f"INSERT INTO {tenant}.books_book (id, author_id, pages, published) VALUES (9, 3, 5, true)")
    project.sql("COMMIT")
    for tenant in TENANTS:
        enter(project, tenant)
        assert_exact(project, timing)
