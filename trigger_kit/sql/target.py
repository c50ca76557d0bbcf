"""COMPILE the target's own triggers: its guard, its first value, and the fill from rows that were there first.

Writers of the target do not know about maintenance: a stale ``save()`` writes every column back, psql names none of
them. These triggers keep the columns right all the same:

* ``tk_…_fresh``, before an INSERT statement: a mark, because rows of this statement may have left before the row came;
* ``~tk_…_first``, before INSERT: whatever the writer sent or left out becomes the value over no rows, or the copy;
* ``tk_…_fill``, after INSERT: where source rows were there first, the value becomes the one over these;
* ``~tk_…_guard``, before UPDATE: the stored value stays (or the write is refused), unless maintenance writes it; a
  changed foreign key brings the copies of its row;
* ``tk_…_moved``, after UPDATE of a key: the value becomes the one over the rows that point at the new key.

The names of the BEFORE ROW triggers start with ``~``, so that they fire after everybody else's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pgtrigger

from trigger_kit.plan.kept_columns import KeptColumn, Strategy, queued
from trigger_kit.plan.plan import Plan
from trigger_kit.resolve.column_fit import zero_of
from trigger_kit.resolve.columns import Hop, is_built_in
from trigger_kit.rules import Guard, Timing
from trigger_kit.sql.atoms import by_key, recompute, recompute_rows, waited_for
from trigger_kit.sql.body import FILLED, FRESH, begin, brief, header, set_mark
from trigger_kit.sql.django import hop_condition
from trigger_kit.sql.fragments import Values, value_type, values_of
from trigger_kit.sql.function import PLANS
from trigger_kit.sql.helpers import helpers
from trigger_kit.sql.locks import lock_path
from trigger_kit.sql.marks import fresh
from trigger_kit.sql.notes import arrive, note_missing, take_links
from trigger_kit.sql.paths import Key
from trigger_kit.sql.pending import forget_pending, key_of, names_pending
from trigger_kit.sql.text import block, object_name, quote, table_placeholder, text_literal
from trigger_kit.sql.trigger import GUARD, CompiledTrigger, render
from trigger_kit.sql.updates import differs, join_values

__all__ = ["compile_target"]


def compile_target(plan: Plan) -> list[CompiledTrigger]:
    """Compile the triggers that a target carries itself."""
    triggers = [_first(plan), _guard(plan)]
    if any(kept.is_added for kept in plan.kept_columns):
        triggers.insert(0, fresh(plan))
    if waited_for(plan.kept_columns) or plan.pointing or plan.folds(Timing.DEFERRED):
        triggers.append(_fill(plan))
    return [*triggers, *_moved(plan)]


def _name(plan: Plan, prefix: str, role: str) -> str:
    return object_name(prefix, (plan.target, role), (plan.target, role))


# INSERT -------------------------------------------------------------------------------------------------------------


def _first(plan: Plan) -> CompiledTrigger:
    computed = [kept for kept in _in_order(plan.kept_columns) if kept.strategy is Strategy.COPY or kept.empty is None]
    constant = [kept for kept in plan.kept_columns if kept not in computed]
    lines = [f"NEW.{quote(kept.column)} := {kept.empty};" for kept in constant]
    lines += [_assign(item, _fallback) for kept in computed for item in values_of([kept], "NEW")]
    sentence = f"Before INSERT on {plan.target}: start from the value over no rows, whatever the writer sent."
    parts = [brief(plan, sentence), begin(plan.target), block("\n".join([*lines, "RETURN NEW;"])), "END;"]
    conditions = "\n        OR ".join(f"NEW.{quote(kept.column)} IS DISTINCT FROM {kept.empty}" for kept in constant)
    # pg_dump writes no search_path: a trigger whose WHEN needs an extension's operator is not restored.
    always = computed or not all(is_built_in(kept.resolved.column.type) for kept in constant)
    return render(
        name=_name(plan, "~tk_", "first"),
        on=plan.target,
        owner=plan.target,
        body="\n".join(parts),
        when=pgtrigger.Before,
        operation=pgtrigger.Insert,
        level=pgtrigger.Row,
        condition="" if always else f"\n        {conditions}\n    ",
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


def _assign(values: Values, fallback: Callable[[KeptColumn], str]) -> str:
    """Return the statement that gives a new row its full values; a row that points at a missing one falls back."""
    columns = [quote(kept.column) for kept in values.kept_columns]
    variables = [f"NEW.{column}" for column in columns]
    if values.may_be_missing:
        variables = [f"tk_{number}" for number, _ in enumerate(columns, 1)]
    select = (
        f"SELECT {', '.join(f'value.{column}' for column in columns)}\nINTO {', '.join(variables)}\n"
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

    What a new row has read, of rows that it points at or of rows that were there first, may have changed before it was
    there for others to see: it is read again.
    """
    waited = [kept for kept in plan.kept_columns if waited_for([kept])]
    read = [kept for kept in plan.kept_columns if kept in plan.pointing or (kept in waited and kept.empty is None)]
    counted = [kept for kept in waited if kept not in read]
    sentence = f"After INSERT on {plan.target}: count the source rows that were there first."
    lines = [
        *_before_reading(plan, waited),
        *([_read_again(plan, read)] if read else []),
        *([_count_first(plan, counted)] if counted else []),
    ]
    return render(
        name=_name(plan, "tk_", "fill"),
        on=plan.target,
        owner=plan.target,
        body="\n".join([brief(plan, sentence), begin(plan.target), *map(block, lines), "    RETURN NULL;", "END;"]),
        when=pgtrigger.After,
        operation=pgtrigger.Insert,
        level=pgtrigger.Statement,
        referencing=pgtrigger.Referencing(new="new_rows"),
        settings=PLANS if plan.pointing else (),
    )


def _before_reading(plan: Plan, waited: list[KeptColumn]) -> list[str]:
    """Return the statements after which what new rows point at, and those who point at them, stay as they are."""
    locks = [lock_path(plan, lock, "new_rows") for lock in plan.path_locks((), plan.pointing)]
    notes = [note_missing(plan, late, "new_rows") for late in plan.late_parents((), plan.pointing)]
    pointing = [*take_links(plan, (), plan.pointing), *locks, *notes]
    comment = ["-- Lock what the new rows point at, and read it again."] if pointing else []
    arriving = arrive(plan, (late for late in plan.all_late_parents if not late.path)) if waited else []
    return [*comment, *pointing, *arriving]


def _read_again(plan: Plan, kept_columns: list[KeptColumn]) -> str:
    """Return the statements that compare what new rows have started from with what there is by now.

    That is cheaper than to write the rows over again, of which most are as they should be.
    """
    values = values_of(kept_columns, "inserted")
    changed = "\nOR ".join(differs(item, f"value_{number}", "inserted") for number, item in enumerate(values, 1))
    rows = "\n".join(["new_rows AS inserted", *join_values(values, row_by_row=True)])
    calls = recompute_rows(plan, kept_columns, "new_rows AS this")
    found = f"SELECT FROM {rows}\nWHERE {block(changed).strip()}"
    return "\n".join([f"IF EXISTS (\n{block(found)}\n) THEN", *map(block, calls), "END IF;"])


def _count_first(plan: Plan, kept_columns: list[KeptColumn]) -> str:
    """Return the statements that give new rows the values over source rows that were there first."""
    probes = "\n   OR ".join(f"({probe})" for probe in _probes(kept_columns, "inserted"))
    calls = recompute_rows(plan, kept_columns, "new_rows AS this")
    return "\n".join(
        [
            f"IF EXISTS (\n    SELECT FROM new_rows AS inserted WHERE {block(probes).strip()}\n) THEN",
            *map(block, calls),
            "END IF;",
        ]
    )


def _probes(kept_columns: Iterable[KeptColumn], row: str) -> list[str]:
    """Return the scalar subqueries one of which is true where a row does not start from the value over no rows."""
    read = list(kept_columns)
    pending = {key_of(kept): names_pending(kept, row) for kept in queued(read)}
    return [*(_probe(hop, row) for hop in waited_for(read)), *pending.values()]


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
        *(block(text) for key, group in by_key(plan).items() if (text := _changed_key(plan, key, group))),
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
        level=pgtrigger.Row,
        role=GUARD,
        beside=helpers(plan),
    )


def _guard_test(plan: Plan) -> str:
    changed = "\nOR ".join(_changed(kept.column) for kept in plan.kept_columns)
    actions = [_refusal(kept) for kept in plan.kept_columns if kept.resolved.rule.guard is Guard.RAISE]
    restored = [quote(kept.column) for kept in plan.kept_columns if kept.resolved.rule.guard is Guard.KEEP]
    actions += [f"NEW.{name} := OLD.{name};" for name in restored]
    others = "current_setting('trigger_kit.depth', true) IS DISTINCT FROM (pg_trigger_depth() - 1)::text"
    if len(plan.kept_columns) > 1:
        changed = f"(\n{block(changed)}\n)"
    return f"IF {others} AND {changed} THEN\n{block(chr(10).join(actions))}\nEND IF;"


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


def _changed_key(plan: Plan, columns: tuple[str, ...], kept_columns: list[KeptColumn]) -> str:
    """Return the part of the guard about a row under a new key: what was pending for it goes with the old one.

    The value over the rows that point at the new key is computed when it is this row's for good (``_moved``).
    """
    late_parents = (late for late in plan.all_late_parents if not late.path and late.hop in waited_for(kept_columns))
    marks = [set_mark(plan, FRESH, FILLED)] if any(kept.is_added for kept in kept_columns) else []
    waiting = {key_of(kept): kept for kept in queued(kept_columns)}
    forgotten = [forget_pending(kept, "OLD") for kept in waiting.values()]
    lines = [*arrive(plan, late_parents), *marks, *forgotten]
    if not lines:
        return ""
    comment = "-- Steps of this statement would add to the new key, or take off, what it never held: they recompute."
    return "\n".join(
        [*([comment] if marks else []), f"IF {_any_changed(columns)} THEN", block("\n".join(lines)), "END IF;"]
    )


def _any_changed(columns: Iterable[str]) -> str:
    return " OR ".join(map(_changed, columns))


def _moved(plan: Plan) -> list[CompiledTrigger]:
    """Compile what follows a changed key: the value over the rows that point at the new one.

    Where another transaction gives the key up, with the rows that pointed at it, the index makes the writer wait for
    its end: only now it is this row's for good.
    """
    groups = by_key(plan)
    if not groups:
        return []
    columns = dict.fromkeys(column for key in groups for column in key)
    new = Key(plan.key).of("NEW")
    types = {column.name: column.type for hop in waited_for(plan.kept_columns) for column in hop.near}
    # See _first().
    may_ask = all(is_built_in(types[name]) for name in columns)
    sentence = f"After a changed key on {plan.target}: compute what follows from the rows that point at the new one."
    lines = [brief(plan, sentence), begin(plan.target)]
    for key, group in groups.items():
        calls = "\n".join(recompute(plan, group, *(f"ARRAY[{column}]" for column in new)))
        is_only = len(groups) == 1 and may_ask
        lines.append(block(calls if is_only else f"IF {_any_changed(key)} THEN\n{block(calls)}\nEND IF;"))
    return [
        render(
            name=_name(plan, "tk_", "moved"),
            on=plan.target,
            owner=plan.target,
            body="\n".join([*lines, "    RETURN NULL;", "END;"]),
            when=pgtrigger.After,
            # The list is looked at first: a WHEN alone is parsed by each UPDATE, also by those of maintenance.
            # (pgtrigger.UpdateOf does not double quotes in names.)
            operation=f"{pgtrigger.Update} OF {', '.join(map(quote, columns))}",
            level=pgtrigger.Row,
            condition=_any_changed(columns) if may_ask else "",
        )
    ]


def _changed_copy(kept: KeptColumn) -> str:
    """Return the part of the guard that copies anew where what the copy depends on in its own row has changed."""
    loose = {column for source in kept.resolved.sources if not source.path for column in source.loose_columns}
    casts = dict.fromkeys(loose, "::text")
    condition = " OR ".join(_changed(column, casts.get(column, "")) for column in sorted(_own_columns(kept)))
    assignments = "\n".join(_assign(item, _as_it_is) for item in values_of([kept], "NEW"))
    return f"IF {condition} THEN\n{block(assignments)}\nEND IF;"
