"""What the catalog says of our functions, for the rules of the grammar and those of the golden files."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection, transaction

from tests.archive.keeping import Rules, timed
from tests.archive.rules import POOLS
from tests.golden.test_golden import CASES
from trigger_kit import Denormalize, Timing
from trigger_kit.database.changes import Change
from trigger_kit.database.converge import converge
from trigger_kit.database.wanted import Wanted
from trigger_kit.plan.live import live_plans
from trigger_kit.plan.plan import Plan, plan, plan_all
from trigger_kit.sql.compilation import compile_plan
from trigger_kit.sql.owners import Belongings
from trigger_kit.sql.shared import CREATE_OWN_TABLES, SHARED_NAMES, SHARED_TABLES
from trigger_kit.sql.text import table_placeholder

Sql = Callable[..., list[tuple[Any, ...]]]

FUNCTIONS = """
SELECT proname, prosecdef, prorettype = 'trigger'::regtype, proowner::regrole::text,
       coalesce((SELECT setting FROM unnest(proconfig) AS setting WHERE setting LIKE 'search_path=%'), ''),
       (SELECT array_agg(DISTINCT CASE WHEN grantee = 0 THEN 'PUBLIC' ELSE grantee::regrole::text END)
        FROM aclexplode(coalesce(proacl, acldefault('f', proowner))) WHERE grantee <> proowner)
FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND proname ~ '^~?tk_'
"""
PINNED = "search_path=pg_catalog, public, pg_temp"
# Rows that are locked, and tables that are written, as generated SQL says it.
LOCKED = re.compile(
    r"FROM (?P<table>\{[^{}:]+\}) AS (?P<alias>\w+)\n(?:(?!;).)*?\nFOR (?:NO KEY UPDATE|KEY SHARE|SHARE|UPDATE)\b",
    re.DOTALL,
)
WRITTEN = re.compile(r"^\s*UPDATE (?P<table>\{[^{}:]+\})", re.MULTILINE)
SEEDS = range(3)


def rules_of_the_grammar(seed: int) -> Rules:
    """Return rules of every model, some for each of its columns, of mixed timings."""
    dice = random.Random(seed)
    return timed(
        [
            (
                model,
                [
                    Denormalize(column, dice.choice(expressions), timing=dice.choice(list(Timing)))
                    for column, expressions in pool.items()
                    if dice.random() < 0.6
                ],
            )
            for model, pool in POOLS.items()
        ]
    )


@pytest.fixture
def hands_over(sql: Sql) -> Iterator[None]:
    """All tables of the models belong to app, and default privileges grant what they can."""
    with transaction.atomic():
        sql(
            "CREATE ROLE app; CREATE ROLE friend; ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO friend, PUBLIC"
        )
        for (table,) in sql(
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
        ):
            if not table.startswith("tk_"):
                sql(f"ALTER TABLE {connection.ops.quote_name(table)} OWNER TO app")
        yield
        transaction.set_rollback(True)


def assert_as_it_should_be(sql: Sql, plans: list[Plan]) -> None:
    own = {name for item in plans for name in Belongings(item).functions}
    found = [row for row in sql(FUNCTIONS) if row[0] in own or row[0] in SHARED_NAMES]
    others = {name for item in live_plans("default") for name in Belongings(item).functions}
    assert {name for name, *_ in sql(FUNCTIONS)} <= own | others | set(SHARED_NAMES)
    assert {item.name for plan in plans for item in compile_plan(plan)} <= {name for name, *_ in found}
    for name, is_definer, is_trigger, owner, path, granted in found:
        kind = name.split("_")[1]
        if name in SHARED_NAMES:
            assert (owner, path) in {("postgres", ""), ("postgres", "search_path=pg_catalog, pg_temp")}, name
            assert set(granted or ()) <= ({"app"} if not is_trigger else set()), name
        else:
            assert (owner, granted) == ("app", None), name
            assert path == (PINNED if is_definer else ""), name
        # Who flushes need have no right on the target: that one alone is called by people.
        assert is_definer == (is_trigger or kind == "flush"), name


@pytest.mark.parametrize("seed", SEEDS)
def test_the_rules_of_the_grammar(hands_over: None, sql: Sql, seed: int) -> None:
    plans = plan_all(rules_of_the_grammar(seed))
    for item in plans:
        converge(connection, [Change(after=Wanted(item))])
    assert_as_it_should_be(sql, plans)
    left = {name for name, *_, owner, _, _ in sql(FUNCTIONS) if owner != "app" and "archive" in name}
    assert left == set()


@pytest.mark.parametrize("case", CASES)
def test_the_golden_cases(hands_over: None, sql: Sql, case: str) -> None:
    item = plan(*CASES[case])
    converge(connection, [Change(after=Wanted(item))])
    assert_as_it_should_be(sql, [item])


def test_all_that_a_schema_shares_is_known() -> None:
    """By these names, who owns it is looked at, and rights are given and taken."""
    assert set(re.findall(r'FUNCTION \{:schema\}\."(\w+)"', CREATE_OWN_TABLES)) == set(SHARED_NAMES)
    assert set(re.findall(r'TABLE IF NOT EXISTS \{:schema\}\."(\w+)"', CREATE_OWN_TABLES)) == set(SHARED_TABLES)


def plans_of_all() -> list[Plan]:
    grammar = [item for seed in SEEDS for item in plan_all(rules_of_the_grammar(seed))]
    return [*grammar, *(plan(*case) for case in CASES.values())]


def test_the_rights_that_an_owner_must_have_are_those_that_the_functions_need() -> None:
    """What a function reads, locks or writes is in the lists that an installation asks the catalog about."""
    seen = 0
    for item in plans_of_all():
        belongings = Belongings(item)
        text = "\n".join(trigger.text for trigger in compile_plan(item))
        known = set(map(table_placeholder, belongings.locked))
        locked = {found["table"] for pattern in (LOCKED, WRITTEN) for found in pattern.finditer(text)}
        seen += len(locked)
        assert locked <= known, item
        named = set(re.findall(r"(?:FROM|JOIN|UPDATE|INTO) (\{[^{}:]+\})", text))
        assert named <= set(map(table_placeholder, belongings.read)), item
    assert seen > 30
