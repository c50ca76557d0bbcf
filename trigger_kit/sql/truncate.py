"""COMPILE the TRUNCATE of a source: there are no rows to look at, and none that count."""

from __future__ import annotations

from trigger_kit.plan.kept_columns import KeptAggregate
from trigger_kit.plan.plan import Plan, Step
from trigger_kit.sql.body import DEPTH, begin, header, restore_depth, set_depth, update_head
from trigger_kit.sql.pending import forget_columns, names_pending, reconsider
from trigger_kit.sql.text import block, quote, regclass_placeholder, table_placeholder, text_literal
from trigger_kit.sql.updates import refill

__all__ = ["truncate_body"]


def truncate_body(plan: Plan, step: Step) -> str:
    """Return the function's body for TRUNCATE of a source."""
    emptied = [kept for kept in step.aggregates if kept.empty is not None]
    others = [kept for kept in step.kept_columns if kept not in emptied]
    waiting = reconsider(plan, step.kept_columns)
    lines = [
        header(plan, f"After TRUNCATE of {step.edge.source}: its rows count for nothing any more.", step.kept_columns),
        "DECLARE",
        block(DEPTH),
        begin(step.edge.source),
        block(_truncate_test(plan, step)),
        "",
        *map(block, waiting),
    ]
    if emptied:
        lines += [block(_empty(plan, emptied)), ""]
    if others:
        lines += [block("\n".join([set_depth(), refill(plan, others), restore_depth()])), ""]
    return "\n".join([*lines, "    RETURN NULL;", "END;"])


def _truncate_test(plan: Plan, step: Step) -> str:
    """Return the test that refuses TRUNCATE where the snapshot may be older than targets that count its rows."""
    uris = ", ".join(kept.resolved.uri for kept in step.kept_columns)
    message = f"TRUNCATE of {step.edge.source} cannot keep {uris} at this isolation level."
    return "\n".join(
        [
            "-- TRUNCATE takes rows away that this snapshot does not show, and with them what targets count.",
            "IF current_setting('transaction_isolation') IN ('repeatable read', 'serializable')",
            f"    AND pg_relation_size({regclass_placeholder(plan.target)}) > 0",
            "THEN",
            f"    RAISE EXCEPTION USING MESSAGE = {text_literal(message)},",
            "              ERRCODE = 'feature_not_supported',",
            "              HINT = 'Use READ COMMITTED for it, or DELETE.';",
            "END IF;",
        ]
    )


def _empty(plan: Plan, kept_columns: list[KeptAggregate]) -> str:
    """Return the statements that put all targets back to their value over no rows."""
    target = table_placeholder(plan.target)
    differs = [f"target.{quote(kept.column)} IS DISTINCT FROM {kept.empty}" for kept in kept_columns]
    queued = [kept for kept in kept_columns if kept.is_queued]
    pending = [f"({probe})" for probe in dict.fromkeys(names_pending(kept, "target") for kept in queued)]
    stale, touched = "\n   OR ".join(differs), "\n   OR ".join([*differs, *pending])
    settings = ",\n    ".join(f"{quote(kept.column)} = {kept.empty}" for kept in kept_columns)
    order = ", ".join(f"target.{quote(name)}" for name in plan.key_columns)
    return "\n".join(
        [
            f"PERFORM\nFROM {target} AS target\nWHERE {touched}\nORDER BY {order}\nFOR NO KEY UPDATE;",
            *([forget_columns(plan, queued)] if queued else []),
            "",
            set_depth(),
            f"{update_head(plan.target, kept_columns)}\nSET {settings}\nWHERE {stale};",
            restore_depth(),
        ]
    )
