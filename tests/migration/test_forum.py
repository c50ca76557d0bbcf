"""migrations_examples/forum: its committed migrations, and its counters and last posts under every writer."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.migration.conftest import Workshop
from tests.migration.project import Project
from tests.migration.worker import environment

EXAMPLE = Path(__file__).parents[2] / "migrations_examples" / "forum"

# Two users, two forums of one category, two topics in the first; post 3 waits for its approval.
ROWS = """
TRUNCATE auth_user, forum_category RESTART IDENTITY CASCADE;
INSERT INTO auth_user (username, password, first_name, last_name, email, is_superuser, is_staff, is_active, date_joined)
    SELECT name, '', '', '', '', false, false, true, now() FROM unnest(ARRAY['ann', 'bob']) AS name;
INSERT INTO forum_profile (user_id, signature) VALUES (1, ''), (2, '');
INSERT INTO forum_category (name, position) VALUES ('Cars', 1);
INSERT INTO forum_forum (category_id, parent_id, name, position) VALUES (1, NULL, 'Engines', 1), (1, 1, 'Wheels', 2);
INSERT INTO forum_topic (forum_id, user_id, name, created, sticky) VALUES
    (1, 1, 'Oil', '2024-01-01 10:00Z', false), (1, 2, 'Rust', '2024-01-01 13:00Z', false);
INSERT INTO forum_post (topic_id, user_id, body, created, on_moderation) VALUES
    (1, 1, 'Which oil?', '2024-01-01 10:00Z', false), (1, 2, 'Any.', '2024-01-01 11:00Z', false),
    (1, 2, 'Buy mine!', '2024-01-01 12:00Z', true), (2, 2, 'Rust!', '2024-01-01 13:00Z', false);
"""
TOPICS = "SELECT id, num_posts, num_pending, first_post_id, last_post_id, last_poster_name FROM forum_topic ORDER BY id"
FORUMS = "SELECT id, num_topics, num_posts, last_post_id FROM forum_forum ORDER BY id"
CATEGORIES = "SELECT num_forums, num_topics, num_posts FROM forum_category"
PROFILES = "SELECT display_name, num_topics, num_posts FROM forum_profile ORDER BY id"
SHELL = "from django.contrib.auth.models import User; from forum.models import Category, Forum, Post, Profile, Topic; "


def example(workshop: Workshop, name: str) -> Project:
    """Copy the example's folder, so that nothing is written into it, and give it an empty database.

    The tests of a module may run in several goes, each with a project of its own.
    """
    path = workshop.folder / f"{name}_{next(workshop.numbers)}"
    shutil.copytree(EXAMPLE, path, ignore=shutil.ignore_patterns("__pycache__"))
    project = Project(path, workshop.server, workshop.worker, workshop.new_database(), ["forum"])
    entry = {**workshop.server.django_settings, "NAME": project.database}
    with (path / "settings.py").open("a") as settings:
        settings.write(f"\nDATABASES = {{'default': {entry!r}}}\n")
    return project


@pytest.fixture(scope="module")
def migrated(workshop: Workshop) -> Iterator[Project]:
    project = example(workshop, "forum_example")
    try:
        project.manage("migrate")
        yield project
    finally:
        workshop.drop(project)


@pytest.fixture
def forum(migrated: Project) -> Project:
    migrated.psql(ROWS)
    return migrated


def orm(project: Project, code: str) -> None:
    """Run a few lines of the ORM; then every rule must hold."""
    project.manage(f"shell -c {shlex.quote(SHELL + code)}")
    project.assert_in_sync()


def raw(project: Project, statement: str) -> None:
    """Run SQL as another program would; then every rule must hold."""
    project.sql(statement)
    project.assert_in_sync()


# The example ---------------------------------------------------------------------------------------------------------


def test_its_commands_run_as_the_readme_says(workshop: Workshop) -> None:
    url = workshop.server.database(workshop.new_database()).url
    commands = re.findall(r"^python (manage\.py .*?)(?: +#.*)?$", (EXAMPLE / "README.md").read_text(), re.MULTILINE)
    assert len(commands) == 4
    for command in commands:
        done = subprocess.run(
            [sys.executable, "-W", "error", *shlex.split(command)],
            cwd=EXAMPLE,
            env={**environment(EXAMPLE), "TRIGGER_KIT_DATABASE_URL": url},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr


def test_the_committed_migrations_are_settled(forum: Project) -> None:
    forum.assert_settled()


def test_the_readme_shows_every_rule(forum: Project) -> None:
    shown = set(re.findall(r"^\| `(\w+\.\w+)` \|", (EXAMPLE / "README.md").read_text(), re.MULTILINE))
    assert shown == {uri.removeprefix("forum.").replace(":", ".") for uri in forum.statuses()}


def test_rows_that_were_there_before_the_rules(workshop: Workshop) -> None:
    project = example(workshop, "forum_before")
    try:
        project.manage("migrate auth")
        project.manage("migrate forum 0001")
        project.psql(ROWS)
        project.manage("migrate")
        project.assert_settled()
        assert project.sql(TOPICS) == [(1, 2, 1, 1, 2, "bob"), (2, 1, 0, 4, 4, "bob")]
    finally:
        workshop.drop(project)


# Writers -------------------------------------------------------------------------------------------------------------


def test_the_first_rows(forum: Project) -> None:
    forum.assert_in_sync()
    assert forum.sql(TOPICS) == [(1, 2, 1, 1, 2, "bob"), (2, 1, 0, 4, 4, "bob")]
    assert forum.sql(FORUMS) == [(1, 2, 3, 4), (2, 0, 0, None)]
    assert forum.sql(CATEGORIES) == [(2, 2, 3)]
    assert forum.sql(PROFILES) == [("ann", 1, 1), ("bob", 1, 2)]


APPROVE = {
    "save": "p = Post.objects.get(pk=3); p.on_moderation = False; p.save()",
    "update": "Post.objects.filter(pk=3).update(on_moderation=False)",
    "bulk_update": "p = Post(pk=3, on_moderation=False); Post.objects.bulk_update([p], ['on_moderation'])",
    "raw": "UPDATE forum_post SET on_moderation = false WHERE id = 3",
}


@pytest.mark.parametrize("writer", APPROVE)
def test_a_post_is_approved(forum: Project, writer: str) -> None:
    (raw if writer == "raw" else orm)(forum, APPROVE[writer])
    assert forum.sql(TOPICS)[0] == (1, 3, 0, 1, 3, "bob")
    assert forum.sql(FORUMS)[0] == (1, 2, 4, 4)
    assert forum.sql(PROFILES)[1] == ("bob", 1, 3)


def test_a_post_is_taken_back(forum: Project) -> None:
    raw(forum, "UPDATE forum_post SET on_moderation = true WHERE id = 2")
    assert forum.sql(TOPICS)[0] == (1, 1, 2, 1, 1, "ann")


def test_a_topic_waits_as_long_as_its_first_post_does(forum: Project) -> None:
    orm(forum, "Post.objects.filter(pk=1).update(on_moderation=True)")
    assert forum.sql("SELECT id, on_moderation FROM forum_topic ORDER BY id") == [(1, True), (2, False)]
    assert forum.sql(CATEGORIES) == [(2, 1, 2)]
    assert forum.sql(PROFILES)[0] == ("ann", 0, 0)
    orm(forum, "p = Post.objects.get(pk=1); p.on_moderation = False; p.save()")
    assert forum.sql(CATEGORIES) == [(2, 2, 3)]


def test_posts_in_bulk(forum: Project) -> None:
    orm(forum, "Post.objects.bulk_create([Post(topic_id=i % 2 + 1, user_id=1, body='!') for i in range(100)])")
    assert [row[1] for row in forum.sql(TOPICS)] == [52, 51]
    assert forum.sql(CATEGORIES) == [(2, 2, 103)]
    assert forum.sql(PROFILES)[0] == ("ann", 1, 101)


def test_posts_by_copy(forum: Project) -> None:
    forum.psql(
        "COPY forum_post (topic_id, user_id, body, created, on_moderation) FROM STDIN;\n"
        "1\t1\tearlier\t2024-01-01 09:00Z\tf\n2\t1\tlater\t2024-01-01 14:00Z\tf\n2\t1\tspam\t2024-01-01 15:00Z\tt\n\\.\n"
    )
    forum.assert_in_sync()
    assert forum.sql(TOPICS) == [(1, 3, 1, 5, 2, "bob"), (2, 2, 1, 4, 6, "ann")]
    assert forum.sql(FORUMS)[0] == (1, 2, 5, 6)


def test_a_new_topic_and_its_first_post_in_one_statement(forum: Project) -> None:
    raw(
        forum,
        "WITH topic AS (INSERT INTO forum_topic (forum_id, user_id, name, created, sticky)"
        " VALUES (2, 1, 'Tyres', now(), false) RETURNING id)"
        " INSERT INTO forum_post (topic_id, user_id, body, created, on_moderation)"
        " SELECT id, 1, 'Which?', now(), false FROM topic",
    )
    assert forum.sql(TOPICS)[2] == (3, 1, 0, 5, 5, "ann")
    assert forum.sql(FORUMS)[1] == (2, 1, 1, 5)


MOVE_TOPIC = {
    "save": "t = Topic.objects.get(pk=2); t.forum_id = 2; t.save()",
    "update": "Topic.objects.filter(pk=2).update(forum=2)",
    "raw": "UPDATE forum_topic SET forum_id = 2 WHERE id = 2",
}


@pytest.mark.parametrize("writer", MOVE_TOPIC)
def test_a_topic_moves_to_another_forum(forum: Project, writer: str) -> None:
    (raw if writer == "raw" else orm)(forum, MOVE_TOPIC[writer])
    assert forum.sql(FORUMS) == [(1, 1, 2, 2), (2, 1, 1, 4)]
    assert forum.value("SELECT forum_id FROM forum_post WHERE id = 4") == 2
    assert forum.sql(CATEGORIES) == [(2, 2, 3)]


def test_posts_move_to_another_topic(forum: Project) -> None:
    orm(forum, "Post.objects.filter(pk__in=[1, 3]).update(topic=2)")
    assert forum.sql(TOPICS) == [(1, 1, 0, 2, 2, "bob"), (2, 2, 1, 1, 4, "bob")]


def test_two_topics_swap_their_posts(forum: Project) -> None:
    raw(forum, "UPDATE forum_post SET topic_id = 3 - topic_id")
    assert forum.sql(TOPICS) == [(1, 1, 0, 4, 4, "bob"), (2, 2, 1, 1, 2, "bob")]


def test_topics_merge(forum: Project) -> None:
    orm(forum, "Post.objects.filter(topic=2).update(topic=1); Topic.objects.get(pk=2).delete()")
    assert forum.sql(TOPICS) == [(1, 3, 1, 1, 4, "bob")]
    assert forum.sql(FORUMS)[0] == (1, 1, 3, 4)
    assert forum.sql(PROFILES) == [("ann", 1, 1), ("bob", 0, 2)]


DELETE_LAST = {
    "delete": "Topic.objects.get(pk=2).last_post.delete()",
    "queryset": "Post.objects.filter(pk=4).delete()",
    "raw": "DELETE FROM forum_post WHERE id = 4",
}


@pytest.mark.parametrize("writer", DELETE_LAST)
def test_the_last_post_goes(forum: Project, writer: str) -> None:
    (raw if writer == "raw" else orm)(forum, DELETE_LAST[writer])
    assert forum.sql(TOPICS)[1] == (2, 0, 0, None, None, "")
    assert forum.sql(FORUMS)[0] == (1, 1, 2, 2)
    activity = "SELECT last_activity FROM {} ORDER BY id LIMIT 1"
    assert forum.value(activity.format("forum_forum")) == forum.value(activity.format("forum_topic"))


def test_a_user_goes(forum: Project) -> None:
    orm(forum, "User.objects.get(username='bob').delete()")
    assert forum.sql(TOPICS) == [(1, 1, 0, 1, 1, "ann")]
    assert forum.sql(FORUMS) == [(1, 1, 1, 1), (2, 0, 0, None)]
    assert forum.sql(PROFILES) == [("ann", 1, 1)]


def test_a_user_takes_another_name(forum: Project) -> None:
    orm(forum, "User.objects.filter(username='bob').update(username='rob')")
    assert forum.sql("SELECT DISTINCT user_name FROM forum_post ORDER BY 1") == [("ann",), ("rob",)]
    assert [row[-1] for row in forum.sql(TOPICS)] == ["rob", "rob"]
    assert forum.sql(PROFILES)[1] == ("rob", 1, 2)


def test_a_post_is_given_to_another_user(forum: Project) -> None:
    raw(forum, "UPDATE forum_post SET user_id = 1 WHERE id = 2")
    assert forum.sql(PROFILES) == [("ann", 1, 2), ("bob", 1, 1)]
    assert forum.sql(TOPICS)[0][-1] == "ann"


def test_an_edit_is_activity(forum: Project) -> None:
    raw(forum, "UPDATE forum_post SET updated = '2024-01-02 10:00Z' WHERE id = 1")
    assert forum.value("SELECT last_activity = '2024-01-02 10:00Z' FROM forum_category")
    assert forum.sql(FORUMS)[0] == (1, 2, 3, 4)


def test_stale_objects_are_saved_back(forum: Project) -> None:
    read = "rows = [*Topic.objects.all(), *Forum.objects.all(), *Category.objects.all(), *Profile.objects.all()]; "
    orm(forum, read + "Post.objects.filter(pk__in=[2, 4]).delete(); [row.save() for row in rows]")
    assert forum.sql(TOPICS) == [(1, 1, 1, 1, 1, "ann"), (2, 0, 0, None, None, "")]
    assert forum.sql(CATEGORIES) == [(2, 1, 1)]


def test_a_forum_goes_with_its_child_forums(forum: Project) -> None:
    orm(forum, "Topic.objects.filter(pk=2).update(forum=2); Forum.objects.get(pk=1).delete()")
    assert forum.sql(CATEGORIES) == [(0, 0, 0)]
    assert forum.sql(PROFILES) == [("ann", 0, 0), ("bob", 0, 0)]


def test_a_forum_moves_in_the_tree(forum: Project) -> None:
    below = "SELECT num_child_forums, num_posts_below FROM forum_forum ORDER BY id"
    orm(forum, "Topic.objects.filter(pk=2).update(forum=2)")
    assert forum.sql(below) == [(1, 3), (0, 1)]
    orm(forum, "Forum.objects.filter(pk=2).update(parent=None)")
    assert forum.sql(below) == [(0, 2), (0, 1)]
    with pytest.raises(psycopg.IntegrityError, match="own ancestor"):
        forum.sql("UPDATE forum_forum SET parent_id = 3 - id")


def test_a_rollback_leaves_nothing(forum: Project) -> None:
    with psycopg.connect(forum.url) as connection:
        connection.execute("DELETE FROM forum_post")
        connection.rollback()
    forum.assert_in_sync()
    assert forum.sql(CATEGORIES) == [(2, 2, 3)]
