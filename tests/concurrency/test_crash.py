"""SIGKILL for the server while writers and flushers are at work; after it has come back the contract holds."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.unit.check_ids import REPOSITORY

LIMIT = 180  # seconds after which something hangs


@pytest.mark.thorough
def test_a_killed_server_has_lost_nothing_and_counts_nothing_twice() -> None:
    """The server is one of its own, an embedded one: the suite's must live."""
    command = [sys.executable, "-m", "benchmarks.crash", "--times", "1"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("0 problems") == 3
