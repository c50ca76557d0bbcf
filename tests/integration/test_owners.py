"""Whose the objects are: all that serves a target belongs to the owner of its table, whoever migrates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models import Count, F, Max, Model, Q, Sum

from tests.archive.keeping import assert_rules_hold, install, install_anew, keep, rules_of
from tests.archive.models import Node, Person, Publisher, Review
from tests.archive.rules import POOLS
from tests.golden.test_golden import CASES
from trigger_kit import Denormalize, Timing
from trigger_kit.database.changes import Change
from trigger_kit.database.converge import converge
from trigger_kit.database.script import converge_script
from trigger_kit.database.wanted import Wanted
from trigger_kit.exceptions import RuleError, TriggerKitError
from trigger_kit.plan.plan import plan, plan_all

Sql = Callable[..., list[tuple[Any, ...]]]

COUNT = [(Publisher, [Denormalize("the_count", Count("works"))])]
OWNERS = "SELECT DISTINCT proowner::regrole::text FROM pg_proc WHERE proname ~ %s AND proname !~ '_v1$|^tk_commit$'"
SEED = "INSERT INTO archive_publisher (id, number) VALUES ('00000000-0000-0000-0000-000000000001', 1)"
# What anybody but its owner may execute, but for what readers of a queue are granted.
EXECUTED_BY_OTHERS = """
SELECT proname, grantee::regrole FROM pg_proc, aclexplode(coalesce(proacl, acldefault('f', proowner)))
WHERE proname ~ '^~?tk_' AND grantee <> proowner
"""
pytestmark = pytest.mark.usefixtures("short_inserts")


@pytest.fixture
def app(sql: Sql) -> None:
    """Let the tables of a publisher and its works belong to a plain role."""
    sql("CREATE ROLE app; GRANT CREATE, USAGE ON SCHEMA public TO app")
    sql("ALTER TABLE archive_publisher OWNER TO app; ALTER TABLE archive_work OWNER TO app")


def as_role(sql: Sql, role: str, *statements: str) -> None:
    sql(f"SET LOCAL ROLE {role}")
    for statement in statements:
        sql(statement)
    sql("RESET ROLE")


def install_in_part(rules: Any) -> None:
    with transaction.atomic():
        install(plan_all(rules))


def test_a_superuser_who_migrates_owns_nothing(app: None, sql: Sql) -> None:
    keep(COUNT)
    assert sql(OWNERS, "publisher") == [("app",)]
    sql(SEED)
    sql("CREATE ROLE writer; GRANT INSERT, SELECT ON archive_work TO writer")
    as_role(sql, "writer", "INSERT INTO archive_work (id, publisher_id) VALUES (1, 1), (2, 1), (3, 7)")
    assert_rules_hold(COUNT)


def test_the_triggers_of_others_run_with_the_rights_of_the_owner_of_their_table(app: None, sql: Sql) -> None:
    """Who may put a trigger on a target could run code as the owner of our functions, and he was a superuser."""
    keep(COUNT)
    sql(SEED)
    sql("CREATE ROLE eve; GRANT TRIGGER ON archive_publisher TO eve; GRANT CREATE, USAGE ON SCHEMA public TO eve")
    sql("CREATE TABLE seen (who text); GRANT INSERT ON seen TO PUBLIC")
    look = "CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.seen SELECT current_user; RETURN NULL; END'"
    as_role(sql, "eve", look, "CREATE TRIGGER look AFTER UPDATE ON archive_publisher EXECUTE FUNCTION look()")
    sql("INSERT INTO archive_work (id, publisher_id) VALUES (1, 1)")
    assert sql("SELECT DISTINCT who FROM seen") == [("app",)]


@pytest.mark.parametrize("timing", Timing)
def test_targets_of_two_owners_live_in_one_schema(app: None, sql: Sql, timing: Timing) -> None:
    sql("CREATE ROLE other; GRANT CREATE, USAGE ON SCHEMA public TO other; ALTER TABLE archive_person OWNER TO other")
    sql("GRANT SELECT, UPDATE ON archive_review TO other; GRANT SELECT ON archive_review TO app")
    total = Denormalize("the_total", Sum("reviews__stars", default=0), timing=timing)
    rules = [(Publisher, [Denormalize("the_count", Count("works"), timing=timing)]), (Person, [total])]
    keep(rules)
    assert {owner for (owner,) in sql(OWNERS, "archive_publisher|archive_person")} == {"app", "other"}
    sql(SEED)
    sql("INSERT INTO archive_person (id) VALUES (1)")
    sql("CREATE ROLE writer; GRANT ALL ON archive_work, archive_review TO writer")
    writes = (
        "INSERT INTO archive_work (id, publisher_id) VALUES (1, 1), (2, 1), (3, 9)",
        "INSERT INTO archive_review (id, work_id, author_id, stars) VALUES (1, 1, 1, 3), (2, 1, NULL, 4)",
        "UPDATE archive_review SET stars = 9 WHERE id = 1",
        "DELETE FROM archive_work WHERE id = 2",
    )
    as_role(sql, "writer", *writes)
    sql(SEED.replace("1', 1)", "9', 9)"))
    assert_rules_hold(rules)
    install_in_part(rules)


def test_an_owner_who_may_not_read_a_source_is_told_what_to_grant(app: None, sql: Sql) -> None:
    sql("ALTER TABLE archive_work OWNER TO CURRENT_USER")
    with pytest.raises(TriggerKitError, match="app, who owns archive_publisher, needs SELECT on archive_work. GRANT"):
        install_in_part(COUNT)
    sql("GRANT SELECT ON archive_work TO app")
    keep(COUNT)


def test_an_owner_who_may_not_create_functions_is_told_so(app: None, sql: Sql) -> None:
    sql("REVOKE CREATE ON SCHEMA public FROM app; CREATE ROLE migrator; GRANT app TO migrator")
    sql("GRANT CREATE ON SCHEMA public TO migrator; GRANT ALL ON ALL TABLES IN SCHEMA public TO migrator")
    sql("ALTER TABLE tk_touched OWNER TO migrator; ALTER TABLE tk_waiting OWNER TO migrator")
    sql("SET LOCAL ROLE migrator")
    with pytest.raises(TriggerKitError, match="app, who owns archive_publisher, may not create functions"):
        install_in_part(COUNT)
    sql("RESET ROLE")


def test_who_is_no_member_of_the_owners_role_is_told_so(app: None, sql: Sql) -> None:
    sql("CREATE ROLE migrator; GRANT CREATE ON SCHEMA public TO migrator")
    sql("GRANT ALL ON ALL TABLES IN SCHEMA public TO migrator")
    sql("SET LOCAL ROLE migrator")
    with pytest.raises(
        TriggerKitError, match="archive_publisher belongs to app, and migrator is no member of that role"
    ):
        install_in_part(COUNT)
    sql("RESET ROLE")


@pytest.mark.parametrize(
    ("what", "statement"),
    [
        ("relation tk_touched", "CREATE TABLE tk_touched (transaction xid8, target text, key_column text, key text)"),
        ("relation tk_commit", "CREATE TABLE tk_commit (transaction xid8, rank int, target text)"),
        ("function tk_mark_v1", "CREATE FUNCTION tk_mark_v1(mark text) RETURNS text LANGUAGE sql AS 'SELECT 1'"),
    ],
)
def test_what_a_stranger_has_put_there_first_is_refused(sql: Sql, what: str, statement: str) -> None:
    sql("CREATE SCHEMA fresh; SET LOCAL search_path = fresh, public")
    sql("CREATE TABLE fresh.archive_publisher (LIKE public.archive_publisher INCLUDING ALL)")
    sql("CREATE ROLE eve; GRANT CREATE, USAGE ON SCHEMA fresh TO eve")
    as_role(sql, "eve", statement)
    with pytest.raises(Exception, match=f"Somebody else owns the {what}|must be owner"):
        install_in_part(COUNT)


# The pinned path ----------------------------------------------------------------------------------------------------


def pinned(sql: Sql) -> set[str]:
    paths = sql("SELECT DISTINCT unnest(proconfig) FROM pg_proc WHERE proname ~ 'tk_.*archive_publisher'")
    return {path.partition("=")[2] for (path,) in paths if path.startswith("search_path=")}


def test_a_schema_where_others_may_create_is_not_in_the_path(sql: Sql) -> None:
    """An operator that fits better than PostgreSQL's own would be taken, and run as the owner of our functions."""
    rules = [(Publisher, [Denormalize("the_count", Count("works", filter=Q(works__title="y")))])]
    plans = keep(rules)
    assert pinned(sql) == {"pg_catalog, public, pg_temp"}
    sql("CREATE ROLE eve; GRANT CREATE ON SCHEMA public TO eve")
    install_anew(plans)
    assert pinned(sql) == {"pg_catalog, pg_temp"}
    evil = "CREATE FUNCTION evil(varchar, varchar) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RAISE ''caught''; END'"
    as_role(sql, "eve", evil, "CREATE OPERATOR = (LEFTARG = varchar, RIGHTARG = varchar, FUNCTION = evil)")
    sql(SEED)
    sql("INSERT INTO archive_work (id, publisher_id, title) VALUES (1, 1, 'x'), (2, 1, 'y')")
    sql("UPDATE archive_work SET title = 'y' WHERE id = 1")
    sql("DROP OPERATOR = (varchar, varchar)")
    assert_rules_hold(rules)


def test_operators_of_an_extension_must_be_safe(sql: Sql) -> None:
    sql("CREATE EXTENSION IF NOT EXISTS citext SCHEMA public; CREATE ROLE eve; GRANT CREATE ON SCHEMA public TO eve")
    sql("ALTER TABLE archive_work ALTER COLUMN title TYPE citext")
    with pytest.raises(TriggerKitError, match=r"archive_work.title is of the type citext.*schema public"):
        install_in_part(COUNT)
    sql("REVOKE CREATE ON SCHEMA public FROM eve")
    keep(COUNT)


# The catalog --------------------------------------------------------------------------------------------------------


def everything() -> list[tuple[type[Model], list[Denormalize]]]:
    """Return the golden cases, and the rules of the grammar of the property tests, many on a model at a time."""
    golden = [(model, rules) for model, rules in CASES.values() if model._meta.app_label == "archive"]
    return [
        (model, [Denormalize(field, choices[n]) for field, choices in pool.items() if n < len(choices)])
        for model, pool in POOLS.items()
        for n in range(max(map(len, pool.values())))
    ] + golden


def test_the_catalog_shows_no_function_that_others_may_use(sql: Sql) -> None:
    sql("CREATE ROLE friend; ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO friend, PUBLIC")
    for model, rules in everything():
        try:
            with transaction.atomic():
                converge(connection, [Change(after=Wanted(plan(model, rules)))])
        except RuleError:
            continue
    keep(rules_of(Review, kept_text=F("work__publisher__name")))
    keep(rules_of(Node, the_total=F("own") + Sum("children__the_total", default=0)))
    assert sql("SELECT count(*) > 60 FROM pg_proc WHERE proname ~ '^~?tk_.*archive'") == [(True,)]
    assert sql(EXECUTED_BY_OTHERS) == []
    definers = "SELECT DISTINCT regexp_replace(proname, '_archive.*', '') FROM pg_proc WHERE proname ~ '^~?tk_'"
    others = "AND prosecdef AND prorettype <> 'trigger'::regtype"
    assert sql(f"{definers} {others}") == [("tk_flush",)]
    unpinned = "AND prosecdef AND NOT coalesce(proconfig, '{}') && ARRAY['search_path=pg_catalog, public, pg_temp']"
    assert sql(f"{definers} {unpinned}") == []
    assert sql(f"{definers} AND prorettype = 'trigger'::regtype AND NOT prosecdef") == []


def test_the_script_for_psql_gives_the_same_owners(app: None, sql: Sql) -> None:
    lines: list[str] = []
    converge_script(connection, [Change(after=Wanted(plan(*COUNT[0])))], lines.append)
    for line in lines:
        sql(line)
    assert sql(OWNERS, "publisher") == [("app",)]


def test_a_target_of_the_one_who_migrates_is_his(sql: Sql) -> None:
    keep(rules_of(Publisher, kept_number=Max("works__pages")))
    assert sql(OWNERS, "publisher") == sql("SELECT current_user::text")
