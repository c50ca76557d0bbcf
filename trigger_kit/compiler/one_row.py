"""COMPILE the lean path of a delta: most statements change one row of one target.

One query reads the row and finds out that it is the only one; one UPDATE adds what it changed. Nothing is summed,
sorted or locked beforehand.
"""

from __future__ import annotations

from collections.abc import Callable

from django.db.models import Count

from trigger_kit.compiler.body import restore_depth, set_depth
from trigger_kit.compiler.fragments import argument_sql, condition_sql, is_present
from trigger_kit.compiler.text import block, quote, table_placeholder
from trigger_kit.measures import Measure
from trigger_kit.planner import Edge, Event

__all__ = ["additions", "delta_names", "one_row", "one_row_declarations"]


def one_row_declarations(edge: Edge) -> list[str]:
    """Return the variables of the lean path: the row's key and what it changes, named as the columns."""
    lines = ["tk_seen bigint;", "tk_moved boolean;", f"tk_key {edge.key.type};"]
    for number, measure in enumerate(edge.measures, 1):
        lines.append(f"{quote(measure.column)} {measure.exact_type};")
        if measure.null_when_empty:
            lines.append(f"tk_rows_{number} bigint;")
    return lines


def delta_names(edge: Edge) -> list[str]:
    """Return the names of an edge's deltas: the columns, and the number of rows that count where that matters."""
    names = []
    for number, measure in enumerate(edge.measures, 1):
        names.append(quote(measure.column))
        if measure.null_when_empty:
            names.append(f"tk_rows_{number}")
    return names


def one_row(edge: Edge, event: Event) -> str:
    """Return the statements that deal with a statement of one row, and leave all others to what follows."""
    names = delta_names(edge)
    targets = ", ".join(["tk_seen", "tk_moved", "tk_key", *names])
    unchanged = "\nAND ".join(f"delta.{name} = 0" for name in names)
    return "\n".join(
        [
            "-- Most statements change one row: nothing to sum, one UPDATE.",
            "IF NOT tk_recompute THEN",
            "    SELECT",
            block((",\n").join(_selected(edge, event)), 2),
            f"    INTO {targets}",
            f"    FROM {_rows(event)}",
            "    LIMIT 1;",
            "    IF tk_seen IS NULL THEN",
            "        RETURN NULL;",
            "    END IF;",
            "    IF tk_seen = 1 AND NOT tk_moved THEN",
            "        IF tk_key IS NULL OR (",
            block(unchanged, 3),
            "        ) THEN",
            "            RETURN NULL;",
            "        END IF;",
            block(_write(edge, event), 2),
            "    END IF;",
            "END IF;",
        ]
    )


def _selected(edge: Edge, event: Event) -> list[str]:
    """Return the select list: how many rows there are (two stand for many), the key, and the deltas of one row."""
    (feed,) = edge.feeds
    column = quote(feed.hop.source.name)
    rows = "new_rows" if event is Event.INSERT else "old_rows"
    update = event is Event.UPDATE
    selected = [
        f"(SELECT count(*) FROM (SELECT FROM {rows} LIMIT 2) AS two)",
        f"before.{column} IS DISTINCT FROM after.{column}" if update else "false",
        f"{'before' if update else 'source'}.{column}",
    ]
    for measure in feed.measures:
        selected.append(_difference(measure, event, _value))
        if measure.null_when_empty:
            selected.append(_difference(measure, event, _presence))
    return selected


def _rows(event: Event) -> str:
    """Return the FROM item; where there is one row, the product of old and new rows is its change."""
    if event is Event.UPDATE:
        return "old_rows AS before CROSS JOIN new_rows AS after"
    return "new_rows AS source" if event is Event.INSERT else "old_rows AS source"


def _difference(measure: Measure, event: Event, part: Callable[[Measure, str], str]) -> str:
    """Return what one row adds: its part now, less its part before."""
    if event is Event.UPDATE:
        now, before = part(measure, "after"), part(measure, "before")
        return "0" if now == before else f"{now}\n    - {before}"
    return f"-{part(measure, 'source')}" if event is Event.DELETE else part(measure, "source")


def _value(measure: Measure, alias: str) -> str:
    """Return what one row counts for, 0 where the filter leaves it out."""
    if measure.aggregate is Count:
        return _presence(measure, alias)
    value = f"coalesce({argument_sql(measure, alias)}, 0)"
    if not measure.may_be_nan:  # A difference of integers may not fit their own type.
        value += f"::{measure.exact_type}"
    condition = condition_sql(measure, alias)
    return f"CASE WHEN {condition} THEN {value} ELSE 0 END" if condition else value


def _presence(measure: Measure, alias: str) -> str:
    """Return 1 where a row counts, else 0."""
    conditions = [text for text in (is_present(measure, alias), condition_sql(measure, alias)) if text]
    return f"CASE WHEN {' AND '.join(conditions)} THEN 1 ELSE 0 END" if conditions else "1"


def _write(edge: Edge, event: Event) -> str:
    """Return the UPDATE of the one target, unless only a recomputed or locked one would be right."""
    update = "\n".join(
        [
            set_depth(),
            f"UPDATE {table_placeholder(edge.target)} AS target",
            f"SET {additions(edge, Event.INSERT, 'delta.{}', 1)}",
            f"WHERE target.{quote(edge.key.name)} = tk_key;",
            restore_depth(),
            "RETURN NULL;",
        ]
    )
    # NaN does not cancel out, and a departure must lock before it looks whether rows are left.
    safe = [f"delta.{quote(measure.column)} <> 'NaN'" for measure in edge.measures if measure.may_be_nan]
    if event is not Event.INSERT:
        safe += [
            f"delta.tk_rows_{number} >= 0" for number, measure in enumerate(edge.measures, 1) if measure.null_when_empty
        ]
    return f"IF {' AND '.join(safe)} THEN\n{block(update)}\nEND IF;" if safe else update


def additions(edge: Edge, event: Event, template: str, levels: int) -> str:
    """Return the SET list that adds the deltas; ``template`` makes a delta's expression of its name."""
    settings = []
    for number, measure in enumerate(edge.measures, 1):
        column = quote(measure.column)
        delta = template.format(column)
        if not measure.null_when_empty:
            settings.append(f"{column} = target.{column} + {delta}")
            continue
        rows = template.format(f"tk_rows_{number}")
        cases = [f"WHEN {rows} > 0 THEN coalesce(target.{column}, 0) + {delta}"]
        if event is Event.INSERT:
            cases.append(f"ELSE target.{column} + {delta}")
        else:
            left = block(_left_rows(edge, measure))
            cases.append(f"WHEN {rows} = 0 OR EXISTS (\n{left}\n) THEN target.{column} + {delta}")
        settings.append(f"{column} = CASE\n{block(chr(10).join(cases))}\nEND")
    return (",\n").join(settings).replace("\n", "\n" + "    " * levels)


def _left_rows(edge: Edge, measure: Measure) -> str:
    """Return the SELECT that finds a row that still counts for a target."""
    (feed,) = (feed for feed in edge.feeds if measure in feed.measures)
    conditions = [f"source.{quote(feed.hop.source.name)} = target.{quote(edge.key.name)}"]
    conditions += [condition for condition in (is_present(measure), condition_sql(measure)) if condition]
    return f"SELECT FROM {table_placeholder(edge.source)} AS source\nWHERE " + "\n  AND ".join(conditions)
