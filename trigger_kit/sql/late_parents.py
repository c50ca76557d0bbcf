"""COMPILE late parents: rows that come after the rows that point at them, by two transactions at once.

Where a step does not find a row that the changed rows point at, it notes the key in ``tk_waiting``. At the end of the
transaction, after the foreign keys have been checked, a constraint trigger on this table computes afresh what follows
from the rows that have come meanwhile. (Foreign keys that are checked at once leave nothing to note.)

Without a foreign key in the database nobody would wait: there, who brings a parent holds an advisory lock in shared
mode, and who misses one takes it exclusively before it looks (``sql/notes.py``): one of the two sees the other.
"""

from __future__ import annotations

import pgtrigger

from trigger_kit.plan.kept_columns import KeptColumn
from trigger_kit.plan.plan import Edge, Event, Plan, Step
from trigger_kit.plan.row_locks import LateParent
from trigger_kit.resolve.columns import Column, key_type
from trigger_kit.sql.body import DEPTH, FILLED, begin, header, restore_depth, set_depth, set_mark
from trigger_kit.sql.django import hop_condition
from trigger_kit.sql.locks import lock_path, lock_target_rows
from trigger_kit.sql.notes import place_of, reading, waiting_notes
from trigger_kit.sql.paths import Key, first_hop_conditions, key_columns, numbered, walk
from trigger_kit.sql.pending import reconsider
from trigger_kit.sql.text import block, object_name, table_placeholder, text_literal
from trigger_kit.sql.trees import recursive_update
from trigger_kit.sql.trigger import CompiledTrigger, render
from trigger_kit.sql.updates import refill

__all__ = ["compile_waiting"]


def compile_waiting(plan: Plan) -> list[CompiledTrigger]:
    """Compile the constraint trigger that settles what waits for rows of a plan."""
    late_parents = [late for late in plan.all_late_parents if late.is_constrained]
    if not late_parents:
        return []
    sentence = f"At the end of a transaction: compute what follows for {plan.target} from rows that came meanwhile."
    lines = [
        header(plan, sentence, plan.kept_columns),
        "DECLARE",
        block(DEPTH),
        begin("tk_waiting"),
        block(_first_only(plan)) + "\n",
        *(block(_settle(plan, late)) + "\n" for late in late_parents),
        "    RETURN NULL;",
        "END;",
    ]
    return [
        render(
            name=object_name("tk_", (plan.target, "settle"), (plan.target, "settle")),
            on="tk_waiting",
            owner=plan.target,
            body="\n".join(lines),
            when=pgtrigger.After,
            operation=pgtrigger.Insert,
            clauses=[
                "DEFERRABLE INITIALLY DEFERRED",
                f"FOR EACH {pgtrigger.Row}",
                f"WHEN (NEW.target = {text_literal(plan.target)})",
            ],
            is_constraint=True,
        )
    ]


def _first_only(plan: Plan) -> str:
    """Return the test that lets one note settle all of its transaction: each fires the trigger, and finds none left."""
    name = waiting_notes(plan)
    return "\n".join(
        [
            "-- The first note settles them all; those that come meanwhile say so again.",
            f"IF current_setting('{name}', true) IS DISTINCT FROM 'on' THEN",
            "    RETURN NULL;",
            "END IF;",
            f"PERFORM set_config('{name}', '', true);",
        ]
    )


def _settle(plan: Plan, late: LateParent) -> str:
    """Return the block that settles what waits for late parents of one kind."""
    parent = Key(late.parent, "tk_parent")
    keys = Key(_target_key(late))
    declarations = [*parent.declarations(), *(keys.declarations() if late.path else [])]
    lines = [
        f"-- Rows of {late.child[0].table} that came before their {late.parent[0].table}.",
        "DECLARE",
        block("\n".join(declarations)),
        "BEGIN",
        block(_taken(plan, late, parent)),
        f"    IF {parent.arrays[0]} IS NOT NULL THEN",
        block("\n".join([*_compute(plan, late, parent, keys), *_unseen(late, parent)]), 2),
        "    END IF;",
        "END;",
    ]
    return "\n".join(lines)


def _taken(plan: Plan, late: LateParent, parent: Key) -> str:
    """Return the statement that takes the noted keys of this transaction out of the table."""
    columns = enumerate(late.parent, 1)
    parts = [f"array_agg(settled.key[{number}]::{key_type(column)})" for number, column in columns]
    return "\n".join(
        [
            "WITH settled AS (",
            '    DELETE FROM {:schema}."tk_waiting" AS noted',
            "    WHERE noted.transaction = pg_current_xact_id()",
            f"      AND noted.target = {text_literal(plan.target)} AND noted.place = '{place_of(plan, late)}'",
            "    RETURNING noted.key",
            ")",
            f"SELECT {', '.join(parts)}",
            f"INTO {', '.join(parent.arrays)}",
            "FROM settled;",
        ]
    )


def _target_key(late: LateParent) -> tuple[Column, ...]:
    return late.path[0].near if late.path else late.parent


def _compute(plan: Plan, late: LateParent, parent: Key, keys: Key) -> list[str]:
    """Return the statements that compute the targets afresh which the rows with the noted keys lead to."""
    kept_columns = reading(plan, late)
    if not late.path:
        return _refilled(plan, late, kept_columns, parent)
    rows = f"(SELECT * FROM {table_placeholder(late.parent[0].table)} AS this WHERE {parent.is_among('this')})"
    path = late.path
    conditions = first_hop_conditions(path)
    where = f"\nWHERE {' AND '.join(conditions)}" if conditions else ""
    arrays = ", ".join(f"array_agg(touched.{name})" for name in keys.names)
    touched = (
        f"SELECT DISTINCT\n{block(numbered(keys.names, key_columns(path)))}\nFROM {walk(path, len(path), rows)}{where}"
    )
    found = (
        f"SELECT {arrays}\nINTO {', '.join(keys.arrays)}\n"
        f"FROM (\n{block(touched)}\n) AS touched\nWHERE {keys.present('touched')};"
    )
    locks = [lock_path(lock, rows) for lock in plan.path_locks(path, kept_columns)]
    update = _refilled(plan, late, kept_columns, keys)
    return [*locks, found, f"IF {keys.arrays[0]} IS NOT NULL THEN", block("\n".join(update)), "END IF;"]


def _refilled(plan: Plan, late: LateParent, kept_columns: list[KeptColumn], key: Key) -> list[str]:
    plain = [kept for kept in kept_columns if not kept.resolved.is_recursive]
    locks = lock_target_rows(plan, key.is_among("locked"))
    lines = [*reconsider(plan, kept_columns), locks, set_mark(plan, FILLED), set_depth()]
    lines += [refill(plan, plain, key.is_among("this"))] if plain else []
    lines += [restore_depth()]
    for edge in _recursive_edges(plan, late):
        lines += [recursive_update(plan, Step(edge, Event.INSERT), key)]
    return lines


def _recursive_edges(plan: Plan, late: LateParent) -> list[Edge]:
    key = _target_key(late)
    return [edge for edge in plan.edges if edge.is_recursive and edge.key == key]


def _unseen(late: LateParent, parent: Key) -> list[str]:
    """Return the test for parents that a snapshot of REPEATABLE READ does not show, though their foreign key holds."""
    child = Key(late.child)
    near, far = ("parent", "child") if late.child_is_far else ("child", "parent")
    rows = ", ".join(parent.arrays)
    message = f"A row of {late.parent[0].table} was inserted by a concurrent transaction."
    named = ", ".join(child.of("child"))
    return [
        "IF current_setting('transaction_isolation') = 'repeatable read' AND EXISTS (",
        f"    SELECT FROM {table_placeholder(late.child[0].table)} AS child",
        f"    WHERE ({named}) IN (SELECT * FROM unnest({rows}))",
        f"      AND NOT EXISTS (SELECT FROM {table_placeholder(late.parent[0].table)} AS parent",
        f"                      WHERE {hop_condition(late.hop, near, far)})",
        ") THEN",
        "    RAISE EXCEPTION USING",
        f"        MESSAGE = {text_literal(message)},",
        "        ERRCODE = 'serialization_failure',",
        "        HINT = 'Try the transaction again.';",
        "END IF;",
    ]
