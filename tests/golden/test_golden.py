"""The compiled SQL, letter by letter; TRIGGER_KIT_REWRITE_GOLDEN=1 writes it anew."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from django.apps import apps
from django.db.models import Model

from tests.library.models import Author, Port
from trigger_kit.compiler import CompiledTrigger, compile_plan
from trigger_kit.planner import plan_all
from trigger_kit.registry import declared

FOLDER = Path(__file__).parent / "sql"
REWRITE = os.environ.get("TRIGGER_KIT_REWRITE_GOLDEN") == "1"
MODELS = (Author, Port)
TITLES = {
    "fresh": "before rows are inserted",
    "first": "the first value of a new row",
    "fill": "new rows that source rows were waiting for",
    "guard": "somebody else's UPDATE",
    "insert": "source rows arrive",
    "update": "source rows change",
    "delete": "source rows leave",
    "truncate": "all source rows leave",
}


def compiled(model: type[Model]) -> dict[str, CompiledTrigger]:
    """Return the triggers of a model by the word that ends their name."""
    (plan,) = (plan for plan in plan_all(declared(apps)) if plan.model is model)
    return {role_of(trigger): trigger for trigger in compile_plan(plan)}


def role_of(trigger: CompiledTrigger) -> str:
    """Return ``insert`` of ``tk_1_library_author_from_library_book_insert_4f1a2b``."""
    match = re.search(r"_([a-z]+)_[0-9a-f]{6}$", str(trigger.name))
    assert match is not None
    return match[1]


def golden_path(model: type[Model], role: str) -> Path:
    return FOLDER / f"{model._meta.model_name}_{role}.sql"


def golden_text(model: type[Model], role: str, trigger: CompiledTrigger) -> str:
    return f"-- title: {model._meta.label}: {TITLES[role]}\n\n{trigger.text}\n"


@pytest.mark.parametrize("role", TITLES)
@pytest.mark.parametrize("model", MODELS)
def test_compiled_text_is_as_written(model: type[Model], role: str) -> None:
    path, text = golden_path(model, role), golden_text(model, role, compiled(model)[role])
    if REWRITE:
        path.write_text(text, encoding="utf-8", newline="\n")
    assert path.read_bytes().decode() == text


@pytest.mark.parametrize("model", MODELS)
def test_every_trigger_has_a_file(model: type[Model]) -> None:
    assert set(compiled(model)) == set(TITLES)


def test_every_file_has_a_trigger() -> None:
    wanted = {golden_path(model, role).name for model in MODELS for role in compiled(model)}
    assert {path.name for path in FOLDER.iterdir()} - wanted == set()


@pytest.mark.parametrize("model", MODELS)
def test_no_name_is_used_twice(model: type[Model]) -> None:
    names = [trigger.name for plan in plan_all(declared(apps)) for trigger in compile_plan(plan)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("model", MODELS)
def test_compiling_twice_gives_the_same(model: type[Model]) -> None:
    assert compiled(model) == compiled(model)


@pytest.mark.parametrize("model", MODELS)
def test_functions_are_pinned_and_documented(model: type[Model]) -> None:
    for trigger in compiled(model).values():
        assert "\nSECURITY DEFINER\nSET search_path = {:search_path}\nSET row_security = off\n" in trigger.text
        assert "-- Written by trigger_kit." in trigger.text


@pytest.mark.parametrize("model", MODELS)
def test_row_triggers_fire_last(model: type[Model]) -> None:
    for trigger in compiled(model).values():
        is_row_trigger = "\n    FOR EACH ROW\n" in trigger.text
        assert str(trigger.name).startswith("~tk_" if is_row_trigger else "tk_")
