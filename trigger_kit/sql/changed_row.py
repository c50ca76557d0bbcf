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
from trigger_kit.sql.changes import Kind, Part, parts, row_of
from trigger_kit.sql.fragments import argument_sql, condition_sql, is_present
from trigger_kit.sql.text import block, fill, on_lines, quote

__all__ = [
    "PLAIN",
    "climbs",
    "counts_alone",
    "counts_for",
    "feed_of",
    "hold_values",
    "is_nothing",
    "key_variable",
    "read_row",
    "reads_key_only",
    "row_key",
    "row_values",
    "sides",
    "unchanged",
    "variables",
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
class Side:
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


def sides(step: Step) -> list[Side]:
    """Return the states of the row that an event has. Where there is one row, their product is its change."""
    before, after = Side("before", "old_rows"), Side("after", "new_rows")
    return {Event.INSERT: [after], Event.DELETE: [before], Event.UPDATE: [before, after]}[step.event]


def reads_key_only(step: Step) -> bool:
    """Whether nothing is read of the row but its key: then variables of other names do without a block of their own."""
    return all(len(row_values(step, side)) == 1 for side in sides(step)) and not _held_parts(step)


def key_variable(step: Step, label: str) -> str:
    """Return the variable that holds the key of a state of the row."""
    return f"tk_{label}" if reads_key_only(step) else f"{label}.{quote(row_key(step).name)}"


def variables(step: Step, side: Side) -> list[str]:
    """Return the declarations of what is known of one state: what is read, and what it counts for."""
    if reads_key_only(step):
        return [f"{key_variable(step, side.label)} {row_key(step).type};"]
    read = [(value.name, value.type) for value in row_values(step, side)]
    held = [(_variable(step, part), part.type) for part in _held_parts(step)]
    return [f"{name} {kind};" for name, kind in [*read, *held]]


def row_values(step: Step, side: Side) -> list[_Value]:
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


def read_row(step: Step) -> str:
    """Return the query that reads the row, and finds out that it is the only one."""
    found = sides(step)
    read = [f"NOT EXISTS (SELECT FROM {found[0].rows} OFFSET 1)"]
    into = ["tk_is_one"]
    for side in found:
        values = row_values(step, side)
        read += _select_list(values)
        into += [key_variable(step, side.label), *(f"{side.label}.{value.name}" for value in values[1:])]
    selected, variables_ = fill(read), fill(into)
    return "\n".join(
        [
            f"SELECT\n{block(selected)}" if "\n" in selected else f"SELECT {selected}",
            on_lines(
                f"INTO\n{block(variables_)}" if "\n" in variables_ else f"INTO {variables_}",
                f"FROM {' CROSS JOIN '.join(side.rows for side in found)} LIMIT 1;",
            ),
        ]
    )


def _select_list(values: list[_Value]) -> list[str]:
    """Return what is read of a state of the row."""
    return [value.sql for value in values]


def unchanged(step: Step) -> str:
    """Return the test whether an UPDATE has left what a rule reads as it was."""
    values = row_values(step, sides(step)[0])
    before, after = ([_compared(step, value, label) for value in values] for label in ("before", "after"))
    return f"{row_of(before)} IS NOT DISTINCT FROM {row_of(after)}"


def _compared(step: Step, value: _Value, label: str) -> str:
    """Return a value as it is compared; where equal ones may differ, by its text."""
    is_key = value.name == quote(row_key(step).name)
    name = key_variable(step, label) if is_key else f"{label}.{value.name}"
    return f"{name}{'::text' if value.is_loose else ''}"


# What a row counts for ----------------------------------------------------------------------------------------------


def counts_alone(step: Step) -> bool:
    """Whether what the row counts for depends on no other row."""
    return not any(_NEARER in _counted(step, part, "after") for part in parts(step))


def _held_parts(step: Step) -> list[Part]:
    """Return the parts that are computed from variables, and held in others."""
    return [part for part in _values_of_parts(step) if _is_plain(step, part) and _counted(step, part, "after") != "1"]


def counts_for(step: Step, part: Part, label: str) -> str:
    """Return what a state of the row counts for in one part: a variable, or 1."""
    is_one = _is_plain(step, part) and _counted(step, part, label) == "1"
    return "1" if is_one else f"{label}.{_variable(step, part)}"


def hold_values(step: Step) -> list[str]:
    """Return the statements that compute what the states of the row count for."""
    return [
        f"{counts_for(step, part, side.label)} := {_counted(step, part, side.label)};"
        for side in sides(step)
        for part in _held_parts(step)
    ]


def is_nothing(step: Step, label: str) -> str | None:
    """Return the condition under which a state of the row counts for nothing, or None where it always counts."""
    values = {part: counts_for(step, part, label) for part in _values_of_parts(step)}
    if "1" in values.values():
        return None
    sums = list(dict.fromkeys(value for part, value in values.items() if not part.is_compared))
    compared = list(dict.fromkeys(value for part, value in values.items() if part.is_compared))
    tests = [f"{row_of(sums)} = {row_of(['0'] * len(sums))}"] if sums else []
    tests += [f"num_nonnulls({', '.join(compared)}) = 0"] if compared else []
    return " AND ".join(tests)


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
