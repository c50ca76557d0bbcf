"""COMPILE the target's own triggers: its guard, its first value, and the fill from rows that were there first.

Writers of the target do not know about maintenance: a stale ``save()`` writes every column back, psql names none of
them. These triggers keep the columns right all the same:

* ``tk_…_fresh``, before an INSERT statement: a mark, because rows of this statement may have left before the row came;
* ``~tk_…_first``, before INSERT: whatever the writer sent or left out becomes the value over no rows, or the copy;
* ``tk_…_fill``, after INSERT: where source rows were there first, the value becomes the one over these;
* ``~tk_…_guard``, before UPDATE: the stored value stays (or the write is refused), unless maintenance writes it; a
  changed key starts from the rows under the new key, a changed foreign key brings the copies of its row;
* ``tk_…_moved``, after UPDATE of a key: the same once more, when the key is this row's for good.

The names of the BEFORE ROW triggers start with ``~``, so that they fire after everybody else's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pgtrigger

from trigger_kit.plan.kept_columns import KeptColumn, Strategy, queued
from trigger_kit.plan.plan import Plan
from trigger_kit.resolve.column_fit import zero_of
from trigger_kit.resolve.columns import Hop
from trigger_kit.rules import Guard, Timing
from trigger_kit.sql.body import (
    DEPTH,
    FILLED,
    PLANS,
    begin,
    header,
    restore_depth,
    restore_plans,
    set_depth,
    set_mark,
    set_plans,
)
from trigger_kit.sql.django import hop_condition
from trigger_kit.sql.fragments import Values, value_type, values_of
from trigger_kit.sql.helpers import helpers
from trigger_kit.sql.locks import lock_path
from trigger_kit.sql.marks import fresh, mark_fresh
from trigger_kit.sql.notes import arrive, note_missing, take_links
from trigger_kit.sql.paths import Key, among
from trigger_kit.sql.pending import forget_pending, key_of, names_pending, reconsider, take_pending
from trigger_kit.sql.text import block, object_name, quote, table_placeholder, text_literal
from trigger_kit.sql.trigger import GUARD, CompiledTrigger, render
from trigger_kit.sql.updates import differs, join_values, refill

__all__ = ["compile_target"]


def compile_target(plan: Plan) -> list[CompiledTrigger]:
    """Compile the triggers that a target carries itself."""
    triggers = [_first(plan), _guard(plan)]
    if any(kept.is_added for kept in plan.kept_columns):
        triggers.insert(0, fresh(plan))
    if _waited_for(plan.kept_columns) or plan.pointing or plan.folds(Timing.DEFERRED):
        triggers.append(_fill(plan))
    return [*triggers, *_moved(plan)]


def _waited_for(kept_columns: Iterable[KeptColumn]) -> list[Hop]:
    """Return the hops to rows that may be there before their target."""
    hops = [source.path[0] for kept in kept_columns for source in kept.resolved.sources if source.path]
    return [hop for hop in dict.fromkeys(hops) if hop.near_is_unique]


def _name(plan: Plan, prefix: str, role: str) -> str:
    return object_name(prefix, (plan.target, role), (plan.target, role))


def _mark_filled(plan: Plan) -> str:
    return (
        "-- Steps of this statement that fire later would add rows that the value holds already: they recompute.\n"
        f"{set_mark(plan, FILLED)}"
    )


# INSERT -------------------------------------------------------------------------------------------------------------


def _first(plan: Plan) -> CompiledTrigger:
    computed = [kept for kept in _in_order(plan.kept_columns) if kept.strategy is Strategy.COPY or kept.empty is None]
    constant = [kept for kept in plan.kept_columns if kept not in computed]
    lines = [f"NEW.{quote(kept.column)} := {kept.empty};" for kept in constant]
    lines += [_assign(item, _fallback) for kept in computed for item in values_of([kept], "NEW")]
    sentence = f"Before INSERT on {plan.target}: start from the value over no rows, whatever the writer sent."
    head = header(plan, sentence, plan.kept_columns)
    parts = [head, begin(plan.target), block("\n".join([*lines, "RETURN NEW;"])), "END;"]
    conditions = "\n        OR ".join(f"NEW.{quote(kept.column)} IS DISTINCT FROM {kept.empty}" for kept in constant)
    return render(
        name=_name(plan, "~tk_", "first"),
        on=plan.target,
        owner=plan.target,
        body="\n".join(parts),
        when=pgtrigger.Before,
        operation=pgtrigger.Insert,
        clauses=[f"FOR EACH {pgtrigger.Row}", *([] if computed else [f"WHEN (\n        {conditions}\n    )"])],
    )


def _in_order(kept_columns: Iterable[KeptColumn]) -> list[KeptColumn]:
    """Return kept columns so that one which reads another's column of the same row comes after it."""
    left = list(kept_columns)
    ordered: list[KeptColumn] = []
    while left:
        names = {kept.column for kept in left}
        free = [kept for kept in left if not names & (_own_columns(kept) - {kept.column})]
        ordered += free or left
        left = [kept for kept in left if kept not in ordered]
    return ordered


def _own_columns(kept: KeptColumn) -> set[str]:
    """Return what a kept column reads of the target's own row."""
    return {column for source in kept.resolved.sources if not source.path for column in source.columns}


def _assign(values: Values, fallback: Callable[[KeptColumn], str], before: str = "") -> str:
    """Return the statement that gives a new row its full values; a row that points at a missing one falls back.

    ``before`` is a WITH clause.
    """
    columns = [quote(kept.column) for kept in values.kept_columns]
    variables = [f"NEW.{column}" for column in columns]
    if values.may_be_missing:
        variables = [f"tk_{number}" for number, _ in enumerate(columns, 1)]
    select = (
        f"{before}SELECT {', '.join(f'value.{column}' for column in columns)}\nINTO {', '.join(variables)}\n"
        f"FROM (\n{block(values.select)}\n) AS value;"
    )
    if not values.may_be_missing:
        return select
    types = map(value_type, values.kept_columns)
    declared = "\n".join(f"{name} {kind};" for name, kind in zip(variables, types, strict=True))
    assigned = "\n".join(
        f"NEW.{column} := CASE WHEN FOUND THEN {name} ELSE {fallback(kept)} END;"
        for column, name, kept in zip(columns, variables, values.kept_columns, strict=True)
    )
    return f"DECLARE\n{block(declared)}\nBEGIN\n{block(select)}\n{block(assigned)}\nEND;"


def _fallback(kept: KeptColumn) -> str:
    """Return what a copy holds whose row is not there yet: what the writer sent, or the field's empty value."""
    column, zero = f"NEW.{quote(kept.column)}", zero_of(kept.resolved.field)
    return column if zero is None else f"coalesce({column}, {zero})"


def _as_it_is(kept: KeptColumn) -> str:
    return f"NEW.{quote(kept.column)}"


def _fill(plan: Plan) -> CompiledTrigger:
    """Compile the fill: foreign keys are deferrable, and fixtures load in any order, so children may come first.

    What a new row has read of rows that it points at may have changed before it could lock them: it is compared again.
    """
    waited = [kept for kept in plan.kept_columns if _waited_for([kept])]
    kept_columns = [kept for kept in plan.kept_columns if kept in waited or kept in plan.pointing]
    sentence = f"After INSERT on {plan.target}: count the source rows that were there first."
    lines = [
        header(plan, sentence, kept_columns),
        "DECLARE",
        block("\n".join([DEPTH, *([PLANS] if plan.pointing else [])])),
        begin(plan.target),
        *map(block, reconsider(plan, plan.kept_columns, "inserted")),
        *([block(_read_again(plan)) + "\n"] if plan.pointing else []),
        *([block(_count_first(plan, waited))] if waited else []),
        block("RETURN NULL;"),
        "END;",
    ]
    return render(
        name=_name(plan, "tk_", "fill"),
        on=plan.target,
        owner=plan.target,
        body="\n".join(lines),
        when=pgtrigger.After,
        operation=pgtrigger.Insert,
        clauses=["REFERENCING NEW TABLE AS new_rows", f"FOR EACH {pgtrigger.Statement}"],
    )


def _read_again(plan: Plan) -> str:
    """Return the statements that lock the rows which new rows point at, and write what they say by now."""
    locks = [lock_path(lock, "new_rows") for lock in plan.path_locks((), plan.pointing)]
    notes = [note_missing(plan, late, "new_rows") for late in plan.late_parents((), plan.pointing)]
    comment = "-- Lock what the new rows point at, and look whether it has changed since they read it."
    values = values_of(plan.pointing, "inserted")
    changed = "\nOR ".join(differs(item, f"value_{number}", "inserted") for number, item in enumerate(values, 1))
    rows = "\n".join(["new_rows AS inserted", *join_values(values, row_by_row=True)])
    return "\n".join(
        [
            comment,
            set_plans(),
            *take_links(plan, (), plan.pointing),
            *locks,
            *notes,
            f"IF EXISTS (\n    SELECT\n{block(f'FROM {rows}')}\n    WHERE\n{block(changed, 2)}\n) THEN",
            block(_refill_inserted(plan, plan.pointing)),
            "END IF;",
            restore_plans(),
        ]
    )


def _count_first(plan: Plan, kept_columns: list[KeptColumn]) -> str:
    """Return the statements that give new rows the values over source rows that were there first."""
    # What has been read of such rows to start from may have changed since: those that are gone again are not found.
    values = values_of([kept for kept in kept_columns if kept.empty is None], "inserted")
    stale = [differs(item, f"value_{number}", "inserted") for number, item in enumerate(values, 1)]
    found = [*(f"({probe})" for probe in _probes(kept_columns, "inserted")), *stale]
    rows = "\n".join(["new_rows AS inserted", *join_values(values, row_by_row=True)])
    probes = "\nOR ".join(found)
    lines = [
        *arrive(plan, (late for late in plan.all_late_parents if not late.path)),
        "IF EXISTS (",
        "    SELECT",
        block(f"FROM {rows}\nWHERE {block(probes).strip()}"),
        ") THEN",
        *([block(_mark_filled(plan))] if any(kept.is_added for kept in kept_columns) else []),
        *map(block, reconsider(plan, kept_columns, "inserted")),
        block(_refill_inserted(plan, kept_columns)),
        "END IF;",
    ]
    return "\n".join(lines)


def _refill_inserted(plan: Plan, kept_columns: Iterable[KeptColumn]) -> str:
    key = Key(plan.key)
    inserted = among(key.of("this"), key.of("inserted"), "new_rows AS inserted")
    return "\n".join([set_depth(), refill(plan, kept_columns, inserted), restore_depth()])


def _probes(kept_columns: Iterable[KeptColumn], row: str) -> list[str]:
    """Return the scalar subqueries one of which is true where a row does not start from the value over no rows."""
    read = list(kept_columns)
    pending = {key_of(kept): names_pending(kept, row) for kept in queued(read)}
    return [*(_probe(hop, row) for hop in _waited_for(read)), *pending.values()]


def _probe(hop: Hop, row: str) -> str:
    """Return a scalar subquery that is true where a source row exists.

    A scalar subquery, because PostgreSQL may turn EXISTS into a join whose cached plan reads the whole source.
    """
    return (
        f"SELECT true FROM {table_placeholder(hop.table)} AS source WHERE {hop_condition(hop, row, 'source')} LIMIT 1"
    )


# UPDATE -------------------------------------------------------------------------------------------------------------


def _guard(plan: Plan) -> CompiledTrigger:
    sentence = f"Before UPDATE on {plan.target}: only maintenance writes the kept columns."
    parts = [
        header(plan, sentence, plan.kept_columns),
        begin(plan.target),
        block("-- Maintenance says at which trigger depth it writes; everybody else meets the guard."),
        block(_guard_test(plan)),
        *(block(_changed_key(plan, columns, group)) for columns, group in _by_key(plan).items()),
        *(block(_changed_copy(kept)) for kept in _in_order(plan.kept_columns) if kept.strategy is Strategy.COPY),
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
        role=GUARD,
        beside=helpers(plan),
    )


def _guard_test(plan: Plan) -> str:
    changed = "\nOR ".join(_changed(kept.column) for kept in plan.kept_columns)
    actions = [_refusal(kept) for kept in plan.kept_columns if kept.resolved.rule.guard is Guard.RAISE]
    restored = [quote(kept.column) for kept in plan.kept_columns if kept.resolved.rule.guard is Guard.KEEP]
    actions += [f"NEW.{name} := OLD.{name};" for name in restored]
    return "\n".join(
        [
            "IF current_setting('trigger_kit.depth', true) IS DISTINCT FROM (pg_trigger_depth() - 1)::text AND (",
            block(changed),
            ") THEN",
            block("\n".join(actions)),
            "END IF;",
        ]
    )


def _changed(column: str, cast: str = "") -> str:
    return f"NEW.{quote(column)}{cast} IS DISTINCT FROM OLD.{quote(column)}{cast}"


def _refusal(kept: KeptColumn) -> str:
    message = f"The column of {kept.resolved.uri} is kept by trigger_kit and cannot be written."
    return "\n".join(
        [
            f"IF {_changed(kept.column)} THEN",
            f"    RAISE EXCEPTION USING MESSAGE = {text_literal(message)},",
            "              ERRCODE = 'integrity_constraint_violation',",
            "              HINT = 'Leave the column out of the UPDATE: its value follows from other rows.',",
            "              SCHEMA = TG_TABLE_SCHEMA,",
            "              TABLE = TG_TABLE_NAME,",
            f"              COLUMN = {text_literal(kept.column)};",
            "END IF;",
        ]
    )


def _by_key(plan: Plan) -> dict[tuple[str, ...], list[KeptColumn]]:
    """Return the kept columns by the columns of the target that other rows point at."""
    groups: dict[tuple[str, ...], list[KeptColumn]] = {}
    for kept in plan.kept_columns:
        columns = tuple(sorted({column.name for hop in _waited_for([kept]) for column in hop.near}))
        if columns:
            groups.setdefault(columns, []).append(kept)
    return groups


def _changed_key(plan: Plan, columns: tuple[str, ...], kept_columns: list[KeptColumn]) -> str:
    """Return the part of the guard that gives a row under a new key the value over the rows that point at it."""
    probes = " OR ".join(f"EXISTS ({probe})" for probe in _probes(kept_columns, "NEW"))
    lines = ["", f"IF {' OR '.join(map(_changed, columns))} THEN"]
    waiting = {key_of(kept): kept for kept in queued(kept_columns)}
    lines += [block(forget_pending(kept, "OLD")) for kept in waiting.values()]
    lines += map(block, reconsider(plan, kept_columns, "NEW"))
    lines += [block(_assign_anew(plan, item)) for item in values_of(kept_columns, "NEW")]
    late_parents = (late for late in plan.all_late_parents if not late.path and late.hop in _waited_for(kept_columns))
    lines[2:2] = map(block, arrive(plan, late_parents))
    if any(kept.is_added for kept in kept_columns):
        lines[2:2] = [block(mark_fresh(plan))]
        lines += [f"    IF {probes} THEN", block(_mark_filled(plan), 2), "    END IF;"]
    return "\n".join([*lines, "END IF;"])


def _moved(plan: Plan) -> list[CompiledTrigger]:
    """Compile the second look at a row under a new key.

    Where another transaction gives the key up, with the rows that pointed at it, the index makes the writer wait for
    its end: after the guard has looked, which sees what goes.
    """
    groups = _by_key(plan)
    if not groups:
        return []
    columns = dict.fromkeys(column for key in groups for column in key)
    this = " AND ".join(f"this.{quote(name)} = NEW.{quote(name)}" for name in plan.key_columns)
    kept_columns = [kept for kept in plan.kept_columns if any(kept in group for group in groups.values())]
    sentence = f"After a changed key on {plan.target}: another transaction may have given it up meanwhile."
    head = header(plan, sentence, kept_columns)
    lines = [head, "DECLARE", block(DEPTH), begin(plan.target), block(set_depth())]
    for key, group in groups.items():
        refilled = "\n".join([*reconsider(plan, group, "NEW"), refill(plan, group, this)])
        lines += [f"    IF {' OR '.join(map(_changed, key))} THEN", block(refilled, 2), "    END IF;"]
    return [
        render(
            name=_name(plan, "tk_", "moved"),
            on=plan.target,
            owner=plan.target,
            body="\n".join([*lines, block(restore_depth()), "    RETURN NULL;", "END;"]),
            when=pgtrigger.After,
            # The list is looked at first: a WHEN alone is parsed by each UPDATE, also by those of maintenance.
            operation=f"{pgtrigger.Update} OF {', '.join(map(quote, columns))}",
            clauses=[f"FOR EACH {pgtrigger.Row}", f"WHEN ({' OR '.join(map(_changed, columns))})"],
        )
    ]


def _assign_anew(plan: Plan, values: Values) -> str:
    """Return the statement that gives a row its full values under a new key, and takes what is pending for it."""
    return _assign(values, _as_it_is, take_pending(plan, values.kept_columns, "NEW"))


def _changed_copy(kept: KeptColumn) -> str:
    """Return the part of the guard that copies anew where what the copy depends on in its own row has changed."""
    loose = {column for source in kept.resolved.sources if not source.path for column in source.loose_columns}
    casts = dict.fromkeys(loose, "::text")
    condition = " OR ".join(_changed(column, casts.get(column, "")) for column in sorted(_own_columns(kept)))
    assignments = "\n".join(_assign(item, _as_it_is) for item in values_of([kept], "NEW"))
    return f"\nIF {condition} THEN\n{block(assignments)}\nEND IF;"
