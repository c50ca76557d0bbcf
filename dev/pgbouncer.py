"""A real PgBouncer in transaction mode in front of a server, where one is installed."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import psycopg

from dev.postgres import NoServerError, Server

PORT = 6543
SETTINGS = """
[databases]
* = host={host} port={port} user={role}

[pgbouncer]
listen_port = {own_port}
unix_socket_dir = {folder}
auth_type = any
pool_mode = transaction
ignore_startup_parameters = extra_float_digits,options
default_pool_size = {size}
max_client_conn = 200
logfile = {folder}/log
"""


def is_installed() -> bool:
    """Whether there is a PgBouncer on this machine."""
    return shutil.which("pgbouncer") is not None


@contextmanager
def pooled(server: Server, size: int = 4) -> Iterator[Server]:
    """Yield a server as it is seen through a pool of a few connections, which each transaction takes anew."""
    parts = urlsplit(server.url)
    query = parse_qs(parts.query)
    folder = Path(tempfile.mkdtemp(prefix="trigger_kit-pgbouncer-"))
    host, port = query.get("host", [parts.hostname or "localhost"])[0], parts.port or query.get("port", ["5432"])[0]
    user = _user(str(host))
    settings = folder / "pgbouncer.ini"
    role = parts.username or "postgres"
    values = {"host": host, "port": port, "role": role, "own_port": PORT, "folder": folder, "size": size}
    settings.write_text(SETTINGS.format(**values))
    if user:
        for path in (folder, settings):
            shutil.chown(path, user)
    null = subprocess.DEVNULL
    process = subprocess.Popen(["pgbouncer", "-q", str(settings)], user=user, cwd=folder, stdout=null, stderr=null)
    try:
        seen = parts._replace(netloc=f"{role}@", query=urlencode({"host": folder, "port": PORT}))
        yield _answering(replace(server, url=seen.geturl(), origin="PgBouncer"))
    finally:
        process.terminate()
        process.wait(10)
        shutil.rmtree(folder, ignore_errors=True)


def _user(host: str) -> str | None:
    """Return the user to run as: PgBouncer does not serve root, and must reach the server's socket."""
    if os.geteuid():
        return None
    return pwd.getpwuid(Path(host).stat().st_uid).pw_name if host.startswith("/") else "nobody"


def _answering(server: Server) -> Server:
    for _ in range(100):
        try:
            psycopg.connect(server.url, connect_timeout=5).close()
        except psycopg.OperationalError:
            time.sleep(0.05)
        else:
            return server
    raise NoServerError("PgBouncer does not answer.")
