"""COMPILE what waits: the tables of changes that reach their target later, and what full values have to do with them.

A target with QUEUED rules has a queue, one with DEFERRED rules a table of notes. A row of either is one change of one
target: its key, and the signed differences of the columns that are kept.

* What is stored and what is in the *queue* give the true value together. So whoever writes a full value writes the
  value less what the queue holds, in one statement after locking the target; a flush adds it again.
* A *note* is seen by its own transaction only, and is gone at commit. Whoever writes a full value there lets the commit
  compute the noted targets afresh instead of adding to them.
"""

from __future__ import annotations

from collections.abc import Iterable

from trigger_kit.compiler.text import block, literal, plain_name, quote, short_digest
from trigger_kit.measures import Measure
from trigger_kit.paths import Column, key_type
from trigger_kit.planner import Plan
from trigger_kit.rules import Timing

__all__ = [
    "NOTED",
    "deferred_table",
    "forget_columns",
    "forget_pending",
    "is_waiting",
    "key_of",
    "less_pending",
    "names_pending",
    "pending_keys",
    "queue_table",
    "queued_keys",
    "reconsider",
    "waiting_flag",
]

# The notes of this transaction.
NOTED = "noted.tk_transaction = pg_current_xact_id()"


def queue_table(target: str) -> str:
    """Return the name of a target's queue, as SQL."""
    return f"{{:schema}}.{quote(plain_name('tk_pending_', target))}"


def deferred_table(target: str) -> str:
    """Return the name of the table of notes about a target, as SQL."""
    return f"{{:schema}}.{quote(plain_name('tk_deferred_', target))}"


# The queue ----------------------------------------------------------------------------------------------------------


def less_pending(measure: Measure, value: str, row: str) -> str:
    """Return a full value for one row of the target as it is to be stored: less what the queue holds for it."""
    if measure.timing is not Timing.QUEUED:
        return value
    select = (
        f"SELECT sum(pending.{quote(measure.column)})\n"
        f"FROM {queue_table(measure.resolved.column.table)} AS pending\n"
        f"WHERE {_tie('pending', key_of(measure), row)}"
    )
    return f"{value} - coalesce((\n{block(select)}\n), 0)"


def names_pending(measure: Measure, row: str) -> str:
    """Return a scalar subquery that is true where the queue holds something for one row of the target."""
    queue = queue_table(measure.resolved.column.table)
    return f"SELECT true FROM {queue} AS pending WHERE {_tie('pending', key_of(measure), row)} LIMIT 1"


def forget_pending(measure: Measure, row: str) -> str:
    """Return the statement that drops what the queue holds for one row of the target, whose lock is held."""
    queue = queue_table(measure.resolved.column.table)
    return f"DELETE FROM {queue} AS pending WHERE {_tie('pending', key_of(measure), row)};"


def forget_columns(plan: Plan, measures: Iterable[Measure]) -> str:
    """Return the statement that drops everything that the queue holds for some columns."""
    columns = [f"{quote(measure.column)}" for measure in measures]
    settings = ", ".join(f"{column} = NULL" for column in columns)
    found = " OR ".join(f"pending.{column} IS NOT NULL" for column in columns)
    return f"UPDATE {queue_table(plan.target)} AS pending\nSET {settings}\nWHERE {found};"


def key_of(measure: Measure) -> tuple[Column, ...]:
    """Return the columns of the target that the changes of a measure find it by."""
    assert measure.chain is not None, "only what is added over a path can wait"
    return measure.chain.path[0].near


def queued_keys(measures: Iterable[Measure]) -> list[tuple[Column, ...]]:
    """Return the keys by which the queue holds changes of some measures, each once."""
    return list(dict.fromkeys(key_of(measure) for measure in measures if measure.timing is Timing.QUEUED))


def pending_keys(plan: Plan, keys: Iterable[tuple[Column, ...]]) -> list[str]:
    """Return the definitions of the columns that hold the keys of targets; a row fills those of one key."""
    collations = {field.column: getattr(field, "db_collation", None) for field in plan.model._meta.local_fields}
    columns = dict.fromkeys(column for key in keys for column in key)
    return [f"{quote(c.name)} {key_type(c)}{_collate(collations.get(c.name))}" for c in columns]


def _collate(collation: str | None) -> str:
    return f" COLLATE {quote(collation)}" if collation else ""


def _tie(row: str, key: Iterable[Column], other: str) -> str:
    return " AND ".join(f"{row}.{quote(c.name)} = {other}.{quote(c.name)}" for c in key)


# Notes --------------------------------------------------------------------------------------------------------------


def waiting_flag(plan: Plan) -> str:
    """Return the setting that is ``on`` while this transaction has notes about a target."""
    return f"trigger_kit.deferred_{short_digest(plan.target)}"


def is_waiting(plan: Plan) -> str:
    """Return the cheap condition under which this transaction has notes about a target."""
    return f"current_setting({literal(waiting_flag(plan))}, true) = 'on'"


def reconsider(plan: Plan, measures: Iterable[Measure], rows: str = "", *, is_query: bool = False) -> list[str]:
    """Return the statements after which the commit computes noted targets afresh: their full values were just written.

    ``rows`` names a row of the target, or is empty for all. Outside of PL/pgSQL there is no IF (``is_query``).
    """
    found = [edge for edge in plan.folds(Timing.DEFERRED) if set(edge.measures) & set(measures)]
    updates = []
    for edge in found:
        source = "\nFROM new_rows AS inserted" if rows == "inserted" else ""
        conditions = [NOTED, "NOT noted.tk_recompute", *([_tie("noted", edge.key, rows)] if rows else [])]
        update = f"UPDATE {deferred_table(plan.target)} AS noted\nSET tk_recompute = true{source}"
        updates.append(f"{update}\nWHERE {' AND '.join(conditions)};")
    updates = list(dict.fromkeys(updates))
    if is_query or not updates:
        return updates
    comment = "-- What this transaction has noted may be in the full value: the commit computes it afresh."
    return [comment, f"IF {is_waiting(plan)} THEN", *map(block, updates), "END IF;"]
