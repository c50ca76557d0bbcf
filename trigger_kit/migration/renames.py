"""INSTALL: rules whose fields and models take other names.

A rule names columns by paths, from its own model or from that of Rows. Where a migration renames something on such a
path, the rule in the migration's state is written anew, so that it can be resolved at every point of the history.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.apps.registry import Apps
from django.core.exceptions import FieldDoesNotExist
from django.db.models import F, FilteredRelation, Model, OuterRef, Q, When
from django.db.models.constants import LOOKUP_SEP

from trigger_kit.notation import arguments
from trigger_kit.resolve.names import names_in
from trigger_kit.rows import Call, Rows
from trigger_kit.rules import Denormalize

__all__ = ["ModelKey", "Renamings", "crossed_names", "renamed_rule"]

ModelKey = tuple[str, str]


@dataclass(frozen=True)
class Renamings:
    """Models and fields that have other names afterwards: by their keys of before."""

    models: Mapping[ModelKey, str] = field(default_factory=dict)
    fields: Mapping[tuple[str, str, str], str] = field(default_factory=dict)

    def model_key(self, model: type[Model]) -> ModelKey:
        """Return the app and the name that a model has afterwards."""
        return self.new_key((model._meta.app_label, str(model._meta.model_name)))

    def new_key(self, key: ModelKey) -> ModelKey:
        """Return the key that a model has afterwards."""
        return key[0], self.models.get(key, key[1])

    def field_name(self, named: Any) -> str:
        """Return the name that a field has afterwards."""
        return self.new_field(named.model._meta.app_label, named.model._meta.model_name, named.name)

    def new_field(self, app_label: str, model_name: str, name: str) -> str:
        """Return the name that a field of a model has afterwards."""
        return self.fields.get((app_label, model_name, name), name)


@dataclass(frozen=True)
class Scope:
    """Where paths start: a model, and the scope around it, from which outer references start."""

    model: type[Model]
    after: Apps
    renaming: Renamings
    outer: Scope | None = None
    # Filtered relations by their aliases: a path may start with such a name.
    relations: Mapping[str, str] = field(default_factory=dict)

    def path(self, path: str) -> str:
        """Return a path with the names of afterwards; what follows its last field are lookups."""
        first, *rest = path.split(LOOKUP_SEP)
        relation = self.relations.get(first)
        if relation is None:
            return _renamed_path(path, self)
        whole = _renamed_path(LOOKUP_SEP.join([relation, *rest]), self).split(LOOKUP_SEP)
        return LOOKUP_SEP.join([first, *whole[relation.count(LOOKUP_SEP) + 1 :]])

    def order(self, name: str) -> str:
        """Return a column to order by with the names of afterwards."""
        return "-" * name.startswith("-") + self.path(name.removeprefix("-"))

    def inner(self, rows: Rows) -> Scope | None:
        """Return the scope inside Rows, or None where their model is not known."""
        try:
            model = self.model._meta.apps.get_model(rows.label)
        except LookupError:
            return None
        relations = {
            name: value.relation_name
            for call in rows.calls
            for name, value in call.kwargs.items()
            if isinstance(value, FilteredRelation)
        }
        return Scope(model, self.after, self.renaming, self, relations)

    def model_afterwards(self, model: Any) -> Any:
        """Return the model of afterwards; that of a many-to-many table has the name that its owner gives it."""
        owner = model._meta.auto_created
        if not owner:
            return self.after.get_model(*self.renaming.model_key(model))
        (relation,) = (item for item in owner._meta.local_many_to_many if item.remote_field.through is model)
        relation = self.model_afterwards(owner)._meta.get_field(self.renaming.field_name(relation))
        return relation.remote_field.through


def renamed_rule(rule: Denormalize, model: type[Model], after: Apps, renaming: Renamings) -> Denormalize:
    """Return a rule of a model with the names that its field and its paths have in the apps afterwards."""
    scope = Scope(model, after, renaming)
    expression = _rewritten(rule.expression, scope)
    field = scope.path(rule.field)
    if field == rule.field and expression is rule.expression:
        return rule
    return Denormalize(field, expression, timing=rule.timing, guard=rule.guard, level=rule.level)


# Paths --------------------------------------------------------------------------------------------------------------


def _renamed_path(path: str, scope: Scope) -> str:
    names = path.split(LOOKUP_SEP)
    here: Any = scope.model
    for position, name in enumerate(names):
        try:
            field: Any = here._meta.get_field(name) if here is not None and name != "pk" else None
        except FieldDoesNotExist:
            field = None
        if field is None:
            break
        names[position] = _name_afterwards(name, field, scope)
        here = field.related_model if field.is_relation else None
    return LOOKUP_SEP.join(names)


def _name_afterwards(name: str, field: Any, scope: Scope) -> str:
    if field.auto_created and not field.concrete:
        forward = field.field
        owner = scope.model_afterwards(forward.model)
        return str(owner._meta.get_field(scope.renaming.field_name(forward)).related_query_name())
    new = _field_afterwards(field, scope)
    return str(new.name if name == field.name else new.attname)


def _field_afterwards(field: Any, scope: Scope) -> Any:
    """Return the field of afterwards; those of a many-to-many table have their places, and names of the models."""
    meta = scope.model_afterwards(field.model)._meta
    if field.model._meta.auto_created:
        return meta.local_fields[field.model._meta.local_fields.index(field)]
    return meta.get_field(scope.renaming.field_name(field))


def crossed_names(expression: Any, model: type[Model]) -> dict[tuple[str, str], set[tuple[str, str]]]:
    """Return the relations that the paths of an expression may cross, by the model that a step leaves and its name.

    Each relation is the label of the model that holds it and its field's name. Two under one name: while a migration
    swaps the names of ways back, nobody can say which of them is meant.
    """
    found: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for text in names_in(expression):
        for here, name, relations in _steps(text, model):
            found.setdefault((here._meta.label_lower, name), set()).update(map(_relation_key, relations))
    return found


def _steps(path: str, model: type[Model]) -> Iterator[tuple[Any, str, list[Any]]]:
    here: Any = model
    for name in path.split(LOOKUP_SEP):
        relations = [field for field in here._meta.get_fields() if field.is_relation and field.name == name]
        if not relations:
            return
        yield here, name, relations
        here = relations[0].related_model
        if here is None:
            return


def _relation_key(relation: Any) -> tuple[str, str]:
    field = relation.field if relation.auto_created and not relation.concrete else relation
    return field.model._meta.label_lower, field.name


# Expressions --------------------------------------------------------------------------------------------------------


def _rewritten(value: Any, scope: Scope) -> Any:
    """Return an expression, or a part of one, with other names; the same object where nothing changes."""
    if isinstance(value, Rows):
        return _rewritten_rows(value, scope)
    if isinstance(value, Q):
        return _rewritten_q(value, scope)
    if isinstance(value, F):
        return _rewritten_f(value, scope)
    if isinstance(value, FilteredRelation):
        name, condition = scope.path(value.relation_name), _rewritten(value.condition, scope)
        is_same = name == value.relation_name and condition is value.condition
        return value if is_same else FilteredRelation(name, condition=condition)
    if isinstance(value, (list, tuple)):
        return _same_or([_rewritten(item, scope) for item in value], value, type(value))
    found = arguments(value)
    if found is None or not hasattr(value, "get_source_expressions"):
        return value
    args, kwargs = found
    paths = _paths(value)
    new_args = [_rewritten_argument(arg, paths, scope) for arg in args]
    new_kwargs = {
        (scope.path(name) if isinstance(value, When) and name not in {"condition", "then"} else name): (
            _rewritten_argument(arg, paths, scope)
        )
        for name, arg in kwargs.items()
    }
    is_same = list(new_kwargs) == list(kwargs) and _are_same(
        [*new_args, *new_kwargs.values()], [*args, *kwargs.values()]
    )
    return value if is_same else type(value)(*new_args, **new_kwargs)


def _rewritten_f(value: Any, scope: Scope) -> Any:
    """Return a reference with another name; an outer one is a name in the scope around."""
    (name, *rest), _ = arguments(value) or (("",), {})
    place = scope.outer if isinstance(value, OuterRef) else scope
    if place is None:
        return value
    new = place.path(name) if isinstance(name, str) else _rewritten(name, place)
    return value if new is name or new == name else type(value)(new, *rest)


def _rewritten_rows(rows: Rows, scope: Scope) -> Rows:
    inner = scope.inner(rows)
    if inner is None:
        return rows
    calls = [_rewritten_call(call, inner) for call in rows.calls]
    label = str(scope.model_afterwards(inner.model)._meta.label)
    is_same = label.lower() == rows.label.lower() and _are_same(calls, rows.calls)
    return rows if is_same else Rows.of(rows.label if label.lower() == rows.label.lower() else label, calls)


def _rewritten_call(call: Call, scope: Scope) -> Call:
    """Return a call with other names; a text is a name of a column, and so are keywords that are lookups."""
    args = tuple(scope.order(arg) if isinstance(arg, str) else _rewritten(arg, scope) for arg in call.args)
    is_lookup = call.name in {"filter", "exclude"}
    kwargs = {
        (scope.path(name) if is_lookup else name): _rewritten(value, scope) for name, value in call.kwargs.items()
    }
    if list(kwargs) == list(call.kwargs) and args == call.args and _are_same(kwargs.values(), call.kwargs.values()):
        return call
    # Lookups stand in the order of their names, as in Rows that are written today.
    return Call(call.name, args, dict(sorted(kwargs.items())) if is_lookup else kwargs)


def _rewritten_q(q: Q, scope: Scope) -> Q:
    children: list[Any] = []
    for child in q.children:
        if isinstance(child, tuple):
            name, value = child
            new = scope.path(name), _rewritten(value, scope)
            children.append(child if new[0] == name and new[1] is value else new)
        else:
            children.append(_rewritten(child, scope))
    if _are_same(children, q.children):
        return q
    rewritten = Q()
    rewritten.children = children
    rewritten.connector = q.connector
    rewritten.negated = q.negated
    return rewritten


def _rewritten_argument(argument: Any, paths: set[str], scope: Scope) -> Any:
    """Return an argument of an expression; a text is a path only where the expression has made one of it."""
    if isinstance(argument, str):
        new = scope.order(argument) if argument.removeprefix("-") in paths else argument
        return argument if new == argument else new
    if isinstance(argument, (list, tuple)):
        return _same_or([_rewritten_argument(item, paths, scope) for item in argument], argument, type(argument))
    return _rewritten(argument, scope)


def _same_or(items: list[Any], old: Any, kind: Any) -> Any:
    return old if _are_same(items, old) else kind(items)


def _are_same(new: Iterable[Any], old: Iterable[Any]) -> bool:
    return all(a is b for a, b in zip(new, old, strict=True))


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
