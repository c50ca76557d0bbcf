"""plpgsql_check, an extension that reads PL/pgSQL as a compiler would, finds nothing in any compiled function.

PostgreSQL itself looks at a statement of a function when it runs for the first time. Debian has the extension as
``postgresql-15-plpgsql-check``; with it, TRIGGER_KIT_DATABASE_URL=/usr/lib/postgresql/15/bin runs this test.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db.models import Model

from tests.archive.keeping import keep, timed
from tests.archive.rules import POOLS, Pool
from trigger_kit import Denormalize, Timing

Sql = Callable[..., list[tuple[Any, ...]]]

# A trigger's function is read together with its table and the names of its transition tables.
# What is meant: assigning tk_depth or tk_plans calls set_config() without a query, variables are named as columns are
# (quoted, and qualified by the label of their block).
MEANT = (
    '^never read variable "tk_(depth|plans)"$'
    '|^name of variable "order" is reserved keyword$'
    '|^variable ".*" shadows a previously defined variable$'
)
COMPLAINTS = f"""
SELECT function.proname, complaint.level, complaint.message
FROM pg_trigger AS trigger
JOIN pg_proc AS function ON function.oid = trigger.tgfoid
CROSS JOIN LATERAL plpgsql_check_function_tb(
    funcoid => function.oid,
    relid => trigger.tgrelid,
    oldtable => trigger.tgoldtable,
    newtable => trigger.tgnewtable,
    extra_warnings => true
) AS complaint
WHERE trigger.tgname ~ '^~?tk_'
  AND complaint.message !~ '{MEANT}'
UNION ALL
SELECT function.proname, complaint.level, complaint.message
FROM pg_proc AS function
CROSS JOIN LATERAL plpgsql_check_function_tb(funcoid => function.oid, extra_warnings => true) AS complaint
WHERE function.proname ~ '^tk_' AND function.prorettype <> 'trigger'::regtype
  AND function.prolang = (SELECT oid FROM pg_language WHERE lanname = 'plpgsql')
  AND complaint.message !~ '{MEANT}'
"""
COUNT = "SELECT count(*) FROM pg_trigger WHERE tgname ~ '^~?tk_.*archive'"


@pytest.fixture
def extension(sql: Sql) -> None:
    if not sql("SELECT 1 FROM pg_available_extensions WHERE name = 'plpgsql_check'"):
        pytest.skip("this server does not have plpgsql_check (Debian: postgresql-15-plpgsql-check)")
    sql("CREATE EXTENSION plpgsql_check")


def choices(pool: Pool) -> int:
    return max(map(len, pool.values()))


CASES = [(model, number) for model, pool in POOLS.items() for number in range(choices(pool))]


@pytest.mark.parametrize("timing", Timing)
@pytest.mark.parametrize(("model", "number"), CASES, ids=[f"{model.__name__}-{number}" for model, number in CASES])
def test_plpgsql_check_finds_nothing(
    sql: Sql, extension: None, model: type[Model], number: int, timing: Timing
) -> None:
    """Every rule of the grammar, several to a target: the n-th of each column together, waiting where it can."""
    chosen = {name: expressions[number % len(expressions)] for name, expressions in POOLS[model].items()}
    keep(timed([(model, [Denormalize(name, expression, timing=timing) for name, expression in chosen.items()])]))
    assert sql(COUNT)[0][0] > 0
    assert sql(COMPLAINTS) == []


def test_plpgsql_check_reads_our_functions(sql: Sql, extension: None) -> None:
    """It would complain: a function of the same shape that reads a column which does not exist."""
    sql("CREATE TABLE shelf (id integer)")
    sql(
        "CREATE FUNCTION tk_wrong() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN PERFORM FROM new_rows WHERE no_such_column = 1; RETURN NULL; END'"
    )
    sql(
        "CREATE TRIGGER tk_wrong AFTER INSERT ON shelf REFERENCING NEW TABLE AS new_rows "
        "FOR EACH STATEMENT EXECUTE FUNCTION tk_wrong()"
    )
    assert "no_such_column" in str(sql(COMPLAINTS))
    sql(
        "CREATE FUNCTION tk_helper() RETURNS void LANGUAGE plpgsql AS "
        "'BEGIN PERFORM FROM shelf WHERE no_such_row = 1; END'"
    )
    assert "no_such_row" in str(sql(COMPLAINTS))
