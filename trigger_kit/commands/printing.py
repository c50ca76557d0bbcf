"""What subcommands print: documents, tables, values."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["NO_RULES", "JsonListing", "json_text", "table_text", "value_text"]

NO_RULES = "No rules are declared. Add Meta.denormalizations to a model."


def json_text(value: Any) -> str:
    """Return a JSON document; what JSON does not know is written as text."""
    return json.dumps(value, indent=2, default=str)


class JsonListing:
    """A JSON document that is written while a list in it, its first entry, grows: an item per line.

    Where it is not finished, the document does not end, so that nobody takes it for the whole. ``out`` is one of
    Django's output wrappers.
    """

    def __init__(self, out: Any, name: str) -> None:
        self.out = out
        self.separator = "\n"
        self.out.write(f"{{\n  {json.dumps(name)}: [", ending="")

    def add(self, item: Mapping[str, Any]) -> None:
        """Write an item of the list."""
        text = json.dumps({name: _finite(value) for name, value in item.items()}, default=str)
        self.out.write(f"{self.separator}    {text}", ending="")
        self.separator = ",\n"

    def finish(self, rest: Mapping[str, Any]) -> None:
        """End the list, and write the other entries."""
        end = "]" if self.separator == "\n" else "\n  ]"
        self.out.write(f"{end},{json.dumps(rest, indent=2).removeprefix('{')}")


def _finite(value: Any) -> Any:
    """Return a value as it is, or as text where it is a number that JSON does not know."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def value_text(value: Any) -> str:
    """Return a value as people read it."""
    if value is None:
        return "NULL"
    return "(" + ", ".join(map(str, value)) + ")" if isinstance(value, tuple) else str(value)


def table_text(rows: Sequence[Sequence[str]]) -> str:
    """Return rows in aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
