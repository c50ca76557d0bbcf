"""Three copies of the forum example, with the same rows: without triggers, with its 24 rules, with triggers by hand."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from benchmarks.contenders import BASE, OURS, ROW
from benchmarks.contenders.forum_by_hand import TRIGGERS
from benchmarks.ground import Place
from benchmarks.migrate import Project
from benchmarks.waits import ROWS
from dev.postgres import Server

RULES, BY_HAND = OURS[0].name, ROW.name
TABLES = ("auth_user", "forum_profile", "forum_category", "forum_forum", "forum_topic", "forum_post")


@dataclass(frozen=True)
class Forum:
    """The places, and the project with rules, which can verify."""

    project: Project
    places: dict[str, Place]

    def check(self) -> None:
        """Raise where a value that is kept is not the true one; the triggers by hand are held to the same rules."""
        for name in (RULES, BY_HAND):
            self.project.run("manage.py", "trigger_kit", "verify", at=self.places[name].server)

    def tidy(self) -> None:
        """Let no round find what the one before has left: nobody else cleans up."""
        for place in self.places.values():
            place.run(f"VACUUM ANALYZE {', '.join(TABLES)}")


@contextmanager
def forum(server: Server) -> Iterator[Forum]:
    """Make the places, and drop them at the end. Commits do not wait for the disk."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ruled, plain = (Project(folder, server, has_rules=has_rules) for has_rules in (True, False))
        by_hand = server.database("bench_migrate_by_hand")
        for project in (ruled, plain):
            stack.callback(project.server.drop)
            project.server.create()
            project.run("manage.py", "migrate")
        stack.callback(by_hand.drop)
        copy_database(plain.server, by_hand)
        servers = {BASE: plain.server, RULES: ruled.server, BY_HAND: by_hand}
        places = {name: enter(stack, name, found) for name, found in servers.items()}
        places[RULES].run(ROWS)
        for name in (BASE, BY_HAND):
            copy_rows(places[RULES], places[name])
        places[BY_HAND].run(TRIGGERS)
        made = Forum(ruled, places)
        made.tidy()
        yield made


def copy_database(old: Server, new: Server) -> None:
    """Make a database as a copy of another one, to which nobody is connected."""
    names = [sql.Identifier(found.url.partition("?")[0].rpartition("/")[2]) for found in (new, old)]
    new.drop()
    with psycopg.connect(old.database("postgres").url, autocommit=True) as link:
        link.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(*names))


def enter(stack: ExitStack, name: str, server: Server) -> Place:
    """Connect to a database, with the settings that later sessions will have."""
    with psycopg.connect(server.url, autocommit=True) as link:
        database = sql.Identifier(link.info.dbname)
        link.execute(sql.SQL("ALTER DATABASE {} SET synchronous_commit = off").format(database))
    return Place(name, server, stack.enter_context(psycopg.connect(server.url, autocommit=True)))


def copy_rows(old: Place, new: Place) -> None:
    """Copy the rows with the values that the rules have given them, while no trigger fires."""
    new.run("SET session_replication_role = replica")
    for table in TABLES:
        columns = old.value(
            f"SELECT string_agg(quote_ident(attname), ', ') FROM pg_attribute "
            f"WHERE attrelid = '{table}'::regclass AND attnum > 0 AND NOT attisdropped"
        )
        with (
            old.link.cursor().copy(f"COPY {table} ({columns}) TO STDOUT".encode()) as source,
            new.link.cursor().copy(f"COPY {table} ({columns}) FROM STDIN".encode()) as target,
        ):
            for part in source:
                target.write(part)
        new.run(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), (SELECT max(id) FROM {table}))")
    new.run("SET session_replication_role = origin")
