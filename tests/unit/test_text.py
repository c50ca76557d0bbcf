"""The words of the generated SQL: literals, identifiers, placeholders, names."""

from __future__ import annotations

import datetime
import re
import uuid
from decimal import Decimal
from typing import Any

import pytest
from django.db import models
from hypothesis import given
from hypothesis import strategies as st

from trigger_kit.sql.text import (
    SCHEMA,
    block,
    digest,
    escape_braces,
    fill_placeholders,
    literal,
    object_name,
    quote,
    short_digest,
    table_placeholder,
)

UTC = datetime.UTC
TEXT = st.text(alphabet=st.one_of(st.sampled_from("{}ab "), st.characters()))
NAMES = st.text(alphabet=st.one_of(st.sampled_from("{}a."), st.characters()), min_size=1)


class Color(models.TextChoices):
    RED = "r'd"


class Size(models.IntegerChoices):
    LARGE = 3


@pytest.mark.parametrize(
    ("value", "sql"),
    [
        (None, "NULL"),
        (True, "true"),
        (False, "false"),
        (0, "0"),
        (-7, "-7"),
        (2**70, str(2**70)),
        (1.5, "1.5"),
        (float("nan"), "'NaN'::float8"),
        (float("-inf"), "'-Infinity'::float8"),
        (Decimal("1.50"), "1.50"),
        (Decimal("-0.004"), "-0.004"),
        (Decimal("NaN"), "'NaN'::numeric"),
        (uuid.UUID(int=1), "'00000000000000000000000000000001'::uuid"),
        (datetime.date(2020, 1, 2), "'2020-01-02'::date"),
        (datetime.time(1, 2), "'01:02:00'::time"),
        (datetime.datetime(2020, 1, 2, 3), "'2020-01-02 03:00:00'::timestamp"),
        (datetime.datetime(2020, 1, 2, 3, tzinfo=UTC), "'2020-01-02 03:00:00+00:00'::timestamptz"),
        (datetime.timedelta(days=1, seconds=2), "'1 day 0:00:02'::interval"),
        (Color.RED, "'r''d'"),
        (Size.LARGE, "3"),
        ([1, 2], "ARRAY[1, 2]"),
        ([], "'{}'"),
    ],
)
def test_literal_of_a_type(value: Any, sql: str) -> None:
    assert literal(value) == sql


@pytest.mark.parametrize(
    ("value", "sql"),
    [
        ("", "''"),
        ("plain", "'plain'"),
        (" spaces ", "' spaces '"),
        ("it's", "'it''s'"),
        ('say "hi"', "'say \"hi\"'"),
        ("100%s {x}", "'100%s {x}'"),
        ("ümlaut 漢字 🙂", "'ümlaut 漢字 🙂'"),
        ("back\\slash", "E'back\\\\slash'"),
        ("a\\'b", "E'a\\\\''b'"),
        ("two\nlines", "E'two\\u000alines'"),
        ("\r\n\t", "E'\\u000d\\u000a\\u0009'"),
        ("\x0b\x85\u2028", "E'\\u000b\\u0085\\u2028'"),
    ],
)
def test_literal_of_text(value: str, sql: str) -> None:
    assert literal(value) == sql


def test_literal_of_bytes_escapes_them() -> None:
    assert literal(b"\x00'\\\n").endswith("::bytea")
    assert "\n" not in literal(b"\x00'\\\n")


def test_literal_of_a_list_stays_on_one_line() -> None:
    assert "\n" not in literal(["two\nlines"])


def test_literal_refuses_nul() -> None:
    with pytest.raises(ValueError, match="NUL"):
        literal("a\x00b")


@given(st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"])))
def test_literal_of_text_is_one_line_and_reads_back(value: str) -> None:
    text = literal(value)
    assert len(text.splitlines()) == 1
    assert _read_literal(text) == value


def _read_literal(text: str) -> str:
    """Read a PostgreSQL string literal as the server does."""
    escaped = text.startswith("E")
    body = text[2 if escaped else 1 : -1].replace("''", "'")
    if not escaped:
        return body
    return re.sub(r"\\(?:u([0-9a-f]{4})|(.))", lambda m: chr(int(m[1], 16)) if m[1] else m[2], body)


@pytest.mark.parametrize(
    ("name", "sql"),
    [("order", '"order"'), ('a"b', '"a""b"'), ("Port {x}", '"Port {{x}}"'), ("ü", '"ü"')],
)
def test_quote_is_safe_inside_compiled_text(name: str, sql: str) -> None:
    assert quote(name) == sql


@given(TEXT)
def test_escaped_braces_round_trip(text: str) -> None:
    assert fill_placeholders(escape_braces(text), _refuse) == text


@given(TEXT, NAMES, TEXT)
def test_placeholders_are_found_between_any_text(before: str, name: str, after: str) -> None:
    found: list[str] = []
    text = f"{escape_braces(before)} {table_placeholder(name)} {escape_braces(after)}"
    filled = fill_placeholders(text, lambda placeholder: found.append(placeholder) or "T")  # type: ignore[func-returns-value]
    assert (filled, found) == (f"{before} T {after}", [name])


@pytest.mark.parametrize("name", ["library_author", "Port of call {x}", "a}", "a{", "}a", "a b", ":x"])
def test_table_placeholder_gives_its_name_back(name: str) -> None:
    assert fill_placeholders(table_placeholder(name), lambda placeholder: f"<{placeholder}>") == f"<{name}>"


@pytest.mark.parametrize("name", ["{x}", "{", "{{a"])
def test_table_placeholder_of_a_name_that_starts_with_a_brace(name: str) -> None:
    assert fill_placeholders(table_placeholder(name), lambda placeholder: f"<{placeholder}>") == f"<{name}>"


def test_schema_placeholder_is_filled() -> None:
    assert fill_placeholders(f'{{{SCHEMA}}}."f"', {SCHEMA: '"public"'}.__getitem__) == '"public"."f"'


def _refuse(placeholder: str) -> str:
    raise AssertionError(f"{placeholder!r} is no placeholder")


@given(st.text(), st.text())
def test_object_name_fits_postgresql(target: str, source: str) -> None:
    name = object_name("tk_", (target, "from", source), (target, source))
    assert len(name.encode()) <= 63
    assert re.fullmatch(r"tk_[a-z0-9_]+", name)


def test_object_name_is_readable() -> None:
    name = object_name("tk_", ("library_author", "from", "library_book", "insert"), ("x",))
    assert name == f"tk_library_author_from_library_book_insert_{short_digest('x')}"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Book", "book"),
        ("my table", "my_table"),
        ("tä", "tö"),
        ("t" * 80, "t" * 81),
        ("a" * 63 + "x", "a" * 63 + "y"),
    ],
)
def test_object_names_of_lookalikes_differ(one: str, other: str) -> None:
    assert object_name("tk_", (one,), (one,)) != object_name("tk_", (other,), (other,))


def test_identity_tells_names_of_equal_words_apart() -> None:
    assert object_name("tk_", ("book",), ("book", "a")) != object_name("tk_", ("book",), ("book", "b"))


def test_identity_keeps_its_parts_apart() -> None:
    assert short_digest("ab", "c") != short_digest("a", "bc")


def test_object_name_is_stable() -> None:
    assert object_name("tk_", ("book",), ("book",)) == "tk_book_92719f"


def test_digest_is_40_hexadecimal_digits() -> None:
    assert re.fullmatch(r"[0-9a-f]{40}", digest("ü"))
    assert digest("a") != digest("b")


def test_block_indents_every_line_but_empty_ones() -> None:
    assert block("a\n\n  b", 2) == "        a\n\n          b"
