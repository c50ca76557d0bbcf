"""COMPILE what a statement changes: one row per target key, with signed sums, arrivals and departures.

Old and new rows are never joined by primary key: signed sums need no identity, and neither do multisets.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from django.db.models import Count, Max

from trigger_kit.plan.kept_columns import KeptAggregate, Strategy
from trigger_kit.plan.plan import Event, Feed, Step
from trigger_kit.resolve.columns import Path
from trigger_kit.sql.fragments import argument_sql, condition_sql, filter_clause, is_present
from trigger_kit.sql.paths import Key, first_hop_conditions, key_columns, row_name, walk
from trigger_kit.sql.text import block, quote

__all__ = ["Kind", "Part", "changed_names", "changed_rows", "collect_changes", "parts", "touched"]

_TABLES = {Event.INSERT: ("new_rows",), Event.DELETE: ("old_rows",), Event.UPDATE: ("old_rows", "new_rows")}


class Kind(enum.Enum):
    """What a part of a change says."""

    SUM = "the signed difference of a sum"
    ROWS = "the signed number of rows that count, for a sum that is NULL over none"
    ARRIVED = "the extremum of the values that arrive"
    LEFT = "the extremum of the values that leave"
    TOUCHED = "whether the target has to be looked at"


@dataclass(frozen=True)
class Part:
    """One number or value of a change: its kind, name and type, and how those of several feeds become one.

    ``absent`` is its value where a feed has none, ``combine`` the aggregate over feeds, ``changed`` the test whether it
    matters, of ``{}``. Only TOUCHED is about no column.
    """

    kind: Kind
    name: str
    type: str
    absent: str
    combine: str
    changed: str
    kept: KeptAggregate | None = None

    @property
    def is_compared(self) -> bool:
        """Whether the value is compared with the stored one, not added to it."""
        return self.kind in {Kind.ARRIVED, Kind.LEFT}


_TOUCHED = Part(Kind.TOUCHED, "tk_touched", "boolean", "false", "bool_or({})", "{}")


def parts(step: Step) -> list[Part]:
    """Return the parts of a step's changes that its UPDATE needs, in the order of its kept columns."""
    found = []
    for number, kept in step.numbered:
        if kept.is_sum:
            found.append(_sum(Kind.SUM, quote(kept.column), kept.exact_type, kept))
            if kept.null_when_empty:
                found.append(_sum(Kind.ROWS, f"tk_rows_{number}", "bigint", kept))
        elif kept.strategy is Strategy.EXTREMUM:
            if step.event is not Event.DELETE:
                found.append(_extremum(Kind.ARRIVED, f"tk_in_{number}", kept))
            if step.event is not Event.INSERT:
                found.append(_extremum(Kind.LEFT, f"tk_out_{number}", kept))
    return found


def _all_parts(step: Step) -> list[Part]:
    """Return the parts of a step's changes, with the one that makes a target count as touched."""
    is_touching = any(feed.whole is None for feed in step.edge.feeds_of(step.event))
    return [*parts(step), *([_TOUCHED] if is_touching else [])]


def _sum(kind: Kind, name: str, type_: str, kept: KeptAggregate) -> Part:
    return Part(kind, name, type_, "0", f"sum({{}})::{type_}", "{} <> 0", kept)


def _extremum(kind: Kind, name: str, kept: KeptAggregate) -> Part:
    better = "max({})" if kept.aggregate.function is Max else "min({})"
    return Part(kind, name, kept.exact_type, f"NULL::{kept.exact_type}", better, "{} IS NOT NULL", kept)


def changed_names(step: Step) -> list[str]:
    """Return the names of the parts that a step's UPDATE needs."""
    return [part.name for part in parts(step)]


# Keys ---------------------------------------------------------------------------------------------------------------


def touched(step: Step, *, only_changed: bool = False) -> str:
    """Return the SELECT of the distinct keys that the statement touched, as ``tk_key``.

    ``only_changed`` leaves out those whose rows an UPDATE has left as they were, in the columns that matter.
    """
    tables = _differing if only_changed and step.event is Event.UPDATE else _tables
    selects = [_keys_of(step, feed, rows) for feed in step.edge.feeds_of(step.event) for rows in tables(step, feed)]
    if len(selects) == 1:
        return selects[0].replace("SELECT", "SELECT DISTINCT", 1)
    return "\nUNION\n".join(dict.fromkeys(selects))


def _tables(step: Step, feed: Feed) -> tuple[str, ...]:
    return ("new_rows",) if feed.is_own else _TABLES[step.event]


def _differing(step: Step, feed: Feed) -> tuple[str, ...]:
    """Return the FROM items of the rows that an UPDATE has changed."""
    sides = [("new_rows", "old_rows")] if feed.is_own else [("old_rows", "new_rows"), ("new_rows", "old_rows")]
    return tuple(f"(\n{block(_difference(feed, rows, others))}\n)" for rows, others in sides)


def _keys_of(step: Step, feed: Feed, rows: str) -> str:
    key = Key(step.edge.key)
    named = ", ".join(f"{value} AS {name}" for name, value in zip(key.names, _key_values(step, feed.path), strict=True))
    conditions = [] if feed.is_own else first_hop_conditions(feed.path)
    where = f"\nWHERE {' AND '.join(conditions)}" if conditions else ""
    source = f"{rows} AS source" if feed.is_own else walk(feed.path, len(feed.path), rows)
    return f"SELECT {named}\nFROM {source}{where}"


def _key_values(step: Step, path: Path) -> list[str]:
    """Return the values of the target's key, read from the rows along a path; an empty one is the target's own row."""
    return key_columns(path) if path else Key(step.edge.key).of("source")


# Changes ------------------------------------------------------------------------------------------------------------


def _changes(step: Step) -> str:
    """Return the SELECT of one row per key with the parts of all feeds, in key order."""
    key = Key(step.edge.key)
    feeds = step.edge.feeds_of(step.event)
    order = f"\nORDER BY {', '.join(key.names)}"
    if len(feeds) == 1:
        return _feed_changes(step, feeds[0]) + order
    names = [f"fed.{name}" for name in key.names]
    combined = [f"{part.combine.format(f'fed.{part.name}')} AS {part.name}" for part in _all_parts(step)]
    union = "\nUNION ALL\n".join(_feed_changes(step, feed) for feed in feeds)
    selected = ",\n".join([*names, *combined])
    return f"SELECT\n{block(selected)}\nFROM (\n{block(union)}\n) AS fed\nGROUP BY {', '.join(names)}{order}"


def collect_changes(step: Step) -> str:
    """Return the statement that fills the arrays of keys and parts."""
    key = Key(step.edge.key)
    names = [*key.names, *changed_names(step)]
    selected = ",\n".join(f"array_agg(change.{name})" for name in names)
    where = "\n   OR ".join(part.changed.format(f"change.{part.name}") for part in _all_parts(step))
    return (
        "-- One change per target, in key order; targets that do not change are left out.\n"
        f"SELECT\n{block(selected)}\n"
        f"INTO {', '.join([*key.arrays, *changed_names(step)])}\n"
        f"FROM (\n{block(_changes(step))}\n) AS change\n"
        f"WHERE {where};"
    )


def _feed_changes(step: Step, feed: Feed) -> str:
    """Return the SELECT of one feed's changes; parts that other feeds bring are absent."""
    path = feed.whole or feed.path
    key, values = Key(step.edge.key), _key_values(step, path)
    selected = [f"{value} AS {name}" for name, value in zip(key.names, values, strict=True)]
    selected += [f"{_part(step, feed, part)} AS {part.name}" for part in _all_parts(step)]
    source = (
        f"{changed_rows(feed, step)} AS source" if feed.is_own else walk(path, len(feed.path), changed_rows(feed, step))
    )
    conditions = [*(f"{value} IS NOT NULL" for value in values), *([] if feed.is_own else first_hop_conditions(path))]
    return (
        f"SELECT\n{block((',' + chr(10)).join(selected))}\n"
        f"FROM {source}\n"
        f"WHERE {' AND '.join(conditions)}\n"
        f"GROUP BY {', '.join(values)}"
    )


def _part(step: Step, feed: Feed, part: Part) -> str:
    """Return the aggregate that gives one part of a feed's changes."""
    if part.kept is None:
        return "true" if feed.whole is None else "false"
    if feed.whole is None or part.kept not in feed.kept_columns:
        return part.absent
    sign = f"{row_name(feed.whole, len(feed.path))}.tk_sign"
    if part.is_compared:
        return _passing(step, part, sign)
    return _delta(part.kept, step.event, sign, rows_only=part.kind is Kind.ROWS)


def _passing(step: Step, part: Part, sign: str) -> str:
    """Return the extremum of the rows that arrive, or of those that leave."""
    assert part.kept is not None
    side = f"{sign} = {'1' if part.kind is Kind.ARRIVED else '-1'}" if step.event is Event.UPDATE else None
    value = part.combine.format(argument_sql(part.kept))
    return f"{value}{filter_clause(side, condition_sql(part.kept))}"


def _delta(kept: KeptAggregate, event: Event, sign: str, *, rows_only: bool) -> str:
    """Return the aggregate that gives a kept column's signed delta, or the signed number of rows that count."""
    condition = condition_sql(kept)
    counts = rows_only or kept.aggregate.function is Count
    minus = "-" if event is Event.DELETE else ""
    if counts and event is Event.UPDATE:
        where = filter_clause(is_present(kept), condition)
        return f"coalesce(sum({sign}){where}, 0)" if where else f"sum({sign})"
    if counts:
        return f"{minus}count({argument_sql(kept) or '*'}){filter_clause(condition)}"
    argument, where = argument_sql(kept), filter_clause(condition)
    if event is Event.UPDATE:
        cast = "::bigint" if kept.exact_type == "bigint" else ""
        return f"coalesce(sum({sign} * {_cast(argument, kept)}){where}, 0){cast}"
    return f"{minus}coalesce(sum({argument}){where}, 0)"


def _cast(argument: str | None, kept: KeptAggregate) -> str:
    return f"({argument})::{kept.exact_type}" if " " in (argument or "") else f"{argument}::{kept.exact_type}"


def changed_rows(feed: Feed, step: Step) -> str:
    """Return the FROM item of the changed rows; an UPDATE's carry a sign, old rows -1 and new rows +1.

    What is only added cancels out by itself. Elsewhere rows that stay as they are, in the columns that matter, must
    not count as touched: they are taken out, as often as they occur on both sides.
    """
    if step.event is not Event.UPDATE:
        return _TABLES[step.event][0]
    if feed.is_own:
        return f"(\n{block(_difference(feed, 'new_rows', 'old_rows'))}\n)"
    sides = (("-1", "old_rows", "new_rows"), ("1", "new_rows", "old_rows"))
    if feed.is_plain:
        selects = [f"SELECT {sign} AS tk_sign, {_columns(feed, rows)} FROM {rows}" for sign, rows, _ in sides]
        return f"(\n{block((chr(10) + 'UNION ALL' + chr(10)).join(selects))}\n)"
    selects = [
        f"SELECT {sign} AS tk_sign, changed.*\nFROM (\n{block(_difference(feed, rows, others))}\n) AS changed"
        for sign, rows, others in sides
    ]
    return f"(\n{block((chr(10) + 'UNION ALL' + chr(10)).join(selects))}\n)"


def _difference(feed: Feed, rows: str, others: str) -> str:
    return f"SELECT {_columns(feed, rows)} FROM {rows}\nEXCEPT ALL\nSELECT {_columns(feed, others)} FROM {others}"


def _columns(feed: Feed, rows: str) -> str:
    first = [column.name for column in feed.path[-1].far] if feed.path else []
    names = [*first, *sorted(feed.columns - set(first))]
    values = [f"{rows}.{quote(name)}" for name in names]
    # Values that are equal may differ in their text all the same: 1 and 1.0 in JSON, 1 day and 24 hours.
    loose = [] if feed.is_plain else sorted(feed.loose)
    texts = [f"{rows}.{quote(name)}::text AS {quote('tk_' + name)}" for name in loose]
    return ", ".join([*values, *texts])
