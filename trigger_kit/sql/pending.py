"""COMPILE what waits: the tables of changes that reach their target later, and what full values have to do with them.

A target with QUEUED rules has a queue, one with DEFERRED rules a table of notes. A row of either is one change of one
target: its key, and the signed differences of the columns that are kept.

* What is stored and what is in the *queue* give the true value together. So whoever writes a full value takes what the
  queue holds for this target out of it, in the same statement, which sees both as they were at one moment. Its lock on
  the target keeps every flush away meanwhile.
* A *note* is seen by its own transaction only, and is gone at commit. Whoever writes a full value there lets the commit
  compute the noted targets afresh instead of adding to them.
"""

from __future__ import annotations

from collections.abc import Iterable

from trigger_kit.plan.kept_columns import KeptAggregate, KeptColumn, queued
from trigger_kit.plan.plan import Plan
from trigger_kit.resolve.columns import Column, key_type
from trigger_kit.rules import Timing
from trigger_kit.sql.paths import Key
from trigger_kit.sql.text import block, plain_name, quote, short_digest, table_placeholder

__all__ = [
    "NOTED",
    "deferred_table",
    "forget_columns",
    "forget_pending",
    "key_of",
    "names_pending",
    "pending_keys",
    "purged_flag",
    "queue_table",
    "queued_keys",
    "reconsider",
    "take_pending",
    "tied",
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


def take_pending(plan: Plan, kept_columns: Iterable[KeptColumn], row: str, source: str = "", *conditions: str) -> str:
    """Return the WITH clause that takes what is pending for some columns of locked rows out of the queue.

    ``row`` names the rows: an alias in the FROM item ``source``, restricted by ``conditions``, or a row of its own.
    """
    ctes: list[str] = []
    for key in queued_keys(kept_columns):
        columns = [kept.column for kept in queued(kept_columns) if key_of(kept) == key]
        settings, present = _emptied(columns)
        where = [tied("pending", key, row), f"({present})", *(text for text in conditions if text)]
        lines = [f"UPDATE {queue_table(plan.target)} AS pending", f"SET {settings}"]
        lines += [f"FROM {source}"] if source else []
        lines += ["WHERE " + "\n  AND ".join(where)]
        ctes.append(f"taken_{len(ctes) + 1} AS (\n{block(chr(10).join(lines))}\n)")
    return f"WITH {', '.join(ctes)}\n" if ctes else ""


def names_pending(kept: KeptAggregate, row: str) -> str:
    """Return a scalar subquery that is true where the queue holds something for one row of the target."""
    queue = queue_table(kept.resolved.column.table)
    return f"SELECT true FROM {queue} AS pending WHERE {tied('pending', key_of(kept), row)} LIMIT 1"


def forget_pending(kept: KeptAggregate, row: str) -> str:
    """Return the statement that drops what the queue holds for one row of the target, whose lock is held."""
    queue = queue_table(kept.resolved.column.table)
    return f"DELETE FROM {queue} AS pending WHERE {tied('pending', key_of(kept), row)};"


def forget_columns(plan: Plan, kept_columns: Iterable[KeptColumn]) -> str:
    """Return the statement that drops everything that the queue holds for some columns."""
    settings, present = _emptied(kept.column for kept in kept_columns)
    return f"UPDATE {queue_table(plan.target)} AS pending\nSET {settings}\nWHERE {present};"


def _emptied(columns: Iterable[str]) -> tuple[str, str]:
    """Return the SET list that empties some columns of pending rows, and the condition for rows that have one."""
    names = [quote(column) for column in columns]
    settings = ", ".join(f"{name} = NULL" for name in names)
    return settings, " OR ".join(f"pending.{name} IS NOT NULL" for name in names)


def key_of(kept: KeptAggregate) -> tuple[Column, ...]:
    """Return the columns of the target that the changes of a kept column find it by."""
    return kept.aggregate.path[0].near


def queued_keys(kept_columns: Iterable[KeptColumn]) -> list[tuple[Column, ...]]:
    """Return the keys by which the queue holds changes of some kept columns, each once."""
    return list(dict.fromkeys(key_of(kept) for kept in queued(kept_columns)))


def pending_keys(plan: Plan, keys: Iterable[tuple[Column, ...]]) -> list[str]:
    """Return the definitions of the columns that hold the keys of targets; a row fills those of one key."""
    collations = {field.column: getattr(field, "db_collation", None) for field in plan.model._meta.local_fields}
    columns = dict.fromkeys(column for key in keys for column in key)
    return [f"{quote(c.name)} {key_type(c)}{_collate(collations.get(c.name))}" for c in columns]


def _collate(collation: str | None) -> str:
    return f" COLLATE {quote(collation)}" if collation else ""


def tied(row: str, key: Iterable[Column], other: str) -> str:
    """Return the condition under which two rows have the same key, in columns of the same names."""
    return " AND ".join(f"{row}.{quote(c.name)} = {other}.{quote(c.name)}" for c in key)


def purged_flag(plan: Plan) -> str:
    """Return the setting that is ``on`` while this transaction has deleted rows of a target."""
    return f"trigger_kit.purged_{short_digest(plan.target)}_{{:schema_tag}}"


# Notes --------------------------------------------------------------------------------------------------------------


def reconsider(plan: Plan, kept_columns: Iterable[KeptColumn], rows: Key | None = None) -> list[str]:
    """Return the statements after which the commit computes noted targets afresh: their full values are written now.

    ``rows`` names the arrays of the targets' primary keys; without it, all are meant.
    """
    found = [edge for edge in plan.folds(Timing.DEFERRED) if set(edge.kept_columns) & set(kept_columns)]
    updates = list(dict.fromkeys(_reconsidered(plan, edge.key, rows) for edge in found))
    comment = "-- What this transaction has noted may be in the full value: the commit computes it afresh."
    return [comment, *updates] if updates else []


def _reconsidered(plan: Plan, key: tuple[Column, ...], rows: Key | None) -> str:
    conditions, source = [NOTED, "NOT noted.tk_recompute"], ""
    if rows is not None and key == rows.columns:
        conditions.append(rows.is_among("noted"))
    elif rows is not None:
        source = f"\nFROM {table_placeholder(plan.target)} AS this"
        conditions += [tied("noted", key, "this"), rows.is_among("this")]
    update = f"UPDATE {deferred_table(plan.target)} AS noted\nSET tk_recompute = true{source}"
    return f"{update}\nWHERE {' AND '.join(conditions)};"
