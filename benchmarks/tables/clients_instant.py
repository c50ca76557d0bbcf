"""Throughput of 1 to 16 clients whose transactions commit at once, under one hot parent and under 1,000."""

from __future__ import annotations

from benchmarks.results import Result
from benchmarks.tables import Options
from benchmarks.tables.crowd import INSERT, Case, crowd

CASES = (
    Case("hot parent", 1, INSERT),
    Case("1,000 parents", 1_000, INSERT, is_long=True),
)
NOTE = """A count and a sum. Where transactions commit at once, DEFERRED is the dearest: it writes a note, and then the
parent all the same, and waits for the disk as IMMEDIATE does. QUEUED pays for a row in the queue and for its flush
(beside it runs one every 50 ms), and no client waits for another."""


def measure(options: Options) -> Result:
    """Measure transactions that commit at once."""
    title = "Throughput by the number of clients, transactions that commit at once"
    return crowd("clients_instant", title, NOTE, CASES, options)
