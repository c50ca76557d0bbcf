"""The words of the generated SQL: identifiers, literals, names of objects, indented blocks.

Compiled text does not know the schema that it will be installed in, so it names tables by placeholder:
``{library_author}`` stands for the table of that name under the search_path, ``{:regclass library_author}`` for its
oid, ``{:schema}`` for the schema of the target, ``{:schema_tag}`` for six digits that stand for its name in that of a
setting, ``{:search_path}`` for the path that functions pin, and ``{:trigger}`` for a trigger's own name. Braces of the
text itself are doubled, as in ``str.format``; those of a table's name, and %, are percent-encoded.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import unquote

from psycopg import sql

__all__ = [
    "CHECK_NOW",
    "REGCLASS",
    "SCHEMA",
    "SCHEMA_TAG",
    "SEARCH_PATH",
    "TRIGGER",
    "advisory_number",
    "all_of",
    "block",
    "closed",
    "digest",
    "fill",
    "fill_placeholders",
    "identifier",
    "if_then",
    "literal",
    "object_name",
    "on_lines",
    "plain_name",
    "quote",
    "regclass_placeholder",
    "select",
    "short_digest",
    "table_placeholder",
    "text_literal",
    "with_tag",
]

SCHEMA = ":schema"
SEARCH_PATH = ":search_path"
SCHEMA_TAG = ":schema_tag"
TRIGGER = ":trigger"
REGCLASS = ":regclass "
MAX_NAME_BYTES = 63
MAX_LINE = 118
# A row that is written twice in a transaction has its deferred foreign keys checked at the end, and until then its
# table cannot be changed: the checks are brought forward.
CHECK_NOW = "SET CONSTRAINTS ALL IMMEDIATE;\nSET CONSTRAINTS ALL DEFERRED;"

_PLACEHOLDER = re.compile(r"\{\{|\}\}|\{([^{}]+)\}")
# The start of a line that says something; textwrap.indent takes ten times as long.
_LINE = re.compile(r"^(?=[^\n]*\S)", re.MULTILINE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def identifier(name: str) -> str:
    """Return a quoted identifier."""
    return '"' + name.replace('"', '""') + '"'


def quote(name: str) -> str:
    """Return a quoted identifier, safe inside compiled text."""
    return escape_braces(identifier(name))


def escape_braces(text: str) -> str:
    """Double the braces of text that is no placeholder."""
    return text.replace("{", "{{").replace("}", "}}")


def table_placeholder(table: str) -> str:
    """Return the placeholder of a table, named by Django's ``db_table``."""
    name = table.replace("%", "%25").replace("{", "%7B").replace("}", "%7D")
    return "{" + name + "}"


def regclass_placeholder(table: str) -> str:
    """Return the placeholder of a table as a value of type regclass."""
    return table_placeholder(table).replace("{", "{" + REGCLASS, 1)


def fill_placeholders(text: str, resolve: Callable[[str], str]) -> str:
    """Replace each placeholder by ``resolve(name)`` and undouble the braces."""

    def replacement(match: re.Match[str]) -> str:
        if match[1] is None:
            return match[0][0]
        return resolve(unquote(match[1]))

    return _PLACEHOLDER.sub(replacement, text)


def literal(value: Any) -> str:
    """Return a Python value as an SQL literal on one line, without a connection."""
    if isinstance(value, str) and (_CONTROL.search(value) or "\\" in value):
        if "\x00" in value:
            raise ValueError("PostgreSQL text cannot contain a NUL character.")
        escaped = value.replace("\\", "\\\\").replace("'", "''")
        return "E'" + _CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", escaped) + "'"
    if isinstance(value, (list, tuple)):
        return f"ARRAY[{', '.join(map(literal, value))}]" if value else "'{}'"
    return sql.Literal(value).as_string(None).strip()


def text_literal(text: str) -> str:
    """Return a string literal for compiled text."""
    return escape_braces(literal(text))


def digest(text: str) -> str:
    """Return the hash that tells one text from another; it stands in the trigger's COMMENT."""
    return hashlib.sha256(text.encode()).hexdigest()[:40]


def short_digest(*parts: str) -> str:
    """Return six hexadecimal digits that keep apart names that would look alike."""
    return hashlib.sha256("\x00".join(parts).encode()).hexdigest()[:6]


def advisory_number(*parts: str) -> int:
    """Return the key of an advisory lock."""
    name = " ".join(("trigger_kit", *parts))
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)


def object_name(prefix: str, words: Iterable[str], identity: Iterable[str]) -> str:
    """Return a lower-case name of at most 63 bytes: prefix, readable words, and a digest of the identity."""
    readable = "_".join(re.sub(r"[^a-z0-9]+", "_", word.lower()).strip("_") for word in words)
    suffix = "_" + short_digest(*identity)
    return prefix + readable[: MAX_NAME_BYTES - len(prefix) - len(suffix)] + suffix


def with_tag(name: str, tag: str) -> str:
    """Return an object's name with a tag behind it, in 63 bytes; what tells names apart is at their end, and stays."""
    end = f"{name[-7:]}_{tag}"
    return name[:-7][: MAX_NAME_BYTES - len(end)] + end


def plain_name(prefix: str, table: str) -> str:
    """Return the name of an object that people type: prefix and table, and a digest only where these do not do."""
    name = prefix + table
    is_plain = re.fullmatch(r"[a-z0-9_]+", table) and len(name) <= MAX_NAME_BYTES
    return name if is_plain else object_name(prefix, (table,), (table,))


def if_then(condition: str, statements: str) -> str:
    """Return an IF; what fits on a line stands on one."""
    line = f"IF {condition} THEN {statements} END IF;"
    if "\n" in line or len(line) > MAX_LINE:
        return f"IF {condition} THEN\n{block(statements)}\nEND IF;"
    return line


def fill(items: Iterable[str]) -> str:
    """Return a list of items, as many on a line as fit."""
    lines = [""]
    for item in items:
        if lines[-1] and len(lines[-1]) + len(item) > MAX_LINE:
            lines.append("")
        lines[-1] += f"{', ' if lines[-1] else ''}{item}"
    return ",\n".join(lines)


def on_lines(*parts: str) -> str:
    """Return the parts of a statement on one line where they fit, else on a line each."""
    line = " ".join(parts)
    return line if "\n" not in line and len(line) <= MAX_LINE else "\n".join(parts)


def closed(*parts: str) -> str:
    """Return the parts of a query in parentheses, on one line where they fit."""
    line = f"({' '.join(parts)})"
    return line if "\n" not in line and len(line) <= MAX_LINE else f"(\n{block(on_lines(*parts))}\n)"


def select(values: Iterable[str], *clauses: str) -> str:
    """Return a SELECT of some values; what fits on a line stands on one."""
    found = list(values)
    line = on_lines(f"SELECT {', '.join(found)}".rstrip(), *clauses)
    if len(found) < 2 or "\n" not in line:
        return line
    return "\n".join([f"SELECT\n{block((',' + chr(10)).join(found))}", *clauses])


def all_of(conditions: Iterable[str]) -> str:
    """Return the conjunction of conditions; what does not fit on a line stands on more."""
    found = list(conditions)
    line = " AND ".join(found)
    return line if len(line) <= MAX_LINE else "\n   AND ".join(found)


def block(text: str, levels: int = 1) -> str:
    """Indent text by levels of four spaces; a line of nothing stays so."""
    return _LINE.sub("    " * levels, text)
