"""Throughput of 1 to 16 clients whose transactions last 2 ms, under one hot parent and under 1,000.

The transactions are held inside the server, after the INSERT and before the COMMIT.
"""

from __future__ import annotations

from benchmarks.results import Result
from benchmarks.tables import Options
from benchmarks.tables.crowd import INSERT, MAIN, Case, crowd

HELD = f"{INSERT}; SELECT pg_sleep(0.002); COMMIT"
CASES = (
    Case("hot parent", 1, f"BEGIN; {HELD}"),
    Case("hot parent, asynchronous commits", 1, f"BEGIN; SET LOCAL synchronous_commit = off; {HELD}", (MAIN,),
         is_long=True),
    Case("1,000 parents", 1_000, f"BEGIN; {HELD}", is_long=True),
)  # fmt: skip
NOTE = """A count and a sum. IMMEDIATE and the row trigger hold the lock of the parent from the INSERT to the COMMIT, so
that one hot parent lets one transaction through after the other: the longer transactions last, the more DEFERRED is
worth, which holds the lock for its COMMIT only. QUEUED never takes it, and pays with a value that is behind until the
next flush (beside it runs one every 50 ms). With many parents nobody waits, and IMMEDIATE is the simplest choice."""


def measure(options: Options) -> Result:
    """Measure transactions that last."""
    title = "Throughput by the number of clients, transactions held for 2 ms"
    return crowd("clients", title, NOTE, CASES, options)
