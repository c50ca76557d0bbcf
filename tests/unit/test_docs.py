"""The documentation says what the code does."""

from __future__ import annotations

import re

from dev import dba_page, house
from tests.unit.check_ids import REPOSITORY, ids_in_code

PAGE = REPOSITORY / "docs" / "checks.md"


def documented_rows() -> list[list[str]]:
    """Return the cells of every table row that begins with a check id."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines if line.startswith("|")]
    return [row for row in rows if re.fullmatch(r"`trigger_kit\.[EW]\d{3}`", row[0])]


def documented_ids() -> list[str]:
    return [row[0].strip("`").removeprefix("trigger_kit.") for row in documented_rows()]


def test_every_check_is_documented() -> None:
    assert ids_in_code() - set(documented_ids()) == set()


def test_every_documented_check_exists() -> None:
    assert set(documented_ids()) - ids_in_code() == set()


def test_checks_are_documented_once_and_in_order() -> None:
    ids = documented_ids()
    assert ids == sorted(set(ids))


def test_every_row_says_what_why_and_the_way_out() -> None:
    assert [row for row in documented_rows() if len(row) != 4 or not all(row)] == []


def test_the_page_for_dbas_prints_the_functions_as_they_are() -> None:
    text = dba_page.PAGE.read_text(encoding="utf-8")
    assert text.count("CREATE OR REPLACE FUNCTION") == 5
    assert text == dba_page.with_functions(text), "run python -m dev.dba_page"


def test_the_house_is_drawn_as_it_is() -> None:
    assert house.PICTURE.read_text(encoding="utf-8") == house.picture(), "run make house"
