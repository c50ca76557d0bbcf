"""COMPILE the end of a step whose rules wait: it appends what has changed, and leaves the target alone."""

from __future__ import annotations

from trigger_kit.plan.plan import Edge, Event, Plan, Step
from trigger_kit.sql.changes import Part, parts
from trigger_kit.sql.paths import Key
from trigger_kit.sql.pending import deferred_table, purged_flag, queue_table
from trigger_kit.sql.text import (
    advisory_number,
    block,
    if_then,
    literal,
    plain_name,
    quote,
    table_placeholder,
    text_literal,
)

__all__ = [
    "append",
    "edge_number",
    "follower_lock",
    "has_purged",
    "may_follow_a_cascade",
    "still_counts",
]


def edge_number(plan: Plan, edge: Edge) -> int:
    """Return the number that notes name their edge by."""
    return 1 + [other for other in plan.edges if other.is_deferred].index(edge)


def _pending_columns(plan: Plan, step: Step) -> list[str]:
    """Return the columns that hold the parts of a step's changes; those that count rows are numbered per target."""
    if not step.edge.is_added:
        return []
    fold = next(edge for edge in plan.folds(step.edge.timing) if edge.key == step.edge.key)
    names = {(part.kept, part.kind): part.name for part in _all(fold)}
    return [names[part.kept, part.kind] for part in parts(step)]


def _all(fold: Edge) -> list[Part]:
    return parts(Step(fold, Event.UPDATE))


def _columns(plan: Plan, step: Step) -> list[str]:
    return [quote(column.name) for column in step.edge.key] + _pending_columns(plan, step)


def append(
    plan: Plan,
    step: Step,
    rows: str,
    *conditions: str,
    afresh: str = "",
    keys_only: bool = False,
    is_sure: bool = False,
) -> str:
    """Return the statements that append the changes of a FROM item, called ``change``, and say so if there are any.

    ``conditions`` restrict them. ``afresh`` is the condition under which their targets are computed afresh at commit;
    those of ``keys_only`` are in any case. ``is_sure`` says that there is one. (Without that, an UPDATE of the commit's
    own, which only writes rows that it locks, would make its target due again, for ever.)
    """
    afresh = "true" if keys_only else afresh
    key = Key(step.edge.key)
    columns = _columns(plan, step)
    values = [f"change.{name}" for name in (*key.names, *(part.name for part in parts(step)))]
    if keys_only:
        columns, values = columns[: len(key.names)], values[: len(key.names)]
    table = queue_table(plan.target)
    if step.edge.is_deferred:
        table = deferred_table(plan.target)
        columns, values = ["tk_edge", *columns], [str(edge_number(plan, step.edge)), *values]
        columns += ["tk_recompute"] if afresh else []
        values += [afresh] if afresh else []
    where = "\n  AND ".join(conditions)
    insert = "\n".join(
        [
            f"INSERT INTO {table} ({', '.join(columns)})",
            f"SELECT {', '.join(values)}",
            f"FROM {rows}" + (f"\nWHERE {where};" if where else ";"),
        ]
    )
    if is_sure:
        return f"{insert}\n{_announce(plan, step)}"
    # FOUND would do, unless a column is called that.
    lines = [insert, "GET DIAGNOSTICS tk_noted = ROW_COUNT;", if_then("tk_noted > 0", _announce(plan, step))]
    return f"DECLARE\n    tk_noted bigint;\nBEGIN\n{block(chr(10).join(lines))}\nEND;"


def may_follow_a_cascade(step: Step) -> bool:
    """Whether a queued step may report rows that the database has deleted or set to NULL with their target."""
    hops = [feed.path[0] for feed in step.edge.feeds if len(feed.path) == 1]
    leaves = step.event in {Event.DELETE, Event.UPDATE}
    return step.edge.is_queued and leaves and len(hops) == len(step.edge.feeds) and all(hop.child for hop in hops)


def has_purged(plan: Plan) -> str:
    """Return the cheap condition under which this transaction has deleted rows of the target."""
    return f"coalesce(current_setting('{purged_flag(plan)}', true), '') = 'on'"


def still_counts(plan: Plan, step: Step) -> str:
    """Return the condition that leaves out rows which went with their target: a cascade reports after its end."""
    key = Key(step.edge.key)
    queue, target = queue_table(plan.target), table_placeholder(plan.target)
    known = [
        f"NOT {has_purged(plan)}",
        f"EXISTS (SELECT FROM {target} AS there WHERE {key.matches('there', 'change')})",
        f"EXISTS (SELECT FROM {queue} AS pending WHERE {key.matches('pending', 'change')})",
    ]
    if step.event is Event.UPDATE:
        for feed in step.edge.feeds:
            pairs = zip((column.name for column in feed.path[0].far), key.names, strict=True)
            tie = " AND ".join(f"child.{quote(column)} = change.{name}" for column, name in pairs)
            known.append(f"EXISTS (SELECT FROM new_rows AS child WHERE {tie})")
    return f"(\n{block(f'{chr(10)}OR '.join(known), 2)}\n  )"


# Announcing ---------------------------------------------------------------------------------------------------------


def _announce(plan: Plan, step: Step) -> str:
    """Return the statements that tell the commit, or a follower of the queue, that there is something to do."""
    if step.edge.is_queued:
        return _wake(plan)
    due = f"due.transaction = pg_current_xact_id() AND due.rank = {plan.rank}"
    return "\n".join(
        [
            "-- The first note of a transaction makes its commit look at them; the table says whether it will.",
            'INSERT INTO {:schema}."tk_commit" (rank, target)',
            f"SELECT {plan.rank}, {text_literal(plan.target)}",
            "WHERE NOT EXISTS (",
            f'    SELECT FROM {{:schema}}."tk_commit" AS due WHERE {due} AND due.target = {text_literal(plan.target)}',
            ");",
        ]
    )


def follower_lock(target: str) -> int:
    """Return the key of the advisory lock that a follower of a queue holds while it waits for a notification."""
    return advisory_number("follow", target)


def _wake(plan: Plan) -> str:
    channel = literal(plain_name("tk_pending_", plan.target))
    return "\n".join(
        [
            "-- Where this lock is free nobody waits for a notification: none is sent, which would cost every commit.",
            f"IF NOT pg_try_advisory_xact_lock_shared({follower_lock(plan.target)}) THEN",
            block(f"PERFORM pg_notify({channel}, '');"),
            "END IF;",
        ]
    )
