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
from trigger_kit.plan.plan import Edge, Plan
from trigger_kit.plan.row_locks import LateParent
from trigger_kit.resolve.columns import Column, key_type
from trigger_kit.sql.atoms import recompute, recompute_rows
from trigger_kit.sql.body import ARRIVED, begin, brief
from trigger_kit.sql.django import hop_condition
from trigger_kit.sql.function import PLANS, call
from trigger_kit.sql.helpers import apply_keys, lock_call
from trigger_kit.sql.locks import lock_path
from trigger_kit.sql.notes import place_of
from trigger_kit.sql.paths import Key, first_hop_conditions, key_columns, numbered, walk
from trigger_kit.sql.text import block, object_name, regclass_placeholder, table_placeholder, text_literal
from trigger_kit.sql.trigger import CompiledTrigger, render

__all__ = ["compile_waiting"]


def compile_waiting(plan: Plan) -> list[CompiledTrigger]:
    """Compile the constraint trigger that settles what waits for rows of a plan."""
    late_parents = [late for late in plan.all_late_parents if late.is_constrained]
    if not late_parents:
        return []
    sentence = f"At the end of a transaction: compute what follows for {plan.target} from rows that came meanwhile."
    settled = [_settle(plan, late, number) for number, late in enumerate(late_parents, 1)]
    declared = [line for lines, _ in settled for line in lines]
    lines = [
        brief(plan, sentence),
        "DECLARE",
        block("\n".join(declared)),
        begin("tk_waiting"),
        block(_take_sign(plan)),
        *(block(text) for _, text in settled),
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
            level=pgtrigger.Row,
            condition=f"NEW.target = {text_literal(plan.target)} AND NEW.place = ''",
            timing=pgtrigger.Deferred,
            settings=PLANS if any(late.path for late in late_parents) else (),
        )
    ]


def _take_sign(plan: Plan) -> str:
    """Return the statement after which further notes fire the trigger again: this one settles all there are."""
    taken = call(ARRIVED, regclass_placeholder("tk_waiting"), f"{text_literal(plan.target)}::text", "''::text")
    return f"-- What is noted from now on is looked at again.\nPERFORM FROM {taken};"


def _settle(plan: Plan, late: LateParent, number: int) -> tuple[list[str], str]:
    """Return declarations, and the statements that settle what waits for late parents of one kind."""
    parent, keys = Key(late.parent, f"tk_parent_{number}"), Key(_target_key(late), f"tk_key_{number}")
    declarations = [*parent.declarations(), *(keys.declarations() if late.path else [])]
    lines = [*_compute(plan, late, parent, keys), *_unseen(late, parent)]
    text = "\n".join(
        [
            f"-- Rows of {late.child[0].table} that came before their {late.parent[0].table}.",
            _taken(plan, late, parent),
            f"IF {parent.arrays[0]} IS NOT NULL THEN",
            block("\n".join(lines)),
            "END IF;",
        ]
    )
    return declarations, text


def _taken(plan: Plan, late: LateParent, parent: Key) -> str:
    """Return the statement that takes the noted keys of this transaction out of the table."""
    parts = [f"array_agg(settled.key[{n}]::{key_type(column)})" for n, column in enumerate(late.parent, 1)]
    target, place = f"{text_literal(plan.target)}::text", f"'{place_of(plan, late)}'::text"
    taken = call(ARRIVED, regclass_placeholder("tk_waiting"), target, place)
    return f"SELECT {', '.join(parts)} INTO {', '.join(parent.arrays)} FROM {taken} AS settled (key);"


def _target_key(late: LateParent) -> tuple[Column, ...]:
    return late.path[0].near if late.path else late.parent


def _compute(plan: Plan, late: LateParent, parent: Key, keys: Key) -> list[str]:
    """Return the statements that compute the targets afresh which the rows with the noted keys lead to."""
    kept_columns = plan.reading(late)
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
    locks = [lock_path(plan, lock, rows) for lock in plan.path_locks(path, kept_columns)]
    update = _refilled(plan, late, kept_columns, keys)
    return [*locks, found, f"IF {keys.arrays[0]} IS NOT NULL THEN", block("\n".join(update)), "END IF;"]


def _refilled(plan: Plan, late: LateParent, kept_columns: list[KeptColumn], key: Key) -> list[str]:
    """Return the statements that lock the targets of some keys, and compute them afresh."""
    plain = [kept for kept in kept_columns if not kept.resolved.is_recursive]
    columns = _target_key(late)
    lines = [f"PERFORM {lock_call(plan, columns, *key.arrays, 'NULL::text[]', 'false')};"]
    if plain and columns == plan.key:
        lines += recompute(plan, plain, *key.arrays)
    elif plain:
        lines += recompute_rows(plan, plain, f"{table_placeholder(plan.target)} AS this WHERE {key.is_among('this')}")
    return lines + [apply_keys(plan, edge, *key.arrays, "NULL::text[]") for edge in _recursive_edges(plan, late)]


def _recursive_edges(plan: Plan, late: LateParent) -> list[Edge]:
    key = _target_key(late)
    return [edge for edge in plan.edges if edge.is_recursive and edge.key == key]


def _unseen(late: LateParent, parent: Key) -> list[str]:
    """Return the test for parents that a snapshot of REPEATABLE READ does not show, though their foreign key holds."""
    child, children = Key(late.child), table_placeholder(late.child[0].table)
    near, far = ("parent", "child") if late.child_is_far else ("child", "parent")
    parents = (
        f"SELECT FROM {table_placeholder(late.parent[0].table)} AS parent WHERE {hop_condition(late.hop, near, far)}"
    )
    message = f"A row of {late.parent[0].table} was inserted by a concurrent transaction."
    columns = ", ".join(child.of("child"))
    named = f"({columns}) IN (SELECT * FROM unnest({', '.join(parent.arrays)}))"
    if len(parent.arrays) == 1:
        named = f"{columns} = ANY ({parent.arrays[0]})"
    return [
        "IF current_setting('transaction_isolation') = 'repeatable read' AND EXISTS (",
        f"    SELECT FROM {children} AS child WHERE {named} AND NOT EXISTS ({parents})",
        ") THEN",
        f"    RAISE EXCEPTION USING MESSAGE = {text_literal(message)},",
        "              ERRCODE = 'serialization_failure', HINT = 'Try the transaction again.';",
        "END IF;",
    ]
