"""A role with rights on the sources alone sets whatever it likes, and the kept columns stay right all the same."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.db.models import Count, F, Model, Sum

from tests.archive.keeping import assert_rules_hold, keep
from tests.archive.models import Node, Publisher, Work
from trigger_kit import Denormalize, Timing
from trigger_kit.plan.plan import plan
from trigger_kit.sql.compilation import compile_plan
from trigger_kit.sql.text import short_digest

Sql = Callable[..., list[tuple[Any, ...]]]
Writer = Callable[..., None]

COUNT = [Denormalize("the_count", Count("works"))]
FAR = [Denormalize("the_total", Sum("works__reviews__stars", default=0))]
DEFERRED = [Denormalize("the_count", Count("works"), timing=Timing.DEFERRED)]
TREE = [Denormalize("the_total", F("own") + Sum("children__the_total", default=0))]
PUBLISHERS = """
INSERT INTO archive_publisher (id, number) VALUES
    ('00000000-0000-0000-0000-000000000001', 1), ('00000000-0000-0000-0000-000000000002', 2)
"""


pytestmark = pytest.mark.usefixtures("short_inserts")


@pytest.fixture
def writer(sql: Sql) -> Writer:
    """Run statements as a role that may write the sources, and nothing else."""
    sql("CREATE ROLE writer")
    sql("GRANT ALL ON archive_work, archive_review, archive_node TO writer")
    sql("GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO writer")

    def run(*statements: str) -> None:
        sql("SET LOCAL ROLE writer")
        for statement in statements:
            sql(statement)
        sql("RESET ROLE")

    return run


def named_settings(model: type[Model], rules: list[Denormalize]) -> list[str]:
    """Return the settings that the functions of a target name, but those that the docs give to everybody."""
    texts = [trigger.text for trigger in compile_plan(plan(model, rules))]
    names = {name for text in texts for name in re.findall(r"'(trigger_kit\.[a-z_0-9]+)", text)}
    return sorted(names - {"trigger_kit.depth", "trigger_kit.paused"})


def settings_of(model: type[Model]) -> list[str]:
    """Return every setting that the functions of a target might look at, and some that they once did."""
    tag = short_digest(model._meta.db_table)
    words = ["filled", "fresh", "deferred", "waiting", "purged", "woven", "along"]
    return [f"trigger_kit.{word}_{tag}" for word in words]


@pytest.mark.parametrize("value", ["0", "1", "on"])
@pytest.mark.parametrize("setting", ["trigger_kit.locking", "trigger_kit.committing"])
@pytest.mark.parametrize("rules", [COUNT, FAR, DEFERRED], ids=["count", "far", "deferred"])
def test_a_setting_of_ours_switches_nothing_off(
    sql: Sql, writer: Writer, rules: list[Denormalize], setting: str, value: str
) -> None:
    sql(PUBLISHERS)
    keep([(Publisher, rules)])
    sql(f"SET LOCAL {setting} = '{value}'")
    for other in settings_of(Publisher):
        sql(f"SET LOCAL {other} = '{value}'")
    writer(
        "INSERT INTO archive_work (id, publisher_id) VALUES (1, 1), (2, 1)",
        "INSERT INTO archive_review (id, work_id, stars) VALUES (1, 1, 5), (2, 2, 3)",
        "UPDATE archive_work SET publisher_id = 2 WHERE id = 1",
        "UPDATE archive_review SET stars = 4, work_id = 1 WHERE id = 2",
        "DELETE FROM archive_review WHERE id = 1",
        "SET CONSTRAINTS ALL IMMEDIATE",
    )
    assert_rules_hold([(Publisher, rules)])


@pytest.mark.parametrize("value", ["0", "1", "2"])
def test_no_setting_keeps_a_tree_from_being_summed(sql: Sql, writer: Writer, value: str) -> None:
    sql("INSERT INTO archive_node (id, parent_id, own) VALUES (1, NULL, 1), (2, 1, 2), (3, 2, 3), (4, 1, 4)")
    keep([(Node, TREE)])
    known = named_settings(Node, TREE)
    assert any("along" in name for name in known)
    for name in known:
        sql(f"SET LOCAL {name} = '{value}'")
    writer(
        "INSERT INTO archive_node (id, parent_id, own) VALUES (5, 3, 50)",
        "UPDATE archive_node SET own = 7 WHERE id = 3",
        "UPDATE archive_node SET parent_id = 4 WHERE id = 3",
        "UPDATE archive_node SET parent_id = NULL WHERE id = 2",
        "DELETE FROM archive_node WHERE id = 5",
    )
    assert_rules_hold([(Node, TREE)])


def test_a_note_is_not_forgotten_because_a_setting_says_so(sql: Sql, writer: Writer) -> None:
    """A child comes before its parent, and everything that was set meanwhile is set back."""
    keep([(Publisher, COUNT)])
    writer("INSERT INTO archive_work (id, publisher_id) VALUES (1, 1)", "RESET ALL")
    for name in settings_of(Publisher):
        sql(f"SET LOCAL {name} = ''")
    sql(PUBLISHERS)
    sql("UPDATE archive_publisher SET number = 3 WHERE number = 2")
    writer("INSERT INTO archive_work (id, publisher_id) VALUES (2, 1)")
    sql("SET CONSTRAINTS ALL IMMEDIATE")
    assert_rules_hold([(Publisher, COUNT)])
    assert sql("SELECT count(*) FROM tk_waiting") == [(0,)]


def test_many_notes_of_one_transaction_are_settled_once(sql: Sql) -> None:
    keep([(Publisher, COUNT)])
    for n in range(1, 4):
        sql(f"INSERT INTO archive_work (id, publisher_id) SELECT {n} * 1000 + n, n FROM generate_series(1, 200) AS n")
    assert sql("SELECT count(*) FROM tk_waiting WHERE place = ''") == [(1,)]
    sql("INSERT INTO archive_publisher (id, number) SELECT gen_random_uuid(), n FROM generate_series(1, 200) AS n")
    sql("SET CONSTRAINTS ALL IMMEDIATE")
    assert sql("SELECT DISTINCT the_count FROM archive_publisher") == [(3,)]
    assert sql("SELECT count(*) FROM tk_waiting") == [(0,)]


def test_the_commit_of_deferred_rules_does_not_ask_a_setting(sql: Sql, writer: Writer) -> None:
    sql(PUBLISHERS)
    keep([(Publisher, DEFERRED)])
    for name in (*named_settings(Publisher, DEFERRED), *settings_of(Publisher)):
        sql(f"SET LOCAL {name} = 'on'")
    writer(
        "INSERT INTO archive_work (id, publisher_id) VALUES (1, 1)",
        "INSERT INTO archive_work (publisher_id) VALUES (1)",
    )
    assert sql("SELECT count(*) FROM tk_commit") == [(1,)]
    sql("SET CONSTRAINTS ALL IMMEDIATE")
    assert_rules_hold([(Publisher, DEFERRED)])
    assert Work.objects.count() == 2
