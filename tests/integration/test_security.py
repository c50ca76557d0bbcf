"""A hostile role, which may connect and create temporary tables: trigger functions run as their owner, not for its tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import IntegrityError, ProgrammingError, connection, models, transaction
from django.db.models import Count, F, Max, Sum
from django.test.utils import isolate_apps

from tests.archive.keeping import install, keep, make_tables, rules_of
from tests.archive.models import Node, Person, Publisher, Review, Work
from trigger_kit import Denormalize, Timing
from trigger_kit.plan.plan import plan_all

Sql = Callable[..., list[tuple[Any, ...]]]

OURS = "proname ~ '^~?tk_' AND prorettype = 'trigger'::regtype"
EXECUTED_BY_OTHERS = (
    "SELECT proname, grantee FROM pg_proc, aclexplode(coalesce(proacl, acldefault('f', proowner))) "
    "WHERE proname ~ '^~?tk_' AND grantee <> proowner"
)


@pytest.fixture
def kept(short_inserts: None, sql: Sql) -> None:
    """Rules of every strategy and timing."""
    keep(
        [
            *rules_of(Publisher, the_count=Count("works"), kept_number=Max("works__pages")),
            (Person, [Denormalize("the_total", Sum("reviews__stars", default=0), timing=Timing.DEFERRED)]),
            (Work, [Denormalize("the_count", Count("reviews"), timing=Timing.QUEUED)]),
            *rules_of(Review, kept_text=F("work__publisher__name")),
            *rules_of(Node, the_total=F("own") + Sum("children__the_total", default=0)),
        ]
    )
    sql("SET CONSTRAINTS ALL IMMEDIATE")
    sql("INSERT INTO archive_publisher (id, number, name) VALUES (lpad('1', 32, '0')::uuid, 1, 'p')")
    sql("INSERT INTO archive_work (id, publisher_id, title, pages) VALUES (1, 1, 'w', 10), (2, 1, 'v', 20)")
    sql("SET CONSTRAINTS ALL IMMEDIATE")


def as_stranger(sql: Sql, *statements: str) -> None:
    """Run statements as a role with no rights at all."""
    if not sql("SELECT 1 FROM pg_roles WHERE rolname = 'stranger'"):
        sql("CREATE ROLE stranger")
    try:
        with transaction.atomic():
            sql("SET LOCAL ROLE stranger")
            for statement in statements:
                sql(statement)
    finally:
        sql("RESET ROLE")


def functions(sql: Sql) -> list[str]:
    return [name for (name,) in sql(f"SELECT proname FROM pg_proc WHERE {OURS} ORDER BY proname")]


def test_nobody_else_executes_a_function_of_ours(kept: None, sql: Sql) -> None:
    assert len(functions(sql)) > 20
    assert sql(EXECUTED_BY_OTHERS) == []


def test_what_trigger_functions_share_runs_with_the_rights_of_these(kept: None, sql: Sql) -> None:
    """Nobody gets rights by it who does not have them; that it is there at all, the first assertion says."""
    shared = (
        "SELECT proname, prosecdef FROM pg_proc "
        "WHERE proname ~ '^~?tk_' AND proname !~ '^tk_flush_' AND prorettype <> 'trigger'::regtype"
    )
    assert {"lock", "apply", "recompute"} <= {word for name, _ in sql(shared) for word in name.split("_")}
    assert not any(is_definer for _, is_definer in sql(shared))
    with pytest.raises(Exception, match="permission denied for function tk_is_paused_v1"):
        as_stranger(sql, "SELECT tk_is_paused_v1('archive_work')")


def test_default_privileges_grant_nothing(db: None, sql: Sql) -> None:
    sql("CREATE ROLE friend; ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO friend, PUBLIC")
    install(plan_all(rules_of(Publisher, the_count=Count("works"))))
    assert sql(EXECUTED_BY_OTHERS) == []


def test_a_function_that_a_stranger_has_put_there_first_is_not_called(db: None, sql: Sql) -> None:
    sql("CREATE ROLE stranger; GRANT CREATE, USAGE ON SCHEMA public TO stranger; DROP FUNCTION tk_is_paused_v1(text)")
    mine = "CREATE FUNCTION tk_is_paused_v1(target text) RETURNS boolean LANGUAGE sql AS 'SELECT true'"
    as_stranger(sql, mine, "GRANT EXECUTE ON FUNCTION tk_is_paused_v1 TO PUBLIC")
    with pytest.raises(Exception, match="Somebody else owns the function tk_is_paused_v1"), transaction.atomic():
        install(plan_all(rules_of(Publisher, the_count=Count("works"))))


def test_a_stranger_cannot_put_a_function_on_a_table_of_his_own(kept: None, sql: Sql) -> None:
    for name in functions(sql):
        with pytest.raises(ProgrammingError, match="permission denied for function"):
            as_stranger(
                sql,
                "CREATE TEMPORARY TABLE mine (id int)",
                f'CREATE TRIGGER evil AFTER INSERT ON mine EXECUTE FUNCTION public."{name}"()',
            )


@pytest.mark.parametrize("event", ["INSERT", "UPDATE", "DELETE", "TRUNCATE"])
def test_restored_without_privileges_a_function_refuses_foreign_tables(kept: None, sql: Sql, event: str) -> None:
    """``pg_restore --no-privileges`` leaves EXECUTE to PUBLIC: a counter must not follow what a stranger makes up."""
    values = "SELECT publisher.the_count, publisher.kept_number, work.the_count FROM archive_publisher AS publisher, archive_work AS work"
    before = sql(values)
    write = {
        "INSERT": "INSERT INTO mine SELECT * FROM mine",
        "UPDATE": "UPDATE mine SET pages = 1000",
        "DELETE": "DELETE FROM mine",
        "TRUNCATE": "TRUNCATE mine",
    }[event]
    tables = {"INSERT": "NEW TABLE AS new_rows", "DELETE": "OLD TABLE AS old_rows", "TRUNCATE": ""}
    tables["UPDATE"] = "OLD TABLE AS old_rows NEW TABLE AS new_rows"
    referencing = f"REFERENCING {tables[event]}" if tables[event] else ""
    for name in functions(sql):
        sql(f'GRANT EXECUTE ON FUNCTION public."{name}"() TO PUBLIC')
        with pytest.raises(ProgrammingError, match="This trigger function is not for"):
            as_stranger(
                sql,
                "CREATE TEMPORARY TABLE mine (id bigint, publisher_id int, pages int, work_id bigint, own int)",
                "INSERT INTO mine VALUES (1, 1, 10, 1, 1)",
                f"CREATE TRIGGER evil AFTER {event} ON mine {referencing} FOR EACH STATEMENT"
                f' EXECUTE FUNCTION public."{name}"()',
                write,
            )
    assert sql(values) == before
    assert connection.in_atomic_block


def test_the_functions_work_for_the_partitions_of_their_table(short_inserts: None, sql: Sql) -> None:
    """Row triggers of partitions are clones of their root's, and fire for the partition."""
    sql("CREATE TABLE parted (LIKE archive_publisher INCLUDING DEFAULTS, PRIMARY KEY (id)) PARTITION BY HASH (id)")
    sql("CREATE TABLE part PARTITION OF parted FOR VALUES WITH (MODULUS 1, REMAINDER 0)")
    sql("ALTER TABLE archive_publisher RENAME TO old_publisher")
    sql("ALTER TABLE parted RENAME TO archive_publisher")
    install(plan_all(rules_of(Publisher, kept_number=Max("works__pages"))))
    sql("INSERT INTO archive_publisher (id, number, name, kept_number) VALUES (lpad('1', 32, '0')::uuid, 1, 'p', 77)")
    assert sql("SELECT kept_number FROM part") == [(None,)]
    sql("UPDATE archive_publisher SET kept_number = 5")
    assert sql("SELECT kept_number FROM part") == [(None,)]


@pytest.mark.parametrize("timing", [Timing.IMMEDIATE, Timing.DEFERRED])
@pytest.mark.parametrize("rows", ["(1, 5, 90)", "(1, 5, 60), (2, 5, 60)"], ids=["one row", "two rows"])
@pytest.mark.parametrize("column", ["limited", "positive"])
def test_a_check_that_fails_does_not_show_the_row_of_the_target(
    sql: Sql, timing: Timing, rows: str, column: str
) -> None:
    """PostgreSQL shows the whole row where the one who writes may read it: the owner of the function may."""
    with isolate_apps("tests.archive"):

        class Safe(models.Model):
            secret = models.TextField()
            limited = models.IntegerField(db_default=0)
            positive = models.PositiveIntegerField(db_default=0)

            class Meta:
                app_label = "archive"
                constraints = [models.CheckConstraint(condition=models.Q(limited__lte=80), name="not_too_much")]

        class Coin(models.Model):
            safe = models.ForeignKey(Safe, models.CASCADE, related_name="coins")
            value = models.IntegerField()

            class Meta:
                app_label = "archive"

        make_tables(Safe, Coin)
        sql("INSERT INTO archive_safe (id, secret) VALUES (5, 'hidden treasure')")
        value = Sum("coins__value", default=0) if column == "limited" else -Sum("coins__value", default=0)
        keep([(Safe, [Denormalize(column, value, timing=timing if column == "limited" else Timing.IMMEDIATE)])])
    sql("CREATE ROLE writer; GRANT INSERT ON archive_coin TO writer")
    with pytest.raises(IntegrityError, match=f"kept by archive.Safe:{column}") as caught, transaction.atomic():
        sql("SET LOCAL ROLE writer")
        sql(f"INSERT INTO archive_coin (id, safe_id, value) VALUES {rows}")
        sql("SET CONSTRAINTS ALL IMMEDIATE")
    diagnostic = caught.value.__cause__.diag  # type: ignore[union-attr]
    assert "treasure" not in str(vars_of(diagnostic))
    assert diagnostic.message_detail == "Keys: {5}"
    assert diagnostic.table_name == "archive_safe"


def vars_of(diagnostic: Any) -> list[str]:
    return [str(getattr(diagnostic, name)) for name in dir(diagnostic) if not name.startswith("_")]
