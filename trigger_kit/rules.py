"""DECLARE: what a user writes in ``Meta.denormalizations``.

Nothing here opens a connection or asks the model registry: models are still being defined when this runs.
"""

from __future__ import annotations

import enum
import json
import re
from typing import Any

from django.db.models import F, Field, OrderBy, Q
from django.db.models.constants import LOOKUP_SEP
from django.db.models.expressions import CombinedExpression

__all__ = ["Denormalize", "Guard", "Level", "Timing", "describe"]

# JSON leaves these alone, but a line of SQL or Python ends at some of them.
_LINE_BREAKS = re.compile("[\x7f-\x9f\u2028\u2029]")


class Timing(enum.Enum):
    """When a change of a source row reaches the target: see ``docs/timings.md``.

    ``IMMEDIATE``: by the writer's statement. ``DEFERRED``: once, when the writer commits. ``QUEUED``: by the next
    flush; until then ``Exact`` reads the value.
    """

    IMMEDIATE = "immediate"
    DEFERRED = "deferred"
    QUEUED = "queued"


class Guard(enum.Enum):
    """What happens to somebody else's UPDATE of a maintained column."""

    KEEP = "keep"
    RAISE = "raise"


class Level(enum.Enum):
    """Whether the triggers run once per statement or once per row."""

    STATEMENT = "statement"
    ROW = "row"


class Denormalize:
    """Keep ``field`` always equal to ``expression``, whoever writes.

    The expression is the one that ``.annotate()`` takes::

        class Author(models.Model):
            num_books = models.IntegerField(default=0, editable=False)

            class Meta:
                denormalizations = [Denormalize("num_books", Count("books"))]

    makemigrations compiles this into triggers on the books' table that run, for one inserted book::

        UPDATE library_author SET num_books = num_books + 1 WHERE id = …

    Where an expression needs a queryset, which cannot be built while models are being loaded, it may be a function at
    the top level of a module that returns the expression. Migrations name it by its import path.

    ``timing`` says when a change reaches the column, which matters where many clients write under one parent. ``guard``
    says what an UPDATE that sets the column by hand meets: ``Guard.KEEP`` (the stored value stays)
    or ``Guard.RAISE`` (an error that names the rule).
    """

    def __init__(
        self,
        field: str,
        expression: Any,
        *,
        timing: Timing = Timing.IMMEDIATE,
        guard: Guard = Guard.KEEP,
        level: Level = Level.STATEMENT,
    ) -> None:
        if not isinstance(field, str) or not field:
            raise TypeError(f"Denormalize takes the name of a field first, a string, not {field!r}.")
        if LOOKUP_SEP in field:
            raise ValueError(
                f"Denormalize keeps a field of its own model: {field!r} looks like a path. Declare the rule on "
                "the model that has the field."
            )
        if isinstance(expression, type) or not (callable(expression) or hasattr(expression, "resolve_expression")):
            raise TypeError(
                f"Denormalize({field!r}, …) takes a Django expression such as Count('books'), not {expression!r}."
            )
        for name, value, kind in (("timing", timing, Timing), ("guard", guard, Guard), ("level", level, Level)):
            if not isinstance(value, kind):
                choices = ", ".join(str(member) for member in kind)
                raise TypeError(f"Denormalize({field!r}, …): {name} is one of {choices}, not {value!r}.")
        self.field = field
        self.expression = expression
        self.timing = timing
        self.guard = guard
        self.level = level

    def build(self) -> Any:
        """Return the expression; a callable is called, which models must be loaded for."""
        is_callable = callable(self.expression) and not hasattr(self.expression, "resolve_expression")
        return self.expression() if is_callable else self.expression

    def deconstruct(self) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
        """Return the import path, the positional and the non-default keyword arguments."""
        options: dict[str, tuple[enum.Enum, enum.Enum]] = {
            "timing": (self.timing, Timing.IMMEDIATE),
            "guard": (self.guard, Guard.KEEP),
            "level": (self.level, Level.STATEMENT),
        }
        kwargs = {name: value for name, (value, default) in options.items() if value is not default}
        return "trigger_kit.Denormalize", (self.field, self.expression), kwargs

    def clone(self) -> Denormalize:
        """Return an equal rule."""
        _, args, kwargs = self.deconstruct()
        return type(self)(*args, **kwargs)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Denormalize):
            return self.deconstruct() == other.deconstruct()
        return NotImplemented

    def __hash__(self) -> int:
        return hash((self.field, self.timing, self.guard, self.level))

    def __repr__(self) -> str:
        _, (field, expression), options = self.deconstruct()
        parts = [repr(field), describe(expression)]
        parts += [f"{name}={value}" for name, value in options.items()]
        return f"Denormalize({', '.join(parts)})"


def describe(value: Any) -> str:
    """Return an expression as its author would write it: ``Count("books", filter=Q(books__lang="en"))``."""
    if isinstance(value, Q):
        return _describe_q(value)
    if isinstance(value, F):
        return f"{type(value).__name__}({_literal(value.deconstruct()[1][0])})"
    if callable(value) and hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, CombinedExpression):
        return f"{describe(value.lhs)} {value.connector} {describe(value.rhs)}"
    if isinstance(value, OrderBy):
        return f"{describe(value.expression)}.{'desc' if value.descending else 'asc'}()"
    if isinstance(value, Field):
        return f"{type(value).__name__}()"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(describe, value))}]"
    arguments = getattr(value, "_constructor_args", None)
    if arguments is None:
        return _literal(value)
    args, kwargs = arguments
    parts = [describe(arg) for arg in args] + [f"{name}={describe(arg)}" for name, arg in kwargs.items()]
    return f"{type(value).__name__}({', '.join(parts)})"


def _describe_q(q: Q) -> str:
    """Return a Q object as source text, its negation and connectors kept."""
    parts = []
    for child in q.children:
        if isinstance(child, tuple):
            parts.append(f"Q({child[0]}={describe(child[1])})")
        else:
            parts.append(describe(child))
    joined = {Q.AND: " & ", Q.OR: " | ", Q.XOR: " ^ "}[q.connector].join(parts) or "Q()"
    if len(parts) > 1:
        joined = f"({joined})"
    return f"~{joined}" if q.negated else joined


def _literal(value: Any) -> str:
    """Return a Python literal; strings in double quotes, as Django's documentation writes them."""
    if not isinstance(value, str):
        return repr(value)
    text = json.dumps(value, ensure_ascii=False)
    return _LINE_BREAKS.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
