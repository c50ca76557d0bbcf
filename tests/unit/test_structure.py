"""The rooms of the package: what imports what, what is public, and how long it is."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pgtrigger
import pytest

from tests.unit.check_ids import PACKAGE, REPOSITORY

# The stages of the pipeline, in the order in which a rule goes through them: a module imports its own and earlier ones.
STAGES = (
    ("exceptions", "version", "conf", "notation", "rows", "rules", "expressions", "meta"),
    ("resolve",),
    ("plan",),
    ("sql",),
    ("database",),
    ("migration",),
    ("exact", "maintenance"),
    ("checks",),
    ("testing", "", "apps"),
    ("commands", "management"),
)
STAGE = {room: number for number, stage in enumerate(STAGES) for room in stage}
FILES = sorted(PACKAGE.rglob("*.py"))
MODULES = {
    path: ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").rstrip(".")
    for path in FILES
}
LINES_PER_MODULE = 400


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported_modules(path: Path) -> set[str]:
    """Return the modules of the package that a module imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {_submodule(node.module, alias.name) for alias in node.names}
    ours = {name for name in names if name.partition(".")[0] == "trigger_kit"}
    return {name.removeprefix("trigger_kit").lstrip(".") for name in ours}


def _submodule(module: str, name: str) -> str:
    """Return ``module.name`` where this is a module of the package, else ``module``."""
    inner = f"{module}.{name}".removeprefix("trigger_kit").lstrip(".")
    return f"{module}.{name}" if inner in MODULES.values() else module


def public_definitions(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, ast.AST]]:
    """Yield public functions and classes, and the public methods of the classes."""
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            yield prefix + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from public_definitions(node.body, f"{prefix}{node.name}.")


def exports(path: Path) -> list[str]:
    """Return ``__all__`` as it is written."""
    for node in tree_of(path).body:
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["__all__"]:
            return list(ast.literal_eval(node.value))
    return []


def export_order(name: str) -> tuple[int, str]:
    """Order names as ruff does: constants, classes, functions."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name


def test_imports_point_back_along_the_pipeline() -> None:
    wrong = [
        f"{module or 'trigger_kit'} imports {other}"
        for path, module in MODULES.items()
        for other in imported_modules(path) - {module, module.partition(".")[0]}
        if STAGE[other.partition(".")[0]] > STAGE[module.partition(".")[0]]
    ]
    assert wrong == []


def test_no_two_modules_wait_for_each_other() -> None:
    graph = {module: imported_modules(path) - {module} for path, module in MODULES.items()}
    graph[""] = set()  # the front door opens lazily
    TopologicalSorter(graph).prepare()


def test_exports_are_public_sorted_and_exist() -> None:
    for path, name in MODULES.items():
        names = exports(path)
        module = importlib.import_module(f"trigger_kit.{name}".rstrip("."))
        assert names == sorted(set(names), key=export_order), name
        assert [export for export in names if export.startswith("_") or not hasattr(module, export)] == [], name


def test_everything_public_has_a_docstring() -> None:
    missing = [
        f"{module}: {name}"
        for path, module in MODULES.items()
        for name, node in public_definitions(tree_of(path).body)
        if not ast.get_docstring(node)  # type: ignore[arg-type]
        and not name.endswith(("Command.add_arguments", "Command.handle", ".Meta"))
    ]
    assert missing == []


def test_every_module_says_what_it_is_and_is_not_too_long() -> None:
    for path, module in MODULES.items():
        text = path.read_text(encoding="utf-8")
        assert ast.get_docstring(ast.parse(text)) or not text, module
        assert text.count("\n") <= LINES_PER_MODULE, module


def run(code: str) -> str:
    """Run code in a fresh interpreter without settings and return what it prints."""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=REPOSITORY,
        env={"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.stderr == ""
    return result.stdout.strip()


def test_import_needs_no_settings_and_no_models() -> None:
    code = """
import trigger_kit
from django.apps import apps
from django.conf import settings
print(settings.configured, apps.ready, apps.models_ready)
"""
    assert run(code) == "False False False"


def test_import_loads_the_declaration_only() -> None:
    code = """
import sys, trigger_kit
print(*sorted(name for name in sys.modules if name.startswith("trigger_kit")))
"""
    names = "expressions meta notation rows rules version"
    assert run(code) == " ".join(["trigger_kit", *(f"trigger_kit.{name}" for name in names.split())])


def test_import_loads_no_driver_and_no_models() -> None:
    code = """
import sys, trigger_kit
print(*sorted(set(sys.modules) & {"psycopg", "pgtrigger", "django.contrib.contenttypes.models"}))
"""
    assert run(code) == ""


def test_rules_need_no_settings() -> None:
    code = """
from django.db.models import Count, Q
from trigger_kit import Denormalize
print(repr(Denormalize("n", Count("books", filter=~Q(books__a=1))).clone()))
"""
    assert run(code) == "Denormalize('n', Count(\"books\", filter=~Q(books__a=1)))"


def test_a_mistyped_public_name_is_an_attribute_error() -> None:
    module = importlib.import_module("trigger_kit")
    with pytest.raises(AttributeError):
        module.Denormalise  # noqa: B018


def test_of_django_pgtrigger_only_public_names_are_used() -> None:
    """Its compiler, migrations and registry may change in any version; the words of its DSL are its promise."""
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in PACKAGE.rglob("*.py")}
    nodes = [node for tree in trees.values() for node in ast.walk(tree)]
    imported = [name.name for node in nodes if isinstance(node, ast.Import) for name in node.names]
    imported += [str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)]
    assert not [name for name in imported if name.startswith("pgtrigger.")]
    used = {
        node.attr
        for node in nodes
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "pgtrigger"
    }
    assert used == {
        "After", "Before", "Deferred", "Delete", "Insert", "Level", "Referencing", "Row", "Statement", "Timing",
        "Truncate", "Update", "When",
    }  # fmt: skip
    public = (PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8")
    assert '"django-pgtrigger>=4.15,<5"' in public
    assert all(hasattr(pgtrigger, name) for name in used)


def test_django_pgtrigger_writes_its_words_as_postgresql_reads_them() -> None:
    """What our text of CREATE TRIGGER is made of: another spelling would be another digest, or an error."""
    assert [str(word) for word in (pgtrigger.Row, pgtrigger.Statement)] == ["ROW", "STATEMENT"]
    assert [str(word) for word in (pgtrigger.Before, pgtrigger.After)] == ["BEFORE", "AFTER"]
    assert str(pgtrigger.Insert | pgtrigger.Update | pgtrigger.Delete) == "INSERT OR UPDATE OR DELETE"
    assert (str(pgtrigger.Truncate), str(pgtrigger.Deferred)) == ("TRUNCATE", "DEFERRED")
    both = str(pgtrigger.Referencing(old="old_rows", new="new_rows")).split()
    assert both == ["REFERENCING", "OLD", "TABLE", "AS", "old_rows", "NEW", "TABLE", "AS", "new_rows"]
