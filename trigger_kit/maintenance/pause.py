"""OPERATE: stop maintaining in one transaction, for a bulk load, and repair what it has touched."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from django.db import DEFAULT_DB_ALIAS, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from trigger_kit.database.catalog import Placement
from trigger_kit.database.converge import runner
from trigger_kit.database.installation import require_postgresql
from trigger_kit.database.trust import require_trusted
from trigger_kit.exceptions import TriggerKitError
from trigger_kit.plan.live import live_plans
from trigger_kit.plan.plan import Plan
from trigger_kit.resolve.columns import Column
from trigger_kit.sql.pausing import noted_columns
from trigger_kit.sql.text import fill_placeholders, identifier
from trigger_kit.sql.touched import OWN_NOTES, repair_block, touched_targets

__all__ = ["keys_of", "noted_keys", "paused", "repair_statement", "repair_touched"]


@contextmanager
def paused(using: str = DEFAULT_DB_ALIAS) -> Iterator[None]:
    """Stop maintaining in this transaction, for a bulk load; on leaving, repair what was touched.

    Opens a transaction, or a savepoint where one is open. Inside, the triggers only note the touched keys, and stored
    values are out of date; other connections see nothing of it. Of several blocks, one in the other, the outermost
    repairs. Where the transaction fails, the notes go with what was written.

    The role needs the right to write the targets, and to read and empty ``tk_touched``.

    Raises TriggerKitError at once where it must not do the latter.
    """
    connection = require_postgresql(using)
    with transaction.atomic(using=using):
        if _is_paused(connection):
            yield
            return
        _require_rights(connection)
        run = runner(connection)
        run("SELECT set_config('trigger_kit.paused', 'on', true)")
        yield
        if connection.needs_rollback:
            return
        run("SELECT set_config('trigger_kit.paused', '', true)")
        repair_touched(live_plans(using), connection)


def _is_paused(connection: BaseDatabaseWrapper) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('trigger_kit.paused', true) = 'on'")
        (answer,) = cursor.fetchone()
    return answer is True


_FORBIDDEN = """
SELECT class.oid::regclass::text
FROM pg_class AS class JOIN pg_namespace AS namespace ON namespace.oid = class.relnamespace
WHERE class.relname = 'tk_touched' AND namespace.nspname = ANY (current_schemas(false))
  AND NOT (has_table_privilege(class.oid, 'SELECT') AND has_table_privilege(class.oid, 'DELETE'))
"""


def _require_rights(connection: BaseDatabaseWrapper) -> None:
    """Raise TriggerKitError where the end of a pause could not take its notes: better now than after a long load."""
    with connection.cursor() as cursor:
        cursor.execute(_FORBIDDEN)
        row = cursor.fetchone()
    if row is not None:
        raise TriggerKitError(
            f"This role may not read and empty {row[0]}, so that the end of a pause could not repair anything. GRANT "
            f"SELECT, DELETE ON {row[0]} to it, and UPDATE on the models whose rules read what it writes."
        )


def repair_touched(plans: Sequence[Plan], connection: BaseDatabaseWrapper) -> None:
    """Recompute the targets of plans, in rank order, that this transaction has touched while it was paused.

    All of them are locked first, sources before what is computed from them, as everybody does. They are written the
    other way round, so that a target is right before its sources send it differences.

    Raises TriggerKitError where something was touched that none of these rules keeps.
    """
    found = _plans_by_notes(plans, connection)
    if found:
        runner(connection)(repair_statement(found, connection))


def repair_statement(
    found: Iterable[tuple[Plan, Sequence[tuple[Column, ...]]]], connection: BaseDatabaseWrapper
) -> str:
    """Return the statement that repairs what this transaction has touched, of plans by some of their keys."""
    declarations: list[str] = []
    takes: list[str] = []
    writes: list[str] = []
    for number, (plan, keys) in enumerate(found, 1):
        place = Placement(connection, plan.target)
        parts = touched_targets(plan, keys, OWN_NOTES, number)
        declarations.append(parts.declarations)
        takes.append(fill_placeholders(parts.take, place))
        writes.insert(0, fill_placeholders(parts.write, place))
    return repair_block("\n".join(declarations), [*takes, *writes])


def _plans_by_notes(
    plans: Sequence[Plan], connection: BaseDatabaseWrapper
) -> list[tuple[Plan, list[tuple[Column, ...]]]]:
    """Return the plans that this transaction has notes of, with the columns that these go by."""
    schemas = defaultdict(list)
    for plan in plans:
        schemas[Placement(connection, plan.target).schema].append(plan)
    found = []
    for schema, group in schemas.items():
        noted = noted_keys(connection, schema, OWN_NOTES)
        for plan in group:
            keys = keys_of(plan, noted.pop(plan.target, ()))
            found += [(plan, keys)] if keys else []
        if noted:
            raise TriggerKitError(
                f"{', '.join(noted)} were touched during a pause, but the rules of these models are not known here. "
                "Run the code that the triggers were installed by."
            )
    return [item for plan in plans for item in found if item[0] is plan]


def keys_of(plan: Plan, noted: Iterable[str]) -> list[tuple[Column, ...]]:
    """Return the keys of a plan that notes go by, by their names there.

    Raises TriggerKitError where one is not a key of the plan.
    """
    keys = {noted_columns(edge.key): edge.key for edge in plan.edges}
    if unknown := sorted(set(noted) - set(keys)):
        raise TriggerKitError(
            f"{plan.model._meta.label} was touched during a pause by {', '.join(unknown)}, by which none of its rules "
            "finds it any more. Run the code that the triggers were installed by."
        )
    return [keys[name] for name in sorted(noted)]


def noted_keys(connection: BaseDatabaseWrapper, schema: str, which: str = "true") -> dict[str, list[str]]:
    """Return by which columns targets were noted as touched; ``which`` is a condition on the alias ``noted``."""
    table = f'{identifier(schema)}."tk_touched"'
    found: dict[str, list[str]] = {}
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass(%s)", [table])
        if cursor.fetchone() == (None,):
            return found
        require_trusted(connection, schema, "tk_touched")
        cursor.execute(f"SELECT DISTINCT target, key_column FROM {table} AS noted WHERE {which} ORDER BY 1, 2", None)
        for target, columns in cursor.fetchall():
            found.setdefault(target, []).append(columns)
    return found
