"""INSTALL: the first fill of a migration: at once, or in batches while writers go on; and as a script for a DBA."""

from __future__ import annotations

from collections.abc import Callable

from django.db.backends.base.base import BaseDatabaseWrapper

from trigger_kit.conf import setting
from trigger_kit.database.batches import fill_all
from trigger_kit.database.catalog import Placement
from trigger_kit.database.converge import Run, runner
from trigger_kit.database.filling import Filling
from trigger_kit.database.progress import ProgressReport
from trigger_kit.exceptions import TriggerKitError
from trigger_kit.migration.executing import output_of
from trigger_kit.resolve.columns import key_type
from trigger_kit.sql.full_values import key_arrays
from trigger_kit.sql.text import CHECK_NOW, block, fill_placeholders

__all__ = ["batches_script", "fill_in_batches", "has_few_rows", "require_few_rows"]

SCRIPT_ROWS = 1_000


def has_few_rows(connection: BaseDatabaseWrapper, filling: Filling) -> bool:
    """Whether a table has no more rows than a migration may fill in its transaction."""
    limit = setting("ATOMIC_BACKFILL_ROWS")
    table = Placement(connection, filling.target)(filling.target)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM (SELECT FROM {table} LIMIT {int(limit) + 1}) AS counted", None)
        (rows,) = cursor.fetchone()
    return bool(rows <= limit)


def require_few_rows(connection: BaseDatabaseWrapper, filling: Filling, *, is_batched: bool) -> None:
    """Raise TriggerKitError where a table has more rows than a migration may fill in its transaction."""
    limit = setting("ATOMIC_BACKFILL_ROWS")
    if has_few_rows(connection, filling):
        return
    advice = (
        "Set atomic = False in this migration, so that each batch can be a transaction of its own."
        if is_batched
        else f'Add {" and ".join(map(repr, filling.uris))} to TRIGGER_KIT["BATCHED_BACKFILL"] in the settings, delete '
        "this migration and run makemigrations again: it then writes a fill in batches, in a migration of its own. "
        'Where this migration is published already, set TRIGGER_KIT["ATOMIC_BACKFILL_ROWS"] higher for this run.'
    )
    raise TriggerKitError(
        f"{filling.label} has more than {limit:,} rows: to fill {', '.join(filling.fields)} in one transaction would "
        f"hold up everybody who writes to them until it is committed. Nothing was changed. {advice}"
    )


def fill_in_batches(connection: BaseDatabaseWrapper, filling: Filling, at_end: Callable[[], None]) -> None:
    """Fill a target, going on where an earlier run has stopped; ``at_end`` runs in the transaction that ends it.

    In a migration that is one transaction, everything is part of that.
    """
    if connection.in_atomic_block:
        require_few_rows(connection, filling, is_batched=True)

    def end() -> None:
        if connection.in_atomic_block:
            for sql in CHECK_NOW.splitlines():
                runner(connection)(sql)
        at_end()

    stdout, verbosity = output_of(connection.alias)
    report = ProgressReport(stdout, is_within_line=True) if stdout is not None and verbosity else None
    done = fill_all(connection, filling, on_batch=report.add if report else None, at_end=end)
    if report:
        report.finish(done)


def batches_script(filling: Filling, place: Placement, run: Run) -> None:
    """Give the batches as a script for psql, outside of a transaction: it can be stopped and run again at any time."""
    run(_script(filling, place))


def _script(filling: Filling, place: Placement) -> str:
    types = [key_type(column) for column in filling.key]
    numbers = [""] if len(types) == 1 else [f"_{number}" for number in range(1, len(types) + 1)]
    arrays = [f"tk_keys{number}" for number in numbers]
    named = dict(zip(key_arrays(filling.key), arrays, strict=True))
    update = fill_placeholders(filling.sql, lambda name: named.get(name) or place(name))
    last = ", ".join(f"{array}[cardinality({array})]" for array in arrays)
    keys = filling.of_row("this")
    collected = ", ".join(f"array_agg(batch.{name} ORDER BY {filling.of_row('batch')})" for name in filling.key_names)
    table = place(filling.target)

    def next_batch(where: str) -> str:
        rows = f"SELECT {keys}\nFROM {table} AS this\n{where}ORDER BY {keys}\nLIMIT {SCRIPT_ROWS}\nFOR NO KEY UPDATE"
        return f"SELECT {collected}\nINTO {', '.join(arrays)}\nFROM (\n{block(rows)}\n) AS batch;"

    loop = "\n".join(
        [
            f"EXIT WHEN {arrays[0]} IS NULL;",
            "PERFORM set_config('trigger_kit.depth', '0', true);",
            update,
            "PERFORM set_config('trigger_kit.depth', '', true);",
            "COMMIT;",
            next_batch(f"WHERE ({keys}) > ({last})\n"),
        ]
    )
    declared = "\n".join(f"{array} {kind}[];" for array, kind in zip(arrays, types, strict=True))
    return (
        f"-- Fill {', '.join(filling.fields)} of {filling.label}, {SCRIPT_ROWS:,} rows to a transaction.\n"
        "-- Run it outside of a transaction; interrupted, it can be run again.\n"
        f"DO $trigger_kit$\nDECLARE\n{block(declared)}\nBEGIN\n"
        f"{block(next_batch(''))}\n    LOOP\n{block(loop, 2)}\n    END LOOP;\nEND;\n$trigger_kit$;"
    )
