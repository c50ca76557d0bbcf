"""COMPILE the marks of tables whose changes are joined with each other, and of targets that are new.

A delta along a path of several hops joins the rows that changed to the other tables as they are now. That is right as
long as only one of these tables changes in a client's statement. Before any statement on one of them, this trigger
notes the table; where it finds another one noted by the same client statement (a CTE that writes both, a cascade, a
user's trigger), every step of this statement recomputes. An UPDATE that is said to write only rows which were locked is
passed over here, where no row is seen, and looked at by its steps: one that finds a difference has the statement
recompute.
"""

from __future__ import annotations

import pgtrigger

from trigger_kit.plan.kept_columns import KeptAggregate
from trigger_kit.plan.plan import Plan
from trigger_kit.sql.body import (
    FILLED,
    FRESH,
    PATH,
    STATEMENT,
    begin,
    brief,
    header,
    is_locking,
    mark_name,
    set_mark,
)
from trigger_kit.sql.text import block, object_name, short_digest
from trigger_kit.sql.trigger import CompiledTrigger, render

__all__ = ["compile_marks", "fresh"]


def compile_marks(plan: Plan) -> list[CompiledTrigger]:
    """Compile one trigger per table that a path of several hops leads through."""
    return [_mark(plan, table) for table in plan.joined_tables]


def _mark(plan: Plan, table: str) -> CompiledTrigger:
    name = f"trigger_kit.{mark_name(plan, PATH)}"
    own = short_digest(table)
    found = [kept for kept in plan.kept_columns if isinstance(kept, KeptAggregate)]
    along = [kept for kept in found if table in {hop.table for hop in kept.aggregate.path}]
    lines = [
        header(plan, f"Before a change of {table}: note it, for changes of other tables along the same path.", along),
        "DECLARE",
        f"    tk_noted text := current_setting('{name}', true);",
        f"    tk_statement text := {STATEMENT};",
        begin(table),
        "    -- An UPDATE that only writes rows which were locked changes nothing: its steps look whether it does.",
        f"    IF TG_OP = 'UPDATE' AND {is_locking()} THEN RETURN NULL; END IF;",
        f"    IF tk_noted LIKE tk_statement || ' %' AND tk_noted <> tk_statement || ' {own}' THEN",
        "        -- This statement changes two tables of a path: no delta knows the other's rows as they were.",
        block(set_mark(plan, FILLED), 2),
        "    END IF;",
        f"    PERFORM set_config('{name}', tk_statement || ' {own}', true);",
        "    RETURN NULL;",
        "END;",
    ]
    return render(
        name=object_name("tk_", (plan.target, "over", table), (plan.target, "over", table)),
        on=table,
        owner=plan.target,
        body="\n".join(lines),
        when=pgtrigger.Before,
        operation=pgtrigger.Insert | pgtrigger.Update | pgtrigger.Delete,
        level=pgtrigger.Statement,
    )


# Targets that are new -----------------------------------------------------------------------------------------------


def fresh(plan: Plan) -> CompiledTrigger:
    """Compile the trigger by which an INSERT into a target tells that its rows are new."""
    sentence = (
        f"Before INSERT on {plan.target}: steps of this statement would take off rows that a new row never held, and "
        "so they recompute."
    )
    lines = [brief(plan, sentence), begin(plan.target), f"    {set_mark(plan, FRESH)}", "    RETURN NULL;", "END;"]
    return render(
        name=object_name("tk_", (plan.target, "fresh"), (plan.target, "fresh")),
        on=plan.target,
        owner=plan.target,
        body="\n".join(lines),
        when=pgtrigger.Before,
        operation=pgtrigger.Insert,
        level=pgtrigger.Statement,
    )
