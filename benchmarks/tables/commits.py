"""What a row costs with the commit that follows it at once, by timing: one write per transaction.

In a loop inside the server, where neither the disk nor the network hides what a commit does.
"""

from __future__ import annotations

from benchmarks.contenders import BASE, NOTHING, OURS, ROW
from benchmarks.measuring import loop
from benchmarks.results import Plot, Result
from benchmarks.tables import Options
from benchmarks.tables.bench import PARENTS, Bench, Job
from benchmarks.tables.keeping import prose
from benchmarks.tables.write_works import SINGLES

CONTENDERS = (*OURS, ROW)
COUNT, SHORT_COUNT = 3_000, 200
NOTE = f"""Two columns kept, {PARENTS:,} parents; each statement is a transaction of its own, and its commit does not
wait for the disk. What is pending for a QUEUED rule is folded after the turn, and not timed."""


def jobs(count: int) -> list[Job]:
    """Return the statements of one row, each committed."""
    return [
        Job(title, loop(count, f"{statement.format(n='n')}; COMMIT"), 0 if "insert" in title else count, per=count)
        for title, statement in SINGLES.items()
    ]


def measure(options: Options) -> Result:
    """Measure each statement with its commit."""
    bench = Bench(options.ground, options.rounds)
    for contender in (NOTHING, *CONTENDERS):
        bench.add(contender)
    rows = []
    for job in jobs(SHORT_COUNT if options.short else COUNT):
        options.say(f"commits: {job.title} …")
        rows.append(bench.measure(job))
    columns = (BASE, *(contender.name for contender in CONTENDERS))
    title = "One row and its commit, ratio to no trigger"
    return Result("commits", title, columns, rows, prose(NOTE), Plot(only=columns[1:]))
