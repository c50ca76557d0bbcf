"""COMPILE notes: parents that the changed rows point at and that are not there, for the end of the transaction."""

from __future__ import annotations

from collections.abc import Iterable

from trigger_kit.plan.kept_columns import KeptColumn
from trigger_kit.plan.plan import Event, Plan, Step
from trigger_kit.plan.row_locks import LateParent
from trigger_kit.resolve.columns import Path
from trigger_kit.sql.body import WAITS
from trigger_kit.sql.django import far_sql, hop_condition, kind_sql
from trigger_kit.sql.function import call
from trigger_kit.sql.locks import near_values
from trigger_kit.sql.paths import Key
from trigger_kit.sql.text import (
    advisory_number,
    block,
    if_then,
    quote,
    regclass_placeholder,
    short_digest,
    table_placeholder,
    text_literal,
)

__all__ = [
    "advisory_key",
    "arrive",
    "is_noted",
    "miss",
    "missed_places",
    "note_missing",
    "place_of",
    "take_links",
]


def _waits(plan: Plan) -> str:
    """Return the call that makes the end of this transaction look at what it has noted for a target."""
    return call(WAITS, regclass_placeholder("tk_waiting"), f"{text_literal(plan.target)}::text")


def _note(plan: Plan, *select: str) -> str:
    """Return the statements that note keys, and tell the end of the transaction that there are some."""
    # FOUND would do, unless a column is called that.
    return "\n".join(
        [
            "DECLARE",
            "    tk_noted bigint;",
            "BEGIN",
            '    INSERT INTO {:schema}."tk_waiting" (target, place, key)',
            *map(block, select),
            "    GET DIAGNOSTICS tk_noted = ROW_COUNT;",
            f"    IF tk_noted > 0 THEN PERFORM {_waits(plan)}; END IF;",
            "END;",
        ]
    )


def place_of(plan: Plan, late: LateParent) -> str:
    """Return what late parents of a kind are called in tk_waiting."""
    columns = [f"{column.table}.{column.name}" for column in (*late.parent, *late.child)]
    return short_digest(plan.target, *map(str, late.path), *columns)


def advisory_key(plan: Plan, late: LateParent) -> int:
    """Return the key of the advisory lock of late parents."""
    return advisory_number(plan.target, place_of(plan, late))


def note_missing(plan: Plan, late: LateParent, rows: str, *conditions: str) -> str:
    """Return the statements that note which parents of some rows are not there; ``rows`` is a FROM item.

    Without a foreign key nothing will wait for them: there, this transaction waits for those who bring some now. And
    nothing holds those that are there: they are locked as a foreign key would do, or one that goes, and comes back
    before this transaction ends, would be neither seen nor missed.
    """
    hop = late.hop
    values = far_sql(hop, "child") if late.child_is_far else near_values((hop,), 1, "child")
    near, far = ("parent", "child") if late.child_is_far else ("child", "parent")
    kind = kind_sql(hop, "child")
    present = [f"{value} IS NOT NULL" for value in values]
    # A scalar subquery: of NOT EXISTS PostgreSQL makes a join, which reads all parents for a single child.
    parent = (
        f"SELECT true FROM {table_placeholder(late.parent[0].table)} AS parent\n"
        f"WHERE {hop_condition(hop, near, far)}\nLIMIT 1" + ("" if late.is_constrained else "\nFOR KEY SHARE")
    )
    missing = f"(\n{block(parent)}\n) IS NULL"
    pointing = [*conditions, *([kind] if kind else []), *present]
    if not late.is_constrained:
        where = "\n  AND ".join([*pointing, missing])
        return _wait(plan, late, f"SELECT FROM {rows} AS child\nWHERE {where}")
    # Each parent is looked for once, however many rows point at it.
    keys = ", ".join(f"child.{quote(column.name)}" for column in late.child)
    where = "\n  AND ".join(pointing)
    children = f"SELECT DISTINCT {keys}\nFROM {rows} AS child\nWHERE {where}"
    return _note(
        plan,
        f"SELECT {_names(plan, late)}, ARRAY[{', '.join(f'({value})::text' for value in values)}]",
        f"FROM (\n{block(children)}\n) AS child",
        f"WHERE {missing};",
    )


def _wait(plan: Plan, late: LateParent, missing: str) -> str:
    """Return the statements that wait for those who bring parents and hold up those to come, if some are missing."""
    uris = ", ".join(kept.resolved.uri for kept in plan.reading(late))
    message = f"At REPEATABLE READ, {uris} cannot be kept for a row that points at a missing one."
    return "\n".join(
        [
            f"IF EXISTS (\n{block(missing)}\n) THEN",
            block("\n".join(_raise_at_repeatable_read(message))),
            f"    PERFORM pg_advisory_xact_lock({advisory_key(plan, late)});",
            "END IF;",
        ]
    )


def missed_places(plan: Plan, step: Step) -> list[str]:
    """Return what targets that an event may miss are called in tk_waiting."""
    return [place_of(plan, late) for late in _missed(plan, step)]


def _missed(plan: Plan, step: Step) -> list[LateParent]:
    return [late for late in _of_targets(plan, step) if late.is_constrained and is_noted(late, step.event)]


def miss(plan: Plan, key: Key) -> str:
    """Return the statements that note which keys in the arrays have no target, for each of ``tk_places``."""
    named = ", ".join(f"child.{name}::text" for name in key.names)
    children = f"unnest({', '.join(key.arrays)}) AS child ({', '.join(key.names)})"
    parents = f"SELECT FROM {table_placeholder(plan.target)} AS parent WHERE {key.matches('parent', 'child')}"
    return "\n".join(
        [
            'INSERT INTO {:schema}."tk_waiting" (target, place, key)',
            f"SELECT {text_literal(plan.target)}, place, ARRAY[{named}]",
            f"FROM {children} CROSS JOIN unnest(tk_places) AS place",
            f"WHERE NOT EXISTS ({parents});",
            if_then("FOUND", f"PERFORM {_waits(plan)};"),
        ]
    )


def is_noted(late: LateParent, event: Event) -> bool:
    """Whether an event may miss a parent: only arrivals, where a foreign key keeps the others from being committed."""
    return event is not Event.TRUNCATE and (event is not Event.DELETE or not late.is_constrained)


def _of_targets(plan: Plan, step: Step) -> list[LateParent]:
    """Return where targets come after the rows that name them.

    A row further along a path reports its target, too: when the row that names it came, nothing may have counted yet.
    """
    feeds = [feed for feed in step.edge.feeds_of(step.event) if feed.path]
    found = (late for feed in feeds for late in plan.late_parents(feed.path[:1], feed.kept_columns))
    return list(dict.fromkeys(late for late in found if not late.path))


def _names(plan: Plan, late: LateParent) -> str:
    return f"{text_literal(plan.target)}, '{place_of(plan, late)}'"


def _raise_at_repeatable_read(message: str, *conditions: str) -> list[str]:
    tests = [*conditions, "current_setting('transaction_isolation') = 'repeatable read'"]
    return [
        f"IF {' AND '.join(tests)} THEN",
        f"    RAISE EXCEPTION USING MESSAGE = {text_literal(message)},",
        "              ERRCODE = 'feature_not_supported',",
        "              HINT = 'Write it at READ COMMITTED or SERIALIZABLE, or add a foreign key to the database.';",
        "END IF;",
    ]


def take_links(plan: Plan, start: Path, kept_columns: Iterable[KeptColumn]) -> list[str]:
    """Return the statements by which rows that only have equal values wait for each other."""
    statements = []
    read = list(kept_columns)
    for link in plan.links(start, read):
        function = "pg_advisory_xact_lock" if link.is_exclusive else "pg_advisory_xact_lock_shared"
        key = advisory_number(plan.target, *map(str, link.path))
        uris = ", ".join(kept.resolved.uri for kept in read)
        statements += [
            *_raise_at_repeatable_read(f"At REPEATABLE READ, {uris} cannot be kept: no key ties its rows."),
            f"PERFORM {function}({key});",
        ]
    return statements


def arrive(plan: Plan, parents: Iterable[LateParent]) -> list[str]:
    """Return the statements that hold up those who have missed these parents, until they are committed."""
    return [
        f"PERFORM pg_advisory_xact_lock_shared({advisory_key(plan, late)});"
        for late in parents
        if not late.is_constrained
    ]
