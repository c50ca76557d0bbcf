"""COMPILE the end of a transaction for DEFERRED rules: what it has noted reaches the target once, in key order.

Steps append notes (``compiler/appending.py``), and the first one about a target adds a row to ``tk_commit``. At the end
of the transaction a constraint trigger there deletes its rows in the order of the targets' ranks, sources before what
is computed from them; each deletion fires the trigger that this module compiles for the target.
"""

from __future__ import annotations

from dataclasses import dataclass

import pgtrigger

from trigger_kit.plan.kept_columns import KeptColumn, may_break_a_check
from trigger_kit.plan.plan import Edge, Event, Plan, Step
from trigger_kit.rules import Timing
from trigger_kit.sql.additions import additions, negative
from trigger_kit.sql.appending import edge_number
from trigger_kit.sql.body import DEPTH, begin, header, restore_depth, set_depth, update_head
from trigger_kit.sql.changes import Kind, parts, row_of
from trigger_kit.sql.function import PLANS, text_array
from trigger_kit.sql.helpers import apply_keys, lock_call
from trigger_kit.sql.locks import lock_target_rows
from trigger_kit.sql.notes import missed_places
from trigger_kit.sql.paths import Key
from trigger_kit.sql.pending import NOTED, deferred_table, pending_keys
from trigger_kit.sql.text import block, object_name, quote, text_literal
from trigger_kit.sql.trigger import NOTES, Beside, CompiledTrigger, render
from trigger_kit.sql.updates import set_list

__all__ = ["compile_commit", "undo_notes"]


@dataclass(frozen=True)
class Section:
    """The notes that have one key: of all sums kept by it, or of one edge whose targets are computed afresh.

    ``key`` names the arrays of all noted keys, ``again`` those of targets that are computed afresh.
    """

    step: Step
    numbers: tuple[int, ...]
    key: Key
    again: Key

    @property
    def kept_columns(self) -> tuple[KeptColumn, ...]:
        """The kept columns that the notes are about."""
        return self.step.kept_columns

    @property
    def is_added(self) -> bool:
        """Whether the notes hold differences."""
        return self.step.edge.is_added

    @property
    def arrays(self) -> list[str]:
        """The names of the arrays of differences."""
        return [f"{self.key.arrays[0]}_part_{number}" for number, _ in enumerate(parts(self.step), 1)]

    def declarations(self) -> list[str]:
        """Return the declarations of all arrays."""
        if not self.is_added:
            return self.key.declarations()
        kinds = [f"{name} {part.type}[];" for name, part in zip(self.arrays, parts(self.step), strict=True)]
        return [*self.key.declarations(), *kinds, *self.again.declarations()]


def compile_commit(plan: Plan) -> list[CompiledTrigger]:
    """Compile the trigger that brings the notes of a transaction to a target."""
    edges = [edge for edge in plan.edges if edge.is_deferred]
    if not edges:
        return []
    return [
        render(
            name=object_name("tk_", (plan.target, "commit"), (plan.target, "commit")),
            on="tk_commit",
            owner=plan.target,
            body=_body(plan, _sections(plan, edges)),
            when=pgtrigger.After,
            operation=pgtrigger.Delete,
            level=pgtrigger.Row,
            condition=f"OLD.target = {text_literal(plan.target)}",
            beside=_table(plan, edges),
            settings=PLANS,
        )
    ]


def _sections(plan: Plan, edges: list[Edge]) -> list[Section]:
    folds = [
        (fold, tuple(edge_number(plan, e) for e in edges if e.is_added and e.key == fold.key))
        for fold in plan.folds(Timing.DEFERRED)
    ]
    folds += [(edge, (edge_number(plan, edge),)) for edge in edges if not edge.is_added]
    sections = []
    for number, (edge, numbers) in enumerate(folds, 1):
        word = "tk" if len(folds) == 1 else f"tk_{number}"
        key, again = Key(edge.key, f"{word}_key"), Key(edge.key, f"{word}_again_key")
        sections.append(Section(Step(edge, Event.UPDATE), numbers, key, again))
    return sections


# The table ----------------------------------------------------------------------------------------------------------


def _table(plan: Plan, edges: list[Edge]) -> Beside:
    """Return the table of notes; they do not outlive their transaction, so that a crash may empty it."""
    table = deferred_table(plan.target)
    folds = plan.folds(Timing.DEFERRED)
    columns = ["tk_transaction xid8 NOT NULL DEFAULT pg_current_xact_id()", "tk_edge smallint NOT NULL"]
    columns += pending_keys(plan, [edge.key for edge in edges])
    columns += dict.fromkeys(f"{part.name} {part.type}" for fold in folds for part in parts(Step(fold, Event.UPDATE)))
    columns += ["tk_recompute boolean NOT NULL DEFAULT false"]
    keys = [", ".join(quote(column.name) for column in fold.key) for fold in folds]
    indexes = [f"CREATE INDEX ON {table} (tk_transaction, {key});" for key in keys]
    comment = f"trigger_kit: what open transactions have changed for {plan.target}, until they commit"
    before = [
        # A table that looks empty is read from end to end, by plans that live on when it is not.
        f"CREATE UNLOGGED TABLE {table} (\n{block((',' + chr(10)).join(columns))}\n) WITH (vacuum_truncate = false);",
        *(indexes or [f"CREATE INDEX ON {table} (tk_transaction);"]),
        f"COMMENT ON TABLE {table} IS {text_literal(comment)};",
    ]
    sources = dict.fromkeys(edge.source for edge in edges)
    return Beside(NOTES, ("\n".join(before),), (), tuple(sources))


def undo_notes(table: str) -> str:
    """Return the statements that bring what this transaction has noted to a target, and drop the table of notes."""
    return (
        'SET CONSTRAINTS {:schema}."tk_commit" IMMEDIATE;\n'
        'SET CONSTRAINTS {:schema}."tk_commit" DEFERRED;\n'
        f"DROP TABLE IF EXISTS {deferred_table(table)};"
    )


# The function -------------------------------------------------------------------------------------------------------


def _body(plan: Plan, sections: list[Section]) -> str:
    kept_columns = list(dict.fromkeys(kept for section in sections for kept in section.kept_columns))
    may_add = any(section.is_added for section in sections)
    declarations = [*([DEPTH] if may_add else []), *(line for section in sections for line in section.declarations())]
    nothing = " AND ".join(f"{section.key.arrays[0]} IS NULL" for section in sections)
    lines = [
        header(plan, f"At the end of a transaction: bring what it has noted to {plan.target}.", kept_columns),
        "DECLARE",
        block("\n".join(declarations)),
        begin("tk_commit"),
        *(block(_take(plan, section)) for section in sections),
        *(block(_one_target(plan, section, sections)) for section in sections if _may_be_one(section)),
        *([block(f"IF {nothing} THEN RETURN NULL; END IF;\n{_lock_all(plan, sections)}")] if len(sections) > 1 else []),
        *(block(_write(plan, section)) for section in sections),
        "    RETURN NULL;",
        "END;",
    ]
    return "\n".join(lines)


def _lock_all(plan: Plan, sections: list[Section]) -> str:
    """Return the statements that lock the targets of all notes, in one order, whatever they are found by."""
    return lock_target_rows(plan, "\n   OR ".join(section.key.is_among("locked") for section in sections))


def _take(plan: Plan, section: Section) -> str:
    """Return the statement that takes the notes of this transaction out of the table, one change per target."""
    key = section.key
    columns = [f"taken.{quote(column.name)}" for column in key.columns]
    named = [f"{column} AS {name}" for column, name in zip(columns, key.names, strict=True)]
    collected = [f"array_agg(change.{name})" for name in key.names]
    into = list(key.arrays)
    where = ""
    if section.is_added:
        sums = [f"coalesce(sum(taken.{p.name}), 0)::{p.type}" for p in parts(section.step)]
        names = [part.name for part in parts(section.step)]
        named += [
            f"CASE WHEN bool_or(taken.tk_recompute) THEN 0 ELSE {value} END AS {name}"
            for value, name in zip(sums, names, strict=True)
        ]
        named.append("bool_or(taken.tk_recompute) AS tk_recompute")
        collected += [f"array_agg(change.{name})" for name in names]
        collected += [f"array_agg(change.{name}) FILTER (WHERE change.tk_recompute)" for name in key.names]
        into += [*section.arrays, *section.again.arrays]
        values = row_of([f"change.{name}" for name in names])
        where = f"\nWHERE change.tk_recompute OR {values} <> {row_of(['0'] * len(names))}"
    numbers = ", ".join(map(str, section.numbers))
    return "\n".join(
        [
            "WITH taken AS (",
            f"    DELETE FROM {deferred_table(plan.target)} AS noted",
            f"    WHERE {NOTED} AND noted.tk_edge IN ({numbers})",
            "    RETURNING noted.*",
            "), change AS (",
            f"    SELECT\n{block((',' + chr(10)).join(named), 2)}",
            "    FROM taken",
            f"    GROUP BY {', '.join(columns)}",
            ")",
            f"SELECT\n{block((',' + chr(10)).join(collected))}",
            f"INTO {', '.join(into)}",
            f"FROM change{where};",
        ]
    )


def _may_be_one(section: Section) -> bool:
    """Whether a key has one target at most, that is added to."""
    is_plain = not any(map(may_break_a_check, section.kept_columns))
    return is_plain and section.is_added and all(feed.path[0].near_is_unique for feed in section.step.edge.feeds)


def _one_target(plan: Plan, section: Section, sections: list[Section]) -> str:
    """Return the statements that deal with a transaction over one target, which lock and write it at once.

    The shorter the time between the lock and the commit, the more writers get through to a hot target.
    """
    key, step = section.key, Step(section.step.edge, Event.INSERT)
    tests = [f"cardinality({key.arrays[0]}) = 1", f"{section.again.arrays[0]} IS NULL"]
    tests += [f"{other.key.arrays[0]} IS NULL" for other in sections if other is not section]
    changes = list(zip(section.arrays, parts(section.step), strict=True))
    # A departure must lock before it looks whether rows are left.
    tests += [f"{array}[1] >= 0" for array, part in changes if part.kind is Kind.ROWS]
    by = {part.name: f"{array}[1]" for array, part in changes}
    match = [f"{column} = {array}[1]" for column, array in zip(key.of("target"), key.arrays, strict=True)]
    match += [f"NOT {negative(kept, by.__getitem__)}" for kept in section.step.aggregates if kept.must_not_be_negative]
    update = "\n".join(
        [
            set_depth(),
            update_head(plan.target, section.kept_columns),
            set_list(additions(step, by.__getitem__)),
            f"WHERE {' AND '.join(match)};",
            restore_depth(),
            "IF FOUND THEN",
            "    RETURN NULL;",
            "END IF;",
        ]
    )
    comment = "-- Most transactions change one target. Where it is missing, or a count would be negative: see below."
    return f"{comment}\nIF {' AND '.join(tests)} THEN\n{block(update)}\nEND IF;"


def _write(plan: Plan, section: Section) -> str:
    """Return the statements that lock the noted targets, and add what the notes sum up to or compute them afresh."""
    edge, places = section.step.edge, text_array(missed_places(plan, section.step))
    if not section.is_added:
        return apply_keys(plan, edge, *section.key.arrays, places)
    nothing = [f"NULL::{part.type}[]" for part in parts(section.step)]
    again = apply_keys(plan, edge, *section.again.arrays, *nothing, "true", places, adds=True)
    return "\n".join(
        [
            f"IF {section.again.arrays[0]} IS NOT NULL THEN",
            "    -- A full value was written meanwhile, which may hold some of it. All are locked in one order.",
            f"    PERFORM {lock_call(plan, edge.key, *section.key.arrays, 'NULL::text[]', 'false')};",
            block(again),
            "END IF;",
            apply_keys(plan, edge, *section.key.arrays, *section.arrays, "false", places, adds=True),
        ]
    )
