"""DECLARE: what a user writes in ``Meta.denormalizations``.

Nothing here opens a connection or asks the model registry: models are still being defined when this runs.
"""

from __future__ import annotations

import enum
from typing import Any

from django.db.models.constants import LOOKUP_SEP

from trigger_kit.notation import canonical, canonical_arguments, describe, parts
from trigger_kit.rows import EXAMPLE, refuse_querysets

__all__ = ["Denormalize", "Guard", "Level", "Timing"]


class Timing(enum.Enum):
    """When a change of a source row reaches the target: see ``docs/timings.md``.

    ``IMMEDIATE``: by the writer's statement. ``DEFERRED``: once, when the writer commits. ``QUEUED``: by the next
    flush; until then ``Exact`` reads the value.
    """

    IMMEDIATE = "immediate"
    DEFERRED = "deferred"
    QUEUED = "queued"


class Guard(enum.Enum):
    """What happens to somebody else's UPDATE of a kept column."""

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

    Where an expression needs a queryset, which cannot be made while models are being loaded, ``Rows`` is one that is
    written down: ``Subquery(Rows("library.Review").filter(book=OuterRef("pk")).values("text")[:1])``.

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
        _require_expression(field, expression)
        for name, value, kind in (("timing", timing, Timing), ("guard", guard, Guard), ("level", level, Level)):
            if not isinstance(value, kind):
                choices = ", ".join(str(member) for member in kind)
                raise TypeError(f"Denormalize({field!r}, …): {name} is one of {choices}, not {value!r}.")
        self.field = field
        self.expression = expression
        self.timing = timing
        self.guard = guard
        self.level = level

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
        if not isinstance(other, Denormalize):
            return NotImplemented
        # Most rules that are compared keep other fields: only the rest is written out.
        return self is other or (hash(self) == hash(other) and canonical(self) == canonical(other))

    def __hash__(self) -> int:
        return hash((self.field, self.timing, self.guard, self.level))

    def __repr__(self) -> str:
        _, (field, expression), options = self.deconstruct()
        parts = [repr(field), describe(expression)]
        parts += [f"{name}={value}" for name, value in options.items()]
        return f"Denormalize({', '.join(parts)})"


def _require_expression(field: str, expression: Any) -> None:
    """Refuse what is no expression, and what neither a class body nor a migration can hold."""
    start = f"Denormalize({field!r}, …)"
    is_expression = hasattr(expression, "resolve_expression") and not isinstance(expression, type)
    if not is_expression and callable(expression):
        name = getattr(expression, "__name__", repr(expression))
        raise TypeError(
            f"{start} takes an expression, not the function {name}, which a migration could not hold. What needs a "
            f"queryset is written with Rows: Subquery({EXAMPLE})."
        )
    if not is_expression:
        raise TypeError(f"{start} takes a Django expression such as Count('books'), not {expression!r}.")
    for part in parts(expression):
        refuse_querysets(part, start)


@canonical.register
def _canonical_rule(rule: Denormalize) -> str:
    path, args, options = rule.deconstruct()
    return f"{path}({canonical_arguments(args, options)})"
