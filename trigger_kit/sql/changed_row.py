"""COMPILE the changed row: the only one of a statement, read into variables, and what it counts for.

One query reads the row, and finds out that it is the only one; PL/pgSQL computes what has changed by itself. A query
that has nothing to compute, and expressions that need no query, take half the time of a query that computes. What
depends on more than a variable can hold (a collation, a length, the rules of a domain) is left to the query.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import Count

from trigger_kit.plan.kept_columns import KeptAggregate, KeptColumn, Strategy
from trigger_kit.plan.plan import Event, Feed, Step
from trigger_kit.resolve.columns import Column
from trigger_kit.sql.changes import Kind, Part, parts
from trigger_kit.sql.fragments import argument_sql, condition_sql, is_present
from trigger_kit.sql.text import block, quote

__all__ = [
    "PLAIN",
    "climbs",
    "counts",
    "counts_alone",
    "counts_for",
    "feed_of",
    "held_value",
    "hold_values",
    "row_key",
    "with_row",
]

# Types without collation, length or rules of their own: a variable's value is the column's.
PLAIN = {
    "smallint", "integer", "bigint", "numeric", "real", "double precision", "boolean", "uuid", "date",
    "time", "time without time zone", "timestamp with time zone", "timestamp without time zone",
}  # fmt: skip

# Stands for the rows between a row and its target.
_NEARER = "tk_nearer"


def feed_of(step: Step) -> Feed:
    """Return the only feed of a step with a lean path."""
    return step.edge.feeds_of(step.event)[0]


def climbs(step: Step) -> bool:
    """Whether there are rows between the changed row and its target."""
    return len(feed_of(step).path) > 1


def row_key(step: Step) -> Column:
    """Return the row's column that names its target, or the next row on the way to it."""
    return feed_of(step).path[-1].far[0]


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


def with_row(step: Step, statements: str) -> str:
    """Return the blocks that hold the states of the changed row, with what is done where it is the only one.

    Where nothing has changed that a rule reads, the function ends.
    """
    sides = _sides(step)
    text = f"{_read(step, sides)}\nIF tk_is_one THEN\n{block(statements)}\nEND IF;"
    for side in reversed(sides):
        held = [(value.name, value.type) for value in _values(step, side)]
        if step.event is Event.UPDATE:
            held += [(_variable(step, part), part.type) for part in _held_parts(step)]
        declared = "\n".join(f"{name} {kind};" for name, kind in held)
        text = f"<<{side.label}>>\nDECLARE\n{block(declared)}\nBEGIN\n{block(text)}\nEND;"
    return text


def _sides(step: Step) -> list[_Side]:
    """Return the states of the row that an event has. Where there is one row, their product is its change."""
    before, after = _Side("before", "old_rows"), _Side("after", "new_rows")
    return {Event.INSERT: [after], Event.DELETE: [before], Event.UPDATE: [before, after]}[step.event]


def _values(step: Step, side: _Side) -> list[_Value]:
    """Return what is read of one state: the key first, then columns, then what only the query can compute."""
    feed, key = feed_of(step), row_key(step)
    plain = [part.kept for part in _values_of_parts(step) if _is_plain(step, part)]
    columns = sorted({name for kept in plain if kept for name in _reads(step, kept)})
    read = [(quote(key.name), key.type, False), *((quote(n), feed.types[n], n in feed.loose) for n in columns)]
    computed = [part for part in _values_of_parts(step) if not _is_plain(step, part)]
    return [
        *(_Value(name, kind, f"{side.rows}.{name}", is_loose) for name, kind, is_loose in read),
        *(_Value(_variable(step, part), part.type, _counted(step, part, side.rows)) for part in computed),
    ]


def _values_of_parts(step: Step) -> list[Part]:
    """Return the parts that differ in what a state of the row counts for: what comes and what leaves do not."""
    return [part for part in parts(step) if _first(step, part).name == part.name]


def _first(step: Step, part: Part) -> Part:
    """Return the first part with the same values."""
    alike = {Kind.ARRIVED, Kind.LEFT} if part.is_compared else {part.kind}
    return next(other for other in parts(step) if other.kept is part.kept and other.kind in alike)


def _variable(step: Step, part: Part) -> str:
    """Return the variable, in the block of a state, for what the row counts for."""
    return f"tk_part_{1 + parts(step).index(_first(step, part))}"


def _is_plain(step: Step, part: Part) -> bool:
    """Whether a part of the change can be computed from variables."""
    assert part.kept is not None
    types = feed_of(step).types
    return all(types.get(name) in PLAIN for name in _reads(step, part.kept))


def _reads(step: Step, kept: KeptColumn) -> set[str]:
    """Return the columns that a kept column reads of the row, apart from its key."""
    feed = feed_of(step)
    columns = {name for source in kept.resolved.sources if source.path == feed.path for name in source.columns}
    return columns & feed.columns - {row_key(step).name}


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


# What a row counts for ----------------------------------------------------------------------------------------------


def counts_alone(step: Step) -> bool:
    """Whether what the row counts for depends on no other row."""
    return not any(_NEARER in _counted(step, part, "after") for part in parts(step))


def counts_for(step: Step, part: Part, label: str) -> str:
    """Return what a state of the row counts for in one part, from variables."""
    return _counted(step, part, label) if _is_plain(step, part) else f"{label}.{_variable(step, part)}"


def _held_parts(step: Step) -> list[Part]:
    """Return the parts that an UPDATE computes from variables and holds in others: it needs them more than once."""
    return [part for part in _values_of_parts(step) if _is_plain(step, part) and _counted(step, part, "after") != "1"]


def held_value(step: Step, part: Part, label: str) -> str:
    """Return what a state of the row counts for where an UPDATE holds it in a variable."""
    is_held = _first(step, part) in _held_parts(step)
    return f"{label}.{_variable(step, part)}" if is_held else counts_for(step, part, label)


def hold_values(step: Step) -> list[str]:
    """Return the statements by which an UPDATE holds what the states of the row count for."""
    found = [(part, label) for label in ("before", "after") for part in _held_parts(step)]
    lines = [f"{held_value(step, part, label)} := {counts_for(step, part, label)};" for part, label in found]
    return ["-- What the row counted for, and what it counts for now.", *lines] if lines else []


def counts(step: Step, label: str) -> str:
    """Return the condition under which a state of the row, which the other one does not share, counts for a target."""
    values = {held_value(step, part, label): part for part in _values_of_parts(step)}
    named = f"{label}.{quote(row_key(step).name)} IS NOT NULL"
    matter = [part.changed.format(value) for value, part in values.items()]
    return named if "1" in values else f"{named} AND ({' OR '.join(matter)})"


def _counted(step: Step, part: Part, row: str) -> str:
    assert part.kept is not None
    names = [_NEARER] * (len(feed_of(step).path) - 1) + [row]
    return (_presence if part.kind is Kind.ROWS else _value)(part.kept, names)


def _value(kept: KeptAggregate, names: list[str]) -> str:
    """Return what one row counts for; 0, or NULL for an extremum, where the filter leaves it out."""
    argument, condition = argument_sql(kept, names), condition_sql(kept, names)
    if kept.strategy is Strategy.EXTREMUM:
        return f"CASE WHEN {condition} THEN {argument} END" if condition else str(argument)
    if kept.aggregate.function is Count:
        return _presence(kept, names)
    value = f"coalesce({argument}, 0)"
    if not kept.may_be_nan:  # A difference of integers may not fit their own type.
        value += f"::{kept.exact_type}"
    return f"CASE WHEN {condition} THEN {value} ELSE 0 END" if condition else value


def _presence(kept: KeptAggregate, names: list[str]) -> str:
    """Return 1 where a row counts, else 0."""
    conditions = [text for text in (is_present(kept, names), condition_sql(kept, names)) if text]
    return f"CASE WHEN {' AND '.join(conditions)} THEN 1 ELSE 0 END" if conditions else "1"
