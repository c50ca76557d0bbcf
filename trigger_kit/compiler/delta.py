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
    return "\n".join(
        [
            header(plan, sentence, edge.measures),
            "<<delta>>",
            "DECLARE",
            block(_declarations(edge)),
            "BEGIN",
            block(_pause_test(edge, event)),
            "",
            block(_mark_test(plan, event)),
            "",
            block(_collect(edge, event)),
            "",
            block("IF tk_keys IS NULL THEN\n    RETURN NULL;\nEND IF;"),
            "",
            block(set_depth()),
            block(_apply(plan, edge, event)),
            block(restore_depth()),
            block("RETURN NULL;"),
            "END;",
        ]
    )


def _declarations(edge: Edge) -> str:
    lines = [
        DEPTH,
        "tk_recompute boolean := false;",
        f"tk_keys {edge.key.type}[];",
    ]
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
    arrays = ["tk_keys", *_array_names(edge)]
    selected = ",\n    ".join(f"array_agg(change.{name})" for name in ["tk_key", *_array_names(edge)])
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
    nan = [f"'NaN' = ANY (delta.{quote(measure.column)})" for measure in edge.measures if measure.may_be_nan]
    if nan:
        lines += [
            "    -- NaN does not cancel out: no delta takes it away again.",
            f"    tk_recompute := coalesce({' OR '.join(nan)}, false);",
        ]
    return "\n".join([*lines, "END IF;"])


def _array_names(edge: Edge) -> list[str]:
    names = []
    for number, measure in enumerate(edge.measures, 1):
        names.append(quote(measure.column))
        if measure.null_when_empty:
            names.append(f"tk_rows_{number}")
    return names


def _any_change(edge: Edge) -> str:
    return "\n   OR ".join(f"change.{name} <> 0" for name in _array_names(edge))


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
    """Return the statements that write the target."""
    target, key = table_placeholder(edge.target), quote(edge.key.name)
    single = "cardinality(tk_keys) = 1 AND NOT tk_recompute"
    if event is not Event.INSERT:
        # A departure looks whether rows are left: it must lock first, and look in a statement of its own.
        single += "".join(
            f" AND delta.tk_rows_{number}[1] >= 0"
            for number, measure in enumerate(edge.measures, 1)
            if measure.null_when_empty
        )
    return "\n".join(
        [
            f"IF {single} THEN",
            f"    UPDATE {target} AS target",
            f"    SET {_additions(edge, Event.INSERT, 'delta.{}[1]', 2)}",
            f"    WHERE target.{key} = tk_keys[1];",
            "ELSE",
            "    -- Lock in key order, so that two bulk statements cannot deadlock.",
            "    PERFORM",
            f"    FROM {target} AS target",
            f"    WHERE target.{key} = ANY (tk_keys)",
            f"    ORDER BY target.{key}",
            "    FOR NO KEY UPDATE;",
            "    IF tk_recompute THEN",
            f"        {set_mark(plan, FILLED)}",
            block(_recompute(edge), 2),
            "    ELSE",
            f"        UPDATE {target} AS target",
            f"        SET {_additions(edge, event, 'change.{}', 3)}",
            f"        FROM unnest({', '.join(f'delta.{name}' for name in ['tk_keys', *_array_names(edge)])})",
            f"            AS change (tk_key, {', '.join(_array_names(edge))})",
            f"        WHERE target.{key} = change.tk_key;",
            "    END IF;",
            "END IF;",
        ]
    )


def _additions(edge: Edge, event: Event, template: str, levels: int) -> str:
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
            cases.append(
                f"WHEN {rows} = 0 OR EXISTS (\n{block(_left_rows(edge, measure))}\n) THEN target.{column} + {delta}"
            )
        settings.append(f"{column} = CASE\n{block(chr(10).join(cases))}\nEND")
    return (",\n").join(settings).replace("\n", "\n" + "    " * levels)


def _left_rows(edge: Edge, measure: Measure) -> str:
    """Return the SELECT that finds a row that still counts for a target."""
    (feed,) = (feed for feed in edge.feeds if measure in feed.measures)
    conditions = [f"source.{quote(feed.hop.source.name)} = target.{quote(edge.key.name)}"]
    conditions += [condition for condition in (is_present(measure), condition_sql(measure)) if condition]
    return f"SELECT FROM {table_placeholder(edge.source)} AS source\nWHERE " + "\n  AND ".join(conditions)


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
