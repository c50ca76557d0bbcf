"""Fixtures: throw-away projects, each with a database of its own on the suite's server."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from dev.postgres import Server
from tests.migration.inplace import InPlace
from tests.migration.project import OURS, Project
from tests.migration.worker import Worker

Make = Callable[..., Project]


class Workshop:
    """Makes projects. What is asked for twice is built once, then copied, database and all."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server = server
        self.folder = folder
        self.numbers = itertools.count(1)
        self.databases: list[str] = []
        self.built: dict[object, Project] = {}
        self.worker = Worker(folder)
        self.admin = psycopg.connect(server.url, autocommit=True)
        self.cleaner = ThreadPoolExecutor(max_workers=1)

    def new_database(self, template: str = "template0") -> str:
        name = f"tk_migration_{self.folder.parent.name}_{next(self.numbers)}".lower().replace("-", "_")
        self.admin.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        self.databases.append(name)
        return name

    def blank(self, *apps: str, installed: list[str] | None = None) -> Project:
        """Return a project whose apps have no models yet, and an empty database."""
        path = self.folder / f"project_{next(self.numbers)}"
        path.mkdir()
        project = Project(path, self.server, self.worker, self.new_database(), list(apps), installed or [*OURS])
        project.write_settings()
        project.write_models(**dict.fromkeys(apps, ""))
        return project

    def build(self, *, rows: str = "", installed: list[str] | None = None, **sources: str) -> Project:
        """Return the project of these models, migrated, with these rows: not to be changed, it is shared."""
        key = (rows, tuple(installed or OURS), tuple(sources.items()))
        if key not in self.built:
            project = self.blank(*sources, installed=installed)
            try:
                project.deploy(**sources)
                if rows:
                    project.sql(rows)
            finally:
                project.close()
            self.built[key] = project
        self.built[key].close()
        return self.built[key]

    def copy(self, project: Project) -> Project:
        """Return a copy of a project, its database included."""
        path = self.folder / f"project_{next(self.numbers)}"
        shutil.copytree(project.path, path)
        copied = replace(project, path=path, database=self.new_database(project.database))
        copied.write_settings()
        return copied

    def drop(self, project: Project) -> None:
        """Close a project and drop its database, meanwhile the next test may run."""
        project.close()
        self.databases.remove(project.database)
        self.cleaner.submit(self._drop, [project.database])

    def _drop(self, databases: list[str]) -> None:
        with psycopg.connect(self.server.url, autocommit=True) as connection:
            for name in databases:
                connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def close(self) -> None:
        """End every process and drop what is left."""
        for project in self.built.values():
            project.close()
        self.worker.close()
        self.cleaner.submit(self._drop, self.databases)
        self.cleaner.shutdown()
        self.admin.close()


@pytest.fixture(scope="session")
def workshop(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    """Open the workshop of the session."""
    opened = Workshop(server, tmp_path_factory.mktemp("projects"))
    try:
        yield opened
    finally:
        opened.close()


@pytest.fixture
def bench(workshop: Workshop) -> Iterator[list[Project]]:
    """Hold the projects of one test, and drop them after it."""
    projects: list[Project] = []
    yield projects
    for project in projects:
        workshop.drop(project)


@pytest.fixture
def make(workshop: Workshop, bench: list[Project]) -> Make:
    """Make a project of models and rows, migrated: ``make(books=library(NUM_BOOKS), rows=ROWS)``."""

    def made(**kwargs: object) -> Project:
        bench.append(workshop.copy(workshop.build(**kwargs)))  # type: ignore[arg-type]
        return bench[-1]

    return made


@pytest.fixture
def scratch(workshop: Workshop) -> Iterator[Make]:
    """Build a database from scratch, to compare with: ``scratch(books=library(NUM_BOOKS))``."""
    projects: list[Project] = []

    def built(**kwargs: object) -> Project:
        projects.append(workshop.build(**kwargs))  # type: ignore[arg-type]
        return projects[-1]

    yield built
    # It is kept for other tests; a session that it went on to hold would be one for each set of models.
    for project in projects:
        project.close()


@pytest.fixture
def blank(workshop: Workshop, bench: list[Project]) -> Make:
    """Make an empty project: ``blank("books")``."""

    def made(*apps: str, **kwargs: object) -> Project:
        bench.append(workshop.blank(*apps, **kwargs))  # type: ignore[arg-type]
        return bench[-1]

    return made


# In one process -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def grounds(workshop: Workshop) -> list[InPlace]:
    """Return two databases for projects without processes: one to work on, one to compare with."""
    return [InPlace(workshop.folder, workshop.server, workshop.worker, workshop.new_database(), []) for _ in range(2)]


@pytest.fixture
def inplace(grounds: list[InPlace], tmp_path: Path, django_db_blocker: Any) -> Iterator[Make]:
    """Make a project without processes, migrated, with rows, or with apps that have no models yet: one at a time."""
    numbers = itertools.count(1)
    made: list[InPlace] = []

    def make(*apps: str, **kwargs: str) -> InPlace:
        made.append(grounds[0].fresh(tmp_path / f"project_{next(numbers)}", *apps, **kwargs))
        return made[-1]

    with django_db_blocker.unblock():
        yield make
    for project in made:
        project.close()


@pytest.fixture
def anew(grounds: list[InPlace], tmp_path: Path, django_db_blocker: Any) -> Iterator[Make]:
    """Build a database from scratch, to compare with, as ``scratch`` does: it lasts until the next one is asked for."""
    numbers = itertools.count(1)
    made: list[InPlace] = []

    def make(**kwargs: str) -> InPlace:
        if made:
            made[-1].close()
        made.append(grounds[1].fresh(tmp_path / f"anew_{next(numbers)}", **kwargs))
        return made[-1]

    with django_db_blocker.unblock():
        yield make
    if made:
        made[-1].close()
