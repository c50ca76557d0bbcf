"""verify: every kind of rule and key, ranges and samples, what makes it lie, errors, records; nothing is changed."""

from __future__ import annotations

import json
import re
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, models, transaction
from django.db.models import Avg, Count, F, Max, Model, Q, Sum, TextField
from django.db.models.functions import Cast, TruncDate
from django.test.utils import CaptureQueriesContext, isolate_apps
from django.utils import timezone

from tests.archive.keeping import Rules, keep, make_tables, timed
from tests.archive.models import Country, Line, Novel, Person, Review, Series, Work
from tests.archive.rules import POOLS
from tests.integration.test_backfill import write_archive
from tests.library.models import Author, Book
from trigger_kit import Denormalize, First, Timing, verify
from trigger_kit.exceptions import TriggerKitError
from trigger_kit.maintenance import ranges
from trigger_kit.maintenance.comparison import Pass, find_drift, passes
from trigger_kit.maintenance.verify import KEPT, Progress, last_verification
from trigger_kit.resolve.rule import rule_uri

Sql = Callable[..., list[tuple[Any, ...]]]
Declare = Callable[[Rules], Rules]

COUNT = "library.Author:num_books"
CASES = [(model, number) for model, pool in POOLS.items() for number in range(max(map(len, pool.values())))]
each_case = pytest.mark.parametrize(
    ("model", "number"), CASES, ids=[f"{model.__name__}-{number}" for model, number in CASES]
)
# Other values than any rule gives, by the type of the column.
SPOILT = {
    "BooleanField": "NOT coalesce({}, false)",
    "TextField": "coalesce({}, '') || '?'",
    "DateField": "coalesce({}, '2000-01-01') + 1",
    "DateTimeField": "coalesce({}, '2000-01-01') + interval '1 day'",
    "ArrayField": "array_append({}, '?')",
    "JSONField": "jsonb_build_array({}, '?')",
}


@pytest.fixture
def declare(monkeypatch: pytest.MonkeyPatch) -> Declare:
    """Keep rules in the test's transaction, and let the live models declare them."""

    def declare_rules(rules: Rules) -> Rules:
        keep(rules)
        for model, declared in rules:
            monkeypatch.setattr(model._meta, "denormalizations", declared, raising=False)
        return rules

    return declare_rules


@contextmanager
def unseen() -> Iterator[None]:
    """Let no trigger fire for what is written, as replication does."""
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        yield
        cursor.execute("SET session_replication_role = origin")


def spoil(model: type[Model], name: str, where: str = "true") -> int:
    """Change a column of some rows behind the triggers' backs; return how many there are."""
    field = model._meta.get_field(name)
    kind = SPOILT.get(field.get_internal_type(), "coalesce({}, 0) + 7")
    table, column = (connection.ops.quote_name(item) for item in (model._meta.db_table, field.column))
    with unseen(), connection.cursor() as cursor:
        cursor.execute(f"UPDATE {table} SET {column} = {kind.format(column)} WHERE {where}")
        return int(cursor.rowcount)


def run(*arguments: str) -> tuple[int, str]:
    """Run verify; return its exit code and what it prints."""
    out = StringIO()
    try:
        call_command("trigger_kit", "verify", *arguments, stdout=out, no_color=True)
    except SystemExit as stopped:
        return int(stopped.code or 0), out.getvalue()
    return 0, out.getvalue()


def write_authors(sql: Sql, number: int) -> None:
    sql(
        "INSERT INTO library_author (id, name, num_books, num_published, pages_total) "
        f"SELECT n, '', 0, 0, 0 FROM generate_series(1, {number}) AS n"
    )


# What is found ------------------------------------------------------------------------------------------------------


@each_case
def test_drift_of_any_rule_and_key_is_found(db: None, declare: Declare, model: type[Model], number: int) -> None:
    chosen = {name: expressions[number % len(expressions)] for name, expressions in POOLS[model].items()}
    write_archive()
    ((_, rules),) = declare(timed([(model, [Denormalize(*item) for item in chosen.items()])]))
    uris = [rule_uri(model, rule.field) for rule in rules]
    assert verify([model._meta.label]).in_sync
    assert verify([model._meta.label], batch_size=2).in_sync
    key = connection.ops.quote_name(model._meta.pk_fields[-1].column)
    for rule in rules:
        spoil(model, rule.field, f"{key} > (SELECT {key} FROM {model._meta.db_table} ORDER BY {key} LIMIT 1)")
    expected = {uri: find_drift(connection, uri, model, rule) for uri, rule in zip(uris, rules, strict=True)}
    assert all(expected.values())
    rows = model._base_manager.count()
    for options in ({}, {"batch_size": 1}, {"batch_size": 3}, {"sample": "100%"}, {"sample": 1_000}):
        found = verify([model._meta.label], **options)
        assert found.rows == dict.fromkeys(uris, rows)
        assert {uri: [drift for drift in found.drifts if drift.uri == uri] for uri in uris} == expected
        assert found.drifted == {uri: len(drifts) for uri, drifts in expected.items()}


@pytest.mark.parametrize("timing", Timing)
def test_what_waits_is_no_drift(db: None, declare: Declare, timing: Timing) -> None:
    """DEFERRED values are those of the commit, QUEUED ones have what is pending; a drift beside shows."""
    declare([(Work, [Denormalize("the_count", Count("reviews"), timing=timing)])])
    works = Work.objects.bulk_create([Work(), Work()])
    Review.objects.create(work=works[0])
    assert verify(["archive.Work"]).in_sync
    spoil(Work, "the_count", f"id = {works[0].pk}")
    ((key, stored, true),) = [(d.key, d.stored, d.true) for d in verify(["archive.Work"], batch_size=1).drifts]
    assert (key, stored, true) == (works[0].pk, 8, 1)


@isolate_apps("tests.archive")
def test_rows_that_a_manager_hides(db: None, sql: Sql) -> None:
    class Visible(models.Manager[Any]):
        def get_queryset(self) -> Any:
            return super().get_queryset().filter(name="visible")

    class Shy(models.Model):
        name = models.TextField()
        twice = models.TextField(default="")
        objects = Visible()

        class Meta:
            app_label = "archive"
            base_manager_name = "objects"

    rule = Denormalize("twice", F("name"))
    make_tables(Shy)
    keep([(Shy, [rule])])
    sql("INSERT INTO archive_shy (name, twice) VALUES ('hidden', ''), ('visible', '')")
    spoil(Shy, "twice")
    assert len(find_drift(connection, "shy", Shy, rule)) == 2


def collate_country(sql: Sql, collation: str) -> None:
    """Give the keys of countries a collation of ICU's."""
    if not sql("SELECT 1 FROM pg_collation WHERE collprovider = 'i' AND collname <> 'unicode'"):
        pytest.skip("This server is built without ICU.")
    for (index,) in sql(
        "SELECT indexname FROM pg_indexes WHERE tablename = 'archive_country' AND indexdef ~ 'pattern_ops'"
    ):
        sql(f"DROP INDEX {index}")
    sql(f"ALTER TABLE archive_country ALTER COLUMN code TYPE varchar(8) COLLATE {collation}")


def test_text_keys_in_the_order_of_their_collation(db: None, sql: Sql, declare: Declare) -> None:
    """Every row is looked at, whatever Python thinks of the order of keys."""
    collate_country(sql, '"und-x-icu"')
    declare([(Country, [Denormalize("the_count", Count("publishers"))])])
    assert looked_at_codes(sql, "the_count", 2) == len(CODES)


def test_text_keys(db: None, sql: Sql, declare: Declare) -> None:
    declare([(Country, [Denormalize("the_count", Count("publishers"))])])
    assert looked_at_codes(sql, "the_count", 2) == len(CODES)


CODES = ["a", "B", "b", "A", "é", "e", "Z", "_", "-", "a b", "ab", "a-b", "%", "'", '"', "\\", "ß", "ss", " ", "%s"]


def looked_at_codes(sql: Sql, column: str, size: int) -> int:
    """Write countries, let all of them drift, and return how many rows are looked at: each once, in order."""
    Country.objects.bulk_create([Country(code=code) for code in CODES])
    spoil(Country, column)
    found = verify(["archive.Country"], batch_size=size)
    assert [drift.key for drift in found.drifts] == [
        code for (code,) in sql("SELECT code FROM archive_country ORDER BY 1")
    ]
    assert len(verify(["archive.Country"], sample="100%").drifts) == len(CODES)
    return found.rows[f"archive.Country:{column}"]


def test_keys_that_a_case_insensitive_collation_compares(db: None, sql: Sql, declare: Declare) -> None:
    collate_country(sql, '"und-x-icu"')
    sql("CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false)")
    collate_country(sql, "loose")
    declare([(Country, [Denormalize("the_label", F("name"))])])
    Country.objects.bulk_create([Country(code=code, name="x") for code in ("a", "B", "c", "D")])
    spoil(Country, "the_label")
    assert [drift.key for drift in verify(["archive.Country"], batch_size=1).drifts] == ["a", "B", "c", "D"]


def test_composite_keys_are_ordered_as_rows(db: None, sql: Sql, declare: Declare) -> None:
    declare([(Line, [Denormalize("the_count", Count("remarks"))])])
    Work.objects.bulk_create([Work(id=n) for n in (1, 2, 10)])
    keys = [(1, 5), (1, 40), (2, 1), (2, 7), (10, 0)]
    Line.objects.bulk_create([Line(work_id=work, number=number) for work, number in reversed(keys)])
    spoil(Line, "the_count")
    assert [drift.key for drift in verify(["archive.Line"], batch_size=2).drifts] == keys


def test_ranges_of_a_composite_key_are_found_by_its_index(db: None, sql: Sql) -> None:
    for method in ("seqscan", "bitmapscan"):
        sql(f"SET LOCAL enable_{method} = off")
    # Another one does too, for a table as small as this.
    ((index,),) = sql(
        "SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = 'archive_line'::regclass AND NOT indisprimary"
    )
    sql(f"DROP INDEX {index}")
    one = Pass(Line, (("line", Denormalize("the_label", F("text"))),))
    text = explained(sql, one, ranges.KeyRange(Line, (1, 2), (3, 4)))
    assert re.search(r"Index Cond: \(\(ROW\(work_id, number\) > ROW\(.*AND \(ROW\(work_id, number\) <= ROW\(", text), (
        text
    )


def explained(sql: Sql, one: Pass, condition: ranges.KeyRange) -> str:
    statement, params = one.statement(connection, condition)
    return "\n".join(line for (line,) in sql(f"EXPLAIN {statement}", *params))


def test_the_project_time_zone_counts_not_that_of_a_request(db: None, declare: Declare) -> None:
    declare([(Work, [Denormalize("kept_day", TruncDate("moment"))])])
    Work.objects.create(moment="2026-01-01T23:30:00Z")
    with timezone.override("America/New_York"):
        assert verify(["archive.Work"]).in_sync
    spoil(Work, "kept_day")
    with timezone.override("Asia/Tokyo"):
        assert len(verify(["archive.Work"]).drifts) == 1


def test_floats_may_differ_in_their_last_digits_only(db: None, sql: Sql, declare: Declare) -> None:
    declare([(Work, [Denormalize("kept_ratio", Sum("reviews__stars") / 3.0)])])
    work = Work.objects.create()
    Review.objects.create(work=work, stars=1)
    for change, count in (("* (1 + 1e-12)", 0), ("* (1 + 1e-6)", 1), ("* 'NaN'", 1), ("* 'Infinity'", 1)):
        with unseen():
            sql(f"UPDATE archive_work SET kept_ratio = 1 / 3.0::float8 {change}")
        assert verify(["archive.Work"]).drifted.total() == count


# Passes -------------------------------------------------------------------------------------------------------------


def shared(model: type[Model], **expressions: Any) -> list[list[str]]:
    rules = [(name, Denormalize(name, expression)) for name, expression in expressions.items()]
    return [[uri for uri, _ in one.rules] for one in passes(model, rules)]


def test_rules_over_the_same_joins_share_a_pass() -> None:
    assert shared(
        Work,
        the_count=Count("reviews"),
        kept_text=F("publisher__name"),
        kept_number=Max("reviews__stars"),
        the_total=Sum("credits__share", default=0),
        kept_amount=Avg("reviews__stars", filter=Q(reviews__text="")),
        the_label=F("title"),
        kept_list=Cast("pages", TextField()),
    ) == [["the_count", "kept_number", "kept_amount"], ["kept_text"], ["the_total"], ["the_label", "kept_list"]]


def test_rules_that_would_multiply_each_others_rows_do_not_share_a_pass(db: None, declare: Declare) -> None:
    """Two aggregates in one query over different relations are Django's best-known trap."""
    declare([(Work, [Denormalize("the_count", Count("reviews")), Denormalize("kept_number", Count("credits"))])])
    work, person = Work.objects.create(), Person.objects.create()
    Review.objects.bulk_create([Review(work=work) for _ in range(3)])
    work.credits.create(person=person)
    work.credits.create(person=person)
    assert verify(["archive.Work"]).in_sync


def test_a_column_of_the_parents_table_has_its_own_key(db: None, declare: Declare) -> None:
    """Multi-table inheritance: the child's rows, by the parent's key."""
    declare([(Novel, [Denormalize("kept_title", F("title"))]), (Series, [Denormalize("the_count", Count("novels"))])])
    novels = [Novel.objects.create(title=f"n{n}") for n in range(4)]
    spoil(Novel, "kept_title", f"work_ptr_id > {novels[1].pk}")
    found = verify(["archive.Novel"], batch_size=1)
    assert [drift.key for drift in found.drifts] == [novel.pk for novel in novels[2:]]
    assert found.rows == {"archive.Novel:kept_title": 4}


# Ranges -------------------------------------------------------------------------------------------------------------


def test_a_table_that_is_cheap_to_read_is_one_statement(db: None, sql: Sql) -> None:
    write_authors(sql, 100)
    with CaptureQueriesContext(connection) as queries:
        assert verify(["library.Author"]).in_sync
    assert len(queries) == 3  # the planner's idea of the rows and of the cost, and their number; the rest is streamed


def test_ranges_of_many_targets_cost_little_more_than_one_statement(
    db: None, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where each range would read all source rows, few ranges are taken."""
    write_authors(sql, 20_000)
    with unseen():
        sql(
            "INSERT INTO library_book (author_id, title, published, note) "
            "SELECT 1 + n % 20000, '', true, '' FROM generate_series(1, 100000) AS n"
        )
    sql("ANALYZE library_author, library_book")
    (one,) = passes(Author, [(COUNT, Denormalize("num_books", Count("books")))])
    whole = ranges.plan_of(connection, *one.statement(connection))["Total Cost"]
    for calm in (whole / 2, whole / 8, whole / 64, 1):
        monkeypatch.setattr(ranges, "CALM", calm)
        monkeypatch.setattr(ranges, "HEAVY", float("inf"))
        size = ranges.range_rows(connection, one)
        costs = [
            ranges.plan_of(connection, *one.statement(connection, piece.condition))["Total Cost"]
            for piece in ranges.pieces(connection, Author, size)
        ]
        assert sum(costs) <= 1.5 * whole, (calm, size)
    # A statement must not take for ever, whatever the ranges cost together.
    monkeypatch.setattr(ranges, "HEAVY", whole / 8)
    size = ranges.range_rows(connection, one)
    assert size is not None
    assert size <= 20_000 / 4


def test_ranges_leave_nothing_out_and_take_nothing_twice(db: None, sql: Sql) -> None:
    write_authors(sql, 103)
    for size in (1, 2, 50, 51, 52, 103, 104, 1_000):
        pieces = list(ranges.pieces(connection, Author, size))
        assert sum(piece.rows for piece in pieces) == 103
        keys = [
            pk for p in pieces for pk in Author.objects.filter(p.condition).order_by("pk").values_list("pk", flat=True)
        ]
        assert keys == list(range(1, 104))
    assert [piece.rows for piece in ranges.pieces(connection, Book, 10)] == [0]


def test_memory_does_not_grow_with_the_rows_that_have_drifted(db: None, sql: Sql) -> None:
    write_authors(sql, 100_000)
    spoil(Author, "num_books", "id % 2 = 0")
    spoil(Author, "pages_total", "id % 1000 = 0")
    counted = 0

    def count(drift: object) -> None:
        nonlocal counted
        counted += 1

    verify(["library.Author"], on_drift=count)
    for options in ({}, {"batch_size": 7_000}):
        counted = 0
        tracemalloc.start()
        found = verify(["library.Author"], on_drift=count, **options)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert found.drifted == {COUNT: 50_000, "library.Author:pages_total": 100}
        assert counted == 50_100
        assert len(found.drifts) == KEPT + 100
        assert peak < 3_000_000


def test_another_statement_amid_the_rows_is_refused(db: None, sql: Sql) -> None:
    """The driver would wait for ever."""
    write_authors(sql, 3)
    spoil(Author, "num_books")
    with pytest.raises(TriggerKitError, match="must use another one"), transaction.atomic():
        verify([COUNT], on_drift=lambda drift: Author.objects.count())
    assert verify([COUNT]).drifted == {COUNT: 3}


def test_progress_is_told(db: None, sql: Sql) -> None:
    write_authors(sql, 10)
    told: list[Progress] = []
    verify([COUNT], batch_size=4, on_progress=told.append)
    assert [progress.rows for progress in told] == [0, 4, 8, 10]
    assert {progress.uris for progress in told} == {(COUNT,)}


@pytest.mark.parametrize("size", [0, -1])
def test_a_batch_has_a_row(db: None, size: int) -> None:
    with pytest.raises(ValueError, match="batch_size is 1 or more"):
        verify(batch_size=size)


# Samples ------------------------------------------------------------------------------------------------------------


def test_a_sample_looks_at_some_rows_only(db: None, sql: Sql) -> None:
    write_authors(sql, 1_000)
    spoil(Author, "num_books")
    found = verify([COUNT], sample=100)
    assert (found.sample, found.rows, found.drifted) == (True, {COUNT: 100}, {COUNT: 100})
    assert [drift.key for drift in found.drifts] == sorted(drift.key for drift in found.drifts)
    others = [drift.key for drift in verify([COUNT], sample=100).drifts]
    assert others != [drift.key for drift in found.drifts]


def test_a_sample_of_a_large_table_reads_some_pages_only(db: None, sql: Sql) -> None:
    write_authors(sql, 60_000)
    sql("ANALYZE library_author")
    with CaptureQueriesContext(connection) as queries:
        found = verify([COUNT], sample="1%")
    assert any("TABLESAMPLE SYSTEM" in query["sql"] for query in queries)
    assert 500 < found.rows[COUNT] <= 610
    assert found.in_sync


@pytest.mark.parametrize("text", ["0", "-1", "0%", "101%", "many", "%", "", "1.5"])
def test_what_is_no_sample(db: None, text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        verify(sample=text)
    with pytest.raises(CommandError, match="argument --sample: invalid"):
        run("--sample", text)


# The command --------------------------------------------------------------------------------------------------------


def test_exit_codes(db: None, sql: Sql) -> None:
    write_authors(sql, 3)
    assert run(COUNT)[0] == 0
    spoil(Author, "num_books", "id = 2")
    assert run(COUNT)[0] == 1
    with pytest.raises(CommandError) as raised:
        run("library.Author:num_pages")
    assert raised.value.returncode == 2


def test_a_sample_says_so(db: None, sql: Sql) -> None:
    write_authors(sql, 20)
    code, printed = run(COUNT, "--sample", "5")
    assert (code, printed.split()) == (0, [COUNT, "5", "rows", "drawn", "at", "random", "in", "sync"])
    assert json.loads(run(COUNT, "--sample", "50%", "--json")[1])["sample"] is True


def test_the_table_is_bounded_and_json_is_not(db: None, sql: Sql) -> None:
    write_authors(sql, KEPT + 5)
    spoil(Author, "num_books")
    printed = run(COUNT)[1]
    assert len(printed.splitlines()) == KEPT + 4
    assert printed.endswith(f"… and 5 more of {COUNT}; --json prints all.\n")
    document = json.loads(run(COUNT, "--json")[1])
    assert [item["key"] for item in document["drifts"]] == list(range(1, KEPT + 6))
    assert document["drifted"] == {COUNT: KEPT + 5}


def test_json_of_nothing(db: None) -> None:
    document = json.loads(run(COUNT, "--json")[1])
    assert document == {"drifts": [], "in_sync": True, "sample": False, "rows": {COUNT: 0}, "drifted": {COUNT: 0}}


def test_json_knows_no_infinity(db: None, sql: Sql, declare: Declare) -> None:
    declare([(Work, [Denormalize("kept_ratio", Sum("reviews__stars") / 3.0)])])
    Work.objects.create()
    with unseen():
        sql("UPDATE archive_work SET kept_ratio = '-Infinity'")
    text = run("archive.Work", "--json")[1]
    (item,) = json.loads(text, parse_constant=pytest.fail)["drifts"]
    assert (item["stored"], item["true"]) == ("-inf", None)


def test_a_statement_that_takes_too_long(db: None, sql: Sql) -> None:
    write_authors(sql, 1)
    with pytest.raises(TriggerKitError, match="statement timeout. A smaller batch size"), transaction.atomic():
        with unseen():
            sql(
                "INSERT INTO library_book (author_id, title, published, note) SELECT 1, '', true, '' FROM generate_series(1, 300000)"
            )
        sql("SET LOCAL statement_timeout = '5ms'")
        verify([COUNT], batch_size=10)


class Terminal(StringIO):
    """An output that calls itself a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_how_far_it_is(db: None, sql: Sql) -> None:
    write_authors(sql, 10)
    out = Terminal()
    call_command("trigger_kit", "verify", COUNT, "--batch-size", "4", stdout=out, no_color=True)
    shown = out.getvalue()
    assert f"{COUNT}: 0 of about 10 rows" in shown or f"{COUNT}: 0 of about" in shown
    assert shown.rpartition("\x1b[K")[2].split() == [COUNT, "10", "rows", "in", "sync"]
    out = Terminal()
    call_command("trigger_kit", "verify", COUNT, "--json", stdout=out, no_color=True)
    assert json.loads(out.getvalue())["in_sync"]


# Errors -------------------------------------------------------------------------------------------------------------


def test_a_column_that_is_not_there(db: None, sql: Sql) -> None:
    sql("ALTER TABLE library_book RENAME COLUMN pages TO sheets")
    with (
        pytest.raises(
            TriggerKitError, match="The values of library.Author:num_books, .* cannot be read: .*pages does not"
        ),
        transaction.atomic(),
    ):
        verify(["library.Author"])
    with pytest.raises(CommandError, match="Is everything migrated") as raised, transaction.atomic():
        run("library.Author")
    assert raised.value.returncode == 2


def test_a_table_that_is_not_there(db: None, sql: Sql) -> None:
    sql("ALTER TABLE library_author RENAME TO gone")
    with pytest.raises(CommandError, match='relation "library_author" does not exist') as raised, transaction.atomic():
        run("library.Author", "--json")
    assert raised.value.returncode == 2


def test_a_true_value_that_does_not_fit_is_an_error(db: None, declare: Declare) -> None:
    declare([(Work, [Denormalize("kept_number", Sum("reviews__stars") * 9_000_000_000_000_000_000)])])
    work = Work.objects.create()
    with unseen():
        Review.objects.create(work=work, stars=2)
    expected = "The values of archive.Work:kept_number cannot be read: bigint out of range"
    with pytest.raises(TriggerKitError, match=expected), transaction.atomic():
        verify(["archive.Work"])


def test_first_and_deferred_count_as_what_they_read(db: None, declare: Declare) -> None:
    declare(
        [(Work, [Denormalize("kept_text", First("reviews__text", order_by="-reviews__stars"), timing=Timing.DEFERRED)])]
    )
    work = Work.objects.create()
    Review.objects.create(work=work, stars=1, text="a")
    assert verify(["archive.Work"]).in_sync
    spoil(Work, "kept_text")
    assert verify(["archive.Work"]).in_sync  # the commit would compute it afresh


# Outside of a transaction -------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_the_result_is_remembered() -> None:
    schema = "public"
    Author.objects.create(id=1)
    verify([COUNT])
    first = last_verification(connection, schema)[COUNT]
    assert (first.rows, first.drifted, first.sample) == (1, 0, False)
    spoil(Author, "num_books")
    verify(["library.Author"])
    second = last_verification(connection, schema)[COUNT]
    assert (second.rows, second.drifted, second.sample) == (1, 1, False)
    assert second.at > first.at
    with unseen():
        Author.objects.update(num_books=0)
    verify([COUNT], sample=1)
    assert last_verification(connection, schema)[COUNT] == second, "a sample that is clean proves little"
    verify([COUNT])
    verify([COUNT], sample=1)
    assert last_verification(connection, schema)[COUNT].sample


@pytest.mark.django_db(transaction=True)
def test_a_result_that_cannot_be_remembered_is_a_result() -> None:
    Author.objects.create(id=1)
    verify([COUNT])
    before = last_verification(connection, "public")
    with connection.cursor() as cursor:
        cursor.execute("SET default_transaction_read_only = on")
        assert verify([COUNT]).unrecorded == []
        cursor.execute("SET default_transaction_read_only = off")
        cursor.execute("ALTER TABLE tk_state ADD CONSTRAINT full_disk CHECK (name = '') NOT VALID")
    try:
        err = StringIO()
        call_command("trigger_kit", "verify", COUNT, stdout=StringIO(), stderr=err, no_color=True)
        assert 'The result could not be recorded: new row for relation "tk_state" violates' in err.getvalue()
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE tk_state DROP CONSTRAINT full_disk")
    assert last_verification(connection, "public") == before


@pytest.mark.django_db(transaction=True)
def test_every_statement_reads_only_and_holds_no_snapshot_for_long() -> None:
    Author.objects.bulk_create([Author(id=n) for n in range(1, 11)])
    with CaptureQueriesContext(connection) as queries:
        assert verify([COUNT], batch_size=4).in_sync
    texts = [query["sql"].strip() for query in queries]
    writes = [text for text in texts if not text.startswith(("BEGIN", "COMMIT", "SET ", "SELECT", "EXPLAIN"))]
    assert [text.split()[:3] for text in writes] == [["INSERT", "INTO", '"public"."tk_state"']]
    assert texts.count("SET TRANSACTION READ ONLY") == texts.count("BEGIN") - 1 >= 7


@pytest.mark.django_db(transaction=True)
def test_rows_hidden_by_a_policy_are_an_error_not_another_value() -> None:
    Author.objects.create(id=1)
    with connection.cursor() as cursor:
        cursor.execute("CREATE ROLE reader; GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader")
        cursor.execute("ALTER TABLE library_book ENABLE ROW LEVEL SECURITY; SET ROLE reader")
    try:
        with pytest.raises(TriggerKitError, match="row-level security"):
            verify([COUNT])
    finally:
        with connection.cursor() as cursor:
            cursor.execute("RESET ROLE; ALTER TABLE library_book DISABLE ROW LEVEL SECURITY")
            cursor.execute("DROP OWNED BY reader; DROP ROLE reader")


@pytest.mark.django_db(transaction=True)
def test_a_role_that_may_only_read() -> None:
    Author.objects.create(id=1)
    with connection.cursor() as cursor:
        cursor.execute("CREATE ROLE reader; GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader; SET ROLE reader")
    try:
        found = verify([COUNT])
        assert (found.in_sync, found.unrecorded) == (True, [])
    finally:
        with connection.cursor() as cursor:
            cursor.execute("RESET ROLE; DROP OWNED BY reader; DROP ROLE reader")


@pytest.mark.django_db(transaction=True)
def test_a_database_that_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    connection.close()
    monkeypatch.setitem(connection.settings_dict, "PORT", "1")
    monkeypatch.setitem(connection.settings_dict, "HOST", "127.0.0.1")
    with pytest.raises(CommandError, match="The database 'default' cannot be read: ") as raised:
        run(COUNT)
    assert raised.value.returncode == 2
