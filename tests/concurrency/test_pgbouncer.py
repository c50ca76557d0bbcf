"""A real PgBouncer in transaction mode between the writers and the server: settings and sessions are not theirs."""

from __future__ import annotations

import subprocess
import sys

import pytest

from dev.pgbouncer import is_installed
from tests.unit.check_ids import REPOSITORY

LIMIT = 180  # seconds after which something hangs


@pytest.mark.thorough
@pytest.mark.skipif(not is_installed(), reason="PgBouncer is not installed here (apt-get install pgbouncer)")
def test_the_soak_passes_behind_pgbouncer() -> None:
    command = [sys.executable, "-m", "benchmarks.soak", "--pgbouncer", "--seconds", "12", "--only", "one edge"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
