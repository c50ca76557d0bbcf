"""The compiled SQL, letter by letter; TRIGGER_KIT_REWRITE_GOLDEN=1 writes it anew."""

from __future__ import annotations

import os
import re
from functools import cache
from pathlib import Path

import pytest
from django.contrib.postgres.aggregates import ArrayAgg
from django.db.models import Avg, Count, F, Max, Min, Model, Q, Sum, Value
from django.db.models.functions import Concat

from tests.archive.models import Node, Publisher, Work
from tests.library.models import Author, Port
from trigger_kit import Denormalize, Exists, First, Timing
from trigger_kit.plan.plan import plan
from trigger_kit.resolve.declared import rules_of
from trigger_kit.sql.compilation import compile_plan
from trigger_kit.sql.trigger import CompiledTrigger

FOLDER = Path(__file__).parent / "sql"
REWRITE = os.environ.get("TRIGGER_KIT_REWRITE_GOLDEN") == "1"
CASES: dict[str, tuple[type[Model], list[Denormalize]]] = {
    "author": (Author, rules_of(Author)),
    "port": (Port, rules_of(Port)),
    "average": (
        Publisher,
        [
            Denormalize("kept_amount", Avg("works__pages")),
            Denormalize("kept_number", Sum("works__pages")),
            Denormalize("the_count", Count("works__pages")),
        ],
    ),
    "copy": (Work, [Denormalize("the_label", Concat("title", Value(", "), "publisher__country__name"))]),
    "extremum": (
        Publisher,
        [
            Denormalize("kept_day", Max("works__day")),
            Denormalize("kept_amount", Min("works__price", filter=Q(works__published=True))),
        ],
    ),
    "generic": (Work, [Denormalize("the_total", Sum("notes__weight", default=0))]),
    "many_to_many": (Work, [Denormalize("the_count", Count("tags", filter=Q(tags__active=True)))]),
    "path": (Publisher, [Denormalize("the_total", Sum("works__reviews__stars", default=0))]),
    "recompute": (
        Publisher,
        [
            Denormalize("the_flag", Exists("works", filter=Q(works__published=True))),
            Denormalize("kept_text", First("works__title", order_by="-works__day")),
            Denormalize("kept_list", ArrayAgg("works__title", order_by=("works__title", "works__id"))),
        ],
    ),
    "deferred": (
        Publisher,
        [
            Denormalize("the_count", Count("works"), timing=Timing.DEFERRED),
            Denormalize("kept_number", Sum("works__pages"), timing=Timing.DEFERRED),
            Denormalize("kept_day", Max("works__day"), timing=Timing.DEFERRED),
        ],
    ),
    "queued": (
        Work,
        [
            Denormalize("the_count", Count("reviews", filter=Q(reviews__stars__gt=3)), timing=Timing.QUEUED),
            Denormalize("the_total", Sum("reviews__stars", default=0), timing=Timing.QUEUED),
        ],
    ),
    "recursion": (Node, [Denormalize("the_total", F("own") + Sum("children__the_total", default=0))]),
}


@cache
def compiled(case: str) -> dict[str, CompiledTrigger]:
    """Return the triggers of a case by file name: ``author_from_library_book_insert.sql``."""
    model, rules = CASES[case]
    return {file_name(case, trigger): trigger for trigger in compile_plan(plan(model, rules))}


def file_name(case: str, trigger: CompiledTrigger) -> str:
    """Return ``author_from_book_insert.sql`` of ``tk_library_author_from_library_book_insert_4f1a2b``."""
    table = re.sub("[^a-z0-9]+", "_", trigger.owner.lower())
    words = re.sub(f"^~?tk_{re.escape(table)}_|_[0-9a-f]{{6}}$", "", trigger.name)
    return f"{case}_{words.replace('library_', '').replace('archive_', '')}.sql"


def golden_text(case: str, trigger: CompiledTrigger) -> str:
    return f"-- title: {case}: {trigger.text.partition('-- ')[2].partition(chr(10))[0]}\n\n{trigger.text}\n"


EVERY = pytest.mark.parametrize(("case", "name"), [(case, name) for case in CASES for name in compiled(case)])
EACH = pytest.mark.parametrize("case", CASES)


@EVERY
def test_compiled_text_is_as_written(case: str, name: str) -> None:
    path, text = FOLDER / name, golden_text(case, compiled(case)[name])
    if REWRITE:
        path.write_text(text, encoding="utf-8", newline="\n")
    assert path.read_bytes().decode() == text


def test_every_file_has_a_trigger() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {name for case in CASES for name in compiled(case)}


@EACH
def test_compiling_twice_gives_the_same(case: str) -> None:
    model, rules = CASES[case]
    assert list(compile_plan(plan(model, rules))) == list(compiled(case).values())


def test_no_name_is_used_twice() -> None:
    for case in CASES:
        names = [trigger.name for trigger in compiled(case).values()]
        assert len(names) == len(set(names))


@EVERY
def test_functions_are_pinned_and_documented(case: str, name: str) -> None:
    text = compiled(case)[name].text
    assert "\nSECURITY DEFINER\nSET search_path = {:search_path}\nSET row_security = off\n" in text
    assert "-- Written by trigger_kit for " in text


@EVERY
def test_row_triggers_before_a_write_fire_last(case: str, name: str) -> None:
    trigger = compiled(case)[name]
    comes_before = "\n    FOR EACH ROW\n" in trigger.text and "\n    BEFORE " in trigger.text
    assert trigger.name.startswith("~tk_" if comes_before else "tk_")
