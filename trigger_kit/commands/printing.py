"""What subcommands print: documents, tables, values."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

__all__ = ["NO_RULES", "json_text", "table_text", "value_text"]

NO_RULES = "No rules are declared. Add Meta.denormalizations to a model."


def json_text(value: Any) -> str:
    """Return a JSON document; what JSON does not know is written as text."""
    return json.dumps(value, indent=2, default=str)


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
