"""COMPILE the lean path of a delta: most statements change one row, of one target or, where it moves, of two.

One query reads the row into variables and finds out that it is the only one; PL/pgSQL computes what has changed by
itself; one UPDATE adds it, in both targets where the row moves. Nothing is summed or sorted.

A query that has nothing to compute, and expressions that need no query, take half the time of a query that computes.
What depends on more than a variable can hold (a collation, a length, the rules of a domain) is left to the query.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import Count

from trigger_kit.compiler.additions import additions, floors, unless
from trigger_kit.compiler.appending import append_rows, has_purged, may_follow_a_cascade
from trigger_kit.compiler.body import restore_depth, set_depth, update_head
from trigger_kit.compiler.changes import Part, changed_names, parts
from trigger_kit.compiler.climbing import READ_COMMITTED, can_climb, climb, climb_declarations
from trigger_kit.compiler.fragments import argument_sql, condition_sql, is_present
from trigger_kit.compiler.text import block, quote, table_placeholder
from trigger_kit.measures import Measure
from trigger_kit.paths import Column
from trigger_kit.planner import Event, Feed, Plan, Step

__all__ = ["has_one_row_path", "one_row", "one_row_declarations"]

# Types without collation, length or rules of their own: a variable's value is the column's.
_PLAIN = {
    "smallint", "integer", "bigint", "numeric", "real", "double precision", "boolean", "uuid", "date",
    "time", "time without time zone", "timestamp with time zone", "timestamp without time zone",
}  # fmt: skip


def has_one_row_path(plan: Plan, step: Step) -> bool:
    """Whether one row has one target, named by one of its own columns or reached over others, and only adds to it.

    A row with two foreign keys to the target has two keys. What a row behind others counts for must depend on it alone.
    """
    feeds = step.edge.feeds_of(step.event)
    if len(feeds) != 1 or not feeds[0].is_whole:
        return False
    hop = feeds[0].path[0]
    if len(feeds[0].path) == 1:
        return len(hop.far) == 1 and hop.content_type is None and hop.near[0].type == hop.far[0].type
    return can_climb(plan, feeds[0]) and not any(_NEARER in _counted(step, part, "after") for part in parts(step))


# Stands for the rows between a row and its target.
_NEARER = "tk_nearer"


def _feed(step: Step) -> Feed:
    """Return the only feed of a step with a lean path."""
    return step.edge.feeds_of(step.event)[0]


def _climbs(step: Step) -> bool:
    """Whether there are rows between the changed row and its target."""
    return len(_feed(step).path) > 1


def _key(step: Step) -> Column:
    """Return the row's column that names its target, or the next row on the way to it."""
    return _feed(step).path[-1].far[0]


def one_row_declarations(step: Step) -> list[str]:
    """Return the variables of the lean path: the row's key and what it changes, named as the columns."""
    moves = step.event is Event.UPDATE and not _climbs(step)
    booleans = ["tk_is_one", *(["tk_leaves", "tk_comes"] if moves else [])]
    lines = [*(f"{name} boolean;" for name in booleans), "tk_written bigint;", f"tk_key {step.edge.key[0].type};"]
    return [*lines, *climb_declarations(_feed(step)), *(f"{part.name} {part.type};" for part in parts(step))]


def one_row(plan: Plan, step: Step) -> str:
    """Return the statements that deal with a statement of one row, and leave all others to what follows."""
    sides = _sides(step)
    dealt = _update(plan, step) if step.event is Event.UPDATE else _come_or_go(plan, step)
    text = f"{_read(step, sides)}\nIF tk_is_one THEN\n{block(dealt)}\nEND IF;"
    for side in reversed(sides):
        kept = [(value.name, value.type) for value in _values(step, side)]
        if step.event is Event.UPDATE:
            kept += [(_name(step, part), part.type) for part in _kept_parts(step)]
        declared = "\n".join(f"{name} {kind};" for name, kind in kept)
        text = f"<<{side.label}>>\nDECLARE\n{block(declared)}\nBEGIN\n{block(text)}\nEND;"
    comment = "-- Most statements change one row: nothing to sum, one UPDATE per target."
    conditions = ["NOT tk_is_paused", "NOT tk_recompute", *([READ_COMMITTED] if _climbs(step) else [])]
    return f"{comment}\nIF {' AND '.join(conditions)} THEN\n{block(text)}\nEND IF;"


# Reading ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Side:
    """A state of the row: the label of the block whose variables hold it, and the table that it is read from."""

    label: str
    rows: str


@dataclass(frozen=True)
class _Value:
    """What is read of a state of the row: a variable, its type, and the expression that it is read by."""

    name: str
    type: str
    sql: str
    is_loose: bool = False


def _sides(step: Step) -> list[_Side]:
    """Return the states of the row that an event has. Where there is one row, their product is its change."""
    before, after = _Side("before", "old_rows"), _Side("after", "new_rows")
    return {Event.INSERT: [after], Event.DELETE: [before], Event.UPDATE: [before, after]}[step.event]


def _values(step: Step, side: _Side) -> list[_Value]:
    """Return what is read of one state: the key first, then columns, then what only the query can compute."""
    feed, key = _feed(step), _key(step)
    plain = [part.measure for part in parts(step) if _is_plain(step, part)]
    columns = sorted({name for measure in plain if measure for name in _reads(step, measure)})
    read = [(quote(key.name), key.type, False), *((quote(n), feed.types[n], n in feed.loose) for n in columns)]
    computed = [part for part in parts(step) if not _is_plain(step, part)]
    return [
        *(_Value(name, kind, f"{side.rows}.{name}", is_loose) for name, kind, is_loose in read),
        *(_Value(_name(step, part), part.type, _counted(step, part, side.rows)) for part in computed),
    ]


def _name(step: Step, part: Part) -> str:
    """Return the variable, in the block of a state, for what the row counts for."""
    return f"tk_part_{1 + parts(step).index(part)}"


def _kept_parts(step: Step) -> list[Part]:
    """Return the parts that an UPDATE computes from variables and keeps in others: it needs them more than once."""
    return [part for part in parts(step) if _is_plain(step, part) and _counted(step, part, "after") != "1"]


def _is_plain(step: Step, part: Part) -> bool:
    """Whether a part of the change can be computed from variables."""
    assert part.measure is not None
    types = _feed(step).types
    return all(types.get(name) in _PLAIN for name in _reads(step, part.measure))


def _reads(step: Step, measure: Measure) -> set[str]:
    """Return the columns that a measure reads of the row, apart from its key."""
    feed = _feed(step)
    columns = {name for source in measure.resolved.sources if source.path == feed.path for name in source.columns}
    return columns & feed.columns - {_key(step).name}


def _read(step: Step, sides: list[_Side]) -> str:
    """Return the statements that read the row, and end the function where there is nothing to do."""
    read = [_select_list(_values(step, side)) for side in sides]
    into = [", ".join(f"{side.label}.{value.name}" for value in _values(step, side)) for side in sides]
    conditions = ["tk_is_one IS NULL"]
    if step.event is Event.UPDATE:
        unchanged = "\n   AND ".join(_is_equal(value) for value in _values(step, sides[0]))
        conditions.append(f"tk_is_one\n   AND {unchanged}")
    return "\n".join(
        [
            "SELECT",
            block(f",{chr(10)}".join([f"NOT EXISTS (SELECT FROM {sides[0].rows} OFFSET 1)", *read])),
            f"INTO\n{block(f',{chr(10)}'.join(['tk_is_one', *into]))}",
            f"FROM {' CROSS JOIN '.join(side.rows for side in sides)}",
            "LIMIT 1;",
            *(["-- Nothing that a rule reads has changed."] if step.event is Event.UPDATE else []),
            f"IF {f'{chr(10)}   OR '.join(conditions)}{chr(10) if len(conditions) > 1 else ' '}THEN",
            "    RETURN NULL;",
            "END IF;",
        ]
    )


def _select_list(values: list[_Value]) -> str:
    """Return columns in one line, and what is computed in a line each."""
    columns = ", ".join(value.sql for value in values if not value.name.startswith("tk_"))
    return ",\n".join([columns, *(value.sql for value in values if value.name.startswith("tk_"))])


def _is_equal(value: _Value) -> str:
    """Return the test whether an UPDATE has left a value as it was; where equal ones may differ, by their text."""
    cast = "::text" if value.is_loose else ""
    return f"before.{value.name}{cast} IS NOT DISTINCT FROM after.{value.name}{cast}"


# What a row changes -------------------------------------------------------------------------------------------------


def _counts_for(step: Step, part: Part, label: str) -> str:
    """Return what a state of the row counts for in one part, from variables."""
    return _counted(step, part, label) if _is_plain(step, part) else f"{label}.{_name(step, part)}"


def _kept(step: Step, part: Part, label: str) -> str:
    """Return the same where an UPDATE has kept it."""
    return f"{label}.{_name(step, part)}" if part in _kept_parts(step) else _counts_for(step, part, label)


def _counted(step: Step, part: Part, row: str) -> str:
    assert part.measure is not None
    names = [_NEARER] * (len(_feed(step).path) - 1) + [row]
    return (_presence if part.name.startswith("tk_rows_") else _value)(part.measure, names)


def _value(measure: Measure, names: list[str]) -> str:
    """Return what one row counts for, 0 where the filter leaves it out."""
    if measure.chain is not None and measure.chain.aggregate is Count:
        return _presence(measure, names)
    value = f"coalesce({argument_sql(measure, names)}, 0)"
    if not measure.may_be_nan:  # A difference of integers may not fit their own type.
        value += f"::{measure.exact_type}"
    condition = condition_sql(measure, names)
    return f"CASE WHEN {condition} THEN {value} ELSE 0 END" if condition else value


def _presence(measure: Measure, names: list[str]) -> str:
    """Return 1 where a row counts, else 0."""
    conditions = [text for text in (is_present(measure, names), condition_sql(measure, names)) if text]
    return f"CASE WHEN {' AND '.join(conditions)} THEN 1 ELSE 0 END" if conditions else "1"


def _assign(deltas: dict[Part, str], key: str = "") -> str:
    """Return the statements that set the deltas of one target, and its key."""
    lines = [f"delta.{part.name} := {delta};" for part, delta in deltas.items()]
    return "\n".join([*([f"tk_key := {key};"] if key else []), *lines])


def _counts(step: Step, label: str) -> str:
    """Return the condition under which a state of the row, which the other one does not share, counts for a target."""
    kept = [_kept(step, part, label) for part in parts(step)]
    named = f"{label}.{quote(_key(step).name)} IS NOT NULL"
    return named if "1" in kept else f"{named} AND ({' OR '.join(f'{value} <> 0' for value in kept)})"


# Writing ------------------------------------------------------------------------------------------------------------


def _come_or_go(plan: Plan, step: Step) -> str:
    """Return the statements for a row that comes or goes."""
    label, sign = ("after", "") if step.event is Event.INSERT else ("before", "-")
    deltas = {part: f"{sign}{_counts_for(step, part, label)}" for part in parts(step)}
    key = f"{label}.{quote(_key(step).name)}"
    if _climbs(step):
        return f"{_assign(deltas)}\n{_far_target(plan, step, key)}"
    return f"{_assign(deltas, key)}\n{_one_target(plan, step)}"


def _one_target(plan: Plan, step: Step) -> str:
    """Return the statements that write the deltas to their target."""
    return f"IF {_is_nothing(step, 'tk_key')} THEN\n    RETURN NULL;\nEND IF;\n{_write(plan, step)}\n{_DONE}"


_DONE = "IF tk_written > 0 THEN\n    RETURN NULL;\nEND IF;"


def _far_target(plan: Plan, step: Step, key: str) -> str:
    """Return the statements that climb to the target and write the deltas; where a row is missing, others note it."""
    return "\n".join(
        [
            f"IF {_is_nothing(step, key)} THEN\n    RETURN NULL;\nEND IF;",
            "-- Lock what the path leads over, so that it cannot change meanwhile.",
            climb(plan, _feed(step), key),
            "IF FOUND THEN",
            block(f"IF tk_key IS NULL THEN\n    RETURN NULL;\nEND IF;\n{_write(plan, step)}\n{_DONE}"),
            "END IF;",
        ]
    )


def _update(plan: Plan, step: Step) -> str:
    """Return the statements for a row that stays under its target, leaves one, comes to one, or both.

    One that has rows between itself and its target, and moves, is left to what follows.
    """
    before, after = (f"{label}.{quote(_key(step).name)}" for label in ("before", "after"))
    was, now = ({part: _kept(step, part, label) for part in parts(step)} for label in ("before", "after"))
    kept = [(part, label) for label in ("before", "after") for part in _kept_parts(step)]
    computed = [f"{_kept(step, part, label)} := {_counts_for(step, part, label)};" for part, label in kept]
    computed = ["-- What the row counted for, and what it counts for now.", *computed] if computed else []
    stays = {part: "0" if now[part] == was[part] else f"{now[part]} - {was[part]}" for part in parts(step)}
    if _climbs(step):
        text = "\n".join([*computed, _assign(stays), _far_target(plan, step, after)])
        return f"IF {before} IS NOT DISTINCT FROM {after} THEN\n{block(text)}\nEND IF;"
    one_target = [
        "IF tk_leaves THEN",
        block(_assign({part: f"-{value}" for part, value in was.items()}, before)),
        "ELSIF tk_comes THEN",
        block(_assign(now, after)),
        f"ELSIF {before} = {after} THEN",
        block(_assign(stays, after)),
        "END IF;",
        _one_target(plan, step),
    ]
    return "\n".join(
        [
            *computed,
            f"tk_leaves := {before} IS DISTINCT FROM {after} AND {_counts(step, 'before')};",
            f"tk_comes := {before} IS DISTINCT FROM {after} AND {_counts(step, 'after')};",
            "IF tk_leaves AND tk_comes THEN",
            block(_move(plan, step)),
            "ELSE",
            block("\n".join(one_target)),
            "END IF;",
        ]
    )


def _move(plan: Plan, step: Step) -> str:
    """Return the statements for a row that leaves one target and comes to another.

    Both are locked in key order, then written by one UPDATE. Between two of them the triggers of the first target,
    rules over it among them, would write further rows, in no order that others could keep to as well.
    """
    near, far = quote(_key(step).name), quote(step.edge.key[0].name)
    signs = {"before": "-", "after": ""}
    rows = [
        [f"{label}.{near}", *(f"{sign}{_kept(step, part, label)}" for part in parts(step))]
        for label, sign in signs.items()
    ]
    safe = [f"{_kept(step, part, label)} <> 'NaN'" for label in signs for part in _may_be_nan(step)]
    if step.edge.is_queued or step.edge.is_deferred:
        safe += [f"NOT {has_purged(plan)}"] if may_follow_a_cascade(step) else []
        return _if_safe(safe, f"{append_rows(plan, step, rows)}\nRETURN NULL;")
    values = block(",\n".join(f"({', '.join(row)})" for row in rows), 2)
    source = f"FROM (\n    VALUES\n{values}\n) AS change (tk_key, {', '.join(changed_names(step))})\n"
    order = ", ".join(f"locked.{quote(name)}" for name in plan.key_columns)
    lines = [
        "-- Both targets in one UPDATE, locked in key order: what follows from one of them comes after both.",
        _lock(step, f"= ANY (ARRAY[before.{near}, after.{near}])\nORDER BY {order}"),
        *_update_target(step, source, f"target.{far} = change.tk_key", "change.{}"),
        "IF tk_written = 2 THEN\n    RETURN NULL;\nEND IF;",
        "-- What one target has got already counts no more.",
        "tk_recompute := tk_written = 1;",
    ]
    return _if_safe(safe, "\n".join(lines))


def _is_nothing(step: Step, key: str) -> str:
    """Return the condition under which no target changes."""
    unchanged = "\n    AND ".join(f"delta.{name} = 0" for name in changed_names(step))
    return f"{key} IS NULL OR (\n    {unchanged}\n)"


def _write(plan: Plan, step: Step) -> str:
    """Return the statements that write the target, or what waits for it; ``tk_written`` is 0 where they cannot.

    A count would be negative, a sum of NaN does not cancel out, or the target is not there yet.
    """
    safe = [f"delta.{part.name} <> 'NaN'" for part in _may_be_nan(step)]
    if step.edge.is_queued or step.edge.is_deferred:
        safe += [f"NOT {has_purged(plan)}"] if may_follow_a_cascade(step) else []
        row = ["tk_key", *(f"delta.{part.name}" for part in parts(step))]
        return _if_safe(safe, f"{append_rows(plan, step, [row])}\ntk_written := 1;", "tk_written := 0;")
    match = f"target.{quote(step.edge.key[0].name)} = tk_key"
    lines = [*_lock_departure(step), *_update_target(step, "", match, "delta.{}")]
    return _if_safe(safe, "\n".join(lines), "tk_written := 0;")


def _may_be_nan(step: Step) -> list[Part]:
    """Return the parts that are sums of what may be NaN."""
    found = [part for part in parts(step) if part.measure is not None and part.measure.may_be_nan]
    return [part for part in found if not part.name.startswith("tk_rows_")]


def _update_target(step: Step, source: str, match: str, template: str) -> list[str]:
    """Return the statements that add deltas to targets and count these."""
    settings = block(",\n".join(additions(step, template)))
    where = f"WHERE {unless(match, floors(step, template))};"
    update = f"{update_head(step.edge.target, step.measures)}\nSET\n{settings}\n{source}{where}"
    return [set_depth(), update, "GET DIAGNOSTICS tk_written = ROW_COUNT;", restore_depth()]


def _lock(step: Step, wanted: str) -> str:
    """Return the statement that locks the targets whose key is what is wanted."""
    table, key = table_placeholder(step.edge.target), quote(step.edge.key[0].name)
    return f"PERFORM\nFROM {table} AS locked\nWHERE locked.{key} {wanted}\nFOR NO KEY UPDATE;"


def _lock_departure(step: Step) -> list[str]:
    """Return the lock of a departure, after which the UPDATE looks whether rows are left."""
    leaving = [f"delta.{name} < 0" for name in changed_names(step) if name.startswith("tk_rows_")]
    if step.event is Event.INSERT or not leaving:
        return []
    comment = "-- Rows leave: lock, then look whether some are left."
    return [comment, f"IF {' OR '.join(leaving)} THEN", block(_lock(step, "= tk_key")), "END IF;"]


def _if_safe(conditions: list[str], statements: str, otherwise: str = "") -> str:
    if not conditions:
        return statements
    other = f"ELSE\n{block(otherwise)}\n" if otherwise else ""
    return f"IF {' AND '.join(conditions)} THEN\n{block(statements)}\n{other}END IF;"
