"""What it costs writers when two columns are kept: trigger_kit beside all other ways to keep them."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.contenders import BASE, CONTENDERS, NOTHING, Contender
from benchmarks.contenders.by_hand import ROW, STATEMENT
from benchmarks.contenders.ours import OURS, TIMINGS
from benchmarks.contenders.signals import SIGNALS
from benchmarks.results import Plot, Result, Row
from benchmarks.tables import Options
from benchmarks.tables.bench import Bench, Job
from benchmarks.tables.write_extras import extra_titles, measure_copies, measure_four, measure_growth
from benchmarks.tables.write_works import FULL, SHORT, by_django, by_sql

SHORTLY: tuple[Contender, ...] = (*OURS, ROW, STATEMENT, SIGNALS)
COLUMNS = (BASE, *(contender.name for contender in CONTENDERS))
NOTE = """A count and a sum over one relation (other rules where the row says so). Each way has a database of its own;
after every turn all values are compared with the true ones. What is pending for a QUEUED rule is folded before that,
and not timed. Statements "from a client" and save() are a transaction each; only where a row says "from a client" and
no more do commits wait for the disk, which hides a part of what triggers cost. The times are those without triggers.
What others have written takes part in three rounds at most. "sees no SQL": signals and computed fields know of what
Django's save() and delete() write only; "wrong" says how many authors have wrong values afterwards."""
DRAWN = (*TIMINGS, ROW.name, STATEMENT.name)


def measure(options: Options) -> Result:
    """Measure all work with all contenders."""
    sizes = SHORT if options.short else FULL
    bench = Bench(options.ground, options.rounds)
    for contender in (NOTHING, *(SHORTLY if options.short else CONTENDERS)):
        options.say(f"writes: {contender.name} …")
        bench.add(contender)
    rows = list(measure_jobs(bench, jobs(short=options.short), options))
    rounds, ground, say = options.rounds, options.ground, options.say
    rows += measure_growth(bench, sizes, min(rounds, 3), say)
    rows += measure_copies(ground, bench.places[BASE], sizes, rounds, say)
    timings = TIMINGS[:1] if options.short else TIMINGS
    rows += measure_four(ground, bench.places[BASE], timings, sizes, rounds, say)
    columns = tuple(name for name in COLUMNS if not options.short or name in {BASE, *(one.name for one in SHORTLY)})
    drawn = tuple(job.title for job in by_sql(sizes) if "from a client" not in job.title)
    plot = Plot(only=DRAWN, rows=drawn)
    title = "Two columns kept, ratio to no trigger"
    return Result("writes", title, columns, rows, " ".join(NOTE.split()), plot)


def jobs(*, short: bool) -> list[Job]:
    """Return all that is done with all contenders; in short a part of it."""
    sizes = SHORT if short else FULL
    return [job for job in (*by_sql(sizes), *by_django(sizes)) if job.in_short or not short]


def titles(*, short: bool) -> list[str]:
    """Return the titles of all rows."""
    return [*(job.title for job in jobs(short=short)), *extra_titles(SHORT if short else FULL)]


def measure_jobs(bench: Bench, chosen: list[Job], options: Options) -> Iterator[Row]:
    """Yield a row for each."""
    for number, job in enumerate(chosen, start=1):
        options.say(f"writes, {number} of {len(chosen)}: {job.title} …")
        yield bench.measure(job)
