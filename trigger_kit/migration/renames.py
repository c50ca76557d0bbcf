"""INSTALL: rules whose fields and models take other names.

A rule names columns by paths. Where a migration renames something on such a path, the rule in the migration's state is
written anew, so that it can be resolved at every point of the history.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.apps.registry import Apps
from django.core.exceptions import FieldDoesNotExist
from django.db.models import F, Model, Q, When
from django.db.models.constants import LOOKUP_SEP

from trigger_kit.rules import Denormalize

__all__ = ["Renaming", "renamed_rule"]

Rename = Callable[[str], str]


@dataclass(frozen=True)
class Renaming:
    """A model that takes another name, or one of its fields: names before and after, models in lower case."""

    app_label: str
    model: str
    new_model: str
    field: str | None = None
    new_field: str | None = None

    def model_key(self, model: type[Model]) -> tuple[str, str]:
        """Return the app and the name that a model has afterwards."""
        key = model._meta.app_label, str(model._meta.model_name)
        return (self.app_label, self.new_model) if key == (self.app_label, self.model) else key

    def field_name(self, field: Any) -> str:
        """Return the name that a field has afterwards."""
        key = field.model._meta.app_label, field.model._meta.model_name, field.name
        is_this = self.field is not None and key == (self.app_label, self.model, self.field)
        return str(self.new_field if is_this else field.name)


def renamed_rule(rule: Denormalize, model: type[Model], after: Apps, renaming: Renaming) -> Denormalize:
    """Return a rule of a model with the names that its field and its paths have in the apps afterwards.

    A function that builds the expression stays as it is: it says what today's code says.
    """

    def rename(path: str) -> str:
        return _renamed_path(path, model, after, renaming)

    expression = rule.expression
    if hasattr(expression, "resolve_expression"):
        expression = _rewritten(expression, rename)
    field = rename(rule.field)
    if field == rule.field and expression is rule.expression:
        return rule
    return Denormalize(field, expression, timing=rule.timing, guard=rule.guard, level=rule.level)


def _renamed_path(path: str, model: type[Model], after: Apps, renaming: Renaming) -> str:
    """Return a path from a model with the names of afterwards; what follows its last field are lookups."""
    names = path.split(LOOKUP_SEP)
    here: Any = model
    for position, name in enumerate(names):
        try:
            field: Any = here._meta.get_field(name) if here is not None and name != "pk" else None
        except FieldDoesNotExist:
            field = None
        if field is None:
            break
        names[position] = _name_afterwards(name, field, after, renaming)
        here = field.related_model if field.is_relation else None
    return LOOKUP_SEP.join(names)


def _name_afterwards(name: str, field: Any, after: Apps, renaming: Renaming) -> str:
    if field.auto_created and not field.concrete:
        forward = field.field
        owner = after.get_model(*renaming.model_key(forward.model))
        return str(owner._meta.get_field(renaming.field_name(forward)).related_query_name())  # type: ignore[union-attr]
    new = renaming.field_name(field)
    if name == field.name:
        return new
    owner = after.get_model(*renaming.model_key(field.model))
    return str(owner._meta.get_field(new).attname)  # type: ignore[union-attr]


def _rewritten(value: Any, rename: Rename) -> Any:
    """Return an expression, or a part of one, with other names; the same object where nothing changes."""
    if isinstance(value, Q):
        return _rewritten_q(value, rename)
    if isinstance(value, F):
        name = _name(value)
        new = rename(name)
        return value if new == name else type(value)(new)
    if isinstance(value, (list, tuple)):
        items = [_rewritten(item, rename) for item in value]
        return value if all(a is b for a, b in zip(items, value, strict=True)) else type(value)(items)
    arguments = getattr(value, "_constructor_args", None)
    if arguments is None or not hasattr(value, "get_source_expressions"):
        return value
    args, kwargs = arguments
    paths = _paths(value)
    new_args = [_rewritten_argument(arg, paths, rename) for arg in args]
    new_kwargs = {
        (rename(name) if isinstance(value, When) and name not in {"condition", "then"} else name): _rewritten_argument(
            arg, paths, rename
        )
        for name, arg in kwargs.items()
    }
    is_same = list(new_kwargs) == list(kwargs) and all(
        new is old for new, old in zip([*new_args, *new_kwargs.values()], [*args, *kwargs.values()], strict=True)
    )
    return value if is_same else type(value)(*new_args, **new_kwargs)


def _rewritten_q(q: Q, rename: Rename) -> Q:
    children: list[Any] = []
    for child in q.children:
        if isinstance(child, tuple):
            name, value = child
            new = rename(name), _rewritten(value, rename)
            children.append(child if new[0] == name and new[1] is value else new)
        else:
            children.append(_rewritten(child, rename))
    if all(new is old for new, old in zip(children, q.children, strict=True)):
        return q
    rewritten = Q()
    rewritten.children = children
    rewritten.connector = q.connector
    rewritten.negated = q.negated
    return rewritten


def _rewritten_argument(argument: Any, paths: set[str], rename: Rename) -> Any:
    """Return an argument of an expression; a text is a path only where the expression has made one of it."""
    if isinstance(argument, str):
        sign = "-" * argument.startswith("-")
        path = argument.removeprefix("-")
        new = sign + rename(path) if path in paths else argument
        return argument if new == argument else new
    if isinstance(argument, (list, tuple)):
        items = [_rewritten_argument(item, paths, rename) for item in argument]
        return argument if all(a is b for a, b in zip(items, argument, strict=True)) else type(argument)(items)
    return _rewritten(argument, rename)


def _paths(expression: Any) -> set[str]:
    """Return the paths that an expression reads, those included that it has made of texts."""
    found: set[str] = set()
    for source in expression.get_source_expressions():
        if isinstance(source, F):
            found.add(_name(source))
        elif hasattr(source, "get_source_expressions"):
            found |= _paths(source)
    return found


def _name(path: F) -> str:
    return str(path.deconstruct()[1][0])
