"""Tenants as django-tenants has them: a schema for each, and tables in public that all share."""

from __future__ import annotations

import pytest

from tests.migration.conftest import Make
from tests.migration.library import HEADER, Kept, model
from tests.migration.project import Project

TENANTS = ("tenant_a", "tenant_b")
ROUTER = """
SCHEMA = {schema!r}
DATABASE_ROUTERS = ["settings.Router"]


class Router:
    def allow_migrate(self, db, app_label, **hints):
        return (app_label == "plans") == (SCHEMA == "public")
"""
NUM_FEATURES = Kept(
    "num_features = models.IntegerField(default=0, editable=False)",
    'Denormalize("num_features", Count("plan__features"))',
)
PLAN_NAME = Kept(
    'plan_name = models.CharField(max_length=50, default="", editable=False)',
    'Denormalize("plan_name", F("plan__name"))',
)
NUM_ACCOUNTS = Kept(
    "num_accounts = models.IntegerField(default=0, editable=False)", 'Denormalize("num_accounts", Count("accounts"))'
)
IMPORTS = HEADER + "from django.db.models import F\n"
FEATURE = """
class Feature(models.Model):
    plan = models.ForeignKey(Plan, models.CASCADE, related_name="features")
"""
PLANS = IMPORTS + model("Plan") + FEATURE
LINK = 'plan = models.ForeignKey("plans.Plan", models.CASCADE, related_name="accounts")'
VALUES = "SELECT plan_name, num_features FROM accounts_account ORDER BY id"
OF_SCHEMA = """
SELECT trigger.tgname, pg_get_triggerdef(trigger.oid), tgenabled, function.prosrc
FROM pg_trigger AS trigger JOIN pg_proc AS function ON function.oid = trigger.tgfoid
WHERE function.pronamespace = %s::regnamespace ORDER BY 1, 2
"""
ON_SHARED = """
SELECT DISTINCT function.pronamespace::regnamespace::text
FROM pg_trigger AS trigger JOIN pg_proc AS function ON function.oid = trigger.tgfoid
WHERE tgrelid IN ('public.plans_plan'::regclass, 'public.plans_feature'::regclass) AND NOT trigger.tgisinternal
ORDER BY 1
"""


def accounts(*kept: Kept) -> str:
    return IMPORTS + model("Account", *kept, fields=LINK)


def enter(project: Project, schema: str) -> None:
    """Point the project's connections and the test's own at a schema, beside the shared one."""
    path = f"{schema},public" if schema != "public" else schema
    project.write_settings(options={"options": f"-c search_path={path}"}, extra=ROUTER.format(schema=schema))
    project.sql(f"SET search_path = {path}")


def migrate(project: Project, target: str = "") -> None:
    """Migrate public and then every tenant."""
    for schema in ("public", *TENANTS):
        enter(project, schema)
        project.manage(f"migrate {target}")


@pytest.fixture
def project(blank: Make) -> Project:
    """Make a project of two tenants with an account each, both on one plan, which has two features."""
    made = blank("plans", "accounts")
    enter(made, "public")
    made.makemigrations(plans=PLANS, accounts=accounts(PLAN_NAME, NUM_FEATURES))
    made.manage("migrate")
    for tenant in TENANTS:
        made.sql(
            f"CREATE SCHEMA {tenant}; CREATE TABLE {tenant}.django_migrations (LIKE public.django_migrations INCLUDING ALL)"
        )
    made.sql(
        "INSERT INTO plans_plan (id, name) VALUES (1, 'one'), (2, 'two'); INSERT INTO plans_feature VALUES (101, 1)"
    )
    migrate(made)
    for tenant in TENANTS:
        made.sql(f"INSERT INTO {tenant}.accounts_account (id, plan_id) VALUES (1, 1), (2, 2)")
    made.sql("INSERT INTO plans_feature VALUES (102, 1)")
    return made


def assert_exact(project: Project, tenant: str, expected: list[tuple[object, ...]]) -> None:
    enter(project, tenant)
    assert project.sql(VALUES) == expected
    project.assert_in_sync()
    assert set(project.statuses().values()) == {"installed"}


def test_a_shared_source_keeps_the_targets_of_every_tenant(project: Project) -> None:
    assert project.sql(ON_SHARED) == [(tenant,) for tenant in TENANTS]
    project.sql("SET search_path = public")
    project.sql("UPDATE plans_plan SET name = 'first' WHERE id = 1; INSERT INTO plans_feature VALUES (103, 2)")
    project.sql("UPDATE tenant_b.accounts_account SET plan_id = 1 WHERE id = 2")
    assert_exact(project, "tenant_a", [("first", 2), ("two", 1)])
    assert_exact(project, "tenant_b", [("first", 2), ("first", 2)])
    names = project.sql(
        "SELECT tgname FROM pg_trigger WHERE tgrelid = 'public.plans_feature'::regclass AND tgname ~ 'tk_'"
    )
    assert len(names) == 2 * 4


def test_one_tenant_goes_back_and_forward_again(project: Project) -> None:
    enter(project, "tenant_b")
    before = [row for row in project.objects()["triggers"] if "tenant_a" in str(row[2])]
    project.manage("migrate accounts zero")
    assert project.sql(ON_SHARED) == [("tenant_a",)]
    assert [row for row in project.objects()["triggers"] if "tenant_a" in str(row[2])] == before
    project.sql("DELETE FROM plans_feature WHERE id = 101; UPDATE plans_plan SET name = 'first' WHERE id = 1")
    assert_exact(project, "tenant_a", [("first", 1), ("two", 0)])
    enter(project, "tenant_b")
    project.manage("migrate")
    project.sql("INSERT INTO accounts_account (id, plan_id) VALUES (1, 1)")
    assert_exact(project, "tenant_b", [("first", 1)])


def test_rules_change_and_go_in_one_tenant_after_the_other(project: Project) -> None:
    enter(project, "public")
    filtered = NUM_FEATURES.replace(
        'Count("plan__features")', 'Count("plan__features", filter=Q(plan__features__id__gt=1))'
    )
    project.makemigrations(accounts=accounts(PLAN_NAME, filtered))
    project.makemigrations(accounts=accounts(PLAN_NAME.without_rule, filtered))
    project.makemigrations(accounts=accounts(PLAN_NAME.without_rule, filtered.without_rule))
    names = [file.stem for file in project.files() if "accounts" in file.parts]
    for name, source in (
        (names[-3], accounts(PLAN_NAME, filtered)),
        (names[-2], accounts(PLAN_NAME.without_rule, filtered)),
    ):
        project.write_models(accounts=source)
        for tenant in TENANTS:
            other = next(item for item in TENANTS if item != tenant)
            enter(project, tenant)
            others = project.sql(OF_SCHEMA, other)
            project.manage(f"migrate accounts {name}")
            assert project.sql(OF_SCHEMA, other) == others
            project.sql("INSERT INTO plans_feature (plan_id) VALUES (1)")
            project.assert_in_sync()
            assert set(project.statuses().values()) == {"installed"}
    enter(project, "tenant_a")
    project.manage("migrate")
    assert project.sql(ON_SHARED) == [("tenant_b",)]
    enter(project, "tenant_b")
    project.assert_in_sync()
    project.manage("migrate")
    assert project.sql(ON_SHARED) == []
    assert project.objects() == {"functions": [], "triggers": []}


def test_a_switched_trigger_of_one_tenant_stays_so(project: Project) -> None:
    (name,) = project.sql(
        "SELECT tgname FROM pg_trigger JOIN pg_proc ON pg_proc.oid = tgfoid "
        "WHERE tgrelid = 'public.plans_plan'::regclass AND pronamespace = 'tenant_b'::regnamespace AND tgname ~ 'update'"
    )[0]
    project.sql(f'ALTER TABLE public.plans_plan DISABLE TRIGGER "{name}"')
    enter(project, "tenant_b")
    assert "disabled" in project.statuses().values()
    project.makemigrations(
        accounts=accounts(NUM_FEATURES, PLAN_NAME.replace('F("plan__name")', 'F("plan__name"), guard=Guard.RAISE'))
    )
    project.manage("migrate")
    assert project.sql("SELECT tgname FROM pg_trigger WHERE tgenabled = 'D'") == [(name,)]
    enter(project, "tenant_a")
    project.sql("UPDATE plans_plan SET name = 'first' WHERE id = 1")
    assert project.sql("SELECT plan_name FROM accounts_account WHERE id = 1") == [("first",)]


def test_a_shared_target_of_the_tenants_rows_is_refused(blank: Make) -> None:
    project = blank("plans", "accounts")
    enter(project, "public")
    plans = IMPORTS + model("Plan", NUM_ACCOUNTS)
    project.write_models(plans=plans, accounts=accounts())
    project.manage("check")
    printed = project.manage("check --database default", code=1).stderr
    assert "trigger_kit.E018" in printed
    assert "plans.Plan:num_accounts reads accounts.Account" in printed


def test_the_triggers_of_a_shared_target_are_not_turned_to_another_tenant(blank: Make) -> None:
    project = blank("plans", "accounts")
    for tenant in TENANTS:
        project.sql(f"CREATE SCHEMA {tenant}")
    project.makemigrations(plans=IMPORTS + model("Plan", NUM_ACCOUNTS), accounts=accounts())
    project.manage("migrate plans 0001")
    for tenant in TENANTS:
        project.write_settings(options={"options": f"-c search_path={tenant},public"})
        if tenant == "tenant_a":
            project.manage("migrate")
    project.sql("CREATE TABLE tenant_b.accounts_account (LIKE tenant_a.accounts_account INCLUDING ALL)")
    before = project.objects()
    filtered = NUM_ACCOUNTS.replace('Count("accounts")', 'Count("accounts", filter=Q(accounts__id__gt=1))')
    project.makemigrations(plans=IMPORTS + model("Plan", filtered))
    printed = project.manage("migrate", code=1)
    assert '"public"."plans_plan" is kept from tenant_a.accounts_account already' in str(printed)
    assert project.objects() == before


def test_a_tenant_goes_with_its_schema(project: Project) -> None:
    project.sql("DROP SCHEMA tenant_b CASCADE")
    assert project.sql(ON_SHARED) == [("tenant_a",)]
    project.sql("UPDATE public.plans_plan SET name = 'first' WHERE id = 1")
    assert_exact(project, "tenant_a", [("first", 2), ("two", 0)])


def test_a_schema_that_takes_another_name_is_installed_anew(project: Project) -> None:
    project.sql("ALTER SCHEMA tenant_b RENAME TO tenant_c")
    enter(project, "tenant_c")
    # Functions name the schema: writers get an error until they are made anew, and ls says how.
    assert "is not what trigger_kit has written" in project.manage("trigger_kit ls").stdout
    project.manage("trigger_kit uninstall")
    project.manage("trigger_kit install")
    project.sql("UPDATE plans_plan SET name = 'first' WHERE id = 1")
    assert_exact(project, "tenant_c", [("first", 2), ("two", 0)])
    assert_exact(project, "tenant_a", [("first", 2), ("two", 0)])
    assert project.sql(ON_SHARED) == [("tenant_a",), ("tenant_c",)]
