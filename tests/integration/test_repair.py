"""repair: what verify finds is fixed, of any rule and key, in chains and trees, whole or from a listing."""

from __future__ import annotations

import json
import sys
import uuid
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.models import Avg, Count, F, IntegerField, Max, Model, Sum, TextField, Value
from django.db.models.functions import Coalesce, Concat

from tests.archive.keeping import Rules, assert_rules_hold, timed
from tests.archive.models import Country, Line, Node, Person, Publisher, Review, Work
from tests.archive.rules import POOLS
from tests.integration.test_backfill import write_archive
from tests.integration.test_verify import CASES, Declare, Sql, declare, spoil, unseen, write_authors
from tests.library.models import Author, Book
from trigger_kit import Denormalize, Timing, repair, verify
from trigger_kit.exceptions import TriggerKitError
from trigger_kit.maintenance import repair as repairing
from trigger_kit.maintenance.comparison import Drift
from trigger_kit.maintenance.repair import Change
from trigger_kit.maintenance.verify import KEPT, last_verification
from trigger_kit.resolve.rule import rule_uri

__all__ = ["declare"]

COUNT = "library.Author:num_books"


def run(*arguments: str) -> tuple[int, str]:
    """Run a subcommand; return its exit code and what it prints."""
    out = StringIO()
    try:
        call_command("trigger_kit", *arguments, stdout=out, no_color=True)
    except SystemExit as stopped:
        return int(stopped.code or 0), out.getvalue()
    return 0, out.getvalue()


def listing(*drifts: dict[str, Any], **more: Any) -> str:
    return json.dumps({"drifts": list(drifts), **more})


# Any rule and key ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("model", "number"), CASES, ids=[f"{model.__name__}-{number}" for model, number in CASES])
def test_drift_of_any_rule_and_key(db: None, declare: Declare, model: type[Model], number: int) -> None:
    chosen = {name: expressions[number % len(expressions)] for name, expressions in POOLS[model].items()}
    timing, batch_size = list(Timing)[number % 3], 1_000 if number % 2 else 1
    write_archive()
    rules = declare(timed([(model, [Denormalize(name, e, timing=timing) for name, e in chosen.items()])]))
    for name in chosen:
        spoil(model, name)
    found = verify([model._meta.label])
    assert not found.in_sync
    told: list[Change] = []
    done = repair([model._meta.label], batch_size=batch_size, on_batch=told.extend)
    assert done.is_complete
    assert_rules_hold(rules)
    assert told == done.changes
    assert set(done.changed) >= set(found.drifted)
    again = repair([model._meta.label])
    assert (again.changed, again.is_complete) == ({}, True)


def test_what_was_changed_is_told(db: None, sql: Sql) -> None:
    write_authors(sql, 3)
    Book.objects.create(author_id=2, pages=7)
    spoil(Author, "num_books", "id > 1")
    spoil(Author, "pages_total", "id = 2")
    done = repair()
    assert done.changes == [
        Change(COUNT, 2, 8, 1),
        Change("library.Author:pages_total", 2, 14, 7),
        Change(COUNT, 3, 7, 0),
    ]
    assert done.changed == {COUNT: 2, "library.Author:pages_total": 1}
    assert verify().in_sync
    assert repair().changes == []


def test_only_what_was_asked_for(db: None, sql: Sql) -> None:
    write_authors(sql, 2)
    spoil(Author, "num_books")
    spoil(Author, "pages_total")
    assert repair([COUNT]).changed == {COUNT: 2}
    assert verify(["library.Author"]).drifted == {"library.Author:pages_total": 2}


def test_a_dry_run_changes_nothing(db: None, sql: Sql) -> None:
    write_authors(sql, 2)
    spoil(Author, "num_books", "id = 1")
    expected = [Change(COUNT, 1, 7, 0)]
    assert repair(dry_run=True).changes == expected
    assert repair(drifts=[Drift(COUNT, 1, None, None), Drift(COUNT, 2, None, None)], dry_run=True).changes == expected
    assert verify().drifted == {COUNT: 1}
    assert run("repair", "--dry-run") == (
        0,
        f"{COUNT}: 1 row would be repaired\n\nrule                      key  before  after\n{COUNT}  1    7       0\n",
    )
    assert verify().drifted == {COUNT: 1}


def test_more_drift_than_is_held_in_memory(db: None, sql: Sql, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repairing, "FOUND", 7)
    write_authors(sql, 50)
    spoil(Author, "num_books", "id % 2 = 0")
    sizes: list[int] = []
    assert repair(batch_size=3, on_batch=lambda changes: sizes.append(len(changes))).changed == {COUNT: 25}
    assert sizes == [3, 3, 1] * 3 + [3, 1]
    assert verify().in_sync


def test_a_trigger_of_the_users_that_writes_another_value(db: None, sql: Sql) -> None:
    """Nothing can be done about it, and that is said."""
    write_authors(sql, 1)
    spoil(Author, "num_books")
    sql("CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.num_books := 99; RETURN NEW; END $$")
    sql('CREATE TRIGGER "~~meddle" BEFORE UPDATE ON library_author FOR EACH ROW EXECUTE FUNCTION meddle()')
    done = repair()
    assert (done.left, done.is_complete) == ({COUNT: 1}, False)
    code, printed = run("repair")
    assert code == 1
    assert f"{COUNT}: 1 row differ after they were written" in printed


@pytest.mark.parametrize("size", [0, -1])
def test_a_batch_has_a_row(db: None, size: int) -> None:
    with pytest.raises(ValueError, match="batch_size is 1 or more"):
        repair(batch_size=size)


# Rules that read each other -----------------------------------------------------------------------------------------

# A country sums what publishers sum, who sum what works count; and a label goes the other way.
CHAIN: Rules = [
    (Work, [Denormalize("the_count", Count("reviews")), Denormalize("kept_text", F("publisher__the_label"))]),
    (Publisher, [
        Denormalize("the_total", Sum("works__the_count", default=0)),
        Denormalize("kept_number", Max("works__the_count")),
        Denormalize("the_label", Concat(F("country__the_label"), Value("/"), F("name"), output_field=TextField())),
    ]),
    (Country, [
        Denormalize("the_total", Sum("publishers__the_total", default=0)),
        Denormalize("the_label", F("name")),
    ]),
    (Review, [Denormalize("kept_number", F("work__the_count"))]),
]  # fmt: skip


def write_chain() -> None:
    Country.objects.bulk_create([Country(code=code, name=code) for code in "ab"])
    Publisher.objects.bulk_create(
        [Publisher(id=uuid.UUID(int=n), number=n, country_id="ab"[n % 2], name=f"p{n}") for n in range(4)]
    )
    Work.objects.bulk_create([Work(id=n, publisher_id=n % 4) for n in range(1, 9)])
    Review.objects.bulk_create([Review(work_id=1 + n % 5, stars=n) for n in range(20)])


def switch_off(sql: Sql, model: type[Model]) -> None:
    """Let no trigger of a table fire again."""
    sql("SET CONSTRAINTS ALL IMMEDIATE")
    sql(f"ALTER TABLE {model._meta.db_table} DISABLE TRIGGER USER")


def timed_chain(timing: Timing) -> Rules:
    return timed(
        [(model, [Denormalize(r.field, r.expression, timing=timing) for r in declared]) for model, declared in CHAIN]
    )


@pytest.mark.parametrize("timing", [Timing.IMMEDIATE, Timing.DEFERRED])
@pytest.mark.parametrize(
    "levels", [*[{n} for n in range(7)], set(range(7)), {0, 2}, {1, 5}, {0, 5, 6}, {4, 3}], ids=str
)
def test_a_chain_with_drift_at_some_levels(db: None, declare: Declare, levels: set[int], timing: Timing) -> None:
    """Whatever was computed from a wrong value, or from the one that is true, is right in the end."""
    rules = declare(timed_chain(timing))
    write_chain()
    assert_rules_hold(rules)
    places = [(model, rule.field) for model, declared in rules for rule in declared]
    for number, (model, name) in enumerate(places):
        if number in levels:
            spoil(model, name)
    assert not verify().in_sync
    done = repair()
    assert done.is_complete
    assert_rules_hold(rules)
    assert repair().changed == {}


@pytest.mark.parametrize("number", range(8))
def test_dependents_of_a_listed_row_are_looked_at(db: None, declare: Declare, number: int) -> None:
    """A row computed from the true value has drifted from what is stored, and would get the difference twice."""
    rules = declare(CHAIN)
    write_chain()
    places = [(model, rule.field) for model, declared in rules for rule in declared]
    model, name = places[number]
    spoil(model, name)
    listed = verify([rule_uri(model, name)]).drifts
    assert listed
    done = repair(drifts=listed)
    assert done.is_complete
    assert_rules_hold(rules)


def test_the_rules_of_a_chain_without_triggers(db: None, declare: Declare, sql: Sql) -> None:
    """Sources come before what reads them, so that nothing has to be passed on."""
    rules = declare(CHAIN)
    write_chain()
    for model, declared in rules:
        switch_off(sql, model)
        for rule in declared:
            spoil(model, rule.field)
    done = repair()
    assert done.is_complete
    assert_rules_hold(rules)


TREES: list[Any] = [
    ("the_total", F("own") + Sum("children__the_total", default=0)),
    ("kept_number", Coalesce(F("parent__kept_number"), 0, output_field=IntegerField()) + 1),
    ("kept_text", Coalesce(Concat("parent__kept_text", Value("/"), "name"), "name", output_field=TextField())),
]


@pytest.mark.parametrize("batch_size", [2, 500])
@pytest.mark.parametrize("has_triggers", [True, False])
@pytest.mark.parametrize(("name", "expression"), TREES, ids=[name for name, _ in TREES])
@pytest.mark.parametrize("where", ["true", "id = 12", "id % 3 = 0"])
def test_a_tree_with_drift_at_some_levels(
    db: None, declare: Declare, sql: Sql, name: str, expression: Any, has_triggers: bool, batch_size: int, where: str
) -> None:
    rules = declare([(Node, [Denormalize(name, expression), Denormalize("the_count", Count("children"))])])
    for n in range(1, 13):
        Node.objects.create(id=n, parent_id={1: None, 2: 1}.get(n, n // 2 if n % 2 else n - 1), name=f"n{n}", own=n)
    if not has_triggers:
        switch_off(sql, Node)
    spoil(Node, name, where)
    done = repair(["archive.Node"], batch_size=batch_size)
    assert done.is_complete
    assert_rules_hold(rules)
    assert repair(["archive.Node"]).changed == {}


def test_a_listed_node_of_a_tree(db: None, declare: Declare, sql: Sql) -> None:
    name, expression = TREES[0]
    rules = declare([(Node, [Denormalize(name, expression)])])
    for n in range(1, 6):
        Node.objects.create(id=n, parent_id=n - 1 or None)
    switch_off(sql, Node)
    spoil(Node, name)
    repair(drifts=[Drift(f"archive.Node:{name}", 5, None, None)])
    assert_rules_hold(rules)


@pytest.mark.parametrize("is_listed", [False, True])
@pytest.mark.parametrize("name", ["kept_amount", "kept_number", "the_count"])
def test_an_average_and_the_sum_that_it_follows_from(db: None, declare: Declare, name: str, is_listed: bool) -> None:
    """A right average beside a wrong sum would be wrong after the next change."""
    over = {"kept_amount": Avg("works__pages"), "kept_number": Sum("works__pages"), "the_count": Count("works__pages")}
    rules = declare([(Publisher, [Denormalize(*item) for item in over.items()])])
    publisher = Publisher.objects.create(number=1)
    Work.objects.bulk_create([Work(publisher=publisher, pages=n) for n in (1, 2)])
    spoil(Publisher, name)
    uri = "archive.Publisher:kept_amount"
    repair([uri], drifts=[Drift(uri, publisher.pk, None, None)] if is_listed else None)
    Work.objects.create(publisher=publisher, pages=6)
    assert verify([uri]).in_sync
    assert_rules_hold(rules)


# Timings, in an open transaction ------------------------------------------------------------------------------------


def test_in_a_transaction_with_notes_of_its_own(db: None, declare: Declare, sql: Sql) -> None:
    """What waits for the commit is no drift, and reaches the target once."""
    rules = declare([(Work, [Denormalize("the_count", Count("reviews"), timing=Timing.DEFERRED)])])
    works = Work.objects.bulk_create([Work(), Work()])
    sql("SET CONSTRAINTS ALL IMMEDIATE")
    sql("SET CONSTRAINTS ALL DEFERRED")
    Review.objects.create(work=works[0])
    spoil(Work, "the_count", f"id = {works[1].pk}")
    assert repair(["archive.Work"]).changed == {"archive.Work:the_count": 1}
    Review.objects.create(work=works[1])
    sql("SET CONSTRAINTS ALL IMMEDIATE")
    assert_rules_hold(rules)


def test_what_is_pending_is_not_counted_twice(db: None, declare: Declare, sql: Sql) -> None:
    rules = declare([(Work, [Denormalize("the_count", Count("reviews"), timing=Timing.QUEUED)])])
    works = Work.objects.bulk_create([Work(), Work(), Work()])
    Review.objects.bulk_create([Review(work=work) for work in works[:2]])
    spoil(Work, "the_count", f"id <> {works[0].pk}")
    done = repair(["archive.Work"])
    assert [(change.key, change.before, change.after) for change in done.changes] == [
        (works[1].pk, 8, 1),
        (works[2].pk, 7, 0),
    ]
    assert_rules_hold(rules)
    sql("SELECT tk_flush_archive_work()")
    assert list(Work.objects.order_by("pk").values_list("the_count", flat=True)) == [1, 1, 0]


# Listings -----------------------------------------------------------------------------------------------------------


def test_a_listing_goes_round(db: None, sql: Sql, monkeypatch: pytest.MonkeyPatch) -> None:
    write_authors(sql, 20)
    spoil(Author, "num_books", "id % 2 = 0")
    code, printed = run("verify", "--json")
    assert code == 1
    spoil(Author, "num_books", "id = 1")
    Author.objects.filter(id__in=[2, 4]).delete()
    sql("UPDATE library_author SET name = 'right by now' WHERE id = 6")
    with unseen():
        sql("UPDATE library_author SET num_books = 0 WHERE id = 6")
    monkeypatch.setattr(sys, "stdin", StringIO(printed))
    code, printed = run("repair", "--from", "-", "--json")
    document = json.loads(printed)
    assert code == 0
    assert [item["key"] for item in document["changes"]] == list(range(8, 21, 2))
    assert document["changes"][0] == {"rule": COUNT, "key": 8, "before": 7, "after": 0}
    assert document["changed"] == {COUNT: 7}
    assert document["gone"] == {COUNT: 2}
    assert [drift.key for drift in verify().drifts] == [1], "what was not listed is not looked at"
    monkeypatch.setattr(sys, "stdin", StringIO(run("verify", "--json")[1]))
    assert run("repair", "--from", "-")[0] == 0
    assert verify().in_sync


@pytest.mark.parametrize("model", [Country, Publisher, Line, Work, Person])
def test_listed_keys_of_any_type(db: None, declare: Declare, tmp_path: Path, model: type[Model]) -> None:
    name, expressions = next((n, e) for n, e in POOLS[model].items() if n == "the_count")
    write_archive()
    rules = declare(timed([(model, [Denormalize(name, expressions[0])])]))
    spoil(model, name)
    path = tmp_path / "drift.json"
    path.write_text(run("verify", model._meta.label, "--json")[1])
    code, printed = run("repair", "--from", str(path))
    assert (code, printed.split()[1:4]) == (0, [str(model._base_manager.count()), "rows", "repaired"])
    assert_rules_hold(rules)
    assert run("repair", "--from", str(path))[1] == "Nothing to repair: what is stored is true.\n"


def test_a_listing_and_some_rules(db: None, sql: Sql) -> None:
    write_authors(sql, 1)
    spoil(Author, "num_books")
    spoil(Author, "pages_total")
    assert repair([COUNT], drifts=verify().drifts).changed == {COUNT: 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a JSON document, or not a whole one"),
        ('{"drifts": [\n    {"rule": "library.Author:num_books", "key": 1},', "not a whole one"),
        ("[]", 'has no list "drifts"'),
        ('{"drifts": 3}', 'has no list "drifts"'),
        (listing({"rule": COUNT}), 'Drift 1 of the listing has no "rule" and "key"'),
        ('{"drifts": [7]}', "Drift 1 of the listing"),
        (listing({"rule": "library.Author:num_bocks", "key": 1}), "Did you mean library.Author:num_books?"),
        (listing({"rule": COUNT, "key": 1}, {"rule": COUNT, "key": "one"}), "'one' for a key of library.Author"),
        (listing({"rule": COUNT, "key": None}), "None for a key"),
        (listing({"rule": COUNT, "key": 1.5}), "1.5 for a key"),
        (listing({"rule": COUNT, "key": True}), "True for a key"),
        (listing({"rule": COUNT, "key": 2**63}), "for a key of library.Author"),
        (listing({"rule": COUNT, "key": [1, 2]}), "for a key of library.Author"),
        (listing({"rule": COUNT, "key": {"id": 1}}), "for a key of library.Author"),
        (listing({"rule": "library.Person:karma", "key": 7.5}), "7.5 for a key of library.Person"),
        (listing({"rule": "library.Person:karma", "key": "no uuid"}), "'no uuid' for a key of library.Person"),
    ],
)
def test_what_is_no_listing(db: None, sql: Sql, tmp_path: Path, text: str, message: str) -> None:
    """Nothing is changed, although other keys of the listing are right."""
    write_authors(sql, 1)
    spoil(Author, "num_books")
    path = tmp_path / "drift.json"
    path.write_text(text)
    with pytest.raises(CommandError) as raised:
        run("repair", "--from", str(path))
    assert message in str(raised.value)
    assert raised.value.returncode == 2
    assert verify().drifted == {COUNT: 1}


@pytest.mark.parametrize("key", [[1], [1, 2, 3], [1, None], ["a", 2], 1])
def test_what_is_no_composite_key(db: None, declare: Declare, key: Any) -> None:
    declare([(Line, [Denormalize("the_count", Count("remarks"))])])
    with pytest.raises(TriggerKitError, match="for a key of archive.Line, which it is not"):
        repair(drifts=[Drift("archive.Line:the_count", key, None, None)])


def test_a_file_that_is_not_there(db: None, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="The listing cannot be read: .*No such file"):
        run("repair", "--from", str(tmp_path / "missing.json"))


# The command --------------------------------------------------------------------------------------------------------


def test_what_is_printed(db: None, sql: Sql) -> None:
    write_authors(sql, 3)
    assert run("repair") == (0, "Nothing to repair: what is stored is true.\n")
    spoil(Author, "num_books", "id > 1")
    assert run("repair")[1].splitlines() == [
        f"{COUNT}: 2 rows repaired",
        "",
        "rule                      key  before  after",
        f"{COUNT}  2    7       0",
        f"{COUNT}  3    7       0",
    ]


def test_the_table_is_bounded_and_json_is_not(db: None, sql: Sql) -> None:
    write_authors(sql, KEPT + 5)
    spoil(Author, "num_books")
    assert len(json.loads(run("repair", "--json", "--dry-run")[1])["changes"]) == KEPT + 5
    printed = run("repair")[1]
    assert printed.endswith(f"… and 5 more of {COUNT}; --json prints all.\n")
    assert len(printed.splitlines()) == KEPT + 4


def test_errors_have_exit_code_2(db: None) -> None:
    with pytest.raises(CommandError, match="There is no rule library.Autor") as raised:
        run("repair", "library.Autor")
    assert raised.value.returncode == 2


@pytest.mark.django_db(transaction=True)
def test_each_batch_is_a_transaction_of_its_own_and_the_result_is_remembered() -> None:
    Author.objects.bulk_create([Author(id=n) for n in range(1, 6)])
    spoil(Author, "num_books")
    verify([COUNT])
    assert last_verification(connection, "public")[COUNT].drifted == 5
    committed: list[int] = []
    other = connection.copy()

    def look(changes: list[Change]) -> None:
        with other.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM library_author WHERE num_books = 0")
            committed.append(cursor.fetchone()[0])

    try:
        repair([COUNT], batch_size=2, on_batch=look)
    finally:
        other.close()
    assert committed == [2, 4, 5]
    last = last_verification(connection, "public")[COUNT]
    assert (last.rows, last.drifted) == (5, 0)
