"""Checks of a database: whose rights triggers run with, and who could use them for himself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.library.models import Author
from trigger_kit.checks.rights import check_rights

Sql = Callable[..., list[tuple[Any, ...]]]
pytestmark = pytest.mark.usefixtures("db")


def found(sql: Sql) -> dict[str, tuple[str, str]]:
    return {str(m.id).rpartition(".")[2]: (m.msg, str(m.hint)) for m in check_rights(None, ["default"])}


def test_nothing_is_said_where_nobody_else_is(sql: Sql) -> None:
    assert found(sql) == {}
    assert check_rights(None, None) == []


def test_w017_a_superuser_owns_targets_where_others_may_connect(sql: Sql) -> None:
    sql("CREATE ROLE plain LOGIN")
    message, hint = found(sql)["W017"]
    assert "belong to a superuser (postgres)" in message
    assert "ALTER TABLE … OWNER TO" in hint
    sql("DROP ROLE plain")
    assert found(sql) == {}


def test_w018_others_may_put_triggers_on_a_target(sql: Sql) -> None:
    sql("CREATE ROLE eve; GRANT TRIGGER ON library_author TO eve, PUBLIC; GRANT TRIGGER ON library_book TO eve")
    message, hint = found(sql)["W018"]
    assert "library.Author:num_books" in message
    assert "PUBLIC, eve may put triggers on library_author" in message
    sql(hint)
    assert found(sql) == {}


def test_w019_others_may_create_where_functions_look_for_operators(sql: Sql) -> None:
    sql("CREATE ROLE eve; GRANT CREATE ON SCHEMA public TO eve")
    message, hint = found(sql)["W019"]
    assert "eve may CREATE in the schema public" in message
    sql(hint)
    assert found(sql) == {}
    sql("CREATE SCHEMA more; GRANT CREATE ON SCHEMA more TO eve; SET LOCAL search_path = public, more")
    message, hint = found(sql)["W019"]
    assert "do not look into the schema more" in message
    assert hint.startswith("REVOKE CREATE ON SCHEMA more FROM eve;")


def test_w020_row_level_security_that_holds_for_the_owner(sql: Sql) -> None:
    sql("CREATE ROLE app; ALTER TABLE library_book OWNER TO app; ALTER TABLE library_book ENABLE ROW LEVEL SECURITY")
    assert found(sql) == {}
    sql("ALTER TABLE library_book FORCE ROW LEVEL SECURITY")
    message, hint = found(sql)["W020"]
    assert "library_book" in message
    assert "NO FORCE ROW LEVEL SECURITY" in hint
    sql(hint.partition(" or ")[0])
    assert found(sql) == {}
    assert Author.objects.count() == 0
