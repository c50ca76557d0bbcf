"""CompiledTrigger, and its way into a migration and back."""

from __future__ import annotations

from typing import Any

import pytest
from django.db.migrations.writer import OperationWriter
from django.db.models import Count, Q

from tests.library.models import Author
from trigger_kit import Denormalize, Guard
from trigger_kit.migration.operations import AddRule
from trigger_kit.plan.plan import plan
from trigger_kit.sql import CompiledTrigger, Sql, comment_digest, compile_plan
from trigger_kit.sql.text import with_tag

RULE = Denormalize("num_books", Count("books", filter=Q(books__lang="en") | ~Q(books__pages=1)), guard=Guard.RAISE)


def make_trigger(text: str = "SELECT 1;", **changes: Any) -> CompiledTrigger:
    """Return a trigger on ``library_book`` that serves ``library_author``."""
    kwargs: dict[str, Any] = {"name": "tk_x", "on": "library_book", "owner": "library_author", "sql": Sql(text)}
    return CompiledTrigger(**{**kwargs, **changes})


def write(operation: AddRule, indentation: int = 2) -> tuple[str, set[str]]:
    """Write an operation as a migration file does."""
    return OperationWriter(operation, indentation=indentation).serialize()


def round_trip(operation: AddRule) -> AddRule:
    """Write an operation and read it back."""
    source, imports = write(operation)
    scope: dict[str, Any] = {}
    exec("\n".join(sorted(imports)), scope)
    exec(f"operations = [\n{source}\n]", scope)
    read: AddRule = scope["operations"][0]
    return read


def test_equal_triggers_are_equal_and_hash_alike() -> None:
    assert make_trigger() == make_trigger()
    assert hash(make_trigger()) == hash(make_trigger())


@pytest.mark.parametrize(
    "changes", [{"name": "tk_y"}, {"on": "library_page"}, {"owner": "library_person"}, {"sql": Sql("SELECT 2;")}]
)
def test_every_part_counts_for_equality(changes: dict[str, Any]) -> None:
    assert make_trigger(**changes) != make_trigger()


def test_other_types_are_not_equal() -> None:
    assert make_trigger() != "tk_x"
    assert Sql("a") != "a"


def test_deconstruct_rebuilds_the_trigger() -> None:
    path, args, kwargs = make_trigger().deconstruct()
    assert path == "trigger_kit.sql.CompiledTrigger"
    assert CompiledTrigger(*args, **kwargs) == make_trigger()


def test_repr_names_the_trigger_and_its_table() -> None:
    assert repr(make_trigger()) == "<CompiledTrigger tk_x on library_book>"


def test_sql_drops_common_indentation() -> None:
    assert str(Sql("\n    SELECT\n        1;\n    ")) == "SELECT\n    1;"


def test_comment_carries_the_digest() -> None:
    trigger = make_trigger()
    assert comment_digest(trigger.comment) == trigger.hash


@pytest.mark.parametrize("comment", [None, "", "somebody else's", "trigger_kit v1 abc"])
def test_other_comments_have_no_digest(comment: str | None) -> None:
    assert comment_digest(comment) is None


def test_digest_follows_the_text() -> None:
    assert make_trigger("SELECT 1;").hash != make_trigger("SELECT 2;").hash


def placed(placeholder: str) -> str:
    """Put the owner's table and its functions into one schema, other tables into another."""
    known = {":schema": "<a>", ":schema_tag": "123abc", "library_author": "<a>.<library_author>"}
    return known.get(placeholder, f"<b>.<{placeholder}>")


def test_install_fills_placeholders_and_comments_the_trigger() -> None:
    trigger = make_trigger('CREATE TRIGGER "tk_x" ON {library_author} \'{{}}\' {:schema}."tk_x"', on="library_author")
    installed = trigger.render_install(placed)
    assert installed.startswith('CREATE TRIGGER "tk_x" ON <a>.<library_author> \'{}\' <a>."tk_x"')
    assert f"COMMENT ON TRIGGER \"tk_x\" ON <a>.<library_author>\n    IS '{trigger.comment}';" in installed


def test_uninstall_drops_trigger_and_function() -> None:
    assert make_trigger(on="library_author").render_uninstall(placed) == (
        'DROP TRIGGER IF EXISTS "tk_x" ON <a>.<library_author>;\nDROP FUNCTION IF EXISTS <a>."tk_x"();'
    )


def test_a_trigger_on_a_table_of_another_schema_tells_whose_it_is() -> None:
    trigger = make_trigger('DROP TRIGGER IF EXISTS "tk_x" ON {library_book}; CREATE TRIGGER "tk_x" {:schema}."tk_x"')
    assert trigger.render_install(placed) == (
        'DROP TRIGGER IF EXISTS "tk_x_123abc" ON <b>.<library_book>; CREATE TRIGGER "tk_x_123abc" <a>."tk_x"\n\n'
        f"COMMENT ON TRIGGER \"tk_x_123abc\" ON <b>.<library_book>\n    IS '{trigger.comment}';"
    )
    assert trigger.render_uninstall(placed) == (
        'DROP TRIGGER IF EXISTS "tk_x_123abc" ON <b>.<library_book>;\nDROP FUNCTION IF EXISTS <a>."tk_x"();'
    )


def test_names_with_a_tag_fit_and_keep_what_tells_them_apart() -> None:
    names = {f"tk_{'x' * 50}_{digest}" for digest in ("abcdef", "abcdeg")}
    tagged = {with_tag(name, "123abc") for name in names}
    assert len(tagged) == 2
    assert {len(name) for name in tagged} == {63}
    assert with_tag("tk_x", "123abc") == "tk_x_123abc"


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1;",
        "SELECT\n    'a',\n\n    \"b\"\nFROM x;",
        'SELECT \'"""\';\nSELECT "x";',
        "SELECT E'\\\\' || E'\\u000a \\N{x}';\nSELECT 2;",
        "SELECT 1 \\",
        'SELECT "',
        "SELECT '",
        "SELECT '\x0b';\nSELECT '\x0c\x1c\x1d\x1e\x85\u2028\u2029';",
        "SELECT '\r';\nSELECT 2;",
        "SELECT $a$ $trigger_kit$ $a$;",
        "  SELECT 1;\nSELECT 2;  \n\n\n\tSELECT 3;",
        "SELECT 'ü 漢字 🙂 {{}} {x} %s %%';",
        "",
    ],
)
def test_written_text_reads_back_equal(text: str) -> None:
    operation = AddRule("author", RULE, [make_trigger(text), make_trigger("SELECT 2;", name="tk_y")], removed=["tk_z"])
    read = round_trip(operation)
    assert read.triggers == operation.triggers
    assert read.deconstruct() == operation.deconstruct()


@pytest.mark.parametrize("text", ["SELECT '\r\n';\nSELECT 2;", "SELECT 1;\x0b", "SELECT 1;\n-- \x85"])
def test_written_text_with_an_odd_line_end_reads_back_equal(text: str) -> None:
    operation = AddRule("author", RULE, [make_trigger(text)])
    assert round_trip(operation).triggers == operation.triggers


def test_compiled_rules_read_back_equal() -> None:
    rules = Author._meta.denormalizations  # type: ignore[attr-defined]
    operation = AddRule("author", rules[-1], compile_plan(plan(Author, rules)))
    assert round_trip(operation).deconstruct() == operation.deconstruct()


def test_written_text_is_an_indented_block() -> None:
    source, imports = write(AddRule("author", RULE, [make_trigger("SELECT\n    1\nFROM x;")]))
    block = "                SELECT\n                    1\n                FROM x;\n"
    assert f'trigger_kit.sql.Sql("""\n{block}' in source
    assert "import trigger_kit.sql" in imports


def test_backslashes_are_written_as_they_are() -> None:
    source, _ = write(AddRule("author", RULE, [make_trigger("SELECT E'\\\\'\nFROM x;")]))
    assert 'Sql(r"""\n' in source
    assert "SELECT E'\\\\'\n" in source


def test_compiled_rules_are_written_as_blocks() -> None:
    rules = Author._meta.denormalizations  # type: ignore[attr-defined]
    source, _ = write(AddRule("author", rules[-1], compile_plan(plan(Author, rules))))
    assert "\\n" not in source
    assert max(map(len, source.splitlines())) < 400


def test_dollar_quotes_avoid_the_text_of_a_rule() -> None:
    rule = Denormalize("num_books", Count("books", filter=Q(books__title="$trigger_kit$ $trigger_kit_$")))
    for trigger in compile_plan(plan(Author, [rule])):
        assert trigger.text.count("\nAS $trigger_kit__$\n") == 1
        assert trigger.text.count("\n$trigger_kit__$;\n") == 1
