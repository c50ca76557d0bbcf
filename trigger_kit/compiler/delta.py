"""COMPILE the steps of an edge: statement-level functions that add signed deltas to the target.

One function per event. It sums what the statement changed into one delta per target, skips targets whose values do
not change, and updates the rest: a single one directly, several after locking them in key order. It recomputes
instead of adding where a delta cannot be trusted (see ``tk_recompute`` below).
"""

from __future__ import annotations

import pgtrigger
from django.db.models import Count

from trigger_kit.compiler.body import (
    DEPTH,
    FILLED,
    FRESH,
    header,
    is_marked,
    is_not_empty,
    is_set,
    restore_depth,
    set_depth,
    set_mark,
    text_literal,
)
from trigger_kit.compiler.fragments import (
    argument_sql,
    condition_sql,
    filter_clause,
    is_present,
    refill,
    source_columns,
)
from trigger_kit.compiler.one_row import additions, delta_names, one_row, one_row_declarations
from trigger_kit.compiler.template import CompiledTrigger, render
from trigger_kit.compiler.text import block, object_name, quote, table_placeholder
from trigger_kit.measures import Measure
from trigger_kit.planner import Edge, Event, Feed, Plan, Step

__all__ = ["compile_step"]

_REFERENCING = {
    Event.INSERT: "REFERENCING NEW TABLE AS new_rows",
    Event.UPDATE: "REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows",
    Event.DELETE: "REFERENCING OLD TABLE AS old_rows",
}
_OPERATION = {
    Event.INSERT: pgtrigger.Insert,
    Event.UPDATE: pgtrigger.Update,
    Event.DELETE: pgtrigger.Delete,
    Event.TRUNCATE: pgtrigger.Truncate,
}


def compile_step(plan: Plan, step: Step) -> CompiledTrigger:
    """Compile one step into its trigger."""
    edge, event = step.edge, step.event
    body = _truncate_body(plan, step) if event is Event.TRUNCATE else _delta_body(plan, step)
    clauses = [f"FOR EACH {pgtrigger.Statement}"]
    if event in _REFERENCING:
        clauses.insert(0, _REFERENCING[event])
    return render(
        name=object_name(
            f"tk_{plan.rank}_",
            (edge.target, "from", edge.source, event.value),
            (edge.source, edge.target, edge.key.name, event.value),
        ),
        on=edge.source,
        owner=edge.target,
        body=body,
        when=pgtrigger.After,
        operation=_OPERATION[event],
        clauses=clauses,
    )


def _delta_body(plan: Plan, step: Step) -> str:
    edge, event = step.edge, step.event
    paths = ", ".join(f"{edge.source}.{feed.hop.source.name}" for feed in edge.feeds)
    sentence = (
        f"After {event.name} on {edge.source}: add the difference to {edge.target} (path {paths} -> {edge.key.name})."
    )
    # A row with two foreign keys to the target has two keys: such edges have no path for a single row.
    single = len(edge.feeds) == 1
    parts = [
        header(plan, sentence, edge.measures),
        "<<delta>>",
        "DECLARE",
        block("\n".join([DEPTH, "tk_recompute boolean := false;", *(one_row_declarations(edge) if single else [])])),
        "BEGIN",
        block(_pause_test(edge, event)),
        "",
        block(_mark_test(plan, event)),
        "",
        *([block(one_row(edge, event)), ""] if single else []),
        block(_many_rows(plan, edge, event)),
        "END;",
    ]
    return "\n".join(parts)


def _many_rows(plan: Plan, edge: Edge, event: Event) -> str:
    """Return the block that sums a statement's rows per target and writes the targets in key order."""
    return "\n".join(
        [
            "<<deltas>>",
            "DECLARE",
            block(_array_declarations(edge)),
            "BEGIN",
            block(_collect(edge, event)),
            "",
            block("IF tk_keys IS NULL THEN\n    RETURN NULL;\nEND IF;"),
            "",
            block(_apply(plan, edge, event)),
            block("RETURN NULL;"),
            "END;",
        ]
    )


def _array_declarations(edge: Edge) -> str:
    lines = [f"tk_keys {edge.key.type}[];"]
    for number, measure in enumerate(edge.measures, 1):
        lines.append(f"{quote(measure.column)} {measure.exact_type}[];")
        if measure.null_when_empty:
            lines.append(f"tk_rows_{number} bigint[];")
    return "\n".join(lines)


def _touched(edge: Edge, event: Event) -> str:
    """Return the SELECT of the distinct keys that the statement touched."""
    selects = [
        f"SELECT {rows}.{quote(feed.hop.source.name)} AS tk_key FROM {rows}"
        for feed in edge.feeds
        for rows in _transition_tables(event)
    ]
    if len(selects) == 1:
        return selects[0].replace("SELECT", "SELECT DISTINCT", 1)
    return "\nUNION\n".join(selects)


def _transition_tables(event: Event) -> list[str]:
    return {Event.INSERT: ["new_rows"], Event.DELETE: ["old_rows"], Event.UPDATE: ["old_rows", "new_rows"]}[event]


def _pause_test(edge: Edge, event: Event) -> str:
    return (
        "-- Paused: note which targets were touched, for the repair at the end of the pause.\n"
        "IF current_setting('trigger_kit.paused', true) = 'on' THEN\n"
        f'    INSERT INTO {{:schema}}."tk_touched" (target, key_column, key)\n'
        f"    SELECT {text_literal(edge.target)}, {text_literal(edge.key.name)}, touched.tk_key::text\n"
        "    FROM (\n"
        f"{block(_touched(edge, event), 2)}\n"
        "    ) AS touched\n"
        "    WHERE touched.tk_key IS NOT NULL;\n"
        "    RETURN NULL;\n"
        "END IF;"
    )


def _mark_test(plan: Plan, event: Event) -> str:
    """Return the test whether deltas still hold; the marks are set rarely, and cost one look each."""
    lines = [
        "-- A full value that this very statement has written may hold these rows already.",
        f"IF {is_set(plan, FILLED)} THEN",
        f"    tk_recompute := {is_marked(plan, FILLED)};",
        "END IF;",
    ]
    if event is not Event.INSERT:
        lines += [
            "-- A target that this very statement has created never held the rows that leave it.",
            f"IF {is_set(plan, FRESH)} THEN",
            f"    tk_recompute := tk_recompute OR {is_marked(plan, FRESH)};",
            "END IF;",
        ]
    return "\n".join(lines)


def _collect(edge: Edge, event: Event) -> str:
    """Return the statements that fill the arrays: keys and deltas, or keys alone where all is recomputed."""
    arrays = ["tk_keys", *delta_names(edge)]
    selected = ",\n    ".join(f"array_agg(change.{name})" for name in ["tk_key", *delta_names(edge)])
    lines = [
        "IF tk_recompute THEN",
        "    SELECT array_agg(touched.tk_key ORDER BY touched.tk_key)",
        "    INTO tk_keys",
        "    FROM (",
        block(_touched(edge, event), 2),
        "    ) AS touched",
        "    WHERE touched.tk_key IS NOT NULL;",
        "ELSE",
        "    -- One signed delta per target, in key order; targets that do not change are left out.",
        f"    SELECT\n        {selected.replace(chr(10), chr(10) + '    ')}",
        f"    INTO {', '.join(arrays)}",
        "    FROM (",
        block(_changes(edge, event), 2),
        "    ) AS change",
        block(f"WHERE {_any_change(edge)};"),
    ]
    nan = [f"'NaN' = ANY (deltas.{quote(measure.column)})" for measure in edge.measures if measure.may_be_nan]
    if nan:
        lines += [
            "    -- NaN does not cancel out: no delta takes it away again.",
            f"    tk_recompute := coalesce({' OR '.join(nan)}, false);",
        ]
    return "\n".join([*lines, "END IF;"])


def _any_change(edge: Edge) -> str:
    return "\n   OR ".join(f"change.{name} <> 0" for name in delta_names(edge))


def _changes(edge: Edge, event: Event) -> str:
    """Return the SELECT of one row per key with the deltas of all feeds, in key order."""
    if len(edge.feeds) == 1:
        return _feed_changes(edge, edge.feeds[0], event) + "\nORDER BY tk_key"
    sums = []
    for number, measure in enumerate(edge.measures, 1):
        sums.append(f"sum(fed.{quote(measure.column)})::{measure.exact_type} AS {quote(measure.column)}")
        if measure.null_when_empty:
            sums.append(f"sum(fed.tk_rows_{number})::bigint AS tk_rows_{number}")
    feeds = "\nUNION ALL\n".join(_feed_changes(edge, feed, event) for feed in edge.feeds)
    selected = ",\n".join(["fed.tk_key", *sums])
    return f"SELECT\n{block(selected)}\nFROM (\n{block(feeds)}\n) AS fed\nGROUP BY fed.tk_key\nORDER BY tk_key"


def _feed_changes(edge: Edge, feed: Feed, event: Event) -> str:
    """Return the SELECT of one feed's deltas; columns that other feeds maintain are 0."""
    key = f"source.{quote(feed.hop.source.name)}"
    selected = [f"{key} AS tk_key"]
    for number, measure in enumerate(edge.measures, 1):
        own = measure in feed.measures
        selected.append(f"{_delta(measure, event) if own else '0'} AS {quote(measure.column)}")
        if measure.null_when_empty:
            selected.append(f"{_row_delta(measure, event) if own else '0'} AS tk_rows_{number}")
    return (
        f"SELECT\n{block((',' + chr(10)).join(selected))}\n"
        f"FROM {_changed_rows(feed, event)}\n"
        f"WHERE {key} IS NOT NULL\n"
        f"GROUP BY {key}"
    )


def _changed_rows(feed: Feed, event: Event) -> str:
    """Return the FROM item of the changed rows; an UPDATE's carry a sign, old rows -1 and new rows +1."""
    if event is not Event.UPDATE:
        return f"{_transition_tables(event)[0]} AS source"
    columns = source_columns(feed)
    selects = [
        f"SELECT {sign} AS tk_sign, {', '.join(f'{rows}.{quote(column)}' for column in columns)} FROM {rows}"
        for sign, rows in (("-1", "old_rows"), ("1", "new_rows"))
    ]
    return f"(\n{block(selects[0])}\n    UNION ALL\n{block(selects[1])}\n) AS source"


def _delta(measure: Measure, event: Event) -> str:
    """Return the aggregate that gives a measure's signed delta."""
    condition = condition_sql(measure)
    if measure.aggregate is Count:
        return _row_delta(measure, event)
    argument, where = argument_sql(measure), filter_clause(condition)
    if event is Event.UPDATE:
        total = f"sum(source.tk_sign * {argument}::{measure.exact_type}){where}"
        cast = "::bigint" if measure.exact_type == "bigint" else ""
        return f"coalesce({total}, 0){cast}"
    sign = "-" if event is Event.DELETE else ""
    return f"{sign}coalesce(sum({argument}){where}, 0)"


def _row_delta(measure: Measure, event: Event) -> str:
    """Return the aggregate that gives the signed number of rows that count."""
    condition = condition_sql(measure)
    if event is Event.UPDATE:
        where = filter_clause(is_present(measure), condition)
        return f"coalesce(sum(source.tk_sign){where}, 0)" if where else "sum(source.tk_sign)"
    sign = "-" if event is Event.DELETE else ""
    return f"{sign}count({argument_sql(measure) or '*'}){filter_clause(condition)}"


def _apply(plan: Plan, edge: Edge, event: Event) -> str:
    """Return the statements that lock the targets, all in one order, and write them."""
    target, key = table_placeholder(edge.target), quote(edge.key.name)
    return "\n".join(
        [
            "-- Lock in key order, so that two bulk statements cannot deadlock.",
            "PERFORM",
            f"FROM {target} AS target",
            f"WHERE target.{key} = ANY (tk_keys)",
            f"ORDER BY target.{key}",
            "FOR NO KEY UPDATE;",
            "",
            set_depth(),
            "IF tk_recompute THEN",
            f"    {set_mark(plan, FILLED)}",
            block(_recompute(edge)),
            "ELSE",
            f"    UPDATE {target} AS target",
            f"    SET {additions(edge, event, 'change.{}', 2)}",
            f"    FROM unnest({', '.join(f'deltas.{name}' for name in ['tk_keys', *delta_names(edge)])})",
            f"        AS change (tk_key, {', '.join(delta_names(edge))})",
            f"    WHERE target.{key} = change.tk_key;",
            "END IF;",
            restore_depth(),
        ]
    )


def _recompute(edge: Edge) -> str:
    """Return the UPDATE that writes the full values of the locked targets."""
    return refill(
        edge.target,
        [(edge, feed) for feed in edge.feeds],
        rows="unnest(tk_keys) AS touched (tk_key)",
        key="touched.tk_key",
        match=f"target.{quote(edge.key.name)} = touched.tk_key",
    )


def _truncate_body(plan: Plan, step: Step) -> str:
    edge = step.edge
    target, key = table_placeholder(edge.target), quote(edge.key.name)
    stale = "\n   OR ".join(is_not_empty("target", measure) for measure in edge.measures)
    settings = ",\n        ".join(f"{quote(m.column)} = {m.empty}" for m in edge.measures)
    where = f"WHERE {stale}".replace("\n", "\n    ")
    sentence = f"After TRUNCATE of {edge.source}: every {edge.target} is back at its value over no rows."
    return "\n".join(
        [
            header(plan, sentence, edge.measures),
            "DECLARE",
            block(DEPTH),
            "BEGIN",
            "    PERFORM",
            f"    FROM {target} AS target",
            f"    {where}",
            f"    ORDER BY target.{key}",
            "    FOR NO KEY UPDATE;",
            "",
            block(set_depth()),
            f"    UPDATE {target} AS target",
            f"    SET {settings}",
            f"    {where};",
            block(restore_depth()),
            "    RETURN NULL;",
            "END;",
        ]
    )
