"""COMPILE what a statement changes: one row per target key, with signed sums, arrivals and departures.

Old and new rows are never joined by primary key: signed sums need no identity, and neither do multisets.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import Count, Max

from trigger_kit.plan.plan import Event, Feed, Step, Strategy
from trigger_kit.plan.strategy import Measure
from trigger_kit.resolve.columns import Path
from trigger_kit.sql.fragments import argument_sql, condition_sql, filter_clause, is_present
from trigger_kit.sql.paths import Key, first_hop_conditions, key_columns, row_name, walk
from trigger_kit.sql.text import block, quote

__all__ = ["Part", "changed_names", "changed_rows", "collect_changes", "parts", "touched"]

_TABLES = {Event.INSERT: ("new_rows",), Event.DELETE: ("old_rows",), Event.UPDATE: ("old_rows", "new_rows")}


@dataclass(frozen=True)
class Part:
    """One number or value of a change: its name, its type, and how those of several feeds become one.

    ``absent`` is its value where a feed has none, ``combine`` the aggregate over feeds, ``changed`` the test whether it
    matters, of ``{}``. A part without a measure only says that the target has to be looked at.
    """

    name: str
    type: str
    absent: str
    combine: str
    changed: str
    measure: Measure | None = None


_TOUCHED = Part("tk_touched", "boolean", "false", "bool_or({})", "{}")


def parts(step: Step) -> list[Part]:
    """Return the parts of a step's changes that its UPDATE needs, in the order of its measures."""
    found = []
    for number, measure in enumerate(step.measures, 1):
        if measure.is_sum:
            found.append(_sum(quote(measure.column), measure.exact_type, measure))
            if measure.null_when_empty:
                found.append(_sum(f"tk_rows_{number}", "bigint", measure))
        elif measure.strategy is Strategy.EXTREMUM:
            better = "max" if measure.chain and measure.chain.aggregate is Max else "min"
            for name, events in (("tk_in", (Event.INSERT, Event.UPDATE)), ("tk_out", (Event.DELETE, Event.UPDATE))):
                if step.event in events:
                    kind = measure.exact_type
                    text = f"{better}({{}})"
                    found.append(Part(f"{name}_{number}", kind, f"NULL::{kind}", text, "{} IS NOT NULL", measure))
    return found


def _all_parts(step: Step) -> list[Part]:
    """Return the parts of a step's changes, with the one that makes a target count as touched."""
    is_touching = any(feed.whole is None for feed in step.edge.feeds_of(step.event))
    return [*parts(step), *([_TOUCHED] if is_touching else [])]


def _sum(name: str, kind: str, measure: Measure) -> Part:
    return Part(name, kind, "0", f"sum({{}})::{kind}", "{} <> 0", measure)


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
    if part.measure is None:
        return "true" if feed.whole is None else "false"
    if feed.whole is None or part.measure not in feed.measures:
        return part.absent
    sign = f"{row_name(feed.whole, len(feed.path))}.tk_sign"
    if part.measure.strategy is Strategy.EXTREMUM:
        return _passing(step, part, sign)
    return _delta(part.measure, step.event, sign, rows_only=part.name.startswith("tk_rows_"))


def _passing(step: Step, part: Part, sign: str) -> str:
    """Return the extremum of the rows that arrive, or of those that leave."""
    assert part.measure is not None
    side = f"{sign} = {'1' if part.name.startswith('tk_in_') else '-1'}" if step.event is Event.UPDATE else None
    value = part.combine.format(argument_sql(part.measure))
    return f"{value}{filter_clause(side, condition_sql(part.measure))}"


def _delta(measure: Measure, event: Event, sign: str, *, rows_only: bool) -> str:
    """Return the aggregate that gives a measure's signed delta, or the signed number of rows that count."""
    condition = condition_sql(measure)
    counts = rows_only or (measure.chain is not None and measure.chain.aggregate is Count)
    minus = "-" if event is Event.DELETE else ""
    if counts and event is Event.UPDATE:
        where = filter_clause(is_present(measure), condition)
        return f"coalesce(sum({sign}){where}, 0)" if where else f"sum({sign})"
    if counts:
        return f"{minus}count({argument_sql(measure) or '*'}){filter_clause(condition)}"
    argument, where = argument_sql(measure), filter_clause(condition)
    if event is Event.UPDATE:
        cast = "::bigint" if measure.exact_type == "bigint" else ""
        return f"coalesce(sum({sign} * {_cast(argument, measure)}){where}, 0){cast}"
    return f"{minus}coalesce(sum({argument}){where}, 0)"


def _cast(argument: str | None, measure: Measure) -> str:
    return f"({argument})::{measure.exact_type}" if " " in (argument or "") else f"{argument}::{measure.exact_type}"


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
