"""Kill the server in the middle of the soak, start it again, and look whether every rule still holds: ``make crash``.

Writers and flushers are at work when the postmaster gets SIGKILL. What was not committed is gone then, what was is
there: after recovery every stored value (with what is pending) is the true one, and a flush takes all that is left.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from rich.console import Console

from benchmarks.soak import (
    DATABASE,
    Crew,
    Job,
    Tally,
    django_at,
    drifts,
    flush_all,
    flushing,
    install,
    keep_settings,
    make_template,
    title_of,
)
from benchmarks.workloads import WORKLOADS, Workload
from dev.postgres import Restartable, restartable_server

SECONDS = 2.0  # of writing before the server is killed


def crash(number: int, workload: Workload, machine: Restartable, crew: Crew, job: Job) -> tuple[int, list[str]]:
    """Let writers work until the server is killed and has come back; return their transactions, and what is wrong."""
    server = machine.server.database(DATABASE)
    types = make_template(server)
    with django_at(server):
        install(workload)
    keep_settings([server], workload.isolation)
    jobs = [
        replace(job, workload=number, isolation=workload.isolation, url=server.url, writer=writer, types=types)
        for writer in range(job.writers)
    ]
    start = time.monotonic() + 0.3
    with flushing(workload, server), ThreadPoolExecutor(1) as pool:
        work = pool.submit(crew.do, [replace(one, start=start) for one in jobs])
        time.sleep(0.3 + SECONDS * random.uniform(0.5, 1))
        machine.kill()
        tallies: list[Tally] = work.result()
    machine.start()
    with django_at(server):
        found = [f"drift after the crash: {drift}" for drift in drifts(workload)]
        flush_all(workload, server)
        found += [f"drift after the flush: {drift}" for drift in drifts(workload, at_rest=True)]
    found += [f"unexpected: {text}" for tally in tallies for text in tally.errors]
    return sum(tally.transactions for tally in tallies), found


def main() -> int:
    """Crash each workload that is asked for, several times."""
    parser = argparse.ArgumentParser("python -m benchmarks.crash", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--times", type=int, default=3, help="crashes per workload (3)")
    parser.add_argument("--workers", type=int, default=8, help="writers (8)")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="of the writers' dice (random)")
    options = parser.parse_args()
    console, is_right = Console(width=140, highlight=False), True
    chosen = [(n, w) for n, w in enumerate(WORKLOADS) if w.name == "one edge"]
    with Crew(options.workers) as crew, restartable_server() as machine:
        for number, workload in chosen:
            for turn in range(options.times):
                job = Job(0, "", "", options.seed + turn, 0, options.workers, {}, 0, SECONDS * 2, may_be_cut_off=True)
                transactions, found = crash(number, workload, machine, crew, job)
                console.print(
                    f"{title_of(workload)}: killed after {transactions:,} transactions, {len(found)} problems"
                )
                for problem in found[:5]:
                    console.print(f"    [red]{problem}[/red]")
                is_right = is_right and not found and transactions > 0
    return 0 if is_right else 1


if __name__ == "__main__":
    sys.exit(main())
