"""What docs/for_dbas.md tells a DBA to run does what it says."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from dev.dba_page import PAGE
from tests.library.models import Author, Book

Sql = Callable[..., list[tuple[Any, ...]]]
pytestmark = pytest.mark.usefixtures("db")


def blocks() -> list[str]:
    """Return the blocks of SQL that are no printed functions."""
    found = re.findall(r"```sql\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return [block for block in found if not block.startswith("CREATE OR REPLACE FUNCTION")]


def test_the_query_finds_what_is_wrong_and_the_script_removes_the_triggers(sql: Sql) -> None:
    compare, remove = blocks()
    author = Author.objects.create(name="a")
    Book.objects.create(author=author)
    assert sql(compare) == []
    assert sql("SELECT count(*) > 10 FROM pg_trigger WHERE tgname ~ '^~?tk_' AND tgname <> 'tk_commit'") == [(True,)]
    sql("SET CONSTRAINTS ALL IMMEDIATE")
    sql(remove)
    assert sql("SELECT count(*) FROM pg_trigger WHERE tgname ~ '^~?tk_' AND tgname <> 'tk_commit'") == [(0,)]
    Book.objects.create(author=author)
    assert sql(compare) == [(author.pk, 1, 2)]


def test_every_object_of_ours_has_a_comment(sql: Sql) -> None:
    functions = "SELECT proname FROM pg_proc WHERE proname ~ '^~?tk_' AND obj_description(oid, 'pg_proc') IS NULL"
    tables = "SELECT relname FROM pg_class WHERE relname ~ '^tk_' AND relkind = 'r' AND obj_description(oid, 'pg_class') IS NULL"
    assert sql(functions) == []
    assert sql(tables) == []
