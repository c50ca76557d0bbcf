"""Hold a row that a change needs, and look at what the change has locked by the time it gets there."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psycopg

__all__ = ["held_up", "locked"]

# Seconds until a change that neither ends nor waits for the held row fails.
LIMIT = 60.0


@contextmanager
def held_up(url: str, change: Callable[[], object], held: str) -> Iterator[None]:
    """Make a change while somebody has locked a row; let it go on afterwards."""
    with psycopg.connect(url) as holder, psycopg.connect(url, autocommit=True) as watch, ThreadPoolExecutor(1) as pool:
        holder.execute(f"SELECT FROM {held} FOR NO KEY UPDATE".encode())
        running = pool.submit(change)
        waits = f"SELECT true FROM pg_stat_activity WHERE {holder.info.backend_pid} = ANY (pg_blocking_pids(pid))"
        deadline = time.monotonic() + LIMIT
        try:
            while not watch.execute(waits.encode()).fetchone():
                assert not running.done(), f"it does not wait: {running.exception()}"
                assert time.monotonic() < deadline, "it waits for something else"
                time.sleep(0.005)
            yield
        finally:
            holder.rollback()
            running.result()


def locked(url: str, table: str, key: str) -> set[object]:
    """Return the keys of the rows that somebody has locked."""
    query = f"SELECT {key} FROM {table}"
    with psycopg.connect(url) as probe:
        return set(probe.execute(query.encode())) - set(
            probe.execute(f"{query} FOR NO KEY UPDATE SKIP LOCKED".encode())
        )
