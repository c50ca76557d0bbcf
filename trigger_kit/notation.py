"""DECLARE: expressions as they are written down: read, printed and compared without resolving them.

Django's expressions record the arguments of their constructors. ``arguments`` gives them, ``parts`` walks through them,
``describe`` prints them as their author would write them. ``canonical`` is what rules are compared by: Django calls two
subqueries different although they are written alike, and two output fields alike although they are not.
"""

from __future__ import annotations

import datetime
import enum
import json
import operator
import re
from collections.abc import Iterator, Mapping
from functools import singledispatch
from typing import Any

from django.db.models import Choices, Field, OrderBy, Q
from django.db.models.expressions import CombinedExpression, NegatedExpression
from django.utils.functional import Promise

__all__ = [
    "Arguments",
    "arguments",
    "as_migrated",
    "canonical",
    "canonical_arguments",
    "children",
    "describe",
    "describe_arguments",
    "literal",
    "parts",
]

Arguments = tuple[tuple[Any, ...], dict[str, Any]]

# JSON leaves these alone, but a line of SQL or Python ends at some of them.
_LINE_BREAKS = re.compile("[\x7f-\x9f\u2028\u2029]")


@singledispatch
def arguments(value: Any) -> Arguments | None:
    """Return what an expression was made of; None for a constant."""
    found: Arguments | None = getattr(value, "_constructor_args", None)
    return found


def parts(value: Any) -> Iterator[Any]:
    """Yield a declared value and all that it is made of, constants included."""
    yield value
    for child in children(value):
        yield from parts(child)


@singledispatch
def children(value: Any) -> list[Any]:
    """Return what a declared value is made of."""
    if isinstance(value, Q):
        return [child[1] if isinstance(child, tuple) else child for child in value.children]
    if isinstance(value, (list, tuple)):
        return list(value)
    args, kwargs = arguments(value) or ((), {})
    return [*args, *kwargs.values()]


def as_migrated(value: Any) -> Any:
    """Return a declared value as it comes back from a migration; the same object where nothing changes.

    A migration sorts keyword arguments and holds choices by their values and times in UTC. Models and migrations must
    compile to one text: ``JSONObject(b=…, a=…)`` makes another one than ``JSONObject(a=…, b=…)``.
    """
    if isinstance(value, Choices):
        return value.value
    if isinstance(value, datetime.datetime):
        return value if value.tzinfo in {None, datetime.UTC} else value.astimezone(datetime.UTC)
    if isinstance(value, Q):
        return _migrated_q(value)
    if isinstance(value, (list, tuple)):
        items = [as_migrated(item) for item in value]
        return value if all(map(operator.is_, items, value)) else type(value)(items)
    found = getattr(value, "_constructor_args", None)
    if found is None or not hasattr(value, "resolve_expression"):
        return value
    args, kwargs = found
    new_args = [as_migrated(arg) for arg in args]
    new_kwargs = {name: as_migrated(kwargs[name]) for name in sorted(kwargs)}
    is_same = list(new_kwargs) == list(kwargs) and all(
        map(operator.is_, [*new_args, *new_kwargs.values()], [*args, *kwargs.values()])
    )
    return value if is_same else type(value)(*new_args, **new_kwargs)


def _migrated_q(q: Q) -> Q:
    children = [
        (child[0], as_migrated(child[1])) if isinstance(child, tuple) else as_migrated(child) for child in q.children
    ]
    pairs = [
        (new[1], old[1]) if isinstance(old, tuple) else (new, old)
        for new, old in zip(children, q.children, strict=True)
    ]
    if all(new is old for new, old in pairs):
        return q
    return Q.create(children, connector=q.connector, negated=q.negated)


# Printing -----------------------------------------------------------------------------------------------------------


@singledispatch
def describe(value: Any) -> str:
    """Return an expression as its author would write it: ``Count("books", filter=Q(books__lang="en"))``."""
    if isinstance(value, CombinedExpression):
        return f"{describe(value.lhs)} {value.connector} {describe(value.rhs)}"
    if isinstance(value, OrderBy):
        return f"{describe(value.expression)}.{'desc' if value.descending else 'asc'}()"
    found = arguments(value)
    if found is None:
        return literal(value)
    if isinstance(value, NegatedExpression):
        return f"~{describe(found[0][0])}"
    return f"{type(value).__name__}({describe_arguments(*found)})"


def describe_arguments(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """Return the arguments of a call, as they stand between its parentheses."""
    return ", ".join([*map(describe, args), *(f"{name}={describe(value)}" for name, value in kwargs.items())])


@describe.register
def _describe_q(q: Q) -> str:
    """Return a Q object as source text, its negation and connectors kept."""
    items = [f"Q({item[0]}={describe(item[1])})" if isinstance(item, tuple) else describe(item) for item in q.children]
    joined = {Q.AND: " & ", Q.OR: " | ", Q.XOR: " ^ "}[q.connector].join(items) or "Q()"
    if len(items) > 1:
        joined = f"({joined})"
    return f"~{joined}" if q.negated else joined


@describe.register
def _describe_field(field: Field) -> str:  # type: ignore[type-arg]
    return f"{type(field).__name__}()"


@describe.register(list)
@describe.register(tuple)
def _describe_sequence(values: Any) -> str:
    return f"[{', '.join(map(describe, values))}]"


def literal(value: Any) -> str:
    """Return a Python literal; strings in double quotes, as Django's documentation writes them."""
    if not isinstance(value, str):
        return repr(value)
    text = json.dumps(value, ensure_ascii=False)
    return _LINE_BREAKS.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


# Comparing ----------------------------------------------------------------------------------------------------------


@singledispatch
def canonical(value: Any) -> str:
    """Return a text that is the same for values which are written alike, also after they went through a migration.

    The order of keyword arguments, which no expression minds, and the case of labels make no difference.
    """
    found = arguments(value)
    if found is not None:
        return f"{_path(type(value))}({canonical_arguments(*found)})"
    return _path(value) if hasattr(value, "__qualname__") else repr(value)


def _path(value: Any) -> str:
    return f"{value.__module__}.{value.__qualname__}"


def canonical_arguments(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """Return the arguments of a call, keywords in the order of their names."""
    return ", ".join([*map(canonical, args), *(f"{name}={canonical(kwargs[name])}" for name in sorted(kwargs))])


@canonical.register
def _canonical_q(q: Q) -> str:
    items = [f"{item[0]}={canonical(item[1])}" if isinstance(item, tuple) else canonical(item) for item in q.children]
    return f"{'~' * q.negated}{q.connector}({', '.join(items)})"


@canonical.register
def _canonical_field(field: Field) -> str:  # type: ignore[type-arg]
    _, path, args, kwargs = field.deconstruct()
    return f"{path}({canonical_arguments(tuple(args), kwargs)})"


@canonical.register
def _canonical_text(value: str) -> str:
    # A migration writes the value of a choice, and the text of a safe string.
    return repr(str(value.value if isinstance(value, Choices) else value))


@canonical.register
def _canonical_enum(value: enum.Enum) -> str:
    return canonical(value.value) if isinstance(value, Choices) else f"{_path(type(value))}.{value.name}"


@canonical.register
def _canonical_promise(value: Promise) -> str:
    return repr(str(value))


@canonical.register
def _canonical_time(value: datetime.datetime) -> str:
    # Migrations hold times in UTC.
    return repr(value if value.tzinfo is None else value.astimezone(datetime.UTC))


@canonical.register(list)
@canonical.register(tuple)
def _canonical_sequence(values: Any) -> str:
    return f"{'list' if isinstance(values, list) else 'tuple'}({', '.join(map(canonical, values))})"


@canonical.register(set)
@canonical.register(frozenset)
def _canonical_set(values: Any) -> str:
    return f"{type(values).__name__}({', '.join(sorted(map(canonical, values)))})"


@canonical.register
def _canonical_dict(values: dict) -> str:  # type: ignore[type-arg]
    items = sorted((canonical(key), canonical(value)) for key, value in values.items())
    return f"dict({', '.join(f'{key}: {value}' for key, value in items)})"
