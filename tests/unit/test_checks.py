"""Every system check: what it refuses, how it says so, and what it must let pass."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.apps.registry import Apps
from django.contrib.contenttypes.fields import GenericForeignKey, GenericRelation
from django.contrib.contenttypes.models import ContentType
from django.contrib.postgres.lookups import SearchLookup, TrigramSimilar, Unaccent
from django.core.checks import CheckMessage
from django.core.management.commands import makemigrations
from django.db import models
from django.db.migrations.autodetector import MigrationAutodetector
from django.db.models import Avg, Count, F, Max, Min, Q, Sum, Value
from django.db.models.functions import Coalesce, Concat, Lower, Now, Random
from django.test.utils import isolate_apps, register_lookup
from django.utils import timezone

from tests.unit.check_ids import ids_in_code
from trigger_kit import Denormalize, Guard, Level, Timing
from trigger_kit.checks import check_rules, check_setup
from trigger_kit.compiler import compile_plan
from trigger_kit.planner import plan


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[Apps]:
    """An app registry of this test's own, which the checks read in place of the live one."""
    with isolate_apps("tests.library") as apps:
        monkeypatch.setattr("trigger_kit.checks.live_apps", apps)
        yield apps


def declare(
    name: str, bases: tuple[Any, ...] = (models.Model,), meta: dict[str, Any] | None = None, **fields: Any
) -> Any:
    """Declare a model of the app ``library``."""
    options = type("Meta", (), {"app_label": "library", **(meta or {})})
    return type(name, bases, {"__module__": __name__, "Meta": options, **fields})


def author(*rules: Any, meta: dict[str, Any] | None = None, **fields: Any) -> Any:
    """Declare Author with these rules; it has ``num_books`` and ``total`` to keep values in."""
    kept = {
        "num_books": models.IntegerField(default=0, editable=False),
        "total": models.DecimalField(max_digits=20, decimal_places=2, null=True, editable=False),
    }
    return declare("Author", meta={"denormalizations": list(rules), **(meta or {})}, **{**kept, **fields})


def book(meta: dict[str, Any] | None = None, **fields: Any) -> Any:
    """Declare Book, with a foreign key to Author."""
    own: dict[str, Any] = {
        "author": models.ForeignKey("Author", models.CASCADE, related_name="books"),
        "title": models.CharField(max_length=200, default=""),
        "pages": models.IntegerField(null=True),
        "price": models.DecimalField(max_digits=10, decimal_places=2, null=True),
        "weight": models.FloatField(null=True),
        "published": models.BooleanField(default=False),
        "published_at": models.DateTimeField(null=True),
    }
    return declare("Book", meta=meta, **{**own, **fields})


def only_message() -> CheckMessage:
    """Return the one message of the checks; its hint must be a way out, in full sentences."""
    messages = check_rules(None)
    assert len(messages) == 1
    (message,) = messages
    assert message.hint is not None
    assert re.match(r"[A-Z].*[.?]$", message.hint, re.DOTALL)
    return message


def assert_refused(check_id: str, uri: str, reason: str, hint: str) -> None:
    """Assert that the checks give one message, which names the rule, the reason and the way out."""
    message = only_message()
    assert message.id == f"trigger_kit.{check_id}"
    assert uri in message.msg
    assert reason in message.msg
    assert hint in message.hint


def check_counting(field: str = "num_books", **options: Any) -> None:
    """Declare Author and Book with a rule that counts books."""
    author(Denormalize(field, Count("books"), **options))
    book()


def test_every_check_has_a_test_here() -> None:
    names = re.findall(r"^def test_([ew]\d{3})_", Path(__file__).read_text(encoding="utf-8"), re.MULTILINE)
    tested = {name.upper() for name in names}
    assert ids_in_code() - tested == set()


@pytest.mark.parametrize("value", [{"num_books": Count("books")}, ["num_books"], 3, [Denormalize]])
def test_e001_option_must_be_a_list_of_rules(value: Any) -> None:
    author(meta={"denormalizations": value})
    book()
    assert_refused("E001", "library.Author", "Meta.denormalizations must be a list of Denormalize(…)", "Denormalize(")


def test_e002_field_must_exist() -> None:
    check_counting("num_boks")
    assert_refused("E002", "library.Author:num_boks", "does not have", "Did you mean 'num_books'?")


def test_e002_lists_the_fields_where_none_is_similar() -> None:
    check_counting("zzz")
    assert_refused("E002", "library.Author:zzz", "does not have", "Choose one of: id, num_books, total.")


@pytest.mark.parametrize(
    ("field", "reason"),
    [
        ("id", "it is the primary key"),
        ("editor", "it is a relation"),
        ("friends", "it is a relation"),
        ("books", "it is a relation"),
        ("doubled", "it is a GeneratedField, which PostgreSQL computes already"),
        ("own", "column names that start with tk_ are trigger_kit's own"),
    ],
)
def test_e003_field_must_be_a_plain_column(field: str, reason: str) -> None:
    author(
        Denormalize(field, Count("books")),
        editor=models.ForeignKey("Author", models.CASCADE, null=True, related_name="+"),
        friends=models.ManyToManyField("self"),
        doubled=models.GeneratedField(
            expression=F("num_books") * 2, output_field=models.IntegerField(), db_persist=True
        ),
        own=models.IntegerField(default=0, db_column="tk_own"),
    )
    book()
    assert_refused("E003", f"library.Author:{field}", reason, "Add a plain field")


def test_e003_column_must_belong_to_the_model() -> None:
    author()
    declare("Poet", (_model("Author"),), {"denormalizations": [Denormalize("num_books", Count("books"))]})
    book()
    assert_refused(
        "E003", "library.Poet:num_books", "its column belongs to library.Author; declare the rule there", "Add"
    )


def _model(name: str) -> Any:
    from trigger_kit import checks

    return checks.live_apps.get_model("library", name)


def test_e004_one_rule_per_field() -> None:
    author(Denormalize("num_books", Count("books")), Denormalize("num_books", Count("books__pages")))
    book()
    assert_refused("E004", "library.Author:num_books", "is kept by two rules", "Remove one of them")


def test_e005_path_must_resolve() -> None:
    author(Denormalize("num_books", Count("boks")))
    book()
    assert_refused("E005", "library.Author:num_books", 'cannot resolve Count("boks")', "Did you mean 'books'?")


def test_e005_lookup_must_exist() -> None:
    author(Denormalize("num_books", Count("books", filter=Q(books__title__size=3))))
    book()
    assert_refused("E005", "library.Author:num_books", "Unsupported lookup 'size'", "that .annotate() accepts")


@pytest.mark.parametrize("expression", [F("total") + 1, Count("*"), Count("pk"), Value(1)])
def test_e006_expression_must_read_related_rows(expression: Any) -> None:
    author(Denormalize("num_books", expression))
    book()
    assert_refused("E006", "library.Author:num_books", "reads no related row", "GeneratedField")


@pytest.mark.parametrize(
    "expression", [Max("books__pages"), Min("books__pages"), Avg("books__pages"), Count("books") + 1, F("books__pages")]
)
def test_e007_only_count_and_sum(expression: Any) -> None:
    author(Denormalize("num_books", expression))
    book()
    assert_refused("E007", "library.Author:num_books", "only Count and Sum are supported yet", ".annotate()")


def test_e008_distinct() -> None:
    author(Denormalize("num_books", Count("books__title", distinct=True)))
    book()
    assert_refused("E008", "library.Author:num_books", "distinct=True is not supported yet", ".annotate()")


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        (Count("books__chapters"), "its path has more than one hop"),
        (Sum("friends__num_books"), "its path has more than one hop"),
        (Count("tags"), "its relation is many-to-many or generic"),
        (Sum("editor__num_books", default=0), "it follows a foreign key forwards"),
        (Count("books", filter=Q(num_books=1)), "it reads columns of more than one table"),
        (Count("books", filter=Q(books__pages=F("num_books"))), "it reads columns of more than one table"),
        (Coalesce(Sum("books__pages"), "num_books"), "it reads columns of more than one table"),
    ],
)
def test_e009_one_hop_over_a_reverse_foreign_key(expression: Any, reason: str) -> None:
    author(
        Denormalize("total", expression),
        editor=models.ForeignKey("Author", models.CASCADE, null=True, related_name="+"),
        friends=models.ManyToManyField("self"),
        tags=GenericRelation("Tag"),
    )
    book()
    declare("Chapter", book=models.ForeignKey("Book", models.CASCADE, related_name="chapters"))
    declare(
        "Tag",
        content_type=models.ForeignKey(ContentType, models.CASCADE),
        object_id=models.BigIntegerField(),
        content_object=GenericForeignKey(),
    )
    assert_refused("E009", "library.Author:total", reason, "one hop over a reverse foreign key")


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        (Sum(F("books__pages") + 1, default=0), "Sum over an expression is not supported yet"),
        (Count(Lower("books__title")), "Count over an expression is not supported yet"),
        (Sum("books__weight"), "Sum of a FloatField is not supported yet"),
    ],
)
def test_e010_aggregated_column_must_be_exact(expression: Any, reason: str) -> None:
    author(Denormalize("total", expression))
    book()
    assert_refused("E010", "library.Author:total", reason, "column")


@pytest.mark.parametrize("default", [1, Decimal("0.5"), "0", Value(0) + Value(0)])
def test_e011_default_must_be_0(default: Any) -> None:
    author(Denormalize("total", Sum("books__price", default=default)))
    book()
    assert_refused("E011", "library.Author:total", "a default other than 0 is not supported yet", "Use default=0")


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        (Q(books__title=Concat("books__title", Value("!"))), "its filter uses Concat"),
        (Q(books__pages__gt=F("books__pages") - 1), "its filter uses CombinedExpression"),
    ],
)
def test_e012_filter_must_be_lookups_on_the_source(condition: Q, reason: str) -> None:
    author(Denormalize("num_books", Count("books", filter=condition)))
    book()
    assert_refused("E012", "library.Author:num_books", reason, "Use Django's field lookups")


def test_e012_lookups_of_others_are_not_known_to_be_immutable() -> None:
    class Foreign(models.Transform):
        lookup_name = "foreign"
        function = "now_or_never"

    with register_lookup(models.CharField, Foreign):
        author(Denormalize("num_books", Count("books", filter=Q(books__title__foreign="a"))))
        book()
        assert_refused("E012", "library.Author:num_books", "its filter uses Foreign", "Use Django's field lookups")


@pytest.mark.parametrize(
    "condition",
    [
        Q(books__published_at__startswith="2020-01"),
        Q(books__printed_on__contains="2020"),
        Q(books__weight__contains="1.5"),
        Q(books__read_in__startswith="1 day"),
        Q(books__printed_on__lt=F("books__published_at")),
    ],
)
def test_filters_that_follow_the_settings_of_a_session_are_refused(condition: Q) -> None:
    author(Denormalize("num_books", Count("books", filter=condition)))
    book(printed_on=models.DateField(null=True), read_in=models.DurationField(null=True))
    assert only_message().id in {"trigger_kit.E012", "trigger_kit.E020"}


@pytest.mark.parametrize("lookup", [SearchLookup, TrigramSimilar, Unaccent])
def test_lookups_that_are_not_immutable_are_refused(lookup: Any) -> None:
    with register_lookup(models.CharField, lookup):
        condition = Q(**{f"books__title__{lookup.lookup_name}": "a"})
        author(Denormalize("num_books", Count("books", filter=condition)))
        book()
        assert only_message().id in {"trigger_kit.E012", "trigger_kit.E020"}


@pytest.mark.parametrize("expression", [Count("books", filter=Q(books__double__gt=1)), Count("books__double")])
def test_e023_virtual_generated_columns_are_refused(expression: Any) -> None:
    author(Denormalize("num_books", expression))
    double = models.GeneratedField(expression=F("pages") * 2, output_field=models.IntegerField(), db_persist=False)
    book(double=double)
    assert "library.Author:num_books" in only_message().msg


def test_accepted_stored_generated_column() -> None:
    author(Denormalize("num_books", Count("books", filter=Q(books__double__gt=1))))
    double = models.GeneratedField(expression=F("pages") * 2, output_field=models.IntegerField(), db_persist=True)
    book(double=double)
    assert check_rules(None) == []


def test_count_of_a_generated_column_leaves_null_out() -> None:
    rule = Denormalize("num_books", Count("books__double"))
    model = author(rule)
    double = models.GeneratedField(expression=F("pages") * 2, output_field=models.IntegerField(), db_persist=True)
    book(double=double)
    (measure,) = plan(model, [rule]).measures
    assert measure.argument is not None


def test_e013_field_must_hold_the_kind_of_value() -> None:
    author(Denormalize("label", Count("books")), label=models.CharField(max_length=20, editable=False))
    book()
    assert_refused("E013", "library.Author:label", "a CharField does not hold a Count", "integer field")


@pytest.mark.parametrize(
    "field", [models.IntegerField(null=True, editable=False), models.BigIntegerField(null=True, editable=False)]
)
def test_e013_field_must_hold_the_scale(field: Any) -> None:
    author(Denormalize("revenue", Sum("books__price")), revenue=field)
    book()
    assert_refused(
        "E013", "library.Author:revenue", "the sum has 2 decimal places", "DecimalField with decimal_places=2."
    )


def test_e014_null_needs_a_nullable_field() -> None:
    author(Denormalize("num_books", Sum("books__pages")))
    book()
    assert_refused("E014", "library.Author:num_books", "NULL over no rows", "Write Sum(…, default=0), or set null=True")


@pytest.mark.parametrize(
    ("options", "reason", "hint"),
    [
        ({"timing": Timing.DEFERRED}, "Timing.DEFERRED is not supported yet", "Timing.IMMEDIATE"),
        ({"timing": Timing.QUEUED}, "Timing.QUEUED is not supported yet", "Timing.IMMEDIATE"),
        ({"level": Level.ROW}, "Level.ROW is not supported yet", "Level.STATEMENT"),
    ],
)
def test_e015_other_timings_and_levels(options: dict[str, Any], reason: str, hint: str) -> None:
    check_counting(**options)
    assert_refused("E015", "library.Author:num_books", reason, hint)


def test_e016_target_must_not_be_a_proxy() -> None:
    author()
    book()
    rules = [Denormalize("num_books", Count("books"))]
    declare("Poet", (_model("Author"),), {"proxy": True, "denormalizations": rules})
    assert_refused("E016", "library.Poet:num_books", "is a proxy model", "Use library.Author itself.")


def test_e016_target_must_be_managed() -> None:
    author(Denormalize("num_books", Count("books")), meta={"managed": False})
    book()
    assert_refused("E016", "library.Author:num_books", "is unmanaged", "Set managed = True")


def test_e016_target_must_have_one_table() -> None:
    declare("Person")
    declare(
        "Author",
        (_model("Person"),),
        {"denormalizations": [Denormalize("num_books", Count("books"))]},
        num_books=models.IntegerField(default=0, editable=False),
    )
    book()
    assert_refused("E016", "library.Author:num_books", "uses multi-table inheritance", "a model with one table")


def test_e017_source_must_be_managed() -> None:
    author(Denormalize("num_books", Count("books")))
    book(meta={"managed": False})
    assert_refused("E017", "library.Author:num_books", "The source, library.Book, is unmanaged", "Set managed = True")


def test_e017_source_must_have_one_table() -> None:
    author(Denormalize("num_books", Count("novels")))
    declare("Work")
    declare("Novel", (_model("Work"),), author=models.ForeignKey("Author", models.CASCADE, related_name="novels"))
    assert_refused("E017", "library.Author:num_books", "The source, library.Novel", "a model with one table")


def test_e018_both_tables_must_be_in_one_database(settings: Any) -> None:
    class BooksElsewhere:
        def allow_migrate(self, db: str, app_label: str, model_name: str | None = None, **hints: Any) -> bool:
            return model_name != "book"

    settings.DATABASE_ROUTERS = [BooksElsewhere()]
    check_counting()
    assert_refused(
        "E018", "library.Author:num_books", "triggers do not reach across databases", "Keep both models in one"
    )


def test_e019_expression_must_not_be_a_callable() -> None:
    author(Denormalize("num_books", declare))
    book()
    assert_refused("E019", "library.Author:num_books", "a callable is not supported yet", "Write the expression itself")


@pytest.mark.parametrize(("function", "name"), [(Now(), "Now"), (Random(), "Random")])
def test_e020_filter_must_not_change_by_itself(function: Any, name: str) -> None:
    author(Denormalize("num_books", Count("books", filter=Q(books__published_at__lt=function))))
    book()
    reason = f"its filter calls {name}(), whose value changes although no row does"
    assert_refused("E020", "library.Author:num_books", reason, "Compare with a stored column or a constant.")


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
    assert "library.Book:pages <- " in only_message().msg


def test_e021_cycle_over_a_self_reference() -> None:
    author(
        Denormalize("num_books", Sum("children__num_books", default=0)),
        parent=models.ForeignKey("Author", models.CASCADE, null=True, related_name="children"),
    )
    reason = "library.Author:num_books <- library.Author:num_books"
    assert_refused("E021", "library.Author:num_books", reason, "Break the cycle")


def test_e022_a_database_must_be_postgresql(monkeypatch: pytest.MonkeyPatch) -> None:
    check_counting()
    monkeypatch.setattr("trigger_kit.checks.connections", {"default": SimpleNamespace(vendor="sqlite")})
    (message,) = check_setup(None)
    assert message.id == "trigger_kit.E022"
    assert "no database of this project is PostgreSQL" in message.msg
    assert "Use django.db.backends.postgresql" in str(message.hint)


def test_w001_autodetector_must_know_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    check_counting()
    monkeypatch.setattr(makemigrations.Command, "autodetector", MigrationAutodetector)
    (message,) = check_setup(None)
    assert message.id == "trigger_kit.W001"
    assert "makemigrations and migrate do not see rules" in message.msg
    assert "Put 'trigger_kit' after that app" in str(message.hint)


def test_w002_field_should_not_be_editable() -> None:
    author(Denormalize("num_books", Count("books")), num_books=models.IntegerField(default=0))
    book()
    assert_refused("W002", "library.Author:num_books", "is editable", "Set editable=False on num_books.")


def test_w003_foreign_key_should_have_an_index() -> None:
    author(Denormalize("num_books", Count("books")))
    book(author=models.ForeignKey("Author", models.CASCADE, related_name="books", db_index=False))
    assert_refused(
        "W003", "library.Author:num_books", "library_book.author_id has no index", "Set db_index=True on library.Book"
    )


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
    book(meta=options, author=models.ForeignKey("Author", models.CASCADE, related_name="books", db_index=False))
    assert check_rules(None) == []


@pytest.mark.parametrize(
    "options",
    [
        {"indexes": [models.Index(fields=["pages", "author"], name="by_pages")]},
        {"indexes": [models.Index(fields=["author"], condition=Q(published=True), name="some")]},
    ],
)
def test_w003_an_index_that_cannot_find_every_row_will_not_do(options: dict[str, Any]) -> None:
    author(Denormalize("num_books", Count("books")))
    book(meta=options, author=models.ForeignKey("Author", models.CASCADE, related_name="books", db_index=False))
    assert only_message().id == "trigger_kit.W003"


@pytest.mark.parametrize(
    "expression",
    [
        Sum("books__pages", default=0),
        Sum("books__pages", default=Decimal("0")),
        Sum("books__pages", default=Value(0)),
        Coalesce(Sum("books__pages"), 0),
        Coalesce(Sum("books__pages", filter=Q(books__published=True)), Value(0)),
        Coalesce(Count("books"), 0),
        Count("books__pages"),
        Count("books__author"),
        Count("books__title", filter=~Q(books__title="")),
    ],
)
def test_accepted_expressions(expression: Any) -> None:
    author(Denormalize("num_books", expression))
    book()
    assert check_rules(None) == []


@pytest.mark.parametrize(
    "condition",
    [
        Q(books__published=True) & ~Q(books__title="draft"),
        ~(Q(books__pages=1) | ~Q(books__pages=2)) | Q(books__title="it's 100%"),
        Q(books__pages=1) ^ Q(books__published=True),
        Q(books__pages__in=[1, 2, None]),
        Q(books__pages__in=[]),
        Q(books__pages__isnull=True),
        Q(books__pages__range=(1, 2)),
        Q(books__pages__gt=F("books__weight")),
        Q(books__title=F("books__title")),
        Q(books__title=Lower("books__title")),
        Q(books__title__iregex=r"^a{2}\d"),
        Q(books__published_at__year=2020),
        Q(books__published_at__year__gte=2020),
        Q(books__published_at__date=datetime.date(2020, 1, 2)),
        Q(books__published_at__gt=datetime.datetime(2020, 1, 2, tzinfo=datetime.UTC)),
        Q(books__author=7),
        Q(),
    ],
)
def test_accepted_filters_compile(condition: Q) -> None:
    rule = Denormalize("num_books", Count("books", filter=condition))
    model = author(rule)
    book()
    assert check_rules(None) == []
    assert compile_plan(plan(model, [rule]))


def test_accepted_nullable_foreign_key() -> None:
    author(Denormalize("num_books", Count("books")))
    book(author=models.ForeignKey("Author", models.SET_NULL, related_name="books", null=True))
    assert check_rules(None) == []


def test_accepted_to_field() -> None:
    author(Denormalize("num_books", Count("books")), code=models.CharField(max_length=4, unique=True))
    book(author=models.ForeignKey("Author", models.CASCADE, related_name="books", to_field="code"))
    assert check_rules(None) == []


def test_accepted_one_to_one() -> None:
    author(Denormalize("num_books", Count("book")), Denormalize("total", Sum("book__price")))
    book(author=models.OneToOneField("Author", models.CASCADE))
    assert check_rules(None) == []


def test_accepted_unnamed_relation() -> None:
    author(Denormalize("num_books", Count("book")))
    book(author=models.ForeignKey("Author", models.CASCADE))
    assert check_rules(None) == []


def test_accepted_self_reference() -> None:
    author(
        Denormalize("num_books", Count("children")),
        Denormalize("total", Sum("children__num_books")),
        parent=models.ForeignKey("Author", models.CASCADE, null=True, related_name="children"),
    )
    assert check_rules(None) == []


def test_accepted_rule_over_a_rule() -> None:
    author(Denormalize("num_books", Sum("books__num_chapters", default=0)))
    book(
        meta={"denormalizations": [Denormalize("num_chapters", Count("chapters"))]},
        num_chapters=models.IntegerField(default=0, editable=False),
    )
    declare("Chapter", book=models.ForeignKey("Book", models.CASCADE, related_name="chapters"))
    assert check_rules(None) == []


def test_accepted_rules_of_an_abstract_model() -> None:
    abstract = declare(
        "Counted",
        meta={"abstract": True, "denormalizations": [Denormalize("num_books", Count("books"))]},
        num_books=models.IntegerField(default=0, editable=False),
    )
    type(
        "Author",
        (abstract,),
        {"__module__": __name__, "Meta": type("Meta", (abstract.Meta,), {"app_label": "library"})},
    )
    book()
    assert check_rules(None) == []


@pytest.mark.parametrize("guard", Guard)
def test_accepted_guards(guard: Guard) -> None:
    check_counting(guard=guard)
    assert check_rules(None) == []


def test_setup_without_rules_needs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    author()
    monkeypatch.setattr("trigger_kit.checks.connections", {"default": SimpleNamespace(vendor="sqlite")})
    assert check_setup(None) == []


def test_setup_of_this_suite_is_right() -> None:
    check_counting()
    assert check_setup(None) == []


def test_checks_of_other_apps_are_left_out() -> None:
    check_counting("num_boks")
    assert check_rules([]) == []


def test_all_problems_are_reported_at_once() -> None:
    author(Denormalize("num_boks", Count("books")), Denormalize("total", Max("books__price")))
    book()
    assert [message.id for message in check_rules(None)] == ["trigger_kit.E002", "trigger_kit.E007"]


def test_messages_point_at_the_model() -> None:
    check_counting("num_boks")
    assert only_message().obj is _model("Author")


@pytest.mark.parametrize("values", [{8, 16}, frozenset({8})])
def test_e012_a_set_has_no_order(values: Any) -> None:
    author(Denormalize("num_books", Count("books", filter=Q(books__pages__in=values))))
    book()
    assert_refused("E012", "library.Author:num_books", "lists its values in a set", "Use a list or a tuple.")


def test_e012_a_nul_character() -> None:
    author(Denormalize("num_books", Count("books", filter=Q(books__title="a\x00"))))
    book()
    assert_refused("E012", "library.Author:num_books", "NUL character", "Remove it.")


@pytest.mark.parametrize(
    "condition",
    [
        Q(books__published_at__year=2020),
        Q(books__published_at__date=datetime.date(2020, 1, 1)),
        Q(books__published_at__gt=datetime.datetime(2020, 1, 1)),
    ],
)
def test_e012_a_time_without_time_zone(settings: Any, condition: Q) -> None:
    settings.USE_TZ = False
    author(Denormalize("num_books", Count("books", filter=condition)))
    book()
    assert_refused("E012", "library.Author:num_books", "time", "USE_TZ = True")


@pytest.mark.parametrize(
    "condition", [Q(books__published_at__year=2020), Q(books__published_at__date=datetime.date(2020, 1, 2))]
)
def test_text_does_not_follow_the_active_time_zone(condition: Q) -> None:
    rule = Denormalize("num_books", Count("books", filter=condition))
    model = author()
    book()
    text = compile_plan(plan(model, [rule]))
    with timezone.override("Asia/Tokyo"):
        assert compile_plan(plan(model, [rule])) == text


def test_column_names_may_contain_names_of_ours() -> None:
    rule = Denormalize("num_books", Count("books"))
    model = author(num_books=models.IntegerField(default=0, db_column="n_tk_keys"))
    book()
    assert [trigger for trigger in compile_plan(plan(model, [rule])) if '"n_tk_key"' in trigger.text] == []


def test_line_breaks_of_a_column_name_do_not_end_a_comment() -> None:
    rule = Denormalize("num_books", Count("books"))
    model = author(num_books=models.IntegerField(default=0, db_column="n\nb"))
    book()
    for trigger in compile_plan(plan(model, [rule])):
        assert not re.search(r'^b = Count\("books"\)', trigger.text, re.MULTILINE)
