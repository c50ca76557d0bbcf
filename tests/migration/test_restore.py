"""pg_dump and pg_restore, in every way that people use them, into a new cluster.

A whole restore makes the triggers after the rows, so that none fires. Where rows come into tables that have triggers
already, what is exact and what is not is shown here, and what repairs it; docs/blind_spots.md says the same in words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dev.postgres import Server, running_server
from tests.migration import shop
from tests.migration.conftest import Make
from tests.migration.programs import moved, run
from tests.migration.project import Project

VIEWS = "SELECT viewname, definition FROM pg_views WHERE schemaname = 'public' ORDER BY 1"
OWN_TABLES = """
SELECT class.relname, class.relpersistence, array_agg(attribute.attname::text ORDER BY attribute.attnum),
       obj_description(class.oid, 'pg_class')
FROM pg_class AS class JOIN pg_attribute AS attribute ON attribute.attrelid = class.oid AND attribute.attnum > 0
WHERE class.relname LIKE 'tk\\_%' AND class.relkind = 'r' GROUP BY class.oid, class.relname ORDER BY 1
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Server]:
    """Start a second cluster; where the suite's server is given by a URL, it is the same one."""
    with running_server() as server:
        yield server


@pytest.fixture
def source(make: Make) -> Project:
    """Make a project with rows, some of them pending, and one trigger that fires always."""
    project = make(shop=shop.MODELS, rows=shop.ROWS)
    project.sql(f'ALTER TABLE shop_author ENABLE ALWAYS TRIGGER "{guard(project)}"')
    return project


@pytest.fixture
def empty(source: Project, cluster: Server, tmp_path: Path) -> Iterator[Project]:
    """Give a copy of the project's files an empty database in the other cluster."""
    server = cluster.database(f"{source.database}_restored")
    server.create()
    project = moved(source, cluster, f"{source.database}_restored", tmp_path / "project")
    yield project
    project.close()
    server.drop()


def guard(project: Project) -> str:
    found = "SELECT tgname FROM pg_trigger WHERE tgrelid = 'shop_author'::regclass AND tgname LIKE '%guard%'"
    return str(project.value(found))


def drifted(project: Project) -> set[str]:
    """Return the rules that verify finds drifted."""
    lines = project.manage("trigger_kit verify", code=None).stdout.splitlines()
    return {line.split()[0] for line in lines if line.endswith("drifted")}


def assert_repaired(project: Project) -> None:
    """Repair; then all must be right, also after more writes."""
    project.manage("trigger_kit repair")
    assert_alive(project)


def assert_alive(project: Project) -> None:
    """Assert that everything is right and stays so under writes and a flush."""
    project.assert_in_sync()
    assert set(project.statuses().values()) == {"installed"}
    project.sql(shop.CHURN)
    project.assert_in_sync()
    project.sql("SELECT tk_flush_shop_author()")
    project.assert_in_sync()


def dump(source: Project, file: Path, *options: str) -> str:
    run(source.server, "pg_dump", "--dbname", source.url, "--file", str(file), *options)
    return str(file)


def restore(target: Project, file: str, *options: str) -> str:
    return run(target.server, "pg_restore", "--exit-on-error", "--dbname", target.url, *options, file)


def psql(target: Project, *files: str) -> None:
    for file in files:
        run(
            target.server, "psql", "--no-psqlrc", "--quiet", "-v", "ON_ERROR_STOP=1", "--dbname", target.url, "-f", file
        )


def custom(source: Project, target: Project, tmp_path: Path) -> None:
    restore(target, dump(source, tmp_path / "dump", "-Fc"))


def plain(source: Project, target: Project, tmp_path: Path) -> None:
    psql(target, dump(source, tmp_path / "dump.sql"))


def inserts(source: Project, target: Project, tmp_path: Path) -> None:
    psql(target, dump(source, tmp_path / "dump.sql", "--column-inserts", "--rows-per-insert=7"))


def in_parallel(source: Project, target: Project, tmp_path: Path) -> None:
    restore(target, dump(source, tmp_path / "dump", "-Fd", "--jobs=3"), "--jobs=3")


def in_one_transaction(source: Project, target: Project, tmp_path: Path) -> None:
    restore(target, dump(source, tmp_path / "dump", "-Fc"), "--single-transaction")


def without_owner(source: Project, target: Project, tmp_path: Path) -> None:
    restore(target, dump(source, tmp_path / "dump", "-Fc"), "--no-owner", "--no-privileges")


def by_section(source: Project, target: Project, tmp_path: Path) -> None:
    file = dump(source, tmp_path / "dump", "-Fc")
    for section in ("pre-data", "data", "post-data"):
        restore(target, file, f"--section={section}")


def over_what_is_there(source: Project, target: Project, tmp_path: Path) -> None:
    custom(source, target, tmp_path)
    target.sql(shop.CHURN)
    restore(target, str(tmp_path / "dump"), "--clean", "--if-exists")


def without_unlogged(source: Project, target: Project, tmp_path: Path) -> None:
    psql(target, dump(source, tmp_path / "dump.sql", "--no-unlogged-table-data"))


def schema_then_data_without_triggers(source: Project, target: Project, tmp_path: Path) -> None:
    file = dump(source, tmp_path / "dump", "-Fc")
    restore(target, file, "--schema-only")
    restore(target, file, "--data-only", "--disable-triggers")


def plain_schema_then_data_without_triggers(source: Project, target: Project, tmp_path: Path) -> None:
    psql(
        target,
        dump(source, tmp_path / "schema.sql", "--schema-only"),
        dump(source, tmp_path / "data.sql", "--data-only", "--disable-triggers"),
    )


def thorough(way: Callable[..., None]) -> Any:
    return pytest.param(way, marks=pytest.mark.thorough)


WHOLE = (
    custom,
    plain,
    in_parallel,
    by_section,
    without_unlogged,
    *map(thorough, (inserts, in_one_transaction, without_owner, over_what_is_there)),
)
IN_TWO_STEPS = (schema_then_data_without_triggers, thorough(plain_schema_then_data_without_triggers))


def ways(*functions: Any) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("way", functions, ids=lambda function: function.__name__)


@ways(*WHOLE)
def test_a_whole_restore_is_exact(way: Callable[..., None], source: Project, empty: Project, tmp_path: Path) -> None:
    way(source, empty, tmp_path)
    assert empty.rows() == source.rows()
    assert empty.objects() == source.objects()
    assert empty.sql(VIEWS) == source.sql(VIEWS)
    assert empty.sql(OWN_TABLES) == source.sql(OWN_TABLES)


def test_a_restored_database_lives_on(source: Project, empty: Project, tmp_path: Path) -> None:
    custom(source, empty, tmp_path)
    empty.assert_settled()
    assert_alive(empty)


@ways(*IN_TWO_STEPS)
def test_rows_that_come_while_triggers_are_off(
    way: Callable[..., None], source: Project, empty: Project, tmp_path: Path
) -> None:
    """Exact too, pending rows included; but pg_restore enables every trigger afterwards, as ENABLE TRIGGER does."""
    way(source, empty, tmp_path)
    assert empty.rows() == source.rows()
    switched = "SELECT tgname FROM pg_trigger WHERE tgenabled <> 'O' AND NOT tgisinternal"
    assert (source.sql(switched), empty.sql(switched)) == ([(guard(source),)], [])
    assert_alive(empty)


def whole_archive(source: Project, target: Project, tmp_path: Path) -> None:
    file = dump(source, tmp_path / "dump", "-Fc")
    restore(target, file, "--schema-only")
    restore(target, file, "--data-only", "--single-transaction")


def archive_of_rows(source: Project, target: Project, tmp_path: Path) -> None:
    target.manage("migrate")
    restore(target, dump(source, tmp_path / "rows", "-Fc", "--data-only", "--exclude-table=django_*"))


@ways(whole_archive, archive_of_rows)
def test_rows_that_fire_triggers(way: Callable[..., None], source: Project, empty: Project, tmp_path: Path) -> None:
    """In any order of rows all is right but QUEUED: what was pending comes along, and is appended again."""
    way(source, empty, tmp_path)
    assert drifted(empty) == {"shop.Author:num_sales"}
    assert_repaired(empty)


@pytest.mark.parametrize("is_flushed", [False, True])
def test_rows_without_those_of_ours(source: Project, empty: Project, tmp_path: Path, is_flushed: bool) -> None:
    """Where triggers fire, leave our tables out of it, or flush before."""
    if is_flushed:
        source.sql("SELECT tk_flush_shop_author()")
    left_out = [] if is_flushed else ["--exclude-table=tk_*"]
    file = dump(source, tmp_path / "rows", "-Fc", "--data-only", "--exclude-table=django_*", *left_out)
    empty.manage("migrate")
    restore(empty, file)
    assert_alive(empty)


def test_a_whole_dump_without_what_is_pending(source: Project, empty: Project, tmp_path: Path) -> None:
    restore(empty, dump(source, tmp_path / "dump", "-Fc", "--exclude-table-data=tk_*"))
    assert drifted(empty) == {"shop.Author:num_sales"}
    assert_repaired(empty)


def test_the_rows_of_one_table_while_triggers_are_off(source: Project, empty: Project, tmp_path: Path) -> None:
    """What is computed from the drifted columns follows when these are repaired."""
    custom(source, empty, tmp_path)
    empty.sql("DELETE FROM shop_book")
    restore(empty, str(tmp_path / "dump"), "--data-only", "--disable-triggers", "--table=shop_book")
    assert drifted(empty) == {"shop.Author:num_books", "shop.Author:most_pages", "shop.Author:first_title"}
    assert_repaired(empty)


def test_the_rows_of_one_table(source: Project, empty: Project, tmp_path: Path) -> None:
    custom(source, empty, tmp_path)
    empty.sql("DELETE FROM shop_book")
    restore(empty, str(tmp_path / "dump"), "--data-only", "--table=shop_book")
    assert empty.rows() == source.rows()
    assert_alive(empty)


def test_one_table_without_its_triggers(source: Project, empty: Project, tmp_path: Path) -> None:
    """--table restores neither triggers nor keys: ls tells, and installing again brings the triggers."""
    custom(source, empty, tmp_path)
    empty.sql("DROP TABLE shop_book CASCADE")
    restore(empty, str(tmp_path / "dump"), "--table=shop_book")
    empty.sql("ALTER TABLE shop_book ADD PRIMARY KEY (id), ALTER id ADD GENERATED BY DEFAULT AS IDENTITY (START 1000)")
    fed = {"shop.Author:num_books", "shop.Author:most_pages", "shop.Author:first_title", "shop.Author:num_sales"}
    assert {rule for rule, status in empty.statuses().items() if status == "missing"} == {*fed, "shop.Book:author_name"}
    empty.manage("trigger_kit install")
    assert_alive(empty)


def test_a_pause_comes_along(source: Project, empty: Project, tmp_path: Path) -> None:
    """What was paused is paused there too, and its end repairs what was touched in either database."""
    source.manage("trigger_kit pause")
    source.sql(shop.CHURN)
    custom(source, empty, tmp_path)
    assert empty.statuses() == source.statuses()
    assert "paused" in empty.statuses().values()
    empty.sql("UPDATE shop_book SET author_id = 4 WHERE id % 3 = 0")
    empty.manage("trigger_kit resume")
    assert_alive(empty)


def test_rights_that_a_restore_leaves_out(source: Project, empty: Project, tmp_path: Path) -> None:
    """Without privileges everybody may run a flush, which changes no true value; REVOKE closes it."""
    without_owner(source, empty, tmp_path)
    may_flush = "SELECT has_function_privilege('public', 'tk_flush_shop_author(bigint, boolean)', 'EXECUTE')"
    assert (source.value(may_flush), empty.value(may_flush)) == (False, True)
