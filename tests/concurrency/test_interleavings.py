"""Every case of ``cases.py`` in every order of its steps, at every isolation level: the contract holds afterwards.

The rules of a case are really installed, outside of any test's transaction, and its sessions really commit; this module
takes all of it away again. The transaction that ``django_db`` opens serves to look at the values only: what
``transaction=True`` does after every test takes longer than most tests here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psycopg
import pytest
from django.apps import apps
from django.db import connection, transaction
from psycopg import IsolationLevel
from psycopg.sql import Literal
from pytest_django import DjangoDbBlocker

from dev.postgres import Server
from tests.archive.keeping import Rules, assert_rules_hold, keep
from tests.concurrency.cases import CASES, Case
from tests.concurrency.schedules import COMMITTED, DEADLOCK, SERIALIZATION, Explored, Run, Stage, is_serial
from trigger_kit import Timing

pytestmark = pytest.mark.django_db

REFUSED = "0A000"
SHOWN = 3
VARIANTS = [((case, timing), level) for case in CASES for timing in case.timings for level in case.levels]

OBJECTS = """
SELECT format('FUNCTION %s', oid::regprocedure) FROM pg_proc WHERE proname ~ '^~?tk_'
UNION ALL
SELECT format('TABLE %s', oid::regclass) FROM pg_class WHERE relname ~ '^~?tk_' AND relkind IN ('r', 'p')
"""


@dataclass
class Ground:
    """The archive's tables on real sessions: a stage for them, and a connection that sets up and cleans up."""

    stage: Stage
    admin: psycopg.Connection
    emptying: str = ""

    def objects(self) -> set[str]:
        """Return the functions and tables of ours that exist now."""
        return {name for (name,) in self.admin.execute(OBJECTS)}

    def look_around(self) -> None:
        """Take note of the tables that are there: the archive's and those that have come with rules."""
        ours = {name.removeprefix("TABLE ") for name in self.objects() if name.startswith("TABLE ")}
        # tk_state may hold what is known of other tables' rules.
        tables = [*archive_tables(), *sorted(ours - {"tk_state"})]
        # TRUNCATE would make every session plan its triggers' statements anew; these tables have few rows.
        self.emptying = "; ".join(f"DELETE FROM {table}" for table in tables)

    def reset(self, seed: str = "") -> None:
        """Bring the tables to the rows of a seed; what is deleted fires no trigger, what is inserted does."""
        self.admin.execute(f"BEGIN; SET LOCAL session_replication_role = replica; {self.emptying}; COMMIT".encode())
        if seed:
            self.admin.execute(f"BEGIN; {seed}; COMMIT".encode())


@dataclass
class Kept:
    """A case whose rules are installed."""

    case: Case
    rules: Rules
    ground: Ground

    def reset(self) -> None:
        """Go back to where the case starts."""
        self.ground.reset(self.case.seed)

    def explore(self, level: IsolationLevel, explored: Explored) -> Iterator[Run]:
        """Run every schedule of the case."""
        return self.ground.stage.explore(self.case.sessions, level, self.reset, explored)


class Tally:
    """The number of schedules by what became of them, as a plugin of pytest that reports it."""

    def __init__(self) -> None:
        self.numbers: Counter[str] = Counter()

    def add(self, explored: Explored) -> None:
        """Add those of one case at one level."""
        self.numbers.update(run=explored.complete, unreachable=explored.unreachable, repeated=explored.repeated)

    def __str__(self) -> str:
        return ", ".join(f"{number:,} {word}" for word, number in self.numbers.items())

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.write_line(f"schedules of {len(CASES)} cases: {self}")


def archive_tables() -> list[str]:
    models = apps.get_app_config("archive").get_models(include_auto_created=True)
    return [model._meta.db_table for model in models]


def defaults(change: Callable[[str, object], str]) -> Iterator[str]:
    """Yield a statement per archive table that changes the columns for which Django has a default."""
    for model in apps.get_app_config("archive").get_models():
        fields = [field for field in model._meta.local_concrete_fields if field.has_default()]
        # A primary key with a default is a UUID, and given in every seed.
        values = {field.column: field.get_default() for field in fields if not field.primary_key}
        changes = [f"ALTER COLUMN {column} {change(column, value)}" for column, value in values.items()]
        if changes:
            yield f"ALTER TABLE {model._meta.db_table} {', '.join(changes)}"


def set_default(column: str, value: object) -> str:
    return f"SET DEFAULT {Literal('{}' if value == {} else value).as_string()}"


def drop_default(column: str, value: object) -> str:
    return "DROP DEFAULT"


@pytest.fixture(scope="module")
def ground(server: Server, django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[Ground]:
    """Sessions on the test database, whose archive tables take short INSERTs meanwhile."""
    url = server.database(connection.settings_dict["NAME"]).url
    with django_db_blocker.unblock(), psycopg.connect(url, autocommit=True) as admin, Stage(url) as stage:
        ground = Ground(stage, admin)
        for statement in defaults(set_default):
            admin.execute(statement.encode())
        ground.look_around()
        yield ground
        ground.reset()
        for statement in defaults(drop_default):
            admin.execute(statement.encode())


@pytest.fixture(scope="module")
def tally(request: pytest.FixtureRequest, record_testsuite_property: Callable[[str, object], None]) -> Iterator[Tally]:
    """Count the schedules of all cases; the sums are shown at the end, and stand in the report of ``--junitxml``."""
    tally = Tally()
    request.config.pluginmanager.register(tally)
    yield tally
    record_testsuite_property("schedules", str(tally))


@pytest.fixture(scope="module")
def kept(request: pytest.FixtureRequest, ground: Ground) -> Iterator[Kept]:
    """Install the rules of a case; what has come with them goes afterwards, whatever state it is in."""
    case, timing = request.param
    before = ground.objects()
    rules = case.rules_at(timing)
    ground.reset()
    with transaction.atomic():
        keep(rules)
    ground.look_around()
    yield Kept(case, rules, ground)
    ground.reset()
    for name in ground.objects() - before:
        ground.admin.execute(f"DROP {name} CASCADE".encode())
    ground.look_around()


def variant_id(value: tuple[Case, Timing] | IsolationLevel) -> str:
    if isinstance(value, IsolationLevel):
        return value.name.replace("_", " ").lower()
    case, timing = value
    return case.name if timing is Timing.IMMEDIATE else f"{case.name}, {timing.value}"


@pytest.mark.parametrize(("kept", "level"), VARIANTS, ids=variant_id, indirect=["kept"], scope="module")
def test_the_contract_holds_after_every_schedule(kept: Kept, level: IsolationLevel, tally: Counter[str]) -> None:
    kept.reset()
    assert not drift(kept.rules)
    explored, complaints, committed = Explored(), [], set()
    for run in kept.explore(level, explored):
        committed |= {name for name, outcome in zip(run.sessions, run.outcomes, strict=True) if outcome == COMMITTED}
        complaints += judge(kept, run)
    tally.add(explored)
    if complaints:
        pytest.fail(report(kept.case, explored, complaints), pytrace=False)
    assert len(committed) == len(kept.case.sessions), f"only {committed} can commit: is the case itself right?"


def judge(kept: Kept, run: Run) -> list[str]:
    """Return what is wrong after a run, if anything: how the sessions ended, the values, or running them again."""
    problems = judge_outcomes(kept.case, run) + drift(kept.rules)
    text = str(run)
    for index, outcome in enumerate(run.outcomes):
        if outcome in {SERIALIZATION, DEADLOCK}:
            again = kept.ground.stage.run_alone(kept.case.sessions[index], run.level)
            found = [f"run again alone, it ends with {end}" for end in again.outcomes if end not in may_end(kept.case)]
            found += drift(kept.rules)
            if found:
                text += f"\n{run.sessions[index]} again, {again}"
                problems += found
    return [f"{text}\n" + "\n".join(f"  !! {problem}" for problem in problems)] if problems else []


def judge_outcomes(case: Case, run: Run) -> list[str]:
    """Return which sessions have ended as they must not."""
    allowed = may_end(case)
    if not is_serial(run.schedule):
        allowed |= {DEADLOCK} if case.deadlock else set()
        if run.level is not IsolationLevel.READ_COMMITTED:
            allowed |= {SERIALIZATION}
    if run.level is not IsolationLevel.READ_COMMITTED and case.may_refuse:
        allowed |= {REFUSED}
    return [
        f"{name} must not end with {outcome}"
        for name, outcome in zip(run.sessions, run.outcomes, strict=True)
        if outcome not in allowed
    ]


def may_end(case: Case) -> set[str]:
    """Return how a session may end that nobody disturbs."""
    return {COMMITTED} | case.errors


def drift(rules: Rules) -> list[str]:
    """Return the rows whose value is not the true one.

    The locks of the tables that it reads go with the savepoint: a TRUNCATE would wait for them.
    """
    savepoint = transaction.savepoint()
    try:
        assert_rules_hold(rules)
    except AssertionError as error:
        return str(error).splitlines()
    finally:
        transaction.savepoint_rollback(savepoint)
    return []


def report(case: Case, explored: Explored, complaints: list[str]) -> str:
    """Return the first bad schedules of a case, step by step."""
    head = f"{case.name}: {len(complaints)} of {explored.complete} schedules are wrong"
    more = [f"… and {len(complaints) - SHOWN} more"] if len(complaints) > SHOWN else []
    return "\n\n".join([head, *complaints[:SHOWN], *more])
