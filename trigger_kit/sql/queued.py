"""COMPILE the queue of a target with QUEUED rules: the table, the flush, and what reads stored and pending together.

A target's lock guards its part of the queue: whoever folds pending rows, or drops them, holds it. A flush locks targets
first, then takes all their pending rows that are committed by then: what it stores is the true value of that moment,
and never a half of it. Writers only append, and wait for nobody.
"""

from __future__ import annotations

import pgtrigger

from trigger_kit.plan.kept_columns import KeptAggregate, queued
from trigger_kit.plan.plan import Edge, Event, Plan, Step
from trigger_kit.rules import Timing
from trigger_kit.sql.additions import additions
from trigger_kit.sql.body import (
    DEPTH,
    begin,
    header,
    restore_depth,
    set_depth,
    update_head,
)
from trigger_kit.sql.changes import parts
from trigger_kit.sql.function import PLANS, Function, dollar_quotes
from trigger_kit.sql.paths import Key, among
from trigger_kit.sql.pending import key_of, pending_keys, purged_flag, queue_table, tied
from trigger_kit.sql.text import (
    CHECK_NOW,
    block,
    literal,
    object_name,
    plain_name,
    quote,
    regclass_placeholder,
    table_placeholder,
    text_literal,
)
from trigger_kit.sql.trigger import PINNED, QUEUE, Beside, CompiledTrigger, keeps, render

__all__ = ["compile_queue", "drop_queue", "undo_queue"]


def compile_queue(plan: Plan) -> list[CompiledTrigger]:
    """Compile the triggers by which pending changes go with their targets; the first brings the queue along."""
    folds = plan.folds(Timing.QUEUED)
    if not folds:
        return []
    queue = queue_table(plan.target)
    purges = "\n".join(
        f"DELETE FROM {queue} AS pending\nWHERE {_is_gone(plan, fold)}{_only(folds, fold)};" for fold in folds
    )
    purges += (
        "\n-- Rows that the database deletes along with them are reported later.\n"
        f"PERFORM set_config('{purged_flag(plan)}', 'on', true);"
    )
    return [
        _trigger(plan, "purge", pgtrigger.Delete, purges, _beside(plan, folds)),
        _trigger(plan, "emptied", pgtrigger.Truncate, f"DELETE FROM {queue};", None),
    ]


def _is_gone(plan: Plan, fold: Edge) -> str:
    """Return the condition under which what is pending had a deleted target; another row may have its key by now."""
    target, tie = table_placeholder(plan.target), tied("there", fold.key, "gone")
    gone = f"old_rows AS gone\nWHERE (SELECT true FROM {target} AS there WHERE {tie} LIMIT 1) IS NULL"
    return among(Key(fold.key).of("pending"), Key(fold.key).of("gone"), gone)


def _trigger(plan: Plan, role: str, operation: object, statements: str, beside: Beside | None) -> CompiledTrigger:
    event = "DELETE" if beside else "TRUNCATE"
    sentence = f"After {event} of {plan.target}: what was pending for its rows goes with them."
    head = header(plan, sentence, queued(plan.kept_columns))
    body = [head, begin(plan.target), block(statements), block("RETURN NULL;"), "END;"]
    return render(
        name=object_name("tk_", (plan.target, role), (plan.target, role)),
        on=plan.target,
        owner=plan.target,
        body="\n".join(body),
        when=pgtrigger.After,
        operation=operation,
        level=pgtrigger.Statement,
        referencing=pgtrigger.Referencing(old="old_rows") if beside else None,
        beside=beside,
    )


def _only(folds: tuple[Edge, ...], fold: Edge) -> str:
    """Return the condition under which a pending row has this key and no other."""
    others = {column for other in folds for column in other.key} - set(fold.key)
    return "".join(f" AND pending.{quote(column.name)} IS NULL" for column in sorted(others))


def _beside(plan: Plan, folds: tuple[Edge, ...]) -> Beside:
    flush = _flush(plan, folds)
    after = (*_by_name_only(flush), *_exact(plan), _grants(plan, folds))
    sources = dict.fromkeys(edge.source for edge in plan.edges if edge.is_queued)
    return Beside(QUEUE, (_table(plan, folds),), after, tuple(sources))


def undo_queue(table: str) -> str:
    """Return the statements that fold what is pending for a target, and drop what another version makes anew."""
    return f"{_drain(table)}\nDROP TABLE IF EXISTS {queue_table(table)};"


def drop_queue(table: str) -> str:
    """Return the statements that drop the rest of a target's queue: its view, and its functions."""
    view, flush = _name(table, "tk_exact_"), _name(table, "tk_flush_")
    return (
        f"DROP VIEW IF EXISTS {view};\n"
        f"DROP FUNCTION IF EXISTS {view}();\n"
        f"DROP FUNCTION IF EXISTS {flush}(bigint, boolean);"
    )


def _name(table: str, prefix: str) -> str:
    return f"{{:schema}}.{quote(plain_name(prefix, table))}"


# The table ----------------------------------------------------------------------------------------------------------


def _table(plan: Plan, folds: tuple[Edge, ...]) -> str:
    queue = queue_table(plan.target)
    columns = pending_keys(plan, [fold.key for fold in folds])
    columns += [f"{part.name} {part.type}" for fold in folds for part in parts(Step(fold, Event.UPDATE))]
    flush = plain_name("tk_flush_", plan.target)
    comment = f"trigger_kit: changes that wait to be added to {plan.target}, by SELECT {flush}()"
    return "\n".join(
        [
            f"CREATE TABLE {queue} (\n{block((',' + chr(10)).join(columns))}\n);",
            *(f"CREATE INDEX ON {queue} ({', '.join(quote(c.name) for c in fold.key)});" for fold in folds),
            f"ALTER TABLE {queue} REPLICA IDENTITY FULL;",
            f"COMMENT ON TABLE {queue} IS {text_literal(comment)};",
        ]
    )


def _drain(table: str) -> str:
    """Return the statements that fold everything, where there is a queue; it may be one of an older version."""
    name = literal(plain_name("tk_pending_", table))
    exists = (
        "SELECT FROM pg_class AS queue JOIN pg_class AS target ON target.relnamespace = queue.relnamespace\n"
        f"WHERE queue.relname = {name} AND target.oid = {regclass_placeholder(table)}"
    )
    # By the types of its arguments: who may create functions in this schema could make one without any.
    flush = f"    PERFORM {_name(table, 'tk_flush_')}(NULL::bigint, false);"
    body = f"BEGIN\n    IF EXISTS (\n{block(exists, 2)}\n    ) THEN\n    {flush}\n    END IF;\nEND;"
    quotes = dollar_quotes(body)
    return f"DO {quotes}\n{body}\n{quotes};\n{CHECK_NOW}"


# The flush ----------------------------------------------------------------------------------------------------------


def _flush(plan: Plan, folds: tuple[Edge, ...]) -> Function:
    """Return the function that folds what is pending."""
    sentence = (
        f"Fold what is pending for {plan.target}: all of it, or all for the targets of so many pending rows. Targets "
        "that others have locked are waited for or left out. Returns how many pending rows it took."
    )
    declarations = [DEPTH, "tk_taken bigint := 0;", "tk_rows bigint;"]
    declarations += [line for fold in folds for line in Key(fold.key, _word(folds, fold)).declarations()]
    body = "\n".join(
        [
            header(plan, sentence, queued(plan.kept_columns)),
            "DECLARE",
            block("\n".join(declarations)),
            "BEGIN",
            "    -- What is written below, before anything is locked or read: a migration would wait for both.",
            f"    LOCK TABLE {table_placeholder(plan.target)} IN ROW EXCLUSIVE MODE;",
            *(block(_fold(plan, folds, fold)) for fold in folds),
            "    RETURN tk_taken;",
            "END;",
        ]
    )
    arguments = (("batch", "bigint DEFAULT NULL"), ("skip_locked", "boolean DEFAULT false"))
    name, settings = plain_name("tk_flush_", plan.target), (*PINNED, *PLANS)
    return Function(name, body, arguments, "bigint", settings, is_definer=True, comment=keeps(plan.target))


def _by_name_only(function: Function) -> tuple[str | Function, ...]:
    """Return what creates a function that people call, or replaces it, for its owner and by name only.

    Who was granted it by name keeps it; PUBLIC does not, nor does whom ALTER DEFAULT PRIVILEGES gives a new one to.
    """
    name = f"$tk_name${function.signature}$tk_name$"
    body = "\n".join(
        [
            "DECLARE",
            "    tk_role text;",
            "BEGIN",
            "    FOR tk_role IN",
            "        SELECT CASE WHEN acl.grantee = 0 THEN 'PUBLIC' ELSE acl.grantee::regrole::text END",
            "        FROM pg_proc AS function",
            "        CROSS JOIN aclexplode(coalesce(function.proacl, acldefault('f', function.proowner))) AS acl",
            f"        WHERE function.oid = {name}::regprocedure AND acl.grantee <> function.proowner",
            "          AND (acl.grantee = 0 OR current_setting('trigger_kit.is_new') = 'true')",
            "    LOOP",
            f"        EXECUTE $tk_role$REVOKE ALL ON FUNCTION {function.signature} FROM $tk_role$ || tk_role;",
            "    END LOOP;",
            "END;",
        ]
    )
    quotes = dollar_quotes(body)
    is_new = f"SELECT set_config('trigger_kit.is_new', (to_regprocedure({name}) IS NULL)::text, true);"
    return is_new, function, f"DO {quotes}\n{body}\n{quotes};"


def _word(folds: tuple[Edge, ...], fold: Edge) -> str:
    return "tk_key" if len(folds) == 1 else f"tk_{1 + folds.index(fold)}_key"


def _fold(plan: Plan, folds: tuple[Edge, ...], fold: Edge) -> str:
    """Return the statements that fold the pending rows of one key."""
    key = Key(fold.key, _word(folds, fold))
    return "\n".join(
        [
            "-- The lock of a target guards its pending rows: what is taken below is all that is committed by then.",
            "IF skip_locked THEN",
            block(_lock(plan, folds, fold, key, "FOR NO KEY UPDATE SKIP LOCKED")),
            "ELSE",
            block(_lock(plan, folds, fold, key, "FOR NO KEY UPDATE")),
            "END IF;",
            f"IF {key.arrays[0]} IS NOT NULL THEN",
            block("\n".join([set_depth(), _write(plan, folds, fold, key), restore_depth()])),
            "    tk_taken := tk_taken + tk_rows;",
            "END IF;",
        ]
    )


def _lock(plan: Plan, folds: tuple[Edge, ...], fold: Edge, key: Key, strength: str) -> str:
    order = ", ".join(f"target.{quote(name)}" for name in plan.key_columns)
    columns = [f"{column} AS {name}" for column, name in zip(key.of("target"), key.names, strict=True)]
    table = table_placeholder(plan.target)
    pending = (
        f"{queue_table(plan.target)} AS pending\n"
        f"WHERE (SELECT true FROM {table} AS there WHERE {tied('there', fold.key, 'pending')} LIMIT 1)"
        f"{_only(folds, fold)}\nLIMIT batch"
    )
    select = "\n".join(
        [
            f"SELECT {', '.join(columns)}",
            f"FROM {table} AS target",
            f"WHERE {among(key.of('target'), key.of('pending'), pending)}",
            f"ORDER BY {order}",
            strength,
        ]
    )
    collected = ", ".join(f"array_agg(locked.{name})" for name in key.names)
    return f"SELECT {collected}\nINTO {', '.join(key.arrays)}\nFROM (\n{block(select)}\n) AS locked;"


def _write(plan: Plan, folds: tuple[Edge, ...], fold: Edge, key: Key) -> str:
    step = Step(fold, Event.UPDATE)
    names = [part.name for part in parts(step)]
    sums = [f"coalesce(sum(taken.{part.name}), 0)::{part.type} AS {part.name}" for part in parts(step)]
    columns = [f"taken.{quote(column.name)}" for column in fold.key]
    named = [f"{column} AS {name}" for column, name in zip(columns, key.names, strict=True)]
    differs = "\n    OR ".join(f"change.{name} <> 0" for name in names)
    update = "\n".join(
        [
            update_head(plan.target, step.kept_columns),
            f"SET\n{block((',' + chr(10)).join(additions(step, 'change.{}'.format)))}",
            "FROM change",
            f"WHERE {key.matches('target', 'change')}",
            f"  AND ({differs})",
        ]
    )
    return "\n".join(
        [
            "WITH taken AS (",
            f"    DELETE FROM {queue_table(plan.target)} AS pending",
            f"    WHERE {key.is_among('pending')}{_only(folds, fold)}",
            "    RETURNING pending.*",
            "), change AS (",
            f"    SELECT\n{block((',' + chr(10)).join([*named, *sums, 'count(*) AS tk_rows']), 2)}",
            "    FROM taken",
            f"    GROUP BY {', '.join(columns)}",
            "), written AS (",
            block(update),
            ")",
            "SELECT coalesce(sum(change.tk_rows), 0) INTO tk_rows FROM change;",
        ]
    )


# Reading ------------------------------------------------------------------------------------------------------------


def _exact(plan: Plan) -> tuple[str | Function, ...]:
    """Return a view of the true values. It reads a function, whose text binds no column: those can still be altered.

    Both stay where they have the same columns as before, with what others have built on them.
    """
    name = _name(plan.target, "tk_exact_")
    returned = [f"{quote(column.name)} {column.type}" for column in plan.key]
    selected = [f"target.{quote(column.name)}" for column in plan.key]
    for kept in queued(plan.kept_columns):
        column = kept.resolved.column
        returned.append(f"{quote(column.name)} {column.type}")
        selected.append(f"({_with_pending(kept)})::{column.type}")
    select = f"SELECT\n{block((',' + chr(10)).join(selected))}\nFROM {table_placeholder(plan.target)} AS target"
    result = f"TABLE({', '.join(returned)})"
    known = (
        "SELECT FROM pg_proc AS function JOIN pg_class AS target ON target.relnamespace = function.pronamespace\n"
        f"WHERE function.proname = {literal(plain_name('tk_exact_', plan.target))}\n"
        f"  AND target.oid = {regclass_placeholder(plan.target)}\n"
        f"  AND replace(pg_get_function_result(function.oid), '\"', '') <> {text_literal(result.replace(chr(34), ''))}"
    )
    drops = f"DROP VIEW IF EXISTS {name};\nDROP FUNCTION {name}();"
    test = f"BEGIN\n    IF EXISTS (\n{block(known, 2)}\n    ) THEN\n{block(drops, 2)}\n    END IF;\nEND;"
    outer = dollar_quotes(test)
    function = Function(
        plain_name("tk_exact_", plan.target),
        select,
        returns=result,
        language="sql",
        volatility="STABLE",
        comment=keeps(plan.target),
    )
    return (
        f"DO {outer}\n{test}\n{outer};",
        *_by_name_only(function),
        f"CREATE OR REPLACE VIEW {name} AS SELECT * FROM {name}();",
    )


def _with_pending(kept: KeptAggregate) -> str:
    """Return what is stored and what is pending together, for one row of the target."""
    column, key = quote(kept.column), key_of(kept)
    queue = queue_table(kept.resolved.column.table)
    select = f"SELECT sum(pending.{column}) FROM {queue} AS pending\nWHERE {tied('pending', key, 'target')}"
    return f"target.{column} + coalesce((\n{block(select)}\n), 0)"


def _grants(plan: Plan, folds: tuple[Edge, ...]) -> str:
    """Return the statement that lets those who may read the kept columns read what is pending for them, too."""
    target = regclass_placeholder(plan.target)
    pending = [kept.column for kept in queued(plan.kept_columns)]
    columns = dict.fromkeys([*plan.key_columns, *(c.name for fold in folds for c in fold.key), *pending])
    may_read = "\n  AND ".join(
        f"has_column_privilege(acl.grantee, {target}, {text_literal(column)}, 'SELECT')" for column in columns
    )
    reading = _name(plan.target, "tk_exact_")
    readable = f"{queue_table(plan.target)}, {reading}"
    body = "\n".join(
        [
            "DECLARE",
            "    tk_reader text;",
            "BEGIN",
            "    FOR tk_reader IN",
            "        SELECT DISTINCT CASE WHEN acl.grantee = 0 THEN 'PUBLIC' ELSE acl.grantee::regrole::text END",
            "        FROM (",
            f"            SELECT relacl FROM pg_class WHERE oid = {target}",
            f"            UNION ALL SELECT attacl FROM pg_attribute WHERE attrelid = {target}",
            "        ) AS given (rights) CROSS JOIN aclexplode(given.rights) AS acl",
            f"        WHERE {may_read.replace(chr(10), chr(10) + ' ' * 8)}",
            "    LOOP",
            f"        EXECUTE $grant$GRANT SELECT ON {readable} TO $grant$ || tk_reader;",
            f"        EXECUTE $grant$GRANT EXECUTE ON FUNCTION {reading}() TO $grant$ || tk_reader;",
            "    END LOOP;",
            "END;",
        ]
    )
    quotes = dollar_quotes(body)
    return f"DO {quotes}\n{body}\n{quotes};"
