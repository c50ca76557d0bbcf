"""COMPILE the functions of a target that its triggers share, and that alone know how to write it.

* ``tk_…_hold`` locks rows along the paths, ``tk_…_lock`` targets, in key order; it notes those that are missing;
* ``tk_…_apply`` writes what a statement changes to locked targets: it adds, compares, or computes afresh where that
  does not hold; where the target is paused it notes the keys instead;
* ``tk_…_recompute`` writes the full values of some columns (``atoms.py``).

Of a tree, ``tk_…_apply`` computes all rows that some keys reach (``trees.py``).

They are no trigger functions and run with the rights of these, whose owner alone may execute them. The guard brings
them along: they come, change and go with it, under the locks of all tables whose writers use them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from trigger_kit.plan.plan import Edge, Event, Plan, Step
from trigger_kit.plan.row_locks import PathLock
from trigger_kit.resolve.columns import Column
from trigger_kit.rules import Timing
from trigger_kit.sql.adding import add_to_targets, adding_declarations, is_floored
from trigger_kit.sql.atoms import Atom, atoms, is_recursive, recompute, recompute_name, recompute_rows
from trigger_kit.sql.body import DEPTH, FILLED, brief, restore_depth, set_depth, set_mark
from trigger_kit.sql.changes import Part, change_rows, changes, joins_onward, parts
from trigger_kit.sql.function import PLANS, Function, call, text_array
from trigger_kit.sql.locks import all_path_locks, hold_body, hold_name, lock_target_rows, wanted_columns
from trigger_kit.sql.notes import miss, missed_places
from trigger_kit.sql.paths import Key
from trigger_kit.sql.pausing import is_paused, note_keys
from trigger_kit.sql.pending import reconsider
from trigger_kit.sql.text import (
    block,
    escape_braces,
    if_then,
    object_name,
    regclass_placeholder,
    table_placeholder,
    text_literal,
)
from trigger_kit.sql.trees import outer_loops, recursive_update, told_apart
from trigger_kit.sql.trigger import GUARD, Beside
from trigger_kit.sql.updates import refill, without_row

__all__ = [
    "WRITES",
    "apply_changes",
    "apply_keys",
    "apply_touched",
    "drop_helpers",
    "helper_names",
    "helpers",
    "lock_call",
]


def helpers(plan: Plan) -> Beside:
    """Return what the guard of a target brings along."""
    sources = tuple(dict.fromkeys(edge.source for edge in plan.edges))
    return Beside(GUARD, tuple(_functions(plan)), (), sources)


def helper_names(plan: Plan) -> list[str]:
    """Return the names of the functions that the triggers of a target share."""
    return [function.name for function in _functions(plan)]


def drop_helpers(target: str) -> str:
    """Return the statement that drops what the triggers of a target have shared, whatever its arguments are."""
    schema = f"(SELECT relnamespace FROM pg_class WHERE oid = {regclass_placeholder('tk_touched')})"
    return "\n".join(
        [
            "DO $tk_drop$",
            "DECLARE",
            "    tk_helper regprocedure;",
            "BEGIN",
            "    FOR tk_helper IN",
            "        SELECT oid FROM pg_proc",
            f"        WHERE pronamespace = {schema}",
            f"          AND obj_description(oid, 'pg_proc') = {text_literal(_whose(target))}",
            "    LOOP",
            "        EXECUTE format('DROP FUNCTION %s', tk_helper);",
            "    END LOOP;",
            "END;",
            "$tk_drop$;",
        ]
    )


# What the COMMENT of these functions begins with; the target's table follows.
WRITES = "trigger_kit: writes "


# Calls ----------------------------------------------------------------------------------------------------------------


def apply_changes(plan: Plan, step: Step) -> str:
    """Return the statements of a step that hand its changes on, one per target."""
    if not _adds(step.edge):
        return apply_touched(plan, step)
    arguments = [*_arrays(step), *_differences(step), "tk_recompute", text_array(missed_places(plan, step))]
    name = _apply_name(plan, step.edge, adds=True)
    if not joins_onward(step):
        return f"PERFORM {call(name, *arguments)}\n{changes(step, all_of_them='tk_recompute')};"
    added = f"PERFORM {call(name, *arguments)}\n{changes(step)};"
    return f"IF tk_recompute THEN\n{block(apply_touched(plan, step))}\nELSE\n{block(added)}\nEND IF;"


def apply_touched(plan: Plan, step: Step) -> str:
    """Return the statement of a step that has the targets which it touched computed afresh, or noted in a pause."""
    adds = _adds(step.edge)
    every = parts(Step(step.edge, Event.UPDATE))
    nothing = [*(f"NULL::{part.type}[]" for part in every), "true"] if adds else []
    arguments = [*_arrays(step), *nothing, text_array(missed_places(plan, step))]
    name = _apply_name(plan, step.edge, adds=adds)
    return f"PERFORM {call(name, *arguments)}\nFROM {change_rows(step, keys_only=True)};"


def _arrays(step: Step) -> list[str]:
    return [f"array_agg(change.{name})" for name in Key(step.edge.key).names]


def _differences(step: Step) -> list[str]:
    """Return the arrays of differences that the function of an edge takes, whichever of them an event has."""
    known = {(part.kind, part.kept): part.name for part in parts(step)}
    return [
        f"array_agg(change.{known[part.kind, part.kept]})"
        if (part.kind, part.kept) in known
        else f"NULL::{part.type}[]"
        for part in parts(Step(step.edge, Event.UPDATE))
    ]


def apply_keys(plan: Plan, edge: Edge, *arguments: str, adds: bool = False) -> str:
    """Return the call that brings the targets of some keys up to date; ``arguments`` are all that it takes.

    ``adds`` says that differences are among them.
    """
    return f"PERFORM {call(_apply_name(plan, edge, adds=adds), *arguments)};"


def lock_call(plan: Plan, key: Sequence[Column], *arguments: str) -> str:
    """Return the call that locks the targets of some keys; it gives their number."""
    return call(_lock_name(plan, key), *arguments)


# Names ----------------------------------------------------------------------------------------------------------------


def _apply_name(plan: Plan, edge: Edge, *, adds: bool) -> str:
    """Return the name of a function; edges of one key that keep the same columns share it."""
    of_key, columns = [column.name for column in edge.key], [kept.column for kept in edge.kept_columns]
    identity = (plan.target, "apply", *of_key, "", *columns, "", str(adds), str(edge.is_recursive))
    return object_name("tk_", (plan.target, "apply"), identity)


def _lock_name(plan: Plan, key: Sequence[Column]) -> str:
    return object_name("tk_", (plan.target, "lock"), (plan.target, "lock", *(column.name for column in key)))


def _whose(target: str) -> str:
    """Return the COMMENT of these functions."""
    return f"{WRITES}{target}"


# Texts ----------------------------------------------------------------------------------------------------------------


def _functions(plan: Plan) -> list[Function]:
    """Return all functions, each once: those that others call first."""
    folds = [_apply(plan, fold, adds=True) for fold in plan.folds(Timing.DEFERRED)]
    functions = [
        *(_hold(plan, lock) for lock in all_path_locks(plan)),
        *_locks(plan),
        *(_recompute(plan, atom) for atom in atoms(plan)),
        *folds,
        *(_climb(plan, edge) if edge.is_recursive else _apply(plan, edge, adds=_adds(edge)) for edge in plan.edges),
    ]
    return list({function.name: function for function in functions}.values())


def _adds(edge: Edge) -> bool:
    """Whether the steps of an edge hand differences on: those that wait hand on keys, and only for a pause."""
    return edge.timing is Timing.IMMEDIATE and not edge.is_recursive and bool(parts(Step(edge, Event.UPDATE)))


def _function(
    plan: Plan, name: str, body: str, arguments: Sequence[tuple[str, str]], returns: str = "void"
) -> Function:
    return Function(name, body, tuple(arguments), returns, PLANS, comment=_whose(plan.target))


def _key_arguments(key: Key) -> list[tuple[str, str]]:
    kinds = key.array_types()
    return list(zip(key.arrays, kinds, strict=True))


def _hold(plan: Plan, lock: PathLock) -> Function:
    return _function(plan, hold_name(plan, lock), hold_body(lock), _key_arguments(Key(wanted_columns(lock))))


def _locks(plan: Plan) -> list[Function]:
    """Return the functions that lock the targets of keys, one for the keys of some columns."""
    keys = dict.fromkeys(edge.key for edge in plan.edges)
    keys |= dict.fromkeys(late.path[0].near if late.path else late.parent for late in plan.all_late_parents)
    keys |= dict.fromkeys(fold.key for timing in Timing for fold in plan.folds(timing))
    return [_lock(plan, Key(columns)) for columns in keys]


def _lock(plan: Plan, key: Key) -> Function:
    count = "GET DIAGNOSTICS tk_found = ROW_COUNT;"
    sentence = f"Lock rows of {plan.target}, and count them; note those that are missing, for each of some places."
    body = "\n".join(
        [
            f"-- {escape_braces(' '.join(sentence.splitlines()))}",
            "DECLARE",
            "    tk_found bigint := 0;",
            "BEGIN",
            "    IF NOT tk_only_notes THEN",
            block(lock_target_rows(plan, key.is_among("locked"), count), 2),
            "    END IF;",
            f"    IF tk_places IS NOT NULL AND tk_found < cardinality({key.arrays[0]}) THEN",
            block(miss(plan, key), 2),
            "    END IF;",
            "    RETURN tk_found;",
            "END;",
        ]
    )
    arguments = [*_key_arguments(key), ("tk_places", "text[]"), ("tk_only_notes", "boolean")]
    return _function(plan, _lock_name(plan, key.columns), body, arguments, "bigint")


def _recompute(plan: Plan, atom: Atom) -> Function:
    key = Key(plan.key)
    sentence = (
        f"Compute locked rows of {plan.target} afresh; later steps of this statement must not add what they hold."
    )
    written = "\n".join([set_depth(), refill(plan, atom, key.is_among("this")), restore_depth()])
    arguments = _key_arguments(key)
    if is_recursive(atom):
        arguments.append(("tk_is_loop", "boolean"))
        written = told_apart(plan, atom, written, "CASE WHEN tk_is_loop THEN pg_trigger_depth()::text ELSE '' END")
    marks = [f"    {set_mark(plan, FILLED)}"] if any(kept.is_added for kept in atom) else []
    body = "\n".join(
        [
            brief(plan, sentence, atom),
            "DECLARE",
            block("\n".join([DEPTH, *outer_loops(plan, atom)])),
            "BEGIN",
            *marks,
            *map(block, reconsider(plan, atom, key)),
            block(without_row(plan, atom, written, *key.arrays)),
            "END;",
        ]
    )
    return _function(plan, recompute_name(plan, atom), body, arguments)


def _climb(plan: Plan, edge: Edge) -> Function:
    key, step = Key(edge.key), Step(edge, Event.INSERT)
    note_missing = f"PERFORM {lock_call(plan, edge.key, *key.arrays, 'tk_places', 'true')};"
    sentence = f"Compute all rows of {plan.target} that some keys reach, level by level."
    body = "\n".join(
        [
            brief(plan, sentence, edge.kept_columns),
            "DECLARE",
            block(DEPTH),
            "BEGIN",
            f"    IF {key.arrays[0]} IS NULL THEN RETURN; END IF;",
            f"    {note_missing}",
            f"    IF {is_paused(plan)} THEN",
            "        -- Note which were touched, for the repair at the end of the pause.",
            block(note_keys(plan.target, key), 2),
            "        RETURN;",
            "    END IF;",
            block(recursive_update(plan, step, key)),
            "END;",
        ]
    )
    return _function(plan, _apply_name(plan, edge, adds=False), body, [*_key_arguments(key), ("tk_places", "text[]")])


def _apply(plan: Plan, edge: Edge, *, adds: bool) -> Function:
    step, key = Step(edge, Event.UPDATE), Key(edge.key)
    arrays = [_by(number, part) for number, part in enumerate(parts(step), 1)] if adds else []
    arguments = _key_arguments(key)
    if adds:
        arguments += [(name, f"{part.type}[]") for name, part in zip(arrays, parts(step), strict=True)]
        arguments.append(("tk_recompute", "boolean"))
    arguments.append(("tk_places", "text[]"))
    return _function(plan, _apply_name(plan, edge, adds=adds), _apply_body(plan, step, key, arrays), arguments)


def _apply_body(plan: Plan, step: Step, key: Key, arrays: list[str]) -> str:
    edge = step.edge
    lock = lock_call(plan, edge.key, *key.arrays, "tk_places", "tk_is_paused")
    what = "Add differences to rows" if arrays else "Compute rows"
    rest = "compute them afresh where these do not hold." if arrays else "afresh."
    sentence = f"{what} of {plan.target}, locked first; {rest}" if arrays else f"{what} of {plan.target} {rest}"
    afresh = _afresh(plan, edge, key)
    write = [*add_to_targets(plan, step, arrays), if_then("tk_recompute", afresh)] if arrays else [afresh]
    declared = [f"tk_is_paused boolean := {is_paused(plan)};"]
    declared += adding_declarations(plan, step) if arrays else []
    return "\n".join(
        [
            brief(plan, sentence, edge.kept_columns),
            "DECLARE",
            block("\n".join(declared)),
            "BEGIN",
            f"    IF {key.arrays[0]} IS NULL THEN RETURN; END IF;",
            f"    tk_found := {lock};" if arrays and is_floored(step) else f"    PERFORM {lock};",
            "    IF tk_is_paused THEN",
            "        -- Note which were touched, for the repair at the end of the pause.",
            block(note_keys(plan.target, key), 2),
            "        RETURN;",
            "    END IF;",
            block("\n".join(write)),
            "END;",
        ]
    )


def _afresh(plan: Plan, edge: Edge, key: Key) -> str:
    """Return the statements that compute locked targets afresh, found by the key of an edge."""
    if edge.key == plan.key:
        return "\n".join(recompute(plan, edge.kept_columns, *key.arrays))
    rows = f"{table_placeholder(plan.target)} AS this WHERE {key.is_among('this')}"
    return "\n".join(recompute_rows(plan, edge.kept_columns, rows))


def _by(number: int, part: Part) -> str:
    """Return the name of the differences of one column, which no column of the target has."""
    name = part.name.replace('"', "")
    return f"tk_by_{name}" if re.fullmatch(r"[a-z0-9_]{1,50}", name) else f"tk_by_{number}"
