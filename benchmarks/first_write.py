"""The first post of a fresh connection, with the forum's 24 rules, and with an expert's hand-written triggers.

``python -m benchmarks.first_write`` opens a connection per post, as Django does for each request by default: every
function is read and every statement planned anew. Connecting is not counted. Beside it, posts of a connection that has
been used. The expert's row triggers keep the columns that a post changes, with one UPDATE per row that it touches; they
are right for INSERTs only. Contenders take turns; ratios of medians. Ends with 1 where the bar does not hold.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import psycopg

from benchmarks.migrate import Project
from benchmarks.waits import POST, ROWS
from dev.postgres import Server, running_server

BAR, MARGIN = 3.0, 0.2
SAMPLES = 40

# One post: the topic, its forum, the forum's category, the poster's profile, and the post's own copies.
BY_HAND = """
CREATE FUNCTION hand_copies() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    SELECT username INTO NEW.user_name FROM auth_user WHERE id = NEW.user_id;
    SELECT forum_id INTO NEW.forum_id FROM forum_topic WHERE id = NEW.topic_id;
    RETURN NEW;
END $$;
CREATE FUNCTION hand_topic() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE forum_topic SET
        num_posts = num_posts + (NOT NEW.on_moderation)::int,
        num_pending = num_pending + NEW.on_moderation::int,
        first_post_id = coalesce(first_post_id, NEW.id),
        on_moderation = CASE WHEN first_post_id IS NULL THEN NEW.on_moderation ELSE on_moderation END,
        last_post_id = CASE WHEN NEW.on_moderation OR NEW.created < last_post_at THEN last_post_id ELSE NEW.id END,
        last_post_at = CASE WHEN NEW.on_moderation THEN last_post_at ELSE greatest(last_post_at, NEW.created) END,
        last_activity = CASE WHEN NEW.on_moderation THEN last_activity
                             ELSE greatest(last_activity, coalesce(NEW.updated, NEW.created)) END,
        last_poster_name = CASE WHEN NEW.on_moderation OR NEW.created < last_post_at THEN last_poster_name
                                ELSE NEW.user_name END
    WHERE id = NEW.topic_id;
    UPDATE forum_profile SET
        num_posts = num_posts + (NOT NEW.on_moderation)::int,
        last_post_at = CASE WHEN NEW.on_moderation THEN last_post_at ELSE greatest(last_post_at, NEW.created) END
    WHERE user_id = NEW.user_id;
    RETURN NULL;
END $$;
CREATE FUNCTION hand_forum() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE forum_forum SET
        num_posts = num_posts + NEW.num_posts - OLD.num_posts,
        num_posts_below = num_posts_below + NEW.num_posts - OLD.num_posts,
        last_activity = greatest(last_activity, NEW.last_activity),
        last_post_id = CASE WHEN NEW.last_activity < last_activity THEN last_post_id ELSE NEW.last_post_id END
    WHERE id = NEW.forum_id;
    RETURN NULL;
END $$;
CREATE FUNCTION hand_category() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE forum_category SET
        num_posts = num_posts + NEW.num_posts - OLD.num_posts,
        last_activity = greatest(last_activity, NEW.last_activity)
    WHERE id = NEW.category_id;
    RETURN NULL;
END $$;
CREATE TRIGGER hand_copies BEFORE INSERT ON forum_post FOR EACH ROW EXECUTE FUNCTION hand_copies();
CREATE TRIGGER hand_topic AFTER INSERT ON forum_post FOR EACH ROW EXECUTE FUNCTION hand_topic();
CREATE TRIGGER hand_forum AFTER UPDATE ON forum_topic FOR EACH ROW EXECUTE FUNCTION hand_forum();
CREATE TRIGGER hand_category AFTER UPDATE ON forum_forum FOR EACH ROW EXECUTE FUNCTION hand_category();
"""


WITHOUT_RULES = """
DO $$
DECLARE
    found record;
BEGIN
    FOR found IN
        SELECT tgname, tgrelid::regclass AS name FROM pg_trigger WHERE tgname ~ '^~?tk_' AND NOT tgisinternal
    LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', found.tgname, found.name);
    END LOOP;
END $$;
ALTER TABLE forum_post ALTER COLUMN user_name SET DEFAULT '';
"""


def prepare(folder: Path, server: Server) -> dict[str, str]:
    """Make a database per contender, with the same rows, and return their URLs."""
    project = Project(folder, server, has_rules=True)
    project.server.create()
    project.run("manage.py", "migrate")
    with psycopg.connect(project.server.url, autocommit=True) as session:
        session.execute(ROWS)
    urls = {"24 rules": project.server.url}
    for name, script in (("no triggers", WITHOUT_RULES), ("by hand", WITHOUT_RULES + BY_HAND)):
        database = f"bench_first_write_{name.replace(' ', '_')}"
        with psycopg.connect(server.url, autocommit=True) as admin:
            template = urlsplit(project.server.url).path.lstrip("/")
            admin.execute(f'CREATE DATABASE "{database}" TEMPLATE "{template}"')
        urls[name] = server.database(database).url
        with psycopg.connect(urls[name], autocommit=True) as session:
            session.execute(script)
    return {name: urls[name] for name in ("no triggers", "by hand", "24 rules")}


def first(url: str, number: int) -> list[float]:
    """Return the milliseconds of the first post of a fresh connection."""
    with psycopg.connect(url, autocommit=True) as session:
        return [post(session, number)]


def later(url: str, number: int) -> list[float]:
    """Return the milliseconds of posts of a connection that has posted before."""
    with psycopg.connect(url, autocommit=True) as session:
        post(session, number)
        return [post(session, number + n) for n in range(1, 6)]


def post(session: psycopg.Connection, number: int) -> float:
    """Post, and return how many milliseconds it took."""
    begun = time.perf_counter()
    session.execute(POST, (1 + number % 2000, 1 + number % 100))
    return 1000 * (time.perf_counter() - begun)


def medians(urls: dict[str, str], take: Callable[[str, int], list[float]]) -> dict[str, float]:
    """Let contenders take turns, and return the median of each."""
    times: dict[str, list[float]] = {name: [] for name in urls}
    for number in range(SAMPLES):
        for name, url in urls.items():
            times[name] += take(url, number)
    return {name: statistics.median(found) for name, found in times.items()}


def main() -> int:
    """Measure, print, and return 1 where the bar does not hold."""
    with running_server() as server, tempfile.TemporaryDirectory() as folder:
        urls = prepare(Path(folder), server)
        print(f"{'milliseconds of one post':36}{''.join(f'{name:>14}' for name in urls)}{'ratio':>8}")  # noqa: T201
        ratios = []
        for title, take in (("the first of a fresh connection", first), ("a later one", later)):
            found = medians(urls, take)
            ratios.append(found["24 rules"] / found["by hand"])
            print(f"{title:36}{''.join(f'{found[name]:14.2f}' for name in urls)}{ratios[-1]:8.2f}")  # noqa: T201
    holds = ratios[0] <= BAR * (1 + MARGIN)
    print(f"{'holds' if holds else 'does not hold'}: the first post ≤ {BAR} × by hand")  # noqa: T201
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
