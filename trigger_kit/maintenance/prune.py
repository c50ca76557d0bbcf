"""OPERATE: drop what trigger_kit has left in a database and no declared rule needs; nobody else's.

Ours is what carries our COMMENT: a trigger, a function, a table; and what reads stored and pending together. Only
schemas of the search_path are looked at: those of others belong to other
tenants, or other projects.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from django.apps import apps as live_apps
from django.db import DEFAULT_DB_ALIAS, DatabaseError
from django.db.backends.base.base import BaseDatabaseWrapper

from trigger_kit.database.catalog import InstalledTrigger, Placement, installed_triggers, search_path
from trigger_kit.database.converge import runner
from trigger_kit.database.installation import require_postgresql
from trigger_kit.database.table_locks import lock_tables
from trigger_kit.database.trust import require_trusted
from trigger_kit.exceptions import TriggerKitError
from trigger_kit.maintenance.status import rule_statuses
from trigger_kit.maintenance.switched import Switched, counted, read_committed
from trigger_kit.plan.plan import Plan, plan_all
from trigger_kit.resolve.declared import declared
from trigger_kit.rules import Timing
from trigger_kit.sql.compilation import compile_plan
from trigger_kit.sql.helpers import WRITES, helper_names
from trigger_kit.sql.text import CHECK_NOW, identifier, plain_name
from trigger_kit.sql.trigger import KEEPS

__all__ = ["Orphan", "orphans", "prune"]

QUEUE, FLUSH, EXACT, NOTES = "tk_pending_", "tk_flush_", "tk_exact_", "tk_deferred_"

_FUNCTIONS = """
SELECT namespace.nspname, function.proname, function.oid::regprocedure::text,
       EXISTS (SELECT FROM pg_trigger WHERE tgfoid = function.oid AND NOT tgisinternal),
       obj_description(function.oid, 'pg_proc')
FROM pg_proc AS function
JOIN pg_namespace AS namespace ON namespace.oid = function.pronamespace
WHERE namespace.nspname = ANY (%s) AND (
    starts_with(obj_description(function.oid, 'pg_proc'), %s)
    OR starts_with(obj_description(function.oid, 'pg_proc'), %s)
)
ORDER BY 1, 2
"""
_RELATIONS = r"""
SELECT namespace.nspname, class.relname, class.relkind::text
FROM pg_class AS class
JOIN pg_namespace AS namespace ON namespace.oid = class.relnamespace
WHERE namespace.nspname = ANY (%s) AND (
    class.relkind = 'v' AND class.relname ~ '^tk_exact_'
    AND pg_get_viewdef(class.oid) LIKE '%%tk\_exact\_%%()%%'
    OR class.relkind = 'r' AND class.relname ~ '^tk_(pending|deferred)_'
    AND obj_description(class.oid, 'pg_class') LIKE 'trigger_kit: %%'
)
ORDER BY 1, 2
"""


@dataclass(frozen=True)
class Orphan:
    """Something of ours that no rule needs.

    ``kind`` is ``trigger``, ``view``, ``function`` or ``table``, ``name`` what people call it, ``label`` the model
    whose rules it served, or the table of one that is gone. ``table`` is the SQL of a trigger's table, ``drops`` what
    removes it.
    """

    kind: str
    schema: str
    name: str
    label: str
    drops: tuple[str, ...]
    table: str = ""


def prune(*, using: str = DEFAULT_DB_ALIAS, dry_run: bool = False) -> Iterator[Switched]:
    """Drop what no declared rule needs, and yield what was dropped, or would be.

    What served a model whose rules are missing or outdated is left alone: a migration may be on its way, and until then
    these triggers keep the values. What is pending in a queue is folded before this is dropped.
    """
    connection = require_postgresql(using)
    unsettled = {
        status.uri.partition(":")[0] for status in rule_statuses(using) if status.status in {"missing", "outdated"}
    }
    groups: dict[tuple[str, str], list[Orphan]] = {}
    for orphan in orphans(connection):
        groups.setdefault((orphan.schema, orphan.label), []).append(orphan)
    for (schema, label), group in groups.items():
        name = label or schema
        if label in unsettled:
            text = f"{counted(len(group), 'object')} left alone: its rules are not installed as they should be"
            yield Switched(" ", name, text, "run manage.py migrate, or trigger_kit install, first")
            continue
        try:
            if not dry_run:
                _drop(connection, group)
        except (DatabaseError, TriggerKitError) as error:
            yield Switched("!", name, str(error).strip())
            continue
        foreign = _foreign_tables(connection, group)
        for orphan in group:
            advice = "no model of this project has this table: another project's?" if orphan.table in foreign else ""
            place = f" on {orphan.table}" if orphan.table else ""
            yield Switched("-", name, f"{orphan.kind} {orphan.schema}.{orphan.name}{place}", advice)


def orphans(connection: BaseDatabaseWrapper) -> list[Orphan]:
    """Return everything of ours in the search_path that no declared rule needs, in the order to drop it."""
    plans = plan_all(declared(live_apps))
    needed = {name for plan in plans for name in _needed(connection, plan)}
    here = search_path(connection)
    labels: dict[tuple[str, str], str] = {}
    functions, relations = [], []
    with connection.cursor() as cursor:
        cursor.execute(_FUNCTIONS, [here, KEEPS, WRITES])
        for schema, name, signature, has_trigger, comment in cursor.fetchall():
            labels[schema, name] = _label(comment.removeprefix(KEEPS).removeprefix(WRITES))
            if (schema, name) not in needed and not has_trigger:
                drops = (f"DROP FUNCTION {signature}",)
                functions.append(Orphan("function", schema, name, labels[schema, name], drops))
        cursor.execute(_RELATIONS, [here])
        for schema, name, kind in cursor.fetchall():
            if (schema, name) not in needed:
                relations.append(_relation(schema, name, kind, labels))
    triggers = [
        _trigger(item, _label(item.target))
        for item in installed_triggers(connection)
        if item.schema in here and (item.schema, item.name) not in needed
    ]
    views = [item for item in relations if item.kind == "view"]
    tables = [item for item in relations if item.kind == "table"]
    return [*triggers, *views, *functions, *tables]


def _label(target: str) -> str:
    """Return the label of the model that has a target's table, or the name of the table where none has it."""
    models = live_apps.get_models(include_auto_created=True)
    return next((model._meta.label for model in models if model._meta.db_table == target), target)


def _needed(connection: BaseDatabaseWrapper, plan: Plan) -> Iterator[tuple[str, str]]:
    """Yield schema and name of what a plan's rules need."""
    schema = Placement(connection, plan.target).schema
    for trigger in compile_plan(plan):
        yield schema, trigger.name
    for name in helper_names(plan):
        yield schema, name
    prefixes = [QUEUE, FLUSH, EXACT] if plan.folds(Timing.QUEUED) else []
    prefixes += [NOTES] if any(edge.is_deferred for edge in plan.edges) else []
    for prefix in prefixes:
        yield schema, plain_name(prefix, plan.target)


def _trigger(item: InstalledTrigger, label: str) -> Orphan:
    function = f"{identifier(item.schema)}.{identifier(item.name)}()"
    drops = (f"DROP TRIGGER {identifier(item.trigger)} ON {item.table}", f"DROP FUNCTION IF EXISTS {function}")
    return Orphan("trigger", item.schema, item.trigger, label, drops, item.table)


def _relation(schema: str, name: str, kind: str, labels: dict[tuple[str, str], str]) -> Orphan:
    """Return an orphaned view or table; the label of a queue, and of what reads it, is that of its flush."""
    table = f"{identifier(schema)}.{identifier(name)}"
    what = "view" if kind == "v" else "table"
    rest = name.removeprefix(QUEUE).removeprefix(EXACT)
    return Orphan(what, schema, name, labels.get((schema, FLUSH + rest), ""), (f"DROP {what.upper()} {table}",))


def _drop(connection: BaseDatabaseWrapper, group: Sequence[Orphan]) -> None:
    """Drop what served one model, under the locks of the tables that its triggers sit on."""
    run = runner(connection)
    with read_committed(connection):
        tables = sorted({orphan.table for orphan in group if orphan.table})
        if tables:
            lock_tables(connection, tables, "ACCESS EXCLUSIVE")
        for orphan in group:
            if orphan.kind == "table" and orphan.name.startswith(QUEUE):
                _fold(connection, orphan, group)
        for sql in CHECK_NOW.splitlines():
            run(sql)
        for orphan in group:
            for sql in orphan.drops:
                run(sql)


def _fold(connection: BaseDatabaseWrapper, queue: Orphan, group: Sequence[Orphan]) -> None:
    """Fold what is pending in a queue that goes, where its flush is still there."""
    name = FLUSH + queue.name.removeprefix(QUEUE)
    if any(orphan.kind == "function" and orphan.name == name for orphan in group):
        require_trusted(connection, queue.schema, name)
        runner(connection)(f"SELECT {identifier(queue.schema)}.{identifier(name)}(NULL::bigint, false)")


def _foreign_tables(connection: BaseDatabaseWrapper, group: Sequence[Orphan]) -> set[str]:
    """Return the tables of triggers that belong to no model of this project."""
    models = live_apps.get_models(include_auto_created=True, include_swapped=True)
    ours = {model._meta.db_table.rpartition('"."')[2] for model in models}
    return {orphan.table for orphan in group if orphan.table and _plain(connection, orphan.table) not in ours}


def _plain(connection: BaseDatabaseWrapper, table: str) -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT relname FROM pg_class WHERE oid = to_regclass(%s)", [table])
        row = cursor.fetchone()
    return str(row[0]) if row else table
