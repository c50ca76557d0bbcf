"""OPERATE: whether triggers and functions of ours are what was installed, whatever their COMMENT says.

The digest in the COMMENT says which text a trigger was made from. Somebody may have replaced the function since, or
made the trigger anew, and kept the COMMENT.
"""

from __future__ import annotations

from collections.abc import Mapping

from django.db.backends.base.base import BaseDatabaseWrapper

from trigger_kit.database.catalog import InstalledTrigger, Placement
from trigger_kit.sql.pausing import PAUSE_FUNCTION, listed_targets, pause_function
from trigger_kit.sql.shared import SHARED_FUNCTIONS
from trigger_kit.sql.text import fill_placeholders
from trigger_kit.sql.trigger import CompiledTrigger

__all__ = ["edited_objects"]

_FUNCTIONS = """
SELECT proname, prosrc, prosecdef AND coalesce('row_security=off' = ANY (proconfig), false)
FROM pg_proc WHERE pronamespace = to_regnamespace(quote_ident(%s)) AND proname = ANY (%s)
"""
_TRIGGERS = """
SELECT trigger.tgname, trigger.tgtype, trigger.tgqual IS NOT NULL
FROM pg_trigger AS trigger JOIN pg_proc AS function ON function.oid = trigger.tgfoid
WHERE function.pronamespace = to_regnamespace(quote_ident(%s)) AND trigger.tgname = ANY (%s)
  AND trigger.tgparentid = 0
"""
_PAUSE = """
SELECT prosrc, obj_description(oid, 'pg_proc')
FROM pg_proc WHERE pronamespace = to_regnamespace(quote_ident(%s)) AND proname = %s
"""


def edited_objects(
    connection: BaseDatabaseWrapper,
    place: Placement,
    compiled: Mapping[str, CompiledTrigger],
    known: Mapping[str, InstalledTrigger],
) -> list[str]:
    """Return the names of functions and triggers that are not as the text of their digest makes them.

    ``compiled`` are a plan's triggers, ``known`` those that are installed, both by name.
    """
    current = {name: compiled[name] for name, found in known.items() if found.is_made_from(compiled[name])}
    functions_of = [function for trigger in current.values() for function in trigger.functions]
    expected = {
        function.name: (fill_placeholders(function.source, place), function.is_definer)
        for function in (*functions_of, *(SHARED_FUNCTIONS if current else ()))
    }
    made = {trigger.placed_name(place): (trigger.kind, trigger.has_condition) for trigger in current.values()}
    with connection.cursor() as cursor:
        cursor.execute(_FUNCTIONS, [place.schema, list(expected)])
        functions = {name: (body, rights) for name, body, rights in cursor.fetchall()}
        cursor.execute(_TRIGGERS, [place.schema, [known[name].trigger for name in current]])
        triggers = {name: (bits, has_when) for name, bits, has_when in cursor.fetchall()}
        cursor.execute(_PAUSE, [place.schema, PAUSE_FUNCTION])
        pauses = [
            body == fill_placeholders(pause_function(listed_targets(comment)).source, place)
            for body, comment in cursor.fetchall()
        ]
    names = [] if pauses == [True] or not current else [f"function {PAUSE_FUNCTION}"]
    names += [f"function {name}" for name, text in expected.items() if functions.get(name) != text]
    return names + [f"trigger {name}" for name, kind in made.items() if triggers.get(name) != kind]
