"""To whom functions belong, and where they look: what a role that may create objects in a schema cannot make of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from django.core.checks import CheckMessage, run_checks
from django.db import DatabaseError, ProgrammingError, connection, transaction
from django.db.models import Count, F, Max, Q, Sum
from django.db.models.functions import Collate, Lower

from tests.archive.keeping import Rules, install, keep, rules_of
from tests.archive.models import Country, Person, Publisher, Review, Work
from trigger_kit import Denormalize, Timing
from trigger_kit.database.catalog import Placement
from trigger_kit.database.changes import Change
from trigger_kit.database.converge import converge
from trigger_kit.database.owners import is_settled
from trigger_kit.database.script import converge_script
from trigger_kit.database.wanted import Wanted
from trigger_kit.exceptions import TriggerKitError
from trigger_kit.maintenance.current import live_state, seen, write_down
from trigger_kit.maintenance.leave import uninstall_all
from trigger_kit.maintenance.prune import prune
from trigger_kit.maintenance.status import rule_statuses
from trigger_kit.maintenance.switch import install_rules
from trigger_kit.maintenance.switched import Switched
from trigger_kit.plan.plan import Plan, plan_all
from trigger_kit.sql.queued import undo_queue
from trigger_kit.sql.shared import SHARED_NAMES
from trigger_kit.sql.text import fill_placeholders
from trigger_kit.sql.trigger import Comment

Sql = Callable[..., list[tuple[Any, ...]]]

# Of two targets, one reads what the other keeps.
COUNT: Rules = [(Publisher, [Denormalize("the_count", Count("works"), timing=Timing.DEFERRED)])]
QUEUE: Rules = [(Work, [Denormalize("the_count", Count("reviews"), timing=Timing.QUEUED)])]
PATH: Rules = rules_of(Publisher, the_total=Sum("works__reviews__stars", default=0))

OWNERS = """
SELECT proname, proowner::regrole::text FROM pg_proc WHERE proname ~ '^~?tk_' AND proname ~ %s
UNION ALL SELECT relname, relowner::regrole::text FROM pg_class WHERE relkind IN ('r', 'v') AND relname ~ '^tk_' AND relname ~ %s
"""
STRANGER = "CREATE ROLE stranger; GRANT CREATE, USAGE ON SCHEMA public TO stranger"


@contextmanager
def as_role(sql: Sql, role: str) -> Iterator[None]:
    """Be a role; whatever fails is taken back."""
    with transaction.atomic():
        sql(f"SET LOCAL ROLE {role}")
        yield
        sql("RESET ROLE")


def refusal(rules: Rules) -> str:
    """Return the one line that refuses an installation."""
    with pytest.raises(TriggerKitError) as caught, transaction.atomic():
        install(plan_all(rules))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def owners(sql: Sql, words: str) -> set[str]:
    """Return the owners of functions, tables and views of ours whose names match."""
    return {owner for _, owner in sql(OWNERS, words, words)}


def settled(plan: Plan) -> bool:
    """Whether a look at the catalog finds nothing to do."""
    return is_settled(Placement(connection, plan.target), Wanted(plan))


@pytest.fixture
def app(short_inserts: None, sql: Sql) -> None:
    """Publishers, works, reviews and all that leads to them belong to app."""
    sql("CREATE ROLE app; CREATE ROLE other")
    for model in (Publisher, Work, Review, Person, Country):
        sql(f"ALTER TABLE {model._meta.db_table} OWNER TO app")


def rows(sql: Sql) -> None:
    sql("INSERT INTO archive_publisher (id, number, name) VALUES (lpad('1', 32, '0')::uuid, 1, 'p')")
    sql("INSERT INTO archive_work (id, publisher_id, title, pages) VALUES (1, 1, 'w', 10), (2, 1, 'v', 20)")
    sql("INSERT INTO archive_review (work_id, stars) VALUES (1, 4), (2, 5)")
    sql("SET CONSTRAINTS ALL IMMEDIATE")
    sql("SET CONSTRAINTS ALL DEFERRED")


# Owners -------------------------------------------------------------------------------------------------------------


def test_a_superuser_installs_and_everything_of_a_target_is_its_owners(app: None, sql: Sql) -> None:
    keep([*COUNT, *QUEUE, *rules_of(Person, the_total=Sum("reviews__stars", default=0))])
    assert owners(sql, "archive") == {"app"}
    assert len(sql(OWNERS, "archive", "archive")) > 30
    assert owners(sql, "^tk_(touched|waiting|commit|state|is_paused)") == {"postgres"}


def test_a_users_trigger_runs_as_the_owner_and_not_as_who_has_migrated(app: None, sql: Sql) -> None:
    keep(rules_of(Publisher, the_total=Count("works")))
    sql("CREATE TABLE seen (who text); GRANT INSERT ON seen TO PUBLIC; GRANT CREATE ON SCHEMA public TO app")
    with as_role(sql, "app"):
        sql(
            "CREATE FUNCTION spy() RETURNS trigger LANGUAGE plpgsql AS "
            "'BEGIN INSERT INTO public.seen VALUES (current_user); RETURN NULL; END'"
        )
        sql("CREATE TRIGGER spy AFTER UPDATE ON archive_publisher FOR EACH ROW EXECUTE FUNCTION spy()")
    rows(sql)
    assert set(sql("SELECT who FROM seen")) == {("app",)}


def test_a_target_that_changes_hands_is_brought_over(app: None, sql: Sql) -> None:
    (plan,) = keep(QUEUE)
    change = Change(after=Wanted(plan), fills=False)
    assert settled(plan)
    sql("ALTER TABLE archive_work OWNER TO other; GRANT SELECT, UPDATE ON archive_review TO other")
    assert not settled(plan)
    converge(connection, [change])
    assert owners(sql, "archive") == {"other"}
    assert settled(plan)


def test_two_owners_in_one_schema(app: None, sql: Sql) -> None:
    """Writers have rights on the source alone; each target's functions have what they need of what both share."""
    sql("ALTER TABLE archive_publisher OWNER TO other; CREATE ROLE writer; GRANT ALL ON archive_work TO writer")
    sql(
        "GRANT SELECT, UPDATE ON archive_work, archive_review TO other; GRANT SELECT, UPDATE ON archive_publisher TO app"
    )
    keep(
        [
            *COUNT,
            *rules_of(Person, the_total=Sum("reviews__stars", default=0)),
            (Work, [Denormalize("the_count", Count("reviews"), timing=Timing.DEFERRED)]),
        ]
    )
    rows(sql)
    assert (owners(sql, "tk_archive_publisher"), owners(sql, "tk_archive_(work|person)")) == ({"other"}, {"app"})
    with as_role(sql, "writer"):
        sql("INSERT INTO archive_work (id, publisher_id, title) VALUES (3, 1, 'x')")
        sql("DELETE FROM archive_work WHERE id = 2 AND false")
        sql("SET CONSTRAINTS ALL IMMEDIATE")
    assert sql("SELECT the_count FROM archive_publisher") == [(3,)]
    granted = sql(
        "SELECT DISTINCT relname, grantee::regrole::text, string_agg(privilege_type, ', ' ORDER BY privilege_type) "
        "FROM pg_class, aclexplode(relacl) WHERE relname IN ('tk_touched', 'tk_waiting', 'tk_commit', 'tk_state') "
        "AND grantee <> relowner GROUP BY 1, 2"
    )
    assert {(role, rights) for _, role, rights in granted} == {
        ("app", "DELETE, INSERT, SELECT, UPDATE"),
        ("other", "DELETE, INSERT, SELECT, UPDATE"),
    }
    shared = "SELECT grantee::regrole::text FROM pg_proc, aclexplode(proacl) WHERE proname = %s AND grantee <> proowner"
    assert set(sql(shared, "tk_is_paused_v1")) == {("app",), ("other",)}
    assert sql(shared, "tk_commit") == []


def test_a_role_that_may_not_write_down_what_it_has_seen_goes_on(sql: Sql) -> None:
    sql("CREATE ROLE app; GRANT SELECT ON ALL TABLES IN SCHEMA public TO app")
    before = sql("SELECT obj_description('tk_commit()'::regprocedure)")
    found = seen(connection, live_state())
    assert found is not None
    with as_role(sql, "app"):
        write_down(connection, replace(found, found="other"))
    assert sql("SELECT obj_description('tk_commit()'::regprocedure)") == before


def test_owners_in_a_pause(app: None, sql: Sql) -> None:
    keep(rules_of(Publisher, the_total=Count("works")))
    rows(sql)
    sql(
        "SELECT set_config('trigger_kit.paused', 'on', true); INSERT INTO archive_work (publisher_id, title) VALUES (1, '')"
    )
    assert sql("SELECT target FROM tk_touched") == [("archive_publisher",)]


def test_a_role_installs_what_is_its_own(app: None, sql: Sql) -> None:
    """On tables of its own, in a schema that a superuser has prepared."""
    sql("GRANT CREATE ON SCHEMA public TO app; DROP TABLE tk_state, tk_touched, tk_waiting, tk_commit CASCADE")
    sql(f"DROP FUNCTION {', '.join(SHARED_NAMES)}")
    with as_role(sql, "app"):
        install(plan_all([*COUNT, *QUEUE]))
    assert owners(sql, "archive|^tk_(touched|waiting|commit|state)|_v1$") == {"app"}


# What an owner lacks ------------------------------------------------------------------------------------------------


def test_rights_on_a_source_of_somebody_else(app: None, sql: Sql) -> None:
    sql("ALTER TABLE archive_review OWNER TO other; ALTER TABLE archive_work OWNER TO other")
    assert refusal(PATH) == (
        "The functions that keep archive_publisher run as its owner, app, who lacks rights. Run GRANT SELECT ON "
        "archive_review TO app; GRANT SELECT ON archive_work TO app; GRANT UPDATE ON archive_work TO app."
    )
    sql(
        "GRANT SELECT ON archive_review TO app; GRANT SELECT ON archive_work TO app; GRANT UPDATE ON archive_work TO app"
    )
    keep(PATH)
    rows(sql)
    sql("CREATE ROLE writer; GRANT ALL ON archive_review TO writer")
    with as_role(sql, "writer"):
        sql("INSERT INTO archive_review (work_id, stars) VALUES (1, 1)")
        sql("UPDATE archive_review SET stars = stars + 1")
    assert sql("SELECT the_total FROM archive_publisher") == [(13,)]


def test_rights_on_the_schema(app: None, sql: Sql) -> None:
    sql("CREATE SCHEMA apart; ALTER TABLE archive_work SET SCHEMA apart; SET search_path = public, apart")
    assert "GRANT USAGE ON SCHEMA apart TO app" in refusal(rules_of(Publisher, the_total=Count("works")))


def test_who_may_not_give_functions_to_the_owner(app: None, sql: Sql) -> None:
    sql(
        "CREATE ROLE deployer; GRANT ALL ON ALL TABLES IN SCHEMA public TO deployer; GRANT CREATE ON SCHEMA public TO deployer"
    )
    with as_role(sql, "deployer"):
        told = refusal(rules_of(Publisher, the_total=Count("works")))
        assert told == (
            "The functions that keep archive_publisher run as its owner, app, and deployer may not make them his. "
            "Run GRANT app TO deployer, or install as app."
        )
    sql("GRANT app TO deployer")
    with as_role(sql, "deployer"):
        told = refusal(COUNT)
        assert told.startswith("What trigger_kit has in the schema public belongs to postgres, and deployer may not ")
        assert "Install as postgres, or let it run ALTER FUNCTION tk_arrived_v1(regclass,text,text) OWNER TO " in told
    sql(told.partition("let it run ")[2].removesuffix("."))
    with as_role(sql, "deployer"):
        assert "GRANT CREATE ON SCHEMA public TO app" in refusal(COUNT)
    sql("GRANT CREATE ON SCHEMA public TO app")
    with as_role(sql, "deployer"):
        install(plan_all(COUNT))
    assert owners(sql, "archive") == {"app"}
    assert owners(sql, "^tk_(touched|waiting|commit$|state)|_v1$") == {"deployer"}


# The pinned path ----------------------------------------------------------------------------------------------------


def paths(sql: Sql) -> set[str]:
    (found,) = zip(
        *sql(
            "SELECT DISTINCT setting FROM pg_proc, unnest(proconfig) AS setting "
            "WHERE proname ~ '^~?tk_archive' AND prosecdef AND setting LIKE 'search_path=%'",
        ),
        strict=True,
    )
    return set(found)


OPERATOR = """
CREATE FUNCTION same(varchar, varchar) RETURNS boolean LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO public.seen VALUES (current_user); RETURN $1::text = $2::text; END $$;
CREATE OPERATOR public.= (LEFTARG = varchar, RIGHTARG = varchar, FUNCTION = same);
CREATE FUNCTION public.lower(varchar) RETURNS text LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO public.seen VALUES (current_user); RETURN pg_catalog.lower($1::text); END $$
"""


def test_an_operator_of_somebody_who_may_create_is_not_found(app: None, sql: Sql) -> None:
    sql(STRANGER + "; CREATE TABLE seen (who text); GRANT INSERT ON seen TO PUBLIC")
    with as_role(sql, "stranger"):
        sql(OPERATOR)
    rules = rules_of(Publisher, the_count=Count("works", filter=Q(works__title=F("name"))), kept_text=Lower("name"))
    plans = plan_all(rules)
    for plan in plans:
        converge(connection, [Change(after=Wanted(plan))])
    rows(sql)
    sql("UPDATE archive_work SET title = 'p'; UPDATE archive_publisher SET name = 'P'")
    assert sql("SELECT who FROM seen") == []
    assert paths(sql) == {"search_path=pg_catalog, pg_temp"}


def test_a_schema_in_which_only_its_owner_creates_stays(app: None, sql: Sql) -> None:
    keep(COUNT)
    assert paths(sql) == {"search_path=pg_catalog, public, pg_temp"}
    sql("GRANT CREATE ON SCHEMA public TO app")
    keep(QUEUE)
    assert paths(sql) == {"search_path=pg_catalog, public, pg_temp"}


@pytest.mark.parametrize("role", ["PUBLIC", "other"])
def test_a_schema_that_opens_is_left_out_at_the_next_installation(app: None, sql: Sql, role: str) -> None:
    (plan,) = keep(COUNT)
    change = Change(after=Wanted(plan), fills=False)
    sql(f"GRANT CREATE ON SCHEMA public TO {role}")
    assert not settled(plan)
    converge(connection, [change])
    assert paths(sql) == {"search_path=pg_catalog, pg_temp"}
    assert settled(plan)
    sql(f"REVOKE CREATE ON SCHEMA public FROM {role}")
    assert not settled(plan)
    converge(connection, [change])
    assert paths(sql) == {"search_path=pg_catalog, public, pg_temp"}


def test_a_type_of_a_schema_that_is_left_out_is_refused(app: None, sql: Sql) -> None:
    """Without its operators a citext is compared as a text, in silence."""
    sql(
        "CREATE TYPE mood AS ENUM ('ok'); ALTER TABLE archive_work ALTER title DROP DEFAULT, ALTER title TYPE mood USING NULL; "
        + STRANGER
    )
    told = refusal(rules_of(Publisher, kept_text=Max("works__title")))
    assert "need the type mood of the schema public" in told
    assert "Run REVOKE CREATE ON SCHEMA public FROM stranger" in told
    install(plan_all(rules_of(Publisher, the_total=Count("works"))))


def test_a_collation_of_a_schema_that_is_left_out_is_refused(app: None, sql: Sql) -> None:
    sql("CREATE COLLATION mine (LOCALE = 'C'); " + STRANGER)
    told = refusal(rules_of(Publisher, kept_text=Collate(Max("works__title"), "mine")))
    assert 'collation "mine" for encoding "UTF8" does not exist' in told


# What is there first ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gone", "made"),
    [
        ("TABLE tk_state", "CREATE TABLE tk_state (name text, kind text, value jsonb, at timestamptz)"),
        ("TABLE tk_touched", "CREATE TABLE tk_touched (transaction xid8, target text, key_column text, key text)"),
        ("TABLE tk_waiting", "CREATE VIEW tk_waiting AS SELECT 1 AS transaction"),
        ("TABLE tk_commit", "CREATE TABLE tk_commit (transaction xid8, rank integer, target text)"),
        ("FUNCTION tk_commit", "CREATE FUNCTION tk_commit() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN END'"),
        (
            "FUNCTION tk_is_paused_v1",
            "CREATE FUNCTION tk_is_paused_v1(text) RETURNS boolean LANGUAGE sql AS 'SELECT true'",
        ),
        (
            "FUNCTION tk_is_paused_v1",
            "CREATE FUNCTION tk_is_paused_v1(name) RETURNS boolean LANGUAGE sql AS 'SELECT true'",
        ),
        ("", "CREATE TABLE tk_pending_archive_work (id int)"),
        ("", "CREATE FUNCTION tk_flush_archive_work(bigint, boolean) RETURNS bigint LANGUAGE sql AS 'SELECT 1'"),
        ("", "CREATE FUNCTION tk_flush_archive_work() RETURNS bigint LANGUAGE sql AS 'SELECT 1'"),
        ("", "CREATE FUNCTION tk_exact_archive_work() RETURNS int LANGUAGE sql AS 'SELECT 1'"),
    ],
)
def test_what_a_stranger_has_put_there_first_is_refused(app: None, sql: Sql, gone: str, made: str) -> None:
    sql(STRANGER)
    if gone:
        sql(f"DROP {gone} CASCADE")
    with as_role(sql, "stranger"):
        sql(made)
    kind, name = made.split("(")[0].split()[1:3]
    told = refusal(QUEUE)
    assert told.startswith(
        f"Somebody else owns the {kind.lower().replace('view', 'table')} {name} in the schema public: "
    )
    assert told.endswith("the role stranger. Drop it, or let it belong to app, and install again.")


def test_a_trigger_function_that_a_stranger_has_put_there_first_is_refused(app: None, sql: Sql) -> None:
    (plan,) = plan_all(COUNT)
    name = Wanted(plan).triggers[0].name
    sql(STRANGER)
    with as_role(sql, "stranger"):
        sql(f"CREATE FUNCTION \"{name}\"() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN END'")
    assert name in refusal(COUNT)


def test_a_flush_that_a_stranger_adds_later_is_not_called(app: None, sql: Sql) -> None:
    """It would fit a call without arguments better than the one with defaults."""
    (plan,) = keep(QUEUE)
    rows(sql)
    sql(STRANGER)
    with as_role(sql, "stranger"):
        sql("CREATE FUNCTION tk_flush_archive_work() RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN RAISE 'mine'; END $$")
    with pytest.raises(TriggerKitError, match="Somebody else owns the function tk_flush_archive_work"):
        converge(connection, [Change(table=plan.target)])
    with connection.cursor() as cursor:
        cursor.execute(fill_placeholders(undo_queue(plan.target), Placement(connection, plan.target)), None)
    assert sql("SELECT the_count FROM archive_work ORDER BY id") == [(1,), (1,)]


def test_a_strangers_trigger_with_our_comment_lets_nothing_of_his_run(app: None, sql: Sql) -> None:
    """What is pending is folded before a queue goes: his flush, as it says, of a target that has none."""
    sql(STRANGER)
    comment = Comment(1, "archive_publisher", "0" * 40, "queue").write()
    with as_role(sql, "stranger"):
        sql("CREATE TABLE mine (id int); CREATE TABLE tk_pending_archive_publisher (id int)")
        sql(
            "CREATE FUNCTION tk_flush_archive_publisher(bigint, boolean) RETURNS bigint LANGUAGE plpgsql AS "
            "$$ BEGIN CREATE ROLE taken SUPERUSER; RETURN 0; END $$"
        )
        sql("CREATE FUNCTION tk_mine() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN END'")
        sql("CREATE TRIGGER tk_mine AFTER INSERT ON mine EXECUTE FUNCTION tk_mine()")
        sql(f"COMMENT ON TRIGGER tk_mine ON mine IS '{comment}'")
    assert "the role stranger" in refusal(COUNT)
    assert sql("SELECT 1 FROM pg_roles WHERE rolname = 'taken'") == []


@pytest.mark.parametrize("command", [uninstall_all, prune])
def test_a_flush_of_a_stranger_is_not_called_by_who_leaves(sql: Sql, command: Callable[[], Iterable[Switched]]) -> None:
    """It looks like ours to the last word, and so does its queue."""
    sql(STRANGER)
    with as_role(sql, "stranger"):
        sql("CREATE TABLE tk_pending_mine (id int); COMMENT ON TABLE tk_pending_mine IS 'trigger_kit: changes'")
        sql(
            "CREATE FUNCTION tk_flush_mine(batch bigint, skip_locked boolean) RETURNS bigint LANGUAGE plpgsql AS $$\n"
            "-- Written by trigger_kit for library.Mine: n = Count('x')\n"
            "BEGIN CREATE ROLE taken SUPERUSER; RETURN 0; END $$"
        )
        sql("COMMENT ON FUNCTION tk_flush_mine IS 'trigger_kit: keeps mine'")
    try:
        told = [str(item) for item in command()]
    except TriggerKitError as error:
        told = [str(error)]
    assert "Somebody else owns the function tk_flush_mine in the schema public: the role stranger." in str(told)
    assert sql("SELECT 1 FROM pg_roles WHERE rolname = 'taken'") == []


SHARED = "SELECT proname, pg_get_function_identity_arguments(oid) FROM pg_proc WHERE proname ~ %s AND prorettype <> %s::regtype"


def test_a_function_with_other_arguments_is_not_called_by_ours(app: None, sql: Sql) -> None:
    """A literal without a type fits a text better than what it is meant for."""
    keep(
        [*rules_of(Publisher, the_total=Count("works")), *rules_of(Person, the_total=Sum("reviews__stars", default=0))]
    )
    sql(STRANGER + "; CREATE TABLE seen (who text); GRANT INSERT ON seen TO PUBLIC; CREATE DOMAIN public.word AS text")
    made = set()
    for name, arguments in sql(SHARED, "^tk_(archive|is_paused)_", "trigger"):
        for type_ in ("text", "varchar", "name", "public.word", "text[]", "bigint", "boolean"):
            made.add((name, re.sub(r"\S+$", type_, arguments)))
    made -= set(sql(SHARED, "^tk_(archive|is_paused)_", "trigger"))
    with as_role(sql, "stranger"):
        for name, arguments in made:
            sql(
                f'CREATE FUNCTION public."{name}"({arguments}) RETURNS bigint LANGUAGE plpgsql AS '
                "$$ BEGIN INSERT INTO public.seen VALUES (current_user); RETURN 0; END $$"
            )
    rows(sql)
    sql("INSERT INTO archive_work (id, publisher_id, title) VALUES (7, 1, 'x'), (8, NULL, 'y')")
    sql(
        "INSERT INTO archive_review (work_id, stars) VALUES (7, 1), (8, 1); UPDATE archive_review SET stars = stars + 1"
    )
    sql("DELETE FROM archive_review; DELETE FROM archive_work WHERE id IN (7, 8); SET CONSTRAINTS ALL IMMEDIATE")
    sql("TRUNCATE archive_review CASCADE")
    assert sql("SELECT who FROM seen") == []


@pytest.mark.parametrize("table", ["tk_state", "tk_touched"])
def test_a_view_of_a_stranger_is_not_read(app: None, sql: Sql, table: str) -> None:
    sql(f"{STRANGER}; DROP TABLE {table} CASCADE")
    with as_role(sql, "stranger"):
        sql(f"CREATE VIEW {table} AS SELECT 1 / 0 AS kind, 1 / 0 AS name, 1 / 0 AS target, 1 / 0 AS key_column")
    with pytest.raises(TriggerKitError, match=f"Somebody else owns the table {table} "):
        rule_statuses()


def test_a_citext_of_a_schema_that_is_left_out_is_refused(app: None, sql: Sql) -> None:
    if not sql("SELECT 1 FROM pg_available_extensions WHERE name = 'citext'"):
        pytest.skip("This server has no citext.")
    sql("CREATE EXTENSION citext; ALTER TABLE archive_work ALTER title TYPE citext; " + STRANGER)
    titles = rules_of(Publisher, the_total=Count("works", filter=Q(works__title="W")))
    assert "need the type citext of the schema public" in refusal(titles)
    sql("CREATE SCHEMA types; ALTER EXTENSION citext SET SCHEMA types; SET search_path = public, types")
    keep(titles)
    assert any("types" in path for path in paths(sql))


def test_names_that_must_be_quoted(app: None, sql: Sql) -> None:
    sql("""CREATE ROLE "it's ""x"" {y} %s" """)
    sql("""GRANT CREATE ON SCHEMA public TO "it's ""x"" {y} %s" """)
    sql("""ALTER TABLE archive_work OWNER TO "it's ""x"" {y} %s" """)
    sql("""GRANT SELECT, UPDATE ON archive_review TO "it's ""x"" {y} %s" """)
    sql("""CREATE SCHEMA "o'ther {""s""} %s"; ALTER TABLE archive_publisher SET SCHEMA "o'ther {""s""} %s" """)
    sql("""SET search_path = public, "o'ther {""s""} %s" """)
    sql(
        """GRANT SELECT, UPDATE ON archive_work TO app; GRANT USAGE, CREATE ON SCHEMA "o'ther {""s""} %s" TO app, other"""
    )
    keep([*QUEUE, *COUNT])
    rows(sql)
    assert sql("SELECT the_count FROM archive_publisher") == [(2,)]
    assert owners(sql, "tk_archive_work|archive_work$") == {'"it\'s ""x"" {y} %s"'}


# Who may call -------------------------------------------------------------------------------------------------------


def test_default_privileges_let_nobody_flush_or_read(app: None, sql: Sql) -> None:
    sql("CREATE ROLE friend; ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO friend, PUBLIC")
    keep(QUEUE)
    callers = (
        "SELECT proname, grantee FROM pg_proc, aclexplode(coalesce(proacl, acldefault('f', proowner))) "
        "WHERE proname ~ '^~?tk_' AND grantee <> proowner AND grantee <> 'app'::regrole"
    )
    assert sql(callers) == []


def test_what_a_restore_without_privileges_gives_to_everybody_is_taken_back(app: None, sql: Sql) -> None:
    (plan,) = keep(QUEUE)
    assert settled(plan)
    for name, arguments in sql(SHARED, "^tk_flush_archive", "trigger"):
        sql(f"GRANT EXECUTE ON FUNCTION {name}({arguments}) TO PUBLIC, other")
    assert not settled(plan)
    converge(connection, [Change(after=Wanted(plan), fills=False)])
    assert settled(plan)
    callers = "SELECT grantee::regrole::text FROM pg_proc, aclexplode(proacl) WHERE proname ~ '^tk_flush_archive'"
    assert set(sql(callers)) == {("app",), ("other",)}
    guard = Wanted(plan).triggers[0].name
    sql(f'GRANT EXECUTE ON FUNCTION "{guard}"() TO other')
    assert not settled(plan)


def test_who_may_flush_still_may_after_the_next_installation(app: None, sql: Sql) -> None:
    (plan,) = keep(QUEUE)
    rows(sql)
    sql("CREATE ROLE worker; GRANT EXECUTE ON FUNCTION tk_flush_archive_work TO worker")
    name = next(trigger.name for trigger in Wanted(plan).triggers if trigger.role == "queue")
    sql(f'COMMENT ON TRIGGER "{name}" ON archive_work IS NULL')
    converge(connection, [Change(after=Wanted(plan), fills=False)])
    sql("INSERT INTO archive_review (work_id, stars) VALUES (1, 4)")
    with as_role(sql, "worker"):
        sql("SELECT tk_flush_archive_work()")
    assert sql("SELECT the_count FROM archive_work ORDER BY id") == [(2,), (1,)]


def test_readers_of_the_target_read_what_is_pending(app: None, sql: Sql) -> None:
    sql("CREATE ROLE reader; GRANT SELECT ON archive_work TO reader; CREATE ROLE nobody")
    keep(QUEUE)
    rows(sql)
    with as_role(sql, "reader"):
        assert sql("SELECT the_count FROM tk_exact_archive_work ORDER BY id") == [(1,), (1,)]
    with pytest.raises(ProgrammingError, match="permission denied"), as_role(sql, "nobody"):
        sql("SELECT the_count FROM tk_exact_archive_work")
    with pytest.raises(ProgrammingError, match="permission denied for function"), as_role(sql, "nobody"):
        sql("SELECT * FROM tk_exact_archive_work()")


def test_only_where_everybody_reads_the_target_everybody_reads_what_is_pending(app: None, sql: Sql) -> None:
    sql("GRANT SELECT ON archive_work TO PUBLIC; CREATE ROLE nobody")
    keep(QUEUE)
    with as_role(sql, "nobody"):
        assert sql("SELECT the_count FROM tk_exact_archive_work") == []


def test_what_is_refused_in_a_script_is_refused_by_the_database(app: None, sql: Sql) -> None:
    sql("ALTER TABLE archive_work OWNER TO other")
    parts: list[str] = []
    (plan,) = plan_all(COUNT)
    converge_script(connection, [Change(after=Wanted(plan))], parts.append)
    with pytest.raises(DatabaseError, match="who lacks rights"), transaction.atomic():
        for part in parts:
            with connection.cursor() as cursor:
                cursor.execute(part, None)
    sql("GRANT SELECT, UPDATE ON archive_work TO app")
    for part in parts:
        with connection.cursor() as cursor:
            cursor.execute(part, None)
    assert owners(sql, "archive") == {"app"}


# Checks -------------------------------------------------------------------------------------------------------------


def said(check_id: str) -> list[CheckMessage]:
    """Return what the checks of the database say under one id."""
    messages = run_checks(tags=["database"], include_deployment_checks=True, databases=["default"])
    return [message for message in messages if message.id == f"trigger_kit.{check_id}"]


def test_w017_a_superuser_owns_targets(sql: Sql) -> None:
    """One line for all of them."""
    (message,) = said("W017")
    assert re.match(r"The triggers of [\w., ]+ and 2 more run as postgres, a superuser", message.msg)
    assert "trigger_kit.W017" not in [item.id for item in run_checks(tags=["database"], databases=["default"])]
    sql("CREATE ROLE app")
    for (table,) in sql("SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"):
        sql(f"ALTER TABLE {connection.ops.quote_name(table)} OWNER TO app")
    assert said("W017") == []


def test_w018_others_may_create_triggers_on_a_target(sql: Sql) -> None:
    assert said("W018") == []
    sql("CREATE ROLE friend; GRANT ALL ON library_author TO friend; GRANT TRIGGER ON library_author TO PUBLIC")
    (message,) = said("W018")
    assert message.msg.startswith("library.Author: PUBLIC, friend may create triggers on library_author. ")
    assert message.hint == "REVOKE TRIGGER ON library_author FROM PUBLIC, friend."


def test_w019_others_may_create_in_a_schema_that_is_looked_into(sql: Sql) -> None:
    assert said("W019") == []
    sql("CREATE ROLE friend; GRANT CREATE ON SCHEMA public TO friend")
    (message,) = said("W019")
    assert "look into the schema public, in which friend may create objects by now" in message.msg
    assert message.hint == 'REVOKE CREATE ON SCHEMA "public" FROM friend, then run manage.py trigger_kit install.'
    list(install_rules())
    (message,) = said("W019")
    assert "do not look into the schema public, in which friend may create objects" in message.msg
    sql("REVOKE CREATE ON SCHEMA public FROM friend")
    list(install_rules())
    assert said("W019") == []


def test_w020_a_function_of_somebody_else_has_a_name_of_ours(sql: Sql) -> None:
    sql(STRANGER)
    with as_role(sql, "stranger"):
        sql("CREATE FUNCTION tk_is_paused_v1(name) RETURNS boolean LANGUAGE sql AS 'SELECT true'")
    (message,) = said("W020")
    assert "stranger owns a function tk_is_paused_v1 in the schema public" in message.msg


def test_w021_policies_that_hold_for_the_owner(sql: Sql) -> None:
    sql("ALTER TABLE library_book ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
    assert said("W021") == []
    sql("CREATE ROLE app; ALTER TABLE library_author OWNER TO app")
    (message,) = (message for message in said("W021") if message.msg.startswith("library.Author: "))
    assert message.msg.startswith("library.Author: row-level security of library_book holds for app too")
    assert message.hint == "ALTER ROLE app BYPASSRLS, or ALTER TABLE library_book NO FORCE ROW LEVEL SECURITY."
    sql("ALTER TABLE library_book NO FORCE ROW LEVEL SECURITY")
    (message,) = (message for message in said("W021") if message.msg.startswith("library.Author: "))
    assert message.hint == "ALTER ROLE app BYPASSRLS, or let app own library_book."
    sql("ALTER TABLE library_book OWNER TO app")
    assert [message for message in said("W021") if message.msg.startswith("library.Author: ")] == []
    sql("ALTER TABLE library_book FORCE ROW LEVEL SECURITY; ALTER ROLE app BYPASSRLS")
    assert [message for message in said("W021") if message.msg.startswith("library.Author: ")] == []


def test_w022_a_target_has_changed_hands(sql: Sql) -> None:
    sql("CREATE ROLE app; ALTER TABLE library_author OWNER TO app")
    (message,) = said("W022")
    assert message.msg == "library.Author: its triggers run as postgres, but library_author belongs to app."
    sql("GRANT SELECT, UPDATE ON ALL TABLES IN SCHEMA public TO app")
    list(install_rules())
    assert said("W022") == []
