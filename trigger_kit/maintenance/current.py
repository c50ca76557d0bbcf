"""OPERATE: whether a database has exactly what the rules want, by a record of the last time that this was seen.

Most runs of ``migrate`` find nothing to do, and so do its checks. To see it by compiling the rules takes as long as all
that Django does. So the run that has seen it writes two digests down, in the COMMENT of ``tk_commit()``: of all that
the triggers follow from (rules, the models that they read, routers, versions), and of our triggers and functions as the
catalog has them. As long as both are the same, nothing is compiled.

What no digest can tell is never known: expressions of a project's own, whose SQL is in its code, and triggers in more
than one schema.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import django
from django.apps import apps as live_apps
from django.conf import settings
from django.db import router
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.state import ProjectState
from django.db.models import Field

from trigger_kit.database.trust import foreign_objects
from trigger_kit.migration.rendering import Reading, reading
from trigger_kit.migration.states import ModelKey, StateRule, all_rules
from trigger_kit.notation import parts
from trigger_kit.sql.text import identifier, literal
from trigger_kit.sql.trigger import TEMPLATE_VERSION
from trigger_kit.version import VERSION

__all__ = ["Digests", "is_current", "live_state", "seen", "write_down"]

# Modules whose expressions say by their names and arguments what their SQL is, beside these versions.
KNOWN = ("builtins.", "datetime.", "decimal.", "django.", "trigger_kit.", "uuid.")

# Every trigger and function of ours, as text, owners and rights to create included; and whether they are in the first
# schema of the search path.
_CATALOG = r"""
WITH objects AS (
    SELECT function.pronamespace AS schema,
           concat_ws(' ', 'trigger', trigger.tgrelid::regclass, trigger.tgname, trigger.tgenabled, trigger.tgtype,
                     trigger.tgqual IS NOT NULL, trigger.tgfoid::regproc, class.relowner,
                     obj_description(trigger.oid, 'pg_trigger')) AS text
    FROM pg_trigger AS trigger
    JOIN pg_proc AS function ON function.oid = trigger.tgfoid
    JOIN pg_class AS class ON class.oid = trigger.tgrelid
    WHERE trigger.tgname ~ '^~?tk_' AND NOT trigger.tgisinternal AND trigger.tgparentid = 0
    UNION ALL
    SELECT pronamespace,
           concat_ws(' ', 'function', oid::regprocedure, proowner, proacl, prosecdef, proconfig, prosrc)
    FROM pg_proc
    WHERE proname ~ '^~?tk_'
)
SELECT encode(sha256(convert_to(string_agg(text, E'\n' ORDER BY text COLLATE "C"), 'UTF8')), 'hex')
           || ' ' || array_to_string(current_schemas(false), ',') || ' ' || (
               SELECT md5(string_agg(concat_ws(' ', nspname, nspowner, nspacl), ',' ORDER BY nspname))
               FROM pg_namespace WHERE nspname = ANY (current_schemas(false))
           ),
       coalesce(bool_and(schema = to_regnamespace(quote_ident(current_schema()))), false),
       current_schema()
FROM objects
"""


@dataclass(frozen=True)
class Digests:
    """What the triggers of a database follow from, and what the catalog shows of them; ``schema`` is where they are."""

    wanted: str
    found: str
    schema: str

    @property
    def comment(self) -> str:
        """What is written down."""
        return f"trigger_kit: seen to be what rules want: {self.wanted} {self.found}"


def live_state() -> ProjectState:
    """Return a state in which every model is as it is today."""
    return ProjectState(real_apps={config.label for config in live_apps.get_app_configs()})


def is_current(connection: BaseDatabaseWrapper, state: ProjectState) -> bool:
    """Whether a database was seen to have what the rules of a state want, and nothing has changed since."""
    found = seen(connection, state)
    if found is None:
        return False
    schema = identifier(found.schema)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT obj_description(to_regprocedure(%s), 'pg_proc'), to_regclass(%s), to_regclass(%s)",
            [f"{schema}.tk_commit()", f"{schema}.tk_state", f"{schema}.tk_touched"],
        )
        comment, *tables = cursor.fetchone()
        if comment != found.comment or None in tables:
            return False
        if foreign_objects(connection, found.schema, ("tk_state", "tk_touched")):
            return False
        # What is paused, is being filled or waits for a repair is not current.
        cursor.execute(
            f"SELECT EXISTS (SELECT FROM {schema}.tk_touched)"
            f" OR EXISTS (SELECT FROM {schema}.tk_state WHERE kind <> 'verified')",
            None,
        )
        return not cursor.fetchone()[0]


def write_down(connection: BaseDatabaseWrapper, found: Digests) -> None:
    """Write down that a database has what is wanted, where this role may: others have to look again.

    In a COMMENT: a row would be in the way of one that comes by replication, or by a restore of rows alone.
    """
    function = f"{identifier(found.schema)}.tk_commit()"
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_has_role(proowner, 'USAGE') FROM pg_proc WHERE oid = to_regprocedure(%s)", [function])
        if cursor.fetchone() == (True,):
            cursor.execute(f"COMMENT ON FUNCTION {function} IS {literal(found.comment)}", None)


def seen(connection: BaseDatabaseWrapper, state: ProjectState) -> Digests | None:
    """Return the digests of a state and a database, or None where they would not tell enough."""
    if connection.vendor != "postgresql":
        return None
    rules = all_rules(state)
    if not all(item.is_filled and not item.is_lost and _is_known(item) for items in rules.values() for item in items):
        return None
    with connection.cursor() as cursor:
        cursor.execute(_CATALOG, None)
        found, is_here, schema = cursor.fetchone()
    return Digests(_wanted(connection, rules, reading(state, rules=rules)), found, schema) if is_here else None


def _is_known(item: StateRule) -> bool:
    written = parts(item.rule.expression)
    return all(f"{type(part).__module__}.".startswith(KNOWN) or isinstance(part, (Enum, Field)) for part in written)


def _wanted(connection: BaseDatabaseWrapper, rules: Mapping[ModelKey, Iterable[StateRule]], read: Reading) -> str:
    """Return the digest of all that decides what is compiled for a database."""
    written = [[*key, *sorted(item.written for item in items)] for key, items in sorted(rules.items())]
    crossed = sorted({repr(relation) for items in rules.values() for item in items for relation in item.relations})
    homes = [[*key, _may_be_in(connection, key)] for key in sorted(read.models)]
    versions = [VERSION, TEMPLATE_VERSION, django.get_version(), settings.TIME_ZONE, settings.USE_TZ]
    text = json.dumps([versions, written, crossed, homes, read.text])
    return hashlib.sha256(text.encode()).hexdigest()


def _may_be_in(connection: BaseDatabaseWrapper, key: ModelKey) -> Any:
    """Return what the routers say of a model that there is today."""
    try:
        model = live_apps.get_model(*key)
    except LookupError:
        return None
    return router.allow_migrate_model(connection.alias, model)
