"""OPERATE: stop maintaining for all sessions, and go on.

A pause puts the target's name into the function that says who is paused: the target's triggers note the touched keys
for everybody. Nobody has to wait for it.

The end repairs what was noted while it still lasts, a few targets at a time: these are right until they are touched
again. When little is left, the tables are locked for a moment, the rest is repaired, and the name is taken out again.
So no difference is ever added to a value that is out of date.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from django.db import DEFAULT_DB_ALIAS, DatabaseError, OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper

from trigger_kit.database.batches import fill_all
from trigger_kit.database.catalog import Placement, find_triggers, trigger_status
from trigger_kit.database.changes import Places, tables_of
from trigger_kit.database.converge import runner
from trigger_kit.database.filling import Filling
from trigger_kit.database.installation import chosen_plans, require_postgresql
from trigger_kit.database.records import forget_record, read_records, write_record
from trigger_kit.database.table_locks import MOMENT, TRY_AGAIN, lock_statement, patiently
from trigger_kit.exceptions import TriggerKitError
from trigger_kit.maintenance.edits import edited_objects
from trigger_kit.maintenance.pause import keys_of, noted_keys
from trigger_kit.maintenance.switched import Switched, counted, each_target, read_committed
from trigger_kit.plan.plan import Plan
from trigger_kit.resolve.columns import Column
from trigger_kit.sql.compilation import compile_plan
from trigger_kit.sql.pausing import PAUSE_FUNCTION, listed_targets, noted_columns, pause_function
from trigger_kit.sql.text import advisory_number, fill_placeholders, identifier
from trigger_kit.sql.touched import NOTED_HASH, repair_block, touched_targets
from trigger_kit.sql.trigger import CompiledTrigger

__all__ = ["PAUSE", "end_pause", "pause", "pause_installed", "paused_functions", "resume", "rule_names", "since"]

# The kind of record that says who has paused a target, and when.
PAUSE = "pause"
BATCH_SIZE = 1_000
# How often the notes of a target are gone through before the tables are locked, whatever is left.
ROUNDS = 10

_LISTED = """
SELECT obj_description(oid, 'pg_proc') FROM pg_proc
WHERE proname = %s AND pronamespace = to_regnamespace(quote_ident(%s))
"""
_WHO = "SELECT session_user || ' at ' || coalesce(host(inet_client_addr()), 'a local socket'), clock_timestamp()::text"


def pause(uris: Sequence[str] = (), *, using: str = DEFAULT_DB_ALIAS, dry_run: bool = False) -> Iterator[Switched]:
    """Let the triggers of the targets of all rules, or of some, only note what they would do; for all sessions.

    All rules of a target are paused together. Stored values are out of date until ``resume``; the guard keeps them from
    being written all the while, and a new target still starts from its true value.
    """
    connection = require_postgresql(using)

    def change(plan: Plan) -> Switched:
        label = plan.model._meta.label
        if not _pausing_triggers(plan):
            return Switched(" ", label, "nothing to pause: its values are computed in the row itself")
        _require_installed(connection, plan)
        schema = Placement(connection, plan.target).schema
        names = [n for n, is_paused in paused_functions(connection, plan).items() if not is_paused]
        if not names:
            record = read_records(connection, schema, PAUSE).get(label)
            return Switched(" ", label, f"paused already{since(record)}")
        text = f"{rule_names(plan)}: {counted(len(names), 'function')} only note what they would do"
        advice = f"stored values are out of date until trigger_kit resume {label}"
        if dry_run:
            return Switched("~", label, text, advice)
        with read_committed(connection):
            _wait_for_others(connection, plan)
            _list(connection, plan, is_paused=True)
            write_record(connection, schema, label, PAUSE, _who(connection) | {"rules": plan.uris})
        return Switched("~", label, text, advice)

    return each_target(chosen_plans(uris, using), change)


def resume(uris: Sequence[str] = (), *, using: str = DEFAULT_DB_ALIAS, dry_run: bool = False) -> Iterator[Switched]:
    """End the pause of the targets of all rules, or of some, and repair what was touched meanwhile, and nothing else.

    What was noted without a pause for all, by sessions that have set ``trigger_kit.paused`` by hand, is repaired too.
    """
    connection = require_postgresql(using)

    def change(plan: Plan) -> Switched:
        label = plan.model._meta.label
        schema = Placement(connection, plan.target).schema
        is_paused = any(paused_functions(connection, plan).values())
        if not is_paused and not _noted(connection, plan, schema):
            return Switched(" ", label, "is not paused, and nothing was touched")
        if dry_run:
            noted = counted(_count(connection, plan, schema), "touched key")
            return Switched("~", label, f"{rule_names(plan)}: maintained again; {noted} to repair")
        filled, repaired = end_pause(connection, plan)
        text = f"{rule_names(plan)}: maintained again; {counted(repaired, 'touched key')} repaired"
        return Switched("~", label, text + (f", {counted(filled, 'row')} filled" if filled else ""))

    return each_target(chosen_plans(uris, using), change)


def paused_functions(connection: BaseDatabaseWrapper, plan: Plan) -> dict[str, bool]:
    """Return the installed functions of a plan that can be paused, and whether they are, for all sessions."""
    names = {trigger.name for trigger in _pausing_triggers(plan)}
    known = find_triggers(connection, names, Placement(connection, plan.target).schema)
    return {name: item.is_paused for name, item in known.items()}


def since(record: dict[str, Any] | None) -> str:
    """Return who has paused a target, and when, in words."""
    return f" since {record['at'][:19]} by {record['by']}" if record else ""


def rule_names(plan: Plan) -> str:
    """Return the names of a plan's rules in words."""
    return ", ".join(kept.resolved.rule.field for kept in plan.kept_columns)


def _pausing_triggers(plan: Plan) -> list[CompiledTrigger]:
    return [trigger for trigger in compile_plan(plan) if trigger.can_pause]


def _require_installed(connection: BaseDatabaseWrapper, plan: Plan) -> None:
    """Raise TriggerKitError where what a plan's triggers do now is not what they should do."""
    place = Placement(connection, plan.target)
    compiled = {trigger.name: trigger for trigger in compile_plan(plan)}
    known = find_triggers(connection, compiled, place.schema)
    states = {trigger_status(trigger, known.get(name)) for name, trigger in compiled.items()} - {"installed"}
    if states:
        raise TriggerKitError(
            f"triggers are {' and '.join(sorted(states))}: manage.py trigger_kit ls says which. Migrate, install or "
            "enable first."
        )
    if edited := edited_objects(connection, place, compiled, known):
        raise TriggerKitError(f"{', '.join(edited)} was changed by somebody else. Install it again.")


def _who(connection: BaseDatabaseWrapper) -> dict[str, Any]:
    with connection.cursor() as cursor:
        cursor.execute(_WHO)
        by, at = cursor.fetchone()
    return {"by": by, "at": at}


def _wait_for_others(connection: BaseDatabaseWrapper, plan: Plan) -> None:
    """Wait for whoever pauses or resumes a target of the same schema, until the end of the transaction."""
    number = advisory_number(PAUSE, Placement(connection, plan.target).schema)
    runner(connection)(f"SELECT pg_advisory_xact_lock({number})")


def _list(connection: BaseDatabaseWrapper, plan: Plan, *, is_paused: bool) -> None:
    """Let the function that says who is paused name a target, or name it no more; others wait for their turn."""
    place = Placement(connection, plan.target)
    with connection.cursor() as cursor:
        cursor.execute(_LISTED, [PAUSE_FUNCTION, place.schema])
        targets = {name for (comment,) in cursor.fetchall() for name in listed_targets(comment)} - {plan.target}
    listed = targets | ({plan.target} if is_paused else set())
    runner(connection)(fill_placeholders(pause_function(listed).create(), place))


# The end ------------------------------------------------------------------------------------------------------------


def pause_installed(connection: BaseDatabaseWrapper, plan: Plan, reason: str) -> None:
    """Pause a plan whose columns are still to be filled, in the open transaction; ``end_pause`` fills them."""
    schema = Placement(connection, plan.target).schema
    _wait_for_others(connection, plan)
    if paused_functions(connection, plan):
        _list(connection, plan, is_paused=True)
    record = _who(connection) | {"rules": plan.uris, "to_fill": True, "reason": reason}
    write_record(connection, schema, plan.model._meta.label, PAUSE, record)


def end_pause(connection: BaseDatabaseWrapper, plan: Plan) -> tuple[int, int]:
    """End a pause; return how many rows were filled that had never been right, and how many touched keys repaired.

    Raises TriggerKitError where that cannot be done now; the pause then goes on.
    """
    label, schema = plan.model._meta.label, Placement(connection, plan.target).schema
    record = read_records(connection, schema, PAUSE).get(label, {})
    try:
        changed = fill_all(connection, Filling.of(plan)).changed if record.get("to_fill") else 0
        repaired = _repair_in_rounds(connection, plan, schema)
        return changed, repaired + _finish(connection, plan, schema)
    except (DatabaseError, TriggerKitError) as error:
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise TriggerKitError(f"{reason}. It is still paused: run trigger_kit resume {label} again.") from error


def _repair_in_rounds(connection: BaseDatabaseWrapper, plan: Plan, schema: str) -> int:
    """Repair what is noted until little is left; return the number of keys."""
    repaired = 0
    for _ in range(ROUNDS):
        keys = _noted(connection, plan, schema)
        found = sum(_repair_round(connection, plan, schema, columns) for columns in keys)
        repaired += found
        if found <= BATCH_SIZE:
            break
    return repaired


def _noted(connection: BaseDatabaseWrapper, plan: Plan, schema: str) -> list[tuple[Column, ...]]:
    return keys_of(plan, noted_keys(connection, schema).get(plan.target, ()))


def _repair_round(connection: BaseDatabaseWrapper, plan: Plan, schema: str, columns: tuple[Column, ...]) -> int:
    """Repair what is noted now by some columns, in batches; those that others hold are left to the next round."""
    repaired = 0
    first = -(2**63)
    while hashes := _next_hashes(connection, schema, plan, columns, first):
        which = f"{NOTED_HASH} = ANY ('{{{{{','.join(map(str, hashes))}}}}}')"
        repaired += len(hashes) if _try_to_repair(connection, plan, columns, which) else 0
        first = hashes[-1] + 1
        if first == 2**63:
            break
    return repaired


def _next_hashes(
    connection: BaseDatabaseWrapper, schema: str, plan: Plan, columns: tuple[Column, ...], first: int
) -> list[int]:
    with connection.cursor() as cursor:
        cursor.execute(
            f'SELECT DISTINCT {NOTED_HASH} FROM {identifier(schema)}."tk_touched" AS noted '
            f"WHERE noted.target = %s AND noted.key_column = %s AND {NOTED_HASH} >= %s ORDER BY 1 LIMIT %s",
            [plan.target, noted_columns(columns), first, BATCH_SIZE],
        )
        return [row[0] for row in cursor.fetchall()]


def _try_to_repair(connection: BaseDatabaseWrapper, plan: Plan, columns: tuple[Column, ...], which: str) -> bool:
    """Repair a batch in a transaction unless others hold one of its rows; return whether it was done."""
    try:
        with read_committed(connection):
            runner(connection)(f"SELECT set_config('lock_timeout', '{MOMENT}', true)")
            _repair(connection, plan, [columns], which)
    except OperationalError as error:
        if getattr(error.__cause__, "sqlstate", "") not in TRY_AGAIN:
            raise
        return False
    return True


def _finish(connection: BaseDatabaseWrapper, plan: Plan, schema: str) -> int:
    """Repair the rest and let the functions be what they were, under the locks of all who note; return the keys."""
    triggers = _pausing_triggers(plan)
    known = find_triggers(connection, {trigger.name for trigger in triggers}, schema)
    names = [name for name, item in known.items() if item.is_paused]
    left = 0

    def finish() -> None:
        nonlocal left
        _wait_for_others(connection, plan)
        if names:
            runner(connection)(lock_statement(tables))
        if names:
            _list(connection, plan, is_paused=False)
        left = _count(connection, plan, schema)
        if left:
            _repair(connection, plan, _noted(connection, plan, schema), "true")
        forget_record(connection, schema, plan.model._meta.label, PAUSE)

    found = tables_of(Places(connection), [trigger for trigger in triggers if trigger.name in known])
    tables = sorted(found, key=found.__getitem__)
    with read_committed(connection):
        patiently(connection, finish, tables)
    return left


def _repair(connection: BaseDatabaseWrapper, plan: Plan, columns: Sequence[tuple[Column, ...]], which: str) -> None:
    place = Placement(connection, plan.target)
    parts = touched_targets(plan, columns, which)
    statements = [fill_placeholders(text, place) for text in (parts.take, parts.write)]
    runner(connection)(repair_block(parts.declarations, statements))


def _count(connection: BaseDatabaseWrapper, plan: Plan, schema: str) -> int:
    """Return how many touched keys of a target are noted."""
    if not _noted(connection, plan, schema):
        return 0
    with connection.cursor() as cursor:
        cursor.execute(
            f'SELECT count(DISTINCT (key_column, key)) FROM {identifier(schema)}."tk_touched" WHERE target = %s',
            [plan.target],
        )
        return int(cursor.fetchone()[0])
