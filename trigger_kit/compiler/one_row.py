"""COMPILE the lean path of a delta: most statements change one row of one target.

One query reads the row and finds out that it is the only one; one UPDATE adds what it changed. Nothing is summed,
sorted or locked beforehand.
"""

from __future__ import annotations

from collections.abc import Callable

from django.db.models import Count

from trigger_kit.compiler.additions import additions, negative
from trigger_kit.compiler.appending import append_one, has_purged, may_follow_a_cascade
from trigger_kit.compiler.body import restore_depth, set_depth, update_head
from trigger_kit.compiler.changes import changed_names, parts
from trigger_kit.compiler.fragments import argument_sql, condition_sql, is_present
from trigger_kit.compiler.text import block, quote
from trigger_kit.measures import Measure
from trigger_kit.planner import Event, Plan, Step

__all__ = ["has_one_row_path", "one_row", "one_row_declarations"]


def has_one_row_path(step: Step) -> bool:
    """Whether one row has one target, named by one of its own columns, and only adds to it.

    A row with two foreign keys to the target has two keys.
    """
    feeds = step.edge.feeds_of(step.event)
    if len(feeds) != 1 or not feeds[0].is_plain:
        return False
    hop = feeds[0].path[0]
    return len(hop.far) == 1 and hop.content_type is None and hop.near[0].type == hop.far[0].type


def one_row_declarations(step: Step) -> list[str]:
    """Return the variables of the lean path: the row's key and what it changes, named as the columns."""
    lines = ["tk_seen bigint;", "tk_moved boolean;", f"tk_key {step.edge.key[0].type};"]
    return lines + [f"{part.name} {part.type};" for part in parts(step)]


def one_row(plan: Plan, step: Step) -> str:
    """Return the statements that deal with a statement of one row, and leave all others to what follows."""
    targets = ", ".join(["tk_seen", "tk_moved", "tk_key", *changed_names(step)])
    unchanged = "\nAND ".join(f"delta.{name} = 0" for name in changed_names(step))
    return "\n".join(
        [
            "-- Most statements change one row: nothing to sum, one UPDATE.",
            "IF NOT tk_recompute THEN",
            "    SELECT",
            block((",\n").join(_selected(step)), 2),
            f"    INTO {targets}",
            f"    FROM {_rows(step.event)}",
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
            block(_write(plan, step), 2),
            "    END IF;",
            "END IF;",
        ]
    )


def _selected(step: Step) -> list[str]:
    """Return the select list: how many rows there are (two stand for many), the key, and the deltas of one row."""
    column = quote(step.edge.feeds_of(step.event)[0].path[0].far[0].name)
    rows = "new_rows" if step.event is Event.INSERT else "old_rows"
    update = step.event is Event.UPDATE
    selected = [
        f"(SELECT count(*) FROM (SELECT FROM {rows} LIMIT 2) AS two)",
        f"before.{column} IS DISTINCT FROM after.{column}" if update else "false",
        f"{'before' if update else 'source'}.{column}",
    ]
    for part in parts(step):
        assert part.measure is not None
        counted = _presence if part.name.startswith("tk_rows_") else _value
        selected.append(_difference(part.measure, step.event, counted))
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


def _value(measure: Measure, row: str) -> str:
    """Return what one row counts for, 0 where the filter leaves it out."""
    if measure.chain is not None and measure.chain.aggregate is Count:
        return _presence(measure, row)
    value = f"coalesce({argument_sql(measure, [row])}, 0)"
    if not measure.may_be_nan:  # A difference of integers may not fit their own type.
        value += f"::{measure.exact_type}"
    condition = condition_sql(measure, [row])
    return f"CASE WHEN {condition} THEN {value} ELSE 0 END" if condition else value


def _presence(measure: Measure, row: str) -> str:
    """Return 1 where a row counts, else 0."""
    conditions = [text for text in (is_present(measure, [row]), condition_sql(measure, [row])) if text]
    return f"CASE WHEN {' AND '.join(conditions)} THEN 1 ELSE 0 END" if conditions else "1"


def _write(plan: Plan, step: Step) -> str:
    """Return the UPDATE of the one target, unless only a recomputed or locked one would be right; or what waits."""
    edge = step.edge
    # NaN does not cancel out.
    safe = [f"delta.{quote(m.column)} <> 'NaN'" for m in step.measures if m.is_sum and m.may_be_nan]
    if edge.is_queued or edge.is_deferred:
        safe += [f"NOT {has_purged(plan)}"] if may_follow_a_cascade(step) else []
        return _if_safe(safe, f"{append_one(plan, step)}\nRETURN NULL;")
    floors = [
        negative(m, "delta.{}") for m in step.measures if m.must_not_be_negative and step.event is not Event.INSERT
    ]
    lines = [
        set_depth(),
        update_head(edge.target, step.measures),
        f"SET\n{block((',' + chr(10)).join(additions(_directly(step), 'delta.{}')))}",
        f"WHERE target.{quote(edge.key[0].name)} = tk_key{''.join(f'{chr(10)}  AND NOT {floor}' for floor in floors)};",
        restore_depth(),
        # A count would be negative, or the target is not there yet: what follows deals with both.
        "IF FOUND THEN\n    RETURN NULL;\nEND IF;",
    ]
    update = "\n".join(lines)
    # A departure must lock before it looks whether rows are left.
    if step.event is not Event.INSERT:
        safe += [f"delta.{name} >= 0" for name in changed_names(step) if name.startswith("tk_rows_")]
    return _if_safe(safe, update)


def _if_safe(conditions: list[str], statements: str) -> str:
    return f"IF {' AND '.join(conditions)} THEN\n{block(statements)}\nEND IF;" if conditions else statements


def _directly(step: Step) -> Step:
    """Return the step whose SET list serves where no row has left: that of an INSERT."""
    return Step(step.edge, Event.INSERT)
