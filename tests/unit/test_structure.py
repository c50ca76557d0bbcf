"""The rooms of the package: what imports what, what is public, and how long it is."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.check_ids import PACKAGE, REPOSITORY

# Each module may import those before it.
ORDER = (
    "exceptions",
    "conf",
    "rules",
    "expressions",
    "registry",
    "paths",
    "sources",
    "relations",
    "orders",
    "conversions",
    "determinism",
    "fitting",
    "chains",
    "locks",
    "measures",
    "planner",
    "compiler.text",
    "compiler.template",
    "compiler.dialect",
    "compiler.body",
    "compiler.paths",
    "compiler.pending",
    "compiler.fragments",
    "compiler.updates",
    "compiler.changes",
    "compiler.locks",
    "compiler.notes",
    "compiler.pausing",
    "compiler.additions",
    "compiler.appending",
    "compiler.changed_row",
    "compiler.extrema",
    "compiler.climbing",
    "compiler.one_row",
    "compiler.recursion",
    "compiler.touched",
    "compiler.truncate",
    "compiler.steps",
    "compiler.waiting",
    "compiler.weave",
    "compiler.commit",
    "compiler.queue",
    "compiler.target",
    "compiler.values",
    "compiler",
    "catalog",
    "records",
    "table_locks",
    "own_tables",
    "changeover",
    "scripts",
    "reduction",
    "routing",
    "installation",
    "filling",
    "batches",
    "progress",
    "first_fill",
    "operations",
    "batched",
    "renames",
    "following",
    "migration_locks",
    "branches",
    "cycles",
    "dependencies",
    "meanings",
    "autodetector",
    "schema",
    "exact",
    "maintenance",
    "maintenance.comparison",
    "maintenance.ranges",
    "maintenance.verification",
    "maintenance.listings",
    "maintenance.repair",
    "maintenance.backfill",
    "maintenance.pauses",
    "maintenance.switched",
    "maintenance.long_pauses",
    "maintenance.status",
    "maintenance.switches",
    "maintenance.pruning",
    "maintenance.edits",
    "maintenance.looks",
    "maintenance.blind_spots",
    "flushing",
    "indexes",
    "advice",
    "explanation",
    "graph",
    "checks",
    "database_checks",
    "fill_checks",
    "blind_spot_checks",
    "admin",
    "audit",
    "testing",
    "",
    "apps",
    "commands",
    "commands.arguments",
    "commands.printing",
    "commands.switching",
    "commands.ls",
    "commands.plan",
    "commands.sql",
    "commands.verify",
    "commands.repair",
    "commands.flush",
    "commands.backfill",
    "commands.install",
    "commands.uninstall",
    "commands.enable",
    "commands.disable",
    "commands.prune",
    "commands.pause",
    "commands.resume",
    "management",
    "management.commands",
    "management.commands.trigger_kit",
)
FILES = sorted(PACKAGE.rglob("*.py"))
MODULES = {
    path: ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").rstrip(".")
    for path in FILES
}
LINES_PER_MODULE = 400

each_file = pytest.mark.parametrize("path", FILES, ids=MODULES.values())


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


def test_every_module_has_its_place() -> None:
    assert set(MODULES.values()) - set(ORDER) == set()


@each_file
def test_imports_point_left(path: Path) -> None:
    allowed = set(ORDER[: ORDER.index(MODULES[path])])
    if not MODULES[path]:
        allowed |= {""}
    assert imported_modules(path) - allowed == set()


@each_file
def test_exports_are_sorted_and_exist(path: Path) -> None:
    names = exports(path)
    module = importlib.import_module(f"trigger_kit.{MODULES[path]}".rstrip("."))
    assert names == sorted(set(names), key=export_order)
    assert [name for name in names if not hasattr(module, name)] == []


@each_file
def test_exports_are_public(path: Path) -> None:
    assert [name for name in exports(path) if name.startswith("_")] == []


@each_file
def test_every_module_says_what_it_is(path: Path) -> None:
    tree = tree_of(path)
    assert ast.get_docstring(tree) or not tree.body


@each_file
def test_everything_public_has_a_docstring(path: Path) -> None:
    missing = [
        name
        for name, node in public_definitions(tree_of(path).body)
        if not ast.get_docstring(node)  # type: ignore[arg-type]
        and not name.endswith(("Command.add_arguments", "Command.handle"))
        and not name.endswith(".Meta")
    ]
    assert missing == []


@each_file
def test_no_module_is_too_long(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").count("\n")
    assert lines <= LINES_PER_MODULE


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
    assert run(code) == "trigger_kit trigger_kit.expressions trigger_kit.rules"


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
