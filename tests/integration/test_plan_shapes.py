"""Plans fit what comes later: a statement of one row after one of thousands in the same session, and the reverse.

PostgreSQL keeps the plan of every statement of a PL/pgSQL function for the session, and takes the size of a transition
table from the statement that came first. So each event on each table that a rule reads runs in a fresh session in both
orders, and what PostgreSQL reports of its plans (auto_explain, with the statements inside functions) is counted: rows
that plan nodes have handled, never time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest
from django.db import connection, transaction
from psycopg import sql
from pytest_django import DjangoDbBlocker

from dev.postgres import Server
from tests.archive.keeping import keep
from tests.combinations import in_turn
from tests.concurrency.ground import OBJECTS, defaults, set_default
from tests.integration.plan_cases import CASES, Case
from tests.integration.plan_tables import TABLES

pytestmark = pytest.mark.django_db

MANY = 2_000
# Where statements of one row find theirs: behind the many. They run a few times, because PL/pgSQL plans a statement
# anew for the parameters of its first five runs.
BEHIND = 3_000
SINGLES = 7
# A statement of one row reads some rows several times over; the smallest table has several times as many.
FEW = 1_000
# Where a value looks dear (EXISTS over a path), or a queue looks full, PostgreSQL may read the target from end to end for
# a few of its rows: by its figures that hardly adds to the cost of the statement. Only small targets are read so.
WHOLE_TARGET = 25_000
# What a row of a statement of many may cost, in rows of all plan nodes together. One that is compared with each other
# row of the statement, or of a table, costs thousands.
PER_ROW = 500

REPORT_PLANS = """
LOAD 'auto_explain';
SET auto_explain.log_analyze = on;
SET auto_explain.log_timing = off;
SET auto_explain.log_format = json;
SET auto_explain.log_nested_statements = on;
SET auto_explain.log_level = notice;
SET auto_explain.log_min_duration = -1
"""
FOREIGN_KEYS = "SELECT conrelid::regclass::text, conname FROM pg_constraint WHERE contype = 'f'"
# What is DEFERRED runs as at a commit.
COMMIT = ("SET CONSTRAINTS ALL IMMEDIATE", "SET CONSTRAINTS ALL DEFERRED")
FLUSHES = "SELECT oid::regproc::text FROM pg_proc WHERE proname ~ '^tk_flush_'"


# What statements cost -------------------------------------------------------------------------------------------------


Nodes = list[tuple[str, float]]


@dataclass
class Statement:
    """A statement that has run once or more: where it stands, its nodes, and the rows that they have handled."""

    function: str
    query: str
    nodes: Nodes = field(default_factory=list)
    rows: float = 0
    runs: int = 0

    def add(self, nodes: Nodes) -> None:
        """Count one more run; the nodes of the dearest are shown."""
        self.nodes = max(self.nodes, nodes, key=handled)
        self.rows += handled(nodes)
        self.runs += 1

    def __str__(self) -> str:
        nodes = (f"  {rows:12,.0f}  {title}" for title, rows in self.nodes)
        return "\n".join([f"{self.rows:,.0f} rows, {self.runs:,} runs, {self.function}:", self.query, *nodes])


def handled(nodes: Nodes) -> float:
    return sum(rows for _, rows in nodes)


def walk(node: dict[str, Any], depth: int = 0) -> Iterator[tuple[str, float]]:
    """Yield each node of a plan with the rows that it has handed on or thrown away, over all its loops."""
    rows = node["Actual Rows"] + sum(value for name, value in node.items() if name.startswith("Rows Removed by"))
    names = (node.get(part) for part in ("Relation Name", "Tuplestore Name", "CTE Name", "Index Name"))
    yield "  " * depth + " ".join([node["Node Type"], *(name for name in names if name)]), rows * node["Actual Loops"]
    for below in node.get("Plans", ()):
        yield from walk(below, depth + 1)


@dataclass(frozen=True)
class Cost:
    """All statements that one has set off, and itself, by the function and the text of each."""

    statements: dict[tuple[str, str], Statement] = field(default_factory=dict)

    def add(self, message: str, context: str) -> None:
        """Count what auto_explain reports of a statement."""
        report = json.loads(message.partition("plan:")[2])
        callers = re.findall(r"PL/pgSQL function .*", context)
        key = (callers[0] if callers else "the client's statement", report["Query Text"])
        self.statements.setdefault(key, Statement(*key)).add(list(walk(report["Plan"])))

    @property
    def rows(self) -> float:
        return sum(statement.rows for statement in self.statements.values())

    def __str__(self) -> str:
        dearest = sorted(self.statements.values(), key=lambda statement: -statement.rows)[:3]
        return "\n".join([f"{self.rows:,.0f} rows", *map(str, dearest)])


@dataclass
class Session:
    """A fresh session, in a transaction that is rolled back; it counts what statements and what they set off read."""

    link: psycopg.Connection
    then: list[str]
    notices: list[tuple[str, str]] = field(default_factory=list)

    def note(self, notice: psycopg.errors.Diagnostic) -> None:
        """Keep what the server says; the notice itself is gone after this."""
        self.notices.append((str(notice.message_primary), notice.context or ""))

    def run(self, statement: str) -> None:
        """Run a statement and what its rules leave for the commit or for a flush."""
        for each in (statement, *self.then):
            self.link.execute(each.encode())

    def cost(self, statement: str) -> Cost:
        """Return what a statement costs, and all that it sets off."""
        self.notices.clear()
        self.link.execute("SET auto_explain.log_min_duration = 0")
        self.run(statement)
        self.link.execute("SET auto_explain.log_min_duration = -1")
        cost = Cost()
        for message, context in self.notices:
            cost.add(message, context)
        assert cost.statements, "The server reports no plans."
        return cost


@contextmanager
def session(url: str) -> Iterator[Session]:
    """Open a session and roll back what it has done."""
    with psycopg.connect(url) as link:
        link.execute(REPORT_PLANS)
        flushes = [f"SELECT {name}(NULL, true)" for (name,) in link.execute(FLUSHES)]
        link.commit()
        opened = Session(link, [*COMMIT, *flushes])
        link.add_notice_handler(opened.note)
        yield opened
        link.rollback()


# Databases ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def filled(server: Server, django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[Server]:
    """A database with the rows, without rules. No foreign key, so that each table's rows may come and go alone."""
    usual = connection.settings_dict["NAME"]
    database = server.database(f"{usual}_plans")
    database.drop()
    with django_db_blocker.unblock():
        # Nobody may be connected to what is copied.
        connection.close()
    with psycopg.connect(server.database("postgres").url, autocommit=True) as link:
        names = [sql.Identifier(name) for name in (f"{usual}_plans", usual)]
        link.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(*names))
    with psycopg.connect(database.url, autocommit=True) as link:
        fill(link)
    yield database
    database.drop()


def fill(link: psycopg.Connection) -> None:
    for table, constraint in link.execute(FOREIGN_KEYS).fetchall():
        link.execute(f'ALTER TABLE {table} DROP CONSTRAINT "{constraint}"'.encode())
    for statement in defaults(set_default):
        link.execute(statement.encode())
    for table in TABLES.values():
        # An ANALYZE in between would have all plans made anew.
        link.execute(f"ALTER TABLE {table.name} SET (autovacuum_enabled = off)".encode())
        link.execute(table.insert(1, table.size).encode())
    link.execute("VACUUM ANALYZE")


@dataclass(frozen=True)
class Kept:
    """A case, and the database where its rules are installed."""

    case: Case
    url: str
    admin: psycopg.Connection

    @contextmanager
    def session(self, table: str) -> Iterator[Session]:
        """Open a session that changes a table, and clear up: a table that grows makes its scans look dear."""
        with session(self.url) as opened:
            yield opened
        targets = {model._meta.db_table for model, _ in self.case.declared()}
        self.admin.execute(f"VACUUM {', '.join({*targets, TABLES[table].name})}".encode())


@pytest.fixture(scope="module")
def kept(request: pytest.FixtureRequest, filled: Server, django_db_blocker: DjangoDbBlocker) -> Iterator[Kept]:
    """A case whose rules are installed and filled."""
    case: Case = request.param
    with django_db_blocker.unblock(), connected(f"{connection.settings_dict['NAME']}_plans"), transaction.atomic():
        keep(case.declared())
    with psycopg.connect(filled.url, autocommit=True) as link:
        # Dead rows of the case before; the targets have been written as a whole, and empty pages make scans dear.
        link.execute("VACUUM")
        for model, _ in case.declared():
            link.execute(f"VACUUM (FULL, ANALYZE) {model._meta.db_table}".encode())
        yield Kept(case, filled.url, link)
        for (name,) in link.execute(OBJECTS).fetchall():
            link.execute(f"DROP {name} CASCADE".encode())


def each_case(turn: int) -> pytest.MarkDecorator:
    """Every case; by default every third one, from this turn on: the two orders share them."""
    ids = [case.name.replace(" ", "_") for case in CASES]
    return pytest.mark.parametrize("kept", in_turn(CASES, of=3, turn=turn), ids=ids, indirect=True, scope="module")


@contextmanager
def connected(name: str) -> Iterator[None]:
    """Connect Django to another database."""
    usual = connection.settings_dict["NAME"]
    connection.close()
    connection.settings_dict["NAME"] = name
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict["NAME"] = usual


# Tests ----------------------------------------------------------------------------------------------------------------


def many(table: str, change: str) -> str:
    return TABLES[table].change(change, 1, MANY)


def singles(table: str, change: str) -> list[str]:
    return [TABLES[table].change(change, n, n) for n in range(BEHIND, BEHIND + SINGLES)]


def require_few_rows(costs: dict[str, Cost], limit: int) -> None:
    found = [f"{event}: {cost}" for event, cost in costs.items() if cost.rows > limit]
    assert not found, "\n\n".join([f"More than {limit:,} rows were handled.", *found])


@each_case(0)
def test_one_row_after_many(kept: Kept) -> None:
    costs = {}
    for table, change in kept.case.all_events():
        with kept.session(table) as here:
            here.run(many(table, change))
            # The plans stay.
            here.link.rollback()
            found = [here.cost(statement) for statement in singles(table, change)]
            costs[f"{change} {table}"] = max(found, key=lambda cost: cost.rows)
    require_few_rows(costs, WHOLE_TARGET if kept.case.may_read_target else FEW)


@each_case(1)
def test_many_after_one_row(kept: Kept) -> None:
    costs = {}
    for table, change in kept.case.all_events():
        with kept.session(table) as here:
            for statement in singles(table, change):
                here.run(statement)
            here.link.rollback()
            costs[f"{change} {table}"] = here.cost(many(table, change))
    require_few_rows(costs, PER_ROW * MANY)
