"""Where it is measured: one server, a template database with the tables of the benchmarks, and copies of it.

Every way to keep a column gets a database of its own, so that none sees the triggers of another.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from dev.postgres import Server, running_server

if TYPE_CHECKING:
    from django.db.models import Model

    from trigger_kit import Denormalize

    Rules = list[tuple[type[Model], list[Denormalize]]]

PREFIX = "trigger_kit_bench"

# On a server of our own nothing comes in between that a run would have to wait for by chance.
QUIET = {"autovacuum": "off", "max_wal_size": "4GB", "checkpoint_timeout": "1h"}


class DriftError(AssertionError):
    """What is stored is not what is true; the figures would be worth nothing."""


@dataclass(frozen=True)
class Place:
    """One database and a connection to it that commits by itself."""

    name: str
    server: Server
    link: psycopg.Connection

    @property
    def url(self) -> str:
        """The database's URL."""
        return self.server.url

    def run(self, statement: str) -> psycopg.Cursor:
        """Execute SQL as it is."""
        return self.link.execute(statement.encode())

    def value(self, query: str) -> object:
        """Return the first column of the first row."""
        row = self.run(query).fetchone()
        return row[0] if row else None


@dataclass
class Ground:
    """A running server with a template database, and the copies that were made of it."""

    server: Server
    template: Server
    places: list[Place] = field(default_factory=list)

    def copy(self, name: str) -> Place:
        """Copy the template to a fresh database; ``clear`` drops it."""
        server = self.template.database(f"{PREFIX}_{len(self.places)}")
        server.drop()
        names = [sql.Identifier(part.url.partition("?")[0].rpartition("/")[2]) for part in (server, self.template)]
        with psycopg.connect(self.server.database("postgres").url, autocommit=True) as link:
            link.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(*names))
        place = Place(name, server, psycopg.connect(server.url, autocommit=True))
        self.places.append(place)
        return place

    def clear(self) -> None:
        """Drop all copies, and write everything out, so that what follows begins on a quiet server."""
        for place in self.places:
            place.link.close()
            place.server.drop()
        self.places.clear()
        if self.server.is_throw_away:
            with psycopg.connect(self.server.database("postgres").url, autocommit=True) as link:
                link.execute("CHECKPOINT")


@contextmanager
def ground() -> Iterator[Ground]:
    """Start a server, make the template, and clean up at the end."""
    set_up_django()
    with running_server() as server:
        template = server.database(f"{PREFIX}_template")
        template.create()
        if server.is_throw_away:
            calm(server)
        make_tables(template)
        made = Ground(server, template)
        try:
            yield made
        finally:
            made.clear()
            if not server.is_throw_away:
                template.drop()


def set_up_django() -> None:
    """Let Django know the models of the benchmarks; no server is needed."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.settings"
    import django

    django.setup()
    from benchmarks.contenders import computed_fields

    computed_fields.disconnect()


def calm(server: Server) -> None:
    """Keep the server from work of its own while something is measured."""
    with psycopg.connect(server.database("postgres").url, autocommit=True) as link:
        for name, value in QUIET.items():
            link.execute(sql.SQL("ALTER SYSTEM SET {} = {}").format(sql.Identifier(name), sql.Literal(value)))
        link.execute("SELECT pg_reload_conf()")


def make_tables(template: Server) -> None:
    """Create the tables of all installed apps."""
    from django.core.management import call_command

    with connected(template):
        call_command("migrate", run_syncdb=True, verbosity=0)


@contextmanager
def connected(server: Server) -> Iterator[None]:
    """Connect Django's default connection to a database."""
    from django.db import connection

    connection.close()
    connection.settings_dict.update(server.django_settings)
    try:
        yield
    finally:
        connection.close()


@contextmanager
def django_at(place: Place) -> Iterator[None]:
    """Connect Django's default connection to a place."""
    with connected(place.server):
        yield


# Rules ---------------------------------------------------------------------------------------------------------------


def install(place: Place, rules: Rules) -> None:
    """Install the triggers of rules at a place, and fill their columns, dependents first."""
    from django.db import connection, transaction

    from trigger_kit.database.changes import Change
    from trigger_kit.database.converge import converge
    from trigger_kit.database.installation import backfill
    from trigger_kit.database.wanted import Wanted
    from trigger_kit.plan.plan import plan_all

    plans = plan_all(rules)
    with django_at(place), transaction.atomic():
        for plan in plans:
            converge(connection, [Change(after=Wanted(plan))])
        for plan in reversed(plans):
            backfill(plan, connection)


def flush(place: Place) -> int:
    """Fold everything that is pending at a place; return the number of pending rows."""
    names = place.run(
        r"SELECT quote_ident(proname) FROM pg_proc WHERE proname LIKE 'tk\_flush\_%' ORDER BY 1"
    ).fetchall()
    return sum(int(str(place.value(f"SELECT {name}()"))) for (name,) in names)


def drifts(place: Place, rules: Rules) -> list[str]:
    """Compare every stored value with Django's own annotate(); what is pending for a QUEUED rule counts as stored."""
    from django.db import connection

    from trigger_kit.maintenance.verify import find_drift
    from trigger_kit.resolve.rule import rule_uri

    with django_at(place):
        return [
            f"{drift.uri} of {drift.key!r}: stored {drift.stored!r}, true {drift.true!r}"
            for model, declared in rules
            for rule in declared
            for drift in find_drift(connection, rule_uri(model, rule.field), model, rule)
        ]


def check(place: Place, rules: Rules) -> None:
    """Raise DriftError where a rule does not hold at a place."""
    if found := drifts(place, rules):
        raise DriftError(f"{place.name}: {len(found)} values have drifted: {'; '.join(found[:3])}")


# Fill sets -----------------------------------------------------------------------------------------------------------


def authors(count: int) -> str:
    """Return the INSERT of authors 1 to ``count``."""
    return f"INSERT INTO bench_books_author (id, name) SELECT n, 'author ' || n FROM generate_series(1, {count}) AS n"


def books(count: int, parents: int) -> str:
    """Return the INSERT of books, spread over authors 1 to ``parents`` in turn."""
    return (
        "INSERT INTO bench_books_book (author_id, title, pages, price, published) "
        f"SELECT 1 + n % {parents}, 'a title', n % 400, n % 50, n % 3 = 0 FROM generate_series(1, {count}) AS n"
    )


def reset(place: Place, *fills: str) -> None:
    """Empty all tables, run the fills, and let the statistics know; the queues of rules are empty then, too."""
    tables = [name for (name, size) in place.run(TABLES) if size]
    if tables:
        place.run(f"TRUNCATE {', '.join(tables)} RESTART IDENTITY CASCADE")
    for fill in fills:
        place.run(fill)
    tidy(place)


def tidy(place: Place, tables: Sequence[str] = ()) -> None:
    """VACUUM ANALYZE all tables of the benchmarks, or some: nobody else does."""
    place.run(f"VACUUM ANALYZE {', '.join(tables or [name for (name, _) in place.run(TABLES)])}")


# The models' tables, and those in which rules leave what is pending (they hold nothing else).
TABLES = r"""
SELECT oid::regclass::text, pg_relation_size(oid) FROM pg_class
WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
  AND (relname LIKE 'bench\_books\_%' OR relname ~ '^tk_(pending|deferred|commit)')
ORDER BY 1
"""
