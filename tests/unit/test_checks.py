"""System checks of the setup, of targets and of sources: what they refuse, how they say so, what they let pass."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.contenttypes.fields import GenericRelation
from django.core.management.commands import makemigrations
from django.db import models
from django.db.migrations.autodetector import MigrationAutodetector
from django.db.models import Avg, Count, Exists, F, Max, OuterRef, Q, Sum, Value
from django.db.models.functions import Concat

from tests.unit.check_ids import ids_in_code, ids_in_tests
from tests.unit.declaring import (
    assert_accepted,
    assert_refused,
    author,
    book,
    chapter,
    declare,
    declared,
    keep,
    keep_count,
    only_message,
    tag,
)
from trigger_kit import Denormalize, First, Guard, Level, Rows, Timing
from trigger_kit.checks.rules import check_rules, check_setup
from trigger_kit.resolve.declared import rules_of

pytestmark = pytest.mark.usefixtures("registry")


def test_every_check_has_a_test() -> None:
    assert ids_in_code() - ids_in_tests() == set()


# Declarations and targets -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [{"num_books": Count("books")}, ["num_books"], 3, [Denormalize]])
def test_e001_option_must_be_a_list_of_rules(value: Any) -> None:
    author(meta={"denormalizations": value})
    book()
    assert_refused("E001", "library.Author", "Meta.denormalizations must be a list of Denormalize(…)", "Denormalize(")


def test_e002_field_must_exist() -> None:
    keep_count("num_boks")
    assert_refused("E002", "library.Author:num_boks", "does not have", "Did you mean 'num_books'?")


def test_e002_lists_the_fields_where_none_is_similar() -> None:
    keep_count("zzz")
    assert_refused("E002", "library.Author:zzz", "does not have", "Choose one of: day, document, flag, id")


@pytest.mark.parametrize(
    ("field", "reason"),
    [
        ("friends", "a relation of others to it"),
        ("books", "a relation of others to it"),
        ("doubled", "it is a GeneratedField, which PostgreSQL computes already"),
        ("own", "column names that start with tk_ are trigger_kit's own"),
    ],
)
def test_e003_field_must_be_a_plain_column(field: str, reason: str) -> None:
    author(
        Denormalize(field, Count("books")),
        friends=models.ManyToManyField("self"),
        doubled=models.GeneratedField(
            expression=F("num_books") * 2, output_field=models.IntegerField(), db_persist=True
        ),
        own=models.IntegerField(default=0, db_column="tk_own"),
    )
    book()
    assert_refused("E003", f"library.Author:{field}", reason, "Add a plain field")


def test_e003_primary_key() -> None:
    author(Denormalize("code", Max("books__title")), code=models.CharField(max_length=200, primary_key=True))
    book()
    assert_refused("E003", "library.Author:code", "it is the primary key", "Add a plain field")


def test_e003_composite_key() -> None:
    pk = models.CompositePrimaryKey("shelf", "number")
    declare(
        "Place",
        meta={"denormalizations": [Denormalize("pk", Count("books"))]},
        pk=pk,
        shelf=models.IntegerField(),
        number=models.IntegerField(),
    )
    assert_refused("E003", "library.Place:pk", "it is the primary key", "Add a plain field")


def test_e003_column_must_belong_to_the_model() -> None:
    author()
    rules = [Denormalize("num_books", Count("books"))]
    declare("Poet", (declared("Author"),), {"denormalizations": rules})
    book()
    reason = "its column belongs to library.Author; declare the rule there"
    assert_refused("E003", "library.Poet:num_books", reason, "Add")


def test_e004_one_rule_per_field() -> None:
    author(Denormalize("num_books", Count("books")), Denormalize("num_books", Count("books__pages")))
    book()
    assert_refused("E004", "library.Author:num_books", "is kept by two rules", "Remove one of them")


def test_e015_other_levels() -> None:
    keep_count(level=Level.ROW)
    assert_refused("E015", "library.Author:num_books", "Level.ROW is not supported yet", "Level.STATEMENT")


def test_e016_target_must_not_be_a_proxy() -> None:
    author()
    book()
    rules = [Denormalize("num_books", Count("books"))]
    declare("Poet", (declared("Author"),), {"proxy": True, "denormalizations": rules})
    assert_refused("E016", "library.Poet:num_books", "is a proxy model", "Use library.Author itself.")


def test_e016_target_must_be_managed() -> None:
    author(Denormalize("num_books", Count("books")), meta={"managed": False})
    book()
    assert_refused("E016", "library.Author:num_books", "is unmanaged", "Set managed = True")


# Sources ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("expression", [Count("books"), Count("books__chapters")])
def test_e017_source_must_be_managed(expression: Any) -> None:
    author(Denormalize("num_books", expression))
    book(meta={"managed": False})
    chapter()
    assert_refused("E017", "library.Author:num_books", "The source, library.Book, is unmanaged", "Set managed = True")


@pytest.mark.parametrize("expression", [Count("books"), Count("books__chapters")])
def test_e018_all_tables_must_be_in_one_database(
    settings: Any, monkeypatch: pytest.MonkeyPatch, expression: Any
) -> None:
    class BooksElsewhere:
        def allow_migrate(self, db: str, app_label: str, model_name: str | None = None, **hints: Any) -> bool:
            return (db == "elsewhere") == (model_name == "book")

    settings.DATABASE_ROUTERS = [BooksElsewhere()]
    monkeypatch.setitem(settings.DATABASES, "elsewhere", settings.DATABASES["default"])
    author(Denormalize("num_books", expression))
    book()
    chapter()
    reason = "triggers do not reach across databases"
    assert_refused("E018", "library.Author:num_books", reason, "Keep both models in one")


def test_e021_cycle_of_two_tables() -> None:
    author(
        Denormalize("num_books", Sum("books__pages", default=0)),
        book=models.ForeignKey("Book", models.CASCADE, related_name="authors"),
    )
    book(
        meta={"denormalizations": [Denormalize("pages", Sum("authors__num_books"))]},
        pages=models.IntegerField(null=True, editable=False),
    )
    assert_refused("E021", "library.Author:num_books", "its value depends on itself", "Break the cycle")
    assert "library.Author:num_books <- library.Book:pages <- library.Author:num_books" in only_message().msg


def test_e021_cycle_of_a_count_and_a_copy() -> None:
    author(Denormalize("num_books", Count("books", filter=Q(books__shown=True))))
    shown = models.BooleanField(null=True, editable=False)
    book(meta={"denormalizations": [Denormalize("shown", Q(author__num_books__gt=3))]}, shown=shown)
    assert_refused("E021", "library.", "its value depends on itself", "Break the cycle")


@pytest.mark.parametrize(
    "expression",
    [F("num_books") + 1, Sum("children__children__num_books", default=0), Count("books") + F("num_books")],
)
def test_e021_cycle_within_a_row_or_over_two_hops(expression: Any) -> None:
    author(
        Denormalize("num_books", expression),
        parent=models.ForeignKey("Author", models.CASCADE, null=True, related_name="children"),
    )
    book()
    reason = "library.Author:num_books <- library.Author:num_books"
    assert_refused("E021", "library.Author:num_books", reason, "Break the cycle")


def uncorrelated() -> Any:
    return Exists(Rows("library.Book").filter(published=True))


def correlated_by_order() -> Any:
    return Exists(Rows("library.Book").filter(author__gt=OuterRef("pk")))


def correlated_by_one_of_two() -> Any:
    return Exists(Rows("library.Book").filter(Q(author=OuterRef("pk")) | Q(published=True)))


def joined_without_reason() -> Any:
    inner = Exists(Rows("library.Chapter").filter(book__published=True))
    return Exists(Rows("library.Book").filter(inner, author=OuterRef("pk")))


@pytest.mark.parametrize(
    "expression", [uncorrelated(), correlated_by_order(), correlated_by_one_of_two(), joined_without_reason()]
)
def test_e024_subqueries_must_say_whose_rows_they_read(expression: Any) -> None:
    keep("flag", expression)
    chapter()
    reason = "without saying which of its rows belong to which target"
    assert_refused("E024", "library.Author:flag", reason, "Correlate it by equality: filter(author=OuterRef('pk')).")


@pytest.mark.parametrize("on_delete", [models.CASCADE, models.PROTECT, models.SET_DEFAULT, models.RESTRICT])
def test_e029_a_kept_foreign_key_must_not_delete_its_own_row(on_delete: Any) -> None:
    newest = models.ForeignKey("Book", on_delete, null=True, default=None, related_name="+", editable=False)
    author(Denormalize("newest", First("books", order_by="-books__published_at")), newest=newest)
    book()
    reason = f"is a foreign key with on_delete={on_delete.__name__}"
    assert_refused("E029", "library.Author:newest", reason, "Use on_delete=models.SET_NULL")


def test_e029_a_guard_must_let_django_set_null() -> None:
    newest = models.ForeignKey("Book", models.SET_NULL, null=True, related_name="+", editable=False)
    rule = Denormalize("newest", First("books", order_by="-books__published_at"), guard=Guard.RAISE)
    author(rule, newest=newest)
    book()
    assert_refused("E029", "library.Author:newest", "refuses every UPDATE", "Leave out guard=Guard.RAISE")


@pytest.mark.parametrize(
    ("on_delete", "guard"),
    [(models.SET_NULL, Guard.KEEP), (models.DO_NOTHING, Guard.KEEP), (models.DO_NOTHING, Guard.RAISE)],
)
def test_accepted_kept_foreign_key(on_delete: Any, guard: Guard) -> None:
    newest = models.ForeignKey("Book", on_delete, null=True, related_name="+", editable=False)
    author(Denormalize("newest", First("books", order_by="-books__published_at"), guard=guard), newest=newest)
    book()
    assert_accepted()


# Timings ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("timing", [Timing.DEFERRED, Timing.QUEUED])
def test_e030_a_copy_cannot_wait(timing: Timing) -> None:
    author()
    rule = Denormalize("author_label", F("author__label"), timing=timing)
    book(meta={"denormalizations": [rule]}, author_label=models.TextField(editable=False))
    assert_refused("E030", "library.Book:author_label", f"cannot be {timing.name}: it is a copy", "Leave out timing=")


@pytest.mark.parametrize("timing", [Timing.DEFERRED, Timing.QUEUED])
def test_e030_a_rollup_cannot_wait(timing: Timing) -> None:
    declare(
        "Node",
        parent=models.ForeignKey("self", models.CASCADE, null=True, related_name="children"),
        own=models.IntegerField(),
        total=models.BigIntegerField(default=0, editable=False),
        meta={
            "denormalizations": [
                Denormalize("total", F("own") + Sum("children__total", default=0), timing=timing),
            ]
        },
    )
    assert_refused("E030", "library.Node:total", "it is a tree rollup", "Leave out timing=")


@pytest.mark.parametrize(
    ("field", "expression"),
    [
        ("num_books", Count("books__title", distinct=True)),
        ("total", Avg("books__price")),
        ("moment", Max("books__published_at")),
    ],
)
def test_e031_a_queue_holds_differences(field: str, expression: Any) -> None:
    keep(field, expression, timing=Timing.QUEUED)
    assert_refused("E031", f"library.Author:{field}", "no signed difference keeps its value", "Use Timing.DEFERRED")


def test_e031_a_queued_sum_needs_a_default() -> None:
    keep("total", Sum("books__price"), timing=Timing.QUEUED)
    assert_refused("E031", "library.Author:total", "its value is NULL over no rows", "Sum(…, default=0)")


def test_e032_rules_do_not_read_a_queue() -> None:
    publisher = models.ForeignKey("Publisher", models.CASCADE, related_name="authors")
    declare(
        "Publisher",
        num_books=models.BigIntegerField(default=0, editable=False),
        meta={"denormalizations": [Denormalize("num_books", Sum("authors__num_books", default=0))]},
    )
    author(Denormalize("num_books", Count("books"), timing=Timing.QUEUED), publisher=publisher)
    book()
    reason = "reads library.Author:num_books, which is QUEUED"
    assert_refused("E032", "library.Publisher:num_books", reason, "be IMMEDIATE or DEFERRED")


def test_e033_a_copy_beside_a_deferred_delta() -> None:
    author(Denormalize("num_books", Count("books"), timing=Timing.DEFERRED))
    rule = Denormalize("author_label", F("author__label"))
    book(meta={"denormalizations": [rule]}, author_label=models.TextField(editable=False))
    reason = "library.Book:author_label makes every change of library_book lock library_author"
    assert_refused("E033", "library.Author:num_books", reason, "Use Timing.QUEUED or IMMEDIATE")


def test_accepted_copy_beside_a_queued_delta() -> None:
    author(Denormalize("num_books", Count("books"), timing=Timing.QUEUED))
    rule = Denormalize("author_label", F("author__label"))
    book(meta={"denormalizations": [rule]}, author_label=models.TextField(editable=False))
    assert_accepted()


@pytest.mark.parametrize(
    ("field", "expression"),
    [
        ("num_books", Count("books")),
        ("num_books", Count("books__title", distinct=True)),
        ("moment", Max("books__published_at")),
    ],
)
def test_accepted_deferred(field: str, expression: Any) -> None:
    keep(field, expression, timing=Timing.DEFERRED)
    assert_accepted()


# Setup and advice ---------------------------------------------------------------------------------------------------


def test_e022_a_database_must_be_postgresql(monkeypatch: pytest.MonkeyPatch) -> None:
    keep_count()
    monkeypatch.setattr("trigger_kit.checks.rules.connections", {"default": SimpleNamespace(vendor="sqlite")})
    (message,) = check_setup(None)
    assert message.id == "trigger_kit.E022"
    assert "no database of this project is PostgreSQL" in message.msg
    assert "Use django.db.backends.postgresql" in str(message.hint)


def test_w001_autodetector_must_know_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    keep_count()
    monkeypatch.setattr(makemigrations.Command, "autodetector", MigrationAutodetector)
    (message,) = check_setup(None)
    assert message.id == "trigger_kit.W001"
    assert "makemigrations and migrate do not see rules" in message.msg
    assert "Put 'trigger_kit' after that app" in str(message.hint)


def test_w002_field_should_not_be_editable() -> None:
    author(Denormalize("num_books", Count("books")), num_books=models.IntegerField(default=0))
    book()
    assert_refused("W002", "library.Author:num_books", "is editable", "Set editable=False on num_books.")


def without_index(**options: Any) -> Any:
    return models.ForeignKey("Author", models.CASCADE, related_name="books", db_index=False, **options)


@pytest.mark.parametrize("expression", [Count("books"), Count("books__chapters")])
def test_w003_foreign_key_should_have_an_index(expression: Any) -> None:
    author(Denormalize("num_books", expression))
    book(author=without_index())
    chapter()
    reason, hint = "library_book.author_id has no index", "Set db_index=True on library.Book.author."
    assert_refused("W003", "library.Author:num_books", reason, hint)


def test_a_copy_needs_no_index() -> None:
    author()
    rules = [Denormalize("title", F("author__label"))]
    book(meta={"denormalizations": rules}, author=without_index(), title=models.TextField(editable=False))
    assert_accepted()


@pytest.mark.parametrize(
    "options",
    [
        {"indexes": [models.Index(fields=["author", "pages"], name="by_author")]},
        {"indexes": [models.Index(fields=["-author"], name="by_author")]},
        {"constraints": [models.UniqueConstraint(fields=["author", "title"], name="one_title")]},
        {"unique_together": [("author", "title")]},
    ],
)
def test_an_index_that_starts_with_the_foreign_key_will_do(options: dict[str, Any]) -> None:
    author(Denormalize("num_books", Count("books")))
    book(meta=options, author=without_index())
    assert_accepted()


@pytest.mark.parametrize(
    "options",
    [
        {"indexes": [models.Index(fields=["pages", "author"], name="by_pages")]},
        {"indexes": [models.Index(fields=["author"], condition=Q(published=True), name="some")]},
    ],
)
def test_w003_an_index_that_cannot_find_every_row_will_not_do(options: dict[str, Any]) -> None:
    author(Denormalize("num_books", Count("books")))
    book(meta=options, author=without_index())
    assert only_message().id == "trigger_kit.W003"


@pytest.mark.parametrize(
    "expression", [Count("books") + Count("friends"), Count("books", filter=Q(friends__flag=True))]
)
def test_w004_two_to_many_joins_multiply(expression: Any) -> None:
    author(Denormalize("num_books", expression), friends=models.ManyToManyField("self"))
    book()
    assert_refused("W004", "library.Author:num_books", "joins two to-many relations", "Use distinct=True")


@pytest.mark.parametrize("expression", [Count("books__chapters"), Count("friends__friends"), Count("books__author")])
def test_joins_that_follow_each_other_do_not_multiply(expression: Any) -> None:
    author(Denormalize("num_books", expression), friends=models.ManyToManyField("self"))
    book()
    chapter()
    assert_accepted()


def test_w005_an_average_reads_all_its_rows() -> None:
    keep("total", Avg("books__pages"))
    reason = "is computed from all its rows on every change"
    assert_refused("W005", "library.Author:total", reason, "Keep a Sum and a Count over the same rows")
    assert only_message().level < 30


def test_an_average_beside_its_sum_and_count_costs_nothing() -> None:
    author(
        Denormalize("total", Avg("books__pages")),
        Denormalize("num_books", Count("books__pages")),
        Denormalize("pages", Sum("books__pages")),
        pages=models.IntegerField(null=True, editable=False),
    )
    book()
    assert_accepted()


# Relations that are kept --------------------------------------------------------------------------------------------


def test_accepted_nullable_foreign_key() -> None:
    author(Denormalize("num_books", Count("books")))
    book(author=models.ForeignKey("Author", models.SET_NULL, related_name="books", null=True))
    assert_accepted()


def test_accepted_to_field() -> None:
    author(Denormalize("num_books", Count("books")), code=models.CharField(max_length=4, unique=True))
    book(author=models.ForeignKey("Author", models.CASCADE, related_name="books", to_field="code"))
    assert_accepted()


def test_accepted_one_to_one_without_a_name() -> None:
    author(Denormalize("num_books", Count("book")), Denormalize("total", Sum("book__price")))
    book(author=models.OneToOneField("Author", models.CASCADE))
    assert_accepted()


def test_accepted_self_reference_and_tree() -> None:
    author(
        Denormalize("num_books", Count("children")),
        Denormalize("total", F("own") + Sum("children__total", default=0)),
        Denormalize("text", Concat("parent__text", Value("/"), "label", output_field=models.TextField())),
        own=models.IntegerField(default=1),
        parent=models.ForeignKey("Author", models.CASCADE, null=True, related_name="children"),
    )
    assert_accepted()


@pytest.mark.parametrize(
    "expression", [Count("friends"), Sum("friends__own", default=0), Count("tags"), Count("friends__books__chapters")]
)
def test_accepted_many_to_many_generic_and_several_hops(expression: Any) -> None:
    author(
        Denormalize("num_books", expression),
        own=models.IntegerField(default=1),
        friends=models.ManyToManyField("self"),
        tags=GenericRelation("Tag"),
    )
    book()
    chapter()
    tag()
    assert_accepted()


def test_accepted_proxy_as_related_model() -> None:
    author(Denormalize("num_books", Count("novels")))
    book(author=models.ForeignKey("Author", models.CASCADE, related_name="+"))
    declare("Novel", (declared("Book"),), {"proxy": True})
    declare(
        "Prize",
        novel=models.ForeignKey("Novel", models.CASCADE, related_name="prizes"),
        author=models.ForeignKey("Author", models.CASCADE, related_name="novels"),
    )
    assert_accepted()


def test_accepted_multi_table_inheritance() -> None:
    author(Denormalize("num_books", Count("novels", filter=Q(novels__title="a", novels__genre="b"))))
    book(author=models.ForeignKey("Author", models.CASCADE, related_name="+"))
    declare(
        "Novel",
        (declared("Book"),),
        {"denormalizations": [Denormalize("shown", F("title"))]},
        writer=models.ForeignKey("Author", models.CASCADE, related_name="novels"),
        genre=models.TextField(),
        shown=models.TextField(editable=False),
    )
    assert_accepted()


def test_accepted_composite_key() -> None:
    pk = models.CompositePrimaryKey("author_id", "number")
    author(Denormalize("num_books", Count("places")), Denormalize("total", Sum("places__number")))
    declare(
        "Place",
        meta={"denormalizations": [Denormalize("shown", F("author__label"))]},
        pk=pk,
        author=models.ForeignKey("Author", models.CASCADE, related_name="places"),
        number=models.IntegerField(),
        shown=models.TextField(editable=False),
    )
    assert_accepted()


def test_accepted_rule_over_a_rule() -> None:
    author(Denormalize("num_books", Sum("books__num_chapters", default=0)), Denormalize("total", F("num_books") * 2))
    book(
        meta={"denormalizations": [Denormalize("num_chapters", Count("chapters"))]},
        num_chapters=models.IntegerField(default=0, editable=False),
    )
    chapter()
    assert_accepted()


def test_accepted_rules_of_an_abstract_model() -> None:
    abstract = declare(
        "Counted",
        meta={"abstract": True, "denormalizations": [Denormalize("num_books", Count("books"))]},
        num_books=models.IntegerField(default=0, editable=False),
    )
    meta = type("Meta", (abstract.Meta,), {"app_label": "library"})
    type("Author", (abstract,), {"__module__": __name__, "Meta": meta})
    book()
    assert_accepted()


def test_a_child_without_meta_leaves_the_rules_of_an_abstract_model_to_its_parent() -> None:
    """Its ``_meta`` holds them too, by Python's inheritance; the column is the parent's."""
    abstract = declare(
        "Counted",
        meta={"abstract": True, "denormalizations": [Denormalize("num_books", Count("books"))]},
        num_books=models.IntegerField(default=0, editable=False),
    )
    parent = type("Author", (abstract,), {"__module__": __name__})
    child = type("Poet", (parent,), {"__module__": __name__, "metre": models.TextField(default="")})
    book()
    assert_accepted()
    assert [rules_of(model) for model in (parent, child)] == [abstract._meta.denormalizations, []]


@pytest.mark.parametrize("guard", Guard)
def test_accepted_guards(guard: Guard) -> None:
    keep_count(guard=guard)
    assert_accepted()


# The messages as a whole --------------------------------------------------------------------------------------------


def test_setup_without_rules_needs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    author()
    monkeypatch.setattr("trigger_kit.checks.rules.connections", {"default": SimpleNamespace(vendor="sqlite")})
    assert check_setup(None) == []


def test_setup_of_this_suite_is_right() -> None:
    keep_count()
    assert check_setup(None) == []


def test_checks_of_other_apps_are_left_out() -> None:
    keep_count("num_boks")
    assert check_rules([]) == []


def test_all_problems_are_reported_at_once() -> None:
    author(Denormalize("num_boks", Count("books")), Denormalize("day", Max("books__price")))
    book()
    assert [message.id for message in check_rules(None)] == ["trigger_kit.E002", "trigger_kit.E013"]


def test_messages_point_at_the_model() -> None:
    keep_count("num_boks")
    assert only_message().obj is declared("Author")
