"""Schemas other than public, chosen by search_path."""

from __future__ import annotations

from tests.migration.conftest import Make
from tests.migration.library import CHURN, NUM_BOOKS, NUM_PUBLISHED, ROWS, library
from tests.migration.project import Project

TENANTS = ("tenant_a", "tenant_b")
VALUES = "SELECT num_books FROM books_author ORDER BY id"


def enter(project: Project, tenant: str) -> None:
    """Point the project's connections at a schema, and the test's own too."""
    project.write_settings(options={"options": f"-c search_path={tenant}"})
    project.sql(f"SET search_path = {tenant}")


def tenants(blank: Make, models: str) -> Project:
    """Return a project that is migrated in every tenant's schema, with rows in the first."""
    project = blank("books")
    project.write_models(books=models)
    for tenant in TENANTS:
        project.sql(f"CREATE SCHEMA {tenant}")
        enter(project, tenant)
        project.makemigrations()
        project.manage("migrate")
    enter(project, "tenant_a")
    project.sql(ROWS)
    return project


def test_the_same_migrations_run_in_two_schemas(blank: Make) -> None:
    project = tenants(blank, library(NUM_BOOKS))
    assert project.sql(VALUES) == [(3,), (1,), (0,)]
    enter(project, "tenant_b")
    project.sql(
        "INSERT INTO books_author (id, name) VALUES (1, 'a'), (2, 'b'); INSERT INTO books_book VALUES (7, 1, true, 2)"
    )
    assert project.sql(VALUES) == [(0,), (1,)]
    for tenant, expected in (("tenant_a", [(3,), (1,), (0,)]), ("tenant_b", [(0,), (1,)])):
        enter(project, tenant)
        assert project.sql(VALUES) == expected
        project.assert_in_sync()
    functions = project.sql(
        "SELECT pronamespace::regnamespace::text FROM pg_proc WHERE proname ~ '^~?tk_' AND proname !~ '_v1$|^tk_commit$'"
    )
    assert [tenant for (tenant,) in sorted(functions)] == ["tenant_a"] * 13 + ["tenant_b"] * 13


def test_ls_shows_the_rules_of_this_schema_only(blank: Make) -> None:
    project = tenants(blank, library(NUM_BOOKS))
    for tenant in TENANTS:
        enter(project, tenant)
        assert project.statuses() == {"books.Author:num_books": "installed"}


def test_writers_of_any_search_path_keep_the_values_of_the_table_they_name(blank: Make) -> None:
    project = tenants(blank, library(NUM_BOOKS))
    project.sql("SET search_path = tenant_b")
    project.sql("INSERT INTO tenant_a.books_book (id, pages, published, author_id) VALUES (9, 1, true, 3)")
    project.sql("SET search_path = pg_catalog")
    project.sql("DELETE FROM tenant_a.books_book WHERE id = 1")
    enter(project, "tenant_a")
    assert project.sql(VALUES) == [(2,), (1,), (1,)]


def test_a_rule_changes_in_one_schema_after_the_other(blank: Make) -> None:
    project = tenants(blank, library(NUM_BOOKS))
    project.makemigrations(books=library(NUM_BOOKS, NUM_PUBLISHED))
    project.manage("migrate")
    project.sql("SET search_path = tenant_b")
    project.sql(ROWS)
    assert project.sql(VALUES) == [(3,), (1,), (0,)]
    enter(project, "tenant_b")
    project.manage("migrate")
    for tenant in TENANTS:
        enter(project, tenant)
        project.sql(CHURN)
        assert project.sql("SELECT num_books, num_published FROM books_author ORDER BY id") == [(2, 2), (2, 1), (0, 0)]
        project.assert_in_sync()


def test_one_schema_goes_back_to_zero_and_the_other_stays(blank: Make) -> None:
    project = tenants(blank, library(NUM_BOOKS))
    enter(project, "tenant_b")
    project.manage("migrate books zero")
    assert {row[0] for row in project.objects()["functions"]} == {"tenant_a"}
    enter(project, "tenant_a")
    project.sql(CHURN)
    project.assert_in_sync()
