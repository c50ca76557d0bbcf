"""COMPILE the TRUNCATE of a source: there are no rows to look at, and none that count."""

from __future__ import annotations

from trigger_kit.plan.kept_columns import KeptAggregate
from trigger_kit.plan.plan import Plan, Step
from trigger_kit.sql.atoms import recompute_rows
from trigger_kit.sql.body import DEPTH, REQUIRE_READ_COMMITTED, begin, header, restore_depth, set_depth, update_head
from trigger_kit.sql.function import call
from trigger_kit.sql.pending import forget_columns, names_pending, reconsider
from trigger_kit.sql.text import block, on_lines, quote, regclass_placeholder, table_placeholder, text_literal
from trigger_kit.sql.updates import without_row

__all__ = ["truncate_body"]


def truncate_body(plan: Plan, step: Step) -> str:
    """Return the function's body for TRUNCATE of a source."""
    emptied = [kept for kept in step.aggregates if kept.empty is not None]
    others = [kept for kept in step.kept_columns if kept not in emptied]
    waiting = reconsider(plan, step.kept_columns)
    lines = [
        header(plan, f"After TRUNCATE of {step.edge.source}: its rows count for nothing any more.", step.kept_columns),
        *(["DECLARE", block(DEPTH)] if emptied else []),
        begin(step.edge.source),
        block(_truncate_test(plan, step)),
        *map(block, waiting),
    ]
    if emptied:
        lines += [block(_empty(plan, emptied))]
    if others:
        lines += [block("\n".join(recompute_rows(plan, others, f"{table_placeholder(plan.target)} AS this")))]
    return "\n".join([*lines, "    RETURN NULL;", "END;"])


def _truncate_test(plan: Plan, step: Step) -> str:
    """Return the statement that refuses TRUNCATE where the snapshot may be older than targets that count its rows."""
    uris = ", ".join(kept.resolved.uri for kept in step.kept_columns)
    message = f"TRUNCATE of {step.edge.source} cannot keep {uris} at this isolation level."
    arguments = f"{regclass_placeholder(plan.target)}, {text_literal(message)}::text"
    return f"PERFORM {call(REQUIRE_READ_COMMITTED, arguments)};"


def _empty(plan: Plan, kept_columns: list[KeptAggregate]) -> str:
    """Return the statements that put all targets back to their value over no rows."""
    target = table_placeholder(plan.target)
    differs = [f"target.{quote(kept.column)} IS DISTINCT FROM {kept.empty}" for kept in kept_columns]
    queued = [kept for kept in kept_columns if kept.is_queued]
    pending = [f"({probe})" for probe in dict.fromkeys(names_pending(kept, "target") for kept in queued)]
    stale, touched = "\n   OR ".join(differs), "\n   OR ".join([*differs, *pending])
    settings = ",\n    ".join(f"{quote(kept.column)} = {kept.empty}" for kept in kept_columns)
    order = ", ".join(f"target.{quote(name)}" for name in plan.key_columns)
    head, rest = update_head(plan.target, kept_columns), on_lines(f"SET {settings}", f"WHERE {stale};")
    update = "\n".join([set_depth(), head, rest, restore_depth()])
    return "\n".join(
        [
            f"PERFORM FROM {target} AS target",
            on_lines(f"WHERE {touched}", f"ORDER BY {order} FOR NO KEY UPDATE;"),
            *([forget_columns(plan, queued)] if queued else []),
            without_row(plan, kept_columns, update),
        ]
    )
