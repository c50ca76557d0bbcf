"""How long functions may be: what a DBA has to read, counted as ``\\sf`` shows it, so that none grows unseen.

A function of an edge whose rules are kept by differences over one hop has a budget, and more for each further column
(a sum that is NULL over no rows is two: it counts its rows as well). What reads along paths, compares extrema, waits,
copies or climbs a tree has as many lines as it has now: whoever needs more says so here.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from django.db.models import Count

from tests.golden.test_golden import CASES, compiled
from tests.library.models import Author
from trigger_kit import Denormalize
from trigger_kit.plan.plan import plan
from trigger_kit.sql.compilation import compile_plan
from trigger_kit.sql.function import Function

FORUM = Path(__file__).parents[2] / "migrations_examples" / "forum"
# Lines for one column, and for each further one.
BUDGETS = {
    "insert": (40, 8),
    "delete": (41, 9),
    "update": (55, 20),
    "apply": (32, 5),
    "lock": (25, 2),
    "recompute": (26, 2),
    "hold": (14, 0),
    "truncate": (18, 4),
    "settle": (22, 0),
    "guard": (15, 3),
    "fill": (14, 0),
    "moved": (8, 0),
    "first": (9, 1),
    "fresh": (7, 0),
}
BY_DIFFERENCES = ("author", "average", "generic")
# Of all others: case and role, with the lines of the longest.
OTHERS = Path(__file__).parent / "budgets.json"
COUNT_OF_FORUM = """
import django
django.setup()
from trigger_kit.plan.live import live_plans
from trigger_kit.sql.compilation import compile_plan
functions = [f for plan in live_plans() for trigger in compile_plan(plan) for f in trigger.functions]
print(sum(f.body.count(chr(10)) + 1 for f in functions))
"""


def lines(function: Function) -> int:
    return function.body.count("\n") + 1


def role(function: Function) -> str:
    """Return what a function is for: ``update`` of ``tk_library_author_from_library_book_update_16f884``."""
    found = re.search(r"_([a-z]+)(?:_[0-9a-f]{6})?$", function.name)
    known = re.findall(rf"_({'|'.join([*BUDGETS, 'commit', 'purge', 'over'])})(?=_)", function.name + "_")
    return str(known[-1]) if known else str(found[1] if found else function.name)


def functions(case: str) -> list[Function]:
    return [function for trigger in compiled(case).values() for function in trigger.functions]


def columns(case: str) -> int:
    """Return how many columns the rules of a case keep; one that is NULL over no rows counts its rows as well."""
    model, rules = CASES[case]
    kept_columns = plan(model, rules).kept_columns
    return len(kept_columns) + sum(kept.null_when_empty for kept in kept_columns)


@pytest.mark.parametrize("case", BY_DIFFERENCES)
def test_functions_that_add_differences_are_short(case: str) -> None:
    further = columns(case) - 1
    too_long = {
        function.name: lines(function)
        for function in functions(case)
        for base, more in [BUDGETS[role(function)]]
        if lines(function) > base + more * further
    }
    assert not too_long


@pytest.mark.parametrize("case", [case for case in CASES if case not in BY_DIFFERENCES])
def test_no_other_function_grows_unseen(case: str) -> None:
    longest: dict[str, int] = {}
    for function in functions(case):
        longest[role(function)] = max(lines(function), longest.get(role(function), 0))
    if os.environ.get("TRIGGER_KIT_REWRITE_GOLDEN") == "1":
        written = {**json.loads(OTHERS.read_text()), case: longest}
        OTHERS.write_text(json.dumps(written, indent=1, sort_keys=True) + "\n")
    assert json.loads(OTHERS.read_text())[case] == longest


def test_one_count_is_read_in_a_few_minutes() -> None:
    found = [
        function
        for trigger in compile_plan(plan(Author, [Denormalize("num_books", Count("books"))]))
        for function in trigger.functions
    ]
    assert sum(map(lines, found)) <= 270


def test_the_forum_with_its_24_rules() -> None:
    """Half of it is paths over a user's table; they have been 10,000 lines."""
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "settings", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", COUNT_OF_FORUM]
    printed = subprocess.run(command, cwd=FORUM, env=environment, capture_output=True, text=True, check=True)
    assert int(printed.stdout) <= 4_200
