"""The archive's tables on real sessions, with the rules of a case really installed, and all of it taken away again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from django.apps import apps
from django.db import transaction
from psycopg import IsolationLevel
from psycopg.sql import Literal

from tests.archive.keeping import Rules, assert_rules_hold, keep, open_savepoint
from tests.concurrency.cases import Case
from tests.concurrency.schedules import Explored, Run, Stage
from trigger_kit import Timing

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
    looking: str = ""

    def objects(self) -> set[str]:
        """Return the functions and tables of ours that exist now."""
        return {name for (name,) in self.admin.execute(OBJECTS)}

    def look_around(self) -> None:
        """Take note of the tables that are there: the archive's and those that have come with rules."""
        ours = {name.removeprefix("TABLE ") for name in self.objects() if name.startswith("TABLE ")}
        # tk_state may hold what is known of other tables' rules.
        tables = [*archive_tables(), *sorted(ours - {"tk_state"})]
        self.looking = " UNION ALL ".join(f"SELECT '{t}' WHERE EXISTS (SELECT FROM {t})" for t in tables)

    def renew(self) -> None:
        """Connect anew: a session keeps the plans of dropped functions, and looks them over at every change."""
        self.admin.close()
        self.admin = psycopg.connect(self.stage.url, autocommit=True)
        self.stage.renew()

    def reset(self, seed: str = "") -> None:
        """Bring the tables to the rows of a seed; what is deleted fires no trigger, what is inserted does."""
        # TRUNCATE would make every session plan its triggers' statements anew; these tables have few rows.
        emptying = "; ".join(f"DELETE FROM {table}" for (table,) in self.admin.execute(self.looking.encode()))
        self.admin.execute(f"BEGIN; SET LOCAL session_replication_role = replica; {emptying}; COMMIT".encode())
        if seed:
            self.admin.execute(f"BEGIN; {seed}; COMMIT".encode())

    @contextmanager
    def installed(self, case: Case, timing: Timing = Timing.IMMEDIATE) -> Iterator[Kept]:
        """Install the rules of a case; what has come with them goes afterwards, whatever state it is in."""
        self.renew()
        before = self.objects()
        rules = case.rules_at(timing)
        self.reset()
        with transaction.atomic():
            keep(rules)
        self.look_around()
        yield Kept(case, rules, self)
        self.reset()
        for name in self.objects() - before:
            self.admin.execute(f"DROP {name} CASCADE".encode())
        self.look_around()


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


def drift(rules: Rules) -> list[str]:
    """Return the rows whose value is not the true one.

    The locks of the tables that it reads go with the savepoint: a TRUNCATE would wait for them.
    """
    savepoint = open_savepoint()
    try:
        assert_rules_hold(rules)
    except AssertionError as error:
        return str(error).splitlines()
    finally:
        transaction.savepoint_rollback(savepoint)
    return []
