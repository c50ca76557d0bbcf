"""COMPILE locks: rows along a path, and targets, locked in key order before anything is read of them.

At REPEATABLE READ a lock alone does not help: the other transaction's snapshot stays what it is, and PostgreSQL refuses
(with SQLSTATE 40001) only to change a row that was *written* since. There, what is locked is written too.
"""

from __future__ import annotations

from trigger_kit.plan.plan import Event, Feed, Plan, Step
from trigger_kit.plan.row_locks import PathLock, Strength
from trigger_kit.resolve.columns import Column, Path, is_comparable
from trigger_kit.sql.body import LOCKING
from trigger_kit.sql.changes import changed_rows
from trigger_kit.sql.django import far_sql, hop_condition
from trigger_kit.sql.function import call
from trigger_kit.sql.paths import Key, by_index
from trigger_kit.sql.text import block, escape_braces, object_name, quote, table_placeholder

__all__ = [
    "all_path_locks",
    "hold_body",
    "hold_name",
    "lock_in_order",
    "lock_path",
    "lock_paths",
    "lock_target_rows",
    "near_values",
    "wanted_columns",
]


def lock_paths(plan: Plan, step: Step) -> list[str]:
    """Return the statements that lock the rows along the paths of a step."""
    feeds = step.edge.feeds_of(step.event)
    statements = [text for texts in dict.fromkeys(_lock_feed(plan, step, feed) for feed in feeds) for text in texts]
    if not statements:
        return []
    return ["-- Lock what the path leads over, so that it cannot change meanwhile.", *statements]


def _lock_feed(plan: Plan, step: Step, feed: Feed) -> tuple[str, ...]:
    statements = []
    for lock in plan.path_locks(feed.path, feed.kept_columns):
        rows = _pointing_rows(plan, step, feed) if _only_points(feed, lock) else changed_rows(feed, step)
        statements += [lock_path(plan, lock, rows)] if rows else []
    return tuple(statements)


def _only_points(feed: Feed, lock: PathLock) -> bool:
    """Whether a lock matters only for rows that have come to point at the locked row.

    A change of what they pointed at before finds them, and with them their target, whose lock both want. Deltas are
    another case: each of two changes would multiply its own difference with what the other has found.
    """
    return feed.whole is None and lock.level > lock.start


def _pointing_rows(plan: Plan, step: Step, feed: Feed) -> str | None:
    """Return the FROM item of changed rows that have come to point at another row, or None where there are none."""
    if step.event is Event.DELETE:
        return None
    if step.event is Event.INSERT:
        return "new_rows"
    level = len(feed.path)
    onward = {s.path[level] for s in plan.sources if len(s.path) > level and s.path[:level] == feed.path}
    source = next(source for source in plan.sources if source.path == feed.path)
    keys = [str(field.column) for field in source.model._meta.pk_fields]
    names = list(dict.fromkeys([*keys, *(name for hop in sorted(onward, key=str) for name in hop.near_names)]))
    now, before = (", ".join(f"{rows}.{quote(name)}" for name in names) for rows in ("new_rows", "old_rows"))
    return f"(\n    SELECT {now} FROM new_rows\n    EXCEPT ALL\n    SELECT {before} FROM old_rows\n)"


def lock_path(plan: Plan, lock: PathLock, rows: str) -> str:
    """Return the statement of one lock; ``rows`` is the FROM item of the changed rows, without its alias."""
    values, found = _named(lock, rows)
    arrays = [f"array_agg({value})" for value in values]
    return f"PERFORM {call(hold_name(plan, lock), *arrays)}\nFROM {found};"


def hold_name(plan: Plan, lock: PathLock) -> str:
    """Return the name of the function that locks rows of a path, found by some columns."""
    columns = [column.name for column in wanted_columns(lock)]
    identity = (plan.target, "hold", lock.table, *columns, lock.strength.value)
    return object_name("tk_", (plan.target, "hold", lock.table), identity)


def hold_body(lock: PathLock) -> str:
    """Return the body of that function; the arrays of its arguments hold the values of these columns."""
    wanted = Key(wanted_columns(lock)).is_among("locked")
    locked = lock_rows(lock.table, wanted, [quote(name) for name in lock.order], lock.strength.value)
    sentence = " ".join(f"Lock rows of {lock.table} in key order: what leads over them stays as it is.".splitlines())
    return f"-- {escape_braces(sentence)}\nBEGIN\n{block(locked)}\nEND;"


def all_path_locks(plan: Plan) -> list[PathLock]:
    """Return a lock for each function that locks rows along the paths of a plan."""
    fed = [(feed.path, feed.kept_columns) for step in plan.steps for feed in step.edge.feeds_of(step.event)]
    late = [(late.path, plan.reading(late)) for late in plan.all_late_parents if late.path]
    starts = [*fed, ((), plan.pointing), *late]
    locks = (lock for start, kept_columns in starts for lock in plan.path_locks(start, kept_columns))
    return list({hold_name(plan, lock): lock for lock in locks}.values())


def lock_rows(table: str, wanted: str, order: list[str], strength: str, *after: str) -> str:
    """Return the statements that lock some rows, of the alias ``locked``, in key order; ``after`` follow the first."""
    keys = ", ".join(f"locked.{name}" for name in order)
    separator = "\n" if "\n" in wanted else " "
    lock = f"PERFORM FROM {table_placeholder(table)} AS locked\nWHERE {wanted}{separator}ORDER BY {keys} "
    if strength == Strength.NO_KEY_UPDATE.value:
        return "\n".join([f"{lock}{strength};", *after, write_locked(table, wanted, order)])
    # Two transactions that share a lock and then both write deadlock.
    lines = write_locked(table, wanted, order, f"{lock}{Strength.NO_KEY_UPDATE.value};").removesuffix("END IF;")
    return "\n".join([f"{lines}ELSE", block(f"{lock}{strength};"), "END IF;"])


def write_locked(table: str, wanted: str, order: list[str], *before: str) -> str:
    """Return the statements that write what is locked, at REPEATABLE READ; ``before`` are run there first."""
    return "\n".join(
        [
            "IF current_setting('transaction_isolation') = 'repeatable read' THEN",
            *map(block, before),
            f"    PERFORM set_config('{LOCKING}', pg_trigger_depth()::text, true);",
            block(
                f"UPDATE {table_placeholder(table)} AS locked "
                f"SET {', '.join(f'{name} = locked.{name}' for name in order)}\nWHERE {wanted};"
            ),
            f"    PERFORM set_config('{LOCKING}', '', true);",
            "END IF;",
        ]
    )


def wanted_columns(lock: PathLock) -> tuple[Column, ...]:
    """Return the columns by which the locked rows are named."""
    return lock.path[lock.level].near if lock.level < lock.start else lock.path[lock.level - 1].far


def _named(lock: PathLock, rows: str) -> tuple[list[str], str]:
    """Return the locked rows' keys and the FROM item of the rows next to them on the way from the changed ones."""
    if lock.level < lock.start:
        last = lock.level + 1
        values = far_sql(lock.path[lock.level], _row(last))
    else:
        last = lock.level - 1
        values = near_values(lock.path, lock.level, _row(last))
    steps = range(lock.start - 1, last - 1, -1) if lock.level < lock.start else range(lock.start + 1, last + 1)
    joins = [_join(lock.path, level, nearer=lock.level < lock.start) for level in steps]
    return values, "\n".join([f"{rows} AS {_row(lock.start)}", *joins])


def near_values(path: Path, level: int, row: str) -> list[str]:
    """Return the near columns of the hop to a level, as values of the far columns' types."""
    hop = path[level - 1]
    return [
        f"{row}.{quote(near.name)}" + ("" if is_comparable(near.type, far.type) else f"::{far.type}")
        for near, far in zip(hop.near, hop.far, strict=True)
    ]


def _join(path: Path, level: int, *, nearer: bool) -> str:
    """Return the JOIN of a level's table to the level that is nearer to the changed rows."""
    hop = path[level] if nearer else path[level - 1]
    near, far = (level, level + 1) if nearer else (level - 1, level)
    condition = hop_condition(hop, _row(near), _row(far))
    return by_index(path, level, _row(level), condition, is_near=nearer)


def _row(level: int) -> str:
    return f"hop_{level}" if level else "own"


# Targets ------------------------------------------------------------------------------------------------------------


def lock_in_order(plan: Plan, rows: Key) -> str:
    """Return the statements that lock the targets whose primary keys are in arrays, in the order of these."""
    wanted = f"unnest({', '.join(rows.arrays)}) WITH ORDINALITY AS wanted ({', '.join(rows.names)}, tk_position)"
    lock = (
        f"PERFORM\nFROM {wanted}\n"
        f"JOIN {table_placeholder(plan.target)} AS locked ON {rows.matches('locked', 'wanted')}\n"
        "ORDER BY wanted.tk_position\nFOR NO KEY UPDATE OF locked;"
    )
    order = [quote(name) for name in plan.key_columns]
    return f"{lock}\n{write_locked(plan.target, rows.is_among('locked'), order)}"


def lock_target_rows(plan: Plan, wanted: str, *after: str) -> str:
    """Return the statements that lock some targets, of the alias ``locked``."""
    order = [quote(name) for name in plan.key_columns]
    lines = lock_rows(plan.target, wanted, order, "FOR NO KEY UPDATE", *after)
    return f"-- Lock in key order, so that two bulk statements cannot deadlock.\n{lines}"
