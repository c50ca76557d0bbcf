"""CompiledTrigger and its COMMENT, and the rule's way into a migration and back."""

from __future__ import annotations

from typing import Any

import pytest
from django.conf import settings
from django.db.migrations.operations.base import Operation
from django.db.migrations.writer import OperationWriter
from django.db.models import Case, Count, Q, Sum, When
from django.db.models.functions import Coalesce

from tests.library.models import Author
from trigger_kit import Denormalize, First, Guard, Timing
from trigger_kit.migration.operations import AddRule, AlterRule, BackfillRule, CrossedRelation, RemoveRule
from trigger_kit.plan.plan import plan
from trigger_kit.sql.compilation import compile_plan
from trigger_kit.sql.text import with_tag
from trigger_kit.sql.trigger import GUARD, TEMPLATE_VERSION, Comment, CompiledTrigger

RULE = Denormalize("num_books", Count("books", filter=Q(books__lang="en") | ~Q(books__pages=1)), guard=Guard.RAISE)


def make_trigger(text: str = "SELECT 1;", **changes: Any) -> CompiledTrigger:
    """Return a trigger on ``library_book`` that serves ``library_author``."""
    kwargs: dict[str, Any] = {"name": "tk_x", "on": "library_book", "owner": "library_author", "text": text}
    return CompiledTrigger(**{**kwargs, **changes})


# Triggers -----------------------------------------------------------------------------------------------------------


def test_equal_triggers_are_equal_and_hash_alike() -> None:
    assert make_trigger() == make_trigger()
    assert hash(make_trigger()) == hash(make_trigger())


@pytest.mark.parametrize(
    "changes", [{"name": "tk_y"}, {"on": "library_page"}, {"owner": "library_person"}, {"text": "SELECT 2;"}]
)
def test_every_part_counts_for_equality(changes: dict[str, Any]) -> None:
    assert make_trigger(**changes) != make_trigger()


def test_repr_names_the_trigger_and_its_table() -> None:
    assert repr(make_trigger()) == "<CompiledTrigger tk_x on library_book>"


def test_digest_follows_the_text() -> None:
    assert make_trigger("SELECT 1;").digest != make_trigger("SELECT 2;").digest


def placed(placeholder: str) -> str:
    """Put the owner's table and its functions into one schema, other tables into another."""
    known = {":schema": "<a>", ":schema_tag": "123abc", "library_author": "<a>.<library_author>"}
    return known.get(placeholder, f"<b>.<{placeholder}>")


def test_install_fills_placeholders_and_comments_the_trigger() -> None:
    trigger = make_trigger('CREATE TRIGGER "tk_x" ON {library_author} \'{{}}\' {:schema}."tk_x"', on="library_author")
    assert trigger.render_install(placed) == (
        'CREATE TRIGGER "tk_x" ON <a>.<library_author> \'{}\' <a>."tk_x"\n\n'
        f"COMMENT ON TRIGGER \"tk_x\" ON <a>.<library_author>\n    IS '{trigger.comment().write()}';"
    )


def test_a_trigger_on_a_table_of_another_schema_tells_whose_it_is() -> None:
    trigger = make_trigger("CREATE TRIGGER {:trigger} ON {library_book} EXECUTE {:schema}.tk_x")
    assert trigger.render_install(placed) == (
        'CREATE TRIGGER "tk_x_123abc" ON <b>.<library_book> EXECUTE <a>.tk_x\n\n'
        f"COMMENT ON TRIGGER \"tk_x_123abc\" ON <b>.<library_book>\n    IS '{trigger.comment().write()}';"
    )


def test_names_with_a_tag_fit_and_keep_what_tells_them_apart() -> None:
    names = {f"tk_{'x' * 50}_{digest}" for digest in ("abcdef", "abcdeg")}
    tagged = {with_tag(name, "123abc") for name in names}
    assert len(tagged) == 2
    assert {len(name) for name in tagged} == {63}
    assert with_tag("tk_x", "123abc") == "tk_x_123abc"


def test_dollar_quotes_avoid_the_text_of_a_rule() -> None:
    rule = Denormalize("num_books", Count("books", filter=Q(books__title="$trigger_kit$ $trigger_kit_$")))
    for trigger in compile_plan(plan(Author, [rule])):
        functions = trigger.text.split("CREATE OR REPLACE FUNCTION")[1:]
        for function in (text for text in functions if "$trigger_kit$ $trigger_kit_$" in text):
            assert function.count("\nAS $trigger_kit__$\n") == 1
            assert function.count("\n$trigger_kit__$;\n") == 1


def test_the_order_of_rules_is_no_part_of_the_text() -> None:
    rules = Author._meta.denormalizations  # type: ignore[attr-defined]
    assert compile_plan(plan(Author, rules)) == compile_plan(plan(Author, rules[::-1]))


def test_the_order_of_keyword_arguments_is_no_part_of_the_text() -> None:
    one, other = (
        compile_plan(plan(Author, [Denormalize("num_books", expression)]))
        for expression in (
            Case(
                When(Q(name="a"), then=1),
                default=Coalesce(Sum("books__pages", filter=Q(books__title="en"), default=0), 0),
            ),
            Case(
                When(Q(name="a"), then=1),
                default=Coalesce(Sum("books__pages", default=0, filter=Q(books__title="en")), 0),
            ),
        )
    )
    assert one == other


# The COMMENT --------------------------------------------------------------------------------------------------------


def test_a_comment_says_whose_a_trigger_is_and_of_what_it_was_made() -> None:
    trigger = make_trigger()
    read = Comment.read(trigger.comment({"num_books": "abc"}).write())
    assert read == Comment(TEMPLATE_VERSION, "library_author", trigger.digest)


def test_the_guard_says_what_the_rows_were_filled_with() -> None:
    trigger = make_trigger(role=GUARD)
    read = Comment.read(trigger.comment({"num_books": "abc", "ünïcode": ""}).write())
    assert read == Comment(
        TEMPLATE_VERSION, "library_author", trigger.digest, GUARD, {"num_books": "abc", "ünïcode": ""}
    )


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "somebody else's",
        "trigger_kit of somebody else",
        "trigger_kit []",
        "trigger_kit 1",
        'trigger_kit {"version": 1}',
        'trigger_kit {"version": 1, "target": "x"',
    ],
)
def test_other_comments_say_nothing(text: str | None) -> None:
    assert Comment.read(text) is None


def test_what_a_newer_version_says_besides_is_passed_over() -> None:
    text = 'trigger_kit {"version": 9, "target": "x", "text": "abc", "novelty": {"a": 1}}'
    assert Comment.read(text) == Comment(9, "x", "abc")


@pytest.mark.parametrize("table", ["library_author", "it's", 'a "b" \\ c', "größe"])
def test_a_comment_survives_odd_names(table: str) -> None:
    read = Comment.read(Comment(1, table, "abc").write())
    assert read is not None
    assert read.target == table


# Migrations ---------------------------------------------------------------------------------------------------------

TAGGED = CrossedRelation("library.Author", "tags", "library.Tag", object_id_field="object_key", related_query_name="w")


def round_trip(operation: Operation) -> Any:
    """Write an operation as a migration file does, and read it back."""
    source, imports = OperationWriter(operation, indentation=2).serialize()
    scope: dict[str, Any] = {}
    exec("\n".join(sorted(imports)), scope)
    exec(f"operations = [\n{source}\n]", scope)
    return scope["operations"][0]


def as_written(operation: Operation) -> tuple[str, set[str]]:
    source, imports = OperationWriter(operation, indentation=0).serialize()
    return source, imports


OPERATIONS: list[Operation] = [
    AddRule("author", RULE),
    AddRule("author", RULE, relations=[TAGGED], time_zone=settings.TIME_ZONE, fill=False),
    AddRule("author", Denormalize("pages_total", Sum("books__pages", default=0), timing=Timing.QUEUED)),
    AddRule("author", Denormalize("newest", First("books__title", order_by=["-books__pages", "-books__id"]))),
    AddRule("author", Denormalize("num_books", Count("books", filter=Q(books__title="'\"\\\r\n\u2028 {x} %s 漢字")))),
    AlterRule("author", RULE, fill=False),
    RemoveRule("author", "num_books"),
    BackfillRule("author", ["num_books"]),
    BackfillRule("author", ["num_books", "pages_total"], batched=True, elidable=True),
]


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.describe())
def test_a_written_operation_reads_back_equal(operation: Operation) -> None:
    read = round_trip(operation)
    assert type(read) is type(operation)
    assert as_written(read) == as_written(operation)
    if isinstance(operation, AddRule):
        assert read.rule == operation.rule
        assert (read.relations, read.time_zone, read.fill) == (
            operation.relations,
            operation.time_zone,
            operation.fill,
        )


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.describe())
def test_formatters_find_nothing_to_trim(operation: Operation) -> None:
    source, _ = as_written(operation)
    assert [line for line in source.splitlines() if line != line.rstrip()] == []
    assert source.isprintable() or "\n" in source


def test_an_operation_holds_the_rule_and_nothing_else() -> None:
    source, imports = as_written(AddRule("author", Denormalize("num_books", Count("books"))))
    lines = source.splitlines()
    assert lines[:2] == ["trigger_kit.migration.operations.AddRule(", "    model_name='author',"]
    assert lines[2].startswith("    rule=trigger_kit.Denormalize('num_books', ")
    assert lines[3:] == ["),"]
    assert {"import trigger_kit", "import trigger_kit.migration.operations"} <= imports


def test_the_time_zone_is_written_as_the_setting() -> None:
    source, imports = as_written(AddRule("author", RULE, time_zone="Europe/Berlin"))
    assert "    time_zone=settings.TIME_ZONE,\n" in source
    assert "from django.conf import settings" in imports
