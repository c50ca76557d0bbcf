"""COMPILE what a statement changes: one row per target key, with signed sums, arrivals and departures.

Old and new rows are never joined by primary key: signed sums need no identity, and neither do multisets.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from django.db.models import Count, Max

from trigger_kit.plan.kept_columns import KeptAggregate, Strategy
from trigger_kit.plan.plan import Event, Feed, Step
from trigger_kit.resolve.columns import Path
from trigger_kit.sql.fragments import argument_sql, condition_sql, filter_clause, is_present
from trigger_kit.sql.paths import Key, first_hop_conditions, key_columns, row_name, walk
from trigger_kit.sql.text import block, closed, quote

__all__ = [
    "Kind",
    "Part",
    "change_rows",
    "changed_names",
    "changed_rows",
    "changes",
    "joins_onward",
    "parts",
    "row_of",
    "something",
]

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

    ``absent`` is its value where a feed has none, ``combine`` the aggregate over feeds. Only TOUCHED is about no
    column.
    """

    kind: Kind
    name: str
    type: str
    absent: str
    combine: str
    kept: KeptAggregate | None = None

    @property
    def may_be_nan(self) -> bool:
        """Whether it is the difference of a sum of what may be NaN."""
        return self.kind is Kind.SUM and self.kept is not None and self.kept.may_be_nan

    @property
    def is_compared(self) -> bool:
        """Whether the value is compared with the stored one, not added to it."""
        return self.kind in {Kind.ARRIVED, Kind.LEFT}


_TOUCHED = Part(Kind.TOUCHED, "tk_touched", "boolean", "false", "bool_or({})")


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
    """Return the parts of a step's changes, with the one by which a target counts as touched beside sums."""
    found = parts(step)
    is_touching = found and any(feed.whole is None for feed in step.edge.feeds_of(step.event))
    return [*found, *([_TOUCHED] if is_touching else [])]


def _sum(kind: Kind, name: str, type_: str, kept: KeptAggregate) -> Part:
    return Part(kind, name, type_, "0", f"sum({{}})::{type_}", kept)


def _extremum(kind: Kind, name: str, kept: KeptAggregate) -> Part:
    better = "max({})" if kept.aggregate.function is Max else "min({})"
    return Part(kind, name, kept.exact_type, f"NULL::{kept.exact_type}", better, kept)


def changed_names(step: Step) -> list[str]:
    """Return the names of the parts that a step's UPDATE needs."""
    return [part.name for part in parts(step)]


# Changes ------------------------------------------------------------------------------------------------------------


def _key_values(step: Step, path: Path) -> list[str]:
    """Return the values of the target's key, read from the rows along a path; an empty one is the target's own row."""
    return key_columns(path) if path else Key(step.edge.key).of("source")


def _changes(step: Step) -> str:
    """Return the SELECT of one row per key with the parts of all feeds, in key order."""
    key = Key(step.edge.key)
    feeds = step.edge.feeds_of(step.event)
    order = f" ORDER BY {', '.join(key.names)}"
    if len(feeds) == 1:
        return _feed_changes(step, feeds[0]) + order
    names = [f"fed.{name}" for name in key.names]
    combined = [f"{part.combine.format(f'fed.{part.name}')} AS {part.name}" for part in _all_parts(step)]
    union = "\nUNION ALL\n".join(_feed_changes(step, feed) for feed in feeds)
    selected = ",\n".join([*names, *combined])
    return f"SELECT\n{block(selected)}\nFROM (\n{block(union)}\n) AS fed\nGROUP BY {', '.join(names)}{order}"


def _keys(step: Step) -> str:
    """Return the SELECT of the distinct keys of what a statement changes, whatever the rows behind it are."""
    selects = dict.fromkeys(_feed_keys(step, feed) for feed in step.edge.feeds_of(step.event))
    return "\nUNION\n".join(selects)


def changes(step: Step, *, all_of_them: str = "") -> str:
    """Return the FROM and WHERE clauses of what a statement changes: one row per target, of the alias ``change``.

    Targets that do not change are left out, unless the condition ``all_of_them`` holds.
    """
    rows = f"FROM {change_rows(step)}"
    tests = [*([all_of_them] if all_of_them else []), *something("change.{}".format, _all_parts(step))]
    return f"{rows}\nWHERE {' OR '.join(tests)}" if parts(step) else rows


def change_rows(step: Step, *, keys_only: bool = False) -> str:
    """Return the FROM item of what a statement changes, one row per target."""
    return f"(\n{block(_keys(step) if keys_only else _changes(step))}\n) AS change"


def joins_onward(step: Step) -> bool:
    """Whether what a statement changes is joined to rows farther from the target: without these, it names no target."""
    return any(feed.whole and len(feed.whole) > len(feed.path) for feed in step.edge.feeds_of(step.event))


def something(by: Callable[[str], str], of: Sequence[Part]) -> list[str]:
    """Return the conditions one of which holds where parts of a change matter; ``by`` makes an expression of a name."""
    sums = [by(part.name) for part in of if part.kind in {Kind.SUM, Kind.ROWS}]
    compared = [by(part.name) for part in of if part.is_compared]
    tests = [by(part.name) for part in of if part.kind is Kind.TOUCHED]
    if sums:
        tests.append(f"{row_of(sums)} <> {row_of(['0'] * len(sums))}")
    if compared:
        tests.append(f"num_nonnulls({', '.join(compared)}) > 0")
    return tests


def row_of(values: Sequence[str]) -> str:
    """Return some values as a row; one value as it is."""
    return values[0] if len(values) == 1 else f"({', '.join(values)})"


def _feed_changes(step: Step, feed: Feed) -> str:
    """Return the SELECT of one feed's changes; parts that other feeds bring are absent."""
    path = feed.whole or feed.path
    key, values = Key(step.edge.key), _key_values(step, path)
    selected = [f"{value} AS {name}" for name, value in zip(key.names, values, strict=True)]
    selected += [f"{_part(step, feed, part)} AS {part.name}" for part in _all_parts(step)]
    listed = ", ".join(selected)
    listed = f"\n{block((',' + chr(10)).join(selected))}" if len(selected) > 2 or "\n" in listed else f" {listed}"
    return f"SELECT{listed}\n{_feed_rows(step, feed, path)}\nGROUP BY {', '.join(values)}"


def _feed_keys(step: Step, feed: Feed) -> str:
    key, values = Key(step.edge.key), _key_values(step, feed.path)
    selected = [f"{value} AS {name}" for name, value in zip(key.names, values, strict=True)]
    return f"SELECT DISTINCT {', '.join(selected)}\n{_feed_rows(step, feed, feed.path)}"


def _feed_rows(step: Step, feed: Feed, path: Path) -> str:
    """Return the FROM and WHERE clauses of a feed's changed rows, joined to the others of a path."""
    rows = changed_rows(feed, step)
    source = f"{rows} AS source" if feed.is_own else walk(path, len(feed.path), rows)
    present = [f"{value} IS NOT NULL" for value in _key_values(step, path)]
    conditions = [*present, *([] if feed.is_own else first_hop_conditions(path))]
    separator = "\n" if "\n" in source else " "
    return f"FROM {source}{separator}WHERE {' AND '.join(conditions)}"


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
        return closed(*_difference(feed, "new_rows", "old_rows"))
    sides = (("-1", "old_rows", "new_rows"), ("1", "new_rows", "old_rows"))
    if feed.is_plain:
        selects = [f"SELECT {sign} AS tk_sign, {_columns(feed, rows)} FROM {rows}" for sign, rows, _ in sides]
    else:
        selects = [
            f"SELECT {sign} AS tk_sign, changed.* FROM {closed(*_difference(feed, rows, others))} AS changed"
            for sign, rows, others in sides
        ]
    return f"(\n{block((chr(10) + 'UNION ALL' + chr(10)).join(selects))}\n)"


def _difference(feed: Feed, rows: str, others: str) -> tuple[str, ...]:
    """Return the lines of the query of rows that others do not have."""
    return (
        f"SELECT {_columns(feed, rows)} FROM {rows}",
        "EXCEPT ALL",
        f"SELECT {_columns(feed, others)} FROM {others}",
    )


def _columns(feed: Feed, rows: str) -> str:
    first = [column.name for column in feed.path[-1].far] if feed.path else []
    names = [*first, *sorted(feed.columns - set(first))]
    values = [f"{rows}.{quote(name)}" for name in names]
    # Values that are equal may differ in their text all the same: 1 and 1.0 in JSON, 1 day and 24 hours.
    loose = [] if feed.is_plain else sorted(feed.loose)
    texts = [f"{rows}.{quote(name)}::text AS {quote('tk_' + name)}" for name in loose]
    return ", ".join([*values, *texts])
