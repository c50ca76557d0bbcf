"""COMPILE the target's own triggers: its guard, its first value, and the fill from rows that were there first.

Writers of the target do not know about maintenance: a stale ``save()`` writes every column back, psql names none of
them. Four triggers keep the column right all the same:

* ``tk_…_fresh``, before an INSERT statement: a mark, because rows of this statement may have left before the row came;
* ``~tk_…_first``, before INSERT: whatever the writer sent or left out becomes the value over no rows;
* ``tk_…_fill``, after INSERT: where source rows were there first, the value becomes the one over these;
* ``~tk_…_guard``, before UPDATE: the stored value stays (or the write is refused), unless maintenance writes it; a
  changed key starts from the rows under the new key.

The names of the row triggers start with ``~``, so that they fire after everybody else's.
"""

from __future__ import annotations

from itertools import groupby

import pgtrigger

from trigger_kit.compiler.body import (
    DEPTH,
    FILLED,
    FRESH,
    header,
    is_not_empty,
    restore_depth,
    set_depth,
    set_mark,
    text_literal,
)
from trigger_kit.compiler.fragments import refill, values_select
from trigger_kit.compiler.template import CompiledTrigger, render
from trigger_kit.compiler.text import block, object_name, quote, table_placeholder
from trigger_kit.measures import Measure
from trigger_kit.planner import Edge, Feed, Plan
from trigger_kit.rules import Guard

__all__ = ["compile_target"]


def compile_target(plan: Plan) -> list[CompiledTrigger]:
    """Compile the triggers that a target carries itself."""
    return [_fresh(plan), _first(plan), _fill(plan), _guard(plan)]


def _name(plan: Plan, prefix: str, role: str) -> str:
    return object_name(prefix, (plan.target, role), (plan.target, role))


def _fresh(plan: Plan) -> CompiledTrigger:
    sentence = f"Before INSERT on {plan.target}: tell the other triggers that this statement makes new rows."
    body = "\n".join(
        [
            header(plan, sentence, plan.measures),
            "BEGIN",
            block(_mark_fresh(plan)),
            block("RETURN NULL;"),
            "END;",
        ]
    )
    return render(
        name=_name(plan, f"tk_{plan.rank}_", "fresh"),
        on=plan.target,
        owner=plan.target,
        body=body,
        when=pgtrigger.Before,
        operation=pgtrigger.Insert,
        clauses=[f"FOR EACH {pgtrigger.Statement}"],
    )


def _first(plan: Plan) -> CompiledTrigger:
    conditions = "\n        OR ".join(is_not_empty("NEW", m) for m in plan.measures)
    settings = "\n".join(f"NEW.{quote(m.column)} := {m.empty};" for m in plan.measures)
    sentence = f"Before INSERT on {plan.target}: start from the value over no rows, whatever the writer sent."
    body = "\n".join(
        [header(plan, sentence, plan.measures), "BEGIN", block(settings), block("RETURN NEW;"), "END;"],
    )
    return render(
        name=_name(plan, "~tk_", "first"),
        on=plan.target,
        owner=plan.target,
        body=body,
        when=pgtrigger.Before,
        operation=pgtrigger.Insert,
        clauses=[f"FOR EACH {pgtrigger.Row}", f"WHEN (\n        {conditions}\n    )"],
    )


def _fill(plan: Plan) -> CompiledTrigger:
    """Compile the fill: foreign keys are deferrable, and fixtures load in any order, so children may come first."""
    feeds = [(edge, feed) for edge in plan.edges for feed in edge.feeds]
    probes = "\nOR ".join(f"({_probe(edge, feed, 'inserted')})" for edge, feed in feeds)
    update = refill(
        plan.target,
        feeds,
        rows="new_rows AS inserted",
        key="inserted.{}",
        match="\nAND ".join(f"target.{quote(name)} = inserted.{quote(name)}" for name in plan.key_columns),
    )
    sentence = f"After INSERT on {plan.target}: count the source rows that were there first."
    body = "\n".join(
        [
            header(plan, sentence, plan.measures),
            "DECLARE",
            block(DEPTH),
            "BEGIN",
            "    IF NOT EXISTS (",
            "        SELECT",
            "        FROM new_rows AS inserted",
            f"        WHERE {probes}".replace("\nOR", "\n        OR"),
            "    ) THEN",
            "        RETURN NULL;",
            "    END IF;",
            "",
            block(_mark_filled(plan)),
            block(set_depth()),
            block(update),
            block(restore_depth()),
            block("RETURN NULL;"),
            "END;",
        ]
    )
    return render(
        name=_name(plan, f"tk_{plan.rank}_", "fill"),
        on=plan.target,
        owner=plan.target,
        body=body,
        when=pgtrigger.After,
        operation=pgtrigger.Insert,
        clauses=["REFERENCING NEW TABLE AS new_rows", f"FOR EACH {pgtrigger.Statement}"],
    )


def _probe(edge: Edge, feed: Feed, row: str) -> str:
    """Return a scalar subquery that is true where a source row exists.

    A scalar subquery, because PostgreSQL may turn EXISTS into a join whose cached plan reads the whole source.
    """
    return (
        f"SELECT true FROM {table_placeholder(edge.source)} AS source "
        f"WHERE source.{quote(feed.hop.source.name)} = {row}.{quote(edge.key.name)} LIMIT 1"
    )


def _mark_filled(plan: Plan) -> str:
    return (
        "-- Steps of this statement that fire later would add rows that the value holds already: they recompute.\n"
        f"{set_mark(plan, FILLED)}"
    )


def _mark_fresh(plan: Plan) -> str:
    return (
        "-- Steps of this statement would take off rows that the new value never held: they recompute.\n"
        f"{set_mark(plan, FRESH)}"
    )


def _guard(plan: Plan) -> CompiledTrigger:
    sentence = f"Before UPDATE on {plan.target}: only maintenance writes the maintained columns."
    parts = [
        header(plan, sentence, plan.measures),
        "BEGIN",
        block("-- Maintenance says at which trigger depth it writes; everybody else meets the guard."),
        block(_guard_test(plan)),
        *(
            block(_changed_key(plan, key, list(edges)))
            for key, edges in groupby(plan.edges, lambda edge: edge.key.name)
        ),
        block("RETURN NEW;"),
        "END;",
    ]
    return render(
        name=_name(plan, "~tk_", "guard"),
        on=plan.target,
        owner=plan.target,
        body="\n".join(parts),
        when=pgtrigger.Before,
        operation=pgtrigger.Update,
        clauses=[f"FOR EACH {pgtrigger.Row}"],
    )


def _guard_test(plan: Plan) -> str:
    changed = "\nOR ".join(_changed(m) for m in plan.measures)
    actions = [_refusal(m) for m in plan.measures if m.resolved.rule.guard is Guard.RAISE]
    actions += [
        f"NEW.{quote(m.column)} := OLD.{quote(m.column)};" for m in plan.measures if m.resolved.rule.guard is Guard.KEEP
    ]
    return "\n".join(
        [
            "IF current_setting('trigger_kit.depth', true) IS DISTINCT FROM (pg_trigger_depth() - 1)::text AND (",
            block(changed),
            ") THEN",
            block("\n".join(actions)),
            "END IF;",
        ]
    )


def _changed(measure: Measure) -> str:
    return f"NEW.{quote(measure.column)} IS DISTINCT FROM OLD.{quote(measure.column)}"


def _refusal(measure: Measure) -> str:
    message = f"The column of {measure.resolved.uri} is kept by trigger_kit and cannot be written."
    return "\n".join(
        [
            f"IF {_changed(measure)} THEN",
            f"    RAISE EXCEPTION USING MESSAGE = {text_literal(message)},",
            "              ERRCODE = 'integrity_constraint_violation',",
            "              HINT = 'Leave the column out of the UPDATE: its value follows from other rows.',",
            "              SCHEMA = TG_TABLE_SCHEMA,",
            "              TABLE = TG_TABLE_NAME,",
            f"              COLUMN = {text_literal(measure.column)};",
            "END IF;",
        ]
    )


def _changed_key(plan: Plan, key: str, edges: list[Edge]) -> str:
    """Return the part of the guard that gives a row under a new key the value over the rows that point at it."""
    column = quote(key)
    selects, probes = [], []
    for edge in edges:
        for feed in edge.feeds:
            variables = ", ".join(f"NEW.{quote(m.column)}" for m in feed.measures)
            select = values_select(edge, feed, f"NEW.{column}")
            head, tail = select.rsplit("\nFROM ", 1)
            selects.append(f"{head}\nINTO {variables}\nFROM {tail};")
            probes.append(f"EXISTS ({_probe(edge, feed, 'NEW')})")
    return "\n".join(
        [
            "",
            f"IF NEW.{column} IS DISTINCT FROM OLD.{column} THEN",
            block(_mark_fresh(plan)),
            block("\n".join(selects)),
            f"    IF {' OR '.join(probes)} THEN",
            block(_mark_filled(plan), 2),
            "    END IF;",
            "END IF;",
        ]
    )
