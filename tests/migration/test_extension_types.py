"""Keys and columns of types that come with extensions: ltree, citext, hstore; dumped, and restored as people do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dev.postgres import Server, running_server
from tests.migration.conftest import Make
from tests.migration.programs import moved, run
from tests.migration.project import Project

MODELS = '''
from django.contrib.postgres.fields import HStoreField
from django.db import models
from django.db.models import Count, F, Max, Sum

from trigger_kit import Denormalize


class TypedField(models.TextField):
    """A text of a type that an extension brings."""

    def __init__(self, *args, kind="citext", **kwargs):
        self.kind = kind
        super().__init__(*args, **kwargs)

    def db_type(self, connection):
        return self.kind

    def deconstruct(self):
        name, path, args, kwargs = super().deconstruct()
        return name, path, args, {**kwargs, "kind": self.kind}


class Section(models.Model):
    path = TypedField(kind="ltree", primary_key=True)
    tags = HStoreField(default=dict)
    num_pages = models.IntegerField(default=0, editable=False)
    last = TypedField(null=True, editable=False)

    class Meta:
        denormalizations = [
            Denormalize("num_pages", Count("pages")),
            Denormalize("last", Max("pages__slug")),
        ]


class Page(models.Model):
    slug = TypedField(unique=True)
    section = models.ForeignKey(Section, models.CASCADE, related_name="pages", null=True)
    size = models.IntegerField(default=0)
    tags = HStoreField(null=True, editable=False)
    total = models.IntegerField(default=0, editable=False)

    class Meta:
        denormalizations = [
            Denormalize("tags", F("section__tags")),
            Denormalize("total", Sum("visits__seconds", default=0)),
        ]


class Visit(models.Model):
    page = models.ForeignKey(Page, models.CASCADE, to_field="slug", related_name="visits")
    seconds = models.IntegerField()
'''
EXTENSIONS = "; ".join(f"CREATE EXTENSION IF NOT EXISTS {name}" for name in ("ltree", "citext", "hstore"))
ROWS = """
INSERT INTO pages_section (path, tags, num_pages) VALUES ('a.b', 'x=>1', 0), ('a.c', 'y=>2', 0);
INSERT INTO pages_page (slug, section_id, size, total) VALUES ('One', 'a.b', 1, 0), ('two', 'a.b', 2, 0), ('Three', 'a.c', 3, 0);
INSERT INTO pages_visit (page_id, seconds) VALUES ('ONE', 5), ('one', 6), ('TWO', 7)
"""
# Equal texts of citext may be written in another way: the row keeps its key.
CHURN = """
UPDATE pages_page SET section_id = 'a.c' WHERE slug = 'TWO';
UPDATE pages_section SET tags = 'x=>9' WHERE path = 'a.b';
UPDATE pages_section SET path = 'a.d' WHERE path = 'a.x';
INSERT INTO pages_visit (page_id, seconds) VALUES ('oNe', 1);
DELETE FROM pages_visit WHERE seconds = 7;
INSERT INTO pages_section (path, tags, num_pages) VALUES ('z', '', 77)
"""
TRIGGERS = "SELECT tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE tgname ~ '^~?tk_' ORDER BY 1"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Server]:
    with running_server() as server:
        yield server


@pytest.fixture
def source(blank: Make) -> Project:
    project = blank("pages")
    project.sql(EXTENSIONS)
    project.deploy(pages=MODELS)
    project.sql(ROWS)
    return project


def test_triggers_over_columns_of_extensions_are_restored(source: Project, cluster: Server, tmp_path: Path) -> None:
    """By psql, which goes on after an error and ends with 0: a trigger that is not restored would not be missed."""
    source.assert_in_sync()
    file = tmp_path / "dump.sql"
    run(source.server, "pg_dump", "--dbname", source.url, "--file", str(file))
    server = cluster.database(f"{source.database}_restored")
    server.create()
    target = moved(source, cluster, f"{source.database}_restored", tmp_path / "project")
    try:
        run(target.server, "psql", "--no-psqlrc", "--quiet", "--dbname", target.url, "-f", str(file))
        assert target.sql(TRIGGERS) == source.sql(TRIGGERS)
        assert set(target.statuses().values()) == {"installed"}
        target.assert_in_sync()
        for project in (source, target):
            project.sql(CHURN)
            project.assert_in_sync()
            assert project.sql("SELECT num_pages, last FROM pages_section ORDER BY path") == [
                (1, "One"),
                (2, "two"),
                (0, None),
            ]
    finally:
        target.close()
        server.drop()
