"""The template: a trigger's function and its DDL, as one text, and the COMMENT that says whose it is.

A change of the template's output is a new TEMPLATE_VERSION: the next ``migrate`` brings installed triggers over.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property

import pgtrigger

from trigger_kit.sql.function import Function
from trigger_kit.sql.text import (
    SCHEMA,
    SCHEMA_TAG,
    TRIGGER,
    digest,
    fill_placeholders,
    identifier,
    literal,
    quote,
    table_placeholder,
    with_tag,
)

__all__ = [
    "GUARD",
    "KEEPS",
    "NOTES",
    "PINNED",
    "QUEUE",
    "TEMPLATE_VERSION",
    "Beside",
    "Comment",
    "CompiledTrigger",
    "keeps",
    "render",
]

TEMPLATE_VERSION = 1

TEMPLATE = """\
{create} {{:trigger}}
    {when} {operation} ON {table}
{clauses}    EXECUTE FUNCTION {{:schema}}.{name}();"""

CREATE = "CREATE OR REPLACE TRIGGER"
CREATE_CONSTRAINT = """\
DROP TRIGGER IF EXISTS {{:trigger}} ON {table};

CREATE CONSTRAINT TRIGGER"""

# What every trigger function sets: it runs as its owner, and rows that a policy hides from him are an error.
PINNED = ("search_path = {:search_path}", "row_security = off")
# Bits of pg_trigger.tgtype.
_BITS = {"ROW": 1, "BEFORE": 2, "INSERT": 4, "DELETE": 8, "UPDATE": 16, "TRUNCATE": 32}

# What the COMMENT of a function begins with; the target's table follows.
KEEPS = "trigger_kit: keeps "

# What a trigger is to its target: the guard's COMMENT has the values, and two kinds bring more along than a function.
GUARD, QUEUE, NOTES = "guard", "queue", "notes"

_PREFIX = "trigger_kit "


@dataclass(frozen=True)
class Comment:
    """The COMMENT of an installed trigger.

    ``version`` is that of the template, ``target`` the ``db_table`` that the trigger serves, ``text`` the digest of
    what it was made from, ``role`` one of GUARD, QUEUE, NOTES, or empty. ``values`` has, for each field that the target
    keeps, the digest of the meaning that its rows were filled with; it is empty while they are not filled. Only the
    guard has them.
    """

    version: int
    target: str
    text: str
    role: str = ""
    values: Mapping[str, str] = field(default_factory=dict)

    def write(self) -> str:
        """Return the COMMENT; values come in the order of their names, whatever order history has them in."""
        parts = {"version": self.version, "target": self.target, "text": self.text}
        parts |= {"role": self.role} if self.role else {}
        parts |= {"values": dict(sorted(self.values.items()))} if self.values else {}
        return _PREFIX + json.dumps(parts, ensure_ascii=False)

    @classmethod
    def read(cls, text: str | None) -> Comment | None:
        """Return what a COMMENT says, or None where it is not one of ours.

        A newer version may say more: what this one does not know is passed over, or it would take them for nobody's.
        """
        if not text or not text.startswith(_PREFIX):
            return None
        known = {item.name for item in fields(cls)}
        try:
            return cls(
                **{name: value for name, value in json.loads(text.removeprefix(_PREFIX)).items() if name in known}
            )
        except (AttributeError, TypeError, ValueError):
            return None


@dataclass(frozen=True)
class Beside:
    """What a trigger's text makes before and after it: functions, a queue or a table of notes, and what goes with that.

    ``role`` says which; ``sources`` are the tables whose writers use it.
    """

    role: str
    before: tuple[str | Function, ...]
    after: tuple[str | Function, ...]
    sources: tuple[str, ...]

    @property
    def functions(self) -> tuple[Function, ...]:
        """The functions among them."""
        return tuple(item for item in (*self.before, *self.after) if isinstance(item, Function))


@dataclass(frozen=True)
class CompiledTrigger:
    """A trigger and its function as text in which tables stand as placeholders.

    ``name`` is the name of both, ``on`` the ``db_table`` that the trigger sits on, ``owner`` the ``db_table`` of the
    target that it serves, whose schema the function is created in. ``role`` is what it is to its target; ``sources``
    are the tables whose writers use what the text makes beside the trigger. ``can_pause`` says that it only notes what
    it would do where the target is paused. ``functions`` are all that the text makes, ``kind`` what ``pg_trigger``
    calls ``tgtype``, ``has_condition`` whether it has a WHEN.
    """

    name: str
    on: str
    owner: str
    text: str
    role: str = ""
    sources: tuple[str, ...] = ()
    can_pause: bool = False
    functions: tuple[Function, ...] = ()
    kind: int = 0
    has_condition: bool = False

    @cached_property
    def digest(self) -> str:
        """What tells this text from another; it stands in the trigger's COMMENT."""
        return digest(self.text)

    def comment(self, values: Mapping[str, str] | None = None) -> Comment:
        """Return the COMMENT of the installed trigger; only the guard's holds the values."""
        held = values if values and self.role == GUARD else {}
        return Comment(TEMPLATE_VERSION, self.owner, self.digest, self.role, held)

    def render_install(self, resolve: Callable[[str], str], values: Mapping[str, str] | None = None) -> str:
        """Return the SQL that installs the trigger, with placeholders resolved."""
        return f"{self.render_text(resolve)}\n\n{self.render_comment(resolve, values)}"

    def render_text(self, resolve: Callable[[str], str]) -> str:
        """Return the text with placeholders resolved."""
        own = identifier(self.placed_name(resolve))
        return fill_placeholders(self.text, lambda name: own if name == TRIGGER else resolve(name))

    def render_comment(self, resolve: Callable[[str], str], values: Mapping[str, str] | None = None) -> str:
        """Return the SQL that writes the trigger's COMMENT."""
        name, table = identifier(self.placed_name(resolve)), resolve(self.on)
        return f"COMMENT ON TRIGGER {name} ON {table}\n    IS {literal(self.comment(values).write())};"

    def placed_name(self, resolve: Callable[[str], str]) -> str:
        """Return the trigger's name in a database; the function's is always ``name``.

        On a table of another schema it tells whose it is: the same rules of many schemas may watch that table.
        """
        if resolve(self.on).startswith(f"{resolve(SCHEMA)}."):
            return self.name
        return with_tag(self.name, resolve(SCHEMA_TAG))

    def __repr__(self) -> str:
        return f"<CompiledTrigger {self.name} on {self.on}>"


def render(
    *,
    name: str,
    on: str,
    owner: str,
    body: str,
    when: pgtrigger.When,
    operation: object,
    level: pgtrigger.Level,
    referencing: pgtrigger.Referencing | None = None,
    condition: str = "",
    timing: pgtrigger.Timing | None = None,
    role: str = "",
    beside: Beside | None = None,
    can_pause: bool = False,
    settings: tuple[str, ...] = (),
) -> CompiledTrigger:
    """Compile a trigger and its function, in django-pgtrigger's words.

    ``condition`` is what stands in WHEN, ``settings`` what the function sets besides what all do. A trigger with a
    ``timing`` is a constraint trigger: it can wait for the end of a transaction, and cannot be replaced.
    """
    clauses = [
        *([f"DEFERRABLE INITIALLY {timing}"] if timing else []),
        *([" ".join(str(referencing).split())] if referencing else []),
        f"FOR EACH {level}",
        *([f"WHEN ({condition})"] if condition else []),
    ]
    table = table_placeholder(on)
    function = Function(name, body, settings=(*PINNED, *settings), is_definer=True, comment=keeps(owner))
    text = TEMPLATE.format(
        create=CREATE_CONSTRAINT.format(table=table) if timing else CREATE,
        name=quote(name),
        when=when,
        operation=operation,
        table=table,
        clauses="".join(f"    {clause}\n" for clause in clauses),
    )
    beside = beside or Beside(role, (), (), ())
    before, after = ([_made(item) for item in items] for items in (beside.before, beside.after))
    return CompiledTrigger(
        name,
        on,
        owner,
        "\n\n".join([*before, function.create(), text, *after]),
        beside.role,
        beside.sources,
        can_pause,
        (*beside.functions, function),
        _kind(when, operation, level),
        bool(condition),
    )


def keeps(target: str) -> str:
    """Return the COMMENT of a function that a target, named by its ``db_table``, brings along."""
    return f"{KEEPS}{target}"


def _made(item: str | Function) -> str:
    return item.create() if isinstance(item, Function) else item


def _kind(when: pgtrigger.When, operation: object, level: pgtrigger.Level) -> int:
    words = {str(when), str(level), *str(operation).partition(" OF ")[0].split()}
    return sum(bit for word, bit in _BITS.items() if word in words)
