"""COMPILE a recursive edge: a column that is computed from the same column of other rows, such as a tree's rollup.

What a step writes, the next level reads. The function finds all rows that a change can reach, sorts them into levels
and computes level after level, each row once: nested triggers would do the same, but a deep tree would exceed
PostgreSQL's stack, and a bulk load would compute its upper rows over and over. A row that is its own ancestor is on
no level; it has no such value, and is refused.
"""

from __future__ import annotations

from collections.abc import Iterable

from trigger_kit.plan.kept_columns import KeptColumn
from trigger_kit.plan.plan import Event, Plan, Step
from trigger_kit.sql.atoms import recompute
from trigger_kit.sql.body import restore_depth, set_depth
from trigger_kit.sql.locks import lock_in_order
from trigger_kit.sql.paths import Key, by_index
from trigger_kit.sql.text import block, quote, regclass_placeholder, short_digest, table_placeholder, text_literal
from trigger_kit.sql.updates import refill

__all__ = ["outer_loops", "own_loop_test", "recursive_update", "told_apart"]


def own_loop_test(step: Step) -> str:
    """Return the test for an UPDATE of the loop that computes level after level: it goes on by itself.

    Anybody may set the setting that says so: it has changed nothing but what this edge keeps.
    """
    kept = {kept.column for kept in step.kept_columns}
    read = sorted({name for feed in step.edge.feeds for name in feed.columns} - kept)
    before, after = (", ".join(f"{rows}.{quote(name)}::text" for name in read) for rows in ("old_rows", "new_rows"))
    return (
        "-- What the loop over levels writes fires this trigger again; the loop goes on by itself.\n"
        f"IF current_setting('{_flag(step)}', true) = (pg_trigger_depth() - 1)::text AND NOT EXISTS (\n"
        f"    SELECT {before} FROM old_rows EXCEPT ALL SELECT {after} FROM new_rows\n"
        ") THEN\n"
        "    RETURN NULL;\n"
        "END IF;"
    )


def outer_loops(plan: Plan, kept_columns: Iterable[KeptColumn]) -> list[str]:
    """Return the declarations of what ``told_apart`` puts back."""
    flags = enumerate(_flags(plan, kept_columns), 1)
    return [f"tk_outer_loop_{n} text := coalesce(current_setting('{flag}', true), '');" for n, flag in flags]


def told_apart(plan: Plan, kept_columns: Iterable[KeptColumn], statements: str, said: str = "''") -> str:
    """Return statements of maintenance that write columns of a tree, told from those of the loop over its levels.

    Whatever a session has set: what the loop does not write sets it off. ``said`` is what the setting becomes.
    """
    flags = list(enumerate(_flags(plan, kept_columns), 1))
    before = [f"PERFORM set_config('{flag}', {said}, true);" for _, flag in flags]
    after = [f"PERFORM set_config('{flag}', tk_outer_loop_{n}, true);" for n, flag in flags]
    return "\n".join([*before, statements, *after])


def _flags(plan: Plan, kept_columns: Iterable[KeptColumn]) -> list[str]:
    columns = {kept.column for kept in kept_columns}
    edges = [edge for edge in plan.edges if edge.is_recursive]
    steps = [Step(edge, Event.UPDATE) for edge in edges if columns & {kept.column for kept in edge.kept_columns}]
    return list(dict.fromkeys(map(_flag, steps)))


def _flag(step: Step) -> str:
    """Return the setting that tells the trigger at which depth its own loop runs."""
    return f"trigger_kit.along_{short_digest(step.edge.target, *(column.name for column in step.edge.key))}"


def recursive_update(plan: Plan, step: Step, key: Key, *, inline: bool = False) -> str:
    """Return the block that locks and computes all rows that some keys reach; it uses what DEPTH declares.

    ``key`` names the arrays of the keys. ``inline`` is for who may not execute the functions of the target's owner.
    """
    rows, locked = Key(plan.key, "tk_row"), Key(plan.key, "tk_locked_row")
    declarations = [
        f"tk_outer_loop text := coalesce(current_setting('{_flag(step)}', true), '');",
        "tk_level integer;",
        *rows.declarations(),
        *locked.declarations(),
    ]
    return "\n".join(
        [
            "DECLARE",
            block("\n".join(declarations)),
            "BEGIN",
            block(_lock(plan, step, key)),
            "",
            block(set_depth()),
            f"    PERFORM set_config('{_flag(step)}', pg_trigger_depth()::text, true);",
            block(_loop(plan, step, key, inline=inline)),
            f"    PERFORM set_config('{_flag(step)}', tk_outer_loop, true);",
            block(restore_depth()),
            "END;",
        ]
    )


def _lock(plan: Plan, step: Step, key: Key) -> str:
    """Return the statements that lock every row that the loop may write, in the order in which it will.

    Not in key order: the client's statement has written its row already, and goes on from there, as all others do.
    While they wait for a lock, a row may have moved to where it reaches others.
    """
    rows, locked = Key(plan.key, "tk_row"), Key(plan.key, "tk_locked_row")
    order = ", ".join([f"levels.tk_level {_order(step)}", *(f"reached.{name}" for name in rows.names)])
    collected = ",\n".join(f"    array_agg(reached.{name} ORDER BY {order})" for name in rows.names)
    tie = " AND ".join(f"levels.{name} = reached.{name}" for name in rows.names)
    cte = f"{_reached(plan, step, key)},\n{_levels(plan, step)}"
    same = " AND ".join(
        f"{row} IS NOT DISTINCT FROM {lock}" for row, lock in zip(rows.arrays, locked.arrays, strict=True)
    )
    keep = "\n".join(f"{lock} := {row};" for row, lock in zip(rows.arrays, locked.arrays, strict=True))
    return "\n".join(
        [
            "LOOP",
            block(
                f"{cte}\nSELECT\n{collected}\nINTO {', '.join(rows.arrays)}\nFROM reached LEFT JOIN levels ON {tie};"
            ),
            f"    EXIT WHEN {same};",
            block(lock_in_order(plan, rows)),
            block(keep),
            "END LOOP;",
        ]
    )


def _loop(plan: Plan, step: Step, key: Key, *, inline: bool) -> str:
    """Return the loop over the levels: leaves first where a row reads its children, else roots first."""
    rows = Key(plan.key, "tk_row")
    arrays = ", ".join(f"array_agg(reached.{name})" for name in rows.names)
    order = _order(step)
    same = " AND ".join(f"levels.{name} = reached.{name}" for name in rows.names)
    write = recompute(plan, step.kept_columns, *rows.arrays, is_loop=True)
    if inline:
        write = [refill(plan, step.kept_columns, rows.is_among("this"))]
    return "\n".join(
        [
            f"FOR tk_level, {', '.join(rows.arrays)} IN",
            block(_reached(plan, step, key) + ",\n" + _levels(plan, step)),
            f"    SELECT levels.tk_level, {arrays}",
            f"    FROM reached LEFT JOIN levels ON {same}",
            f"    GROUP BY levels.tk_level ORDER BY levels.tk_level {order}",
            "LOOP",
            "    IF tk_level IS NULL THEN",
            block(_refusal(step), 2),
            "    END IF;",
            *map(block, write),
            "END LOOP;",
        ]
    )


def _order(step: Step) -> str:
    """Return the order of levels: leaves first where a row reads its children, else roots first."""
    return "DESC NULLS FIRST" if _reads_children(step) else "ASC NULLS FIRST"


def _reads_children(step: Step) -> bool:
    return step.edge.feeds[0].path[0].near_is_unique


def _pointer(step: Step) -> tuple[list[str], list[str]]:
    """Return the columns by which a row points at its parent, and those of the parent that they point at."""
    hop = step.edge.feeds[0].path[0]
    near, far = ([quote(column.name) for column in side] for side in (hop.near, hop.far))
    return (far, near) if _reads_children(step) else (near, far)


def _reached(plan: Plan, step: Step, key: Key) -> str:
    """Return the CTE of the touched rows and all that read them, directly or not."""
    pointer, parent = _pointer(step)
    table = table_placeholder(plan.target)
    rows = Key(plan.key, "tk_row")
    up = _names("tk_up", pointer)
    own = _names("tk_own", parent)
    columns = ", ".join([*rows.of("this"), *(f"this.{name}" for name in (*pointer, *parent))])
    here, there = (parent, up) if _reads_children(step) else (pointer, own)
    tie = " AND ".join(f"this.{column} = reached.{name}" for column, name in zip(here, there, strict=True))
    hop = step.edge.feeds[0].path[0]
    # The other side of the hop: of a child the parent, of a parent its children.
    up_the_tree = _reads_children(step)
    onward = by_index((hop,), 0 if up_the_tree else 1, "this", tie, is_near=up_the_tree)
    return (
        f"WITH RECURSIVE reached ({', '.join([*rows.names, *up, *own])}) AS (\n"
        f"    SELECT {columns}\n    FROM {table} AS this\n    WHERE {key.is_among('this')}\n"
        "    UNION\n"
        f"    SELECT {columns}\n    FROM reached\n{block(onward)}\n)"
    )


def _levels(plan: Plan, step: Step) -> str:
    """Return the CTE of the reached rows' levels, counted from those whose parent is not reached."""
    pointer, parent = _pointer(step)
    rows = Key(plan.key, "tk_row")
    up, own = _names("tk_up", pointer), _names("tk_own", parent)
    parents = " AND ".join(f"parent.{there} = reached.{here}" for here, there in zip(up, own, strict=True))
    tie = " AND ".join(f"reached.{here} = levels.{there}" for here, there in zip(up, own, strict=True))
    columns = ", ".join(f"reached.{name}" for name in (*rows.names, *own))
    return (
        f"levels ({', '.join([*rows.names, *own, 'tk_level'])}) AS (\n"
        f"    SELECT {columns}, 0\n    FROM reached\n"
        f"    WHERE NOT EXISTS (SELECT FROM reached AS parent WHERE {parents})\n"
        "    UNION ALL\n"
        f"    SELECT {columns}, levels.tk_level + 1\n    FROM levels JOIN reached ON {tie}\n)"
    )


def _names(name: str, columns: list[str]) -> list[str]:
    return [f"{name}_{number}" for number in range(1, len(columns) + 1)]


def _refusal(step: Step) -> str:
    """Return the statement that raises for rows on no level: they lie in a circle, or above one."""
    uris = ", ".join(kept.resolved.uri for kept in step.kept_columns)
    message = f"A row of {step.edge.target} would be its own ancestor, so that {uris} would have no value."
    table = regclass_placeholder(step.edge.target)
    return "\n".join(
        [
            f"RAISE EXCEPTION USING MESSAGE = {text_literal(message)},",
            "          ERRCODE = 'integrity_constraint_violation',",
            "          HINT = 'Do not move a row under one of its own descendants.',",
            f"          SCHEMA = (SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = {table}),",
            f"          TABLE = {text_literal(step.edge.target)};",
        ]
    )
