"""COMPILE the functions of a target that its steps share, and that alone know how to write it.

* ``tk_…_lock`` locks targets in key order, and notes those that are missing (``tk_…_miss``);
* ``tk_…_apply`` adds differences to locked targets, or computes them afresh where differences do not hold; where the
  target is paused it notes the keys instead;
* ``tk_…_recompute`` writes their full values.

They are no trigger functions and run with the rights of these, whose owner alone may execute them. The guard brings
them along: they come, change and go with it, under the locks of all tables whose writers use them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from trigger_kit.plan.kept_columns import KeptColumn, Strategy
from trigger_kit.plan.plan import Edge, Event, Plan, Step
from trigger_kit.sql.additions import floors
from trigger_kit.sql.body import DEPTH, FILLED, header, restore_depth, set_depth, set_mark
from trigger_kit.sql.changes import Part, parts
from trigger_kit.sql.locks import lock_target_rows
from trigger_kit.sql.notes import miss, missed_places
from trigger_kit.sql.paths import Key
from trigger_kit.sql.pausing import note_keys
from trigger_kit.sql.text import block, escape_braces, literal, object_name, regclass_placeholder, text_literal
from trigger_kit.sql.trigger import GUARD, Beside, dollar_quotes
from trigger_kit.sql.updates import add_changes, refill

__all__ = ["apply_changes", "drop_helpers", "helper_names", "helpers", "is_applied"]

# Plans go by indexes, whatever the first call of a session was about: planning anew would take longer than most calls.
_PLANS = "SET plan_cache_mode = force_generic_plan\nSET enable_seqscan = off"


def helpers(plan: Plan) -> Beside | None:
    """Return what the guard of a target brings along, or None where no step shares a function."""
    edges = [edge for edge in plan.edges if is_applied(edge)]
    if not edges:
        return None
    texts: dict[str, str] = {}
    for edge in edges:
        texts |= _of_edge(plan, edge)
    sources = tuple(dict.fromkeys(edge.source for edge in edges))
    return Beside(GUARD, "\n\n".join(texts.values()), (), sources)


def helper_names(plan: Plan) -> list[str]:
    """Return the names of the functions that the steps of a target share."""
    return [name for edge in plan.edges if is_applied(edge) for name in _of_edge(plan, edge)]


def is_applied(edge: Edge) -> bool:
    """Whether the steps of an edge do nothing but add differences, at once."""
    waits = edge.is_deferred or edge.is_queued or edge.is_recursive
    return not waits and all(kept.strategy is Strategy.DELTA for kept in edge.kept_columns)


def drop_helpers(target: str) -> str:
    """Return the statement that drops what the steps of a target have shared, whatever its arguments are."""
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


def apply_changes(plan: Plan, step: Step, arrays: str) -> str:
    """Return the statement of a step that hands its changes on.

    ``arrays`` is the block that declares them. The differences of sums have the same parts at every event.
    """
    places = missed_places(plan, step)
    arguments = [
        *Key(step.edge.key).arrays,
        *(f"{arrays}.{part.name}" for part in parts(step)),
        "tk_recompute",
        "tk_is_paused",
    ]
    if _may_miss(plan, step.edge):
        arguments.append(f"{literal(places)}::text[]" if places else "NULL::text[]")
    return f"PERFORM {_function(plan, 'apply', step.edge)}({', '.join(arguments)});"


# Names ----------------------------------------------------------------------------------------------------------------


def _function(plan: Plan, role: str, edge: Edge) -> str:
    return f'{{:schema}}."{_name(plan, role, edge)}"'


def _name(plan: Plan, role: str, edge: Edge) -> str:
    """Return the name of a function; those of one key share a lock, those of the same columns all else."""
    of_key = [column.name for column in edge.key]
    of_columns = [kept.column for kept in edge.kept_columns] if role in {"apply", "recompute"} else []
    return object_name("tk_", (plan.target, role), (plan.target, role, *of_key, "", *of_columns))


def _whose(target: str) -> str:
    """Return the COMMENT of these functions."""
    return f"trigger_kit: writes {target}"


# Texts ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Parameter:
    name: str
    type: str


def _of_edge(plan: Plan, edge: Edge) -> dict[str, str]:
    """Return the texts of the functions that the steps of an edge use, by name, in the order in which they use them."""
    step = Step(edge, Event.UPDATE)
    key = Key(edge.key)
    keys = [_Parameter(*line.rstrip(";").split(" ", 1)) for line in key.declarations()]
    places = [_Parameter("tk_places", "text[]")] if _may_miss(plan, edge) else []
    arrays = [_Parameter(_by(number, part), f"{part.type}[]") for number, part in enumerate(parts(step), 1)]
    flags = [_Parameter("tk_recompute", "boolean"), _Parameter("tk_is_paused", "boolean")]
    made = {
        **({"miss": (_miss(plan, key), "void", [*keys, *places], "")} if places else {}),
        "lock": (_lock(plan, edge, key), "bigint", [*keys, *places], _PLANS),
        "recompute": (_recompute(plan, edge.kept_columns, key), "void", keys, _PLANS),
        "apply": (_apply(plan, step, key), "void", [*keys, *arrays, *flags, *places], _PLANS),
    }
    return {_name(plan, role, edge): _text(plan, _function(plan, role, edge), *text) for role, text in made.items()}


def _may_miss(plan: Plan, edge: Edge) -> bool:
    """Whether targets that are found by the key of an edge may come after the rows that name them."""
    same = [other for other in plan.edges if is_applied(other) and other.key == edge.key]
    return any(missed_places(plan, Step(other, event)) for other in same for event in other.events)


def _text(plan: Plan, function: str, body: str, returns: str, parameters: Sequence[_Parameter], settings: str) -> str:
    quotes = dollar_quotes(body)
    listed = ", ".join(f"{parameter.name} {parameter.type}" for parameter in parameters)
    head = [f"CREATE OR REPLACE FUNCTION {function}({listed})", f"RETURNS {returns}", "LANGUAGE plpgsql"]
    return "\n".join(
        [
            *head,
            *([settings] if settings else []),
            f"AS {quotes}",
            body,
            f"{quotes};",
            f"REVOKE ALL ON FUNCTION {function} FROM PUBLIC;",
            f"COMMENT ON FUNCTION {function} IS {text_literal(_whose(plan.target))};",
        ]
    )


def _miss(plan: Plan, key: Key) -> str:
    return "\n".join(
        [
            "-- Note keys that are not there (yet): the end of the transaction looks again, see tk_waiting.",
            "BEGIN",
            block(miss(plan, key)),
            "END;",
        ]
    )


def _lock(plan: Plan, edge: Edge, key: Key) -> str:
    count = "GET DIAGNOSTICS tk_found = ROW_COUNT;"
    sentence = escape_braces(" ".join(f"Lock rows of {plan.target}, and count them.".splitlines()))
    noted = [
        f"IF tk_places IS NOT NULL AND tk_found < cardinality({key.arrays[0]}) THEN",
        f"    PERFORM {_function(plan, 'miss', edge)}({', '.join(key.arrays)}, tk_places);",
        "END IF;",
    ]
    return "\n".join(
        [
            f"-- {sentence}",
            "DECLARE",
            "    tk_found bigint;",
            "BEGIN",
            block(lock_target_rows(plan, key.is_among("locked"), count)),
            *([block("\n".join(noted))] if _may_miss(plan, edge) else []),
            "    RETURN tk_found;",
            "END;",
        ]
    )


def _recompute(plan: Plan, kept_columns: Iterable[KeptColumn], key: Key) -> str:
    kept = list(kept_columns)
    sentence = (
        f"Compute locked rows of {plan.target} afresh; later steps of this statement must not add what they hold."
    )
    return "\n".join(
        [
            header(plan, sentence, kept),
            "DECLARE",
            block(DEPTH),
            "BEGIN",
            f"    {set_mark(plan, FILLED)}",
            f"    {set_depth()}",
            block(refill(plan, kept, key.is_among("this"))),
            f"    {restore_depth()}",
            "END;",
        ]
    )


def _apply(plan: Plan, step: Step, key: Key) -> str:
    edge, keys = step.edge, ", ".join(key.arrays)
    may_miss, is_floored = _may_miss(plan, step.edge), bool(floors(step, "change.{}"))
    lock = f"{_function(plan, 'lock', edge)}({keys}{', tk_places' if may_miss else ''})"
    sentence = f"Add differences to rows of {plan.target}, locked first; compute them afresh where these do not hold."
    recompute = f"PERFORM {_function(plan, 'recompute', edge)}({keys});"
    arrays = [_by(number, part) for number, part in enumerate(parts(step), 1)]
    add = [set_depth(), add_changes(plan, step, arrays)]
    add += ["GET DIAGNOSTICS tk_added = ROW_COUNT;"] if is_floored else []
    lines = [
        header(plan, sentence, edge.kept_columns),
        "DECLARE",
        block("\n".join([*(["tk_found bigint;", "tk_added bigint;"] if is_floored else []), DEPTH])),
        "BEGIN",
        f"    IF {key.arrays[0]} IS NULL THEN\n        RETURN;\n    END IF;",
        "    IF tk_is_paused THEN",
        "        -- Note which were touched, for the repair at the end of the pause.",
        block(note_keys(plan.target, key), 2),
        *([f"        PERFORM {_function(plan, 'miss', edge)}({keys}, tk_places);"] if may_miss else []),
        "        RETURN;",
        "    END IF;",
        f"    {'tk_found :=' if is_floored else 'PERFORM'} {lock};",
        "    IF NOT tk_recompute THEN",
        block("\n".join([*add, restore_depth()]), 2),
    ]
    if is_floored:
        lines += [
            "        -- Rows that leave before their arrival is counted: no count is negative, not even for a moment.",
            "        tk_recompute := tk_added < tk_found;",
        ]
    return "\n".join([*lines, "    END IF;", f"    IF tk_recompute THEN\n        {recompute}\n    END IF;", "END;"])


def _by(number: int, part: Part) -> str:
    """Return the name of the differences of one column, which no column of the target has."""
    name = part.name.replace('"', "")
    return f"tk_by_{name}" if re.fullmatch(r"[a-z0-9_]{1,50}", name) else f"tk_by_{number}"
