"""Reads migration files: their operations, one string each, and their dependencies."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["dependencies", "operations"]


def operations(file: Path) -> list[str]:
    """Return what a migration does: ``AddRule author.num_books``."""
    return [_describe(call) for call in _items(file, "operations")]


def dependencies(file: Path) -> list[tuple[str, str]]:
    """Return the migrations that a migration depends on; a swappable one is ``("swappable", "")``."""
    found = _items(file, "dependencies")
    return [ast.literal_eval(item) if isinstance(item, ast.Tuple) else ("swappable", "") for item in found]


def _items(file: Path, name: str) -> Iterator[Any]:
    (migration,) = (node for node in ast.parse(file.read_text()).body if isinstance(node, ast.ClassDef))
    for node in migration.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == name:
            assert isinstance(node.value, ast.List)
            yield from node.value.elts


def _describe(call: ast.Call) -> str:
    assert isinstance(call.func, ast.Attribute)
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    words = [_text(given.get(name)) for name in ("model_name", "name", "old_name", "new_name", "field")]
    if isinstance(rule := given.get("rule"), ast.Call):
        words.append(_text(rule.args[0]))
    if call.func.attr == "BackfillRule" and isinstance(fields := given["fields"], ast.List):
        words.append(",".join(map(_text, fields.elts)))
    return f"{call.func.attr} {'.'.join(word for word in words if word)}"


def _text(node: Any) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
