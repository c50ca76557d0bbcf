"""OPERATE: whether triggers and functions of ours are what was installed, whatever their COMMENT says.

The digest in the COMMENT says which text a trigger was made from. Somebody may have replaced the function since, or
made the trigger anew, and kept the COMMENT.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from django.db.backends.base.base import BaseDatabaseWrapper

from trigger_kit.database.catalog import InstalledTrigger, Placement
from trigger_kit.sql.pausing import PAUSE_FUNCTION, listed_targets, pause_body
from trigger_kit.sql.trigger import CompiledTrigger

__all__ = ["edited_objects"]

_FUNCTION = re.compile(
    r'^CREATE OR REPLACE FUNCTION (?:"(?:[^"]|"")+"\.)?"(?P<name>(?:[^"]|"")+)"\((?P<options>.*?)\n'
    r"AS (?P<quote>\$\w+\$)(?P<body>.*?)(?P=quote)",
    re.DOTALL | re.MULTILINE,
)
_TRIGGER = re.compile(
    r'^CREATE (?:OR REPLACE|CONSTRAINT) TRIGGER "(?P<name>(?:[^"]|"")+)"\n'
    r"    (?P<when>BEFORE|AFTER) (?P<events>[A-Z]+(?: OR [A-Z]+)*) ON .*?"
    r"    FOR EACH (?P<level>ROW|STATEMENT)\n    (?P<next>WHEN|EXECUTE)",
    re.DOTALL | re.MULTILINE,
)
# Bits of pg_trigger.tgtype.
_BITS = {"ROW": 1, "BEFORE": 2, "INSERT": 4, "DELETE": 8, "UPDATE": 16, "TRUNCATE": 32}

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


@dataclass
class Expected:
    """What compiled texts make, by name: functions with body and rights, triggers with level, events and WHEN."""

    functions: dict[str, tuple[str, bool]]
    triggers: dict[str, tuple[int, bool]]

    @classmethod
    def of(cls, texts: Iterable[str]) -> Expected:
        """Read what texts make, their placeholders filled."""
        functions, triggers = {}, {}
        for text in texts:
            for found in _FUNCTION.finditer(text):
                functions[_plain(found["name"])] = (found["body"], "SECURITY DEFINER" in found["options"])
            for found in _TRIGGER.finditer(text):
                bits = sum(_BITS.get(word, 0) for word in (found["level"], found["when"], *found["events"].split()))
                triggers[_plain(found["name"])] = (bits, found["next"] == "WHEN")
        return cls(functions, triggers)


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
    expected = Expected.of(trigger.render_text(place) for trigger in current.values())
    with connection.cursor() as cursor:
        cursor.execute(_FUNCTIONS, [place.schema, list(expected.functions)])
        functions = {name: (body, rights) for name, body, rights in cursor.fetchall()}
        cursor.execute(_TRIGGERS, [place.schema, [known[name].trigger for name in current]])
        triggers = {name: (bits, has_when) for name, bits, has_when in cursor.fetchall()}
        cursor.execute(_PAUSE, [place.schema, PAUSE_FUNCTION])
        pauses = [body == pause_body(listed_targets(comment)) for body, comment in cursor.fetchall()]
    names = [] if pauses == [True] or not current else [f"function {PAUSE_FUNCTION}"]
    names += [f"function {name}" for name, made in expected.functions.items() if functions.get(name) != made]
    return names + [f"trigger {name}" for name, made in expected.triggers.items() if triggers.get(name) != made]


def _plain(name: str) -> str:
    return name.replace('""', '"')
