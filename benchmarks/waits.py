"""What writers wait while somebody migrates: the forum's 24 rules over 50,000 posts, and four sessions that post.

``python -m benchmarks.waits`` runs ``migrate`` beside them: with nothing to do; as an upgrade (every trigger looks like
one of an older version); with the migration that brings all rules; with one that takes a rule away, and with one that
brings it back and fills it. Prints the longest time that one of their INSERTs took meanwhile, and the median of all, in
milliseconds: to be read side by side, for the machine may be shared.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from benchmarks.migrate import Project
from dev.postgres import running_server

WRITERS, USERS, TOPICS, POSTS = 4, 100, 2_000, 50_000

ROWS = f"""
INSERT INTO auth_user (username, password, first_name, last_name, email, is_superuser, is_staff, is_active, date_joined)
SELECT 'user ' || n, '', '', '', '', false, false, true, now() FROM generate_series(1, {USERS}) AS n;
INSERT INTO forum_profile (user_id, signature) SELECT n, '' FROM generate_series(1, {USERS}) AS n;
INSERT INTO forum_category (name, position) VALUES ('Cars', 1);
INSERT INTO forum_forum (category_id, name, position) SELECT 1, 'Forum ' || n, n FROM generate_series(1, 20) AS n;
INSERT INTO forum_topic (forum_id, user_id, name, created, sticky)
SELECT 1 + n % 20, 1 + n % {USERS}, 'Topic ' || n, now(), false FROM generate_series(1, {TOPICS}) AS n;
INSERT INTO forum_post (topic_id, user_id, body, created, on_moderation)
SELECT 1 + n % {TOPICS}, 1 + n % {USERS}, 'Hello', now(), false FROM generate_series(1, {POSTS}) AS n;
ANALYZE;
"""
POST = """
INSERT INTO forum_post (topic_id, user_id, body, created, on_moderation) VALUES (%s, %s, 'Hello', now(), false)
"""
TRIGGERS = """
SELECT tgrelid::regclass::text, tgname, obj_description(oid, 'pg_trigger') FROM pg_trigger
WHERE NOT tgisinternal AND obj_description(oid, 'pg_trigger') LIKE 'trigger_kit {%'
"""
CHANGE = """
import trigger_kit
import trigger_kit.migration.operations
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("forum", "{before}")]
    operations = [trigger_kit.migration.operations.{operation}]
"""
RULE = (
    '"topic", trigger_kit.Denormalize("num_pending", models.Count("posts", filter=models.Q(posts__on_moderation=True)))'
)


@dataclass(frozen=True)
class Waits:
    """How long INSERTs took, in milliseconds."""

    longest: float
    median: float
    number: int

    def __str__(self) -> str:
        return f"{self.longest:10.0f}{self.median:10.1f}{self.number:10,}"


@contextmanager
def writers(url: str, waits: list[Waits]) -> Iterator[None]:
    """Let sessions post until the block ends; then add what they have waited."""
    is_over = threading.Event()

    def write(seed: int) -> list[float]:
        times: list[float] = []
        with psycopg.connect(url, autocommit=True) as session:
            while not is_over.is_set():
                number = seed + WRITERS * len(times)
                begun = time.perf_counter()
                session.execute(POST, (1 + number % TOPICS, 1 + number % USERS))
                times.append(1000 * (time.perf_counter() - begun))
                # Somebody who posts without a pause would keep the machine from migrating.
                time.sleep(0.005)
        return times[1:]

    with ThreadPoolExecutor(WRITERS) as pool:
        running = [pool.submit(write, seed) for seed in range(WRITERS)]
        try:
            time.sleep(0.5)
            yield
        finally:
            is_over.set()
        times = [one for each in running for one in each.result()]
    waits.append(Waits(max(times), statistics.median(times), len(times)))


def make_older(url: str) -> None:
    """Let every trigger look as if an older version had made it."""
    with psycopg.connect(url, autocommit=True) as session:
        for table, trigger, comment in session.execute(TRIGGERS).fetchall():
            found = json.loads(comment.removeprefix("trigger_kit ")) | {"text": "0" * 40}
            session.execute(
                sql.SQL("COMMENT ON TRIGGER {} ON {} IS {}").format(
                    sql.Identifier(trigger), sql.Identifier(table), "trigger_kit " + json.dumps(found)
                )
            )


def add_migration(project: Project, name: str, before: str, operation: str) -> None:
    """Write a migration of the forum's rules."""
    text = CHANGE.format(before=before, operation=operation)
    (project.path / "forum" / "migrations" / f"{name}.py").write_text(text)


def steps(project: Project) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield what is done before a migrate, by a name."""
    yield "migrate, nothing to do", lambda: None
    yield "migrate, all 24 rules come and are filled", lambda: project.run("manage.py", "migrate", "forum", "0001")
    yield "migrate, an upgrade of all 24 rules", lambda: make_older(project.server.url)
    yield (
        "migrate, one rule goes",
        lambda: add_migration(project, "0003_go", "0002_rules", 'RemoveRule("topic", "num_pending")'),
    )
    yield (
        "migrate, one rule comes and is filled",
        lambda: add_migration(project, "0004_come", "0003_go", f"AddRule({RULE})"),
    )


def main() -> None:
    """Measure one after the other, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.parse_args()
    with running_server() as server, tempfile.TemporaryDirectory() as folder:
        project = Project(Path(folder), server, has_rules=True)
        project.server.create()
        project.run("manage.py", "migrate")
        with psycopg.connect(project.server.url, autocommit=True) as session:
            session.execute(ROWS)
        print(f"{'milliseconds of an INSERT':40}{'longest':>10}{'median':>10}{'INSERTs':>10}")  # noqa: T201
        for name, prepare in steps(project):
            prepare()
            waits: list[Waits] = []
            with writers(project.server.url, waits):
                printed = project.run("manage.py", "migrate")
            assert "could not" not in printed, printed
            print(f"{name:40}{waits[0]}")  # noqa: T201
        project.run("manage.py", "trigger_kit", "verify")
        project.server.drop()


if __name__ == "__main__":
    main()
